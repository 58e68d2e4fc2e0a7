from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from werkmeister.chat import Example, conversation
from werkmeister.corpus.shapes import Given
from werkmeister.corpus.splits import FEWEST, parted_groups, split
from werkmeister.errors import DataError


def made(count: int, labels=("",), groups=("",), start: int = 0, splits=("",)):
    return [
        Given(
            Example(
                prompt=conversation(f"question {i}"),
                target="a",
                label=labels[i % len(labels)],
                group=groups[i % len(groups)],
                source=f"f:{i}",
            ),
            splits[i % len(splits)],
        )
        for i in range(start, start + count)
    ]


def divide(given, *, valid=0.05, exam=0.1, exam_limit=0, seed=0):
    return split(given, valid=valid, exam=exam, exam_limit=exam_limit, seed=seed)


def homes(splits) -> dict[str, str]:
    return {example.source: name for name, examples in splits.items() for example in examples}


SHARES = st.floats(0.0, 0.45)


@settings(deadline=None)
@given(count=st.integers(FEWEST, 120), valid=SHARES, exam=SHARES, limit=st.integers(0, 20), seed=st.integers(0, 99))
def test_every_example_is_in_exactly_one_split_and_no_split_is_empty(count, valid, exam, limit, seed):
    given = made(count, labels=("x", "y", "z"))
    splits = divide(given, valid=valid, exam=exam, exam_limit=limit, seed=seed)
    assert sorted(e.source for examples in splits.values() for e in examples) == sorted(g.example.source for g in given)
    assert all(splits.values())
    assert not limit or len(splits["exam"]) <= limit


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 12), min_size=4, max_size=25), valid=SHARES, exam=SHARES, seed=st.integers(0, 99))
def test_no_group_is_parted_and_no_split_is_empty(sizes, valid, exam, seed):
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    assume(len(groups) >= FEWEST)
    splits = divide(made(len(groups), groups=groups), valid=valid, exam=exam, seed=seed)
    assert parted_groups(splits) == []
    assert all(splits.values())
    assert len(homes(splits)) == len(groups)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    valid=st.floats(0.0, 0.3),
    exam=st.floats(0.0, 0.3),
    seed=st.integers(0, 99),
)
def test_each_label_is_within_one_example_of_its_share(sizes, valid, exam, seed):
    labels = [f"label {number}" for number, size in enumerate(sizes) for _ in range(size)]
    assume(len(labels) >= FEWEST)
    splits = divide(made(len(labels), labels=labels), valid=valid, exam=exam, seed=seed)
    for name, share in (("exam", exam), ("valid", valid)):
        counts = Counter(example.label for example in splits[name])
        if sum(counts.values()) == 1:  # the one that each split has at least
            continue
        for label, size in Counter(labels).items():
            assert abs(counts[label] - share * size) < 1 + 1e-9


@settings(max_examples=60, deadline=None)
@given(count=st.integers(30, 200), seed=st.integers(0, 99), label=st.sampled_from("xyz"))
def test_appending_an_example_moves_at_most_one_over_each_border_and_only_in_its_stratum(count, seed, label):
    given = made(count, labels=("x", "y", "z"))
    (new,) = made(1, labels=(label,), start=count)
    shares = {"exam": 0.25, "valid": 0.2, "seed": seed}
    before, after = homes(divide(given, **shares)), homes(divide([*given, new], **shares))
    labels = {one.example.source: one.example.label for one in given}
    moved = [(source, before[source], after[source]) for source in before if before[source] != after[source]]
    assert all(labels[source] == label for source, _, _ in moved)
    borders = Counter(frozenset(move[1:]) for move in moved)
    assert all(count == 1 for count in borders.values())
    assert frozenset({"exam", "valid"}) not in borders


@settings(deadline=None)
@given(order=st.permutations(range(40)), seed=st.integers(0, 9))
def test_the_order_of_the_file_decides_nothing(order, seed):
    given = made(40, labels=("x", "y"))
    assert homes(divide(given, seed=seed)) == homes(divide([given[i] for i in order], seed=seed))


def test_another_seed_gives_another_division_and_the_same_seed_the_same():
    given = made(200)
    assert homes(divide(given, seed=1)) == homes(divide(given, seed=1))
    assert homes(divide(given, seed=1)) != homes(divide(given, seed=2))


def test_the_exam_is_capped_and_the_rest_learnt_from():
    splits = divide(made(2000), exam_limit=50)
    assert len(splits["exam"]) == 50
    assert len(splits["valid"]) == pytest.approx(100, abs=1)


def test_given_splits_are_kept_and_missing_ones_cut_from_what_has_none():
    given = [*made(30, splits=("exam",)), *made(100, start=30), *made(50, start=130, splits=("train",))]
    splits = divide(given, valid=0.1)
    assert {e.source for e in splits["exam"]} == {g.example.source for g in given[:30]}
    assert {e.source for e in splits["valid"]} <= {g.example.source for g in given[30:130]}
    assert len(splits["valid"]) == pytest.approx(10, abs=1)
    assert len(splits["train"]) == 150 - len(splits["valid"])


def test_valid_is_cut_from_train_where_train_and_exam_are_given():
    splits = divide(made(100, splits=("train", "train", "train", "exam")), valid=0.2)
    assert len(splits["exam"]) == 25
    assert len(splits["valid"]) == pytest.approx(15, abs=1)


def test_an_example_without_a_split_follows_its_group():
    given = [*made(20, splits=("train", "exam"), groups=("a", "b")), *made(20, start=20, groups=("b", "", ""))]
    splits = divide(given)
    assert parted_groups(splits) == []
    assert len([e for e in splits["exam"] if e.group == "b"]) == 17


def test_groups_parted_by_the_files_are_named():
    splits = divide(made(40, splits=("train", "exam", "train"), groups=("a", "", "", "")), valid=0.1)
    assert parted_groups(splits) == ["a"]


def test_too_few_examples_are_refused_with_their_number():
    with pytest.raises(DataError, match=r"9 examples are too few .* 10 are needed"):
        divide(made(9))


def test_too_few_groups_are_refused_with_their_number():
    with pytest.raises(DataError, match=r"2 groups cannot fill train and 2 more splits"):
        divide(made(40, groups=("a", "b")))


def test_files_that_leave_nothing_to_learn_from_are_refused():
    with pytest.raises(DataError, match="no example is left for train"):
        divide(made(20, splits=("valid", "exam")))
