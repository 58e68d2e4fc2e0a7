import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from werkmeister.examining import clusters, statistics

GRADED = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12)


def grouped(members):
    """Scores and group names of a list of groups."""
    return [s for group in members for s in group], [f"g{i}" for i, group in enumerate(members) for _ in group]


def test_without_shared_groups_the_figures_are_those_of_independent_examples():
    generator = random.Random(0)
    for scores in ([generator.random() for _ in range(40)], [float(i % 3 > 0) for i in range(40)]):
        alone = [str(i) for i in range(40)]
        assert clusters.estimate(scores, alone, seed=1) == statistics.estimate(scores, seed=1)
        other = scores[::-1]
        expected = statistics.paired_difference(scores, other, seed=1)
        assert clusters.paired_difference(scores, other, alone, seed=1) == expected


@given(st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 3), min_size=2, max_size=12))
def test_with_groups_of_one_size_a_difference_is_the_t_interval_of_the_groups_means(members):
    a, groups = grouped(members)
    b = [0.5] * len(a)
    means = [float(np.mean(group)) - 0.5 for group in members]
    found = clusters.paired_difference(a, b, groups, seed=0)
    assert found.value == pytest.approx(np.mean(means), abs=1e-6)
    if np.std(means) > 1e-6:
        reference = stats.ttest_1samp(means, 0).confidence_interval(0.95)
        expected = (max(-1, reference.low), min(1, reference.high))
        assert (found.low, found.high) == pytest.approx(expected, abs=1e-6)
    assert -1 <= found.low < found.high <= 1


def test_the_interval_of_a_score_inverts_the_score_test_at_the_effective_number_of_examples():
    generator = np.random.default_rng(3)
    members = [(generator.random(4) < p).astype(float) for p in generator.beta(1.4, 0.6, size=30)]
    scores, groups = grouped(members)
    found = clusters.estimate(scores, groups, seed=0)
    means = np.array([np.mean(group) for group in members])
    p = means.mean()
    effective = min(120, p * (1 - p) / (means.var(ddof=1) / 30))
    t = stats.t.ppf(0.975, 29)
    for end in (found.low, found.high):
        # Wilson's ends are where the distance is z standard errors of the end itself; with t, z at fewer examples.
        assert abs(p - end) == pytest.approx(t * math.sqrt(end * (1 - end) / effective), rel=1e-6)
    assert found.value == pytest.approx(p) and found.n == 120 and effective < 80


def test_groups_that_answer_alike_count_as_one_example_each():
    scores, groups = grouped([[1.0] * 10] * 12 + [[0.0] * 10] * 8)
    found = clusters.estimate(scores, groups, seed=0)
    once = statistics.wilson(12, 20)
    assert found.low < once.low < once.high < found.high
    assert found.low == pytest.approx(once.low, abs=0.02) and found.high == pytest.approx(once.high, abs=0.02)


def test_all_right_in_a_few_groups_is_no_proof_of_perfection():
    many, few = (clusters.estimate(*grouped([[1.0] * size] * (120 // size)), seed=0) for size in (2, 30))
    assert many.high == few.high == 1.0
    assert few.low < 0.4 < 0.9 < many.low
    same = clusters.paired_difference([1.0] * 60, [0.5] * 60, [str(i // 5) for i in range(60)], seed=0)
    assert same.low < 0.5 < same.high and same.p < 0.01


def test_a_single_group_says_nothing_of_others():
    found = clusters.estimate([0.5, 1.0, 1.0], ["one"] * 3, seed=0)
    assert (found.low, found.high) == (0, 1)
    difference = clusters.paired_difference([1.0, 1.0], [0.0, 0.0], ["one"] * 2, seed=0)
    assert (difference.low, difference.high, difference.p) == (-1, 1, 1)


@given(st.lists(GRADED, min_size=1, max_size=8), st.lists(st.booleans(), min_size=1, max_size=96))
def test_every_interval_holds_its_value_and_a_difference_is_antisymmetric(members, flips):
    scores, groups = grouped(members)
    found = clusters.estimate(scores, groups, seed=0)
    assert 0 <= found.low <= found.value + 1e-9 and found.value - 1e-9 <= found.high <= 1
    other = [float(flips[i % len(flips)]) for i in range(len(scores))]
    there, back = (clusters.paired_difference(x, y, groups, seed=0) for x, y in ((scores, other), (other, scores)))
    assert (there.low, there.high, there.p) == pytest.approx((-back.high, -back.low, back.p), abs=1e-9)
    assert there.low < there.high


@pytest.mark.parametrize("count", [8, 40])
@pytest.mark.parametrize("share", [0.6, 0.95])
def test_the_intervals_hold_the_truth_where_those_of_independent_examples_lose_it(count, share):
    generator = np.random.default_rng(count)
    hits, independent = 0, 0
    for _ in range(300):
        rights = generator.beta(share * 2, (1 - share) * 2, size=count)
        members = [(generator.random(generator.integers(1, 8)) < p).astype(float) for p in rights]
        scores, groups = grouped(members)
        found, plain = clusters.estimate(scores, groups, seed=0), statistics.estimate(scores, seed=0)
        hits, independent = hits + (found.low <= share <= found.high), independent + (plain.low <= share <= plain.high)
    assert hits > 0.9 * 300 > independent


def test_how_far_two_kinds_are_apart_is_that_of_a_regression_with_clustered_errors():
    generator = np.random.default_rng(5)
    groups = [f"g{i}" for i in generator.integers(0, 15, size=90)]
    plus = [bool(x) for x in generator.random(90) < 0.3]
    a, b = ((generator.random(90) < 0.5).astype(float) for _ in range(2))
    found = clusters.contrast_difference(list(a), list(b), plus, groups)
    # The slope of the difference on the kind by least squares, with the sandwich of Liang and Zeger (1986).
    x, y = np.column_stack([np.ones(90), np.array(plus, dtype=float)]), a - b
    bread = np.linalg.inv(x.T @ x)
    slope = bread @ x.T @ y
    scores = [x[np.array(groups) == g].T @ (y - x @ slope)[np.array(groups) == g] for g in sorted({*groups})]
    error = math.sqrt((bread @ sum(np.outer(s, s) for s in scores) @ bread)[1, 1] * 15 / 14)
    t = stats.t.ppf(0.975, 14)
    assert found.value == pytest.approx(slope[1])
    assert (found.low, found.high) == pytest.approx((slope[1] - t * error, slope[1] + t * error))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(slope[1]) / error, 14))


def test_kinds_that_are_told_apart_perfectly_still_leave_doubt_and_one_kind_alone_is_refused():
    plus, groups = [True, False] * 20, [str(i // 2) for i in range(40)]
    found = clusters.contrast_difference([1.0, 0.0] * 20, [0.0] * 40, plus, groups)
    assert found.value == 1 and found.low < 1 and found.p < 0.01
    alone = clusters.contrast_difference([1.0, 0.0], [0.0, 0.0], [True, False], ["one", "one"])
    assert (alone.low, alone.high, alone.p) == (-2, 2, 1)
    with pytest.raises(ValueError, match="both kinds"):
        clusters.contrast_difference([1.0], [0.0], [True], ["a"])


def test_pairs_are_needed():
    with pytest.raises(ValueError, match="pairs"):
        clusters.paired_difference([1.0], [1.0, 0.0], ["a"], seed=0)
