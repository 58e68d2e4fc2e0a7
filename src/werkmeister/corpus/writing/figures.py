"""Figures of an answer, its numbers, units and codes, looked up in the text that it was written from.

A model that invents, invents here first, and here a mistake does harm: another torque, another part number.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_DASHES = str.maketrans({"–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-", "\u00a0": " ", "\u202f": " ", "×": "x"})
# A run of letters and digits with a digit in it, and what joins such runs inside: ZW100, 0x25, E-14, 1,5, M8x1.25.
_FIGURE = re.compile(
    r"(?<![\w])(?:[^\W\d_]+[-_]|[+-])?\w*\d\w*(?:[.,:/_-]\w*\d\w*|[-_/][a-z]{1,3}(?![a-z]))*", re.IGNORECASE
)
_CAPITALS = re.compile(r"(?<![\w-])[A-Z][A-Z0-9_]{2,}(?![\w-])")
_PIECES = re.compile(r"\d+|[^\W\d_]+|[\W_]")
_UNITS = {
    unit: frozenset(words.split())
    for unit, words in {
        "millisecond": "ms millisecond milliseconds millisekunde millisekunden",
        "second": "s sec secs second seconds sek sekunde sekunden",
        "minute": "min mins minute minutes minuten",
        "hour": "h hr hrs hour hours std stunde stunden",
        "day": "d day days tag tage tagen",
        "metre": "m meter meters metre metres metern",
        "millimetre": "mm millimeter millimeters millimetre millimetres",
        "centimetre": "cm centimeter centimeters centimetre centimetres",
        "inch": 'in inch inches zoll "',
        "volt": "v volt volts",
        "millivolt": "mv millivolt millivolts",
        "ampere": "a amp amps ampere amperes",
        "milliampere": "ma milliampere milliamperes milliamps",
        "watt": "w watt watts",
        "kilowatt": "kw kilowatt kilowatts",
        "kilowatt hour": "kwh",
        "hertz": "hz hertz",
        "kilohertz": "khz kilohertz",
        "megahertz": "mhz megahertz",
        "degree": "° degree degrees grad deg",
        "celsius": "°c c celsius",
        "fahrenheit": "°f f fahrenheit",
        "percent": "% percent prozent",
        "bar": "bar",
        "newton metre": "nm",
        "kilogram": "kg kilogram kilograms kilogramm",
        "gram": "g gram grams gramm",
        "lux": "lx lux",
    }.items()
}
_UNIT_OF = {word: unit for unit, words in _UNITS.items() for word in words}
_SPOKEN_OTHERWISE = frozenset(("in", "a"))
"""Units that are everyday words: looked for in the source, never taken for a unit in the answer."""
_GLUED_UNIT = re.compile(rf"(\d)(?=(?:{'|'.join(map(re.escape, _UNIT_OF))})(?![^\W_]))")
_MEASURED = re.compile(r"\d\s?((?:°\s?[cf]|%)(?![^\W\d_])|[^\W\d_]+|°)", re.IGNORECASE)


def missing_figures(answer: str, source: str) -> list[str]:
    """Numbers, units and codes of `answer` that do not occur in `source`, as they are written, each once.

    Case, kinds of dashes and a space between number and unit do not count; a number must stand there as a whole ("5"
    is not found in "0.5" or "15"). A unit counts as found under any of its names.
    """
    given = _apart(_plain(source))
    missing: dict[str, None] = {}
    for figure in figures(answer):
        if not _stands(figure, given):
            missing[figure] = None
    for unit, written in _units(_plain(answer)).items():
        # A sign stands for itself, whatever letter is printed behind it (a Cyrillic С for °C).
        sign = not written.isalpha() and written in given
        if not sign and not any(_stands_word(word, given) for word in _UNITS[unit]):
            missing[written] = None
    return list(missing)


def figures(text: str) -> list[str]:
    """Every number and code of a text, as it is written, in order: "13", "0x25", "ZW100", "E-14", "USB"."""
    plain = unicodedata.normalize("NFKC", text).translate(_DASHES)
    found = [(match.start(), match.group().rstrip(".,:/-_")) for match in _FIGURE.finditer(plain)]
    spans = [(start, start + len(figure)) for start, figure in found]
    for match in _CAPITALS.finditer(plain):
        if not any(start <= match.start() < end for start, end in spans):
            found.append((match.start(), match.group()))
    return [figure for _, figure in sorted(found)]


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).translate(_DASHES).casefold()


def _apart(source: str) -> str:
    """The text with a space between a number and the unit that is glued to it."""
    return _GLUED_UNIT.sub(r"\1 ", source)


def _units(answer: str) -> dict[str, str]:
    """Units that stand behind a number, with the words they are written in."""
    found: dict[str, str] = {}
    for match in _MEASURED.finditer(answer):
        word = re.sub(r"\s", "", match.group(1))
        if word in _UNIT_OF and word not in _SPOKEN_OTHERWISE:
            found.setdefault(_UNIT_OF[word], word)
    return found


def _stands(figure: str, given: str) -> bool:
    plain = _plain(figure)
    if _pattern(plain).search(given):
        return True
    # "0-255" may be written "0 to 255" there, "Parameter-13" "parameter 13": then each part must stand for itself. A
    # code of few letters ("E-14") stands as a whole or not at all.
    parts = [part for part in re.split(r"[-/:+]", plain) if part]
    apart = all(re.fullmatch(r"\d+(?:[.,]\d+)?|[^\W\d_]{4,}", part) for part in parts)
    return apart and plain != parts[0] and all(_pattern(part).search(given) for part in parts)


@lru_cache(maxsize=1 << 12)
def _pattern(plain: str) -> re.Pattern[str]:
    pieces: list[str] = _PIECES.findall(plain)
    parts = []
    for at, piece in enumerate(pieces):
        glued = at > 0 and (pieces[at - 1].isdigit() and piece.isalpha())
        parts.append((r"\s?" if glued else "") + (re.escape(piece) if piece.strip() else r"\s+"))
    head = r"(?<![^\W_])(?<!\d[.,])" if plain[0].isdigit() else r"(?<![^\W_])"
    return re.compile(head + "".join(parts) + r"(?![^\W_]|[.,]\d)")


def _stands_word(word: str, given: str) -> bool:
    return re.search(rf"(?<![^\W\d_]){re.escape(word)}(?![^\W\d_])", given) is not None
