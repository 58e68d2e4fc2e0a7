"""Rows of a training with the weights of their examples, and their way into a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from werkmeister.chat import Example

WEIGHTS = "weights"
"""The column of a row that says how often each of its tokens counts; rows have it where some example weighs not 1."""

Row = dict[str, Any]


def weigh(rows: Sequence[Row], examples: Sequence[Example]) -> None:
    """Give each row the weight of its example, a number a token; nothing where all weigh 1."""
    if all(example.weight == 1 for example in examples):
        return
    for row, example in zip(rows, examples, strict=True):
        row[WEIGHTS] = [example.weight] * len(row["labels"])


class WeightCollator:
    """A collator that takes the rows' weights along, padded with 0 to the shape of the labels."""

    def __init__(self, inner: Callable[[list[Row]], Row]) -> None:
        self._inner = inner

    def __call__(self, rows: list[Row]) -> Row:
        """The batch of these rows."""
        import torch

        batch = self._inner(rows)
        if WEIGHTS not in rows[0]:
            return batch
        weights = torch.zeros(batch["labels"].shape, dtype=torch.float32)
        for number, row in enumerate(rows):
            weights[number, : len(row[WEIGHTS])] = torch.tensor(row[WEIGHTS])
        return batch | {WEIGHTS: weights}
