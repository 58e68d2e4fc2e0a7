"""The gateway: an expert behind OpenAI's routes, as a Starlette application."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import secrets
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from werkmeister.consulting.expert import Answer, Expert
from werkmeister.delivery.answers import Reporter, encoded, event
from werkmeister.delivery.dispatch import Dispatcher
from werkmeister.delivery.gateway_page import page_routes
from werkmeister.delivery.guard import Door, Guard
from werkmeister.delivery.metrics import Metrics
from werkmeister.delivery.openapi import document, page
from werkmeister.delivery.reading import Asked, read_chat, read_completion, read_json
from werkmeister.delivery.refusals import Refusal, too_long
from werkmeister.delivery.rounds import Item, Round
from werkmeister.delivery.schemas import EMBEDDING, check
from werkmeister.delivery.settings import ServeSettings
from werkmeister.engines.engine import Token
from werkmeister.errors import ArtefactError

_log = logging.getLogger(__name__)

_READING = 30.0  # seconds that a client may take to send its body
Result = TypeVar("Result")

_GONE = 499  # what is counted for a client that went away; nothing is sent
_PORTION = 8  # texts that are embedded in one go


class Embedder(Protocol):
    """What makes vectors of texts: a model that was trained to compare, never the expert's own."""

    name: str

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text."""


class Gateway:
    """The routes over one expert, and the chat page; `app` is the ASGI application."""

    def __init__(
        self, expert: Expert, settings: ServeSettings, door: Door, *, slots: int, embedder: Embedder | None = None
    ) -> None:
        self.expert, self.settings, self.embedder = expert, settings, embedder
        self.metrics = Metrics()
        self.dispatcher = Dispatcher(slots, settings.queue)
        self.draining = False
        self._embedding = asyncio.Lock()
        routes = [
            Route("/v1/chat/completions", self._route(self.chat), methods=["POST"]),
            Route("/v1/completions", self._route(self.completion), methods=["POST"]),
            Route("/v1/embeddings", self._route(self.embeddings), methods=["POST"]),
            Route("/v1/models", self._route(self.models), methods=["GET"]),
            Route("/v1/models/{model}", self._route(self.model), methods=["GET"]),
            Route("/health", self._route(self.health), methods=["GET"]),
            Route("/metrics", self._route(self.measured), methods=["GET"]),
            Route("/openapi.json", self._route(self.described), methods=["GET"]),
            Route("/docs", self._route(self.page), methods=["GET"]),
        ]
        about = {"engine": "gateway", "name": expert.name, "identity": expert.identity, "key": door.keys_needed}
        pages = page_routes(about)
        self.app = Starlette(
            routes=[*routes, *pages],
            middleware=[Middleware(Guard, door, open_paths=frozenset(route.path for route in pages))],
            exception_handlers={HTTPException: _unknown, Exception: _mistake},
            lifespan=self._lifespan,
        )

    def drain(self) -> None:
        """Take nothing new and answer what waits with 503; what runs is finished."""
        self.draining = True
        self.dispatcher.drain()

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        body = await self._body(request)
        can = bool(getattr(self.expert.engine, "calls_tools", False))
        asked = read_chat(body, self.expert.sampling, self._most_tokens(), calls_tools=can)
        return await while_connected(request.receive, self._answered(request, asked))

    async def completion(self, request: Request) -> Response:
        """POST /v1/completions."""
        body = await self._body(request)
        asked = read_completion(body, self.expert.sampling, self._most_tokens())
        return await while_connected(request.receive, self._answered(request, asked))

    async def embeddings(self, request: Request) -> Response:
        """POST /v1/embeddings: 501 without a model for it: the expert's own was never trained to compare texts."""
        body = await self._body(request)
        check(body, EMBEDDING)
        if self.embedder is None:
            raise Refusal(
                501,
                "embeddings_not_supported",
                "this expert has no embedding model; its own model was trained to answer, and its inner states do not "
                "say which texts are alike",
            )
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        vectors = await while_connected(request.receive, self._vectors(self.embedder, texts))
        pack = body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if pack else vector}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        return JSONResponse({"object": "list", "data": data, "model": self.embedder.name, "usage": usage})

    async def _vectors(self, embedder: Embedder, texts: Sequence[str]) -> list[list[float]]:
        """In portions, for one client at a time: between them the questions that are searched for get their turn."""
        found: list[list[float]] = []
        async with _limit(self.settings.timeout, time.perf_counter()), self._embedding:
            for first in range(0, len(texts), _PORTION):
                found += await run_in_threadpool(embedder.embed, texts[first : first + _PORTION])
        return found

    async def models(self, request: Request) -> Response:
        """GET /v1/models: the expert."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{model}."""
        self._check_model(request.path_params["model"])
        return JSONResponse(self._model())

    async def health(self, request: Request) -> Response:
        """GET /health: 200 when questions are taken; open to all, so it tells nothing else."""
        if self.draining:
            raise Refusal(503, "shutting_down", "the server is shutting down")
        return JSONResponse({"status": "ok"})

    async def measured(self, request: Request) -> Response:
        """GET /metrics."""
        gauges = {
            "running": ("Answers that are being made.", float(self.dispatcher.running)),
            "waiting": ("Requests that wait for their turn.", float(self.dispatcher.waiting)),
            "slots": ("Answers that are made at a time.", float(self.dispatcher.slots)),
            "engine_restarts": (
                "How often the engine was started again.",
                float(getattr(self.expert.engine, "restarts", 0)),
            ),
        }
        return Response(self.metrics.text(gauges), media_type="text/plain; version=0.0.4")

    async def described(self, request: Request) -> Response:
        """GET /openapi.json."""
        return JSONResponse(document(self.expert.name))

    async def page(self, request: Request) -> Response:
        """GET /docs: the same for people."""
        return HTMLResponse(page(self.expert.name, str(request.base_url).rstrip("/")))

    async def _answered(self, request: Request, asked: Asked) -> Response:
        self._check_model(asked.model)
        try:
            expert = self.expert.within(asked.documents)
        except ArtefactError as error:
            raise Refusal(404, "document_not_found", f"{error.message}: {error.hint}", param="documents") from error
        reporter = Reporter(
            id=f"{'chatcmpl' if asked.chat else 'cmpl'}-{secrets.token_hex(12)}", expert=expert, asked=asked
        )
        whole = not asked.stream
        made = Round(expert, asked.voices, self.dispatcher, request.scope["werkmeister.client"], whole)
        headers = {"x-request-id": reporter.id}
        keep = False
        try:
            async with _limit(self.settings.timeout, made.begin):
                if whole:
                    body = await self._whole(reporter, made)
                    return Response(encoded(body), media_type="application/json", headers=headers)
                batches = made.batches()
                # Until the first token an error still has a status of its own.
                first = await anext(batches)
            keep = True
            return _Events(self, reporter, made, first, batches, headers)
        finally:
            if not keep:
                made.stop()

    async def _whole(self, reporter: Reporter, made: Round) -> dict[str, Any]:
        tokens: dict[int, list[Token]] = {}
        async for batch in made.batches():
            for index, item in batch:
                if isinstance(item, Token):
                    tokens.setdefault(index, []).append(item)
            self.note(reporter, made, batch)
        return reporter.whole(tokens if reporter.asked.logprobs else {}, made.waited)

    def note(self, reporter: Reporter, made: Round, batch: Sequence[tuple[int, Item]]) -> None:
        """Count whole answers, and keep them for the report."""
        for index, item in batch:
            if isinstance(item, Answer):
                reporter.answers[index] = item
                self.metrics.prompt_tokens += item.prompt_tokens
                self.metrics.cached_tokens += item.cached_tokens
                self.metrics.answer_tokens += item.tokens
                self.metrics.first_token.see(made.waited + item.first_seconds)
                self.metrics.answer.see(made.waited + item.seconds)

    async def _body(self, request: Request) -> dict[str, Any]:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refusal(415, "unsupported_media_type", "send JSON, with the header Content-Type: application/json")
        most = self.settings.max_body
        body = bytearray()
        try:
            async with asyncio.timeout(_READING):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise Refusal(413, "body_too_large", f"the body is longer than {most} bytes")
        except TimeoutError as error:
            raise Refusal(408, "timeout", f"the body did not arrive within {_READING:g} s") from error
        return read_json(bytes(body))

    def _most_tokens(self) -> int:
        return self.settings.max_tokens or self.expert.engine.context_length

    def _check_model(self, name: str) -> None:
        if name and name != self.expert.name:
            raise Refusal(
                404, "model_not_found", f"there is no such model here; it is called {self.expert.name!r}", param="model"
            )

    def _model(self) -> dict[str, Any]:
        return {
            **{"id": self.expert.name, "object": "model", "created": 0, "owned_by": "werkmeister"},
            **{"context_length": self.expert.engine.context_length, "identity": self.expert.identity},
        }

    def _route(
        self, handler: Callable[[Request], Coroutine[Any, Any, Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """The handler, which ends when its client goes away, with refusals in OpenAI's form and a count of each."""

        async def endpoint(request: Request) -> Response:
            try:
                response = await handler(request)
            except Refusal as refusal:
                response = JSONResponse(refusal.record(), refusal.status, refusal.headers)
            except ClientDisconnect:
                self.metrics.cancelled += 1
                response = Response(status_code=_GONE)
            self.metrics.request(request.scope["route"].path, response.status_code)
            return response

        return endpoint

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self.drain()
        await run_in_threadpool(self.dispatcher.close)


class _Events(Response):
    """A stream of server-sent events that stops the work when its client goes away."""

    def __init__(
        self,
        gateway: Gateway,
        reporter: Reporter,
        made: Round,
        first: list[tuple[int, Item]],
        rest: AsyncIterator[list[tuple[int, Item]]],
        headers: dict[str, str],
    ) -> None:
        self.status_code, self.background = 200, None
        self.init_headers(headers | {"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._gateway, self._reporter, self._made, self._first, self._rest = gateway, reporter, made, first, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, the time limit, or the client's leaving."""
        try:
            await while_connected(receive, self._send(send))
        except (ClientDisconnect, OSError):
            self._gateway.metrics.cancelled += 1
        finally:
            self._made.stop()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        reporter = self._reporter
        try:
            async with _limit(self._gateway.settings.timeout, self._made.begin):
                await _part(send, *reporter.opening(), *self._events(self._first))
                async for batch in self._rest:
                    await _part(send, *self._events(batch))
                await _part(send, *reporter.closing())
        except Refusal as refusal:
            self._made.stop()
            await _part(send, event(refusal.record()))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _events(self, batch: list[tuple[int, Item]]) -> list[bytes]:
        self._gateway.note(self._reporter, self._made, batch)
        return list(self._reporter.pieces(batch, self._made.waited))


async def while_connected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client goes away: ClientDisconnect. The body must be read."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@contextlib.asynccontextmanager
async def _limit(limit: float, begin: float) -> AsyncIterator[None]:
    """Refuse with 504 when `limit` seconds (0: never) have passed since `begin` (perf_counter)."""
    try:
        async with asyncio.timeout(limit - (time.perf_counter() - begin) if limit else None):
            yield
    except TimeoutError as error:
        raise too_long(limit) from error


async def _part(send: Send, *events: bytes) -> None:
    await send({"type": "http.response.body", "body": b"".join(events), "more_body": True})


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _unknown(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: unknown paths and methods."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    code, message = {
        404: ("not_found", "there is no such path; /docs lists those there are"),
        405: ("method_not_allowed", "this path takes another method"),
    }.get(status, ("bad_request", "the request cannot be read"))
    refusal = Refusal(status, code, message, headers=getattr(error, "headers", None))
    return JSONResponse(refusal.record(), status, refusal.headers)


def _mistake(request: Request, error: Exception) -> Response:
    """Our own mistake: the server's log has it, the client is told no more than that."""
    return JSONResponse(Refusal(500, "internal_error", "a mistake of ours; the server's log says more").record(), 500)
