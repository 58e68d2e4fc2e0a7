"""The shipped fake: an engine that answers from a script, for tests and for trying out what stands above an engine."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from werkmeister.chat import Conversation, Message
from werkmeister.engines.engine import Finished, Reply, Sampling, Stop, Token, reply
from werkmeister.errors import ContextError, EngineError

Script = Mapping[str, str] | Callable[[Conversation], str]


def words(text: str) -> list[str]:
    """The scripted engine's tokeniser: each word or mark with the blanks before it; joined they are the text again."""
    return re.findall(r"\s*(?:\w+|[^\w\s])|\s+$", text)


@dataclass
class ScriptedEngine:
    """Answers from `script`: a mapping from the last user message to the answer, or a function of the conversation.

    A question that a mapping lacks gets `otherwise`. An answer is given in `words`, followed by an empty token that
    ends it, unless `max_tokens` or a stop text cuts it; each token has the logprob that `logprobs` gives for its
    text, or `logprob`. A prompt has one token a word. Temperature, seed and schema change nothing.

    Asked for alternatives, it tells the token itself alone. A bare text is answered like a question.

    `fail_on` are questions that raise EngineError instead; `seconds_a_token` makes it slow. `asked` keeps every
    conversation and sampling that came in. Satisfies Engine and Stoppable.
    """

    script: Script
    otherwise: str = ""
    logprob: float = -0.1
    logprobs: Mapping[str, float] = field(default_factory=dict)
    context_length: int = 4096
    seconds_a_token: float = 0.0
    fail_on: frozenset[str] = frozenset()
    calls_tools: bool = False
    name: str = "scripted"
    closed: bool = False
    asked: list[tuple[Conversation, Sampling]] = field(default_factory=list)

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[Token | Finished]:
        """Yield the scripted answer. Raises at once: EngineError as told, ContextError when it does not fit."""
        if self.closed:
            raise EngineError(f"the engine {self.name} is closed", hint="open it again")
        self.asked.append((conversation, sampling))
        question = conversation[-1].content
        if question in self.fail_on:
            raise EngineError(f"{self.name} was told to fail on {question!r}")
        prompt = sum(len(words(message.content)) for message in conversation)
        if prompt + sampling.max_tokens > self.context_length:
            raise ContextError(
                f"the prompt has {prompt} tokens and the answer may have {sampling.max_tokens}: together "
                f"{prompt + sampling.max_tokens}, and the context of {self.name} holds {self.context_length}",
                hint="shorten the question or the conversation, lower max_tokens, or raise context_length",
            )
        return self._stream(self._answer(conversation), prompt, sampling)

    def stream_until(self, prompt: Conversation | str, sampling: Sampling, stop: Stop) -> Iterator[Token | Finished]:
        """Like `stream`; ends after the token during which `stop` was asked."""
        turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        return takewhile(lambda _: not stop.asked, self.stream(turns, sampling))

    def replies(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Reply]:
        """Answer one after the other."""
        for conversation in conversations:
            yield reply(self, conversation, sampling)

    def close(self) -> None:
        """Refuse everything from now on."""
        self.closed = True

    def __enter__(self) -> ScriptedEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _answer(self, conversation: Conversation) -> str:
        if isinstance(self.script, Mapping):
            return self.script.get(conversation[-1].content, self.otherwise)
        return self.script(conversation)

    def _stream(self, answer: str, prompt: int, sampling: Sampling) -> Iterator[Token | Finished]:
        cuts = [position for stop in sampling.stop if stop and (position := answer.find(stop)) >= 0]
        pieces = words(answer[: min(cuts)] if cuts else answer)
        if not cuts:
            pieces.append("")
        given = pieces[: sampling.max_tokens]
        for piece in given:
            if self.seconds_a_token:
                time.sleep(self.seconds_a_token)
            logprob = self.logprobs.get(piece, self.logprob)
            yield Token(piece, logprob, ((piece, logprob),) if sampling.alternatives else ())
        yield Finished(
            finish="stop" if len(given) == len(pieces) else "length", prompt_tokens=prompt, answer_tokens=len(given)
        )
