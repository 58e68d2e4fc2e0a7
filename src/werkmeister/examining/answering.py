"""Answerers: whoever can sit an exam. Any callable from a question to an answer's text is one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.chat import Conversation, read_examples
from werkmeister.engines.engine import Engine, Reply, Sampling, reply

if TYPE_CHECKING:
    from werkmeister.bases.base import Base

ALONE = 4
"""Speed is measured on so many answers that had the machine to themselves; the rest may be batched."""


@dataclass(frozen=True, kw_only=True)
class Answerer:
    """Whoever sits the exam: `replies` answers conversations in order, as they come.

    The first `alone` replies were made one at a time, and speed is measured on these. `bytes` is the size of all that
    must be loaded to answer, `load_seconds` how long loading took; None where that makes no sense. `about` says in a
    few words what the answerer is.
    """

    name: str
    replies: Callable[[Sequence[Conversation]], Iterator[Reply]]
    alone: int = 0
    bytes: int | None = None
    load_seconds: float | None = None
    about: str = ""


def from_function(name: str, function: Callable[[str], str], *, about: str = "") -> Answerer:
    """An answerer made of a callable from the question (the last user message) to the answer's text."""

    def replies(conversations: Sequence[Conversation]) -> Iterator[Reply]:
        for conversation in conversations:
            begin = time.perf_counter()
            text = function(conversation[-1].content)
            yield plain_reply(text, time.perf_counter() - begin)

    return Answerer(name=name, replies=replies, about=about)


def from_engine(
    name: str,
    engine: Engine,
    sampling: Sampling,
    *,
    bytes: int | None = None,
    load_seconds: float | None = None,
    about: str = "",
) -> Answerer:
    """An answerer made of an open engine: a few answers alone, for the speed, and the rest as fast as it can."""

    def replies(conversations: Sequence[Conversation]) -> Iterator[Reply]:
        for conversation in islice(conversations, ALONE):
            yield reply(engine, conversation, sampling)
        if len(conversations) > ALONE:
            yield from engine.replies(conversations[ALONE:], sampling)

    return Answerer(name=name, replies=replies, alone=ALONE, bytes=bytes, load_seconds=load_seconds, about=about)


def plain_reply(text: str, seconds: float) -> Reply:
    """The reply of an answerer that has no tokens."""
    return Reply(
        text=text, tokens=(), finish="stop", prompt_tokens=0, answer_tokens=0, first_seconds=seconds, seconds=seconds
    )


def open_answerer(name: str, kind: str, options: Mapping[str, Any]) -> Answerer:
    """Open the answerer that a job names (see `sitting.Job`); what it holds is freed with the process."""
    openers = {"llama": _llama, "transformers": _transformers, "baseline": _baseline, "scripted": _scripted}
    return (openers | {"choices": _choices})[kind](name, options)


def _sampling(options: Mapping[str, Any]) -> Sampling:
    return Sampling(max_tokens=options["max_tokens"], stop=tuple(options["stop"]))


def _llama(name: str, options: Mapping[str, Any]) -> Answerer:
    from werkmeister.engines.llama import LlamaEngine

    path = Path(options["file"])
    given = {key: options[key] for key in ("context_length", "threads", "slots", "template")}
    adapter = Path(options["adapter"]) if options.get("adapter") else None
    begin = time.perf_counter()
    engine = LlamaEngine(path, adapter=adapter, **given)
    seconds = time.perf_counter() - begin
    about = f"llama.cpp on {engine.name}, {engine.threads} thread{'s' * (engine.threads > 1)}"
    return from_engine(name, engine, _sampling(options), bytes=engine.size, load_seconds=seconds, about=about)


def _base_of(options: Mapping[str, Any]) -> Base:
    from werkmeister.bases.base import Base

    fields = dict(options["base"])
    return Base(**fields | {"folder": Path(fields["folder"]), "stop": tuple(fields["stop"])})


def _choices(name: str, options: Mapping[str, Any]) -> Answerer:
    """Answers each question with the likeliest of the `answers` to it, as JSON: `chosen`, and the `nats` a token of the
    first answer."""
    from werkmeister.engines.transformers import open_transformers

    adapter = Path(options["adapter"]) if options["adapter"] else None
    begin = time.perf_counter()
    engine = open_transformers(_base_of(options), adapter)
    loaded = time.perf_counter() - begin

    def replies(conversations: Sequence[Conversation]) -> Iterator[Reply]:
        for conversation in conversations:
            begin = time.perf_counter()
            answers = options["answers"][conversation[-1].content]
            found = engine.answer_logprobs(conversation, answers)
            sums = [sum(logprobs) for logprobs in found]
            told = {"chosen": answers[sums.index(max(sums))], "nats": sums[0] / len(found[0])}
            yield plain_reply(json.dumps(told, ensure_ascii=False), time.perf_counter() - begin)

    return Answerer(name=name, replies=replies, load_seconds=loaded)


def _transformers(name: str, options: Mapping[str, Any]) -> Answerer:
    from werkmeister.engines.transformers import open_transformers

    base = _base_of(options)
    adapter = Path(options["adapter"]) if options["adapter"] else None
    begin = time.perf_counter()
    engine = open_transformers(base, adapter)
    seconds = time.perf_counter() - begin
    about = "transformers" + (" + PEFT adapter" if adapter else "")
    size = _weights(base.folder) + (_weights(adapter) if adapter else 0)
    return from_engine(name, engine, _sampling(options), bytes=size, load_seconds=seconds, about=about)


def _baseline(name: str, options: Mapping[str, Any]) -> Answerer:
    from werkmeister.examining.baseline import fit_baseline
    from werkmeister.examining.extracting import fit_extract, reads_passages

    train = list(read_examples(Path(options["train"])))
    return (fit_extract if reads_passages(train) else fit_baseline)(train, name=name)


def _scripted(name: str, options: Mapping[str, Any]) -> Answerer:
    """The shipped fake, for tests and rehearsals: answers from a table of questions."""
    from werkmeister.engines.scripted import ScriptedEngine

    engine = ScriptedEngine(options["answers"], seconds_a_token=options["seconds_a_token"])
    return from_engine(name, engine, _sampling(options), load_seconds=0.0, about="a script")


def _weights(folder: Path) -> int:
    """Bytes of the weight files in a folder."""
    files = [*folder.glob("*.safetensors"), *folder.glob("*.gguf")]
    return sum(file.stat().st_size for file in files)
