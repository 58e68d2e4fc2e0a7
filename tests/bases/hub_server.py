"""A small hub on the loopback interface: the routes that huggingface_hub asks for, served from a local folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """`repos` maps ids to folders; `gated` ids answer 403, `broken` makes every answer a 500, `silent` none at all."""

    def __init__(self) -> None:
        self.repos: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.broken = False
        self.silent = 0.0
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                path = self.path.partition("?")[0]
                hub.asked.append(path)
                time.sleep(hub.silent)
                if hub.broken:
                    return self.send(500, b"", body)
                parts = path.removeprefix("/api/models").strip("/").split("/")
                name = "/".join(parts[:2])
                if name in hub.gated:
                    return self.send(403, b"", body, {"X-Error-Code": "GatedRepo"})
                if name not in hub.repos:
                    return self.send(404, b"", body, {"X-Error-Code": "RepoNotFound"})
                if path.startswith("/api/models"):
                    found = hub.tree(name) if "tree" in parts else hub.info(name)
                    return self.send(200, json.dumps(found).encode(), body, {"Content-Type": "application/json"})
                return self.file(hub.repos[name] / "/".join(parts[4:]), body)

            def file(self, file: Path, body: bool) -> None:
                if not file.is_file():
                    return self.send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
                data = file.read_bytes()
                tag = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
                return self.send(200, data, body, tag)

            def send(self, status: int, data: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for key, value in (headers or {}).items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if body:
                    # The client that waited in vain has gone.
                    with contextlib.suppress(ConnectionError):
                        self.wfile.write(data)

        return Handler

    def info(self, name: str) -> dict[str, Any]:
        files = [{"rfilename": entry["path"], "size": entry["size"]} for entry in self.tree(name)]
        return {"id": name, "sha": COMMIT, "siblings": files, "cardData": {"license": "apache-2.0"}}

    def tree(self, name: str) -> list[dict[str, Any]]:
        files = (file for file in sorted(self.repos[name].rglob("*")) if file.is_file())
        return [
            {
                "type": "file",
                "path": file.relative_to(self.repos[name]).as_posix(),
                "size": file.stat().st_size,
                "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
            }
            for file in files
        ]
