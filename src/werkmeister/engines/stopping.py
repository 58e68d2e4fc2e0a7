"""Finds stop texts in an answer that arrives in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class StopTexts:
    """Lets through what is certain, and holds back what may become one of the `stop` texts.

    Done here for every engine: llama.cpp drops what it holds back when max_tokens ends a stream.
    """

    stop: Sequence[str]
    _held: str = ""

    def push(self, text: str) -> tuple[str, bool]:
        """The text that is certain now, and whether a stop text was reached (it and what follows are left out)."""
        self._held += text
        found = [position for stop in self.stop if stop and (position := self._held.find(stop)) >= 0]
        if found:
            sure, self._held = self._held[: min(found)], ""
            return sure, True
        cut = len(self._held) - max((_overlap(self._held, stop) for stop in self.stop), default=0)
        sure, self._held = self._held[:cut], self._held[cut:]
        return sure, False

    @property
    def holding(self) -> bool:
        """Whether text is held back now."""
        return bool(self._held)

    def rest(self) -> str:
        """What is still held back when the answer ends."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
