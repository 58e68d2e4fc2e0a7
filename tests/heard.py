"""A Progress that keeps what a stage says, and what it counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from werkmeister.progress import Silent, Track


class Heard(Silent):
    """Keeps what is said, which tracks are opened, and how far they moved."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.tracks: list[str] = []
        self.moved = 0.0

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def track(self, label: str, total: float | None) -> Iterator[Track]:
        self.tracks.append(label)
        heard = self

        class Moved:
            def advance(self, amount: float = 1, **shown: str) -> None:
                heard.moved += amount

        yield Moved()
