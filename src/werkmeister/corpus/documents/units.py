"""The smallest pieces that a passage is cut between: sentences, list items, table rows, lines of code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from werkmeister.corpus.documents.document import Block, Document

Count = Callable[[Sequence[str]], list[int]]
"""Tokens of each text, without special tokens; asked for many texts at once, since that is much faster."""

_SENTENCE = re.compile(r"(?:[.!?…]+[\"'”’»)\]]*|[。！？])(?=\s+[\"'“‘„«(\[¿¡]*(?:[^\W\d_]|\d))|\n")
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Za-zÄÖÜäöü]|[zdu]\.\s?[BhaÄä]|e\.g|i\.e|a\.m|p\.m|cf|vs|etc|Fig|Figs|No|Nos|Nr|Abb|Tab|Kap|Abs|Art"
    r"|Bd|Bsp|bspw|bzw|ca|evtl|gem|ggf|inkl|max|min|mind|sog|usw|vgl|zzgl|Dr|Prof|Mr|Mrs|Ms|St|Str|Tel|approx|incl"
    r"|resp|Sec|Ch|Eq|Vol|vol|pp|ed|Inc|Ltd|Co|Corp)|(?:^|[\s(])\d{1,3})\.$"
)
_WORD = re.compile(r"\S+")
_LOOK_BACK = 12


@dataclass(slots=True)
class Unit:
    """A piece [start, end) of one block (named by its start); `first` in it or not; `sentence` of running text."""

    start: int
    end: int
    block: int
    first: bool
    sentence: bool
    tokens: int = 0


def units_of(document: Document, block: Block) -> Iterator[Unit]:
    """The units of a block that is no heading; together they hold all of it but white space between them."""
    text = document.text[block.start : block.end]
    ends = _sentence_ends(text) if block.kind == "paragraph" else _line_ends(text, table=block.kind == "table")
    first = True
    for start, end in _spans(text, ends):
        yield Unit(block.start + start, block.start + end, block.start, first, block.kind == "paragraph")
        first = False


def smaller_units(document: Document, unit: Unit, count: Count, budget: int) -> list[Unit]:
    """A unit that is too long, cut between words, and a word that is too long between characters."""
    text = document.text[unit.start : unit.end]
    spans = [match.span() for match in _WORD.finditer(text)]
    pieces: list[tuple[int, int, int]] = []
    run: list[tuple[int, int]] = []
    total = 0
    for span, tokens in zip(spans, count([text[start:end] for start, end in spans]), strict=True):
        if run and total + tokens + 1 > budget:
            pieces += _fitting_words(text, run, count, budget)
            run, total = [], 0
        run.append(span)
        total += tokens + 1
    pieces += _fitting_words(text, run, count, budget)
    return [
        Unit(unit.start + start, unit.start + end, unit.block, unit.first and not n, False, tokens)
        for n, (start, end, tokens) in enumerate(pieces)
    ]


def _fitting_words(text: str, words: list[tuple[int, int]], count: Count, budget: int) -> list[tuple[int, int, int]]:
    """A run of words in one piece if it fits as it is counted in one, else in two halves, and so on."""
    start, end = words[0][0], words[-1][1]
    tokens = count([text[start:end]])[0]
    if tokens <= budget:
        return [(start, end, tokens)]
    if len(words) == 1:
        return _broken_word(text, start, end, count, budget)
    middle = len(words) // 2
    return [
        *_fitting_words(text, words[:middle], count, budget),
        *_fitting_words(text, words[middle:], count, budget),
    ]


def _broken_word(text: str, start: int, end: int, count: Count, budget: int) -> list[tuple[int, int, int]]:
    """Halves of a word, halved until each fits or is one character; neighbours that fit together are not joined."""
    pieces = []
    waiting = [(start, end)]
    while waiting:
        counts = count([text[s:e] for s, e in waiting])
        halved = []
        for (s, e), tokens in zip(waiting, counts, strict=True):
            if tokens <= budget or e - s == 1:
                pieces.append((s, e, tokens))
            else:
                middle = (s + e) // 2
                halved += [(s, middle), (middle, e)]
        waiting = halved
    return sorted(pieces)


def _spans(text: str, ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for end in [*ends, len(text)]:
        piece = text[start:end]
        if piece.strip():
            yield start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
        start = end


def _sentence_ends(text: str) -> list[int]:
    ends = []
    for match in _SENTENCE.finditer(text):
        before = text[max(0, match.end() - _LOOK_BACK) : match.end()]
        if match.group() == "\n" or not _ABBREVIATION.search(before):
            ends.append(match.end())
    return ends


def _line_ends(text: str, *, table: bool) -> list[int]:
    """Where lines end; a table's head stays with the rule below it."""
    ends = [match.end() for match in re.finditer("\n", text)]
    return ends[1:] if table and len(ends) > 1 else ends
