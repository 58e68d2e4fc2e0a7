"""What a training run sees: rows of token ids with their labels, the general ones beside the expert's own, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.artefact import Artefact
from werkmeister.building.order import padding_share, training_order
from werkmeister.building.recipe import Recipe
from werkmeister.building.replay import LONGEST, Replayed, general_examples, needed
from werkmeister.building.settings import TrainSettings
from werkmeister.building.weighing import weigh
from werkmeister.chat import Example, read_examples
from werkmeister.errors import TrainingError
from werkmeister.progress import Progress

if TYPE_CHECKING:
    from werkmeister.bases.base import Base

VALID_LIMIT = 128
"""Validation examples that a run looks at: enough to rank checkpoints, few enough to cost a minute at most."""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """`train` and `valid` rows, the `order` in which indices of train are seen, the examples of `valid`, how many rows
    of train are `general`, and the tokens of the order without padding."""

    train: list[Row]
    valid: list[Row]
    order: list[int]
    valid_examples: list[Example]
    general: int
    tokens: int


def longest_tokens(data: Artefact, settings: TrainSettings) -> int:
    """The longest example that training sees, in tokens, general ones included."""
    own = int(data.facts["longest_tokens"])
    if not settings.replay:
        return own
    return max(own, int(data.facts.get("replay", {}).get("longest_tokens", LONGEST)))


def make_rows(
    base: Base, data: Artefact, settings: TrainSettings, recipe: Recipe, kept: Path, progress: Progress
) -> Rows:
    """Read and tokenise the examples of a dataset artefact; `kept` is the file for the base's answers to replay.

    Raises TrainingError when every label is masked.
    """
    from werkmeister.bases.tokens import load_tokenizer

    tokenizer = load_tokenizer(base)
    own = list(read_examples(data.file("train.jsonl")))
    valid = list(read_examples(data.file("valid.jsonl")))[:VALID_LIMIT]
    rows = _tokenised(tokenizer, own)
    learnt = _learnt(rows)
    if not learnt:
        raise TrainingError(
            "no token is left to learn: every label is masked",
            hint="look at train.jsonl of the dataset: are the answers empty?",
        )
    progress.say(_masked_sample(tokenizer, rows[0]))
    general = _general(base, data, settings, len(own), kept, progress)
    rows += _general_rows(tokenizer, general)
    weigh(rows, [*own, *(one.example for one in general)])
    lengths = [len(row["input_ids"]) for row in rows]
    # Rows without padding gain nothing by like lengths, and batches in chance order are of like size.
    order = training_order(
        [1] * len(rows) if recipe.packed else lengths,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    tokens = sum(lengths[i] for i in order)
    padding = 0.0 if recipe.packed else padding_share(lengths, order, recipe.micro_batch, recipe.width_step)
    beside = f", {len(general):,} general ones an epoch" if general else ""
    progress.say(
        f"{len(order):,} examples in {-(-len(order) // settings.batch_size):,} steps{beside}, {tokens:,} tokens "
        f"({_learnt(rows) / sum(lengths):.0%} learnt, {padding:.1%} padding on top)"
    )
    return Rows(
        train=rows,
        valid=_tokenised(tokenizer, valid),
        order=order,
        valid_examples=valid,
        general=len(general),
        tokens=tokens,
    )


def _general(
    base: Base, data: Artefact, settings: TrainSettings, examples: int, kept: Path, progress: Progress
) -> list[Replayed]:
    count = needed(settings.replay, examples)
    if not count:
        return []
    brought = list(read_examples(data.file("replay.jsonl"))) if "replay.jsonl" in data.outputs else []
    return general_examples(count, own=brought, base=base, seed=settings.seed, kept=kept, progress=progress)


def _general_rows(tokenizer: Any, general: Sequence[Replayed]) -> list[Row]:
    rows = _tokenised(tokenizer, [one.example for one in general])
    for row, one in zip(rows, general, strict=True):
        if one.cut:
            # The last token says that the answer ends here, and it does not.
            for column in row.values():
                column.pop()
    return rows


def _tokenised(tokenizer: Any, examples: Sequence[Example]) -> list[Row]:
    from werkmeister.bases.tokens import examples_ids

    return [
        {"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion}
        for prompt, completion in examples_ids(tokenizer, examples)
    ]


def _learnt(rows: Sequence[Row]) -> int:
    return sum(label != -100 for row in rows for label in row["labels"])


def _masked_sample(tokenizer: Any, row: Row) -> str:
    """One example as the loss sees it: the masked part in ⟨⟩, the learnt part behind it."""
    start = next(i for i, label in enumerate(row["labels"]) if label != -100)
    masked, learnt = tokenizer.decode(row["input_ids"][:start]), tokenizer.decode(row["input_ids"][start:])
    return f"masked ⟨{masked.strip()}⟩ learnt: {learnt}"
