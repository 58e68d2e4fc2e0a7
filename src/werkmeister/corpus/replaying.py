"""A person's general examples on their way into a dataset artefact, for train.replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from werkmeister.bases.base import Base
from werkmeister.chat import Example, write_examples
from werkmeister.errors import DataError
from werkmeister.progress import Progress

if TYPE_CHECKING:
    from werkmeister.corpus.reading import Source


def write_replay(
    sources: Sequence[Source],
    splits: Mapping[str, Sequence[Example]],
    base: Base,
    limit: int,
    folder: Path,
    progress: Progress,
) -> dict[str, int]:
    """Write replay.jsonl into `folder`, and return how many examples it holds and the longest of them in tokens.

    They get no system message and no split. Left out is what is longer than `limit` tokens, and what asks a question of
    `splits` outside of train: nobody may learn what the exam asks. Raises DataError when nothing is left.
    """
    from werkmeister.bases.tokens import count_tokens, load_tokenizer

    examples = [one.example for source in sources for one in source.given]
    held = {example.question for name, own in splits.items() if name != "train" for example in own}
    counts = count_tokens(load_tokenizer(base), examples)
    kept = {e: n for e, n in zip(examples, counts, strict=True) if n <= limit and e.question not in held}
    if not kept:
        raise DataError(
            f"none of the {len(examples):,} examples of dataset.replay can be used: each is longer than {limit:,} "
            "tokens, or asks what the exam or the validation asks",
            hint="shorten them, or name another file in dataset.replay",
        )
    write_examples(folder / "replay.jsonl", kept)
    progress.say(f"{len(kept):,} of {len(examples):,} general examples kept for train.replay")
    return {"examples": len(kept), "longest_tokens": max(kept.values())}
