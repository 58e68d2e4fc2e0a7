"""The bare text of HTML, by the standard library: to see whether kreuzberg lost any, and in its place if it did."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

from werkmeister.corpus.documents.parts import Part, Reading

_UNSEEN = frozenset(("script", "style", "template", "head", "noscript", "svg", "math", "iframe", "object", "select"))
_NAVIGATION = frozenset(("nav", "form", "button"))
_INLINE = re.compile(
    r"^(?:a|abbr|b|bd[io]|big|cite|code|data|del|dfn|em|font|i|img|ins|kbd|label|mark|q|s|samp|small|span|strike|strong"
    r"|sub|sup|time|tt|u|var|wbr)$"
)
_VOID = re.compile(r"^(?:area|base|br|col|embed|hr|img|input|link|meta|param|source|track|wbr)$")
_HEADING = re.compile(r"^h([1-6])$")
_WORD = re.compile(r"\w+")
_LOST = 0.1


def checked(html: str, reading: Reading) -> Reading:
    """kreuzberg's reading of an HTML page, or the page's bare text where a tenth of its words or more is missing.

    It leaves out what is nested too deeply, without a word. Navigation and forms, which it leaves out on purpose, are
    counted as dropped.
    """
    parser = _Text()
    parser.feed(html)
    parser.close()
    parser.flush()
    has = Counter(word for part in reading.parts for word in _WORD.findall(part.text.casefold()))
    wants = Counter(word for part in parser.parts for word in _WORD.findall(part.text.casefold()))
    navigation = (("navigation and forms", parser.navigation),) if parser.navigation else ()
    if (wants - has).total() > _LOST * wants.total():
        return replace(reading, parts=tuple(parser.parts), dropped=navigation)
    return replace(reading, dropped=(*reading.dropped, *navigation))


class _Text(HTMLParser):
    """Collects the text between block tags; what is never shown is left out, and navigation counted."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[Part] = []
        self.navigation = 0
        self._text: list[str] = []
        self._level = 0
        self._unseen: list[str] = []
        self._aside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if _VOID.match(tag):
            self._text.append(" ")
        elif tag in _UNSEEN and not (tag == "head" and self._unseen):
            self._unseen.append(tag)
        elif tag == "body":
            self._unseen.clear()
        elif tag in _NAVIGATION:
            self._aside.append(tag)
        if not _INLINE.match(tag) and tag != "br":
            self.flush()
        heading = _HEADING.match(tag)
        if heading:
            self._level = int(heading.group(1))

    def handle_endtag(self, tag: str) -> None:
        for waiting in (self._unseen, self._aside):
            if tag in waiting:
                del waiting[waiting.index(tag) :]
        if not _INLINE.match(tag):
            self.flush()
            self._level = 0

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        if self._aside:
            self.navigation += len(" ".join(data.split()))
        else:
            self._text.append(data)

    def flush(self) -> None:
        text = " ".join("".join(self._text).split())
        self._text.clear()
        if text:
            self.parts.append(Part("heading" if self._level else "paragraph", text, self._level))
