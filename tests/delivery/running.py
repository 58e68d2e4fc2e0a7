"""A gateway on a real port of this machine, in a thread of the test."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai

from werkmeister.consulting.expert import Expert
from werkmeister.delivery.gateway import Gateway
from werkmeister.delivery.guard import Door
from werkmeister.delivery.listening import Server
from werkmeister.delivery.serving import listen, run_gateway
from werkmeister.delivery.settings import ServeSettings
from werkmeister.engines.engine import Engine, Sampling
from werkmeister.engines.scripted import ScriptedEngine

LOCAL = ("localhost", "127.0.0.1", "::1")
OPEN = Door(keys=None, keys_needed=False, hosts=LOCAL)


@dataclass
class Running:
    """`stop` asks the server to exit and waits for it."""

    port: int
    gateway: Gateway
    server: Server
    thread: threading.Thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str = "none", **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60, **options)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """One request by hand; a body that is no bytes goes as JSON. Returns status, headers and body."""
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        said = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        connection.request(method, path, data, said)
        response = connection.getresponse()
        found = response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        connection.close()
        return found

    def chat(self, question: str = "q", **more: Any) -> tuple[int, dict[str, str], Any]:
        body = {"messages": [{"role": "user", "content": question}], **more}
        status, headers, data = self.send("POST", "/v1/chat/completions", body)
        return status, headers, json.loads(data) if not more.get("stream") else data

    def metric(self, name: str) -> float:
        lines = self.send("GET", "/metrics")[2].decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"werkmeister_{name} ")).split()[1])

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()


def scripted(script: Any = None, **options: Any) -> Expert:
    engine = ScriptedEngine({} if script is None else script, otherwise="one two three", **options)
    return expert(engine)


def expert(engine: Engine, **options: Any) -> Expert:
    settings = {"name": "smith", "system": "Be brief.", "sampling": Sampling(max_tokens=20), "identity": "abc123"}
    return Expert(engine=engine, **settings | options)


@contextmanager
def running(
    expert: Expert, *, slots: int = 2, door: Door = OPEN, embedder: Any = None, **settings: Any
) -> Iterator[Running]:
    chosen = ServeSettings(port=0, **settings)
    listener: socket.socket = listen(chosen)
    gateway = Gateway(expert, chosen, door, slots=slots, embedder=embedder)
    port = listener.getsockname()[1]
    servers: list[Server] = []
    thread = threading.Thread(target=run_gateway, args=(gateway, listener, servers.append), daemon=True)
    thread.start()
    started = Running(port, gateway, None, thread)  # type: ignore[arg-type]
    assert started.send("GET", "/health")[0] == 200
    started.server = servers[0]
    try:
        yield started
    finally:
        started.stop()
