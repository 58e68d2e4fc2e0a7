from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from werkmeister.corpus.documents.document import Document
from werkmeister.corpus.writing.checks import CHECKS, check_pair, check_together, flags_of
from werkmeister.corpus.writing.pair import Pair
from werkmeister.passage import Passage
from werkmeister.progress import Silent

TEXT = (
    "# Pump P4\n\nThe pump P4 moves up to 40 l/min of oil at 6.5 bar, and its seal lasts 500 hours.\n\n"
    "- Drain the oil.\n- Unscrew the filter (part F-12).\n\nValues: 10, 20, ...\n\n"
    "Write to service@example.org when the pump has failed.\n"
)
DOCUMENT = Document(
    name="m/p4.md", sha256="0" * 64, format="markdown", title="Pump P4", text=TEXT, blocks=(), language="en"
)
PASSAGE = Passage(
    id="p" * 16, document="m/p4.md", title="Pump P4", headings=(), text=TEXT[11:], start=11, end=len(TEXT)
)
BOOKS = {"document": DOCUMENT, "passage": PASSAGE}


def pair(question="How much oil does the pump P4 move?", answer="Up to 40 l/min", evidence="up to 40 l/min", **fields):
    start = TEXT.find(evidence)
    given = {
        **{"question": question, "answer": answer, "document": "m/p4.md", "passage": PASSAGE.id},
        **{"evidence": evidence, "start": start, "end": start + len(evidence), "kind": "definition"},
        **{"writer": "tests", "language": "en"},
    }
    return Pair(**(given | fields))


def checked(one: Pair, personal: str = "flag") -> tuple[str, str] | None:
    fallen = check_pair(one, DOCUMENT, PASSAGE, personal)
    return (fallen.check, fallen.reason) if fallen else None


def test_a_good_pair_passes_every_check():
    assert checked(pair()) is None
    assert checked(pair(answer="It moves up to 40 l/min of oil.")) is None
    assert checked(pair(answer="The seal of the P4 lasts 500 hours.", evidence="its seal lasts 500 hours")) is None


@pytest.mark.parametrize(
    ("one", "check", "said"),
    [
        (pair(start=5), "evidence", "do not stand at characters 5"),
        (pair(evidence=""), "evidence", "no evidence"),
        (pair(evidence="Pump P4", start=2, end=9), "evidence", "outside the passage"),
        (pair(answerable=False), "evidence", "not answerable"),
        (pair(answer="Up to 45 l/min"), "numbers", "45"),
        (pair(answer="Up to 40 l/min at 6.5 mm"), "numbers", "mm"),
        (pair(answer="Part F-13"), "numbers", "F-13"),
        (pair(question=" ? "), "trivial", "question is empty"),
        (pair(answer=" \n"), "trivial", "answer is empty"),
        (pair(answer="The."), "trivial", "says nothing"),
        (pair(answer="The pump P4 does move oil."), "trivial", "repeats"),
        (pair(answer="up to 40 l/min of oil at 6.5 bar,"), "truncated", "breaks off"),
        (pair(answer="Up to 40 l/min (of oil"), "truncated", "partner"),
        (pair(evidence="moves up to 40 l/min of o"), "truncated", "ends in the middle of a word"),
        (pair(evidence="oves up to 40 l/min"), "truncated", "begins in the middle of a word"),
        (pair(answer=TEXT[11:50], evidence=TEXT[11:50]), "truncated", "middle of a sentence, before 'at 6.5"),
        (pair(answer="The following parts are needed:"), "truncated", "breaks off"),
        (pair(question="Wie viel Öl bewegt die Pumpe P4?"), "language", "is in de"),
        (pair(answer="Die Pumpe ist mit dem Filter und der Dichtung zu tauschen."), "language", "answer is in de"),
        (pair(question="What is it, " * 40), "length", "question has"),
        (pair(answer="Oil is moved by the pump. " * 70), "length", "answer has"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_can_be_proven_wrong_is_dropped_with_its_reason(one, check, said):
    found = checked(one)
    assert found is not None
    assert found[0] == check
    assert said in found[1]


def test_a_pair_of_an_unknown_passage_is_dropped():
    fallen = check_pair(pair(), DOCUMENT, None)
    assert fallen is not None
    assert fallen.check == "evidence"


def test_the_documents_own_dots_at_a_line_end_are_no_truncation():
    assert (
        checked(pair(question="Which values are there for P4?", answer="10, 20, ...", evidence="10, 20, ...")) is None
    )


def test_small_numbers_are_an_answer_though_the_question_holds_them_too():
    text = "- 1: High\n- 2: Low"
    document = replace(DOCUMENT, text=text)
    passage = replace(PASSAGE, text=text, start=0, end=len(text))
    one = pair("What value of parameter 1 means High?", "High is value 1.", text, start=0, end=len(text))
    assert check_pair(one, document, passage) is None


def test_numbers_may_come_from_the_question_the_title_or_the_headings():
    passage = replace(PASSAGE, headings=("Parameter 77",))
    one = pair("What moves 33 l?", answer="Parameter 77 of the P4 moves 33 l.")
    assert check_pair(one, DOCUMENT, passage) is None


def test_personal_data_is_flagged_and_dropped_only_where_the_settings_say_so():
    one = pair("Whom do I write to about the P4?", "service@example.org", "service@example.org")
    assert checked(one) is None
    assert flags_of(one) == ["personal: e-mail"]
    assert checked(one, "drop") == ("personal", "holds personal data (e-mail)")
    assert flags_of(pair()) == []


def test_a_distilled_prompt_needs_no_passage_but_must_say_something():
    one = pair(kind="prompt", passage="", evidence="", start=0, end=0, answer="Check fuse 7 and 8 (the left ones).")
    assert check_pair(one, None, None) is None
    fallen = check_pair(replace(one, answer="…"), None, None)
    assert fallen is not None
    assert fallen.check == "trivial"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(TEXT)), st.integers(0, len(TEXT)), st.text(max_size=40), st.text(max_size=40))
def test_whatever_passes_has_its_evidence_where_it_says(start, end, question, answer):
    one = pair(question, answer, evidence=TEXT[start:end], start=start, end=end)
    fallen = check_pair(one, DOCUMENT, PASSAGE)
    if fallen is None:
        assert TEXT[start:end].strip()
        assert PASSAGE.start <= start < end <= PASSAGE.end
        assert answer.strip()
        assert question.strip()
    else:
        assert fallen.check in CHECKS
        assert fallen.reason


def together(*pairs: Pair, **titles: str):
    return check_together(pairs, titles or {"m/p4.md": "Pump P4"}, Silent())


def test_the_same_question_with_the_same_answer_is_kept_once():
    found = together(pair(), pair(question="How much OIL does the pump P4 move"), pair(answer="Up to 40 l/min!"))
    assert found.kept == [pair()]
    assert [one.check for one in found.dropped] == ["duplicate", "duplicate"]


def test_an_answer_that_says_more_does_not_conflict():
    found = together(pair(), pair(answer="It moves up to 40 l/min of oil."))
    assert found.kept == [pair()]
    assert "has this answer already" in found.dropped[0].reason


def test_nearly_the_same_question_on_one_passage_is_kept_once_and_of_another_passage_twice():
    question = "What is the largest amount of oil that the hydraulic pump moves in one minute of work"
    found = together(pair(f"{question}?"), pair(f"{question}s?"), pair(f"{question}s, though?", passage="q" * 16))
    assert [one.question[-8:] for one in found.kept] == ["of work?", " though?"]
    assert found.dropped[0].check == "duplicate"
    assert question in found.dropped[0].reason


def test_different_answers_are_told_apart_by_title_or_all_dropped():
    other = pair(answer="Up to 50 l/min", document="m/p5.md", passage="q" * 16)
    found = together(pair(), other, **{"m/p4.md": "Pump P4", "m/p5.md": "Pump P5"})
    assert [one.question for one in found.kept] == [
        *("Pump P4: How much oil does the pump P4 move?", "Pump P5: How much oil does the pump P4 move?"),
    ]
    assert found.dropped == []
    same = together(pair(), other, **{"m/p4.md": "Pump P4", "m/p5.md": "Pump P4"})
    assert same.kept == []
    assert [(one.check, "50 l/min" in one.reason) for one in same.dropped] == [("conflict", True), ("conflict", False)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz"), st.sampled_from("12")), max_size=12))
def test_afterwards_no_question_has_two_answers_and_nothing_is_lost(rows):
    pairs = [pair(f"What is {q} here?", f"It is {a}.", document=d) for q, a, d in rows]
    found = check_together(pairs, {"1": "One", "2": "Two"}, Silent())
    questions = [one.question for one in found.kept]
    assert len(set(questions)) == len(questions)
    assert len(found.kept) + len(found.dropped) == len(pairs)
