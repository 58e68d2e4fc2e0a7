"""Facts: what a shape of text says, where it says so, and how it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Span = tuple[int, int]
"""Start and end of a piece of a document's text, in characters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """Something that a document says.

    `evidence` is the span of the quote; every span of `needs` must lie in the same passage, or the quote cannot be
    understood (a table's header row). `ask` names the questions of `language.Language.questions`, which `slots` fill;
    `answer` is finished text. `name` tells facts of one document apart. `where` is the heading that a question must
    name to stand on its own, "" where the document's title is enough; `alone`: the question needs no title either. A
    question that says `core` itself would give the answer away.
    """

    kind: str
    name: str
    ask: str
    answer: str
    evidence: Span
    needs: tuple[Span, ...] = ()
    slots: Mapping[str, str] = field(default_factory=dict)
    where: str = ""
    alone: bool = False
    core: str = ""
