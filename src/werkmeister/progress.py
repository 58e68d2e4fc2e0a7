"""How long work tells a person where it stands; the drawing of it is in `console`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Track(Protocol):
    """One bar."""

    def advance(self, amount: float = 1, **shown: str) -> None:
        """Move on by `amount` units; `shown` are the live figures beside the bar (loss, tokens/s, score)."""


class Progress(Protocol):
    """What a stage says while it works. Results never go through here."""

    def say(self, text: str) -> None:
        """One line of news for the person."""

    def track(self, label: str, total: float | None) -> AbstractContextManager[Track]:
        """A bar over `total` units (None: unknown); it closes with the context."""


class _SilentTrack:
    def advance(self, amount: float = 1, **shown: str) -> None:
        """Show nothing."""


class Silent:
    """Says nothing: for callers from Python, and for tests."""

    def say(self, text: str) -> None:
        """Show nothing."""

    @contextmanager
    def track(self, label: str, total: float | None) -> Iterator[Track]:
        """Yield a bar that shows nothing."""
        yield _SilentTrack()
