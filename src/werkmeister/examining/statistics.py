"""Scores with confidence intervals, and paired differences with an interval and a p-value.

Scores of 0 or 1 use closed forms: Wilson's interval (1927), Tango's score interval for a paired difference (1998),
McNemar's exact test. All others use the seeded bootstrap (BCa, Efron 1987) and a seeded sign-flip test. Each treats
the examples as independent of one another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

CONFIDENCE = 0.95
RESAMPLES = 4000
_AT_ONCE = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score with the ends of its interval; `method` names the interval."""

    value: float
    low: float
    high: float
    n: int
    method: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Score of one answerer minus the other's on the same `n` examples, with its interval and two-sided p-value."""

    value: float
    low: float
    high: float
    p: float
    n: int
    method: str

    def worse_than(self, margin: float) -> bool:
        """Whether the first is measured to be worse by more than `margin` (the value itself, proven or not)."""
        return self.value < -margin - 1e-12

    def proven(self, margin: float) -> bool:
        """Whether the interval bears out `worse_than(margin)`, yes or no: it lies wholly on one side of −margin."""
        return self.high < -margin if self.worse_than(margin) else self.low > -margin


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """A share with Wilson's score interval. Raises ValueError when `n` is 0."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} of {n} is no share")
    z = _z(confidence)
    share, spread = successes / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    # At the ends the interval reaches 0 or 1 exactly, which floating point misses by an ulp.
    low, high = 0.0 if successes == 0 else middle - half, 1.0 if successes == n else middle + half
    return Estimate(value=share, low=max(0.0, low), high=min(1.0, high), n=n, method="Wilson")


def estimate(scores: Sequence[float], *, seed: int, confidence: float = CONFIDENCE) -> Estimate:
    """The mean of scores with its interval: Wilson where all are 0 or 1, else BCa bootstrap.

    Where every score is the same and no bootstrap can say anything, the ends are those of Wilson's interval around
    that score, which is wider than the truth and never empty.
    """
    if _binary(scores):
        return wilson(round(sum(scores)), len(scores), confidence)
    mean = math.fsum(scores) / len(scores)
    low, high = bootstrap([list(scores)], _mean, seed=seed, confidence=confidence)
    if low == high:
        half = wilson(0, len(scores), confidence).high
        low, high = max(0.0, mean - half), min(1.0, mean + half)
    return Estimate(value=mean, low=low, high=high, n=len(scores), method="bootstrap")


def paired_difference(
    a: Sequence[float], b: Sequence[float], *, seed: int, confidence: float = CONFIDENCE
) -> Difference:
    """Mean of `a` minus mean of `b`, where a[i] and b[i] are marks of the same example."""
    if len(a) != len(b) or not a:
        raise ValueError(f"pairs are needed, and there are {len(a)} and {len(b)} scores")
    differences = [x - y for x, y in zip(a, b, strict=True)]
    value = math.fsum(differences) / len(differences)
    if _binary(a) and _binary(b):
        gained, lost = differences.count(1.0), differences.count(-1.0)
        low, high = _tango(gained, lost, len(a), _z(confidence))
        p = mcnemar(gained, lost)
        return Difference(value=value, low=low, high=high, p=p, n=len(a), method="Tango, McNemar exact")
    low, high = bootstrap([differences], _mean, seed=seed, confidence=confidence)
    p = sign_flip(differences, seed=seed)
    return Difference(value=value, low=low, high=high, p=p, n=len(a), method="paired bootstrap, sign flips")


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p-value of McNemar's test from the two counts of discordant pairs."""
    n = gained + lost
    if n == 0:
        return 1.0
    ways = tail = 1
    for i in range(min(gained, lost)):
        ways = ways * (n - i) // (i + 1)
        tail += ways
    share: float = 2 * tail / 2**n
    return min(1.0, share)


def sign_flip(differences: Sequence[float], *, seed: int, resamples: int = RESAMPLES) -> float:
    """Two-sided p-value of the hypothesis that each difference could as well have the other sign.

    Drawn at random, with the observed signs counted among the draws, so p is never 0.
    """
    import numpy as np

    values = np.asarray(differences, dtype=float)
    observed, generator, hits = abs(values.sum()), np.random.default_rng(seed), 0
    for count in _portions(resamples, len(values)):
        signs = generator.integers(0, 2, size=(count, len(values))) * 2 - 1
        hits += int((np.abs(signs @ values) >= observed - 1e-12).sum())
    return (hits + 1) / (resamples + 1)


def macro_f1(classes: Sequence[str], named: Sequence[str]) -> float:
    """The mean over the classes of the exam of each class's F1; a named class outside them is only a miss."""
    codes = {name: code for code, name in enumerate(dict.fromkeys(classes))}
    import numpy as np

    rows = np.array([[codes[c] for c in classes], [codes.get(n, -1) for n in named]])
    return float(_macro_f1(rows[:, None, :], len(codes))[0])


def macro_f1_estimate(classes: Sequence[str], named: Sequence[str], *, seed: int) -> Estimate:
    """Macro F1 with a percentile bootstrap interval over the examples (classes stay those of the whole exam)."""
    codes = {name: code for code, name in enumerate(dict.fromkeys(classes))}
    rows = [[float(codes[c]) for c in classes], [float(codes.get(n, -1)) for n in named]]
    value = macro_f1(classes, named)
    low, high = bootstrap(rows, lambda drawn: _macro_f1(drawn, len(codes)), seed=seed, corrected=False)
    # With few examples most draws lack a class, and the percentiles may lie beside the value itself.
    return Estimate(value=value, low=min(low, value), high=max(high, value), n=len(classes), method="bootstrap")


def macro_f1_difference(classes: Sequence[str], a: Sequence[str], b: Sequence[str], *, seed: int) -> Difference:
    """Macro F1 of the classes named by `a` minus that of `b`, by paired percentile bootstrap; p by inverting it."""
    codes = {name: code for code, name in enumerate(dict.fromkeys(classes))}
    rows = [[float(codes[c]) for c in classes], *([float(codes.get(n, -1)) for n in many] for many in (a, b))]
    drawn = _resampled(rows, lambda x: _macro_f1(x[[0, 1]], len(codes)) - _macro_f1(x[[0, 2]], len(codes)), seed)
    value = macro_f1(classes, a) - macro_f1(classes, b)
    low, high = _quantiles(drawn, (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    least = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (least + 1) / (len(drawn) + 1))
    return Difference(value=value, low=low, high=high, p=p, n=len(classes), method="paired bootstrap")


def bootstrap(
    rows: Sequence[Sequence[float]],
    statistic: Callable[[Any], Any],
    *,
    seed: int,
    confidence: float = CONFIDENCE,
    corrected: bool = True,
) -> tuple[float, float]:
    """The bootstrap interval of a statistic of columns that are drawn together.

    `statistic` takes an array (rows, draws, n) and gives one value a draw. `corrected` uses BCa, else percentiles.
    """
    import numpy as np

    drawn = _resampled(rows, statistic, seed)
    alpha = (1 - confidence) / 2
    levels = (alpha, 1 - alpha)
    if corrected:
        data = np.asarray(rows, dtype=float)
        observed = float(statistic(data[:, None, :])[0])
        levels = _bca_levels(drawn, observed, _jackknife(data, statistic), alpha)
    return _quantiles(drawn, *levels)


def _resampled(rows: Sequence[Sequence[float]], statistic: Callable[[Any], Any], seed: int) -> Any:
    import numpy as np

    data, generator = np.asarray(rows, dtype=float), np.random.default_rng(seed)
    n = data.shape[1]
    parts = [statistic(data[:, generator.integers(0, n, size=(count, n))]) for count in _portions(RESAMPLES, n)]
    return np.concatenate(parts)


def _bca_levels(drawn: Any, observed: float, left_out: Any, alpha: float) -> tuple[float, float]:
    normal = NormalDist()
    below = (float((drawn < observed).mean()) + float((drawn <= observed).mean())) / 2
    deviations = left_out.mean() - left_out
    spread = float((deviations**2).sum())
    if not 0 < below < 1 or spread == 0:
        return alpha, 1 - alpha
    bias, skew = normal.inv_cdf(below), float((deviations**3).sum()) / (6 * spread**1.5)
    ends = []
    for level in (alpha, 1 - alpha):
        z = bias + normal.inv_cdf(level)
        ends.append(normal.cdf(bias + z / (1 - skew * z)))
    return ends[0], ends[1]


def _jackknife(data: Any, statistic: Callable[[Any], Any]) -> Any:
    import numpy as np

    n = data.shape[1]
    return np.array([statistic(np.delete(data, i, axis=1)[:, None, :])[0] for i in range(n)])


def _macro_f1(rows: Any, classes: int) -> Any:
    """Macro F1 of an array (2, draws, n) of true and named class numbers (−1: none of them), one value a draw."""
    import numpy as np

    true, named = rows[0], rows[1]
    total = np.zeros(true.shape[0])
    for code in range(classes):
        is_true, is_named = true == code, named == code
        hits = (is_true & is_named).sum(axis=1)
        sizes = is_true.sum(axis=1) + is_named.sum(axis=1)
        total += np.where(sizes > 0, 2 * hits / np.maximum(sizes, 1), 0.0)
    return total / classes


def _mean(rows: Any) -> Any:
    return rows[0].mean(axis=1)


def _quantiles(drawn: Any, low: float, high: float) -> tuple[float, float]:
    import numpy as np

    return float(np.quantile(drawn, low)), float(np.quantile(drawn, high))


def _tango(gained: int, lost: int, n: int, z: float) -> tuple[float, float]:
    """Tango's score interval for a paired difference of shares (Statistics in Medicine 17, 1998, 891–908)."""

    def score(delta: float) -> float:
        # The nuisance share of lost pairs is put at its likeliest value given the difference `delta`.
        b = -gained - lost + (2 * n - gained + lost) * delta
        c = -lost * delta * (1 - delta)
        share = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        variance = n * (2 * share + delta * (1 - delta))
        return (gained - lost - n * delta) / math.sqrt(variance) if variance > 1e-12 else math.inf

    value = (gained - lost) / n
    low = -1.0 if lost == n else _root(lambda d: score(d) - z, -1.0, value)
    high = 1.0 if gained == n else _root(lambda d: score(d) + z, value, 1.0)
    return low, high


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that falls from `low` to `high` crosses zero, by halving."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2


def _portions(resamples: int, n: int) -> list[int]:
    """How many draws to hold in memory at once."""
    size = max(1, _AT_ONCE // max(1, n))
    return [min(size, resamples - done) for done in range(0, resamples, size)]


def _binary(scores: Sequence[float]) -> bool:
    return all(score in (0.0, 1.0) for score in scores)


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
