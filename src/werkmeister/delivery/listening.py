"""A socket that listens, and a server on it that ends in good order: for the gateway and the review page."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens on this address (port 0: any free one).

    Raises OSError when it is taken or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: asyncio turns Nagle's algorithm off for such sockets alone, and it costs 40 ms an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if hasattr(socket, "SO_REUSEADDR") and not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)  # a browser that is faster than the server waits instead of failing
    except OSError:
        listener.close()
        raise
    return listener


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1 that closes a connection on which for `patience` seconds no whole request head has come.

    uvicorn itself waits for ever for a head that trickles in, and a thousand of those keep everybody else out.
    """

    patience = 30.0
    _idle_since = 0.0
    _looking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        now = self.loop.time()
        if self.cycle is not None and not self.cycle.response_complete:
            self._idle_since = now
        elif now - self._idle_since >= self.patience:
            self.transport.abort()  # what was not read of an answer until now never will be
            return
        self._looking = self.loop.call_later(self.patience / 4, self._look)


class Server(uvicorn.Server):
    """uvicorn that calls `stopping` before it waits for open connections, and returns after a signal.

    (uvicorn raises the signal again at the end, which would cut short what comes after the server.)
    """

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._stopping = stopping

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM end the server in good order; a second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that the end has come, finish what runs, then close."""
        self._stopping()
        await super().shutdown(sockets)
