"""Answers in OpenAI's forms, with our own facts in one field more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from werkmeister.consulting.expert import Answer, Expert
from werkmeister.delivery.reading import Asked
from werkmeister.delivery.tools import HeldBack
from werkmeister.engines.engine import Token

DONE = b"data: [DONE]\n\n"


@dataclass(kw_only=True)
class Reporter:
    """Writes what one request is answered with. `id` stands in the body and in the header x-request-id."""

    id: str
    expert: Expert
    asked: Asked
    created: int = field(default_factory=lambda: int(time.time()))
    answers: dict[int, Answer] = field(default_factory=dict)
    _lengths: dict[int, int] = field(default_factory=dict)
    _held: dict[int, HeldBack] = field(default_factory=dict)

    def whole(self, tokens: dict[int, list[Token]], queued: float) -> dict[str, Any]:
        """The body of an answer in one piece, when all `answers` are known."""
        choices = []
        for index, answer in sorted(self.answers.items()):
            probabilities = self._probabilities(index, tokens.get(index, ()))
            text, calls = self.asked.tools.calls(answer.text) if self.asked.tools else (answer.text, [])
            content: dict[str, Any] = {"role": "assistant", "content": None if calls and not text else text}
            content |= {"refusal": None} | ({"tool_calls": calls} if calls else {})
            said = {"message": content} if self.asked.chat else {"text": answer.text}
            finish = "tool_calls" if calls else answer.finish
            choices.append({"index": index, **said, "logprobs": probabilities, "finish_reason": finish})
        kind = "chat.completion" if self.asked.chat else "text_completion"
        return self._body(kind, choices) | {"usage": self.usage(), "werkmeister": self.facts(self.answers, queued)}

    def opening(self) -> Iterator[bytes]:
        """The first events of a stream: who speaks."""
        if self.asked.chat:
            for index in range(len(self.asked.voices)):
                yield self._event([self._piece(index, {"role": "assistant", "content": ""})])

    def pieces(self, batch: Sequence[tuple[int, Token | Answer]], queued: float) -> Iterator[bytes]:
        """The events for what has come: one for the text of each voice, and one at its end."""
        for index in dict.fromkeys(index for index, _ in batch):
            tokens = [item for voice, item in batch if voice == index and isinstance(item, Token)]
            text = self._certain(index, tokens)
            if text:
                yield self._event([self._piece(index, {"content": text}, self._probabilities(index, tokens))])
        for index, item in batch:
            if isinstance(item, Answer):
                text, calls = self._rest(index, item)
                if text:
                    yield self._event([self._piece(index, {"content": text})])
                if calls:
                    numbered = [{"index": place, **call} for place, call in enumerate(calls)]
                    yield self._event([self._piece(index, {"tool_calls": numbered})])
                end = self._piece(index, {}) | {"finish_reason": "tool_calls" if calls else item.finish}
                yield self._event([end], werkmeister=self.facts([index], queued))

    def closing(self) -> Iterator[bytes]:
        """The last events of a stream."""
        if self.asked.usage:
            yield self._event([], usage=self.usage())
        yield DONE

    def usage(self) -> dict[str, Any]:
        """Numbers of tokens; a prompt with several answers counts once."""
        prompts = [answer for index, answer in self.answers.items() if index % self.asked.n == 0]
        prompt = sum(answer.prompt_tokens for answer in prompts)
        made = sum(answer.tokens for answer in self.answers.values())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": made,
            "total_tokens": prompt + made,
            "prompt_tokens_details": {"cached_tokens": sum(answer.cached_tokens for answer in prompts)},
        }

    def facts(self, indexes: Iterable[int], queued: float) -> dict[str, Any]:
        """Our own field: what an Answer knows beside its text, for each of the answers."""
        records = [self.answers[index].record() | {"index": index} for index in sorted(indexes)]
        return {
            "id": self.id,
            "expert": self.expert.name,
            "identity": self.expert.identity,
            "queued_seconds": round(queued, 4),
            "answers": [{key: value for key, value in record.items() if key != "text"} for record in records],
        }

    def _certain(self, index: int, tokens: Sequence[Token]) -> str:
        """The text of tokens that goes out now: with tools, nothing that may be a call."""
        text = "".join(token.text for token in tokens)
        if self.asked.tools is None:
            return text
        return self._held.setdefault(index, HeldBack(self.asked.tools)).push(text)

    def _rest(self, index: int, answer: Answer) -> tuple[str, list[dict[str, Any]]]:
        held = self._held.get(index)
        return held.rest(answer.text) if held else ("", [])

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            **{"id": self.id, "object": kind, "created": self.created, "model": self.expert.name},
            **{"system_fingerprint": self.expert.identity[:16] or None, "choices": choices},
        }

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        kind = "chat.completion.chunk" if self.asked.chat else "text_completion"
        usage = {"usage": None} if self.asked.usage else {}
        return event(self._body(kind, choices) | usage | more)

    def _piece(self, index: int, delta: dict[str, Any], logprobs: Any = None) -> dict[str, Any]:
        said = {"delta": delta} if self.asked.chat else {"text": delta.get("content", "")}
        return {"index": index, **said, "logprobs": logprobs, "finish_reason": None}

    def _probabilities(self, index: int, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if not self.asked.logprobs:
            return None
        # The ending token, and one that leaves a character incomplete, have no text of their own.
        shown = [token for token in tokens if token.text]
        if self.asked.chat:
            return {"content": [_chat_token(token) for token in shown], "refusal": None}
        offsets = []
        for token in shown:
            offsets.append(self._lengths.get(index, 0))
            self._lengths[index] = offsets[-1] + len(token.text)
        return {
            "tokens": [token.text for token in shown],
            "token_logprobs": [token.logprob for token in shown],
            "top_logprobs": [dict(token.alternatives) for token in shown],
            "text_offset": offsets,
        }


def event(body: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + encoded(body) + b"\n\n"


def encoded(body: dict[str, Any]) -> bytes:
    """A body as it goes over the wire."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _chat_token(token: Token) -> dict[str, Any]:
    top = [_described(text, logprob) for text, logprob in token.alternatives]
    return _described(token.text, token.logprob) | {"top_logprobs": top}


def _described(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}
