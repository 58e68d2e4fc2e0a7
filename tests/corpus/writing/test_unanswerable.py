from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from werkmeister.corpus.writing.pair import Pair
from werkmeister.corpus.writing.unanswerable import gives_away, lacks, names_other, write_unanswerable
from werkmeister.grounding import REFUSALS
from werkmeister.passage import Passage

SECTIONS = {
    "Torque": "Tighten the cylinder head bolts with 25 Nm.",
    "Lubrication": "Grease the spindle bearing every 500 hours with lithium grease.",
    "Voltage": "Connect the heater to 230 V only.",
    "Storage": "Keep the hose dry and away from sunlight.",
}
ASKED = {
    "Torque": "What torque do the cylinder head bolts of the {} need?",
    "Lubrication": "How often is the spindle bearing of the {} greased?",
    "Voltage": "What voltage does the heater of the {} need?",
    "Storage": "Where is the hose of the {} kept?",
}


def corpus(devices: int, sections=tuple(SECTIONS)) -> tuple[list[Pair], dict[str, Passage]]:
    """Each device has the sections that its number leaves, so that sisters have what it lacks."""
    pairs, passages = [], {}
    for number in range(devices):
        name, title = f"d{number}.md", f"Press HX-{number} – manual"
        start = 0
        for at, heading in enumerate(sections):
            if (number + at) % 4 == 3:
                continue
            text = SECTIONS[heading]
            passage = Passage(
                **{"id": f"{number}-{heading}", "document": name, "title": title, "headings": (heading,)},
                **{"text": text, "start": start, "end": start + len(text), "language": "en"},
            )
            passages[passage.id] = passage
            pairs.append(
                Pair(
                    **{"question": ASKED[heading].format(f"Press HX-{number}"), "answer": text, "document": name},
                    **{"passage": passage.id, "evidence": text, "start": start, "end": start + len(text)},
                    **{"kind": "definition", "writer": "tests", "language": "en", "fact": heading},
                )
            )
            start += len(text) + 2
    return pairs, passages


def made(pairs, passages, *, share=0.25, open_book=1.0, seed=0):
    return write_unanswerable(pairs, passages, share=share, open_book=open_book, seed=seed)


def test_the_share_is_of_all_open_book_questions():
    pairs, passages = corpus(12)
    found = made(pairs, passages, share=0.25, open_book=0.5)
    assert len(found.pairs) == found.wanted == round(len(pairs) * 0.5 / 3)
    assert len(found.pairs) / (len(found.pairs) + 0.5 * len(pairs)) == pytest.approx(0.25, abs=0.02)


def test_a_question_is_put_to_a_passage_about_another_thing_and_names_the_passages_own_device():
    pairs, passages = corpus(12)
    found = made(pairs, passages, share=0.4)
    subject = {"Torque": "bolts", "Lubrication": "bearing", "Voltage": "heater", "Storage": "hose"}
    for pair in found.pairs:
        passage = passages[pair.passage]
        assert not pair.answerable
        assert (pair.answer, pair.evidence, pair.kind) == (REFUSALS["en"], "", "unanswerable")
        assert pair.document == passage.document
        assert f"HX-{passage.document[1:-3]} " in pair.question
        assert pair.fact != passage.headings[0]
        assert subject[pair.fact] not in passage.text
    assert found.same_document
    assert found.sister_document
    assert found.same_document + found.sister_document == len(found.pairs)


def test_no_question_is_put_to_one_passage_twice_and_no_passage_gets_more_than_it_answers():
    pairs, passages = corpus(12)
    found = made(pairs, passages, share=0.5)
    assert len({(pair.question, pair.passage) for pair in found.pairs}) == len(found.pairs)
    answers = Counter(pair.passage for pair in pairs)
    assert all(count <= answers[passage] for passage, count in Counter(p.passage for p in found.pairs).items())


def test_the_same_seed_gives_the_same_pairs_whatever_the_order_of_the_pairs():
    pairs, passages = corpus(10)
    assert made(pairs, passages) == made(pairs, passages)
    assert made(pairs, passages).pairs != made(pairs, passages, seed=1).pairs


def test_where_nothing_can_be_proven_nothing_is_made():
    pairs, passages = corpus(8, sections=("Torque",))
    found = made(pairs, passages)
    assert found.wanted > 0
    assert found.pairs == []
    assert made([], {}).pairs == []
    assert made(pairs, passages, share=0.0).wanted == 0


def one(**fields) -> Pair:
    given_ = {
        **{
            "question": "How often is the pump P4 greased?",
            "answer": "Every 500 hours",
            "document": "d",
            "passage": "p",
        },
        **{"evidence": "Grease the pump every 500 hours.", "start": 0, "end": 32, "kind": "x", "writer": "t"},
    }
    return Pair(**(given_ | {"language": "en"} | fields))


SOURCE = "pump p4 lubrication grease the pump every 500 hours"


@pytest.mark.parametrize(
    ("passage", "proven"),
    [
        ("pump p4 storage keep it dry", True),
        ("pump p4 lubrication grease the pump every 500 hours", False),
        ("pump p4 upkeep put grease on it twice a year", False),
        ("pump p4 upkeep regreasing is done twice a year", False),
        ("pump p4 upkeep every 500 hours look at the oil", False),
        ("pump p4 upkeep every 300 hours look at the oil", True),
    ],
)
def test_proof_needs_the_subject_to_be_absent_in_every_form(passage, proven):
    asked = one()
    assert lacks(asked, asked.question, "pump P4", passage, SOURCE, lambda term: 1.0) is proven


def test_words_that_mean_the_same_count_as_there():
    asked = one(
        question="How is the P4 reset?",
        answer="Hold the key for ten seconds",
        evidence="Reset: hold the key ten seconds",
    )
    source = "p4 reset reset hold the key ten seconds"
    assert not lacks(asked, asked.question, "P4", "p4 back to factory settings by the menu", source, lambda term: 1.0)
    assert lacks(asked, asked.question, "P4", "p4 weight and colours of the housing", source, lambda term: 1.0)


def test_a_number_of_the_question_is_absent_only_as_a_whole():
    asked = one(question="What is parameter 13 of the P4?", answer="Volume", evidence="13: Volume")
    source = "p4 parameters 13 volume"
    assert not lacks(asked, asked.question, "P4", "p4 parameters 12 mode 13 tone", source, lambda term: 1.0)
    weights = {"13": 3.0, "param": 0.1}
    assert lacks(asked, asked.question, "P4", "p4 parameters 130 mode", source, lambda term: weights.get(term[:5], 1.0))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 14), st.sampled_from([0.1, 0.2, 0.5, 0.8]), st.integers(0, 5))
def test_never_more_than_wanted_and_never_an_answer_in_the_passage(devices, share, seed):
    pairs, passages = corpus(devices)
    found = made(pairs, passages, share=share, seed=seed)
    assert len(found.pairs) <= found.wanted
    by_fact = {pair.fact: pair.evidence for pair in pairs}
    assert all(by_fact[pair.fact] not in passages[pair.passage].text for pair in found.pairs)


def page(text: str, title: str = "BeNext PowerSwitch", headings: tuple[str, ...] = ()) -> Passage:
    place = {"id": "p", "document": "d", "start": 0, "end": len(text), "language": "en"}
    return Passage(title=title, headings=headings, text=text, **place)


@pytest.mark.parametrize(
    ("passage", "there"),
    [
        (page("Shows colours.", headings=("Parameter 17: Colour presets",)), True),
        (page("| Number | Name |\n| --- | --- |\n| 17 | Colour presets |"), True),
        (page("### Parameter 17[0x01]: Colour presets"), True),
        (page("### Parameter 170: Colour presets\n\n- Default: 17"), False),
        (page("- Options:\n  - 17: Blue"), False),
    ],
)
def test_a_foreign_question_is_no_question_where_its_number_has_another_name(passage, there):
    question = "Can you explain parameter 17 (Restart after overload) on the BeNext PowerSwitch?"
    assert names_other(question, "BeNext PowerSwitch", passage) is there


@pytest.mark.parametrize(("number", "asked"), [(17, set()), (9, {"d0", "d1"})])
def test_a_passage_is_not_asked_for_what_it_numbers_otherwise(number, asked):
    pairs, passages = [], {}
    for at, (no, name) in enumerate([(17, "Colour presets"), (number, "Restart after overload")]):
        text = f"### Parameter {no}: {name}"
        place = {"document": f"d{at}", "start": 0, "end": len(text), "language": "en"}
        passages[str(at)] = Passage(id=str(at), title=f"Acme Q{at}", headings=(), text=text, **place)
        question = f"Can you explain parameter {no} ({name}) on the Acme Q{at}?"
        pairs.append(one(question=question, answer=name, evidence=text, passage=str(at), fact=name, **place))
    assert {pair.document for pair in made(pairs, passages, share=0.5).pairs} == asked


def test_digits_of_the_things_own_name_are_no_number_of_the_question():
    passage = page("Press 40 is a press.", title="Press 40")
    assert not names_other("What does the Press 40 weigh?", "Press 40", passage)


@pytest.mark.parametrize(
    ("answer", "title", "text", "told"),
    [
        ("The product type is Power Switch EU.", "BeNext PowerSwitch", "Press the key.", True),
        ("The product type is Thermostat.", "BeNext T1", "The thermostat learns.", True),
        ("The product type is Multisensor.", "BeNext M1", "Press the key.", False),
        ("The product type is 12.", "BeNext 12", "Press key 12.", False),
    ],
)
def test_an_answer_that_title_or_passage_tells_is_given_away(answer, title, text, told):
    own = one(question=f"What is the product type of the {title}?", answer=answer)
    assert gives_away(own, title, page(text, title), lambda term: 1.0) is told


def test_a_question_is_not_refused_where_the_title_gives_its_answer():
    pairs, passages = [], {}
    for number, (title, kind) in enumerate([("Acme PowerSwitch", "Power Switch"), ("Acme Q7", "Thermostat")]):
        for at, text in enumerate((f"Product type: {kind}", "Hold the button for ten seconds until it blinks.")):
            place = {"document": f"d{number}", "start": at * 90, "end": at * 90 + len(text), "language": "en"}
            passage = Passage(id=f"{number}{at}", title=title, headings=(), text=text, **place)
            passages[passage.id] = passage
            asked = (f"What is the product type of the {title}?", f"How is the {title} added?")[at]
            said = (f"The product type is {kind}.", text)[at]
            pair = one(question=asked, answer=said, evidence=text, passage=passage.id, fact=str(at), **place)
            pairs.append(pair)
    found = made(pairs, passages, share=0.5)
    asked = [pair for pair in found.pairs if "product type" in pair.question]
    assert {pair.document for pair in asked} == {"d1"}


def test_a_sisters_step_is_never_quoted_and_most_questions_come_from_the_same_document():
    pairs, passages = corpus(12)
    stepped = [
        one(
            question=f'To add the Press HX-{pair.document[1:-3]}, what do I do after the step "{pair.evidence}"?',
            **{name: getattr(pair, name) for name in ("answer", "document", "passage", "evidence", "start", "end")},
            kind="procedure",
            fact=pair.fact,
        )
        for pair in pairs
    ]
    found = made(stepped, passages, share=0.4)
    assert found.pairs
    assert found.sister_document == 0
    plain = made(pairs, passages, share=0.4)
    assert plain.same_document > plain.sister_document > 0


def test_the_same_question_put_to_two_passages_has_two_ids_and_an_answered_one_outlives_a_new_cutting():
    refused = [one(answer=REFUSALS["en"], evidence="", passage=passage, answerable=False) for passage in ("p", "q")]
    assert refused[0].id != refused[1].id
    assert one(passage="p").id == one(passage="q").id
    assert refused[0].id not in (one().id, one(answer=REFUSALS["en"], evidence="").id)
