"""Parts: what readers of every format make, and how a Document's text and blocks are laid out from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from werkmeister.corpus.documents.document import Block

DEEPEST = 6
# Soft hyphens, zero-width spaces and byte order marks stand in words and show nothing.
_INVISIBLE = dict.fromkeys((0xAD, 0x200B, 0xFEFF, *range(9), *range(0xE, 0x20), 0x7F))


@dataclass(frozen=True, slots=True)
class Part:
    """One block before it has a place: `text` is Markdown as it will stand in the document.

    A heading's text is bare (its marks are put in front when it is laid out); `level` is its depth from 1.
    """

    kind: str
    text: str
    level: int = 0
    page: int = 0


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a reader made of one file: its parts in order, and what it cleaned away, in characters by reason.

    `title`, `pages` and `empty_pages` are those of a Document.
    """

    parts: tuple[Part, ...]
    title: str = ""
    pages: int = 0
    empty_pages: tuple[int, ...] = ()
    dropped: tuple[tuple[str, int], ...] = ()


def lay_out(parts: Iterable[Part]) -> tuple[str, tuple[Block, ...]]:
    """The document's text and its blocks: one blank line between any two, nothing else outside them."""
    pieces: list[str] = []
    blocks: list[Block] = []
    place = 0
    for part in parts:
        text = part.text.translate(_INVISIBLE).encode("utf-8", "replace").decode().strip("\n")
        if not text.strip():
            continue
        if part.kind == "heading":
            text = f"{'#' * min(max(part.level, 1), DEEPEST)} {' '.join(text.split())}"
        if pieces:
            pieces.append("\n\n")
            place += 2
        pieces.append(text)
        blocks.append(Block(kind=part.kind, start=place, end=place + len(text), level=part.level, page=part.page))
        place += len(text)
    return "".join(pieces) + ("\n" if pieces else ""), tuple(blocks)


def pipe_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown pipe table of these cells, the first row as its head; columns that are empty throughout are left out.

    Returns "" when no cell holds anything.
    """
    width = max((len(row) for row in rows), default=0)
    filled = [[_cell(row[i]) if i < len(row) else "" for i in range(width)] for row in rows]
    kept = [i for i in range(width) if any(row[i] for row in filled)]
    lines = [f"| {' | '.join(row[i] for i in kept)} |" for row in filled if any(row[i] for i in kept)]
    if not lines:
        return ""
    return "\n".join([lines[0], f"|{' --- |' * len(kept)}", *lines[1:]])


def table_cells(line: str) -> list[str]:
    """The cells of one line of a pipe table; `\\|` is a bar inside a cell."""
    inner = line.strip().removeprefix("|")
    if inner.endswith("|") and not inner.endswith("\\|"):
        inner = inner[:-1]
    cells = inner.replace("\\|", "\0").split("|")
    return [cell.replace("\0", "|").strip() for cell in cells]


def is_rule(line: str) -> bool:
    """Whether a line of a pipe table is the rule below its head."""
    cells = table_cells(line)
    return bool(cells) and all(cell.strip("-:") == "" and "-" in cell for cell in cells)


def counted(dropped: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """What was dropped, most first, as a Document keeps it."""
    return tuple(sorted(((reason, n) for reason, n in dropped.items() if n), key=lambda item: (-item[1], item[0])))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
