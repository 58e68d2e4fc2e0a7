"""Every shape the structural writer knows, in both languages: what is asked and what is answered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.corpus.writing.structural.written import ENGLISH, GERMAN, answers_to, pairs_of
from werkmeister.corpus.writing.pair import Pair


@pytest.fixture(scope="module")
def german() -> Iterator[list[Pair]]:
    yield pairs_of(GERMAN)


@pytest.fixture(scope="module")
def english() -> Iterator[list[Pair]]:
    yield pairs_of(ENGLISH)


@pytest.mark.parametrize(
    ("kind", "words", "answer"),
    [
        ("table", ("Nennspannung",), "Nennspannung: 230 V."),
        ("table", ("Schutzart",), "Schutzart: IP54."),
        ("table", ("Abschnitt „Motor“", "Drehzahl"), "Drehzahl: 1450 1/min."),
        ("parameter", ("Standardwert", "Parameter P01 (Solldruck)"), "Der Standardwert ist 120 bar."),
        ("parameter", ("Wertebereich", "P02"), "Der Wertebereich ist 0 bis 60 s."),
        ("parameter", ("Einheit", "P01"), "Die Einheit ist bar."),
        ("parameter", ("bewirkt", "P01"), "Legt den Druck am Ausgang fest."),
        ("parameter", ("Wie heißt", "P02"), "Parameter P02 ist „Nachlaufzeit“."),
        ("parameter", ("Nummer", "„Solldruck“"), "Es ist Parameter P01."),
        ("parameter", ("Optionen", "P03"), "Die Einstellungen sind 0 = Aus; 1 = Automatik; 2 = Hand."),
        ("procedure", ("Wie viele Schritte", "„Inbetriebnahme“"), "Es sind 3 Schritte."),
        ("procedure", ("letzte Schritt", "„Filter wechseln“"), "Neuen Filter einsetzen."),
        ("procedure", ("nach dem Schritt „Pumpe ausschalten.“", "„Filter wechseln“"), "Alten Filter entnehmen."),
        ("troubleshooting", ("Ursache", "„Pumpe läuft nicht an“"), "Sicherung ausgelöst."),
        ("troubleshooting", ("Wie behebe ich", "„Pumpe läuft nicht an“"), "Sicherung prüfen und ersetzen."),
        ("troubleshooting", ("„Druck zu niedrig“", "„Filter verstopft“"), "Filter wechseln."),
        ("troubleshooting", ("„Druck zu niedrig“", "„Ölstand zu niedrig“"), "Öl bis zur Markierung nachfüllen."),
        ("table", ("Was bedeutet", "Fehlercode E01"), "Motor überlastet."),
        ("faq", ("Wie oft muss der Filter",), "Der Filter muss alle 500 Betriebsstunden gewechselt werden."),
        ("glossary", ("„SPS“",), "Speicherprogrammierbare Steuerung einer Anlage."),
        ("definition", ("Was ist", "ein Bypassventil"), "Ein Bypassventil ist ein Ventil, das bei Überdruck einen Teil "
         "des Öls in den Tank zurückführt."),
    ],
)  # fmt: skip
def test_german(german: list[Pair], kind: str, words: tuple[str, ...], answer: str) -> None:
    assert answers_to([pair for pair in german if pair.kind == kind], *words) == {answer}


@pytest.mark.parametrize(
    ("kind", "words", "answer"),
    [
        ("definition", ("What is the HX-200?",), "The HX-200 is a hydraulic press for workshops."),
        ("table", ("rated voltage",), "The rated voltage is 400 V."),
        ("table", ("What are the dimensions",), "The dimensions are 1200 x 800 x 2100 mm."),
        ("table", ("What does alarm code A12 mean",), "Oil temperature too high."),
        ("table", ("How do I fix alarm code A13",), "Close the door."),
        ("procedure", ("How many steps", "replace the filter"), "There are 3 steps."),
        ("procedure", ("first", "replace the filter"), "Switch off the main switch."),
        ("procedure", ('after the step "Unscrew the cap."',), "Insert the new filter."),
        ("procedure", ("How do I adjust",), "Loosen the lock nut, then turn the screw clockwise to raise the "
         "pressure. Tighten the lock nut."),
        ("parameter", ("range", "register 40 (Speed setpoint)"), "The range is 0..3000 rpm."),
        ("parameter", ("default", "register 41 (Ramp time)"), "The default is 10."),
        ("parameter", ("range", 'parameter "Stroke"'), "The range is 10 to 400 mm."),
        ("parameter", ("default", 'parameter "Speed"'), "The default is 5 (in units of 0.1 m/s)."),
        ("parameter", ("default", "parameter 13 (Local control)"), "The default is 1 (Panel)."),
        ("parameter", ("range", "parameter 13"), "The range is 0 to 2 (in units of 0.5 s)."),
        ("parameter", ("unit", "parameter 13"), "The unit is 0.5 s."),
        ("parameter", ("options", "parameter 13"), "The options are 0 = Nobody; 1 = Panel; 2 = Everybody."),
        ("parameter", ("purpose", "parameter 13"), "Defines who may operate the press."),
        ("definition", ('"press.ready"',), "(bit, out) TRUE when the press may be started."),
        ("troubleshooting", ("How do I fix", '"Press does not start"'), "Check the emergency stop button."),
        ("definition", ("What does PLC stand for",), "PLC stands for programmable logic controller."),
        ("glossary", ('"Ram"',), "The moving part that presses the workpiece."),
        ("faq", ("How often should the oil be changed?",), "Change the oil every 2000 hours."),
    ],
)  # fmt: skip
def test_english(english: list[Pair], kind: str, words: tuple[str, ...], answer: str) -> None:
    assert answers_to([pair for pair in english if pair.kind == kind], *words) == {answer}


def test_options_are_asked_in_both_directions(english: list[Pair]) -> None:
    meanings = answers_to(english, "parameter 13", "mean")
    values = answers_to(english, "parameter 13", "stands for")
    assert meanings < {'0 means "Nobody".', '1 means "Panel".', '2 means "Everybody".'}
    assert values < {'"Nobody" is value 0.', '"Panel" is value 1.', '"Everybody" is value 2.'}
    assert meanings and values


def test_a_whole_procedure_is_answered_with_all_its_steps(english: list[Pair], german: list[Pair]) -> None:
    steps = "1. Switch off the main switch.\n2. Unscrew the cap.\n3. Insert the new filter."
    assert answers_to(english, "What do I have to do to replace the filter") == {steps}
    assert len(answers_to(german, "Hydraulikpumpe HP 40 in Betrieb nehmen")) == 1
    assert answers_to(german, "Wie kann ich", "das Öl ablassen") == {
        "Schalten Sie die Pumpe aus. Öffnen Sie die Ablassschraube und lassen Sie das Öl in einen Behälter laufen."
    }


def test_steps_written_into_one_paragraph_are_steps() -> None:
    pairs = pairs_of("# Lock L5\n\n## Factory reset\n\n1. Open the cover. 2. Hold the button. 3. Wait for the beep.\n")
    assert answers_to(pairs, "How many steps", "factory defaults") <= {"There are 3 steps."}
    assert "There are 3 steps." in {pair.answer for pair in pairs}
    assert "Open the cover." in {pair.answer for pair in pairs}


def test_a_row_of_steps_that_goes_on_unseen_is_not_counted() -> None:
    text = "# Lock L5\n\n## Factory reset\n\n1. Open the cover. 2. Hold the button. 3.Wait for the beep.\n"
    assert not any("steps" in pair.answer for pair in pairs_of(text))


def test_a_step_that_swallowed_the_next_one_spoils_the_whole_row() -> None:
    text = "# Lock L5\n\n## Factory reset\n\n1. Open the cover 2. Hold the button.\n2. Wait for the beep.\n"
    assert pairs_of(text) == []


def test_what_is_listed_under_another_heading_is_asked_with_it() -> None:
    items = "- Stop: Stops the running program at once.\n- Run: Starts the loaded program again.\n"
    text = f"# LinuxCNC V2.9\n\n## Menu\n\n{items}"
    questions = [pair.question for pair in pairs_of(text)]
    assert questions and all("Menu" in question and "LinuxCNC" in question for question in questions)
    assert not any("V2.9" in question for question in questions)


def parameter(*lines: str, description: str = "", name: str = "Motor mode") -> list[Pair]:
    """The pairs of a section that describes parameter 5."""
    said = f"{description}\n\n" if description else ""
    return pairs_of(f"# Heidler HX-200\n\n## Settings\n\n### Parameter 5: {name}\n\n{said}" + "\n".join(lines) + "\n")


TELLING = "Decides whether the motor keeps turning while the guard stands open."
BROAD = ("What does the manual say", "What is there to know", "Can you explain")


def test_a_broad_question_is_asked_only_where_nothing_but_the_description_stands() -> None:
    alone = {pair.question for pair in parameter(description=TELLING) if pair.answer == TELLING}
    assert all(any(question.startswith(form) for question in alone) for form in BROAD)
    beside = {pair.question for pair in parameter("- Default: 3", description=TELLING) if pair.answer == TELLING}
    assert beside
    assert not any(form in question for form in BROAD for question in beside)
    unread = {pair.question for pair in parameter("- Sold since 2019", description=TELLING) if pair.answer == TELLING}
    assert not any(form in question for form in BROAD for question in unread)


def test_a_remark_is_asked_as_one_and_not_as_what_the_parameter_does() -> None:
    said = "Must be less than the pause of the second spindle."
    asked = [pair.question for pair in parameter("- Default: 3", description=said) if pair.answer == said]
    assert asked
    assert all("say" in question or "noted" in question for question in asked)


@pytest.mark.parametrize(
    "said",
    [
        "Values from 0 to 255 seconds.",
        "10m * 6 = 60m = 1 hour.",
        "Motor mode behaviour control.",
        "0 - 1000 motor value step is 1. Default = 100.",
        "Units of 30 minutes in steps of 0.1.",
        "When powered through the second socket",
    ],
)
def test_a_description_that_explains_nothing_is_not_asked_for(said: str) -> None:
    assert not any(said in pair.answer for pair in parameter("- Default: 3", description=said))


def test_options_in_prose_are_not_asked_for_beside_a_list_of_options() -> None:
    pairs = parameter("- Options:", "  - 255: Forever", description="1-60 = seconds; 61-120 = minutes (minus 60)")
    assert any(pair.answer == '"Forever" is value 255.' for pair in pairs)
    assert not any("seconds" in pair.answer for pair in pairs)


def test_two_ends_of_a_scale_are_no_options_but_have_a_meaning() -> None:
    ends = "1 = low sensitivity; 10 = high sensitivity"
    pairs = parameter("- Range: 1 to 10", description=ends)
    assert not any("The options are" in pair.answer or "named values" in pair.answer for pair in pairs)
    assert any(pair.answer == '10 means "high sensitivity".' for pair in pairs)
    assert any("The options are" in pair.answer for pair in parameter("- Range: 0 to 1", description="0 = Off; 1 = On"))


def test_named_values_are_all_options_only_where_the_range_has_no_others() -> None:
    options = ("- Options:", "  - 0: Off", "  - 1-99: Dimmed", "  - 100: As before")
    some = parameter("- Range: 0 to 255", *options)
    answers = {pair.answer for pair in some}
    assert "The named values are 0 = Off; 1-99 = Dimmed; 100 = As before." in answers
    assert not any(answer.startswith("The options are") for answer in answers)
    asked = [pair.question for pair in some if pair.answer.startswith("The named values")]
    assert asked and all("named values" in q or "have a" in q for q in asked)
    every = {pair.answer for pair in parameter("- Range: 0 to 100", *options)}
    assert "The options are 0 = Off; 1-99 = Dimmed; 100 = As before." in every


@pytest.mark.parametrize("label", ["Delta temperature value in °C", "Level (in 0.1 lux resolution)", "In 0.1 °C steps"])
def test_a_label_that_is_a_scale_is_no_meaning_of_a_value(label: str) -> None:
    pairs = parameter("- Options:", "  - 0: Off", f"  - 100: {label}")
    assert not any(label in pair.answer or label in pair.question for pair in pairs)


def test_a_manufacturer_is_given_for_a_thing_and_not_stated_on_it() -> None:
    pairs = pairs_of("# Pump HP 40\n\n## Data\n\n| Item | Value |\n| --- | --- |\n| Manufacturer | Heidler |\n")
    assert "What is given as the manufacturer of the Pump HP 40?" in {pair.question for pair in pairs}
    assert not any("stated on" in pair.question for pair in pairs)
