"""Functions that a client offers: shown to the model by its own chat template, and its calls read out of its answer.

In the form that Hermes began and Qwen, SmolLM3 and others were trained on: a call is JSON between <tool_call> tags, and
its result comes back as a turn of the user between <tool_response> tags. Models of other forms are told apart by their
template, and the request is refused.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from werkmeister.delivery.refusals import Refusal
from werkmeister.engines.stopping import StopTexts

_OPENING, _CLOSING = "<tool_call>", "</tool_call>"
_CALL = re.compile(rf"{_OPENING}\s*(.*?)\s*(?:{_CLOSING}|\Z)", re.DOTALL)
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a client offers. `forced` says that the answer must be a call, `one` that it must not be several."""

    offered: tuple[Mapping[str, Any], ...]
    forced: bool = False
    one: bool = False

    def schema(self) -> dict[str, Any] | None:
        """The JSON schema of a call, where the answer must be one."""
        if not self.forced:
            return None
        return {"anyOf": [_call_schema(tool["function"]) for tool in self.offered]}

    def calls(self, text: str) -> tuple[str, list[dict[str, Any]]]:
        """The text before the calls, and the calls in OpenAI's form; all of it as text where a call is unreadable."""
        found = [text] if self.forced else [match[1] for match in _CALL.finditer(text)]
        calls = [_call(one, {tool["function"]["name"] for tool in self.offered}) for one in found]
        whole = [call for call in calls if call is not None]
        if not whole or len(whole) < len(calls):
            return text, []
        before = "" if self.forced else text[: text.index(_OPENING)].strip()
        return before, whole[:1] if self.one else whole


@dataclass
class HeldBack:
    """The text of a stream that may go out: all before the first call, which is known to be one only at the end."""

    tools: Tools
    sent: int = 0
    _texts: StopTexts = field(default_factory=lambda: StopTexts((_OPENING,)))
    _calling: bool = False

    def push(self, text: str) -> str:
        """What of the text so far is certain to be no call, and was not given yet."""
        if self._calling or self.tools.forced:
            return ""
        sure, self._calling = self._texts.push(text)
        self.sent += len(sure)
        return sure

    def rest(self, answer: str) -> tuple[str, list[dict[str, Any]]]:
        """At the end: the text that was held back and is text after all, and the calls."""
        _, calls = self.tools.calls(answer)
        return ("", calls) if calls else (answer[self.sent :], [])


def read_tools(body: Mapping[str, Any], *, can: bool) -> Tools | None:
    """The functions of a request whose body fits the schema; `can` says whether the model knows calls. May refuse."""
    choice = body.get("tool_choice")
    offered = tuple(body.get("tools") or ())
    _refuse_where_not(can, body, offered)
    names = [tool["function"]["name"] for tool in offered]
    for name in names:
        if not _NAME.fullmatch(name):
            raise Refusal(400, "invalid_value", "a function's name has 1 to 64 letters, digits, _ . -", param="tools")
    if isinstance(choice, Mapping):
        name = choice["function"]["name"]
        if name not in names:
            raise Refusal(400, "invalid_value", f"tool_choice names {name[:64]!r}, no tool here", param="tool_choice")
        offered = tuple(tool for tool in offered if tool["function"]["name"] == name)
    if not offered or choice == "none":
        return None
    forced = choice == "required" or isinstance(choice, Mapping)
    return Tools(offered=offered, forced=forced, one=body.get("parallel_tool_calls") is False)


def tool_turns(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages with calls and results as the turns of text that such models were trained on."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role, content = message["role"], message.get("content")
        if role == "tool":
            said = f"<tool_response>\n{_plain(content)}\n</tool_response>"
            # Results of calls that were made together come back together.
            if turns and turns[-1].get("results"):
                turns[-1]["content"] += f"\n{said}"
            else:
                turns.append({"role": "user", "content": said, "results": True})
        elif message.get("tool_calls"):
            calls = [f"{_OPENING}\n{_said(call)}\n{_CLOSING}" for call in message["tool_calls"]]
            turns.append({"role": role, "content": "\n".join([*([_plain(content)] if content else []), *calls])})
        else:
            turns.append(dict(message))
    return list(turns)


def _refuse_where_not(can: bool, body: Mapping[str, Any], offered: Sequence[Any]) -> None:
    if body.get("functions"):
        raise Refusal(400, "tools_not_supported", "functions are old: send them as tools", param="functions")
    if can:
        return
    if offered:
        raise Refusal(
            400,
            "tools_not_supported",
            "this expert's model was not trained to call tools; response_format with a JSON schema gives answers that "
            "a program can read",
            param="tools",
        )
    if any(one.get("tool_calls") or one.get("role") == "tool" for one in body["messages"]):
        raise Refusal(400, "tools_not_supported", "this expert's model does not call tools", param="messages")


def _call_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = dict(function.get("parameters") or {"type": "object", "properties": {}, "additionalProperties": False})
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _call(text: str, names: set[str]) -> dict[str, Any] | None:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("name") not in names or not isinstance(said.get("arguments", {}), dict):
        return None
    arguments = json.dumps(said.get("arguments", {}), ensure_ascii=False)
    function = {"name": said["name"], "arguments": arguments}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


def _said(call: Mapping[str, Any]) -> str:
    """A call of an earlier answer as the model wrote it."""
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except ValueError as error:
        raise Refusal(400, "invalid_value", "the arguments of a call are no JSON", param="messages") from error
    return json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)


def _plain(content: str | Sequence[Mapping[str, Any]] | None) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content or ())
