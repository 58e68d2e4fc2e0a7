"""General examples that are learnt beside an expert's own, so that it forgets less of what its base could do.

Where the person brings no file of them (dataset.replay), the base itself answers general prompts that ship with
Werkmeister, and learns from its own answers. They are drawn at temperature 1: then the model's expected gradient on
them is zero as long as it still is the base, and pulls it back from where it strays (the likelihood of a model's own
samples is the cross-entropy of its own distribution). Source of replay against forgetting: Robins 1995, "Catastrophic
Forgetting, Rehearsal and Pseudorehearsal".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from werkmeister.building.choosing import spread
from werkmeister.building.runs import read_lines
from werkmeister.chat import Example, conversation, example_from_record
from werkmeister.engines.engine import Sampling
from werkmeister.progress import Progress

if TYPE_CHECKING:
    from werkmeister.bases.base import Base

LONGEST_ANSWER = 64
LONGEST = 128
"""Tokens of an answer of the base, and of a prompt with its answer: general examples must not make batches longer."""
_MOST_ANSWERS = 512
"""So many answers are drawn at most; where more are asked for, they are seen more often."""
PROMPTS = Path(__file__).with_name("general_prompts.txt")


@dataclass(frozen=True)
class Replayed:
    """A general example; `cut` says that its answer was cut off, so that no end of it may be learnt."""

    example: Example
    cut: bool = False


def needed(share: float, examples: int) -> int:
    """How many general examples make up `share` of all, beside `examples` of the expert's own."""
    return max(1, round(examples * share / (1 - share))) if share else 0


def general_prompts() -> list[str]:
    """The general prompts that ship with Werkmeister, in German and English by turns."""
    lines = PROMPTS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def general_examples(
    count: int, *, own: Sequence[Example], base: Base, seed: int, kept: Path, progress: Progress
) -> list[Replayed]:
    """`count` general examples: of the person's `own` where there are any, else answers of the base.

    Fewer may be had than asked for; then they come again. `kept` is the file in which the base's answers stay, so that
    a resumed run learns from the same ones.
    """
    if own:
        found = [Replayed(example) for example in spread(own, count)]
    else:
        found = _read(kept) or _answered(min(count, _MOST_ANSWERS), base, seed, kept, progress)
    return [found[i % len(found)] for i in range(count)]


def _answered(count: int, base: Base, seed: int, kept: Path, progress: Progress) -> list[Replayed]:
    from werkmeister.engines.transformers import open_transformers

    prompts = general_prompts()
    found: list[Replayed] = []
    with (
        progress.track("the base answers general prompts", count) as track,
        open_transformers(base, batch_size=32) as engine,
    ):
        while len(found) < count:
            asked = [conversation(prompt) for prompt in prompts[: count - len(found)]]
            drawn = Sampling(max_tokens=LONGEST_ANSWER, temperature=1.0, seed=seed * 1009 + len(found))
            for prompt, reply in zip(asked, engine.replies(asked, drawn), strict=True):
                example = Example(prompt=prompt, target=reply.text.strip(), source=f"answer of {base.name}")
                found.append(Replayed(example, reply.finish == "length"))
                track.advance()
    found = [one for one in found if one.example.target]
    lines = [one.example.record() | {"cut": one.cut} for one in found]
    partial = kept.with_suffix(".writing")
    partial.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    partial.replace(kept)
    return found


def _read(kept: Path) -> list[Replayed]:
    return [Replayed(example_from_record(line), line["cut"]) for line in read_lines(kept)]
