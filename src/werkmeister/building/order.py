"""The order in which training sees its examples: fixed by the seed, so that a resumed run continues it exactly."""

from __future__ import annotations

import random
from collections.abc import Sequence

_POOL = 50
"""Batches that are sorted by length together: enough to make lengths alike, few enough to keep the order random."""


def training_order(lengths: Sequence[int], *, epochs: float, batch_size: int, seed: int) -> list[int]:
    """Indices of all examples in the order of training, `round(epochs * len(lengths))` of them.

    Each whole epoch sees every example once. Within an epoch, batches hold examples of similar length (less padding)
    and the batches come in random order.
    """
    total = max(1, round(epochs * len(lengths)))
    order: list[int] = []
    epoch = 0
    while len(order) < total:
        order += _epoch(lengths, batch_size, random.Random(f"{seed}/{epoch}"))
        epoch += 1
    return order[:total]


def padding_share(lengths: Sequence[int], order: Sequence[int], batch_size: int, step: int = 1) -> float:
    """Share of padding among all tokens that the given order will compute; widths are rounded up to `step`."""
    real = padded = 0
    for start in range(0, len(order), batch_size):
        batch = [lengths[i] for i in order[start : start + batch_size]]
        real += sum(batch)
        padded += -(-max(batch) // step) * step * len(batch)
    return 1 - real / padded


def _epoch(lengths: Sequence[int], batch_size: int, rng: random.Random) -> list[int]:
    shuffled = list(range(len(lengths)))
    rng.shuffle(shuffled)
    batches = []
    pool = batch_size * _POOL
    for start in range(0, len(shuffled), pool):
        chunk = sorted(shuffled[start : start + pool], key=lambda i: lengths[i])
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    # A short last batch stays last: it must not shift the boundaries of the batches behind it.
    last = [batches.pop()] if len(batches[-1]) < batch_size else []
    rng.shuffle(batches)
    return [index for batch in [*batches, *last] for index in batch]
