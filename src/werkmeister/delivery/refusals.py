"""What the gateway refuses, in the form in which OpenAI's clients read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from werkmeister.errors import ContextError, DataError, SchemaError, WerkmeisterError

TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """A request that is answered with an error: never with a path, a prompt or a stack trace."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = dict(headers or {})

    def record(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def refusal_of(error: WerkmeisterError) -> Refusal:
    """What the client is told of an error below; our own log gets the rest."""
    if isinstance(error, ContextError):
        return Refusal(400, "context_length_exceeded", error.message, param="messages")
    if isinstance(error, SchemaError):
        return Refusal(
            400,
            "schema_not_supported",
            "this JSON schema cannot be enforced; use types, properties, enum, items and required",
            param="response_format",
        )
    if isinstance(error, DataError):
        return Refusal(
            400,
            "turns_refused",
            "the model's chat template refuses these turns: let user and assistant take turns",
            param="messages",
        )
    return Refusal(
        503,
        "engine_error",
        "the model broke off; it is started again for the next request, so ask again",
        headers={"Retry-After": "1"},
    )


def too_long(seconds: float) -> Refusal:
    """The time limit was reached."""
    return Refusal(504, "timeout", f"no whole answer within {seconds:g} s, the limit of this server")
