"""PDF into parts: the raw lines of every page, told apart by what kreuzberg makes of their type and place.

kreuzberg's own blocks know headings, lists and gaps, but leave out lines that come again on a page and write some
letters wrongly ("LIB:basic" becomes "LIBtibasic"); the raw text of the page has every line as it is printed, and no
structure. So the text is taken from the lines, and each line takes its kind from the block that it stands in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import groupby
from typing import Any

from werkmeister.corpus.documents.furniture import clean_pages, depth_of, division_of, key_of, number_of
from werkmeister.corpus.documents.hyphens import Joiner
from werkmeister.corpus.documents.markdown import code_part
from werkmeister.corpus.documents.parts import Part, Reading, counted, pipe_table
from werkmeister.corpus.documents.plain import rejoin

_DOTS = "•▪◦‣∗·●○■□➢➤✓✔⁃"
_ITEM = re.compile(rf"^([{_DOTS}–—*-]|(?:\d{{1,2}}|[a-z])[.)])\s+(?=\S)")
_CAPTION = re.compile(
    r"^(?:table|tabelle|figure|abbildung|fig\.|abb\.|listing|example|beispiel)\s+[\dA-Z]", re.IGNORECASE
)
_LABEL = re.compile(
    r"^(?:note|notes|tip|important|warning|caution|danger|hint|attention|anmerkung|hinweis|tipp|wichtig|warnung|vorsicht"
    r"|achtung|gefahr)[:!]?$",
    re.IGNORECASE,
)
_CLEAR_HEADING = re.compile(r"^(?=.{3,70}$)(?:\d+(?:\.\d+)*\.?\s+)?[^\W\d_a-zßà-ÿ][^=$<>;|{}\[\]/\\]*[^\W_]\)?$")
_LEADER_CELL = re.compile(r"^(?:[.·…]\s?){3,}$")
_ENDED = re.compile(r"[.!?:;…][\"'”’»)]*$")
_TABLE = re.compile(r"^(?:table|tabelle)\s+[\dA-Z][\d.]*:?", re.IGNORECASE)
_FEWEST_ROWS = 3
_LETTERS = re.compile(r"[^\W\d_]{2}")
_FEWEST_NUMBERS = 3
_FULL = 0.7
_ALMOST = 0.8
_NARROW = 40
_LARGER = 1.12
_LONGEST_HEADING = 160
_ODD = re.compile("[\x00\x01\x03-\x08\x0b\x0e-\x1f\x7f￾￿]")


@dataclass(slots=True)
class _Line:
    """A raw line, the kind of the block that it stands in, and that block's number (−1: it stands in none)."""

    text: str
    kind: str
    node: int
    level: int = 0
    large: bool = False


def read_pdf(nodes: Sequence[Mapping[str, Any]], pages: Sequence[str], title: str) -> Reading:
    """The parts of a PDF from kreuzberg's document nodes and the raw text of every page."""
    pages = [_ODD.sub("", page) for page in pages]
    cleaned = clean_pages(pages)
    width = _width(cleaned.pages)
    joiner = Joiner("\n".join(lines) for lines in cleaned.pages)
    body = _body_height(nodes)
    by_page: dict[int, list[tuple[int, Mapping[str, Any]]]] = {}
    for number, node in enumerate(nodes):
        content = dict(node["content"], large=_height(node) > _LARGER * body > 0)
        by_page.setdefault(node.get("page") or 0, []).append((number, content))
    builder = _Builder(width, joiner, cleaned.entries)
    for page, lines in enumerate(cleaned.pages, 1):
        builder.page = page
        builder.take(_aligned(lines, by_page.get(page, [])), dict(by_page.get(page, [])))
    parts = tuple(builder.finished())
    cleaned.dropped["hyphens at line ends"] += joiner.joined
    empty = tuple(number for number, page in enumerate(pages, 1) if not page.strip())
    dropped = counted(cleaned.dropped)
    return Reading(parts=parts, title=title, pages=len(pages), empty_pages=empty, dropped=dropped)


def _width(pages: Iterable[Sequence[str]]) -> int:
    """How long a full line is, in characters: most lines of running text are about as long as the longest tenth."""
    lengths = sorted(len(line) for lines in pages for line in lines if len(line) > 20)
    return lengths[len(lengths) * 9 // 10] if lengths else 0


def _height(node: Mapping[str, Any]) -> float:
    """The height of a node's box a line, in points: about the size of its letters."""
    box, lines = node.get("bbox"), len(_node_lines(node["content"]))
    return (box["y1"] - box["y0"]) / lines if box and lines else 0.0


def _body_height(nodes: Sequence[Mapping[str, Any]]) -> float:
    """The height that most text of one line has; 0 where nothing tells."""
    often: Counter[float] = Counter()
    for node in nodes:
        lines = _node_lines(node["content"])
        if len(lines) == 1 and node["content"]["node_type"] in ("paragraph", "list_item"):
            often[round(_height(node), 1)] += len(lines[0])
    return often.most_common(1)[0][0] if often else 0.0


def _node_lines(content: Mapping[str, Any]) -> list[str]:
    if content["node_type"] == "table":
        return [" ".join(row) for row in _rows(content)]
    if content["node_type"] in ("paragraph", "heading", "list_item", "code"):
        return [line for line in (content.get("text") or "").splitlines() if line.strip()]
    return []


def _rows(content: Mapping[str, Any]) -> list[list[str]]:
    rows: dict[int, list[str]] = {}
    for cell in content["grid"]["cells"]:
        rows.setdefault(cell["row"], []).append(" ".join(cell["content"].split()))
    return list(rows.values())


def _is_table(rows: Sequence[Sequence[str]]) -> bool:
    """Whether kreuzberg's table is one: of running text it cuts every line into cells that go on in the next."""
    cells = [cell for row in rows for cell in row[1:] if " " in cell]
    return sum(cell[0].islower() for cell in cells) * 2 <= len(cells) and not any(
        _LEADER_CELL.match(cell) for row in rows for cell in row
    )


def _aligned(lines: Sequence[str], nodes: Sequence[tuple[int, Mapping[str, Any]]]) -> list[_Line]:
    """Each raw line with the node that it stands in."""
    known = [(number, content, line) for number, content in nodes for line in _node_lines(content)]
    found: list[tuple[int, Mapping[str, Any]] | None] = [None] * len(lines)
    matcher = SequenceMatcher(
        None, [_key(line) for line in lines], [_key(line) for _, _, line in known], autojunk=False
    )
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag in ("equal", "replace"):
            for i in range(i1, i2):
                number, content, _ = known[j1 + (i - i1) * (j2 - j1) // (i2 - i1)]
                found[i] = (number, content)
    taken: list[_Line] = []
    for i, (line, node) in enumerate(zip(lines, found, strict=True)):
        if node is None and i > 0:
            # Between two lines of one block, or behind code: kreuzberg left it out because it came before.
            after = next((other for other in found[i + 1 :] if other is not None), None)
            before = found[i - 1]
            if before is not None and (after == before or before[1]["node_type"] == "code"):
                node = found[i] = before
        if node is None:
            taken.append(_Line(line, "paragraph", -1))
        else:
            taken.append(_Line(line, node[1]["node_type"], node[0], node[1].get("level") or 0, node[1]["large"]))
    return taken


def _key(line: str) -> str:
    return key_of(_ITEM.sub("", line)) or line.strip()


class _Builder:
    """Makes parts of the lines, page after page, and joins what a page break cut."""

    def __init__(self, width: int, joiner: Joiner, entries: Mapping[str, int]) -> None:
        self.width, self.joiner, self.entries = width, joiner, entries
        self.page = 0
        self.parts: list[Part] = []
        self.marks: list[str] = []
        self.number = 0
        self.before = ""

    def take(self, lines: Sequence[_Line], nodes: Mapping[int, Mapping[str, Any]]) -> None:
        """Take the lines of one page, in order."""
        first = len(self.parts)
        self.before = ""
        for (node, kind), group in groupby(
            _with_headings(lines, self.entries, self.width), key=lambda line: (line.node, line.kind)
        ):
            texts = [line.text for line in group]
            if kind == "table" and node in nodes and _is_table(_rows(nodes[node])):
                self._table(_rows(nodes[node]))
            elif kind == "heading":
                self._heading(texts, nodes[node].get("level") or 2 if node in nodes else 2)
            elif kind == "code":
                self.parts.append(Part("code", code_part(texts).text, 0, self.page))
            else:
                self._running(texts, in_list=kind == "list_item")
                continue
            self.before = ""
        self._join_over_the_break(first)

    def finished(self) -> list[Part]:
        """All parts: list items that follow each other as one list, headings with their depths."""
        return _levelled(_lists([self._set(part) for part in _tabled(_labelled(self.parts))]), self.entries)

    def _set(self, part: Part) -> Part:
        """Words joined and lines set as running text."""
        if part.kind not in ("paragraph", "item"):
            return part
        mark = re.match(r"\s*\S+\s", part.text) if part.kind == "item" else None
        head = mark.group() if mark else ""
        text = rejoin(self.joiner.join(part.text[len(head) :]).split("\n"), self.width)
        # An item is one line, whatever it holds.
        return replace(part, text=head + (text.replace("\n", " ") if head else text))

    def _add(self, kind: str, text: str) -> None:
        self.parts.append(Part(kind, text, 0, self.page))

    def _table(self, rows: list[list[str]]) -> None:
        while rows and sum(map(bool, rows[0])) == 1 and len(rows[0]) > 1:
            # What stands above a table, alone on its line, kreuzberg takes for its first row.
            text = "".join(rows.pop(0))
            if _may_head(text) and _CLEAR_HEADING.match(text):
                levels = [part.level for part in self.parts if part.kind == "heading"]
                self.parts.append(Part("heading", text, levels[-1] if levels else 2, self.page))
            else:
                self._add("paragraph", text)
        self._add("table", pipe_table(rows))

    def _heading(self, texts: Sequence[str], level: int) -> None:
        text = self.joiner.join(" ".join(texts))
        self.parts.append(Part("heading", " ".join(text.split()), level, self.page))

    def _running(self, texts: list[str], *, in_list: bool) -> None:
        """Lines of running text: items where they begin as such, paragraphs else."""
        for number, text in enumerate(texts):
            item = _ITEM.match(text)
            last = self.parts[-1] if self.parts else None
            open_ended = last is not None and last.kind in ("paragraph", "item") and self._is_full(self.before)
            if item and self._begins_item(item.group(1), fresh=not number, full=self._is_full(self.before, _FULL)):
                mark = item.group(1)
                if mark[:-1].isdigit():
                    self.number = int(mark[:-1])
                indent = self._indent("1" if mark[:-1].isdigit() else "a" if mark[:-1] else mark)
                self._add("item", f"{indent}{f'{mark[:-1]}.' if mark[:-1] else '-'} {text[item.end() :]}")
            elif last is not None and (
                number
                or (in_list and last.kind == "item")
                or (open_ended and not _CAPTION.match(text) and not _ENDED.search(self.before))
            ):
                # Also what kreuzberg takes for a block of its own although the line before it is full and goes on.
                self.parts[-1] = replace(last, text=f"{last.text}\n{text}")
            else:
                self._add("paragraph", text)
            self.before = text

    def _begins_item(self, mark: str, *, fresh: bool, full: bool) -> bool:
        """Whether a line that looks like an item is one: a full line may go on with a dash or a number."""
        return mark in _DOTS or fresh or not full or (mark[:-1].isdigit() and int(mark[:-1]) == self.number + 1)

    def _is_full(self, line: str, share: float = _ALMOST) -> bool:
        return len(line) >= max(share * self.width, _NARROW)

    def _indent(self, mark: str) -> str:
        """The indent of an item by its mark: a mark that is new within the list is one level deeper."""
        if not self.parts or self.parts[-1].kind != "item":
            self.marks = []
        if mark in self.marks:
            del self.marks[self.marks.index(mark) + 1 :]
        else:
            self.marks.append(mark)
        return "  " * (len(self.marks) - 1)

    def _join_over_the_break(self, first: int) -> None:
        if not 0 < first < len(self.parts):
            return
        before, after = self.parts[first - 1], self.parts[first]
        goes_on = before.kind in ("paragraph", "item") and after.kind == "paragraph"
        if goes_on and after.text[:1].islower() and before.text.rstrip()[-1:] not in ".!?:;":
            self.parts[first - 1 : first + 1] = [Part(before.kind, f"{before.text}\n{after.text}", 0, before.page)]


def _with_headings(lines: Sequence[_Line], entries: Mapping[str, int], width: int) -> list[_Line]:
    """The lines with what is a heading, by the table of contents or by its looks, marked as one; and the rest not."""
    marked = []
    alone = Counter(line.node for line in lines)
    before = ""
    for line in lines:
        listed = key_of(line.text) in entries and bool(number_of(line.text)[0])
        looks = line.kind == "heading" and _may_head(line.text)
        if looks and (entries or not line.large):
            # kreuzberg takes commands and ends of paragraphs for headings too, and boxes of them may be too high.
            goes_on = len(before) >= _FULL * width and before[-1:] not in ".:!?"
            looks = alone[line.node] == 1 and not goes_on and bool(_CLEAR_HEADING.match(line.text))
        kind = "heading" if listed or looks else "paragraph" if line.kind == "heading" else line.kind
        marked.append(replace(line, kind=kind))
        before = line.text
    return marked


def _may_head(text: str) -> bool:
    return bool(
        len(text) <= _LONGEST_HEADING
        and _LETTERS.search(text)
        and not _ITEM.match(text)
        and not _CAPTION.match(text)
        and not _LABEL.match(text)
        and not text.endswith((":", ",", ";"))
    )


def _labelled(parts: Iterable[Part]) -> list[Part]:
    """ "Note" or "Warnung" alone on a line goes into the paragraph that it is about."""
    made: list[Part] = []
    for part in parts:
        if made and part.kind == "paragraph" and made[-1].kind == "paragraph" and _LABEL.match(made[-1].text):
            label = made.pop()
            part = replace(label, text=f"{label.text}\n{part.text}")
        made.append(part)
    return made


def _tabled(parts: Iterable[Part]) -> list[Part]:
    """Lines below the caption of a table, of as many words each, are its rows; other tables stay lines of text."""
    made: list[Part] = []
    for part in parts:
        rows = [line.split() for line in part.text.split("\n")]
        captioned = bool(made) and made[-1].kind == "paragraph" and _TABLE.match(made[-1].text)
        alike = len(rows) >= _FEWEST_ROWS and 1 < len(rows[0]) == min(map(len, rows)) == max(map(len, rows))
        if captioned and alike and part.kind == "paragraph":
            part = replace(part, kind="table", text=pipe_table(rows))
        made.append(part)
    return made


def _lists(parts: Iterable[Part]) -> list[Part]:
    """Items that follow each other, as one list."""
    joined: list[Part] = []
    for part in parts:
        if part.kind != "item":
            joined.append(part)
        elif joined and joined[-1].kind == "list":
            joined[-1] = replace(joined[-1], text=f"{joined[-1].text}\n{part.text}")
        else:
            joined.append(replace(part, kind="list"))
    return joined


def _levelled(parts: Sequence[Part], entries: Mapping[str, int]) -> list[Part]:
    """Headings with the depth that their numbers give, where the document numbers them.

    "Kapitel 5" and the title below it become one heading. In a numbered document a heading without a number is one
    deeper than the numbered one above it; in one without numbers kreuzberg's levels, made of the sizes of the letters,
    stay.
    """
    numbers = [number_of(part.text)[0] for part in parts if part.kind == "heading"]
    numbered = sum(bool(number) for number in numbers) >= max(_FEWEST_NUMBERS, len(numbers) // 4)
    divided = any(part.kind == "heading" and division_of(part.text) == 1 for part in parts)
    made: list[Part] = []
    depth = 0
    pending: Part | None = None
    for part in parts:
        if part.kind == "heading" and numbered:
            division = division_of(part.text)
            if division and pending is None:
                pending = replace(part, level=division if divided else 1)
                continue
            number = number_of(part.text)[0]
            # "16 inputs" is no chapter 16, unless the table of contents says so.
            number = number if "." in number or not entries or key_of(part.text) in entries else ""
            if pending is not None and not number:
                part = replace(part, text=f"{pending.text} {part.text}", level=pending.level)
                depth, pending = pending.level, None
            elif number:
                depth = depth_of(number) + divided
                part = replace(part, level=depth)
            else:
                part = replace(part, level=depth + 1)
        if pending is not None:
            made.append(pending)
            depth, pending = pending.level, None
        made.append(part)
    return made if pending is None else [*made, pending]
