"""The seam Engine: a conversation goes in, a stream of tokens with their log-probabilities comes out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from werkmeister.chat import Conversation


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How an answer is drawn: temperature 0 is greedy; `schema` is a JSON schema that the answer must fulfil."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Token:
    """A piece of the answer and the natural logarithm of its probability before any sampling filter.

    That is the softmax over the whole vocabulary of the model's own logits: no temperature, top_p, bias or schema.
    `text` is empty for the token that ends the answer, and may be while a character that spans several tokens or a
    possible stop text is incomplete.
    """

    text: str
    logprob: float


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A whole answer. `finish` is "stop" (the model ended it) or "length" (it was cut at max_tokens); times in
    seconds of wall clock, `first_seconds` up to the first token.

    `answer_tokens` counts all tokens made, the ending one included; `tokens` may be fewer, since llama.cpp reports no
    probability for a token that leaves a character incomplete.
    """

    text: str
    tokens: tuple[Token, ...]
    finish: str
    prompt_tokens: int
    answer_tokens: int
    first_seconds: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The last item of a stream; `answer_tokens` counts all tokens made (None: as many as were streamed)."""

    finish: str
    prompt_tokens: int
    answer_tokens: int | None = None


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


class Inspectable(Protocol):
    """What the parity gate compares between two engines that hold the same model."""

    def prompt_ids(self, conversation: Conversation) -> list[int]:
        """Token ids of the conversation up to where the answer begins (template applied, begin token included)."""

    def next_logprobs(self, conversation: Conversation, top: int) -> dict[int, float]:
        """The `top` likeliest first tokens of the answer: token id → natural logarithm of its probability."""


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
    )


def reply(engine: Engine, conversation: Conversation, sampling: Sampling) -> Reply:
    """One whole answer of an engine."""
    return collect(engine.stream(conversation, sampling))
