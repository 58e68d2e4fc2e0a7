"""AsciiDoc into parts, by way of Markdown.

kreuzberg would download a grammar for it, and nothing may be fetched while documents are read.
"""

from __future__ import annotations

import re

from werkmeister.corpus.documents.markdown import read_markdown
from werkmeister.corpus.documents.parts import Reading, pipe_table

_HEADING = re.compile(r"^(={1,6}|#{1,6})\s+(\S.*?)(?:\s+=+)?$")
_ATTRIBUTE = re.compile(r"^:!?[\w-]+!?:(?:\s.*)?$")
_BLOCK_ATTRIBUTES = re.compile(r"^\[(?:\[[^\]]*\]|[^\]]*)\]$")
_COLUMNS = re.compile(r"cols\s*=\s*\"?(?:(\d+)\*|([^\"\]]+))")
_VERBATIM = re.compile(r"^(?:-{4,}|\.{4,}|`{3,}\w*)$")
_COMMENT = re.compile(r"^/{4,}$")
_FRAME = re.compile(r"^(?:={4,}|\*{4,}|_{4,}|\+{4,}|--)$")
_TABLE = re.compile(r"^[|,:!]={3,}$")
_BULLET = re.compile(r"^\s*(\*{1,6}|-)\s+(?=\S)")
_STEP = re.compile(r"^\s*(\.{1,6})\s+(?=\S)")
_LABELLED = re.compile(r"^\s*(\S.*?)(:{2,4}|;;)(?:\s+(\S.*))?$")
_TITLE = re.compile(r"^\.(?=[^\s.])(.+)$")
_MACRO = re.compile(r"^(?:image|video|audio)::\S*\[([^\],]*).*\]$")
_DIRECTIVE = re.compile(r"^(?:include|ifdef|ifndef|ifeval|endif|toc)::")
_CELL = re.compile(r"(?:^|(?<=\s))(?:\d+(?:\.\d+)?[+*])?(?:[<^>]?\.?[<^>]?)?[aehlmsvd]?\|")
_INLINE = (
    (re.compile(r"(?:link|xref|mailto|kbd|btn|menu):[^\s\[\]]{0,500}\[([^\]]{0,500})\]"), r"\1"),
    (re.compile(r"(https?://[^\s\[\]]{1,500})\[([^\]]{1,500})\]"), r"\2 (\1)"),
    (re.compile(r"<<[^<>,]{1,200},\s*([^<>]{1,200})>>"), r"\1"),
    (re.compile(r"<<#?([^<>,]{1,200})>>"), r"\1"),
    (re.compile(r"\[\[[^\[\]]{1,200}\]\]|\({3}[^()]{0,200}\){3}|anchor:\S{1,200}?\[\]"), ""),
    (re.compile(r"image:[^\s\[\]]{1,500}\[([^\],]{0,200})[^\]]{0,200}\]"), r"\1"),
    (re.compile(r"footnote:\w{0,50}\[([^\]]{0,500})\]"), r" (\1)"),
)


def read_asciidoc(text: str) -> Reading:
    """The parts of an AsciiDoc text; attributes, comments, includes and anchors are left out."""
    return read_markdown("\n".join(_Converter(text.expandtabs(4).split("\n")).converted()))


class _Converter:
    """Walks over the lines once and writes Markdown."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.at = 0
        self.out: list[str] = []
        self.columns = 0

    def converted(self) -> list[str]:
        while self.at < len(self.lines):
            line = self.lines[self.at].rstrip()
            self.at += 1
            if _COMMENT.match(line):
                self._until(line)
            elif _VERBATIM.match(line):
                self._code(self._until("```" if line.startswith("`") else line))
            elif _TABLE.match(line):
                self._table(self._until(line))
            elif not self._left_out(line):
                self._line(line)
        return self.out

    def _until(self, end: str) -> list[str]:
        inner = []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            if line.rstrip() == end:
                break
            inner.append(line)
        return inner

    def _left_out(self, line: str) -> bool:
        if _BLOCK_ATTRIBUTES.match(line):
            columns = _COLUMNS.search(line)
            if columns:
                self.columns = int(columns.group(1)) if columns.group(1) else len(re.split(r"[,;]", columns.group(2)))
            return True
        if _FRAME.match(line) or line.strip() == "+":
            self.out.append("")
            return True
        return bool(line.startswith("//") or _ATTRIBUTE.match(line) or _DIRECTIVE.match(line) or line == "'''")

    def _line(self, line: str) -> None:
        heading = _HEADING.match(line)
        bullet, step, title = _BULLET.match(line), _STEP.match(line), _TITLE.match(line)
        labelled = _LABELLED.match(line)
        image = _MACRO.match(line)
        if heading:
            self.out += ["", f"{'#' * len(heading.group(1))} {_inline(heading.group(2))}", ""]
        elif image:
            self.out += ["", image.group(1), ""]
        elif bullet:
            depth = len(bullet.group(1)) - 1
            self.out.append(f"{'  ' * depth}- {_inline(line[bullet.end() :])}")
        elif step:
            self.out.append(f"{'  ' * (len(step.group(1)) - 1)}{self._next_number()}. {_inline(line[step.end() :])}")
        elif title:
            self.out += ["", _inline(title.group(1)), ""]
        elif labelled and "|" not in line:
            self.out += ["", f"{_inline(labelled.group(1))}: {_inline(labelled.group(3) or '')}".rstrip()]
        else:
            hard = line.endswith(" +")
            self.out.append(_inline(line.removesuffix(" +")) + ("  " if hard else ""))

    def _next_number(self) -> int:
        """The number of a step: one more than the step before it in the same list."""
        for line in reversed(self.out):
            numbered = re.match(r"\s*(\d+)\. ", line)
            if numbered:
                return int(numbered.group(1)) + 1
            if line.startswith("#") or (line and not line.startswith((" ", "-"))):
                break
        return 1

    def _code(self, inner: list[str]) -> None:
        self.out += ["", "~~~~~~", *inner, "~~~~~~", ""]

    def _table(self, inner: list[str]) -> None:
        rows: list[list[str]] = []
        cells: list[str] = []
        for line in inner:
            starts = [match.span() for match in _CELL.finditer(line)]
            if not starts:
                if cells and line.strip():
                    cells[-1] += f" {line.strip()}"
                continue
            ends = [start for start, _ in starts[1:]] + [len(line)]
            cells += [line[begin:end].strip() for (_, begin), end in zip(starts, ends, strict=True)]
            self.columns = self.columns or len(starts)
        width = self.columns or 1
        for start in range(0, len(cells), width):
            rows.append([_inline(cell) for cell in cells[start : start + width]])
        self.columns = 0
        self.out += ["", *pipe_table(rows).split("\n"), ""]


def _inline(text: str) -> str:
    for pattern, by in _INLINE:
        text = pattern.sub(by, text)
    return text
