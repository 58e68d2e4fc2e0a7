from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from werkmeister.chat import Example
from werkmeister.corpus.writing.books import (
    FROM_MEMORY,
    PROMPTS,
    UNANSWERABLE,
    WITH_PASSAGE,
    Books,
    asked_of,
    bare_examples,
    dress,
)
from werkmeister.grounding import open_book, read_open_book, refusal
from werkmeister.passage import Passage


def passage(document: int, section: int, language: str = "en") -> Passage:
    text = f"Valve {section} of pump {document} opens at {document}.{section} bar."
    return Passage(
        **{"id": f"{document}/{section}", "document": f"d{document}", "title": f"Pump {document}"},
        **{"headings": (f"Valve {section}",), "text": text, "start": 0, "end": len(text), "language": language},
    )


def record(own: Passage, question="", answerable=True, **fields) -> dict:
    return {
        "question": question or f"When does {own.headings[0].lower()} of pump {own.document[1:]} open?",
        "answer": own.text if answerable else refusal(own.language),
        **{"document": own.document, "passage": own.id, "evidence": own.text if answerable else ""},
        **{"kind": "definition" if answerable else "unanswerable", "language": own.language},
        **{"answerable": answerable, "group": own.document, "flags": [], "loose": ""},
    } | fields


PASSAGES = {own.id: own for own in (passage(d, s) for d in range(6) for s in range(5))}
RECORDS = [record(own) for own in PASSAGES.values()]
RECORDS += [record(own, f"When does valve 9 of pump {own.document[1:]} open?", False) for own in PASSAGES.values()]


def books_of(share=1.0, loose=0.0, distractors=0, seed=0) -> Books:
    return Books(open_book=share, loose=loose, distractors=distractors, seed=seed)


def dressed(
    name="train", records=RECORDS, share=1.0, distractors=0, seed=0, passages=PASSAGES, loose=0.0
) -> list[Example]:
    books = books_of(share, loose, distractors, seed)
    bare = bare_examples(records, passages, books)
    languages = {asked_of(one.example): own["language"] for one, own in zip(bare, records, strict=True)}
    careful = {asked_of(one.example): own["question"] for one, own in zip(bare, records, strict=True)}
    return dress({name: [one.example for one in bare]}, passages, books, languages, careful)[name]


def test_bare_examples_hold_the_question_alone_and_say_where_it_comes_from():
    (one,) = bare_examples(RECORDS[:1], PASSAGES, books_of())
    assert one.written
    example = one.example
    assert example.question == "When does valve 0 of pump 0 open?"
    assert (example.group, example.part, example.passage) == ("d0", WITH_PASSAGE, "0/0")
    assert example.source == "d0, Valve 0"
    assert example.evidence == example.target


def test_open_book_is_the_form_in_which_the_expert_will_be_asked():
    example = dressed(records=RECORDS[:1])[0]
    assert example.question == open_book("When does valve 0 of pump 0 open?", [PASSAGES["0/0"]], "en")


def test_the_language_of_the_question_decides_the_words_of_the_prompt():
    german = record(PASSAGES["0/0"], "Wann öffnet Ventil 0 von Pumpe 0?", language="de")
    assert dressed(records=[german])[0].question.startswith("Dokumente:\n")


def test_the_share_is_asked_with_the_passage_in_train_and_all_of_it_elsewhere():
    records = RECORDS * 20
    records = [own | {"question": f"{own['question']} ({at})"} for at, own in enumerate(records)]
    parts = Counter(example.part for example in dressed(records=records, share=0.7))
    assert parts[UNANSWERABLE] == 600
    assert parts[FROM_MEMORY] / 600 == pytest.approx(0.3, abs=0.06)
    for name in ("valid", "exam"):
        assert {example.part for example in dressed(name, records, 0.0)} == {WITH_PASSAGE, UNANSWERABLE}
    memory = [example for example in dressed(records=records, share=0.0) if example.part == FROM_MEMORY]
    assert len(memory) == 600
    assert all(read_open_book(example.question)[0] == "" for example in memory)


def test_prompts_of_a_person_and_other_examples_stay_as_they_are():
    prompt = record(PASSAGES["0/0"], "Pump makes noise", kind="prompt", passage="", evidence="", group="prompt 1")
    example = dressed(records=[prompt], share=0.0)[0]
    assert (example.part, example.question) == (PROMPTS, "Pump makes noise")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(0, 9), st.sampled_from(["train", "exam"]))
def test_distractors_stand_beside_the_right_passage_and_never_answer(count, seed, name):
    places = Counter()
    for bare, example in zip(RECORDS, dressed(name, distractors=count, seed=seed), strict=True):
        shown, question = read_open_book(example.question)
        assert question == bare["question"]
        texts = shown.split("\n\n")
        assert len(texts) == len(set(texts)) == count + 1
        assert PASSAGES[example.passage].shown in texts
        places[texts.index(PASSAGES[example.passage].shown)] += 1
        if example.evidence:
            assert sum(example.evidence in text for text in texts) == 1
        else:
            others = [text for text in texts if text != PASSAGES[example.passage].shown]
            assert not any(f"Pump {example.group[1:]}" in text for text in others)
    assert len(places) == count + 1, "the right passage stands in every place"


def test_distractors_come_from_the_split_alone():
    bare = [one.example for one in bare_examples(RECORDS, PASSAGES, books_of())]
    splits = {"train": bare[:15], "valid": bare[15:20], "exam": bare[20:30]}
    made = dress(splits, PASSAGES, books_of(distractors=3, seed=1), {}, {})
    for name, examples in made.items():
        own = {PASSAGES[example.passage].shown for example in splits[name]}
        shown = {text for example in examples for text in read_open_book(example.question)[0].split("\n\n")}
        assert shown <= own


def test_the_same_seed_gives_the_same_examples_and_another_seed_others():
    assert dressed(share=0.5, distractors=2) == dressed(share=0.5, distractors=2)
    assert dressed(share=0.5, distractors=2) != dressed(share=0.5, distractors=2, seed=1)


def test_the_share_of_loose_questions_is_asked_with_the_passage_and_never_from_memory():
    records = [own | {"question": f"{own['question']} ({at})"} for at, own in enumerate(RECORDS * 20)]
    records = [own | {"loose": f"valve, when ({at})"} for at, own in enumerate(records)]
    asked = dressed(records=records, share=0.6, loose=0.5)
    loose = Counter((example.part, "valve, when" in example.question) for example in asked)
    assert loose[FROM_MEMORY, True] == 0 < loose[FROM_MEMORY, False]
    shown = loose[WITH_PASSAGE, True] + loose[UNANSWERABLE, True]
    assert shown / (shown + loose[WITH_PASSAGE, False] + loose[UNANSWERABLE, False]) == pytest.approx(0.5, abs=0.06)


def test_two_loose_questions_of_the_same_words_and_answer_keep_their_own_careful_questions():
    records = [own | {"loose": "when does it open", "answer": "At 3 bar."} for own in RECORDS if own["answerable"]]
    asked = {(one.question, one.passage) for one in dressed(records=records, share=0.0, loose=1.0)}
    assert asked == {(own["question"], own["passage"]) for own in records}
