"""Who sits the exam of an expert, with which files, and what exactly each is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from werkmeister.artefact import Artefact
from werkmeister.chat import Conversation, Example
from werkmeister.errors import SettingsError
from werkmeister.examining.results import RIVALS
from werkmeister.examining.shots import choose_shots, short_examples, with_shots
from werkmeister.examining.sitting import Job
from werkmeister.machine import threads_by_load
from werkmeister.progress import Progress

if TYPE_CHECKING:
    from werkmeister.bases.base import Base

FILES = "files"
ADAPTER = "adapter"
FEW_SHOT = "base few-shot"
EVERYONE = (*RIVALS, ADAPTER, FILES)
# The memory for a context is taken at once: as much as an engine sets up unasked, and more only where it is needed.
_USUAL_CONTEXT = 8192


@dataclass(frozen=True, kw_only=True)
class Room:
    """The base, where one is needed, and how long an answer and a context may be, in tokens."""

    base: Base | None
    max_tokens: int
    shots: int
    context: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Seat:
    """The job of one answerer; `few` says that it is asked the smaller choice of examples."""

    job: Job
    few: bool


def names_of(wanted: Sequence[str], shots: int, exported: Artefact) -> list[str]:
    """The answerers by name, in the order of the table. Raises SettingsError for one that is not there."""
    files = [*exported.facts["files"], *_overlay_name(exported)]
    known = [*RIVALS, ADAPTER, *files]
    unknown = [name for name in wanted if name not in (*known, FILES)]
    everyone = {*wanted, *(files if FILES in wanted else ())} - ({FEW_SHOT} if shots == 0 else set())
    names = [name for name in known if name in everyone]
    if unknown or not names:
        raise SettingsError(
            "exam.answerers names answerers that are not there" if unknown else "exam.answerers leaves nobody to ask",
            problems=[repr(name) for name in unknown],
            hint=f"use some of: {', '.join((*EVERYONE, *files))}",
        )
    return names


def _overlay_name(exported: Artefact) -> list[str]:
    """The name of the adapter on the quantised base, where the export has it."""
    overlay = exported.facts.get("overlay")
    return [overlay["name"]] if overlay else []


def needs_base(names: Sequence[str], exported: Artefact, max_tokens: int) -> bool:
    """Whether the base's own files are needed: to answer, or for its tokenizer."""
    own = {"base", FEW_SHOT, ADAPTER, *_overlay_name(exported)}
    return bool(own & {*names}) or (max_tokens == 0 and [*names] != ["baseline"])


def measure_room(
    data: Artefact,
    base: Base | None,
    pool: Sequence[Example],
    training: Sequence[Example],
    names: Sequence[str],
    max_tokens: int,
    shots: int,
    progress: Progress,
) -> Room:
    """Derive the longest answer from the longest target, and how many examples fit a few-shot prompt."""
    most = max_tokens
    if not most and base:
        longest = _longest(base, sorted({example.target for example in (*pool, *training)}))
        most = round(longest * 1.25) + 8
        progress.say(f"longest answer: {most} tokens (the longest target has {longest})")
    limit, one = data.facts["base"]["context_length"], data.facts["longest_tokens"]
    short = short_examples(training) if shots and base and FEW_SHOT in names else []
    shot = _longest_example(base, short) if base and short else one
    fitting = max(0, min(shots, (limit - most - one) // max(1, shot)))
    if fitting < shots and FEW_SHOT in names:
        progress.say(f"{fitting} instead of {shots} examples fit the prompt of '{FEW_SHOT}'")
    needed = one + fitting * shot + most
    context = 0 if needed <= _USUAL_CONTEXT else min(limit, needed)
    return Room(base=base, max_tokens=most, shots=fitting, context=context, threads=threads_by_load())


def take_seat(name: str, room: Room, exported: Artefact, trained: Artefact, data: Artefact, slots: int) -> Seat:
    """The job of the answerer `name`: which engine opens which files."""
    options: dict[str, Any] = {"max_tokens": room.max_tokens, "stop": list(exported.facts.get("stop", ()))}
    llama = options | {"template": None, "slots": slots, "context_length": room.context, "threads": room.threads}
    few = name in ("base", FEW_SHOT)
    if name == "baseline":
        return Seat(job=Job(name=name, kind="baseline", options={"train": str(data.file("train.jsonl"))}), few=False)
    if name in exported.facts["files"]:
        file = exported.file(exported.facts["files"][name])
        return Seat(job=Job(name=name, kind="llama", options=llama | {"file": str(file)}), few=False)
    assert room.base is not None
    if name in _overlay_name(exported):
        written = exported.facts["overlay"]["file"]
        on = exported.file(written) if written else room.base.gguf
        where = {"file": str(on), "template": room.base.template, "adapter": str(exported.file("adapter.gguf"))}
        return Seat(job=Job(name=name, kind="llama", options=llama | where), few=False)
    if few and room.base.gguf:
        where = {"file": str(room.base.gguf), "template": room.base.template}
        return Seat(job=Job(name=name, kind="llama", options=llama | where), few=True)
    adapter = None if few else str(trained.path / "adapter")
    fields = dataclasses.asdict(room.base) | {"folder": str(room.base.folder), "gguf": None}
    weights: dict[str, Any] = {"base": fields, "adapter": adapter}
    return Seat(job=Job(name=name, kind="transformers", options=options | weights), few=few)


def conversations(asked: Sequence[Example], training: Sequence[Example], shots: int) -> Mapping[str, Conversation]:
    """What is put for each example, by its id: its prompt, with `shots` training examples as turns before the question.

    Which ones says `shots.choose_shots`.
    """
    if not shots:
        return {example.id: example.prompt for example in asked}
    found = choose_shots(asked, training, shots)
    return {example.id: with_shots(example.prompt, near) for example, near in zip(asked, found, strict=True)}


def _longest_example(base: Base, examples: Sequence[Example]) -> int:
    """The length of the longest example in tokens of the base, prompt and target together."""
    from werkmeister.bases.tokens import count_tokens, load_tokenizer

    return max(count_tokens(load_tokenizer(base), examples))


def _longest(base: Base, targets: Sequence[str]) -> int:
    """The length of the longest target in tokens of the base."""
    from werkmeister.bases.tokens import load_tokenizer

    rows = load_tokenizer(base)(list(targets), add_special_tokens=False)["input_ids"]
    return max(len(row) for row in rows)
