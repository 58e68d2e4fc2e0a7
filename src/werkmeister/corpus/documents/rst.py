"""reStructuredText into parts, by way of Markdown.

kreuzberg's reader counts the columns of tables in bytes: with an umlaut in a cell it loses letters, or panics.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from werkmeister.corpus.documents.markdown import read_markdown
from werkmeister.corpus.documents.parts import Reading, pipe_table

_LINE = re.compile(r"^([!-/:-@\[-`{-~])\1{2,}\s*$")
_RULE = re.compile(r"^\s*={2,}(?:\s+={2,})+\s*$")
_GRID = re.compile(r"^\s*\+(?:[-=]+\+)+\s*$")
_DIRECTIVE = re.compile(r"^\.\.\s+(?:\|([^|]+)\|\s+)?([\w:.+-]+?)::(?:\s+(.*))?$")
_EXPLICIT = re.compile(r"^\.\.(?:\s|$)")
_FOOTNOTE = re.compile(r"^\.\.\s+\[([^\]]+)\]\s+(.*)$")
_OPTION = re.compile(r"^:([\w -]+):(?:\s+(.*))?$")
_FIELD = re.compile(r"^:([^:\s][^:]*):\s+(\S.*)$")
_AUTO = re.compile(r"^(\s*)(?:#\.|\((\d+)\))\s+(?=\S)")
_LIST = re.compile(r"^\s*(?:[-*+•]|\d+[.)]|#\.|\(\d+\))\s+\S")
_CODE = ("code-block", "code", "sourcecode", "parsed-literal", "literalinclude", "math", "productionlist")
_LEFT_OUT = (
    "contents",
    "toctree",
    "index",
    "include",
    "sectnum",
    "meta",
    "raw",
    "highlight",
    "tabularcolumns",
    "default-role",
)
_LABELS = ("note", "warning", "tip", "hint", "important", "caution", "danger", "attention", "error", "seealso")
_INLINE = (
    (re.compile(r"``(.+?)``"), r"`\1`"),
    (re.compile(r":[\w:.+-]+:`([^`<]*?)\s*<[^`>]*>`"), r"\1"),
    (re.compile(r":[\w:.+-]+:`~?([^`]+)`"), r"\1"),
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`__?"), r"\1"),
    (re.compile(r"`([^`<>]+)`__?"), r"\1"),
    (re.compile(r"(?<=\w)_(?=[\s.,;:!?)]|$)"), ""),
    (re.compile(r"\[(?:#\w*|\*|\d+)\]_"), ""),
)


def read_rst(text: str) -> Reading:
    """The parts of a reStructuredText; comments, targets, tables of contents and includes are left out."""
    converter = _Converter(text.expandtabs(8).split("\n"), {}, {})
    return read_markdown("\n".join(converter.converted()))


class _Converter:
    """Walks over the lines once and writes Markdown; the bodies of directives get a converter of their own."""

    def __init__(self, lines: Sequence[str], levels: dict[str, int], words: dict[str, str]) -> None:
        self.lines = [line.rstrip() for line in lines]
        self.levels = levels
        self.words = words
        self.at = 0
        self.number = 0
        self.out: list[str] = []

    def converted(self) -> list[str]:
        """The Markdown lines."""
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if not line.strip():
                self.out.append("")
                self.at += 1
            elif not (self._title() or self._table() or self._explicit(line)):
                self._text(line)
        return self.out

    def _title(self) -> bool:
        """Take a section title, with a line under it and perhaps one above."""
        following = [*self.lines[self.at : self.at + 3], "", ""]
        over = bool(_LINE.match(following[0])) and following[1].strip() and following[2].strip() == following[0].strip()
        words, under = (following[1], following[2]) if over else (following[0], following[1])
        if not (_LINE.match(under) and words.strip() and not _LINE.match(words)) or (not over and words[0] == " "):
            if _LINE.match(following[0]) and not _GRID.match(following[0]) and not following[0].startswith(".."):
                # A line alone is a transition.
                self.at += 1
                return True
            return False
        style = under[0] + ("^" if over else "")
        level = self.levels.setdefault(style, len(self.levels) + 1)
        self.out += ["", f"{'#' * min(level, 6)} {self._inline(words.strip())}", ""]
        self.at += 3 if over else 2
        return True

    def _table(self) -> bool:
        line = self.lines[self.at]
        simple = bool(_RULE.match(line))
        if not simple and not _GRID.match(line):
            return False
        block = []
        rules = 0
        while self.at < len(self.lines) and (self.lines[self.at].strip() or (simple and rules < 3)):
            if simple and rules and not self.lines[self.at].strip() and rules >= 2 and self._rules_ahead() == 0:
                break
            rules += bool(_RULE.match(self.lines[self.at]))
            block.append(self.lines[self.at])
            self.at += 1
        rows = _simple_rows(block) if simple else _grid_rows(block)
        self._write_table(rows)
        return True

    def _rules_ahead(self) -> int:
        """How many rules of a simple table follow before a line that stands further left than the table."""
        return sum(bool(_RULE.match(line)) for line in self.lines[self.at : self.at + 200])

    def _write_table(self, rows: Sequence[Sequence[str]]) -> None:
        cells = [[self._inline(_bare(cell)) for cell in row] for row in rows]
        self.out += ["", *pipe_table(cells).split("\n"), ""]

    def _explicit(self, line: str) -> bool:
        """Take what begins with two dots: a directive, a footnote, a target or a comment."""
        if not _EXPLICIT.match(line):
            return False
        directive, footnote = _DIRECTIVE.match(line), _FOOTNOTE.match(line)
        self.at += 1
        body = self._indented()
        if directive:
            self._directive(directive.group(2).casefold(), directive.group(1), directive.group(3) or "", body)
        elif footnote:
            self.out += ["", self._inline(" ".join([footnote.group(2), *(part.strip() for part in body)])), ""]
        return True

    def _directive(self, name: str, replaced: str | None, argument: str, body: list[str]) -> None:
        options: dict[str, str] = {}
        while body and (option := _OPTION.match(body[0].strip())):
            options[option.group(1)] = option.group(2) or ""
            body.pop(0)
        if replaced is not None:
            self.words[replaced] = " ".join([argument, *body]).strip()
        elif name in _CODE:
            self._code(body)
        elif name in ("image", "figure"):
            self.out += ["", self._inline(options.get("alt", "")), "", *self._inner(body)]
        elif name in ("list-table", "csv-table", "table"):
            self.out += ["", self._inline(argument), ""]
            header = [options["header"]] if "header" in options else []
            if name == "table":
                self.out += self._inner(body)
            else:
                self._write_table(_list_rows(body) if name == "list-table" else _csv_rows([*header, *body]))
        elif name in _LABELS:
            label = "See also" if name == "seealso" else name.capitalize()
            self.out += ["", f"{label}: {self._inline(argument)}".rstrip(), *self._inner(body)]
        elif name not in _LEFT_OUT:
            self.out += ["", self._inline(argument), "", *self._inner(body)]

    def _inner(self, body: Sequence[str]) -> list[str]:
        return [*_Converter(body, self.levels, self.words).converted(), ""]

    def _indented(self) -> list[str]:
        """The indented lines from here, without their common indent."""
        block: list[str] = []
        while self.at < len(self.lines) and (not self.lines[self.at] or self.lines[self.at][0] == " "):
            block.append(self.lines[self.at])
            self.at += 1
        return dedented(block)

    def _code(self, body: Sequence[str]) -> None:
        self.out += ["", "~~~~~~", *body, "~~~~~~", ""]

    def _text(self, line: str) -> None:
        following = self.lines[self.at + 1] if self.at + 1 < len(self.lines) else ""
        self.at += 1
        if line[0] == " " and (not self.out or not self.out[-1].strip()) and not _LIST.match(line):
            # A block quote: Markdown would take its indent for code.
            self.at -= 1
            self.out += self._inner(self._indented())
            return
        field, auto = _FIELD.match(line), _AUTO.match(line)
        if line.startswith("| "):
            self.out.append(self._inline(line[2:]) + "  ")
        elif field:
            self.out += ["", f"{field.group(1)}: {self._inline(field.group(2))}"]
        elif line[0] != " " and following[:1] == " " and not _LIST.match(line) and not line.endswith("::"):
            # A term and its definition.
            body = " ".join(part.strip() for part in self._indented() if part.strip())
            self.out += ["", f"{self._inline(line)}: {self._inline(body)}", ""]
        else:
            if auto:
                self.number = int(auto.group(2)) if auto.group(2) else self.number + 1
                line = f"{auto.group(1)}{self.number}. {line[auto.end() :]}"
            elif not line.startswith(" "):
                self.number = 0 if not _LIST.match(line) else self.number
            literal = line.endswith("::")
            self.out.append(self._inline(line.removesuffix("::") + (":" if literal and line.strip() != "::" else "")))
            if literal:
                self._code(self._indented())

    def _inline(self, text: str) -> str:
        for pattern, by in _INLINE:
            text = pattern.sub(by, text)
        return re.sub(r"\|([^|\s][^|]*)\|", lambda match: self.words.get(match.group(1), match.group()), text)


def dedented(lines: Sequence[str]) -> list[str]:
    """Lines without the indent that all of them have, and without blank lines around them."""
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    block = [line[indent:] for line in lines]
    while block and not block[0].strip():
        block.pop(0)
    while block and not block[-1].strip():
        block.pop()
    return block


def _bare(cell: str) -> str:
    return re.sub(r"^[-*]\s+", "", " ".join(cell.split()))


def _simple_rows(block: Sequence[str]) -> list[list[str]]:
    spans = [match.span() for match in re.finditer("=+", block[0])]
    ends = [start for start, _ in spans[1:]] + [None]
    rows: list[list[str]] = []
    for line in block:
        if not line.strip() or _RULE.match(line) or not line.strip("- "):
            continue
        cells = [line[start:end].strip() for (start, _), end in zip(spans, ends, strict=True)]
        if rows and not cells[0]:
            rows[-1] = [f"{before} {cell}".strip() for before, cell in zip(rows[-1], cells, strict=True)]
        else:
            rows.append(cells)
    return rows


def _grid_rows(block: Sequence[str]) -> list[list[str]]:
    rows: list[list[str]] = []
    begun = True
    for line in block:
        bare = line.strip()
        if bare.startswith("+"):
            begun = True
            continue
        cells = [cell.strip() for cell in bare.strip("|").split("|")]
        if begun or len(cells) != len(rows[-1]):
            rows.append(cells)
        else:
            rows[-1] = [f"{before} {cell}".strip() for before, cell in zip(rows[-1], cells, strict=True)]
        begun = False
    return rows


def _list_rows(body: Sequence[str]) -> list[list[str]]:
    rows: list[list[str]] = []
    for line in body:
        row = re.match(r"^[*-]\s+[*-](?:\s+(.*))?$", line)
        cell = re.match(r"^\s+[*-](?:\s+(.*))?$", line)
        if row:
            rows.append([row.group(1) or ""])
        elif cell and rows:
            rows[-1].append(cell.group(1) or "")
        elif rows and line.strip():
            rows[-1][-1] += f" {line.strip()}"
    return rows


def _csv_rows(body: Sequence[str]) -> list[list[str]]:
    try:
        return list(csv.reader([line for line in body if line.strip()], skipinitialspace=True))
    except csv.Error:
        return [[line] for line in body]
