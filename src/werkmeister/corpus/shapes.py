"""Shapes of rows: prompt and completion, chat messages, Alpaca, ShareGPT, question and answer, text and label."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from werkmeister.chat import Conversation, Example, Message, conversation
from werkmeister.corpus.findings import Findings

SPLITS = ("train", "valid", "exam")
CHAT_COLUMNS = frozenset({"messages", "conversations", "prompt", "completion"})

_SPLIT_WORDS = {"validation": "valid", "val": "valid", "dev": "valid", "test": "exam", "eval": "exam"} | {
    split: split for split in SPLITS
}
_ANSWERS = ("completion", "response", "answer", "output", "target")
# Prompt column → target columns, the first that is there; in this order of preference.
_PAIRS = {
    "prompt": _ANSWERS,
    "question": _ANSWERS,
    "query": _ANSWERS,
    "instruction": _ANSWERS,
    "input": _ANSWERS,
    "text": (*_ANSWERS, "label", "category", "intent"),
}
_HEAVIEST = 1000
_OPTIONAL = ("system", "split", "part", "label", "group", "weight")
_ROLES = {
    **{"system": "system", "developer": "system"},
    **{"user": "user", "human": "user"},
    **{"assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant", "bot": "assistant"},
}
KNOWN_SHAPES = (
    "prompt + completion, messages, instruction (+ input) + output, conversations, question + answer, or text + label"
)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which column of a file holds what; "" where there is none. `unused` are columns that say nothing to us."""

    shape: str
    prompt: str
    target: str = ""
    more: str = ""
    system: str = ""
    split: str = ""
    part: str = ""
    label: str = ""
    group: str = ""
    weight: str = ""
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Given:
    """An example as a file gives it; `split` is "" where the file does not say.

    `written` says that the stage write made it, and no person's file.
    """

    example: Example
    split: str = ""
    written: bool = False


def split_named(word: str) -> str:
    """The split that a word such as "validation" or "test" names, "" when it names none."""
    return _SPLIT_WORDS.get(word.strip().lower(), "")


@lru_cache(maxsize=256)
def layout_of(columns: tuple[str, ...]) -> Layout | None:
    """How rows with these columns are read (upper and lower case alike); None when they fit no known shape."""
    named = {column.strip().lower(): column for column in columns}
    if "messages" in named:
        found = {"shape": "messages", "prompt": named["messages"]}
    elif "conversations" in named:
        found = {"shape": "ShareGPT", "prompt": named["conversations"]}
    else:
        found = _pair(named)
    if not found:
        return None
    taken = set(found.values())
    found |= {key: named[key] for key in _OPTIONAL if key in named and (named[key] not in taken or key == "label")}
    unused = tuple(column for column in columns if column not in found.values())
    return Layout(**found, unused=unused)


def _pair(named: Mapping[str, str]) -> dict[str, str]:
    for prompt, targets in _PAIRS.items():
        target = next((column for column in targets if column in named), "")
        if prompt in named and target:
            found = {"shape": f"{prompt} + {target}", "prompt": named[prompt], "target": named[target]}
            if prompt == "instruction" and "input" in named:
                found |= {"shape": f"instruction + input + {target}", "more": named["input"]}
            if target in ("label", "category", "intent"):
                found["label"] = named[target]
            return found
    return {}


def read_row(row: Mapping[str, Any], layout: Layout, where: str, findings: Findings) -> Given | None:
    """One row as an Example with its split; None, and findings with the field named, when it cannot be read.

    Texts stay as they are, white space included. Numbers are taken for labels and groups, never for texts.
    """
    before = findings.count
    system = _text(row, layout.system, where, findings, may_miss=True) if layout.system else ""
    if layout.target:
        prompt, target = _read_pair(row, layout, system, where, findings)
    else:
        turns = _turns(row.get(layout.prompt), layout.prompt, where, findings)
        prompt, target = _last_answer(turns, system, layout.prompt, where, findings)
    names = {key: _name(row, getattr(layout, key), where, findings) for key in ("part", "label", "group")}
    split = _split(row, layout.split, where, findings) if layout.split else ""
    weight = _weight(row, layout.weight, where, findings) if layout.weight else 1.0
    if findings.count > before:
        return None
    return Given(Example(prompt=prompt, target=target, source=where, weight=weight, **names), split)


def _read_pair(
    row: Mapping[str, Any], layout: Layout, system: str, where: str, findings: Findings
) -> tuple[Conversation, str]:
    given = row.get(layout.prompt)
    prompt: Conversation = ()
    if isinstance(given, list):
        # Conversational prompts: a list of messages, and a completion of one.
        prompt = _turns(given, layout.prompt, where, findings)
        if prompt:
            _check_order((*prompt, Message("assistant", "")), layout.prompt, where, findings)
        if prompt and system and prompt[0].role != "system":
            prompt = (Message("system", system), *prompt)
    else:
        question = _text(row, layout.prompt, where, findings)
        more = _text(row, layout.more, where, findings, may_miss=True) if layout.more else ""
        prompt = conversation(f"{question}\n\n{more}" if more else question, system)
    answer = row.get(layout.target)
    if isinstance(answer, list):
        turns = _turns(answer, layout.target, where, findings)
        if turns and [turn.role for turn in turns] != ["assistant"]:
            findings.add(f"{where}: {layout.target} must be a text or one assistant message")
        return prompt, turns[-1].content if turns else ""
    if layout.target == layout.label:
        return prompt, _name(row, layout.target, where, findings, may_miss=False)
    return prompt, _text(row, layout.target, where, findings)


def _text(row: Mapping[str, Any], field: str, where: str, findings: Findings, *, may_miss: bool = False) -> str:
    value = row.get(field)
    if value is None or value == "":
        if not may_miss:
            findings.add(f"{where}: {field} is {'empty' if value == '' else 'missing'}")
        return ""
    if not isinstance(value, str):
        advice = "; write it as JSON text" if isinstance(value, dict | list) else ""
        findings.add(f"{where}: {field} is {_kind(value)}, must be a text{advice}")
        return ""
    if value.isspace() and not may_miss:
        findings.add(f"{where}: {field} is empty (white space only)")
    return _checked(value, field, where, findings)


def _checked(value: str, field: str, where: str, findings: Findings) -> str:
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            findings.add(f"{where}: {field} has half a surrogate pair at character {error.start + 1}")
            return ""
    if "\0" in value:
        findings.add(f"{where}: {field} has a NUL character at character {value.index(chr(0)) + 1}")
    return value


def _name(row: Mapping[str, Any], field: str, where: str, findings: Findings, *, may_miss: bool = True) -> str:
    value = row.get(field) if field else None
    if isinstance(value, bool | int):
        return str(value).lower()
    if value is None or isinstance(value, str):
        return _text(row, field, where, findings, may_miss=may_miss)
    findings.add(f"{where}: {field} is {_kind(value)}, must be a text or a whole number")
    return ""


def _weight(row: Mapping[str, Any], field: str, where: str, findings: Findings) -> float:
    """The weight of a row, 1 where the field is empty."""
    value = row.get(field)
    if value is None or value == "":
        return 1.0
    try:
        weight = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 < weight <= _HEAVIEST:
        findings.add(f"{where}: {field} is {value!r}, must be a number above 0 and at most {_HEAVIEST}")
    return weight


def _split(row: Mapping[str, Any], field: str, where: str, findings: Findings) -> str:
    word = _text(row, field, where, findings, may_miss=True)
    split = split_named(word)
    if word.strip() and not split:
        near = difflib.get_close_matches(word, _SPLIT_WORDS, n=1)
        guess = f"; did you mean {_SPLIT_WORDS[near[0]]!r}?" if near else ""
        findings.add(f"{where}: {field} is {word!r}, must be one of {', '.join(SPLITS)}{guess}")
    return split


def _turns(value: Any, field: str, where: str, findings: Findings) -> Conversation:
    """The messages of a list; () and findings when one of them cannot be read."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        # CSV has no lists: they stand there as JSON text.
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            findings.add(f"{where}: {field} is not valid JSON: {error}")
            return ()
    if not value:
        findings.add(f"{where}: {field} is {'missing' if value is None else 'empty'}")
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        findings.add(f"{where}: {field} is {_kind(value)}, must be a list of messages")
        return ()
    before = findings.count
    turns = [_turn(item, f"{field}[{index}]", where, findings) for index, item in enumerate(value)]
    return () if findings.count > before else tuple(turns)


def _turn(item: Any, field: str, where: str, findings: Findings) -> Message:
    if not isinstance(item, Mapping):
        findings.add(f"{where}: {field} is {_kind(item)}, must be an object with role and content")
        return Message("user", "")
    who, what = ("role", "content") if "role" in item else ("from", "value")
    role = item.get(who)
    if role is None:
        findings.add(f"{where}: {field} has neither role nor from")
        return Message("user", "")
    known = _ROLES.get(role.lower()) if isinstance(role, str) else None
    if known is None:
        findings.add(f"{where}: {field}.{who} is {role!r}, must be system, user or assistant")
    content = item.get(what)
    if isinstance(content, list):
        content = _parts(content, f"{field}.{what}", where, findings)
        if content is None:
            return Message("user", "")
    return Message(known or "user", _text({f"{field}.{what}": content}, f"{field}.{what}", where, findings))


def _parts(parts: list[Any], field: str, where: str, findings: Findings) -> str | None:
    texts = []
    for index, part in enumerate(parts):
        text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, Mapping) else _kind(part)
            findings.add(f"{where}: {field}[{index}] is {kind!r}, and only text parts can be learnt")
            return None
        texts.append(text)
    return "".join(texts)


def _last_answer(
    turns: Conversation, system: str, field: str, where: str, findings: Findings
) -> tuple[Conversation, str]:
    if not turns:
        return (), ""
    _check_order(turns, field, where, findings)
    prompt = turns[:-1]
    if system and turns[0].role != "system":
        prompt = (Message("system", system), *prompt)
    return prompt, turns[-1].content


def _check_order(turns: Conversation, field: str, where: str, findings: Findings) -> None:
    """At most one system message, at the front; then user and assistant in turn; the assistant has the last word."""
    body = turns[1:] if turns[0].role == "system" else turns
    shift = len(turns) - len(body)
    for index, turn in enumerate(body):
        wanted = "assistant" if index % 2 else "user"
        if turn.role != wanted:
            findings.add(f"{where}: {field}[{index + shift}] is of the {turn.role}, must be of the {wanted}")
            return
    if not body or body[-1].role != "assistant":
        findings.add(f"{where}: {field} ends without an answer; the last message must be of the assistant")


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number"}
    return "null" if value is None else kinds.get(type(value), "a number" if isinstance(value, float) else "a value")
