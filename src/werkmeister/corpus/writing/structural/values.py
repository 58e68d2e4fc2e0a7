"""What a manual gives of one entry (a parameter, a code, a part): values by role, and the facts they make."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from zlib import crc32

from werkmeister.corpus.writing.structural.fact import Fact, Span
from werkmeister.corpus.writing.structural.language import Language
from werkmeister.corpus.writing.structural.sentences import ends_well, sentence

OPTIONS_ASKED = 2  # options of one entry that are asked for one by one, each in both directions
MOST_OPTIONS = 8  # more in one answer are a table, not an answer
LONGEST_VALUE = 12  # words
WIDEST = 300  # characters of a quote that shows a value and, in a line of its own, its unit
LONGEST_ANSWER = 60  # words of a cause or remedy
_OPTION = re.compile(
    r"(?P<value>[+-]?\w[\w.,+/-]{0,15}(?: ?(?:-|–|to|bis) ?[\w.,]{1,8})?)\s*(?:=|:|–|->|→)\s*(?P<label>\S.*)"
)
_PLAIN_VALUE = re.compile(r"[+-]?\d+(?:[.,]\d+)?")
_ELSEWHERE = re.compile(r"(?:see|refer to|same as|as (?:above|below)|siehe|vgl|wie (?:oben|unten))\b", re.IGNORECASE)
_DOES = re.compile(
    r"(?:sets|defines|determines|specifies|controls|enables|disables|allows|configures|selects|adjusts|turns|activates|switches"
    r"|changes|limits|starts|stops|legt|bestimmt|stellt|schaltet|aktiviert|regelt|begrenzt|startet|gibt|ermöglicht|steuert"
    r"|wählt|öffnet|schließt|misst|überwacht|zeigt|meldet)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """A value as it stands in the document, and where; `options` are the (value, label) that stand below it."""

    text: str
    evidence: Span
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One entry: the `row` that a question calls it by ("parameter 13 (Local Control)"), and its values by role.

    `other` are values whose role is not known, by the name of their column. `number`, `noun` and `name` are those that
    `row` is made of, "" where there is none. `means`: the entry is a code or sign, so one asks what it means.
    """

    row: str
    values: Mapping[str, Value]
    other: Mapping[str, Value]
    evidence: Span
    needs: tuple[Span, ...] = ()
    number: str = ""
    noun: str = ""
    name: str = ""
    kind: str = "parameter"
    means: bool = False
    where: str = ""


def split_options(text: str) -> tuple[tuple[str, str], ...]:
    """The options of one cell, "0 = Off; 1 = On", or nothing where it is not wholly of that form."""
    pieces = [
        piece.strip() for piece in re.split(r"\s*[;\n]\s*|,\s+(?=[+-]?\w[\w.]{0,8}\s*[=:])", text) if piece.strip()
    ]
    found = [_OPTION.fullmatch(piece) for piece in pieces]
    if len(found) < 2 or not all(found):
        return ()
    options = tuple((match["value"], match["label"].strip(" .,;")) for match in found if match)
    return options if len({value for value, _ in options}) == len(options) else ()


def entry_facts(entry: Entry, language: Language) -> Iterator[Fact]:
    """Every fact of an entry, each with a name of its own within the document."""
    for fact in _facts(entry, language):
        slots = {"row": entry.row, "noun": entry.noun, "number": entry.number} | dict(fact.slots)
        name = f"{entry.row}/{entry.where}/{fact.name}"
        yield replace(fact, kind=entry.kind, needs=entry.needs, where=entry.where, slots=slots, name=name)


def _facts(entry: Entry, language: Language) -> Iterator[Fact]:
    yield from _names(entry, language)
    for role, value in entry.values.items():
        if role == "options":
            yield from _options(value, language)
        elif role == "description":
            yield from _description(entry, value, language)
        elif role in ("cause", "remedy"):
            yield from _trouble(entry, role, value)
        elif role in ("default", "range", "minimum", "maximum", "access", "unit"):
            answer, evidence = _scalar(entry, role, value, language)
            if answer:
                yield _fact(role, language.answers[role].format(value=answer), evidence)
    yield from _limits(entry, language)
    for column, value in entry.other.items():
        if _is_short(value.text) and len(column.split()) <= 4:
            shown = language.lowered(column)
            ask = "cells" if language.is_plural(column) else "cell"
            answer = language.answers[ask].format(column=shown, value=value.text.rstrip("."))
            yield _fact(ask, answer, value.evidence, {"column": shown}, f"cell {column}")


def _fact(ask: str, answer: str, evidence: Span, slots: Mapping[str, str] | None = None, name: str = "") -> Fact:
    return Fact(kind="", name=name or ask, ask=ask, answer=answer, evidence=evidence, slots=slots or {})


def _names(entry: Entry, language: Language) -> Iterator[Fact]:
    if not (entry.number and entry.name and entry.noun) or _repeats(entry):
        return
    noun = entry.noun
    yield _fact(
        "number",
        language.answers["number"].format(noun=noun, number=entry.number),
        entry.evidence,
        {"name": language.quoted(entry.name)},
    )
    shown = {"Noun": noun[:1].upper() + noun[1:], "number": entry.number, "name": language.quoted(entry.name)}
    ask = "name" if entry.kind == "parameter" else "group name"
    yield _fact(ask, language.answers["name"].format(**shown), entry.evidence)


def _repeats(entry: Entry) -> bool:
    """Whether the name says no more than noun and number do ("Group 2", "Parameter No. 121")."""
    known = {*entry.noun.casefold().split(), entry.number.casefold(), "no", "nr", "number", "nummer"}
    return all(word in known for word in re.findall(r"[\w\[\]]+", entry.name.casefold()))


def _scalar(entry: Entry, role: str, value: Value, language: Language) -> tuple[str, Span]:
    """The value with its unit and the quote that shows both; "" where it is too long to be a value."""
    text, evidence = value.text.rstrip(" ."), value.evidence
    if not _is_short(text):
        return "", evidence
    unit = entry.values.get("unit")
    if role in ("unit", "access") or unit is None or not _PLAIN_VALUE.search(text) or text.endswith(")"):
        return text, evidence
    if unit.text.casefold() in text.casefold().split():
        return text, evidence
    both = (min(evidence[0], unit.evidence[0]), max(evidence[1], unit.evidence[1]))
    if both[1] - both[0] > WIDEST:
        return "", evidence  # a bare number without its unit would be half the truth
    form = "scaled value" if any(letter.isdigit() for letter in unit.text) else "unit with value"
    return language.answers[form].format(value=text, unit=unit.text), both


def _limits(entry: Entry, language: Language) -> Iterator[Fact]:
    low, high = entry.values.get("minimum"), entry.values.get("maximum")
    if low and high and low.evidence == high.evidence and "range" not in entry.values:
        both = replace(low, text=language.answers["from to"].format(low=low.text, high=high.text))
        answer, evidence = _scalar(entry, "range", both, language)
        yield _fact("range", language.answers["range"].format(value=answer), evidence)


def _options(value: Value, language: Language) -> Iterator[Fact]:
    options = value.options or split_options(value.text)
    labels = [label.casefold() for _, label in options]
    if not options or len(set(labels)) < len(labels):
        return
    if 2 <= len(options) <= MOST_OPTIONS:
        listed = "; ".join(f"{given} = {label.rstrip('.')}" for given, label in options)
        yield _fact("options", language.answers["options"].format(value=listed), value.evidence)
    order = sorted(options, key=lambda option: crc32(f"{value.evidence}{option}".encode()))
    for given, label in order[:OPTIONS_ASKED]:
        if not _is_short(label) or given.casefold() == label.casefold():
            continue
        quoted = language.quoted(label)
        meaning = language.answers["option meaning"].format(value=given, label=quoted)
        yield _fact("option meaning", meaning, value.evidence, {"value": given}, f"option {given}")
        answer = language.answers["option value"].format(value=given, label=quoted)
        yield _fact("option value", answer, value.evidence, {"label": quoted}, f"option for {label}")


def _description(entry: Entry, value: Value, language: Language) -> Iterator[Fact]:
    text = value.text.strip()
    words = text.split()
    if split_options(text):
        yield from _options(value, language)
        return
    if (
        _ELSEWHERE.match(text)
        or not ends_well(text)
        or words[0].casefold() in language.pronouns
        or text.casefold() == entry.name.casefold()
    ):
        return
    if entry.means:
        yield _fact("means", sentence(text), value.evidence)
    elif len(words) >= 3:
        yield _fact("does" if _DOES.match(text) else "description", sentence(text), value.evidence)


def _trouble(entry: Entry, role: str, value: Value) -> Iterator[Fact]:
    if ends_well(value.text) and len(value.text.split()) <= LONGEST_ANSWER:
        yield _fact(role, sentence(value.text), value.evidence, {"symptom": entry.row})


def _is_short(text: str) -> bool:
    return 0 < len(text.split()) <= LONGEST_VALUE
