"""Brings the answers of worker threads to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from werkmeister.consulting.expert import Answer, Expert, stream_tokens
from werkmeister.delivery.dispatch import Dispatcher, Draining, Full, Ticket
from werkmeister.delivery.reading import Voice
from werkmeister.delivery.refusals import Refusal, refusal_of
from werkmeister.engines.engine import Stop, Token
from werkmeister.errors import WerkmeisterError

Item = Token | Answer


@dataclass(frozen=True)
class _Broken:
    """The end of a voice that gave no answer: an error, or None when it was stopped."""

    error: Exception | None


class Round:
    """The answers to one request, made in the dispatcher's threads and read on the loop.

    `whole` says that nobody wants the tokens before the end, so that the loop is not woken for each.
    """

    def __init__(
        self, expert: Expert, voices: Sequence[Voice], dispatcher: Dispatcher, client: str, whole: bool
    ) -> None:
        self.begin = time.perf_counter()
        self.waited = 0.0
        self._expert, self._dispatcher, self._whole = expert, dispatcher, whole
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._items: deque[tuple[int, Item | _Broken]] = deque()
        self._open = len(voices)
        self._stop = Stop()
        self._tickets: list[Ticket] = []
        try:
            for index, voice in enumerate(voices):
                self._tickets.append(self._ticket(index, voice, client))
                dispatcher.submit(self._tickets[-1])
        except (Full, Draining) as error:
            self.stop()
            raise _refused(error) from error

    async def batches(self) -> AsyncIterator[list[tuple[int, Item]]]:
        """What has come, as (voice, token or answer), until every voice has given its Answer. Raises Refusal."""
        while self._open:
            await self._ready.wait()
            self._ready.clear()
            batch: list[tuple[int, Item]] = []
            while self._items:
                index, item = self._items.popleft()
                if isinstance(item, _Broken):
                    raise _refused(item.error)
                self._open -= isinstance(item, Answer)
                batch.append((index, item))
            if batch:
                yield batch

    def stop(self) -> None:
        """End all work on the request, waiting or running; harmless when it has ended."""
        for ticket in self._tickets:
            self._dispatcher.withdraw(ticket)
        self._stop.ask()

    def _ticket(self, index: int, voice: Voice, client: str) -> Ticket:
        return Ticket(
            client=client,
            run=lambda: self._work(index, voice),
            drop=lambda error: self._push(index, _Broken(error)),
        )

    def _work(self, index: int, voice: Voice) -> None:
        """Make one answer; in a thread of the dispatcher."""
        self.waited = max(self.waited, time.perf_counter() - self.begin)
        last: Answer | _Broken = _Broken(None)
        try:
            # A client that brings tools brings what the answer is made from, too.
            expert = replace(self._expert, library=None) if voice.sampling.tools else self._expert
            items = stream_tokens(
                expert,
                voice.question,
                history=voice.history,
                sampling=voice.sampling,
                stop=self._stop,
                bare=voice.bare,
            )
            for item in items:
                if isinstance(item, Answer):
                    last = item
                elif self._whole:
                    self._items.append((index, item))
                else:
                    self._push(index, item)
        except WerkmeisterError as error:
            last = _Broken(error)
        finally:
            # Whatever happened, the request must not wait for ever.
            self._push(index, last)

    def _push(self, index: int, item: Item | _Broken) -> None:
        self._items.append((index, item))
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server is gone, and so is the client
            self._loop.call_soon_threadsafe(self._ready.set)


def _refused(error: Exception | None) -> Refusal:
    if isinstance(error, Full):
        return Refusal(
            429,
            "queue_full",
            f"too many requests wait; try again in {error.retry_after} s",
            headers={"Retry-After": str(error.retry_after)},
        )
    if isinstance(error, Draining):
        return Refusal(503, "shutting_down", "the server is shutting down", headers={"Retry-After": "5"})
    if isinstance(error, WerkmeisterError):
        return refusal_of(error)
    return Refusal(500, "internal_error", "a mistake of ours; the server's log says more")
