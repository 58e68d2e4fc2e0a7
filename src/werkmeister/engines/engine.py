"""The seam Engine: a conversation goes in, a stream of tokens with their log-probabilities comes out."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from werkmeister.chat import Conversation
from werkmeister.errors import EngineError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How an answer is drawn: temperature 0 is greedy; `schema` is a JSON schema that the answer must fulfil.

    `alternatives` is how many of the likeliest tokens are told for each place of the answer. `tools` are functions in
    OpenAI's form that the chat template offers to the model; an engine whose `calls_tools` is not true ignores them.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    alternatives: int = 0
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Token:
    """A piece of the answer and the natural logarithm of its probability before any sampling filter.

    That is the softmax over the whole vocabulary of the model's own logits: no temperature, top_p, bias or schema.
    `text` is empty for the token that ends the answer, and may be while a character that spans several tokens or a
    possible stop text is incomplete. `alternatives` are the likeliest tokens at this place and their logprobs, where
    they were asked for.
    """

    text: str
    logprob: float
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A whole answer. `finish` is "stop" (the model ended it) or "length" (it was cut at max_tokens); times in
    seconds of wall clock, `first_seconds` up to the first token.

    `cached_tokens` of the prompt were not computed again, where the engine tells. `answer_tokens` counts all tokens
    made, the ending one included; `tokens` may be fewer, since llama.cpp reports no
    probability for a token that leaves a character incomplete.
    """

    text: str
    tokens: tuple[Token, ...]
    finish: str
    prompt_tokens: int
    answer_tokens: int
    first_seconds: float
    seconds: float
    cached_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The last item of a stream; `answer_tokens` counts all tokens made (None: as many as were streamed).

    `cached_tokens` of the prompt were not computed again, since an earlier prompt began with them.
    """

    finish: str
    prompt_tokens: int
    answer_tokens: int | None = None
    cached_tokens: int = 0


class Stop:
    """Ends a stream from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._called: list[Callable[[], None]] = []
        self._asked = False

    @property
    def asked(self) -> bool:
        """Whether the stream is to end."""
        return self._asked

    def ask(self) -> None:
        """Let the stream end as soon as its engine can; asking again changes nothing."""
        with self._lock:
            called, self._called, self._asked = self._called, [], True
        for function in called:
            function()

    def then(self, function: Callable[[], None]) -> None:
        """Call `function` once when asked, from the thread that asks; at once when that has happened."""
        with self._lock:
            if not self._asked:
                self._called.append(function)
                return
        function()


class Engine(Protocol):
    """Anything that continues a conversation. Engines are context managers: they hold memory until closed."""

    name: str
    context_length: int

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[Token | Finished]:
        """Yield tokens as they come and one Finished at the end.

        Raises ContextError when prompt and max_tokens do not fit `context_length`; nothing is ever cut in silence.
        """

    def replies(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Reply]:
        """Answer many conversations, in order, as fast as the engine can (batched or in parallel)."""

    def close(self) -> None:
        """Free the memory; the engine cannot be used afterwards."""

    def __enter__(self) -> Engine: ...

    def __exit__(self, *exc: object) -> None: ...


@runtime_checkable
class Stoppable(Protocol):
    """An engine whose streams end between two tokens and while a prompt is computed, and that continues bare text."""

    def stream_until(self, prompt: Conversation | str, sampling: Sampling, stop: Stop) -> Iterator[Token | Finished]:
        """Like Engine.stream; once `stop` was asked it ends soon, without a Finished. A text is continued as it is."""


class Inspectable(Protocol):
    """What the parity gate compares between two engines that hold the same model."""

    def prompt_ids(self, conversation: Conversation) -> list[int]:
        """Token ids of the conversation up to where the answer begins (template applied, begin token included)."""

    def next_logprobs(self, conversation: Conversation, top: int) -> dict[int, float]:
        """The `top` likeliest first tokens of the answer: token id → natural logarithm of its probability."""


def stream_until(
    engine: Engine, prompt: Conversation | str, sampling: Sampling, stop: Stop
) -> Iterator[Token | Finished]:
    """Stream from any engine until `stop` is asked; one that is not Stoppable ends after its next token.

    Raises EngineError for a bare text that the engine cannot continue.
    """
    if isinstance(engine, Stoppable):
        return engine.stream_until(prompt, sampling, stop)
    if isinstance(prompt, str):
        raise EngineError(f"{engine.name} answers conversations and cannot continue a bare text")
    return _until(engine.stream(prompt, sampling), stop)


def _until(items: Iterator[Token | Finished], stop: Stop) -> Iterator[Token | Finished]:
    try:
        while not stop.asked and (item := next(items, None)) is not None:
            yield item
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


def collect(stream: Iterable[Token | Finished], started: float | None = None) -> Reply:
    """Drain a stream into a Reply; `started` is the perf_counter reading to count from (default: now)."""
    begin = time.perf_counter() if started is None else started
    first = 0.0
    tokens: list[Token] = []
    end = Finished(finish="length", prompt_tokens=0)
    for item in stream:
        if isinstance(item, Finished):
            end = item
            continue
        if not tokens:
            first = time.perf_counter() - begin
        tokens.append(item)
    return Reply(
        text="".join(token.text for token in tokens),
        tokens=tuple(tokens),
        finish=end.finish,
        prompt_tokens=end.prompt_tokens,
        answer_tokens=len(tokens) if end.answer_tokens is None else end.answer_tokens,
        first_seconds=first,
        seconds=time.perf_counter() - begin,
        cached_tokens=end.cached_tokens,
    )


def in_order(answer: Callable[[int], Reply], count: int, width: int, name: str) -> Iterator[Reply]:
    """answer(0) to answer(count - 1), in order, `width` at a time in threads called `name`; the first failure raises.

    Up to 4 · width are asked for before the first is taken. Leaving the iterator waits for those under way.
    """
    waiting: deque[Future[Reply]] = deque()
    pool = ThreadPoolExecutor(width, thread_name_prefix=name)
    try:
        for number in range(count):
            waiting.append(pool.submit(answer, number))
            if len(waiting) >= 4 * width:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def reply(engine: Engine, conversation: Conversation, sampling: Sampling) -> Reply:
    """One whole answer of an engine."""
    return collect(engine.stream(conversation, sampling))
