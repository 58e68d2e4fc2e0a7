import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from werkmeister.grounding import REFUSALS, is_learnt_refusal, is_refusal, open_book, read_open_book, refusal
from werkmeister.passage import Passage

ABSTAINING = (
    "The documents do not say.",
    "the documents do not say",
    "The documents do not say. They describe the inclusion only.",
    "Das steht nicht in den Dokumenten.",
    "„Das steht nicht in den Dokumenten.“",
    "The passage does not mention the IP rating of the device.",
    "The document doesn't specify a standby power.",
    "The manual for this sensor does not state how much it weighs.",
    "The provided text does not contain information about the warranty period.",
    "The text provided doesn’t say anything about the price.",
    "I'm sorry, but the manual does not say which battery is needed.",
    "I'm sorry, but I don't have enough information to answer that question.",
    "I don't know.",
    "I do not know the answer to this question.",
    "As an AI language model, I don't have access to the manual of this device.",
    "I cannot answer this question from the given context.",
    "I can't find the torque in the text.",
    "I am not sure.",
    "Based on the passage, I could not determine the colour of the housing.",
    "The colour of the housing is not mentioned.",
    "The weight is not specified in the documents.",
    "This is not explicitly stated in the manual.",
    "It isn't documented.",
    "The answer cannot be found in the document.",
    "The question cannot be answered from the given passage.",
    "There is no information about the supplier.",
    "There is no mention of a warranty in this manual.",
    "The document contains no information on the price.",
    "No information is given about the cable length.",
    "Not mentioned.",
    "Not specified",
    "N/A",
    "Unknown.",
    "The answer is unknown.",
    "Unanswerable",
    "It is not possible to say from the text.",
    "There is not enough information in the passage to answer.",
    "The supply voltage is not given in the manual.",
    "I'm sorry for the confusion, but the document does not provide the price. It describes how the device is added to "
    "the network, how it is removed from the network and how it is reset to its factory state, each with the number of "
    "times that the button has to be pressed.",
    "Das weiß ich nicht.",
    "Ich weiß es leider nicht.",
    "Ich kann diese Frage anhand des Textes nicht beantworten.",
    "Dazu habe ich keine Informationen.",
    "Dazu kann ich leider nichts sagen.",
    "Dazu liegen keine Angaben vor.",
    "Dazu steht nichts im Handbuch.",
    "Die Frage kann mit den vorliegenden Dokumenten nicht beantwortet werden.",
    "Die Frage lässt sich nicht beantworten.",
    "Der Text enthält keine Informationen über das Gewicht.",
    "Das Handbuch nennt keinen Preis.",
    "Die Anleitung sagt nichts über die Garantie.",
    "Die Anleitung gibt darüber keine Auskunft.",
    "Im Dokument wird die Schutzart nicht erwähnt.",
    "Das wird im Text nicht genannt.",
    "Die Drehzahl ist nicht angegeben.",
    "Der Hersteller wird in der Anleitung nicht explizit genannt.",
    "Aus dem Text geht das nicht hervor.",
    "In den Dokumenten steht nicht, wie schwer das Gerät ist.",
    "In den Unterlagen finden sich keine Angaben zur Batterie.",
    "Es gibt keine Informationen zum Preis.",
    "Es liegen keine genauen Angaben vor.",
    "Nicht angegeben.",
    "Keine Angabe",
    "k. A.",
    "Unbekannt",
    "Nicht bekannt.",
    "Das sind nicht genug Informationen für eine Antwort.",
    "Without further details, that is impossible to say.",
)
ANSWERING = (
    "",
    "10",
    "None",
    "No.",
    "Nein, das ist nicht nötig.",
    "5 bar",
    "Silent.",
    "0–255 seconds.",
    "Not included.",
    "Nicht enthalten.",
    "Not available",
    "The batteries are not included.",
    "A power supply is not provided with the device.",
    "According to the manual, it does not include batteries.",
    "The manual says the device does not provide feedback.",
    "The document states that the sensor does not include a relay.",
    "The device does not contain any user-serviceable parts.",
    "Do not open the housing.",
    "Press the button three times; do not hold it.",
    "The LED does not indicate the battery level.",
    "If the value is not specified, the default of 50 is used.",
    "When the timeout is not stated, the controller waits 30 seconds.",
    "If no answer is received, the controller retries three times.",
    "The device cannot be found by the controller until it is awake.",
    "If the controller cannot find the node, reset it.",
    "No information is sent while the switch is off.",
    "The text on the display does not change while charging.",
    "The valve is not available in Europe.",
    "It is not possible to remove the node while it sleeps.",
    "The node is not listed until the inclusion has ended.",
    "The manual does not say, but it is usually 5 bar.",
    "The weight is not mentioned; however, similar devices weigh about 80 g.",
    "The device is not known to the controller before it is included.",
    "The parameter has no unit.",
    "Not all parameters can be changed.",
    "Unknown devices are ignored.",
    "The sensor reports unknown when the battery is empty.",
    "The documents folder holds the log file.",
    "Documents are not deleted.",
    "The command does not answer with a report.",
    "We do not provide refunds after 30 days.",
    "The alarm goes off unless the PIN is given in 30 seconds.",
    "Section 4 describes the reset; it does not erase the log.",
    "Die Batterien sind nicht im Lieferumfang enthalten.",
    "Ein Netzteil ist nicht enthalten.",
    "Laut Handbuch darf das Gehäuse nicht geöffnet werden.",
    "Laut Anleitung ist das Öffnen nicht erlaubt.",
    "Laut Handbuch gibt es keine Garantie auf Batterien.",
    "Das Gerät gibt keinen Ton von sich.",
    "Das Display zeigt keine Werte an.",
    "Es werden keine Daten übertragen.",
    "Es werden keine Informationen gespeichert.",
    "Die Spindel dreht nicht.",
    "Wenn nichts angegeben ist, gilt der Standardwert 50.",
    "Falls der Wert nicht angegeben ist, gilt 50.",
    "Werte, die nicht angegeben sind, bleiben unverändert.",
    "Drücken Sie die Taste nicht länger als 5 Sekunden.",
    "Der Text auf dem Display blinkt nicht mehr.",
    "Das Handbuch nennt 5 bar, nicht 6 bar.",
    "Wir haben keine Filiale in Bonn.",
    "Wir können für Schäden keine Haftung übernehmen.",
    "Das Handbuch sagt nichts dazu, üblicherweise sind es aber 5 bar.",
    "Ich drücke die Taste nicht, sondern halte sie.",
    "Unbekannte Geräte werden nicht angezeigt.",
    "Der Knoten ist dem Controller noch nicht bekannt.",
)


@pytest.mark.parametrize("answer", ABSTAINING)
def test_who_says_that_it_cannot_be_told_abstains(answer):
    assert is_refusal(answer)
    assert is_refusal(f"  {answer.upper()}\n")


@pytest.mark.parametrize("answer", ANSWERING)
def test_an_answer_with_a_not_in_it_is_an_answer(answer):
    assert not is_refusal(answer)
    assert not is_refusal(f"  {answer.upper()}\n")


# Written after the patterns and left as they fell out: what the two lists above cannot say, since the patterns were
# made on them.
UNSEEN = (
    (True, "The given passage makes no mention of a torque."),
    (True, "Sorry, I am unable to find the serial number in the documentation."),
    (True, "The excerpt doesn't tell us how long the warranty lasts."),
    (True, "That detail is not described in the sections above."),
    (True, "I could not locate any reference to the gearbox in the text."),
    (True, "The context does not explicitly mention who makes the relay."),
    (True, "Information on the range is not available in the provided document."),
    (True, "The article is silent on that."),
    (True, "Nothing in the passage says how heavy it is."),
    (True, "The passage never mentions the fuse."),
    (True, "Leider kann ich dazu keine Auskunft geben."),
    (True, "Hierzu finden sich in der Dokumentation keine Hinweise."),
    (True, "Die Spannung wird im Abschnitt nicht näher beschrieben."),
    (True, "Aus den Unterlagen lässt sich das nicht entnehmen."),
    (True, "Der Auszug macht dazu keine Angaben."),
    (True, "Zum Gewicht sagt der Text nichts."),
    (True, "Der Preis ist mir nicht bekannt."),
    (True, "Die Dokumente geben darauf keine Antwort."),
    (True, "Das ist in der Anleitung nicht beschrieben."),
    (True, "Keine Informationen verfügbar."),
    (False, "Parameter 3 is not used by this firmware."),
    (False, "The relay does not switch while the button is held."),
    (False, "It has no external antenna."),
    (False, "The sensor cannot be included when it sleeps."),
    (False, "No, the document must be signed first."),
    (False, "You can't provide the PIN twice."),
    (False, "The manual is not needed for the reset."),
    (False, "The device does not answer polls in sleep mode."),
    (False, "Reports are not sent when the value has not changed."),
    (False, "The text field does not accept letters."),
    (False, "The limit is unknown to the slave until it is set."),
    (False, "Mode 0: no indication."),
    (False, "Die Garantie gilt nicht für Batterien."),
    (False, "Der Sensor meldet keine Bewegung."),
    (False, "Ohne PIN lässt sich das Schloss nicht öffnen."),
    (False, "In der Anleitung steht, dass man die Taste nicht halten darf."),
    (False, "Das Dokument darf nicht gelöscht werden."),
    (False, "Es gibt keine Taste am Gehäuse."),
    (False, "Die Achse ist nicht referenziert."),
    (False, "Nicht länger als 10 Sekunden."),
)


def test_on_answers_that_the_patterns_were_not_made_on_precision_and_recall_are_high():
    said = [(true, is_refusal(answer)) for true, answer in UNSEEN]
    hits = sum(true and found for true, found in said)
    assert hits / sum(found for _, found in said) >= 0.9, "precision"
    assert hits / sum(true for true, _ in said) >= 0.75, "recall"


@settings(deadline=None)
@given(st.sampled_from([*ABSTAINING, *ANSWERING]), st.integers(1, 400), st.text(alphabet=" .,nt", max_size=3))
def test_no_text_makes_the_search_slow(seed, times, glue):
    text = (seed + glue) * times
    begin = time.process_time()
    is_refusal(text)
    is_refusal(text[:200])
    assert time.process_time() - begin < 0.25


@pytest.mark.parametrize(
    "piece", ["the document ", "not ", "i do not ", "text text ", "kein ", "steht nicht ", "a", " ", "is not really "]
)
def test_repetition_makes_the_search_no_slower_than_its_length(piece):
    took = []
    for text in (piece * 50_000, (piece * 200)[:200]):
        begin = time.process_time()
        is_refusal(text)
        took.append(time.process_time() - begin)
    assert took[0] < 1.0 and took[1] < 0.05, took


def test_a_long_answer_that_says_not_mentioned_in_passing_has_answered():
    long = "Press the button three times within two seconds and wait until the LED turns green. " * 3
    assert not is_refusal(long + "The colour of the housing is not mentioned.")
    assert is_refusal("The colour of the housing is not mentioned. " + long)


@pytest.mark.parametrize("language", REFUSALS)
def test_the_learnt_refusal_is_told_from_what_merely_abstains(language):
    sentence = refusal(language)
    assert is_learnt_refusal(sentence) and is_learnt_refusal(f" {sentence.rstrip('.')}\n") and is_refusal(sentence)
    assert not is_learnt_refusal(sentence + " See page 3.") and not is_learnt_refusal("I don't know.")
    assert not is_learnt_refusal("")


def test_a_language_without_a_refusal_of_its_own_gets_the_english_one():
    assert refusal("fr") == refusal("en") == REFUSALS["en"]
    assert open_book("Où ?", [passage("Ici.")], "fr").startswith("Documents:\n")


def passage(text: str, title: str = "Lock", headings: tuple[str, ...] = ("Reset",)) -> Passage:
    return Passage(id="0" * 16, document="d", title=title, headings=headings, text=text, start=0, end=len(text))


WORDS = st.text(alphabet="ab ?:\n", max_size=40)


@given(st.lists(WORDS, min_size=1, max_size=3), WORDS, st.sampled_from(["en", "de", "fr"]))
def test_an_open_book_question_is_read_back_as_it_was_put(texts, question, language):
    passages = [passage(text) for text in texts]
    shown, asked = read_open_book(open_book(question, passages, language))
    assert asked == question
    assert shown == "\n\n".join(p.shown for p in passages)


@given(WORDS)
def test_a_closed_book_question_is_the_bare_question_and_read_back_so(question):
    assert open_book(question, [], "en") == question
    assert read_open_book(question) == ("", question)


def test_a_passage_that_holds_questions_itself_does_not_shift_the_question():
    faq = "Question: Is it loud?\n\nQuestion: Is it heavy?\nAnswer: No."
    assert read_open_book(open_book("How tall is it?", [passage(faq)]))[1] == "How tall is it?"


def test_the_form_of_an_open_book_question_is_the_one_that_experts_were_trained_on():
    """Changing it makes every trained expert answer worse: then it needs a version, not a new expectation here."""
    put = open_book("Wie?", [passage("Drücken."), passage("Halten.", headings=())], "de")
    assert put == "Dokumente:\nLock › Reset\nDrücken.\n\nLock\nHalten.\n\nFrage: Wie?"
