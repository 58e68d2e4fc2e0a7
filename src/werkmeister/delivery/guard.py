"""Who may come in: Host and Origin, API keys, and the headers that every answer carries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from werkmeister.delivery.keys import Keys
from werkmeister.delivery.refusals import Refusal

_OPEN = frozenset({"/health"})
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)


@dataclass(frozen=True, kw_only=True)
class Door:
    """How the door is kept. `hosts`: names that the Host header may have, () for any. `keys_needed`: whether everything
    but /health and the chat page demands a key."""

    keys: Keys | None
    keys_needed: bool
    hosts: tuple[str, ...]


def with_headers(send: Send, headers: Iterable[tuple[bytes, bytes]]) -> Send:
    """Like `send`, and every answer carries these headers beside those that it has itself."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(pair for pair in headers if pair[0] not in given)]
        await send(message)

    return guarded


class Guard:
    """ASGI middleware: refuses who may not come in, before anything of the request is read.

    A page on another site cannot use a server on this machine through the person's browser: its Origin is refused, and
    under a name that it points at 127.0.0.1 (DNS rebinding) the Host header is. There are no CORS headers.

    `open_paths` are let in without a key, as /health is; Host and Origin are checked there too.
    """

    def __init__(self, app: ASGIApp, door: Door, open_paths: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._door = door
        self._open = _OPEN | open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in or refuse."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = with_headers(send, _HEADERS)
        try:
            scope["werkmeister.client"] = admit(Request(scope), self._door, self._open)
        except Refusal as refusal:
            answer = JSONResponse(refusal.record(), refusal.status, refusal.headers)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


def admit(request: Request, door: Door, open_paths: frozenset[str] = _OPEN) -> str:
    """The client's name for the queue: whose key, else the address. Raises Refusal."""
    host = request.headers.get("host", "")
    if door.hosts and _host_name(host) not in door.hosts:
        raise Refusal(403, "host_refused", "the Host header names another machine; serve.hosts lists those allowed")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        raise Refusal(403, "origin_refused", "pages of other sites may not use this server")
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    owner = door.keys.owner(key.strip()) if door.keys is not None and scheme.lower() == "bearer" else None
    # The path that is routed by, not request.url.path: a URL is put together from the Host header as well.
    if owner is None and door.keys_needed and request.scope["path"] not in open_paths:
        raise Refusal(
            401,
            "invalid_api_key",
            "a valid API key is needed: Authorization: Bearer wm-…",
            headers={"WWW-Authenticate": "Bearer"},
        )
    if owner is not None:
        return f"key {owner}"
    return f"address {request.client.host if request.client else ''}"


def _host_name(host: str) -> str:
    """The name in a Host header without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
