"""Documents: an input file's text, cleaned, with the blocks it is made of and their places."""

from __future__ import annotations

from dataclasses import dataclass, field

KINDS = ("heading", "paragraph", "list", "table", "code")


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A heading, paragraph, list, table or piece of code: the document's text from `start` to `end` (characters).

    `level` is a heading's depth from 1 (0 for the rest); `page` counts from 1 and is 0 where the format has none.
    A table's text is a Markdown pipe table, a list's one item a line ("- …" or "1. …", indented where nested).
    """

    kind: str
    start: int
    end: int
    level: int = 0
    page: int = 0


@dataclass(frozen=True, kw_only=True)
class Document:
    """One input file as it was read.

    `name` is its path below the expert's folder, or as it was given; `sha256` of the file's bytes. `text` is Markdown
    without tables of contents, running headers, footers and page numbers, hyphenation joined. Blocks are in order, do
    not overlap, and leave out only white space. `language` is a two-letter code, "" where it is not known. `pages` is
    0 where the format has none, and `empty_pages` are those without any text, as scanned ones are (from 1). `dropped`
    counts what was cleaned away, by reason, in characters (attachments of e-mail in bytes).
    """

    name: str
    sha256: str
    format: str
    title: str
    text: str = field(repr=False)
    blocks: tuple[Block, ...] = field(repr=False)
    language: str = ""
    pages: int = 0
    empty_pages: tuple[int, ...] = ()
    dropped: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Unread:
    """A file that gave no text, and why, in words that tell the person what to do."""

    name: str
    sha256: str
    reason: str
