"""Asking a teacher many things: remembered, within a budget, several at a time, and never rubbish called success."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from werkmeister.chat import Conversation, messages_json
from werkmeister.corpus.writing.costs import TeacherCosts
from werkmeister.engines.engine import Engine, Finished, Sampling, Token, collect
from werkmeister.engines.open import FoundEngine
from werkmeister.engines.remote_errors import BrokenAnswer
from werkmeister.errors import ContextError, DataError, EngineError, WerkmeisterError
from werkmeister.memory import Memory, name_of
from werkmeister.progress import Progress, Track

_VERSION = 1
_TRIES = 3
_FAILED_IN_A_ROW = 5
_LEAVING = 2.0  # seconds that answers under way get to end when asking is broken off
_LONGEST_SHOWN = 200
_PLAIN = asdict(Sampling())
_THOUGHTS = re.compile(r"^\s*<think>.*?(?:</think>|$)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One thing to ask; `place` says in a few words what about."""

    conversation: Conversation
    sampling: Sampling
    place: str


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What an engine said, as `engine.Reply` has it; `remembered`: in an earlier run."""

    text: str
    finish: str
    prompt_tokens: int
    answer_tokens: int
    seconds: float
    remembered: bool = False

    @property
    def said(self) -> str:
        """The text without the thoughts in <think> that some models put in front, and without blanks at its ends."""
        return _THOUGHTS.sub("", self.text).strip()


@dataclass(frozen=True, kw_only=True)
class Unanswered:
    """Why there is no answer; `budget`: it was not asked at all, since the budget is used up."""

    reason: str
    budget: bool = False


class Asker:
    """Puts questions to one engine, which is opened for the first that is not remembered.

    Every answer is kept in Memory(`home`, "teacher") the moment it is there, under engine, messages and sampling: after
    `kill -9` only what was in flight is asked again, and what other settings ask alike is never paid for twice.
    `budget_tokens` bounds prompt and answer tokens of this run (0: no bound; remembered answers cost nothing): nothing
    more is asked when what is under way, at its longest, may reach it. `budget_seconds` bounds the time of asking alike
    (0: no bound): after it nothing more is asked, and what is under way may end. `prices` are those of TeacherCosts.
    `concurrency` 0 is the engine's own.
    """

    def __init__(
        self,
        found: FoundEngine,
        home: Path,
        *,
        progress: Progress,
        concurrency: int = 0,
        budget_tokens: int = 0,
        budget_seconds: int = 0,
        prices: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.found = found
        self.progress = progress
        self.costs = TeacherCosts(facts=dict(found.facts) | {"identity": found.identity}, prices=prices)
        self._memory = Memory(home, "teacher")
        self._concurrency = concurrency or found.concurrency
        self._budget, self._budget_seconds = budget_tokens, budget_seconds
        self._tokens_a_byte = 0.5  # of a prompt, until answers show it
        self._engine: Engine | None = None

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the engine where it was opened."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def ask(self, label: str, questions: Sequence[Question]) -> Generator[tuple[int, Answered | Unanswered]]:
        """Yield (index of the question, what came of it) for every question, as they come; remembered ones first.

        A question that fails for itself (too long, or an engine's error that stays) is Unanswered. Raises what
        concerns all: SettingsError, BaseModelError, and EngineError when one question after the other fails. Closing
        the generator breaks off what is under way: use it under contextlib.closing.
        """
        self._note_settings(label, questions)
        fresh: dict[str, list[int]] = {}
        with self.progress.track(label, len(questions)) as track:
            for number, question in enumerate(questions):
                key = self._key(question)
                known = self._memory.get(key)
                if known is not None and "text" in known:
                    answer = Answered(**known, remembered=True)
                    self.costs.remember(answer.prompt_tokens, answer.answer_tokens)
                    track.advance(1)
                    yield number, answer
                else:
                    # Two that are the same are asked once.
                    fresh.setdefault(name_of(key), []).append(number)
            if fresh:
                yield from self._ask_engine(questions, list(fresh.values()), track)

    @property
    def idle(self) -> bool:
        """Whether nothing was answered yet, in this run or an earlier one: a budget that ends it now is too small."""
        return not self.costs.requests and not self.costs.remembered

    def forget(self, questions: Iterable[Question]) -> None:
        """Ask these again next time: what was answered is worth nothing."""
        for question in questions:
            self._memory.put(self._key(question), {"forgotten": True})

    def _note_settings(self, label: str, questions: Sequence[Question]) -> None:
        if questions:
            one = questions[0].sampling
            self.costs.facts.setdefault("settings", {})[label] = {
                "temperature": one.temperature,
                "top_p": one.top_p,
                "seed": one.seed,
                "max_tokens": max(question.sampling.max_tokens for question in questions),
                "schema": one.schema is not None,
            }

    def _key(self, question: Question) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "engine": self.found.identity,
            "messages": messages_json(question.conversation),
            # Defaults are left out: a dial that Sampling gains later must not make people pay again.
            "sampling": {key: value for key, value in asdict(question.sampling).items() if value != _PLAIN[key]},
        }

    def _ask_engine(
        self, questions: Sequence[Question], same: Sequence[Sequence[int]], track: Track
    ) -> Generator[tuple[int, Answered | Unanswered]]:
        engine = self._opened()
        waiting = deque(same)
        running: dict[int, tuple[Sequence[int], int, threading.Thread]] = {}
        results: queue.SimpleQueue[tuple[int, Answered | WerkmeisterError]] = queue.SimpleQueue()
        stop = threading.Event()
        begin, failed = time.perf_counter(), 0
        before = self.costs.seconds
        try:
            while waiting or running:
                self.costs.seconds = before + time.perf_counter() - begin
                while waiting and len(running) < self._concurrency and self._in_time():
                    most = self._most(questions[waiting[0][0]])
                    if not self._affordable(most, sum(reserved for _, reserved, _ in running.values())):
                        break
                    numbers = waiting.popleft()
                    arguments = (engine, numbers[0], questions[numbers[0]], stop, results)
                    thread = threading.Thread(target=self._work, args=arguments, name="teacher", daemon=True)
                    running[numbers[0]] = (numbers, most, thread)
                    thread.start()
                if not running:
                    break  # the budget is used up
                first, outcome = _next(results)
                numbers, _, _ = running.pop(first)
                self.costs.seconds = before + time.perf_counter() - begin
                failed = self._counted(questions[first], outcome, failed)
                tokens = self.costs.prompt_tokens + self.costs.answer_tokens
                track.advance(len(numbers), **{"tokens/s": f"{tokens / max(self.costs.seconds, 1e-9):.0f}"})
                told = Unanswered(reason=outcome.message) if isinstance(outcome, WerkmeisterError) else outcome
                yield from ((number, told) for number in numbers)
        finally:
            stop.set()
            self._leave([thread for _, _, thread in running.values()])
        left = [number for numbers in waiting for number in numbers]
        self.costs.not_asked += len(left)
        yield from ((number, Unanswered(reason="the budget is used up", budget=True)) for number in left)

    def _opened(self) -> Engine:
        if self._engine is None:
            self._engine = self.found.open()
        return self._engine

    def _work(
        self,
        engine: Engine,
        number: int,
        question: Question,
        stop: threading.Event,
        results: queue.SimpleQueue[tuple[int, Answered | WerkmeisterError]],
    ) -> None:
        outcome: Answered | WerkmeisterError = EngineError("the thread that asked ended without an answer")
        try:
            outcome = self._answer(engine, question, stop)
        except WerkmeisterError as error:
            outcome = error
        finally:
            results.put((number, outcome))

    def _answer(self, engine: Engine, question: Question, stop: threading.Event) -> Answered:
        for attempt in range(_TRIES):
            begin = time.perf_counter()
            try:
                reply = collect(_until(stop, engine.stream(question.conversation, question.sampling)), begin)
                break
            except BrokenAnswer:
                if attempt == _TRIES - 1 or stop.wait(0.5 * 2**attempt):
                    raise
        kept: dict[str, Any] = {
            "text": reply.text,
            "finish": reply.finish,
            "prompt_tokens": reply.prompt_tokens,
            "answer_tokens": reply.answer_tokens,
            "seconds": round(reply.seconds, 3),
        }
        self._memory.put(self._key(question), kept)
        return Answered(**kept)

    def _counted(self, question: Question, outcome: Answered | WerkmeisterError, failed: int) -> int:
        """Enter an outcome in the costs; the number of engine failures in a row. Raises what concerns all."""
        if isinstance(outcome, Answered):
            self.costs.requests += 1
            self.costs.prompt_tokens += outcome.prompt_tokens
            self.costs.answer_tokens += outcome.answer_tokens
            self._tokens_a_byte = max(self._tokens_a_byte, outcome.prompt_tokens / max(1, _size(question)))
            return 0
        self.costs.failed += 1
        if isinstance(outcome, ContextError | DataError):
            return failed
        if not isinstance(outcome, EngineError):
            raise outcome
        if failed + 1 >= _FAILED_IN_A_ROW:
            raise EngineError(
                f"the teacher {self.found.name} failed {failed + 1} times in a row; the last time: {outcome.message}",
                problems=outcome.problems,
                hint=outcome.hint or "run the same command again: what was answered is kept",
            ) from outcome
        return failed + 1

    def _most(self, question: Question) -> int:
        """The tokens that a question may cost, prompt and longest answer."""
        return int(_size(question) * self._tokens_a_byte) + question.sampling.max_tokens

    def _affordable(self, most: int, reserved: int) -> bool:
        spent = self.costs.prompt_tokens + self.costs.answer_tokens
        return not self._budget or spent + reserved + most <= self._budget

    def _in_time(self) -> bool:
        return not self._budget_seconds or self.costs.seconds < self._budget_seconds

    def _leave(self, threads: Sequence[threading.Thread]) -> None:
        deadline = time.monotonic() + _LEAVING
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        facts = self.costs.facts
        facts["refused"] = sorted(getattr(self._engine, "refused", ()))
        facts["counts"] = "estimated" if getattr(self._engine, "counts_estimated", False) else "as the engine counts"


class Usable:
    """Watches what share of a teacher's answers is usable, and ends the work when it is rubbish.

    `note` raises EngineError when the first `FIRST` answers of this run hold nothing usable; `end` when of all, with
    the remembered ones, less than `LEAST` do. The answers that held nothing are then forgotten, so that a mended
    teacher is asked again; the usable ones stay remembered.
    """

    FIRST = 20
    LEAST = 0.1

    def __init__(self, asker: Asker, what: str) -> None:
        self._asker = asker
        self._what = what
        self._bad: list[tuple[Question, str]] = []
        self._fresh_good = self._fresh = self._good = self._all = 0
        self._failed: list[str] = []

    def note(self, question: Question, answer: Answered, *, good: int, why: str = "") -> None:
        """Enter one answer with the number of its usable results; `why` tells what is wrong with one that has none."""
        self._all += 1
        self._good += good > 0
        if not answer.remembered:
            self._fresh += 1
            self._fresh_good += good > 0
        if not good:
            shown = " ".join(answer.text.split())
            shown = shown if len(shown) <= _LONGEST_SHOWN else shown[: _LONGEST_SHOWN - 1] + "…"
            self._bad.append((question, f"{question.place}: {why}: {shown!r}"))
        if self._fresh == self.FIRST and not self._fresh_good:
            raise self._rubbish(f"the first {self._fresh} answers")

    def failed(self, reason: str) -> None:
        """Enter one question that the engine could not answer."""
        self._failed.append(reason)

    def end(self) -> None:
        """Raise when all in all there is too little: an empty result must not pass for a success."""
        if self._all and self._good < max(1, self.LEAST * self._all):
            raise self._rubbish(f"{self._all - self._good} of {self._all} answers")
        if not self._all and self._failed:
            raise EngineError(
                f"the teacher {self._asker.found.name} answered none of {len(self._failed)} questions",
                problems=list(dict.fromkeys(self._failed))[:3],
                hint="choose another teacher in write.teacher, or a larger context",
            )

    def _rubbish(self, which: str) -> EngineError:
        self._asker.forget(question for question, _ in self._bad)
        return EngineError(
            f"{which} of the teacher {self._asker.found.name} hold no usable {self._what}",
            problems=[shown for _, shown in self._bad[:3]],
            hint="choose a larger teacher in write.teacher; what was usable stays remembered",
        )


def _until(stop: threading.Event, stream: Iterator[Token | Finished]) -> Iterator[Token | Finished]:
    for item in stream:
        if stop.is_set():
            raise EngineError("asking was broken off")
        yield item


def _next(
    results: queue.SimpleQueue[tuple[int, Answered | WerkmeisterError]],
) -> tuple[int, Answered | WerkmeisterError]:
    while True:
        try:
            return results.get(timeout=0.5)  # Windows delivers Ctrl-C only between waits
        except queue.Empty:
            continue


def _size(question: Question) -> int:
    return sum(len(message.content.encode()) for message in question.conversation)
