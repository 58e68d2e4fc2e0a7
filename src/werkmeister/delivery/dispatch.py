"""The queue in front of the engine: bounded, fair between clients, and a fixed number of answers at a time."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

_log = logging.getLogger(__name__)

_LONGEST_ADVICE = 60  # seconds; nobody is told to come back later than that


class Full(Exception):
    """No place in the queue; `retry_after` is a whole number of seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("the queue is full")
        self.retry_after = retry_after


class Draining(Exception):
    """The server is shutting down and takes nothing new."""


@dataclass(eq=False)
class Ticket:
    """A piece of work in the queue. `run` is called in a thread of the dispatcher; `drop` instead of it, when the place
    was taken by a client that had fewer (with Full) or the server shuts down (with Draining)."""

    client: str
    run: Callable[[], None]
    drop: Callable[[Exception], None]
    queued: float = field(default_factory=time.monotonic)


class Dispatcher:
    """Runs `slots` tickets at a time. Those that wait are taken in turn from one client after the other, so whoever
    sends many waits behind himself.

    Of `capacity` waiting places a newcomer takes the last one of whoever holds most, if that one holds more than he
    would. Callable from any thread.
    """

    def __init__(self, slots: int, capacity: int) -> None:
        self.slots = slots
        self._capacity = capacity
        self._lock = threading.RLock()
        self._lines: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._running = 0
        self._draining = False
        self._seconds = 1.0  # a running mean of how long a ticket runs
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="answer")

    @property
    def running(self) -> int:
        """Tickets that run now."""
        return self._running

    @property
    def waiting(self) -> int:
        """Tickets that wait now."""
        with self._lock:
            return sum(map(len, self._lines.values()))

    def submit(self, ticket: Ticket) -> None:
        """Run the ticket, or let it wait. Raises Full or Draining."""
        dropped: Ticket | None = None
        with self._lock:
            if self._draining:
                raise Draining("the server is shutting down")
            if self._running < self.slots:
                self._launch(ticket)
                return
            if self.waiting >= self._capacity:
                dropped = self._make_room(ticket.client)
            self._lines.setdefault(ticket.client, deque()).append(ticket)
        if dropped is not None:
            dropped.drop(Full(self.retry_after()))

    def withdraw(self, ticket: Ticket) -> bool:
        """Take a waiting ticket out of the queue; False when it runs or has run."""
        with self._lock:
            line = self._lines.get(ticket.client, deque())
            if ticket not in line:
                return False
            line.remove(ticket)
            self._forget_empty(ticket.client)
            return True

    def retry_after(self) -> int:
        """In how many seconds a place is likely to be free: the queue's length times the usual time of a ticket."""
        with self._lock:
            seconds = self._seconds * (self.waiting + self._running) / self.slots
        return max(1, min(_LONGEST_ADVICE, math.ceil(seconds)))

    def drain(self) -> None:
        """Take nothing new and drop what waits; what runs goes on."""
        with self._lock:
            self._draining = True
            left = [ticket for line in self._lines.values() for ticket in line]
            self._lines.clear()
        for ticket in left:
            ticket.drop(Draining("the server is shutting down"))

    def close(self, patience: float = 5.0) -> None:
        """Drain, and wait so many seconds for what runs; what then still runs ends with its engine."""
        self.drain()
        until = time.monotonic() + patience
        while self._running and time.monotonic() < until:
            time.sleep(0.01)
        self._pool.shutdown(wait=False)

    def _launch(self, ticket: Ticket) -> None:
        self._running += 1
        begin = time.monotonic()
        future = self._pool.submit(ticket.run)
        future.add_done_callback(lambda done: self._ended(done, time.monotonic() - begin))

    def _ended(self, done: Future[None], seconds: float) -> None:
        error = done.exception()
        if error is not None:
            _log.error("an answer broke off", exc_info=error)
        with self._lock:
            self._running -= 1
            self._seconds += 0.1 * (seconds - self._seconds)
            following = self._take()
            if following is not None and not self._draining:
                self._launch(following)

    def _take(self) -> Ticket | None:
        """The next ticket: the first of the client whose turn it is, who then goes to the end of the round."""
        if not self._lines:
            return None
        client, line = self._lines.popitem(last=False)
        ticket = line.popleft()
        if line:
            self._lines[client] = line
        return ticket

    def _make_room(self, client: str) -> Ticket:
        """The ticket that loses its place to `client`; Full when that would not be fairer."""
        most = max(self._lines, key=lambda name: len(self._lines[name]), default=client)
        if not self._lines or len(self._lines[most]) <= len(self._lines.get(client, ())) + 1:
            raise Full(self.retry_after())
        ticket = self._lines[most].pop()
        self._forget_empty(most)
        return ticket

    def _forget_empty(self, client: str) -> None:
        if not self._lines[client]:
            del self._lines[client]
