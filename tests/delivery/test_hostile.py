"""What a client can do to a server that it wishes ill: raw bytes on the wire, slowness, numbers, and lies."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack, contextmanager

import pytest

from tests.delivery.running import running, scripted
from werkmeister.delivery.guard import Door
from werkmeister.delivery.keys import Keys, new_key
from werkmeister.delivery.listening import Protocol

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
BODY = json.dumps({"messages": [{"role": "user", "content": "q"}]}).encode()


@pytest.fixture(scope="module")
def gateway():
    with running(scripted(), max_body=20_000) as opened:
        yield opened


@contextmanager
def connected(gateway):
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as opened:
        yield opened


def told(gateway, *parts):
    """All that comes back for bytes that are sent as they are, until the server closes or waits for more."""
    with connected(gateway) as wire:
        wire.settimeout(3)
        for part in parts:
            try:
                wire.sendall(part)
            except OSError:
                break
        found = b""
        try:
            while got := wire.recv(65536):
                found += got
                if b"\r\n\r\n" in found and b"chunked" not in found:
                    break
        except (TimeoutError, ConnectionError):
            pass
        return found


def lives(gateway):
    assert gateway.chat("q")[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00" * 100,
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\r\n b: c\r\n\tc\x00d\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX" + b"x" * 200_000 + b": 1\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        CHAT + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + BODY,
        CHAT + b"Content-Length: -1\r\n\r\n" + BODY,
        CHAT + b"Content-Length: 1e3\r\n\r\n" + BODY,
        CHAT + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        CHAT + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        CHAT + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
        CHAT + b'Content-Length: 8\r\n\r\n{"a":\xff\xfe}',
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT evil.example:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET http://evil.example/v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: 127.0.0.1\r\n\r\n",
    ],
)
def test_bytes_that_are_no_fair_request_are_refused_and_nothing_breaks(gateway, sent):
    answer = told(gateway, sent)
    status = int(answer.split(b" ", 2)[1]) if answer else 400
    assert 400 <= status < 500, answer[:200]
    assert b"Traceback" not in answer and b"evil" not in answer
    lives(gateway)


def test_a_second_request_hidden_in_a_body_is_never_run(gateway):
    """Request smuggling: whoever reads Content-Length where another reads chunks sees a request more."""
    asked = gateway.gateway.expert.engine.asked
    before = len(asked)
    hidden = CHAT + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    for one, other in (
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    ):
        answer = told(gateway, CHAT + one + b"\r\n" + other + b"\r\n\r\n0\r\n\r\n" + hidden)
        assert answer.count(b"HTTP/1.1 200") <= 1
    assert len(asked) - before <= 2
    lives(gateway)


def test_a_body_in_chunks_that_never_ends_is_cut_at_the_limit(gateway):
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    answer = told(gateway, CHAT + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 50)
    assert b" 413 " in answer.split(b"\r\n")[0]
    lives(gateway)


def test_text_of_a_client_never_becomes_a_header(gateway):
    """Names that come back (the model's, the id's) stand in the body alone."""
    evil = "x\r\nSet-Cookie: a=b"
    for send in ({"model": evil}, {"user": evil}, {"stop": evil}):
        status, headers, _ = gateway.chat("q", **send)
        assert status in (200, 404) and "set-cookie" not in headers
    status, headers, body = gateway.send("GET", "/v1/models/x%0d%0aSet-Cookie:%20a=b")
    assert status == 404 and "set-cookie" not in headers and json.loads(body)["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("trickle", [b"", b"GET / HT", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-a: "])
def test_a_head_that_does_not_come_is_not_waited_for(monkeypatch, trickle):
    """Slowloris: a byte a second keeps a connection for ever."""
    monkeypatch.setattr(Protocol, "patience", 0.8)
    with running(scripted()) as gateway, connected(gateway) as wire:
        begin = time.perf_counter()
        wire.settimeout(0.1)
        wire.sendall(trickle)
        closed = False
        while not closed:
            assert time.perf_counter() - begin < 5, "it waited on and on"
            try:
                closed = wire.recv(100) == b""
            except TimeoutError:
                wire.sendall(b"a") if trickle else None
            except ConnectionError:
                closed = True
        lives(gateway)


def test_an_answer_that_takes_longer_than_a_head_may_is_not_cut(monkeypatch):
    monkeypatch.setattr(Protocol, "patience", 0.4)
    with running(scripted(seconds_a_token=0.4)) as gateway:
        assert gateway.chat("q")[2]["choices"][0]["message"]["content"] == "one two three"
        assert gateway.chat("q", stream=True)[2].rstrip().endswith(b"[DONE]")


def test_hundreds_that_say_nothing_do_not_keep_others_out(gateway):
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connected(gateway)).sendall(b"GET / HTTP/1.1\r\nHost: ")
        begin = time.perf_counter()
        lives(gateway)
        assert time.perf_counter() - begin < 2


def test_a_client_that_reads_nothing_costs_no_more_than_its_time_limit():
    with running(scripted({"q": "word " * 4000}), slots=1, timeout=1.0) as gateway:
        with connected(gateway) as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            body = json.dumps({"messages": [{"role": "user", "content": "q"}], "stream": True, "max_tokens": 4090})
            wire.sendall(CHAT + b"Content-Length: %d\r\n\r\n" % len(body) + body.encode())
            time.sleep(0.3)
            lives(gateway)
        lives(gateway)


def test_a_key_is_never_seen_again_nor_a_hash_of_it(tmp_path, caplog):
    key = new_key(tmp_path, "anna")
    with running(scripted(), door=Door(keys=Keys(tmp_path), keys_needed=True, hosts=())) as gateway:
        answers = [
            gateway.send(method, path, body, Authorization=f"Bearer {given}")
            for given in (key, key[:-1], key + "x", key.upper(), f"{key}, {key}")
            for method, path, body in (
                ("GET", "/v1/models", None),
                ("GET", "/metrics", None),
                ("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "q"}]}),
            )
        ]
    assert [status for status, _, _ in answers] == [200] * 3 + [401] * 12
    hashed = json.loads((tmp_path / "keys.json").read_text())[0]["sha256"]
    for _, headers, body in answers:
        assert key not in f"{headers}{body!r}" and hashed not in f"{headers}{body!r}"
    assert key not in caplog.text
