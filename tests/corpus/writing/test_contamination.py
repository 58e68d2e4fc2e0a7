import random

from hypothesis import given, settings
from hypothesis import strategies as st

from werkmeister.chat import Example, conversation
from werkmeister.corpus.duplicates import LEAKAGE
from werkmeister.corpus.writing.books import Books, dress
from werkmeister.corpus.writing.contamination import find_leaks, measure_contamination, remove_contamination
from werkmeister.passage import Passage

VOCABULARY = [f"word{number}" for number in range(300)]
LONG = "In what order are the four screws of the cover of the pump tightened after the filter was changed"


def passage(key: str, text: str, heading: str = "Section") -> Passage:
    return Passage(
        id=key, document=key.split("/")[0], title=f"Title {key}", headings=(heading,), text=text, start=0, end=len(text)
    )


def words(seed: int, count: int = 60) -> str:
    return " ".join(random.Random(seed).choices(VOCABULARY, k=count))


def example(question: str, answer: str, key: str = "", part: str = "with passage") -> Example:
    group = key.split("/")[0]
    return Example(prompt=conversation(question), target=answer, passage=key, group=group, part=part, source=key)


def splits(train=(), valid=(), exam=()) -> dict[str, list[Example]]:
    return {"train": list(train), "valid": list(valid), "exam": list(exam)}


def test_nearly_the_same_question_with_the_same_answer_leaks_and_with_another_answer_does_not():
    held = [example(f"{LONG}?", "Crosswise")]
    near, other, far = (
        example(f"{LONG}s?", "crosswise "),
        example(f"{LONG}s?", "In a row"),
        example("Why?", "Crosswise"),
    )
    left, dropped = remove_contamination(splits([near, other, far], exam=held), {})
    assert left["train"] == [other, far]
    assert [(one.example, one.reason) for one in dropped] == [(near, LEAKAGE)]
    assert dropped[0].similarity is not None
    assert dropped[0].similarity >= 0.9


def test_a_refusal_is_no_answer_to_give_away():
    refused = [example(f"{LONG}?", "The documents do not say.")]
    assert list(find_leaks(refused, refused, {})) == []


def test_nearly_the_same_passage_in_another_document_leaks():
    text = words(1)
    variant = text.replace(text.split()[30], "changed", 1)
    passages = {p.id: p for p in (passage("a/1", text), passage("b/1", variant), passage("c/1", words(2)))}
    held = [example("What?", "x", "a/1")]
    left, _ = remove_contamination(
        splits([example("Who?", "y", "b/1"), example("How?", "z", "c/1")], exam=held), passages
    )
    assert [one.passage for one in left["train"]] == ["c/1"]


def test_a_passage_that_stands_in_another_word_for_word_leaks_and_one_of_the_same_mould_does_not():
    mould = "Default: 0 (Disable), options: 0: Disable, 1: Enable"
    passages = {
        "a/1": passage("a/1", mould, "Parameter 87: Buzzer"),
        "b/1": passage("b/1", f"{words(3)} Parameter 87: Buzzer {mould} {words(4)}"),
        "c/1": passage("c/1", f"{words(5)} Parameter 12: Lamp {mould} {words(6)}"),
    }
    leaks = list(
        find_leaks([example("Who?", "y", "b/1"), example("How?", "z", "c/1")], [example("What?", "x", "a/1")], passages)
    )
    assert [(leak.index, leak.what) for leak in leaks] == [(0, "passage")]


def test_an_exam_item_wins_against_valid_and_valid_against_train():
    same = [example(f"{LONG}?", "Crosswise", key) for key in ("a/1", "b/1", "c/1")]
    left, dropped = remove_contamination(splits(same[:1], same[1:2], same[2:]), {})
    assert {name: len(own) for name, own in left.items()} == {"train": 0, "valid": 0, "exam": 1}
    left, _ = remove_contamination(splits(same[:1], same[1:2]), {})
    assert {name: len(own) for name, own in left.items()} == {"train": 0, "valid": 1, "exam": 0}
    assert len(dropped) == 2


def test_what_is_measured_is_read_from_the_finished_prompts():
    passages = {p.id: p for p in (passage("a/1", words(1)), passage("a/2", words(2)), passage("b/1", words(3)))}
    bare = splits(
        [example("Who opens it?", "Ann", "a/1"), example("Who shuts it?", "Bob", "a/2")],
        exam=[example("Who opens it?", "Ann", "a/2"), example("Who then?", "Eve", "b/1")],
    )
    finished = dress(bare, passages, Books(open_book=1.0, loose=0.0, distractors=1, seed=0), {}, {})
    assert [(row["n"], row["of"]) for row in measure_contamination(finished, passages)] == [(1, 2), (1, 2), (1, 2)]


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["train", "valid", "exam"]),
        st.integers(0, 3),
        st.integers(0, 5),
        st.sampled_from(["Crosswise", "In a row", "The documents do not say."]),
        st.sampled_from(["", "s", " at all", " of the other machine"]),
    ),
    min_size=1,
    max_size=24,
)


@settings(max_examples=120, deadline=None)
@given(ROWS, st.floats(0, 1), st.integers(0, 3))
def test_contamination_is_zero_by_construction_whatever_the_splits(rows, share, distractors):
    """Texts come in four moulds with small changes, so that near passages stand in different documents and splits."""
    passages, bare = {}, splits()
    for at, (name, mould, changed, answer, tail) in enumerate(rows):
        # The group follows the split, as families do: only likeness across documents is left to be found.
        key = f"{name}{at}/{mould}"
        text = words(mould)
        for place in random.Random(at).sample(range(60), changed):
            text = " ".join([*text.split()[:place], f"own{at}", *text.split()[place + 1 :]])
        passages[key] = passage(key, text)
        bare[name].append(example(f"{LONG}{tail}?", answer, key))
    clean, dropped = remove_contamination(bare, passages)
    assert sum(map(len, clean.values())) + len(dropped) == len(rows)
    assert clean["exam"] == bare["exam"]
    finished = dress(clean, passages, Books(open_book=share, loose=0.0, distractors=distractors, seed=1), {}, {})
    assert [row["n"] for row in measure_contamination(finished, passages)] == [0, 0, 0]
