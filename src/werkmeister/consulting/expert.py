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
from typing import Any, Protocol

from werkmeister.artefact import Artefact, open_artefact
from werkmeister.chat import Conversation, Message
from werkmeister.config import setting
from werkmeister.engines.engine import Engine, Sampling, Stop, Token, stream_until
from werkmeister.errors import ArtefactError, SettingsError
from werkmeister.grounding import open_book
from werkmeister.passage import Passage

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
    nothing measured them. `passages` are those that stood before the question; `cached_tokens` of the prompt were known
    from an earlier one.
    """

    text: str
    citations: tuple[str, ...] = ()
    passages: tuple[Passage, ...] = ()
    confidence: float | None
    route: str = "local"
    finish: str
    tokens: int
    prompt_tokens: int
    cached_tokens: int = 0
    seconds: float
    first_seconds: float
    joules: float | None = None
    cost: float | None = None

    def record(self) -> dict[str, Any]:
        """The answer as a JSON object."""
        return {
            "text": self.text,
            "citations": list(self.citations),
            "passages": [{"id": passage.id, "place": passage.place} for passage in self.passages],
            "confidence": self.confidence,
            "route": self.route,
            "finish": self.finish,
            "tokens": self.tokens,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "seconds": round(self.seconds, 4),
            "first_seconds": round(self.first_seconds, 4),
            "joules": NOT_MEASURED if self.joules is None else self.joules,
            "cost": NOT_MEASURED if self.cost is None else self.cost,
        }


class Library(Protocol):
    """Finds what an expert is given to answer from."""

    def find(self, question: str, history: Conversation) -> tuple[Sequence[Passage], str]:
        """The passages to put before the question (none: it is asked closed-book), and the prompt's language."""


@dataclass(frozen=True, kw_only=True)
class Expert:
    """An expert ready to answer; a context manager, since its engine holds the model in memory.

    `sampling` is how it answers unless a question says otherwise; `identity` is that of the export artefact. With a
    `library` each question is put open-book, in the form in which the expert was trained.
    """

    name: str
    engine: Engine
    system: str
    sampling: Sampling
    identity: str = ""
    library: Library | None = None

    def __enter__(self) -> Expert:
        return self

    def __exit__(self, *exc: object) -> None:
        self.engine.close()


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is known of a built expert before its model is loaded."""

    name: str
    path: Path
    system: str
    sampling: Sampling
    identity: str

    def expert(self, engine: Engine) -> Expert:
        """The expert that answers with an engine."""
        return Expert(name=self.name, engine=engine, system=self.system, sampling=self.sampling, identity=self.identity)


def find_expert(folder: Path, *, settings: AskSettings, file: str = "") -> Found:
    """Check the export of the expert in `folder` and say how it answers; raises as `open_expert` does."""
    schema = _schema(folder, settings.schema)
    built = open_artefact(folder / "artefacts" / "export", "export", make_with=f"werkmeister build {folder}")
    return Found(
        name=folder.resolve().name,
        path=_model_file(built, file),
        system=built.facts["system"],
        sampling=Sampling(
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            stop=tuple(built.facts["stop"]),
            schema=schema,
        ),
        identity=built.identity,
    )


def open_expert(folder: Path, *, settings: AskSettings | None = None, file: str = "", threads: int = 0) -> Expert:
    """Load the exported model of the expert in `folder`.

    `file` is a quantisation ("Q8_0") or a file name of the export; "" takes the one that the export made its default.
    `threads` overrides the setting. Raises ArtefactError when nothing was built, or a file is missing or changed;
    SettingsError when the schema file is none.
    """
    settings = settings or AskSettings()
    found = find_expert(folder, settings=settings, file=file)
    from werkmeister.engines.llama import LlamaEngine

    threads = threads or settings.threads
    return found.expert(LlamaEngine(found.path, context_length=settings.context_length, threads=threads))


def ask(expert: Expert, question: str, *, history: Conversation = (), sampling: Sampling | None = None) -> Answer:
    """One whole answer. `history` are the turns before the question; a system message at its head is put behind the
    expert's own.

    Raises ContextError when system message, history, question and answer do not fit the context.
    """
    started = time.perf_counter()
    turns, passages = prompted(expert, question, history)
    (reply,) = expert.engine.replies([turns], sampling or expert.sampling)
    waited = time.perf_counter() - started - reply.seconds
    return Answer(
        text=reply.text,
        passages=passages,
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
    for item in stream_tokens(expert, question, history=history, sampling=sampling):
        if isinstance(item, Answer):
            yield item
        elif item.text:
            yield item.text


def stream_tokens(
    expert: Expert,
    question: str,
    *,
    history: Conversation = (),
    sampling: Sampling | None = None,
    stop: Stop | None = None,
    bare: bool = False,
) -> Generator[Token | Answer, None, None]:
    """Like `stream_answer` with the tokens themselves. Once `stop` was asked it ends without an Answer.

    `bare` continues the text of the question as it is: no system message, no template, no library.
    """
    started = time.perf_counter()
    stop = stop or Stop()
    prompt, passages = (question, ()) if bare else prompted(expert, question, history)
    given: list[Token] = []
    first = 0.0
    items = stream_until(expert.engine, prompt, sampling or expert.sampling, stop)
    try:
        for item in items:
            if isinstance(item, Token):
                first = first or time.perf_counter() - started
                given.append(item)
                yield item
                continue
            yield Answer(
                text="".join(token.text for token in given),
                passages=passages,
                confidence=confidence(given),
                finish=item.finish,
                tokens=len(given) if item.answer_tokens is None else item.answer_tokens,
                prompt_tokens=item.prompt_tokens,
                cached_tokens=item.cached_tokens,
                seconds=time.perf_counter() - started,
                first_seconds=first,
            )
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


def confidence(tokens: Sequence[Token]) -> float | None:
    """The probability of the least likely token: e to the minimum logprob. Source: minimum-probability uncertainty,
    which orders short answers by correctness about as well as any single score.
    """
    return min(1.0, math.exp(min(token.logprob for token in tokens))) if tokens else None


def prompted(expert: Expert, question: str, history: Conversation = ()) -> tuple[Conversation, tuple[Passage, ...]]:
    """The conversation as the engine is given it, and the passages in it. Every prompt is put together here."""
    given = bool(history) and history[0].role == "system"
    asked, turns = (history[0].content, history[1:]) if given else ("", history)
    system = "\n\n".join(dict.fromkeys(text for text in (expert.system, asked) if text))
    head = (Message("system", system),) if system else ()
    passages: Sequence[Passage] = ()
    if expert.library is not None:
        passages, language = expert.library.find(question, turns)
        question = open_book(question, passages, language)
    return (*head, *turns, Message("user", question)), tuple(passages)


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
