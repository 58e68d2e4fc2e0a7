"""The bodies that the gateway takes, declared once as JSON schemas: what is checked is what the OpenAPI page says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from werkmeister.delivery.refusals import Refusal

Schema = Mapping[str, Any]

MOST_CHOICES = 16
MOST_PROMPTS = 64


def _number(low: float, high: float, text: str) -> Schema:
    return {"type": ["number", "null"], "minimum": low, "maximum": high, "description": text}


def _whole(low: int, high: int, text: str) -> Schema:
    return {"type": ["integer", "null"], "minimum": low, "maximum": high, "description": text}


def _flag(text: str) -> Schema:
    return {"type": ["boolean", "null"], "description": text}


_PART: Schema = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
    "description": "a part of a message; text is the only kind that this model reads",
}
_CONTENT: list[Schema] = [{"type": "string"}, {"type": "array", "minItems": 1, "items": _PART}]
_CALL: Schema = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "arguments": {"type": "string"}},
            "required": ["name", "arguments"],
        },
    },
    "required": ["function"],
}
_MESSAGE: Schema = {
    "anyOf": [
        {
            "type": "object",
            "properties": {
                "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
                "content": {"anyOf": _CONTENT},
                "tool_calls": {"type": ["array", "null"], "items": _CALL},
            },
            "required": ["role", "content"],
        },
        {
            "type": "object",
            "properties": {
                "role": {"const": "assistant"},
                "content": {"anyOf": [*_CONTENT, {"type": "null"}]},
                "tool_calls": {"type": "array", "minItems": 1, "items": _CALL},
            },
            "required": ["role", "tool_calls"],
        },
    ]
}
_TOOL: Schema = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "description": {"type": ["string", "null"]},
                "parameters": {"type": ["object", "null"]},
            },
            "required": ["name"],
        },
    },
    "required": ["type", "function"],
}
_CHOICE: Schema = {
    "anyOf": [
        {"enum": ["none", "auto", "required", None]},
        {
            "type": "object",
            "properties": {
                "type": {"const": "function"},
                "function": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            },
            "required": ["type", "function"],
        },
    ],
    "description": "whether the answer may, must or must not be a call, or the function to call",
}
_FORMAT: Schema = {
    "type": ["object", "null"],
    "properties": {
        "type": {"enum": ["text", "json_object", "json_schema"]},
        "json_schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "schema": {"type": "object"}, "strict": _flag("always so here")},
            "required": ["schema"],
        },
    },
    "required": ["type"],
    "description": "a JSON schema that the answer fulfils; json_object is any JSON object",
}
_DRAWING: dict[str, Schema] = {
    "model": {"type": "string", "description": "the expert's name; may be left out"},
    "stream": _flag("send the answer piece by piece as server-sent events"),
    "stream_options": {
        "type": ["object", "null"],
        "properties": {"include_usage": _flag("a last piece with the numbers of tokens")},
    },
    "max_tokens": _whole(1, 1 << 20, "longest answer; default: the expert's own setting"),
    "temperature": _number(0, 5, "0: always the likeliest token; default: the expert's own setting, not 1"),
    "top_p": _number(0, 1, "draw from the likeliest tokens that together have this probability"),
    "seed": _whole(-(1 << 63), (1 << 63) - 1, "one seed gives one answer, on the same machine and version"),
    "stop": {
        "anyOf": [
            {"type": "null"},
            {"type": "string", "minLength": 1},
            {"type": "array", "maxItems": 16, "items": {"type": "string", "minLength": 1}},
        ],
        "description": "texts before which the answer ends, beside the expert's own",
    },
    "n": _whole(1, MOST_CHOICES, "how many answers; their seeds follow one another"),
    "frequency_penalty": _number(0, 0, "not supported: 0 or left out"),
    "presence_penalty": _number(0, 0, "not supported: 0 or left out"),
    "logit_bias": {"type": ["object", "null"], "maxProperties": 0, "description": "not supported: empty or left out"},
    "user": {"type": ["string", "null"], "description": "taken and not used"},
}
CHAT: Schema = {
    "type": "object",
    "properties": _DRAWING
    | {
        "messages": {"type": "array", "minItems": 1, "maxItems": 4096, "items": _MESSAGE},
        "max_completion_tokens": _DRAWING["max_tokens"],
        "response_format": _FORMAT,
        "tools": {
            "type": ["array", "null"],
            "maxItems": 128,
            "items": _TOOL,
            "description": "functions that the answer may call, where the model was trained to (its template says so)",
        },
        "tool_choice": _CHOICE,
        "parallel_tool_calls": _flag("whether the answer may be several calls"),
        "documents": {
            "type": ["array", "null"],
            "maxItems": 256,
            "items": {"type": "string", "minLength": 1},
            "description": "Werkmeister's own: answer from these documents of the library alone, as sources name them",
        },
        "logprobs": _flag("tell the log-probability of each token"),
        "top_logprobs": _whole(0, 20, "and of as many of the likeliest tokens at its place; needs logprobs"),
    },
    "required": ["messages"],
}
COMPLETION: Schema = {
    "type": "object",
    "properties": _DRAWING
    | {
        "prompt": {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MOST_PROMPTS,
                    "items": {"type": "string", "minLength": 1},
                },
            ],
            "description": "continued as it is: no chat template, no system message; token ids are not taken",
        },
        "logprobs": _whole(0, 5, "tell the log-probabilities of as many of the likeliest tokens at each place"),
        "echo": {"enum": [False, None], "description": "not supported"},
        "best_of": _whole(1, 1, "not supported: 1 or left out"),
        "suffix": {"enum": ["", None], "description": "not supported"},
    },
    "required": ["prompt"],
}
EMBEDDING: Schema = {
    "type": "object",
    "properties": {
        "model": _DRAWING["model"],
        "input": {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "maxItems": 2048, "items": {"type": "string", "minLength": 1}},
            ]
        },
        "encoding_format": {"enum": ["float", "base64", None]},
        "dimensions": {"type": "null", "description": "not supported"},
        "user": _DRAWING["user"],
    },
    "required": ["input"],
}

_KINDS: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def check(value: Any, schema: Schema) -> None:
    """Raise a Refusal (400) that names the first value which a schema of this module does not allow.

    Understands the words that stand in this module, nothing more. Keys that a schema does not know pass: clients send
    all kinds of them.
    """
    found = _wrong(value, schema, "")
    if found:
        where, text = found
        raise Refusal(400, "invalid_value", f"{where or 'the body'} {text}", param=where or None)


def _wrong(value: Any, schema: Schema, where: str) -> tuple[str, str] | None:
    """The place and what is wrong with it; None when nothing is."""
    if "anyOf" in schema:
        return _wrong_in_all(value, schema["anyOf"], where)
    if "const" in schema and value != schema["const"]:
        return where, f"must be {schema['const']!r}"
    if "enum" in schema and not any(value == one and type(value) is type(one) for one in schema["enum"]):
        return where, f"must be one of {', '.join(repr(one) for one in schema['enum'] if one is not None)}"
    kinds = schema.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return where, f"must be of type {' or '.join(kind for kind in kinds if kind != 'null')}"
    if isinstance(value, dict):
        return _wrong_in_object(value, schema, where)
    if isinstance(value, list):
        return _wrong_in_array(value, schema, where)
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        return where, "must not be empty"
    if _is(value, "number") and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        if schema["minimum"] == schema["maximum"]:
            return where, f"is not supported: leave it out, or {schema['minimum']}"
        return where, f"must lie between {schema['minimum']} and {schema['maximum']}"
    return None


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _KINDS[kind])


def _wrong_in_all(value: Any, options: list[Schema], where: str) -> tuple[str, str] | None:
    found = [_wrong(value, option, where) for option in options]
    if None in found:
        return None
    # The option whose type fits says best what is wrong; it looked deepest.
    deep = [(place, text) for place, text in (one for one in found if one) if not text.startswith("must be of type")]
    return deep[0] if deep else (where, "has the wrong type")


def _wrong_in_object(value: dict[str, Any], schema: Schema, where: str) -> tuple[str, str] | None:
    dot = f"{where}." if where else ""
    if len(value) > schema.get("maxProperties", len(value)):
        return where, "is not supported: leave it out"
    for key, inner in schema.get("properties", {}).items():
        if key in value and (found := _wrong(value[key], inner, f"{dot}{key}")):
            return found
    for key in schema.get("required", ()):
        if key not in value:
            return f"{dot}{key}", "is missing"
    return None


def _wrong_in_array(value: list[Any], schema: Schema, where: str) -> tuple[str, str] | None:
    least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
    if not least <= len(value) <= most:
        return where, f"must have {least} to {most} entries" if "maxItems" in schema else "must not be empty"
    for index, entry in enumerate(value):
        if found := _wrong(entry, schema.get("items", {}), f"{where}[{index}]"):
            return found
    return None
