"""Small web servers for tests in a browser: a static folder, and a gateway that answers as a test tells it."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from werkmeister.delivery.browser_page import PAGE_HEADERS, page_file

MEDIA = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
MEDIA |= {".wasm": "application/wasm", ".png": "image/png"}


@dataclass
class Site:
    """A server under way: its address, what it was asked for as (path, Range header), and how it misbehaves.

    `cut` is after how many bytes the next model file breaks off (0: it does not), `spoil` whether a byte is wrong.
    """

    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    cut: int = 0
    spoil: bool = False


@dataclass
class Gateway(Site):
    """A gateway: the pieces of the next answer, how long each takes, and what else it tells."""

    pieces: list[str] = field(default_factory=list)
    delay: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    heard: list[list[dict[str, str]]] = field(default_factory=list)
    left: bool = False
    most_turns: int = 99


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], site: Site) -> Iterator[Site]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def static(folder: Path) -> Any:
    """A plain static server of a folder, without any header that would help: as a host may be."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0].lstrip("/") or "index.html"
            wanted = self.headers.get("Range", "")
            site.asked.append((name, wanted))
            file = folder / name
            if not file.is_file():
                self.send_error(404)
                return
            content = file.read_bytes()
            found = re.fullmatch(r"bytes=(\d+)-", wanted)
            begin = int(found[1]) if found else 0
            self.send_response(206 if found else 200)
            self.send_header("Content-Type", MEDIA.get(file.suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            part = content[begin:]
            if name.endswith(".gguf") and site.spoil:
                part = part[:-1] + bytes([part[-1] ^ 1])
            if name.endswith(".gguf") and site.cut:
                part, site.cut = part[: site.cut], 0
                self.wfile.write(part)
                self.wfile.flush()
                time.sleep(1)  # what was sent has arrived before the connection ends
                return
            self.wfile.write(part)

        def log_message(self, *_: Any) -> None:
            pass

    return serving(Handler, site)


def gateway() -> Any:
    """The page over a gateway that says what the test wants."""
    site = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0].lstrip("/")
            about = {"engine": "gateway", "name": "pump-expert", "identity": "abc", "key": bool(site.key)}
            found = ("application/json", json.dumps(about).encode()) if name == "expert.json" else page_file(name)
            if found is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", found[0])
            for header, value in PAGE_HEADERS.items():
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(found[1])

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            site.heard.append(body["messages"])
            if site.key and self.headers.get("Authorization") != f"Bearer {site.key}":
                self.refuse(401, "invalid_api_key")
            elif len(body["messages"]) > site.most_turns:
                self.refuse(400, "context_length_exceeded")
            else:
                self.answer()

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"error": {"message": f"refused: {code}", "code": code}}).encode())

        def answer(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            last = {"choices": [{"delta": {}, "finish_reason": "stop"}], "werkmeister": {"answers": [site.facts]}}
            try:
                for piece in site.pieces:
                    time.sleep(site.delay)
                    self.event({"choices": [{"delta": {"content": piece}}]})
                self.event(last)
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                site.left = True

        def event(self, body: dict[str, Any]) -> None:
            self.wfile.write(b"data: " + json.dumps(body).encode() + b"\n\n")
            self.wfile.flush()

        def log_message(self, *_: Any) -> None:
            pass

    return serving(Handler, site)
