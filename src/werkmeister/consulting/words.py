"""Terms: what the lexical index of a library and a question are compared by, in German and English alike.

A term is a word without case, accents and umlaut spellings ("Geräte", "Geraete" and "gerate" are one), with the usual
endings of both languages taken off. A model number is found however it is written: "FGK-101", "FGK 101" and "fgk101"
share terms. German compounds are parted by the words that the documents themselves use.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Container, Iterator
from functools import lru_cache

_RUN = re.compile(r"[^\W_]+(?:[-_./+][^\W_]+)*")
_PIECE = re.compile(r"[^\W_]+")
_PARTS = re.compile(r"[^\W\d_]+|\d+")
_UMLAUTS = str.maketrans({"ä": "a", "ö": "o", "ü": "u", "ß": "ss", "æ": "a", "ø": "o"})
# A vowel before "ue" makes it no umlaut ("neue", "Steuer"), and "q" neither ("frequent").
_SPELT = re.compile(r"(?<![aeiouq])([aou])e(?![aeiou])")
_ENDINGS = ("ings", "ing", "ern", "em", "en", "er", "es", "ed", "e", "n", "s")
_LINKS = ("", "s", "n", "en", "es", "er")
_LEAST_STEM = 4
_LEAST_PART = 4
_LEAST_COMPOUND = 9
_LONGEST_CODE = 24
_MOST_PARTED = 1 << 16  # words remembered: a server is asked for ever

_STOPS = {
    "en": "a about all am an and any are as at be been but by can could did do does for from had has have how i if in "
    "into is it its me my no not of on one or our out please shall should so some tell than that the their them then "
    "there these they this those to up us was we were what when where which who whose why will with would you your",
    "de": "aber alle als am an auch auf aus bei beim bin bis bitte da das dass dem den der des die dies diese diesem "
    "diesen dieser dieses dir du durch ein eine einem einen einer eines er es fur hat ich ihr im in ins ist ja kann "
    "kein keine man mein meine mich mir mit muss nach nicht noch oder ob sage sich sie sind so soll um und uns unter "
    "von vom vor wann warum was welche welchem welchen welcher welches wenn wer werden wie wird wir wo wozu wurde zu "
    "zum zur uber",
}
STOPS = frozenset(word for words in _STOPS.values() for word in words.split())
"""Words that say nothing about what is asked, folded."""

_ONLY = {
    language: frozenset(words.split()) - frozenset(" ".join(w for k, w in _STOPS.items() if k != language).split())
    for language, words in _STOPS.items()
}


def fold(text: str) -> str:
    """A text without case, accents and umlauts; "ae", "oe", "ue" are read as umlauts where they can be."""
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_UMLAUTS)
    if not plain.isascii():
        parted = unicodedata.normalize("NFKD", plain)
        plain = "".join(c for c in parted if not unicodedata.combining(c))
    return _SPELT.sub(r"\1", plain)


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """A folded word without its ending; the rest has at least four letters. Words with digits stay as they are."""
    if len(word) <= _LEAST_STEM or not word.isalpha():
        return word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM:
            return word[: -len(ending)]
    return word


def terms(text: str, split: Callable[[str], tuple[str, ...]] | None = None) -> list[str]:
    """The terms of a text in its order, repeated as often as they occur; `split` parts a folded word (see `Compounds`).

    Stop words are left in: a question leaves them out, and an index is asked for none of them.
    """
    return [term for word in words(text) for term in _forms(word, split)]


def words(text: str) -> Iterator[str]:
    """The folded words of a text; a run such as "mh-s314" stands as its pieces, and joined when it has a digit."""
    for run in _RUN.findall(fold(text)):
        pieces = _PIECE.findall(run)
        yield from pieces
        if len(pieces) > 1 and len(run) <= _LONGEST_CODE and any(c.isdigit() for c in run):
            yield "".join(pieces)


def language_of(text: str, otherwise: str = "en") -> str:
    """ "de" or "en" by the little words and umlauts of a text; `otherwise` where they do not tell."""
    found = fold(text).split()
    counts = {language: sum(word.strip(".,;:!?") in only for word in found) for language, only in _ONLY.items()}
    counts["de"] += sum(c in "äöüß" for c in text.casefold())
    if counts["de"] == counts["en"]:
        return otherwise
    return "de" if counts["de"] > counts["en"] else "en"


class Compounds:
    """Parts German compounds into words that stand in `known` (folded words of the documents)."""

    def __init__(self, known: Container[str]) -> None:
        self._known = known
        self._parted: dict[str, tuple[str, ...]] = {}

    def __call__(self, word: str) -> tuple[str, ...]:
        """The parts of a folded word, () when it is none: "bewegungsmelder" gives "bewegung" and "melder"."""
        if len(word) < _LEAST_COMPOUND or not word.isalpha():
            return ()
        parts = self._parted.get(word)
        if parts is None:
            if len(self._parted) > _MOST_PARTED:
                self._parted.clear()
            parts = self._parted[word] = self._part(word)
        return parts

    def _part(self, word: str) -> tuple[str, ...]:
        # The longest head first: "hauptschalter" is "haupt" and "schalter", not "hauptschal" and "ter".
        for cut in range(_LEAST_PART, len(word) - _LEAST_PART + 1):
            tail = word[cut:]
            if tail not in self._known:
                continue
            head = word[:cut]
            for link in _LINKS:
                bare = head.removesuffix(link) if link else head
                if len(bare) >= _LEAST_PART and bare in self._known:
                    return (bare, tail)
            inner = self._part(head) if len(head) >= _LEAST_COMPOUND else ()
            if inner:
                return (*inner, tail)
        return ()


def _forms(word: str, split: Callable[[str], tuple[str, ...]] | None) -> Iterator[str]:
    yield stem(word)
    if word.isalpha():
        for part in split(word) if split else ():
            yield stem(part)
    elif not word.isdigit() and len(word) <= _LONGEST_CODE:
        parts = _PARTS.findall(word)
        if len(parts) > 1:
            yield from (stem(part) for part in parts)
