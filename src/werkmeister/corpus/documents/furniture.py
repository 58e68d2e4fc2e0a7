"""What only the printed page needs: running headers and footers, page numbers, tables of contents, indexes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

_EDGE = 3
_FEWEST = 3
_SHARE = 0.15
_ROMAN = r"[ivxlcdm]{1,7}"
_PAGE_NUMBER = re.compile(
    rf"^(?:[-–—|\s]*(?:page|seite|p\.|s\.)?\s*(?:\d{{1,4}}|{_ROMAN})(?:\s*(?:/|of|von)\s*\d{{1,4}})?[-–—|\s]*)$",
    re.IGNORECASE,
)
_ENDS_IN_NUMBER = re.compile(rf"\s(?:\d{{1,4}}|{_ROMAN})(?:\s*(?:/|of|von)\s*\d{{1,4}})?$", re.IGNORECASE)
_STARTS_IN_NUMBER = re.compile(rf"^(?:\d{{1,4}}|{_ROMAN})\s(?=\S)", re.IGNORECASE)
_LEADER = re.compile(rf"(?:(?:\.|·|…|_)[ ]?){{4,}}\s*(?:\d{{1,4}}|{_ROMAN}|[A-Z]-?\d{{1,3}})?\s*$")
_CONTENTS = re.compile(
    r"^(?:table of contents|contents|inhaltsverzeichnis|inhalt|list of (?:figures|tables)"
    r"|(?:abbildungs|tabellen)verzeichnis|sommaire|table des matières|índice|indice)$",
    re.IGNORECASE,
)
_INDEX = re.compile(r"^\S.{0,70}?,\s*\d{1,4}(?:\s*[,–-]\s*\d{1,4})*$")
_NUMBERED = re.compile(r"^((?:\d{1,3}|[A-Z](?=\.\d))(?:\.\d{1,3})*\.?)(?:\s+|(?<=\d)(?=[^\W\d_]|[\[(<]))(\S.*)$")
_DIVISION = re.compile(r"^(chapter|kapitel|part|teil|appendix|anhang)\s+([\dIVXLC]+|[A-Z])\.?$", re.IGNORECASE)
_MIXED = 0.3


@dataclass(slots=True)
class Cleaned:
    """The lines of every page without furniture, what was dropped in characters, and the entries of the contents.

    `entries` maps a heading's key (see `key_of`) to its depth from 1.
    """

    pages: list[list[str]]
    dropped: Counter[str] = field(default_factory=Counter)
    entries: dict[str, int] = field(default_factory=dict)


def clean_pages(pages: Sequence[str]) -> Cleaned:
    """Take the furniture off the raw text of a document's pages."""
    lines = [[line.strip() for line in page.splitlines() if line.strip()] for page in pages]
    cleaned = Cleaned(lines)
    _drop_contents(cleaned)
    _drop_running(cleaned)
    _drop_index(cleaned)
    return cleaned


def key_of(heading: str) -> str:
    """What two printings of one heading have in common: its letters and digits."""
    return re.sub(r"[\W_]+", "", heading).casefold()


def number_of(heading: str) -> tuple[str, str]:
    """The section number in front of a heading ("5.1.2", "A.1"; "" for none) and its words."""
    match = _NUMBERED.match(heading.strip())
    return (match.group(1).rstrip("."), match.group(2)) if match else ("", heading.strip())


def division_of(line: str) -> int:
    """1 for "Part II" alone on a line, 2 for "Chapter 3" or "Appendix A", and 0 for what is neither."""
    match = _DIVISION.match(line.strip())
    return 0 if match is None else 1 if match.group(1).casefold() in ("part", "teil") else 2


def _drop_running(cleaned: Cleaned) -> None:
    """Drop lines at the edges of pages that come again and again, and page numbers alone on a line."""
    running = _running_keys(cleaned.pages)
    exactly = Counter(line for lines in cleaned.pages for line in (*lines[:_EDGE], *lines[-_EDGE:]))
    for lines in cleaned.pages:
        for end in (0, -1):
            for _ in range(_EDGE):
                if not lines or not _is_running(lines[end], running, exactly, cleaned.entries):
                    break
                number = bool(_PAGE_NUMBER.match(lines[end]))
                cleaned.dropped["page numbers" if number else "running headers and footers"] += len(lines[end])
                del lines[end]


def _is_running(line: str, running: set[str], exactly: Counter[str], entries: dict[str, int]) -> bool:
    if exactly[line] < _FEWEST and (division_of(line) or key_of(line) in entries):
        # "Chapter 3" alone on a line opens the chapter; above every page of it, it is a running header.
        return False
    return bool(_PAGE_NUMBER.match(line)) or (_running_key(line) in running and not _LEADER.search(line))


def _running_keys(pages: Sequence[Sequence[str]]) -> set[str]:
    """What comes at the edges of a good part of the pages, or, with the page's number beside it, of a few."""
    places: dict[str, list[int | None]] = {}
    for page, lines in enumerate(pages):
        for line in dict.fromkeys((*lines[:_EDGE], *lines[-_EDGE:])):
            places.setdefault(_running_key(line), []).append(_offset(line, page))
    needed = max(_FEWEST, _SHARE * sum(bool(lines) for lines in pages))
    chapters = max(_FEWEST, 0.01 * len(pages))
    running = set()
    for key, offsets in places.items():
        # A header that names the chapter comes on fewer pages, and counts them.
        common = Counter(offset for offset in offsets if offset is not None).most_common(1)
        counts = bool(common) and common[0][1] >= max(chapters, 0.6 * len(offsets))
        if (len(offsets) >= needed and ("#" not in key or counts or not common)) or (counts and len(key) > _FEWEST):
            running.add(key)
    return running


def _offset(line: str, page: int) -> int | None:
    """The difference between the number at the edge of a line and the page that it stands on."""
    found = _ENDS_IN_NUMBER.search(line) or _STARTS_IN_NUMBER.match(line)
    digits = re.search(r"\d+", found.group()) if found else None
    return int(digits.group()) - page if digits else None


def _running_key(line: str) -> str:
    """A line without its page number: what a running header keeps from page to page."""
    return _STARTS_IN_NUMBER.sub("#", _ENDS_IN_NUMBER.sub("#", " ".join(line.split()).casefold()))


def _drop_contents(cleaned: Cleaned) -> None:
    """Drop tables of contents: runs of lines with leaders to a page number, and what stands between them."""
    going_on = False
    for lines in cleaned.pages:
        leaders = [i for i, line in enumerate(lines) if _LEADER.search(line)]
        dense = len(leaders) >= 3 and len(leaders) >= _MIXED * (leaders[-1] - leaders[0] + 1)
        if not dense and not (going_on and leaders and leaders[0] <= 2):
            going_on = False
            continue
        start, end = leaders[0], leaders[-1] + 1
        while start > 0 and (_is_entry(lines[start - 1]) or going_on):
            start -= 1
        while end < len(lines) and _is_entry(lines[end]):
            end += 1
        for line in lines[start:end]:
            cleaned.dropped["table of contents"] += len(line)
            _note_entry(line, cleaned.entries)
        going_on = end == len(lines)
        del lines[start:end]


def _is_entry(line: str) -> bool:
    return bool(_ENDS_IN_NUMBER.search(line) or _CONTENTS.match(line))


def _note_entry(line: str, entries: dict[str, int]) -> None:
    bare = _ENDS_IN_NUMBER.sub("", " " + _LEADER.sub("", line)).strip(" .·…_")
    number, words = number_of(bare)
    if number and key_of(words):
        entries.setdefault(key_of(bare), depth_of(number))


def depth_of(number: str) -> int:
    """The depth of a section number: 1 for "5", 3 for "5.1.2"."""
    return number.count(".") + 1


def _drop_index(cleaned: Cleaned) -> None:
    """Drop the index at the end of a book: pages of words with page numbers behind them."""
    for lines in reversed(cleaned.pages):
        if not lines:
            continue
        if len(lines) < 5 or sum(bool(_INDEX.match(line)) for line in lines) < 0.5 * len(lines):
            return
        cleaned.dropped["index"] += sum(map(len, lines))
        lines.clear()
