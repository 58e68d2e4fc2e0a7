from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from werkmeister.consulting.fusion import CONSTANT, fuse, ranks

RANKINGS = st.lists(st.lists(st.integers(0, 20), unique=True, max_size=12), min_size=1, max_size=4)


def test_equal_scores_share_their_best_rank():
    assert ranks([("a", 1.0), ("b", 3.0), ("c", 3.0), ("d", 0.5)]) == {"b": 1, "c": 1, "a": 3, "d": 4}


def test_an_item_that_comes_twice_counts_with_its_first_score():
    assert ranks([("a", 1.0), ("b", 2.0), ("a", 9.0)]) == {"b": 1, "a": 2}


def test_what_both_rankings_know_beats_what_one_of_them_ranks_first():
    assert fuse([{"a": 1, "b": 2}, {"c": 1, "b": 2}])[0] == "b"


def test_a_ranking_without_weight_has_no_say():
    assert fuse([{"a": 1}, {"b": 1, "c": 2}], [0.0, 1.0]) == ["b", "c"]


@given(RANKINGS)
def test_the_fusion_equals_the_sum_of_reciprocal_ranks_in_exact_numbers(rankings):
    ranked = [{item: place for place, item in enumerate(ranking, 1)} for ranking in rankings]
    sums: dict[int, Fraction] = {}
    for ranking in ranked:
        for item, rank in ranking.items():
            sums[item] = sums.get(item, Fraction(0)) + Fraction(1, CONSTANT + rank)
    fused = fuse(ranked)
    assert sorted(fused) == sorted(sums)
    for first, second in itertools.pairwise(fused):
        assert sums[first] >= sums[second] - Fraction(1, 10**12)


@given(st.lists(st.integers(0, 20), unique=True, min_size=1))
def test_one_ranking_alone_keeps_its_order(ranking):
    assert fuse([{item: place for place, item in enumerate(ranking, 1)}]) == ranking


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), max_size=20))
def test_ranks_count_how_many_are_better(scored):
    found = ranks(scored)
    first = dict(reversed(scored))
    for item, rank in found.items():
        better = sum(1 for other in first.values() if other > first[item])
        assert rank <= better + 1 and rank == pytest.approx(rank)
