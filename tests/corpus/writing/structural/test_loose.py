"""Loose questions: asked as people ask who have the thing before them, and never such that two facts fit."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from tests.corpus.writing.structural.written import pairs_of

MANUAL = """# Corvo HX-200

## Configuration parameters

| Number | Name | Default | Range | Options |
| --- | --- | --- | --- | --- |
| 1 | LED Indicator | 0 (Disable) | 0 to 1 | 0 = Disable; 1 = Enable |
| 2 | Auto-Off Timer | 30 | 1 to 255 | |
| 3 | State After Power Failure | 2 (Previous state) | 0 to 2 | 0 = Always off; 1 = Always on; 2 = Previous state |
| 4 | State After Fire | 2 (Previous state) | 0 to 2 | 0 = Stays open; 1 = Always on; 2 = Previous state |

## Factory reset

1. Open the cover of the valve.
2. Press the red button for ten seconds.
"""


def test_most_facts_have_a_loose_form_which_is_another_than_the_question():
    pairs = pairs_of(MANUAL)
    loose = [pair for pair in pairs if pair.loose]
    assert len(loose) > 0.8 * len(pairs)
    assert all(pair.loose != pair.question for pair in loose)


def test_most_loose_questions_do_not_name_the_thing():
    loose = [pair.loose for pair in pairs_of(MANUAL) if pair.loose]
    assert sum("HX-200" in question for question in loose) < 0.5 * len(loose)


def test_an_option_that_two_parameters_have_is_not_asked_for_without_its_parameter():
    asked = [pair for pair in pairs_of(MANUAL) if pair.answer.startswith("Set parameter")]
    assert any("Always off" in pair.answer or "Stays open" in pair.answer for pair in asked)
    assert not any("(Previous state)." in pair.answer or "(Always on)." in pair.answer for pair in asked)


def test_a_switch_is_asked_whether_it_is_on():
    (answer,) = {pair.answer for pair in pairs_of(MANUAL) if pair.fact.endswith("/is on")}
    assert answer == "No, the default is 0 (Disable)."


@given(st.lists(st.sampled_from(["Timer", "Delay", "Light", "Light level"]), min_size=2, max_size=6))
def test_no_loose_question_of_a_document_has_two_answers(names):
    rows = "\n".join(f"| {at} | {name} | {at + 40} | 0 to {at + 99} |" for at, name in enumerate(names, 1))
    manual = (
        f"# Corvo HX-200\n\n## Parameters\n\n| Number | Name | Default | Range |\n| --- | --- | --- | --- |\n{rows}\n"
    )
    answers = defaultdict(set)
    for pair in pairs_of(manual):
        if pair.loose:
            answers[pair.loose.casefold()].add(pair.answer)
    assert all(len(said) == 1 for said in answers.values())


def test_german_questions_have_loose_forms_of_their_own():
    manual = """# Corvo HX-200

## Parameter

| Nummer | Bezeichnung | Standardwert | Wertebereich |
| --- | --- | --- | --- |
| 1 | Nachlaufzeit | 30 Sekunden | 1 bis 255 Sekunden |
"""
    loose = " ".join(pair.loose for pair in pairs_of(manual))
    assert "Nachlaufzeit" in loose
    assert "what" not in loose.casefold()
