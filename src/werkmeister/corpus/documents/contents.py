"""Tables of contents in documents that have no pages: lists of the document's own headings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from werkmeister.corpus.documents.furniture import key_of
from werkmeister.corpus.documents.parts import Part

_FEWEST = 3
_SHARE = 0.8
_BEHIND = re.compile(r"\d{1,4}\s*$")
_MARK = re.compile(r"^\s*(?:[-*+]|\d{1,3}[.)])\s+")
_NUMBER = re.compile(r"^\d{1,3}(?:\.\d{1,3})*\.?\s+")


def without_contents(parts: Sequence[Part]) -> tuple[list[Part], Counter[str]]:
    """The parts without runs of lines that are headings of the document, and the characters that were dropped.

    A run is a list, or lines and paragraphs one after another, of three entries or more, of which four fifths stand
    again as headings further down.
    """
    headings: Counter[str] = Counter()
    for part in parts:
        if part.kind == "heading":
            headings[_key(part.text)] += 1
    kept: list[Part] = []
    dropped: Counter[str] = Counter()
    at = 0
    while at < len(parts):
        run = _run(parts, at, headings)
        if run:
            dropped["table of contents"] += sum(len(part.text) for part in parts[at : at + run])
            at += run
        else:
            kept.append(parts[at])
            at += 1
    return kept, dropped


def _run(parts: Sequence[Part], at: int, headings: Counter[str]) -> int:
    """How many parts from here are a table of contents; 0 for none."""
    end = at
    entries = listed = 0
    while end < len(parts) and parts[end].kind in ("paragraph", "list"):
        lines = [line for line in parts[end].text.split("\n") if line.strip()]
        found = sum(_key(line) in headings for line in lines)
        if found < _SHARE * len(lines):
            break
        entries, listed, end = entries + len(lines), listed + found, end + 1
    return end - at if listed >= _FEWEST else 0


def _key(line: str) -> str:
    bare = _NUMBER.sub("", _MARK.sub("", line))
    page = _BEHIND.search(bare[-8:])
    return key_of(bare[: -len(page.group())] if page else bare) or key_of(bare)
