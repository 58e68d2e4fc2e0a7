"""From the bytes of a request to what is asked of the engine."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from werkmeister.chat import Conversation, Message
from werkmeister.delivery.refusals import Refusal
from werkmeister.delivery.schemas import CHAT, COMPLETION, MOST_PROMPTS, check
from werkmeister.delivery.tools import Tools, read_tools, tool_turns
from werkmeister.engines.engine import Sampling

_SEEDS = 1 << 32  # llama.cpp's seeds have 32 bits, and the last means "by chance"
_DEEPEST = 64


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One answer to make: a conversation's question (or a bare text to continue) and how to draw."""

    question: str
    history: Conversation
    sampling: Sampling
    bare: bool


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a client asked: the answers to make, `n` for each prompt in turn, and the form in which it wants them.

    `model` is "" where the client names none. `documents` are those of the library that it keeps to, () for all.
    """

    model: str
    voices: tuple[Voice, ...]
    n: int
    stream: bool
    usage: bool
    logprobs: bool
    chat: bool
    tools: Tools | None = None
    documents: tuple[str, ...] = ()


def read_json(body: bytes) -> dict[str, Any]:
    """The object in a body; a Refusal for what is none, however it is malformed."""
    try:
        value = json.loads(body, parse_constant=_no_constant)
        deep = _depth(value)
        # Lone surrogates and 1e999 pass the parser and no encoder.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_json", "the body is not valid JSON in UTF-8") from error
    if not isinstance(value, dict):
        raise Refusal(400, "invalid_json", "the body must be a JSON object")
    if deep > _DEEPEST:
        raise Refusal(400, "invalid_json", f"the body is nested more than {_DEEPEST} levels deep")
    return value


def read_chat(body: Mapping[str, Any], usual: Sampling, most_tokens: int, *, calls_tools: bool = False) -> Asked:
    """The body of /v1/chat/completions; `usual` is how the expert answers where the client says nothing."""
    check(body, CHAT)
    tools = read_tools(body, can=calls_tools)
    messages = _messages(tool_turns(body["messages"]))
    if messages[-1].role != "user":
        raise Refusal(400, "invalid_value", "the last message must be the user's", param="messages")
    wants = bool(body.get("logprobs"))
    top = body.get("top_logprobs") or 0
    if top and not wants:
        raise Refusal(400, "invalid_value", "top_logprobs needs logprobs: true", param="top_logprobs")
    key = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    sampling = replace(_sampling(body, usual, most_tokens, key), alternatives=top, schema=_schema(body, usual))
    if tools is not None:
        sampling = replace(sampling, tools=tools.offered, schema=tools.schema())
    voices = [Voice(question=messages[-1].content, history=messages[:-1], sampling=sampling, bare=False)]
    asked = _asked(body, voices, chat=True, logprobs=wants)
    return replace(asked, tools=tools, documents=tuple(body.get("documents") or ()))


def read_completion(body: Mapping[str, Any], usual: Sampling, most_tokens: int) -> Asked:
    """The body of /v1/completions."""
    check(body, COMPLETION)
    prompts = [body["prompt"]] if isinstance(body["prompt"], str) else body["prompt"]
    if len(prompts) * (body.get("n") or 1) > MOST_PROMPTS:
        raise Refusal(400, "invalid_value", f"prompts times n must not exceed {MOST_PROMPTS}", param="n")
    sampling = _sampling(body, replace(usual, schema=None), most_tokens, "max_tokens")
    sampling = replace(sampling, alternatives=body.get("logprobs") or 0)
    voices = [Voice(question=prompt, history=(), sampling=sampling, bare=True) for prompt in prompts]
    return _asked(body, voices, chat=False, logprobs=body.get("logprobs") is not None)


def _asked(body: Mapping[str, Any], voices: list[Voice], *, chat: bool, logprobs: bool) -> Asked:
    n = body.get("n") or 1
    several = [
        replace(voice, sampling=replace(voice.sampling, seed=(voice.sampling.seed + number) % (_SEEDS - 1)))
        for voice in voices
        for number in range(n)
    ]
    return Asked(
        model=body.get("model", ""),
        voices=tuple(several),
        n=n,
        stream=bool(body.get("stream")),
        usage=bool((body.get("stream_options") or {}).get("include_usage")),
        logprobs=logprobs,
        chat=chat,
    )


def _sampling(body: Mapping[str, Any], usual: Sampling, most_tokens: int, key: str) -> Sampling:
    stop = body.get("stop") or ()
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    longest = body.get(key)
    if longest is not None and longest > most_tokens:
        raise Refusal(
            400, "invalid_value", f"{key} is {longest}, and this server allows at most {most_tokens}", param=key
        )
    seed, heat, share = body.get("seed"), body.get("temperature"), body.get("top_p")
    return replace(
        usual,
        temperature=usual.temperature if heat is None else float(heat),
        top_p=usual.top_p if share is None else float(share),
        max_tokens=longest if longest is not None else min(usual.max_tokens, most_tokens),
        seed=secrets.randbelow(_SEEDS - 1) if seed is None else seed % (_SEEDS - 1),
        stop=tuple(dict.fromkeys((*usual.stop, *stops))),
    )


def _schema(body: Mapping[str, Any], usual: Sampling) -> Mapping[str, Any] | None:
    wanted = body.get("response_format") or {"type": "text"}
    if wanted["type"] == "json_object":
        return usual.schema or {"type": "object"}
    if wanted["type"] == "json_schema":
        if "json_schema" not in wanted:
            raise Refusal(400, "invalid_value", "response_format.json_schema is missing", param="response_format")
        schema: Mapping[str, Any] = wanted["json_schema"]["schema"]
        return schema
    return usual.schema


def _messages(given: Sequence[Mapping[str, Any]]) -> Conversation:
    """The turns; system messages at the head are one, and stand nowhere else."""
    turns = [Message("system" if m["role"] == "developer" else m["role"], _text(m["content"])) for m in given]
    head = next((index for index, turn in enumerate(turns) if turn.role != "system"), len(turns))
    if any(turn.role == "system" for turn in turns[head:]):
        raise Refusal(400, "invalid_value", "system messages must come before all others", param="messages")
    system = "\n\n".join(turn.content for turn in turns[:head] if turn.content)
    return (*((Message("system", system),) if system else ()), *turns[head:]) or tuple(turns)


def _text(content: str | list[Mapping[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return deepest


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
