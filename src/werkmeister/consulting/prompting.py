"""The prompt of one question, and how it is made to fit: whole turns go, the oldest first, and this is said."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from werkmeister.chat import Conversation, Message
from werkmeister.consulting.citations import cite
from werkmeister.consulting.finding import Finding
from werkmeister.engines.engine import Finished, Token
from werkmeister.errors import ContextError
from werkmeister.grounding import open_book

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What an engine is given: system message, the turns that are kept, and the question behind its passages."""

    question: str
    head: Conversation = ()
    turns: Conversation = ()
    finding: Finding = field(default_factory=Finding)
    context_length: int = 0
    left_out: int = 0
    passages_left_out: int = 0

    @property
    def conversation(self) -> Conversation:
        """All of it, as the engine takes it."""
        asked = open_book(self.question, self.finding.passages, self.finding.language)
        return (*self.head, *self.turns, Message("user", asked))

    def shorter(self) -> Prompt | None:
        """Without its oldest turn, or else without the last of several passages; None when nothing can go."""
        if self.turns:
            return replace(self, turns=without_oldest(self.turns), left_out=self.left_out + 1)
        if len(self.finding.passages) > 1:
            fewer = replace(self.finding, passages=self.finding.passages[:-1])
            return replace(self, finding=fewer, passages_left_out=self.passages_left_out + 1)
        return None

    def facts(self, answer: str) -> dict[str, Any]:
        """What the Answer tells of the prompt, and of its text beside the passages."""
        notes = []
        if self.left_out:
            which = "The oldest turn was" if self.left_out == 1 else f"The {self.left_out} oldest turns were"
            notes.append(f"{which} left out: the conversation no longer fits {self.context_length} tokens.")
        if self.passages_left_out:
            notes.append(f"{self.passages_left_out} of the passages found did not fit the context.")
        passages = self.finding.passages
        return {
            "passages": passages,
            "citations": cite(answer, passages, self.question),
            "notes": tuple(notes),
            "turns_left_out": self.left_out,
        }


def without_oldest(turns: Conversation, count: int = 1) -> Conversation:
    """Turns without the first `count` questions and what was said to each."""
    for _ in range(count):
        later = [n for n, turn in enumerate(turns) if n and turn.role == "user"]
        turns = turns[later[0] :] if later else ()
    return turns


def fitting(prompt: Prompt, start: Callable[[Conversation], Made]) -> tuple[Made, Prompt]:
    """Start on a prompt, shortened until it fits; raises the ContextError of the shortest."""
    while True:
        try:
            return start(prompt.conversation), prompt
        except ContextError:
            shorter = prompt.shorter()
            if shorter is None:
                raise
            prompt = shorter


def begun(items: Iterator[Token | Finished]) -> Generator[Token | Finished, None, None]:
    """A stream whose first item has come, so that a prompt that does not fit has been refused."""
    first = next(items, None)
    return _rest(first, items)


def _rest(first: Token | Finished | None, items: Iterator[Token | Finished]) -> Generator[Token | Finished, None, None]:
    try:
        if first is not None:
            yield first
            yield from items
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()
