"""The OpenAPI document and the page for people, both from the schemas that requests are checked against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from werkmeister import __version__
from werkmeister.delivery.schemas import CHAT, COMPLETION, EMBEDDING, Schema

_ERROR: Schema = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}
_FACTS: Schema = {
    "type": "object",
    "description": "what else is known of the answers; joules and cost are 'not measured' where nothing measured them",
    "properties": {
        "id": {"type": "string", "description": "also the header x-request-id"},
        "expert": {"type": "string"},
        "identity": {"type": "string", "description": "hash of the model that answered"},
        "queued_seconds": {"type": "number"},
        "answers": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer"},
                    "confidence": {"type": ["number", "null"], "description": "probability of the least likely token"},
                    "route": {"type": "string"},
                    "citations": {
                        "type": "array",
                        "items": {"type": "object"},
                        "description": "for each sentence of the answer, where in the passages it stands",
                    },
                    "passages": {
                        "type": "array",
                        "items": {"type": "object"},
                        "description": "what stood before the question",
                    },
                    "notes": {"type": "array", "items": {"type": "string"}},
                    "tokens": {"type": "integer"},
                    "seconds": {"type": "number"},
                    "first_seconds": {"type": "number"},
                    "joules": {"type": ["number", "string"]},
                    "cost": {"type": ["number", "string"]},
                },
            },
        },
    },
}
_ANSWER: Schema = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "object": {"type": "string"},
        "created": {"type": "integer"},
        "model": {"type": "string"},
        "choices": {"type": "array", "items": {"type": "object"}},
        "usage": {"type": "object"},
        "werkmeister": _FACTS,
    },
    "required": ["id", "object", "created", "model", "choices", "usage", "werkmeister"],
}
_OBJECT: Schema = {"type": "object"}
_ASKING = (400, 401, 403, 404, 408, 413, 415, 429, 503, 504)
_LOOKING = (401, 403, 404)


def document(expert: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the gateway."""
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Werkmeister: {expert}", "version": __version__},
        "paths": {
            "/v1/chat/completions": {"post": _posted("Answer a conversation", "chat", CHAT, _ANSWER)},
            "/v1/completions": {"post": _posted("Continue a text", "completion", COMPLETION, _ANSWER)},
            "/v1/embeddings": {"post": _posted("Vectors of texts", "embeddings", EMBEDDING, _OBJECT, (501,))},
            "/v1/models": {"get": _got("The expert, as a list of models", "models")},
            "/v1/models/{model}": {"get": _got("The expert", "model") | {"parameters": [_MODEL]}},
            "/health": {"get": _got("Whether questions are taken", "health", more=(503,)) | {"security": []}},
            "/metrics": {"get": _got("Counters for Prometheus", "metrics", kind="text/plain")},
            "/openapi.json": {"get": _got("This document", "openapi")},
            "/docs": {"get": _got("This document for people", "docs", kind="text/html")},
        },
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def page(expert: str, address: str) -> str:
    """The page of the routes, with commands to try them."""
    from jinja2 import Environment, select_autoescape

    source = Path(__file__).with_name("docs.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=select_autoescape(default=True, default_for_string=True))
    routes = [
        {"method": method.upper(), "path": path, "summary": said["summary"], "keys": _keys(said)}
        for path, methods in document(expert)["paths"].items()
        for method, said in methods.items()
    ]
    example = {"messages": [{"role": "user", "content": "…"}]}
    return environment.from_string(source).render(
        expert=expert, address=address, routes=routes, example=json.dumps(example, ensure_ascii=False)
    )


_MODEL: dict[str, Any] = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}


def _keys(said: dict[str, Any]) -> list[dict[str, Any]]:
    if "requestBody" not in said:
        return []
    schema = said["requestBody"]["content"]["application/json"]["schema"]
    return [
        {"name": name, "needed": name in schema["required"], "meaning": inner.get("description", "")}
        for name, inner in schema["properties"].items()
    ]


def _posted(summary: str, operation: str, body: Schema, answer: Schema, more: tuple[int, ...] = ()) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": answer}}
    if answer is _ANSWER:
        content["text/event-stream"] = {}  # OpenAPI 3.1 has no words for events
    return {
        "summary": summary,
        "operationId": operation,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": {"description": "the answer", "content": content}} | _errors(_ASKING + more),
    }


def _got(summary: str, operation: str, *, kind: str = "application/json", more: tuple[int, ...] = ()) -> dict[str, Any]:
    content = {kind: {"schema": {"type": "string"} if kind.startswith("text/") else _OBJECT}}
    return {
        "summary": summary,
        "operationId": operation,
        "responses": {"200": {"description": summary, "content": content}} | _errors(_LOOKING + more),
    }


def _errors(statuses: tuple[int, ...]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(status): {"description": "refused, with the reason", "content": content} for status in statuses}
