"""Plain text into parts: decoding, and paragraphs between blank lines."""

from __future__ import annotations

import codecs
import re

from werkmeister.corpus.documents.kinds import UnreadableError
from werkmeister.corpus.documents.markdown import read_markdown
from werkmeister.corpus.documents.parts import Part, Reading

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ODD = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f�]")
_STRAY = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff]")
_MOST_ODD = 0.01
_NARROW = 40


def decode(data: bytes) -> str:
    """The text of a text file: by its byte order mark, as UTF-8, or else as Windows-1252.

    Raises UnreadableError when more than a hundredth of it is control characters: it is no text.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            text = data[len(mark) :].decode(encoding, "replace")
            break
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            # A text cut off within a character is still UTF-8, and one stray byte does not make it Windows-1252.
            lenient = data.decode("utf-8", "replace")
            few = lenient.count("�") <= len(lenient) // 1000 + (error.start >= len(data) - 4)
            text = lenient if few else data.decode("cp1252", "replace")
    if len(_ODD.findall(text)) > _MOST_ODD * len(text):
        raise UnreadableError("is binary, not text: take it out of documents.files, or convert it to text")
    return _STRAY.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def read_plain(text: str) -> Reading:
    """The parts of plain text: what stands between blank lines is a paragraph, lists and tables as in Markdown.

    Plain text that has Markdown headings is read as Markdown. Line breaks are kept where lines are short, since they
    mean something there (addresses, commands); lines as long as a page is wide are joined.
    """
    if re.search(r"^#{1,6} \S", text, re.MULTILINE):
        return read_markdown(text)
    parts = []
    for piece in re.split(r"\n[ \t]*(?:\n[ \t]*)+", text.replace("\f", "\n\n").expandtabs(4)):
        parts += _piece([line.rstrip() for line in piece.split("\n") if line.strip()])
    return Reading(parts=tuple(parts))


def _piece(lines: list[str]) -> list[Part]:
    if not lines:
        return []
    if re.match(r"\s*(?:[-*+•]|\d{1,3}[.)])\s+\S", lines[0]):
        return list(read_markdown("\n".join(line.strip() if not i else line for i, line in enumerate(lines))).parts)
    return [Part("paragraph", rejoin(lines))]


def rejoin(lines: list[str], width: int = 0) -> str:
    """The lines of one paragraph, joined where a line reaches the margin and kept apart where it ends before it.

    `width` is how long a full line is, in characters; 0: as long as the longest of these. A line that is no longer
    than seven tenths of it ended on purpose.
    """
    full = width or max(len(line.strip()) for line in lines)
    text = ""
    before = 0
    for line in lines:
        bare = " ".join(line.split())
        text += ("" if not text else " " if full >= _NARROW and before > 0.7 * full else "\n") + bare
        before = len(line.strip())
    return text
