import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq, minimize_scalar
from sklearn.metrics import f1_score

from werkmeister.examining.statistics import (
    Difference,
    estimate,
    macro_f1,
    macro_f1_difference,
    macro_f1_estimate,
    mcnemar,
    paired_difference,
    sign_flip,
    wilson,
)


@given(st.integers(1, 3000), st.data())
def test_wilson_is_that_of_scipy(n, data):
    successes = data.draw(st.integers(0, n))
    reference = stats.binomtest(successes, n).proportion_ci(method="wilson")
    ours = wilson(successes, n)
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=1e-9)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_pairs(gained, lost):
    reference = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(reference, rel=1e-6)


def test_mcnemar_holds_for_counts_beyond_a_float():
    assert mcnemar(3000, 2800) == pytest.approx(stats.binomtest(3000, 5800).pvalue, rel=1e-6)


def tango_by_likelihood(gained: int, lost: int, n: int) -> tuple[float, float]:
    """Tango's interval found the long way: the nuisance share maximises the multinomial likelihood numerically."""

    def log_likelihood(share: float, delta: float) -> float:
        p12, p21 = share + delta, share
        rest = 1 - p12 - p21
        parts = ((gained, p12), (lost, p21), (n - gained - lost, rest))
        if any(p < 0 or (p == 0 and count) for count, p in parts):
            return -math.inf
        return sum(count * math.log(p) for count, p in parts if count)

    def score(delta: float) -> float:
        low, high = max(0.0, -delta), (1 - delta) / 2
        found = minimize_scalar(
            lambda s: -log_likelihood(s, delta), bounds=(low, high), method="bounded", options={"xatol": 1e-12}
        ).x
        return (gained - lost - n * delta) / math.sqrt(n * (2 * found + delta - delta * delta))

    z, value = stats.norm.ppf(0.975), (gained - lost) / n
    return (
        brentq(lambda d: score(d) - z, -0.999, value - 1e-9),
        brentq(lambda d: score(d) + z, value + 1e-9, 0.999),
    )


@pytest.mark.parametrize(("gained", "lost", "n"), [(9, 3, 50), (1, 7, 60), (20, 20, 200), (120, 5, 200), (2, 4, 200)])
def test_the_interval_of_a_paired_difference_inverts_the_score_test(gained, lost, n):
    a = [1.0] * gained + [0.0] * lost + [1.0] * (n - gained - lost)
    b = [0.0] * gained + [1.0] * lost + [1.0] * (n - gained - lost)
    found = paired_difference(a, b, seed=0)
    assert (found.low, found.high) == pytest.approx(tango_by_likelihood(gained, lost, n), abs=1e-4)
    assert found.value == pytest.approx((gained - lost) / n)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_paired_difference_of_right_and_wrong_is_antisymmetric_and_within_its_interval(pairs):
    a, b = [float(x) for x, _ in pairs], [float(y) for _, y in pairs]
    there, back = paired_difference(a, b, seed=0), paired_difference(b, a, seed=0)
    assert -1 <= there.low <= there.value + 1e-9 and there.value - 1e-9 <= there.high <= 1
    assert (there.low, there.high, there.p) == pytest.approx((-back.high, -back.low, back.p), abs=1e-9)
    assert there.low < there.high


def test_two_answerers_that_agree_everywhere_still_have_an_interval_of_width():
    same = paired_difference([1.0] * 100, [1.0] * 100, seed=0)
    z2 = stats.norm.ppf(0.975) ** 2
    assert (same.value, same.p) == (0, 1)
    assert (same.low, same.high) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)), abs=1e-6)


def test_bca_of_a_skewed_mean_is_that_of_scipy():
    scores = np.random.default_rng(4).beta(0.5, 0.2, size=80)
    reference = stats.bootstrap(
        (scores,), np.mean, n_resamples=20_000, method="BCa", random_state=1
    ).confidence_interval
    ours = estimate(list(scores), seed=3)
    assert ours.method == "bootstrap"
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=0.006)
    assert estimate(list(scores), seed=3) == ours


def test_sign_flips_are_those_of_scipys_permutation_test():
    generator = np.random.default_rng(7)
    differences = list(generator.normal(0.08, 0.3, size=40))
    reference = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20_000, random_state=1
    ).pvalue
    assert sign_flip(differences, seed=2) == pytest.approx(reference, abs=0.02)
    assert sign_flip([0.5] * 60, seed=2) == pytest.approx(1 / 4001)


def test_graded_scores_are_compared_by_a_paired_bootstrap():
    generator = random.Random(1)
    b = [generator.random() for _ in range(120)]
    a = [min(1.0, x + 0.1) for x in b]
    better = paired_difference(a, b, seed=0)
    assert better.low > 0.08 and better.high < 0.11 and better.p < 0.001
    # Unpaired, the spread of the scores would drown the difference.
    assert estimate(a, seed=0).low < estimate(b, seed=0).high


def test_equal_graded_scores_have_an_interval_that_is_not_empty():
    found = estimate([0.5] * 30, seed=0)
    assert found.low < 0.5 < found.high


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcx")), min_size=1, max_size=60))
def test_macro_f1_over_the_classes_of_the_exam_is_that_of_scikit_learn(pairs):
    true, named = [t for t, _ in pairs], [n for _, n in pairs]
    reference = f1_score(true, named, labels=sorted(set(true)), average="macro", zero_division=0)
    assert macro_f1(true, named) == pytest.approx(reference)


def test_macro_f1_has_an_interval_and_a_paired_difference():
    generator = random.Random(3)
    true = [generator.choice("abcd") for _ in range(200)]
    good = [t if generator.random() < 0.9 else "a" for t in true]
    poor = [t if generator.random() < 0.6 else "b" for t in true]
    found = macro_f1_estimate(true, good, seed=0)
    assert found.low < found.value < found.high and found.high - found.low < 0.15
    better = macro_f1_difference(true, good, poor, seed=0)
    assert better.value == pytest.approx(macro_f1(true, good) - macro_f1(true, poor))
    assert better.low > 0 and better.p < 0.01
    assert macro_f1_difference(true, good, good, seed=0).p == 1


def test_ninety_five_per_cent_intervals_of_a_paired_difference_hold_the_truth_as_often():
    generator = random.Random(5)
    hits, rounds = 0, 400
    for _ in range(rounds):
        gained = lost = 0
        for _ in range(80):
            draw = generator.random()
            gained, lost = gained + (draw < 0.06), lost + (0.06 <= draw < 0.16)
        a = [1.0] * gained + [0.0] * (80 - gained)
        b = [0.0] * gained + [1.0] * lost + [0.0] * (80 - gained - lost)
        found = paired_difference(a, b, seed=0)
        hits += found.low <= -0.04 <= found.high
    assert stats.binomtest(hits, rounds, 0.95).pvalue > 0.001


def test_worse_means_by_more_than_the_margin_and_proven_means_by_the_whole_interval():
    def difference(value, low, high):
        return Difference(value=value, low=low, high=high, p=0.5, n=200, method="")

    assert not difference(-0.02, -0.05, 0.01).worse_than(0.02)
    assert not difference(-0.02, -0.05, 0.01).proven(0.02)
    assert difference(0.0, -0.015, 0.015).proven(0.02)
    assert difference(-0.03, -0.06, 0.0).worse_than(0.02) and not difference(-0.03, -0.06, 0.0).proven(0.02)
    assert difference(-0.3, -0.4, -0.2).worse_than(0.02) and difference(-0.3, -0.4, -0.2).proven(0.02)


def test_scores_that_cannot_be_estimated_are_refused():
    with pytest.raises(ValueError):
        wilson(0, 0)
    with pytest.raises(ValueError):
        paired_difference([1.0], [1.0, 0.0], seed=0)
