"""A library that keeps to some of its documents."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from werkmeister.chat import Conversation
from werkmeister.consulting.finding import Finding

if TYPE_CHECKING:
    from werkmeister.consulting.library import SqliteLibrary


@dataclass(frozen=True)
class Within:
    """Some documents of a library: for a person who says which machine they stand before. Satisfies `expert.Library`.

    No bar stands before them, since a question then need not name the device: the expert alone decides what they tell.
    """

    library: SqliteLibrary
    documents: tuple[str, ...]

    def find(self, question: str, history: Conversation = ()) -> Finding:
        """As the whole library has it."""
        return self.library.find(question, history, documents=self.documents)

    def within(self, documents: Collection[str]) -> Within:
        """Other documents of the same library."""
        return self.library.within(documents)
