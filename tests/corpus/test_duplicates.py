from collections import Counter

import pytest
from hypothesis import given as given_
from hypothesis import settings
from hypothesis import strategies as st

from werkmeister.chat import Example, conversation
from werkmeister.corpus.duplicates import (
    CONFLICT,
    EXACT,
    LEAKAGE,
    NEAR,
    bands,
    drop_exact,
    drop_near,
    jaccard,
    shingles,
)
from werkmeister.corpus.shapes import Given

WORDS = st.lists(
    st.sampled_from(["turn", "on", "off", "the", "kitchen", "light", "lights", "bedroom", "please", "now"]),
    min_size=1,
    max_size=8,
).map(" ".join)
GIVEN = st.lists(
    st.tuples(WORDS, st.sampled_from("ab"), st.sampled_from(["", "train", "valid", "exam"])), min_size=2, max_size=40
)


def made(*rows):
    """Examples from (prompt, target) or (prompt, target, split)."""
    return [
        Given(Example(prompt=conversation(row[0]), target=row[1], source=f"f:{number}"), row[2] if len(row) > 2 else "")
        for number, row in enumerate(rows, 1)
    ]


def told(dropped):
    return [(one.example.source, one.reason, one.kept) for one in dropped]


def similarity(left: Given, right: Given) -> float:
    """By definition, on multisets: independent of the code under test but for the 5-grams."""
    a, b = Counter(shingles(left.example)), Counter(shingles(right.example))
    return (a & b).total() / (a | b).total()


def test_the_first_of_exact_duplicates_is_kept_whatever_the_white_space_and_unicode_form():
    kept, dropped = drop_exact(made(("Café  offen?", "ja"), ("Cafe\u0301 offen?\n", "ja "), ("café offen?", "ja")))
    assert [one.example.source for one in kept] == ["f:1", "f:3"]
    assert told(dropped) == [("f:2", EXACT, "f:1")]


def test_of_conflicting_answers_the_more_frequent_is_kept_then_the_first():
    kept, dropped = drop_exact(made(("q", "a"), ("q", "b"), ("q", "b"), ("r", "c"), ("r", "d")))
    assert [one.example.source for one in kept] == ["f:2", "f:4"]
    assert told(dropped) == [("f:1", CONFLICT, "f:2"), ("f:3", EXACT, "f:2"), ("f:5", CONFLICT, "f:4")]


def test_an_exam_item_wins_against_its_copies_and_its_contradictions_in_train():
    rows = [("q", "a", "train"), ("q", "a", "exam"), ("r", "x", "train"), ("r", "x", "train"), ("r", "y", "exam")]
    kept, dropped = drop_exact(made(*rows))
    assert [one.example.source for one in kept] == ["f:2", "f:5"]
    assert told(dropped) == [("f:1", LEAKAGE, "f:2"), ("f:3", CONFLICT, "f:5"), ("f:4", CONFLICT, "f:5")]


def test_a_twin_with_another_target_is_no_duplicate():
    rows = [("turn on the kitchen light in the hall", "on"), ("turn of the kitchen light in the hall", "off")]
    assert drop_near(made(*rows), 0.6)[1] == []
    assert len(drop_near(made(*[(prompt, "same") for prompt, _ in rows]), 0.6)[1]) == 1


def test_case_and_punctuation_alone_make_no_difference():
    kept, dropped = drop_near(made(("Where is my top-up?", "x"), ("where is my top up", "x")), 1.0)
    assert told(dropped) == [("f:2", NEAR, "f:1")]
    assert dropped[0].similarity == 1.0
    assert len(kept) == 1


def test_different_wordings_of_one_command_stay_at_the_default_threshold():
    rows = [
        ("turn on the kitchen light", "on"),
        ("please turn on the kitchen light", "on"),
        ("turn the kitchen light on", "on"),
        ("turn on teh kitchen light", "on"),
        ("switch on the kitchen light", "on"),
        ("kitchen light on", "on"),
    ]
    assert drop_near(made(*rows), 0.9)[1] == []


def test_a_given_exam_is_never_touched_and_train_falls_to_its_twins():
    rows = [
        ("turn on the big kitchen light now", "x", "train"),
        ("turn on the big kitchen lights now", "x", "exam"),
        ("turn on the big kitchen lights now!", "x", "exam"),
        ("turn on the big kitchen lights, now", "x", "valid"),
    ]
    kept, dropped = drop_near(made(*rows), 0.7)
    assert [one.split for one in kept] == ["exam", "exam"]
    assert [(one.example.source, one.reason) for one in dropped] == [("f:1", LEAKAGE), ("f:4", LEAKAGE)]


def test_nothing_is_near_at_threshold_zero():
    assert drop_near(made(("a b c", "x"), ("a b c!", "x")), 0.0)[1] == []


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_miss_less_than_one_in_a_million_at_the_threshold(threshold):
    rows, count = bands(threshold)
    assert (1 - threshold**rows) ** count <= 1e-6
    assert rows * count <= 128


@settings(max_examples=80, deadline=None)
@given_(rows=GIVEN, threshold=st.sampled_from([0.5, 0.7, 0.9, 1.0]))
def test_no_twin_is_left_and_every_drop_has_one_that_was_kept(rows, threshold):
    examples, _ = drop_exact(made(*rows))
    kept, dropped = drop_near(examples, threshold)
    assert len(kept) + len(dropped) == len(examples)
    by_source = {one.example.source: one for one in examples}
    kept_sources = {one.example.source for one in kept}
    for one in dropped:
        assert one.kept in kept_sources
        assert one.similarity == pytest.approx(similarity(by_source[one.kept], by_source[one.example.source]))
        assert one.similarity >= threshold
        assert by_source[one.example.source].split != "exam"
    train = [one for one in kept if one.split in ("", "train")]
    for one in train:
        for other in kept:
            if other is not one and other.example.target == one.example.target:
                assert similarity(one, other) < threshold


@given_(left=st.frozensets(st.integers(0, 9)), right=st.frozensets(st.integers(0, 9)))
def test_jaccard_is_shared_over_all(left, right):
    assert jaccard(left, right) == (len(left & right) / len(left | right) if left | right else 1.0)
