"""A server on this machine that speaks OpenAI's chat protocol, says what it is told, and counts what it is asked."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from werkmeister.engines.scripted import words


@dataclass(frozen=True)
class Refuse:
    """Answer with an HTTP status and OpenAI's form of an error."""

    status: int
    message: str = "no"
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drop:
    """Send so many chunks of the answer and cut the connection."""

    after: int


@dataclass(frozen=True)
class Raw:
    """Send these bytes as the body, with status 200."""

    body: bytes
    kind: str = "text/event-stream"


Plan = Refuse | Drop | Raw


@dataclass
class Server:
    """What tests set and read. `plans` are used up one a chat request; after them `answer` answers everything.

    `answer` maps the request's JSON to the text; `pieces` cuts it into tokens. `check` may refuse a request.
    """

    answer: Callable[[dict[str, Any]], str] = lambda body: "yes"
    pieces: Callable[[str], Sequence[str]] = words
    check: Callable[[dict[str, Any]], Refuse | None] = lambda body: None
    plans: deque[Plan] = field(default_factory=deque)
    models: Sequence[Mapping[str, Any]] | Refuse | Raw = ({"id": "tiny", "object": "model"},)
    logprobs: bool = True
    usage: bool = True
    finish: str = "stop"
    wait: float = 0.0
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_once: int = 0
    port: int = 0
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def questions(self) -> list[str]:
        """The last message of every chat request."""
        return [body["messages"][-1]["content"] for body in self.asked]


@contextmanager
def serving(server: Server | None = None) -> Iterator[Server]:
    """Run a server until the block ends."""
    told = server or Server()

    class Handler(_Handler):
        server_told = told

    http = _Quiet(("127.0.0.1", 0), Handler)
    told.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Whoever asked may leave at any time; everything else is a mistake of the tests.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_told: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        told = self.server_told
        told.headers.append({key.lower(): value for key, value in self.headers.items()})
        if isinstance(told.models, Refuse):
            self._refuse(told.models)
        elif isinstance(told.models, Raw):
            self._send(told.models.body, told.models.kind)
        else:
            self._send(json.dumps({"object": "list", "data": list(told.models)}).encode(), "application/json")

    def do_POST(self) -> None:
        told = self.server_told
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with told._lock:
            told._under_way += 1
            told.most_at_once = max(told.most_at_once, told._under_way)
            told.asked.append(body)
            told.headers.append({key.lower(): value for key, value in self.headers.items()})
            plan = told.plans.popleft() if told.plans else None
        try:
            refused = plan if isinstance(plan, Refuse) else told.check(body)
            if refused:
                self._refuse(refused)
            elif isinstance(plan, Raw):
                self._send(plan.body, plan.kind)
            else:
                threading.Event().wait(told.wait)
                self._stream(body, plan.after if isinstance(plan, Drop) else None)
        except ConnectionError:
            self.close_connection = True  # whoever asked has left
        finally:
            with told._lock:
                told._under_way -= 1

    def _refuse(self, refuse: Refuse) -> None:
        error = {"message": refuse.message, "type": "error", "param": None, "code": None} | dict(refuse.fields)
        self._send(json.dumps({"error": error}).encode(), "application/json", refuse.status, refuse.headers)

    def _send(self, body: bytes, kind: str, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, body: dict[str, Any], drop_after: int | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, event in enumerate(self._events(body)):
            if drop_after is not None and number >= drop_after:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            data = b"data: " + event + b"\n\n"
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _events(self, body: dict[str, Any]) -> Iterator[bytes]:
        told = self.server_told
        limit = body.get("max_tokens", body.get("max_completion_tokens", 1 << 30))
        all_pieces = list(told.pieces(told.answer(body)))
        for stop in body.get("stop", ()):
            text = "".join(all_pieces)
            if stop in text:
                all_pieces = list(told.pieces(text[: text.index(stop)]))
        pieces = all_pieces[:limit]
        finish = "length" if len(pieces) < len(all_pieces) else told.finish
        for piece in pieces:
            logprobs = {"content": [{"token": piece, "logprob": -0.25, "bytes": None, "top_logprobs": []}]}
            with_them = told.logprobs and body.get("logprobs")
            yield _chunk({"content": piece}, None, logprobs if with_them else None)
        yield _chunk({}, finish, None)
        if told.usage and body.get("stream_options", {}).get("include_usage"):
            prompt = sum(len(words(message["content"])) for message in body["messages"])
            usage = {"prompt_tokens": prompt, "completion_tokens": len(pieces) + 1, "total_tokens": 0}
            yield json.dumps({"object": "chat.completion.chunk", "choices": [], "usage": usage}).encode()
        yield b"[DONE]"


def _chunk(delta: Mapping[str, Any], finish: str | None, logprobs: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
    return json.dumps({"id": "1", "object": "chat.completion.chunk", "model": "tiny", "choices": [choice]}).encode()
