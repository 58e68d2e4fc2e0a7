"""Sentences of a paragraph with their places, and whether a piece of text is whole."""

from __future__ import annotations

import re
from collections.abc import Iterator

from werkmeister.corpus.writing.structural.fact import Span
from werkmeister.corpus.writing.structural.language import Language

_END = re.compile(r"[.!?][\"”“')\]]*(?=\s+[\"„“'(]?[A-ZÄÖÜ0-9\[])")
_OPEN = re.compile(r"[(\[{]")
_CLOSE = re.compile(r"[)\]}]")
# Words an author left for later, and the arrow with which a typesetter broke a line of code.
_PLACEHOLDER = re.compile(r"\b(?:FIXME|TODO|TBD|XXX)\b|←")
# A text that stops at one of these was cut off, or leads to something that stands elsewhere. The second row ends
# sentences too ("… what it stands for."), and counts only where there is no point.
_UNFINISHED = re.compile(
    r"(?:[,;:(\[{/&←-]|\b(?:the|a|and|or|of|der|die|den|dem|eine[mnrs]?|und|oder|im|dass|e\.g|i\.e|z\. ?B|d\. ?h))\.?$"
    r"|\b(?:to|for|with|by|as|is|are|be|from|if|that|per|when|which|ist|sind|wenn|für|von|als|pro)$",
    re.IGNORECASE,
)


def sentences(text: str, span: Span, language: Language) -> Iterator[Span]:
    """The spans of a paragraph's sentences; a point after an abbreviation, number or single letter ends none."""
    start, end = span
    for match in _END.finditer(text, start, end):
        word = text[start : match.end()].split()[-1].strip("(\"'„“").casefold()
        bare = word.rstrip(".!?\"”“')]")
        if word in language.abbreviations or (word.endswith(".") and (len(bare) == 1 or bare.isdigit())):
            continue
        yield start, match.end()
        start = match.end()
        while start < end and text[start].isspace():
            start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end


def ends_well(text: str) -> bool:
    """Whether a piece of text is whole: no open bracket, no quotation left open, no word at the end that leads on."""
    bare = text.strip()
    if (
        not bare
        or _PLACEHOLDER.search(bare)
        or bare.count('"') % 2
        or len(_OPEN.findall(bare)) != len(_CLOSE.findall(bare))
    ):
        return False
    return not _UNFINISHED.search(bare)


def sentence(text: str) -> str:
    """Text as a sentence: a capital in front, unless it begins with a name in code, and a point at its end."""
    bare = text.strip()
    first = bare.split(maxsplit=1)[0]
    if first.isalpha() and first.islower() and "://" not in bare:
        bare = bare[:1].upper() + bare[1:]
    return bare if bare.endswith((".", "!", "?")) else f"{bare.rstrip(';,')}."
