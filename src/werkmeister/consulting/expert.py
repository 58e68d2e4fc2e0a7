"""An expert that answers: the exported model file, its system message, and what comes back with an answer.

Nothing here needs torch: an expert is consulted with llama.cpp alone.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkmeister.artefact import Artefact, open_artefact
from werkmeister.chat import Conversation, Message
from werkmeister.config import setting
from werkmeister.engines.engine import Engine, Sampling, Token
from werkmeister.errors import ArtefactError, SettingsError

NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True)
class AskSettings:
    """How the expert answers."""

    max_tokens: int = setting(256, help="longest answer; a longer one is cut and marked so", unit="tokens", low=1)
    temperature: float = setting(0.0, help="0: always the likeliest token; higher: more varied", low=0.0, high=5.0)
    schema: str = setting("", help="file with a JSON schema that every answer must fulfil, in the expert's folder")
    threads: int = setting(0, help="CPU threads; 0: as many as cores are idle", low=0)
    context_length: int = setting(
        0, help="room for conversation and answer; 0: the model's own, up to 8192", unit="tokens", low=0
    )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back for one question. Times in seconds of wall clock; `first_seconds` up to the first token.

    `confidence` is the probability that the model gave to the least likely token of the answer, the ending one included
    (0 to 1; None for an answer without tokens). It orders answers by doubt; it is no promise of being right before it
    is calibrated. `finish` is "stop", or "length" when max_tokens cut the answer. `joules` and `cost` are None where
    nothing measured them.
    """

    text: str
    citations: tuple[str, ...] = ()
    confidence: float | None
    route: str = "local"
    finish: str
    tokens: int
    prompt_tokens: int
    seconds: float
    first_seconds: float
    joules: float | None = None
    cost: float | None = None

    def record(self) -> dict[str, Any]:
        """The answer as a JSON object."""
        return {
            "text": self.text,
            "citations": list(self.citations),
            "confidence": self.confidence,
            "route": self.route,
            "finish": self.finish,
            "tokens": self.tokens,
            "prompt_tokens": self.prompt_tokens,
            "seconds": round(self.seconds, 4),
            "first_seconds": round(self.first_seconds, 4),
            "joules": NOT_MEASURED if self.joules is None else self.joules,
            "cost": NOT_MEASURED if self.cost is None else self.cost,
        }


@dataclass(frozen=True, kw_only=True)
class Expert:
    """An expert ready to answer; a context manager, since its engine holds the model in memory.

    `sampling` is how it answers unless a question says otherwise; `identity` is that of the export artefact.
    """

    name: str
    engine: Engine
    system: str
    sampling: Sampling
    identity: str = ""

    def __enter__(self) -> Expert:
        return self

    def __exit__(self, *exc: object) -> None:
        self.engine.close()


def open_expert(folder: Path, *, settings: AskSettings | None = None, file: str = "", threads: int = 0) -> Expert:
    """Load the exported model of the expert in `folder`.

    `file` is a quantisation ("Q8_0") or a file name of the export; "" takes the one that the export made its default.
    `threads` overrides the setting. Raises ArtefactError when nothing was built, or a file is missing or changed;
    SettingsError when the schema file is none.
    """
    settings = settings or AskSettings()
    schema = _schema(folder, settings.schema)
    built = open_artefact(folder / "artefacts" / "export", "export", make_with=f"werkmeister build {folder}")
    path = _model_file(built, file)
    from werkmeister.engines.llama import LlamaEngine

    return Expert(
        name=folder.resolve().name,
        engine=LlamaEngine(path, context_length=settings.context_length, threads=threads or settings.threads),
        system=built.facts["system"],
        sampling=Sampling(
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            stop=tuple(built.facts["stop"]),
            schema=schema,
        ),
        identity=built.identity,
    )


def ask(expert: Expert, question: str, *, history: Conversation = (), sampling: Sampling | None = None) -> Answer:
    """One whole answer. `history` are the turns before the question, without the system message.

    Raises ContextError when system message, history, question and answer do not fit the context.
    """
    started = time.perf_counter()
    (reply,) = expert.engine.replies([_turns(expert, question, history)], sampling or expert.sampling)
    waited = time.perf_counter() - started - reply.seconds
    return Answer(
        text=reply.text,
        confidence=confidence(reply.tokens),
        finish=reply.finish,
        tokens=reply.answer_tokens,
        prompt_tokens=reply.prompt_tokens,
        seconds=waited + reply.seconds,
        first_seconds=waited + reply.first_seconds,
    )


def stream_answer(
    expert: Expert, question: str, *, history: Conversation = (), sampling: Sampling | None = None
) -> Generator[str | Answer, None, None]:
    """Like `ask`, but yields the pieces of the text as they come, and the Answer last; a few percent dearer.

    Leaving the iterator early stops the engine's work.
    """
    started = time.perf_counter()
    given: list[Token] = []
    first = 0.0
    for item in expert.engine.stream(_turns(expert, question, history), sampling or expert.sampling):
        if isinstance(item, Token):
            first = first or time.perf_counter() - started
            given.append(item)
            if item.text:
                yield item.text
            continue
        yield Answer(
            text="".join(token.text for token in given),
            confidence=confidence(given),
            finish=item.finish,
            tokens=len(given) if item.answer_tokens is None else item.answer_tokens,
            prompt_tokens=item.prompt_tokens,
            seconds=time.perf_counter() - started,
            first_seconds=first,
        )


def confidence(tokens: Sequence[Token]) -> float | None:
    """The probability of the least likely token: e to the minimum logprob. Source: minimum-probability uncertainty,
    which orders short answers by correctness about as well as any single score.
    """
    return min(1.0, math.exp(min(token.logprob for token in tokens))) if tokens else None


def _turns(expert: Expert, question: str, history: Conversation) -> Conversation:
    head = (Message("system", expert.system),) if expert.system else ()
    return (*head, *history, Message("user", question))


def _model_file(built: Artefact, wanted: str) -> Path:
    files: Mapping[str, str] = built.facts["files"]
    name = wanted or built.facts["default"]
    if name in files:
        return built.file(files[name])
    if name in files.values():
        return built.file(name)
    raise ArtefactError(f"the export {built.path} has no model file {name!r}", hint=f"it has: {', '.join(files)}")


def _schema(folder: Path, name: str) -> Mapping[str, Any] | None:
    if not name:
        return None
    path = folder / name
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"ask.schema: {path} cannot be read: {error.strerror}", hint="name a file in the expert's folder"
        ) from error
    except ValueError as error:
        raise SettingsError(f"ask.schema: {path} is not JSON: {error}", hint="mend that place") from error
    if not isinstance(schema, dict):
        raise SettingsError(f"ask.schema: {path} holds no JSON object, and a JSON schema is one")
    return schema
