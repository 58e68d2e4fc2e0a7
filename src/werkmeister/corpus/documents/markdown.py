"""Markdown into parts: headings, paragraphs, lists, tables and code, with the inline marks taken off.

Not a full CommonMark reader: it finds the blocks that documents are made of, in time linear in the text, and takes
every line as text that it does not know better. It reads people's own Markdown files and what kreuzberg writes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise

from werkmeister.corpus.documents.parts import Part, Reading, counted, is_rule, pipe_table, table_cells

_DEEPEST = 8
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})\s*([^`\s]*)")
_HEADING = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
_RULE = re.compile(r"^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
_ITEM = re.compile(r"^([ \t]*)([-*+•]|\d{1,9}[.)])[ \t]+(?=\S)")
_BLANK_ITEM = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,9}[.)])[ \t]*$")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FRONT = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_CODE_SPAN = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_IMAGE = re.compile(r"!\[([^\]\[]*)\]\((?:<[^>\n]*>|[^()\s]*(?:\([^()\s]*\)[^()\s]*)*)(?:\s+\"[^\"]*\")?\)")
_LINK = re.compile(
    r"\[((?:[^\]\[]|\[[^\]\[]*\])*)\]\((?:<[^>\n]*>|[^()\s]*(?:\([^()\s]*\)[^()\s]*)*)(?:\s+\"[^\"]*\")?\)"
)
_ANCHOR_ONLY = re.compile(r"^\[(?:[^\]\[]|\[[^\]\[]*\])*\]\(\S*#\S*\)$")
_TARGET = re.compile(r"\]\(<?(?:#|[^)\s]*[./:#])")
_NOTE = re.compile(r"\[\^[\w-]{1,40}\]:?")
_REFERENCE = re.compile(r"\[([^\]\[]+)\]\[[^\]\[]*\]")
_DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:\s+\S+")
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^\s<>]+)>")
_TAG = re.compile(
    r"</?(?:a|abbr|b|big|br|center|cite|code|dd|del|details|div|dl|dt|em|font|h[1-6]|hr|i|img|ins|kbd|li|mark|ol|p|pre"
    r"|q|s|samp|small|span|strong|sub|summary|sup|table|tbody|td|tfoot|th|thead|tr|tt|u|ul|var)(?:\s+[a-zA-Z:_-]+(?:=(?:\"[^\"]*\"|'[^']*'|[^\s\"'>]+))?)*\s*/?>",
    re.IGNORECASE,
)
_STRONG = re.compile(r"(?<![\\\w*])(\*\*\*|\*\*|\*)(?=[^\s*])([^*\n]*?[^\s\\*])\1(?![\w*])")
_UNDER = re.compile(r"(?<![\\\w_])(__|_)(?=[^\s_])([^_\n]*?[^\s\\_])\1(?![\w_])")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")

_Item = tuple[int, str, list[str]]
"""The indent of a list item, its mark, and its words."""


def read_markdown(text: str, *, converted: bool = False) -> Reading:
    """The parts of a Markdown text; tables of contents (lists of nothing but links within the page) are dropped.

    `converted` says that a program made it of another format: it holds no tags, a line break is meant, and what looks
    like a tag is text.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").replace("\t", "    ")
    title = ""
    front = _FRONT.match(text)
    if front and (":" in front.group(1) or not front.group(1).strip()):
        named = _FRONT_TITLE.search(front.group(1))
        title = named.group(1).strip("\"'") if named else ""
        text = text[front.end() :]
    dropped: dict[str, int] = {}
    lines = (text if converted else _COMMENT.sub("", text)).split("\n")
    reader = _Reader(lines, dropped, converted=converted)
    return Reading(parts=tuple(reader.parts()), title=title, dropped=counted(dropped))


def plain_inline(text: str, *, tags: bool = True) -> str:
    """A line of Markdown without its inline marks: emphasis, links (their words stay), images, tags and escapes.

    Without `tags` what looks like a tag or an entity is text, and stays.
    """
    spans: list[str] = []

    def keep(match: re.Match[str]) -> str:
        spans.append(f"`{match.group(2).strip()}`")
        return f"\x02{len(spans) - 1}\x03"

    text = text.replace("\x02", "").replace("\x03", "")
    text = _CODE_SPAN.sub(keep, text)
    text = _IMAGE.sub(r"\1", text)
    text = _NOTE.sub("", text)
    text = _LINK.sub(lambda match: match.group(1) if tags or _TARGET.search(match.group()) else match.group(), text)
    text = _REFERENCE.sub(r"\1", text)
    text = _AUTOLINK.sub(r"\1", text)
    text = _TAG.sub("", text) if tags else text
    for pattern in (_STRONG, _UNDER, _STRONG):
        text = pattern.sub(r"\2", text)
    text = _ESCAPED.sub(r"\1", text)
    text = html.unescape(text) if tags else text
    return re.sub("\x02(\\d+)\x03", lambda match: spans[int(match.group(1))], text)


class _Reader:
    """Walks over the lines once; each method takes the block that begins at `self.at`."""

    def __init__(self, lines: list[str], dropped: dict[str, int], *, converted: bool) -> None:
        self.lines = lines
        self.dropped = dropped
        self.converted = converted
        self.inline = partial(plain_inline, tags=not converted)
        self.at = 0

    def parts(self) -> list[Part]:
        found: list[Part] = []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if not line.strip() or _RULE.match(line) or _DEFINITION.match(line):
                self.at += 1
                continue
            part = self._next(line)
            if part is not None:
                found.append(part)
        return found

    def _next(self, line: str) -> Part | None:
        if _FENCE.match(line):
            return self._fenced()
        heading = _HEADING.match(line)
        if heading:
            self.at += 1
            return Part("heading", self.inline(heading.group(2) or ""), len(heading.group(1)))
        if self._table_here(self.at):
            return self._table()
        if _ITEM.match(line):
            return self._list()
        if line.startswith("    "):
            return self._indented()
        if line.lstrip().startswith(">"):
            self.lines[self.at] = line.lstrip()[1:].removeprefix(" ")
            return None
        return self._paragraph()

    def _fenced(self) -> Part:
        opening = _FENCE.match(self.lines[self.at])
        assert opening is not None
        mark, language = opening.group(1), opening.group(2)
        indent = len(self.lines[self.at]) - len(self.lines[self.at].lstrip())
        inner: list[str] = []
        self.at += 1
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            bare = line.strip()
            if bare.startswith(mark) and not bare.strip(mark[0]):
                break
            inner.append(line[indent:] if not line[:indent].strip() else line)
        return code_part(inner, language)

    def _indented(self) -> Part:
        inner: list[str] = []
        while self.at < len(self.lines) and (self.lines[self.at].startswith("    ") or not self.lines[self.at].strip()):
            inner.append(self.lines[self.at][4:].rstrip())
            self.at += 1
        return code_part(inner)

    def _table_here(self, at: int) -> bool:
        return (
            at + 1 < len(self.lines)
            and "|" in self.lines[at]
            and "-" in self.lines[at + 1]
            and "|" in self.lines[at + 1]
            and is_rule(self.lines[at + 1])
        )

    def _table(self) -> Part:
        rows = [self.lines[self.at]]
        self.at += 2
        while self.at < len(self.lines) and "|" in self.lines[self.at] and self.lines[self.at].strip():
            rows.append(self.lines[self.at])
            self.at += 1
        return Part("table", pipe_table([[self.inline(cell) for cell in table_cells(row)] for row in rows]))

    def _list(self) -> Part | None:
        items: list[_Item] = []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            item = _ITEM.match(line)
            if item and not _RULE.match(line):
                items.append((len(item.group(1)), item.group(2), [line[item.end() :].strip()]))
            elif not line.strip():
                if not self._list_goes_on(items):
                    break
            elif self._starts_other(line) and not line.startswith("  "):
                break
            else:
                items[-1][2].append(line.strip())
            self.at += 1
        anchors = [_ANCHOR_ONLY.match(" ".join(words)) for _, _, words in items]
        if len(items) >= 3 and all(anchors):
            size = sum(len(self.inline(" ".join(words))) for _, _, words in items)
            self.dropped["table of contents"] = self.dropped.get("table of contents", 0) + size
            return None
        return Part("list", _list_text(items, self.inline))

    def _list_goes_on(self, items: list[_Item]) -> bool:
        """Whether the list goes on behind the blank lines from here: not with another kind of mark."""
        at = self.at
        while at < len(self.lines) and not self.lines[at].strip():
            at += 1
        if at == len(self.lines):
            return False
        line = self.lines[at]
        item = _ITEM.match(line)
        if item and not _RULE.match(line):
            outer = items[0]
            return len(item.group(1)) > outer[0] or item.group(2)[0].isdigit() == outer[1][0].isdigit()
        return len(line) - len(line.lstrip()) >= items[-1][0] + 2 and not _FENCE.match(line)

    def _starts_other(self, line: str) -> bool:
        return bool(_FENCE.match(line) or _HEADING.match(line) or _RULE.match(line) or self._table_here(self.at))

    def _paragraph(self) -> Part | None:
        words: list[str] = []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            underline = _UNDERLINE.match(line)
            if words and underline:
                self.at += 1
                return Part("heading", self.inline(" ".join(words)), 1 if underline.group(1)[0] == "=" else 2)
            if not line.strip() or (words and (self._starts_other(line) or _ITEM.match(line))):
                break
            words.append(line.lstrip().removeprefix("> "))
            self.at += 1
        text = joined(words, self.inline, hard=self.converted)
        return Part("paragraph", text) if text else None


def code_part(lines: list[str], language: str = "") -> Part:
    """A part of code between fences that its own lines cannot close; empty text for no lines."""
    while lines and not lines[0].strip():
        lines = lines[1:]
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    if not lines:
        return Part("code", "")
    fence = "`" * max(3, 1 + max((len(run) for line in lines for run in re.findall(r"^\s*(`{3,})", line)), default=2))
    return Part("code", "\n".join([fence + language, *(line.rstrip() for line in lines), fence]))


def joined(lines: list[str], inline: Callable[[str], str], *, hard: bool = False) -> str:
    """Soft-wrapped lines as one; two blanks or a backslash at the end of a line break it, as all do if `hard`."""
    pieces: list[str] = []
    for line, following in pairwise([*lines, ""]):
        broken = (hard or line.endswith(("  ", "\\"))) and bool(following)
        pieces.append(line.strip().removesuffix("\\").rstrip() + ("\x01" if broken else " "))
    whole = inline("".join(pieces).rstrip(" \x01"))
    return "\n".join(" ".join(line.split()) for line in whole.split("\x01")).strip()


def _list_text(items: list[_Item], inline: Callable[[str], str]) -> str:
    """One item a line, two blanks of indent a level of nesting."""
    lines: list[str] = []
    levels: list[int] = []
    for indent, mark, words in items:
        while levels and indent < levels[-1]:
            levels.pop()
        if not levels or indent > levels[-1] + 1:
            levels.append(indent)
        text = " ".join(inline(" ".join(words)).split())
        shown = mark.replace(")", ".") if mark[0].isdigit() else "-"
        lines.append(f"{'  ' * min(len(levels) - 1, _DEEPEST)}{shown} {text}".rstrip())
    return "\n".join(lines)
