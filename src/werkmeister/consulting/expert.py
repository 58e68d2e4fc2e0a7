"""An expert that answers: the exported model file, its system message, and what comes back with an answer.

Nothing here needs torch: an expert is consulted with llama.cpp alone.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from werkmeister.artefact import Artefact, open_artefact
from werkmeister.chat import Conversation, Message
from werkmeister.config import setting
from werkmeister.consulting.citations import Citation
from werkmeister.consulting.finding import Finding
from werkmeister.consulting.prompting import Prompt, begun, fitting
from werkmeister.engines.engine import Engine, Sampling, Stop, Token, stream_until
from werkmeister.errors import ArtefactError, SettingsError
from werkmeister.grounding import refusal
from werkmeister.passage import Passage
from werkmeister.served import served_file

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
    library: bool = setting(True, help="answer from the documents, where the expert has an index of them")
    passages: int = setting(
        0, help="passages of the documents put before each question; 0: as many as in training", low=0, high=20
    )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back for one question. Times in seconds of wall clock; `first_seconds` up to the first token.

    `confidence` is the probability that the model gave to the least likely token of the answer, the ending one included
    (0 to 1; None for an answer without tokens). It orders answers by doubt; it is no promise of being right before it
    is calibrated. `finish` is "stop", or "length" when max_tokens cut the answer. `joules` and `cost` are None where
    nothing measured them. `passages` are those that stood before the question, and `citations` tell for each sentence
    where in them it stands. `notes` are sentences for the person: what was left out of the prompt. `turns_left_out` is
    how many of the oldest questions, with their answers, no longer fitted. `cached_tokens` of the prompt were known
    from an earlier one. An answer of no tokens was given without the model: the documents do not tell.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    passages: tuple[Passage, ...] = ()
    notes: tuple[str, ...] = ()
    turns_left_out: int = 0
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
            "citations": [citation.record() for citation in self.citations],
            "passages": [_shown(passage) for passage in self.passages],
            "notes": list(self.notes),
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

    def find(self, question: str, history: Conversation) -> Finding:
        """The passages to put before the question, the prompt's language, and whether the documents tell at all."""

    def within(self, documents: Collection[str]) -> Library:
        """Some of its documents alone; an unknown one is an ArtefactError that names those that are alike."""


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

    def within(self, documents: Collection[str]) -> Expert:
        """The same expert, which looks into these documents of its library alone; into all where none is named.

        Raises ArtefactError for a document that the library does not have, and where there is no library.
        """
        if not documents:
            return self
        if self.library is None:
            raise ArtefactError(
                f"{self.name} has no library whose documents could be named",
                hint="werkmeister index EXPERT makes it of the expert's documents",
            )
        return replace(self, library=self.library.within(documents))

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
    library: Library | None = None

    def expert(self, engine: Engine) -> Expert:
        """The expert that answers with an engine."""
        return Expert(
            name=self.name,
            engine=engine,
            system=self.system,
            sampling=self.sampling,
            identity=self.identity,
            library=self.library,
        )


def find_expert(folder: Path, *, settings: AskSettings, file: str = "") -> Found:
    """Check the export of the expert in `folder`, open its library, and say how it answers; raises as `open_expert`."""
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
        library=_library(folder, settings),
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

    When all of it does not fit the context, the oldest turns are left out whole, and the answer notes it. Raises
    ContextError when system message, question and answer do not fit alone.
    """
    started = time.perf_counter()
    prompt = prompted(expert, question, history)
    if not prompt.finding.told:
        return _untold(prompt, started)
    chosen = sampling or expert.sampling
    (reply,), prompt = fitting(prompt, lambda turns: list(expert.engine.replies([turns], chosen)))
    waited = time.perf_counter() - started - reply.seconds
    return Answer(
        text=reply.text,
        **prompt.facts(reply.text),
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

    `bare` continues the text of the question as it is: no system message, no template, no library. Where no model is
    asked, the refusal comes as one token of certain probability.
    """
    started = time.perf_counter()
    stop = stop or Stop()
    chosen = sampling or expert.sampling
    prompt = Prompt(question=question) if bare else prompted(expert, question, history)
    if not prompt.finding.told:
        answer = _untold(prompt, started)
        yield Token(answer.text, 0.0)
        yield answer
        return
    given: list[Token] = []
    first = 0.0
    if bare:
        items = begun(stream_until(expert.engine, question, chosen, stop))
    else:
        items, prompt = fitting(prompt, lambda turns: begun(stream_until(expert.engine, turns, chosen, stop)))
    try:
        for item in items:
            if isinstance(item, Token):
                first = first or time.perf_counter() - started
                given.append(item)
                yield item
                continue
            text = "".join(token.text for token in given)
            yield Answer(
                text=text,
                **prompt.facts(text),
                confidence=confidence(given),
                finish=item.finish,
                tokens=len(given) if item.answer_tokens is None else item.answer_tokens,
                prompt_tokens=item.prompt_tokens,
                cached_tokens=item.cached_tokens,
                seconds=time.perf_counter() - started,
                first_seconds=first,
            )
    finally:
        items.close()


def confidence(tokens: Sequence[Token]) -> float | None:
    """The probability of the least likely token: e to the minimum logprob. Source: minimum-probability uncertainty,
    which orders short answers by correctness about as well as any single score.
    """
    return min(1.0, math.exp(min(token.logprob for token in tokens))) if tokens else None


def prompted(expert: Expert, question: str, history: Conversation = ()) -> Prompt:
    """The prompt of a question, with what the library finds for it. Every prompt is put together here."""
    given = bool(history) and history[0].role == "system"
    asked, turns = (history[0].content, history[1:]) if given else ("", history)
    system = "\n\n".join(dict.fromkeys(text for text in (expert.system, asked) if text))
    head = (Message("system", system),) if system else ()
    finding = Finding() if expert.library is None else expert.library.find(question, turns)
    context = expert.engine.context_length
    return Prompt(question=question, head=head, turns=turns, finding=finding, context_length=context)


def _untold(prompt: Prompt, started: float) -> Answer:
    seconds = time.perf_counter() - started
    return Answer(
        text=refusal(prompt.finding.language),
        notes=("Nothing in the documents fits this question well enough; the model was not asked.",),
        confidence=None,
        finish="stop",
        tokens=0,
        prompt_tokens=0,
        seconds=seconds,
        first_seconds=seconds,
    )


def _shown(passage: Passage) -> dict[str, Any]:
    return {"id": passage.id, "place": passage.place, "title": passage.title, "text": passage.text}


def _library(folder: Path, settings: AskSettings) -> Library | None:
    if not settings.library:
        return None
    from werkmeister.consulting.library import open_library

    return open_library(folder, passages=settings.passages)


def _model_file(built: Artefact, wanted: str) -> Path:
    files: Mapping[str, str] = built.facts["files"]
    name = wanted or served_file(built).name
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
