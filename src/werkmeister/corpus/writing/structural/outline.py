"""The outline of a document: its sections, each with the headings that lead to it and the blocks it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from werkmeister.corpus.documents.document import Block, Document
from werkmeister.corpus.writing.structural.fact import Span

_NUMBERING = re.compile(
    r"^(?:(?:chapter|section|part|kapitel|abschnitt|teil|anhang|appendix)\s+)?(?:[A-Z]\.)?\d+(?:\.\d+)*\.?\s+(?=\S)"
    r"|^\d+(?:\.\d+)+\.?(?=[^\W\d])",
    re.IGNORECASE,
)
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """The blocks right below a heading. `headings` are plain text, outermost first, the document's title left out."""

    headings: tuple[str, ...]
    blocks: tuple[Block, ...]
    heading: Span = (0, 0)

    @property
    def name(self) -> str:
        """The innermost heading, "" before the first one."""
        return self.headings[-1] if self.headings else ""


def plain(text: str) -> str:
    """Text as it is read: the marks of code and line breaks within a cell gone, white space single.

    Other inline marks do not stand in a Document's text, so what looks like one (`#<_value>`) is meant.
    """
    return " ".join(_BREAK.sub(" ", text).replace("`", "").split())


def heading_text(text: str) -> str:
    """A heading as it is read: without its marks, number and closing colon."""
    bare = plain(text.strip().lstrip("#").strip().rstrip("#"))
    return _NUMBERING.sub("", bare).strip().rstrip(":").strip()


def sections(document: Document) -> Iterator[Section]:
    """The sections of a document in order, those without blocks left out."""
    trail: list[tuple[int, str]] = []
    heading: Span = (0, 0)
    blocks: list[Block] = []
    title = document.title.strip()
    for block in document.blocks:
        if block.kind != "heading":
            blocks.append(block)
            continue
        if blocks:
            yield _section(trail, blocks, heading, title)
            blocks = []
        name = heading_text(document.text[block.start : block.end])
        trail = [(level, text) for level, text in trail if level < block.level]
        trail.append((block.level, name))
        heading = (block.start, block.end)
    if blocks:
        yield _section(trail, blocks, heading, title)


def _section(trail: list[tuple[int, str]], blocks: list[Block], heading: Span, title: str) -> Section:
    names = tuple(text for at, (_, text) in enumerate(trail) if text and not (at == 0 and text == title))
    return Section(headings=names, blocks=tuple(blocks), heading=heading)
