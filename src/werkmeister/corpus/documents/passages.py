"""Documents into passages: along headings, within a budget of tokens, never cutting what belongs together if it fits.

A section (what stands under one heading, up to the next) is the unit of sense. One that fits the budget is a passage.
Small neighbours share one, if they stand directly under the same heading: a glossary entry or a two-line subsection
alone is too little to answer from, while across chapters nothing but confusion is gained. One that does not fit is cut
between blocks, else between sentences, list items, table rows and lines of code, and only then between words.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile

from werkmeister.corpus.documents.document import Block, Document
from werkmeister.corpus.documents.language import detect_language
from werkmeister.corpus.documents.units import Count, Unit, smaller_units, units_of
from werkmeister.passage import Passage

VERSION = 1
"""Rises when the same document would be cut otherwise."""

_SMALL = 4
_IN_FRONT = re.compile(
    r"^(?:(?:chapter|kapitel|part|teil|appendix|anhang)\s+(?:[\dIVXLC]+|[A-Z])|\d+(?:\.\d+)*|[A-Z](?:\.\d+)+)\.?\s+",
    re.IGNORECASE,
)
_SURE = 6
_CLEAR = 0.2

_Span = tuple[tuple[int, ...], int, int]


@dataclass(slots=True)
class _Section:
    """The blocks under one heading. `path` are the headings' blocks, by index, that lead to it."""

    path: tuple[int, ...]
    blocks: list[Block] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    tokens: int = 0


def cut(document: Document, count: Count, *, budget: int, overlap: int = 0) -> list[Passage]:
    """The passages of a document, in order.

    Each is at most `budget` tokens long as `count` counts them, unless it is one character that takes more. Where a
    section had to be cut, a passage begins with the last sentences of the one before it, `overlap` tokens at most.
    Together they hold every character of the text but headings and white space between blocks.
    """
    sections = _sections(document)
    _count_units(document, sections, count, budget)
    groups = list(_groups(document, sections, count, budget))
    shared = [_shared_span(document, group) for group in groups if len(group) > 1]
    totals = iter(count([document.text[start:end] for _, start, end in shared]) if shared else ())
    kept: list[tuple[_Section, _Span | None, int]] = []
    for group in groups:
        tokens = next(totals) if len(group) > 1 else budget + 1
        # Headings and blank lines between were only estimated: a group that is too long after all is parted again.
        kept += (
            [(group[0], _shared_span(document, group), tokens)] if tokens <= budget else [(s, None, 0) for s in group]
        )
    fitted = iter(_fitted(document, [section for section, span, _ in kept if span is None], count, budget, overlap))
    spans: list[_Span] = []
    counts: list[int] = []
    for section, span, tokens in kept:
        for start, end, own in [(*span[1:], tokens)] if span is not None else next(fitted):
            spans.append((section.path if span is None else span[0], start, end))
            counts.append(own)
    return list(_passages(document, spans, counts))


def _shared_span(document: Document, group: Sequence[_Section]) -> _Span:
    """What a group shares: from its first heading, or from what stands before it, under the heading above all."""
    first, parent = group[0], _parent(group)
    start = first.units[0].start if first.path == parent else document.blocks[first.path[-1]].start
    return parent, start, group[-1].units[-1].end


def _sections(document: Document) -> list[_Section]:
    sections: list[_Section] = []
    path: tuple[int, ...] = ()
    current = _Section(path)
    for index, block in enumerate(document.blocks):
        if block.kind == "heading":
            path = (*(i for i in path if document.blocks[i].level < block.level), index)
            current = _Section(path)
        else:
            if not current.blocks:
                sections.append(current)
            current.blocks.append(block)
    return sections


def _count_units(document: Document, sections: Sequence[_Section], count: Count, budget: int) -> None:
    """Divide every section into units that fit the budget, and count their tokens."""
    whole = [(section, unit) for section in sections for block in section.blocks for unit in units_of(document, block)]
    counts = count([document.text[unit.start : unit.end] for _, unit in whole]) if whole else []
    for (section, unit), tokens in zip(whole, counts, strict=True):
        unit.tokens = tokens
        section.units += [unit] if tokens <= budget else smaller_units(document, unit, count, budget)
    for section in sections:
        section.tokens = sum(unit.tokens for unit in section.units) + len(section.units)


def _groups(document: Document, sections: Sequence[_Section], count: Count, budget: int) -> Iterator[list[_Section]]:
    """Runs of small sections that share a passage; every other section alone."""
    headings = [section.path[-1] for section in sections if section.path]
    marks = count([document.text[document.blocks[i].start : document.blocks[i].end] for i in headings])
    heading_tokens = dict(zip(headings, marks, strict=True))
    group: list[_Section] = []
    total = 0
    for section in sections:
        own = section.tokens + (heading_tokens[section.path[-1]] if section.path else 0) + 2
        small = section.tokens * _SMALL < budget
        if group and small and total + own <= budget and _are_siblings(group, section):
            group.append(section)
            total += own
            continue
        if group:
            yield group
            group = []
        if small:
            group, total = [section], own
        else:
            yield [section]
    if group:
        yield group


def _are_siblings(group: Sequence[_Section], section: _Section) -> bool:
    """Whether a section stands directly under the heading that all of the group stand directly under.

    What a heading says before its first subsection counts as standing under it.
    """
    parent = section.path[:-1]
    return bool(section.path) and (
        (group[0].path == parent and all(other.path[:-1] == parent for other in group[1:]))
        or all(other.path and other.path[:-1] == parent for other in group)
    )


def _parent(group: Sequence[_Section]) -> tuple[int, ...]:
    return group[-1].path[:-1]


def _fitted(
    document: Document, sections: Sequence[_Section], count: Count, budget: int, overlap: int
) -> list[list[tuple[int, int, int]]]:
    """Each section's spans with their tokens, within the budget as each is counted in one piece."""
    fitted: list[list[tuple[int, int, int]]] = [[] for _ in sections]
    aims = dict.fromkeys(range(len(sections)), budget)
    while aims:
        packed = {i: _packed(document.text, sections[i], aim, overlap) for i, aim in aims.items()}
        counts = iter(count([document.text[start:end] for spans in packed.values() for start, end in spans]))
        for i, spans in packed.items():
            fitted[i] = [(start, end, next(counts)) for start, end in spans]
            excess = max(tokens for _, _, tokens in fitted[i]) - budget
            if excess > 0 and aims[i] > 1:
                # Tokens of the pieces do not add up exactly to those of the whole.
                aims[i] = max(1, aims[i] - excess)
            else:
                del aims[i]
    return fitted


def _packed(text: str, section: _Section, budget: int, overlap: int) -> list[tuple[int, int]]:
    """Spans that fill the budget by the sums of their units' tokens."""
    units = section.units
    spans: list[tuple[int, int]] = []
    at = 0
    begin = 0
    while at < len(units):
        end = _fill(text, units, begin, max(at, begin), budget)
        spans.append((units[begin].start, units[end - 1].end))
        at = end
        begin = _overlap_from(units, begin, end, budget, overlap) if end < len(units) else end
    return spans


def _fill(text: str, units: Sequence[Unit], begin: int, at: int, budget: int) -> int:
    """The end (exclusive) of a span from `begin` that takes in `units[at]` at least."""
    total = sum(unit.tokens + 1 for unit in units[begin:at])
    end = at
    while end < len(units) and (end == at or total + units[end].tokens + 1 <= budget):
        total += units[end].tokens + 1
        end += 1
    broken = end
    if end < len(units) and not units[end].first:
        # A block that fits into a passage of its own is not cut, if what stands before it fills a third.
        while broken > at + 1 and not units[broken].first:
            broken -= 1
        rest = takewhile(lambda unit: unit.block == units[broken].block, islice(units, broken, broken + budget + 1))
        block = sum(unit.tokens + 1 for unit in rest)
        before = sum(unit.tokens + 1 for unit in units[begin:broken])
        if not units[broken].first or block > budget or before * 3 < budget:
            return end
    # A line that announces a list or a table goes with it.
    last = broken - 1
    if broken < len(units) and last > at and units[last].first and text.endswith(":", 0, units[last].end):
        return last
    return broken


def _overlap_from(units: Sequence[Unit], begin: int, end: int, budget: int, overlap: int) -> int:
    """Where the next span begins: as many whole sentences before `end` as the overlap allows."""
    room = min(overlap, budget - units[end].tokens - 1)
    start = end
    while start > begin + 1 and units[start - 1].sentence and units[start - 1].tokens + 1 <= room:
        start -= 1
        room -= units[start].tokens + 1
    return start


def _passages(document: Document, spans: Sequence[_Span], counts: Sequence[int]) -> Iterator[Passage]:
    seen: Counter[str] = Counter()
    blocks = [block for block in document.blocks if block.kind != "heading"]
    at = 0
    for (path, start, end), tokens in zip(spans, counts, strict=True):
        while at < len(blocks) and blocks[at].end <= start:
            at += 1
        inside = at
        while inside + 1 < len(blocks) and blocks[inside + 1].start < end:
            inside += 1
        text = document.text[start:end]
        headings = _words(document, path)
        # A text that stands twice under the same headings gets two ids. Section numbers do not count: a new chapter
        # in front changes those of all that follow.
        base = json.dumps([document.name, [_IN_FRONT.sub("", words) for words in headings], text], ensure_ascii=False)
        seen[base] += 1
        key = base if seen[base] == 1 else f"{base}{seen[base]}"
        yield Passage(
            id=hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16],
            document=document.name,
            title=document.title,
            headings=headings,
            text=text,
            start=start,
            end=end,
            first_page=blocks[at].page,
            last_page=max(blocks[at].page, blocks[inside].page),
            tokens=tokens,
            language=detect_language(text, fewest=_SURE, share=_CLEAR) or document.language,
        )


def _words(document: Document, path: Sequence[int]) -> tuple[str, ...]:
    words = [document.text[document.blocks[i].start : document.blocks[i].end].lstrip("#").strip() for i in path]
    if words and words[0].casefold() == document.title.casefold():
        words = words[1:]
    return tuple(words)
