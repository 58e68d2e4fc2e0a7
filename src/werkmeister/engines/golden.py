"""Golden prompts: questions of the exam with the greedy answers that an engine gave, to be asked again elsewhere.

A greedy answer is the same on every machine as long as no two tokens are nearly as likely as each other, so prompts
are chosen whose answers have no such place.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkmeister.chat import Conversation, Example, Message, messages_json
from werkmeister.engines.engine import Engine, Finished, Sampling, Token
from werkmeister.errors import ContextError, DataError

EXPECTED = "expected.jsonl"
"""The golden prompts' file in whatever carries them."""
COUNT = 5
LONGEST = 48
"""Tokens of a golden answer; a longer one is cut there, and must be cut there again."""
CLEAR = 0.1
"""An answer is clear when at each place the likeliest token leads by that many nats: rounding moves logits by less."""
_CONTEXT = 4096
_TRIED = 3
_SHORT = 0.5


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A conversation and its greedy answer of at most `max_tokens`; `finish` is "stop" or "length".

    `margin` is the least lead (nats) that a token of the answer had over the next likely one; None where the engine
    tells of no other tokens.
    """

    messages: Conversation
    answer: str
    max_tokens: int
    finish: str
    margin: float | None

    def record(self) -> dict[str, Any]:
        """The JSON object that stands on one line of the file."""
        return {
            "messages": messages_json(self.messages),
            "answer": self.answer,
            "max_tokens": self.max_tokens,
            "finish": self.finish,
            "margin": None if self.margin is None else round(self.margin, 3),
        }


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An answer that was not the recorded one."""

    golden: Golden
    answer: str

    @property
    def place(self) -> int:
        """The number of characters that are equal before the answers part."""
        pairs = zip(self.golden.answer, self.answer, strict=False)
        return next(
            (number for number, (a, b) in enumerate(pairs) if a != b), min(len(self.golden.answer), len(self.answer))
        )

    def words(self) -> str:
        """What a person reads of it."""
        question, margin = self.golden.messages[-1].content, self.golden.margin
        close = margin is not None and margin < CLEAR
        note = f" (recorded with a lead of only {margin:.2g} nats: rounding may do this)" if close else ""
        return (
            f"{_short(question)!r}: {_short(self.answer)!r}, recorded was {_short(self.golden.answer)!r}; they part "
            f"after {self.place} characters{note}"
        )


def choose(examples: Sequence[Example], seed: int = 0) -> list[Example]:
    """Candidates for golden prompts: short ones of an exam, each with another target, in a seeded order."""
    ordered = sorted(examples, key=lambda example: (sum(len(turn.content) for turn in example.prompt), example.id))
    short = ordered[: max(_TRIED * COUNT, round(_SHORT * len(ordered)))]
    random.Random(seed).shuffle(short)
    # Answers that are all the same would show little.
    firsts = {example.target: example for example in reversed(short)}
    chosen = {example.id for example in firsts.values()}
    return [example for example in short if example.id in chosen] + [e for e in short if e.id not in chosen]


def record_golden(
    engine: Engine, examples: Sequence[Example], *, stop: Sequence[str] = (), seed: int = 0
) -> list[Golden]:
    """Ask `engine` short prompts of `examples` until `COUNT` answers are clear; the clearest when too few are.

    What does not fit the engine's context is passed over.
    """
    found: list[Golden] = []
    for example in choose(examples, seed)[: _TRIED * COUNT]:
        try:
            found.append(_answer(engine, example.prompt, tuple(stop)))
        except ContextError:
            continue
        if sum(_is_clear(golden) for golden in found) == COUNT:
            return [golden for golden in found if _is_clear(golden)]
    return sorted(found, key=lambda golden: -(golden.margin or 0.0))[:COUNT]


def golden_name(model: str) -> str:
    """The export's file of golden prompts for a model file: model-Q8_0.gguf → model-Q8_0.expected.jsonl."""
    return f"{model.removesuffix('.gguf')}.{EXPECTED}"


def record_file(
    model: Path,
    folder: Path,
    examples: Sequence[Example],
    *,
    context_length: int,
    stop: Sequence[str],
    adapter: Path | None = None,
    template: str | None = None,
) -> Path:
    """Record what llama.cpp answers on the CPU with a model file, or with `adapter` laid over it, into `folder`.

    `template` is the chat template where the file brings none of its own.
    """
    from werkmeister.engines.llama import LlamaEngine

    target = folder / golden_name((adapter or model).name)
    with LlamaEngine(model, context_length=min(context_length, _CONTEXT), adapter=adapter, template=template) as engine:
        write_golden(target, record_golden(engine, examples, stop=stop))
    return target


def replay(
    engine: Engine, golden: Iterable[Golden], *, stop: Sequence[str] = (), told: Callable[[], object] = lambda: None
) -> Iterator[Difference]:
    """Ask again; yields what is answered otherwise. `told` is called after each."""
    for entry in golden:
        sampling = Sampling(max_tokens=entry.max_tokens, stop=tuple(stop))
        items = engine.stream(entry.messages, sampling)
        answer = "".join(item.text for item in items if isinstance(item, Token))
        told()
        if answer != entry.answer:
            yield Difference(golden=entry, answer=answer)


def write_golden(path: Path, golden: Iterable[Golden]) -> None:
    """Write one a line (UTF-8 JSON)."""
    lines = [json.dumps(entry.record(), ensure_ascii=False) + "\n" for entry in golden]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def read_golden(path: Path) -> list[Golden]:
    """Read what `write_golden` wrote, or {"messages", "answer"} alone. Raises DataError with file and line."""
    found = []
    # Split at line feeds alone: an answer may hold other line ends.
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(_golden(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}:{number}: no golden prompt", hint='each line is {"messages": […], "answer": "…"}'
            ) from error
    return found


def _golden(record: dict[str, Any]) -> Golden:
    messages = tuple(Message(turn["role"], turn["content"]) for turn in record["messages"])
    answer, margin = record["answer"], record.get("margin")
    if not messages or not all(isinstance(text, str) for text in (answer, *(m.content for m in messages))):
        raise ValueError("an empty conversation, or something else than a text")
    return Golden(
        messages=messages,
        answer=answer,
        max_tokens=int(record.get("max_tokens") or LONGEST),
        finish=str(record.get("finish", "")),
        margin=None if margin is None else float(margin),
    )


def _answer(engine: Engine, prompt: Conversation, stop: tuple[str, ...]) -> Golden:
    text, finish, leads = "", "", []
    for item in engine.stream(prompt, Sampling(max_tokens=LONGEST, stop=stop, alternatives=2)):
        if isinstance(item, Finished):
            finish = item.finish
            continue
        text += item.text
        if len(item.alternatives) > 1:
            leads.append(item.alternatives[0][1] - item.alternatives[1][1])
    margin = min(leads) if leads else None
    return Golden(messages=prompt, answer=text, max_tokens=LONGEST, finish=finish, margin=margin)


def _is_clear(golden: Golden) -> bool:
    return golden.margin is None or golden.margin >= CLEAR


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"
