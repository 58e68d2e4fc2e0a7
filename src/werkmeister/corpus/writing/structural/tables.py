"""Tables and lists as they stand in a document: rows, cells and items with their places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from werkmeister.corpus.documents.document import Block
from werkmeister.corpus.documents.parts import is_rule, table_cells
from werkmeister.corpus.writing.structural.fact import Span
from werkmeister.corpus.writing.structural.outline import plain

_ITEM = re.compile(
    r"(?P<indent>[ \t]*)(?P<mark>[-*+•·–]|(?:Step |Schritt )?(?P<number>\d{1,3})[.)])\s+(?P<text>.*\S)", re.DOTALL
)
_NEW_ITEM = re.compile(r"[ \t]*(?:[-*+•·–]|(?:Step |Schritt )?\d{1,3}[.)])\s+\S")
_NOTHING = frozenset(
    ("", "-", "–", "—", "--", "n/a", "na", "n.a.", "/", ".", "?", "*", "none", "keine", "k.a.", "k. a.", "entfällt")
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A pipe table with a head: `rows` are (cells, span of the row's line); every cell is plain text."""

    columns: tuple[str, ...]
    head: Span
    rows: tuple[tuple[tuple[str, ...], Span], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One item of a list: its own text, the items below it, and the span of all of it; `number` is 0 without one."""

    text: str
    number: int
    span: Span
    children: tuple[Item, ...] = ()


def is_nothing(cell: str) -> bool:
    """Whether a cell says nothing."""
    return cell.casefold() in _NOTHING


def read_table(text: str, block: Block) -> Table | None:
    """The table of a block of kind "table", or None where it has no head to ask by.

    A head names every column, and none of its names is a number or stands twice. Rows of another width than the head,
    and a second rule, are left out.
    """
    lines = list(_lines(text, block))
    if len(lines) < 3 or not is_rule(text[slice(*lines[1])]):
        return None
    columns = tuple(plain(cell) for cell in table_cells(text[slice(*lines[0])]))
    named = [column for column in columns if any(letter.isalpha() for letter in column) or column == "#"]
    if len(columns) < 2 or len(named) < len(columns) or len({c.casefold() for c in columns}) < len(columns):
        return None
    rows = []
    for span in lines[2:]:
        line = text[slice(*span)]
        cells = tuple(plain(cell) for cell in table_cells(line))
        if len(cells) == len(columns) and not is_rule(line):
            rows.append((cells, span))
    return Table(columns=columns, head=lines[0], rows=tuple(rows))


def read_list(text: str, block: Block) -> tuple[Item, ...]:
    """The items of a block of kind "list"; lines that begin no item belong to the one before."""
    starts: list[Span] = []
    for start, end in _lines(text, block):
        if starts and not _NEW_ITEM.match(text[start:end]):
            starts[-1] = (starts[-1][0], end)
        elif _NEW_ITEM.match(text[start:end]):
            starts.append((start, end))
    found = [(match, span) for span in starts if (match := _ITEM.fullmatch(text[span[0] : span[1]]))]
    return _nested([(len(m["indent"].expandtabs(4)), m, span) for m, span in found])


def _nested(found: list[tuple[int, re.Match[str], Span]]) -> tuple[Item, ...]:
    items: list[Item] = []
    at = 0
    while at < len(found):
        indent, match, span = found[at]
        below = at + 1
        while below < len(found) and found[below][0] > indent:
            below += 1
        lead = len(match["indent"])
        items.append(
            Item(
                text=plain(match["text"]),
                number=int(match["number"] or 0),
                span=(span[0] + lead, found[below - 1][2][1]),
                children=_nested(found[at + 1 : below]),
            )
        )
        at = below
    return tuple(items)


def _lines(text: str, block: Block) -> Iterator[Span]:
    """The spans of a block's lines that hold anything, without white space at their end."""
    start = block.start
    for line in text[block.start : block.end].split("\n"):
        if line.strip():
            yield start, start + len(line.rstrip())
        start += len(line) + 1
