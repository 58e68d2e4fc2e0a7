"""Reciprocal rank fusion: one ranking of several that are scored in different ways."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)

CONSTANT = 60
"""k of the method: how much the first ranks stand out."""

_EQUAL = 1e-6


def ranks(scored: Iterable[tuple[Item, float]]) -> dict[Item, int]:
    """The rank of each item by falling score, counted from 1; items of equal score share the best rank of theirs.

    Shared ranks matter where many passages hold the same words of a question: then words have no say among them, and
    meaning decides. An item that comes twice counts with its first score.
    """
    first: dict[Item, float] = {}
    for item, score in scored:
        first.setdefault(item, score)
    found: dict[Item, int] = {}
    rank, last = 0, 0.0
    for place, item in enumerate(sorted(first, key=lambda one: -first[one]), 1):
        if place == 1 or first[item] < last - _EQUAL:
            rank, last = place, first[item]
        found[item] = rank
    return found


def fuse(rankings: Sequence[Mapping[Item, int]], weights: Sequence[float] = (), constant: int = CONSTANT) -> list[Item]:
    """The items of all rankings by falling sum of weight / (constant + rank).

    What a ranking lacks gives nothing; items of equal sum keep the order in which they are first met. A ranking of
    weight 0 has no say at all. Source: Cormack, Clarke, Büttcher, Reciprocal Rank Fusion (SIGIR 2009).
    """
    weights = weights or [1.0] * len(rankings)
    sums: dict[Item, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        if weight <= 0:
            continue
        for item, rank in ranking.items():
            sums[item] = sums.get(item, 0.0) + weight / (constant + rank)
    return sorted(sums, key=lambda item: -sums[item])
