"""The review page: an HTTP server on this machine's loopback, closed to everybody but the person who started it.

Whoever knows the address may decide, so the address holds a secret. Host and Origin are checked (a page elsewhere that
points its own name at 127.0.0.1 gets nothing), no answer may be read by another origin, and the page loads nothing
from anywhere else.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from werkmeister.delivery.guard import with_headers
from werkmeister.delivery.listening import Server, listening_socket
from werkmeister.delivery.review_session import ReviewSession, read_filter
from werkmeister.errors import MachineError
from werkmeister.machine import explain_os_error

_PAGE = Path(__file__).parent / "review_page"
_LARGEST_BODY = 1 << 20
_MOST_ROWS = 200
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)


class ReviewServer:
    """Serves one session on 127.0.0.1 from construction (the port is held) until `run` returns.

    `port` 0 takes any free one. Raises MachineError when the port is taken.
    """

    def __init__(self, session: ReviewSession, *, port: int = 0) -> None:
        try:
            self._socket = listening_socket("127.0.0.1", port)
        except OSError as error:
            raise MachineError(
                f"port {port} of 127.0.0.1 cannot be used: {error.strerror or error}",
                hint="choose another with --port, or leave it out for any free one",
            ) from error
        token = secrets.token_urlsafe(24)
        here = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = f"http://{here}/{token}/"
        hosts = (here, here.replace("127.0.0.1", "localhost"))
        self._guard = _Guard(_app(session), token=token, hosts=hosts)
        config = uvicorn.Config(
            self._guard,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        self._server = Server(config)

    def url_to_open(self) -> str:
        """An address that leads to the page once: for a browser's command line, which other users can read."""
        code = secrets.token_urlsafe(24)
        self._guard.once.add(code)
        return self.url.rsplit("/", 2)[0] + f"/{code}"

    def run(self) -> None:
        """Serve until Ctrl-C, SIGTERM or `stop`; a request that is being answered is finished first."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Make `run` return; may be called from any thread."""
        self._server.should_exit = True


class _Guard:
    """Turns away whatever does not come from the page itself, and puts the protecting headers on every answer."""

    def __init__(self, app: ASGIApp, *, token: str, hosts: tuple[str, ...]) -> None:
        self._app, self._token, self._hosts = app, token, hosts
        self.once: set[str] = set()
        self._origins = tuple(f"http://{host}" for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refused(Request(scope))
        await (refused or self._app)(scope, receive, with_headers(send, _HEADERS))

    def _refused(self, request: Request) -> Response | None:
        sent = request.headers
        own_origin = sent.get("origin") in self._origins if "origin" in sent else request.method in ("GET", "HEAD")
        if sent.get("host") not in self._hosts or not own_origin:
            return PlainTextResponse("This page answers its own address alone.\n", 403)
        if sent.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return PlainTextResponse("This page answers no other page.\n", 403)
        given = request.url.path.split("/")[1]
        if given in self.once:
            self.once.discard(given)
            return RedirectResponse(f"/{self._token}/", 303)
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return PlainTextResponse("The address is not whole: use the one that werkmeister review printed.\n", 404)
        return None


def _app(session: ReviewSession) -> Starlette:
    endpoints = _Endpoints(session)
    routes = [
        Route("/{token}/", endpoints.page),
        Route("/{token}/review.js", endpoints.file),
        Route("/{token}/review.css", endpoints.file),
        Route("/{token}/overview", endpoints.overview),
        Route("/{token}/ids", endpoints.ids),
        Route("/{token}/rows", endpoints.rows),
        Route("/{token}/item/{id}", endpoints.item),
        Route("/{token}/decide", endpoints.decide, methods=["POST"]),
        Route("/{token}/undo", endpoints.undo, methods=["POST"]),
    ]
    return Starlette(routes=routes)


class _Endpoints:
    """The addresses below the secret; those with `def` run in threads, since they read or write files."""

    def __init__(self, session: ReviewSession) -> None:
        self._session = session
        self._labels: dict[str, dict[str, Any]] = json.loads((_PAGE / "labels.json").read_text(encoding="utf-8"))

    def page(self, request: Request) -> Response:
        import jinja2

        language = _language(request, tuple(self._labels))
        loader = jinja2.FileSystemLoader(_PAGE)
        pages = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
        text = pages.get_template("review.html").render(
            t=self._labels[language],
            lang=language,
            others=[(name, words["language"]) for name, words in self._labels.items() if name != language],
            expert=self._session.expert.resolve().name,
        )
        return Response(text, media_type="text/html")

    def file(self, request: Request) -> Response:
        name = request.url.path.rsplit("/", 1)[1]
        kind = "text/javascript" if name.endswith(".js") else "text/css"
        return Response((_PAGE / name).read_bytes(), media_type=kind)

    def overview(self, request: Request) -> Response:
        return JSONResponse(self._session.overview())

    def ids(self, request: Request) -> Response:
        ids, first = self._session.ids(read_filter(request.query_params))
        return JSONResponse({"ids": ids, "first": first})

    def rows(self, request: Request) -> Response:
        asked = request.query_params.get("ids", "").split(",")[:_MOST_ROWS]
        return JSONResponse({"rows": self._session.rows(asked)})

    def item(self, request: Request) -> Response:
        found = self._session.item(request.path_params["id"])
        return JSONResponse(found) if found else _error("there is no such pair", 404)

    async def decide(self, request: Request) -> Response:
        said = await _body(request)
        if isinstance(said, Response):
            return said

        def work() -> str:
            texts = {name: str(said.get(name, "")) for name in ("question", "answer", "note")}
            self._session.decide(str(said.get("id", "")), str(said.get("decision", "")), **texts)
            return str(said["id"])

        return await self._changed(work)

    async def undo(self, request: Request) -> Response:
        return await self._changed(self._session.undo)

    async def _changed(self, work: Callable[[], str]) -> Response:
        """Do what changes the decisions, off the event loop, and answer with the pair as it stands now."""

        def answer() -> Response:
            try:
                pair_id = work()
            except KeyError:
                return _error("there is no such pair", 404)
            except ValueError as error:
                return _error(str(error), 400)
            except OSError as error:
                return _error(str(explain_os_error(error) or error), 507)
            item = self._session.item(pair_id) if pair_id else None
            return JSONResponse({"item": item, "progress": self._session.progress()})

        return await run_in_threadpool(answer)


async def _body(request: Request) -> dict[str, Any] | Response:
    """The JSON object that was sent, or the answer that says what is wrong with it."""
    if request.headers.get("content-type", "").split(";")[0] != "application/json":
        return _error("JSON is needed", 415)
    held = b""
    async for chunk in request.stream():
        held += chunk
        if len(held) > _LARGEST_BODY:
            return _error("the text is too long", 413)
    try:
        said = json.loads(held)
    except (ValueError, RecursionError):
        return _error("that is not JSON", 400)
    return said if isinstance(said, dict) else _error("a JSON object is needed", 400)


def _error(words: str, status: int) -> Response:
    return JSONResponse({"error": words}, status)


def _language(request: Request, known: tuple[str, ...]) -> str:
    """The language asked for in the address, else the first known one that the browser asks for, else English."""
    asked = [request.query_params.get("lang", "")]
    asked += [part.split(";")[0].strip() for part in request.headers.get("accept-language", "").split(",")]
    return next((tag[:2].lower() for tag in asked if tag[:2].lower() in known), "en")
