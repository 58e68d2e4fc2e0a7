"""What a manual gives of one entry (a parameter, a code, a part): values by role, and the facts they make."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

from werkmeister.corpus.writing.structural.fact import Fact, Span
from werkmeister.corpus.writing.structural.language import Language
from werkmeister.corpus.writing.structural.loosely import loose_of
from werkmeister.corpus.writing.structural.sentences import ends_well, sentence

OPTIONS_ASKED = 2  # options of one entry that are asked for one by one, each in both directions
MOST_OPTIONS = 8  # more in one answer are a table, not an answer
LONGEST_VALUE = 12  # words
WIDEST = 300  # characters of a quote that shows a value and, in a line of its own, its unit
LONGEST_ANSWER = 60  # words of a cause or remedy
EXPLAINING = 3  # words of a description that are neither figures and what goes with them, nor the entry's own name
_OPTION = re.compile(
    r"(?P<value>[+-]?\w[\w.,+/-]{0,15}(?: ?(?:-|–|to|bis) ?[\w.,]{1,8})?)\s*(?:=|:|–|->|→)\s*(?P<label>\S.*)"
)
_RANGE = re.compile(r"(?P<low>[+-]?\d+)\s*(?:to|bis|-|–|—|\.{2,3}|…)\s*(?P<high>[+-]?\d+)(?![.,]?\d)")
# A label that says how values count ("Value in °C, in 0.1 °C resolution") is no meaning of one value.
_SCALE = re.compile(
    r"\b(?:value|values|wert|werte) in\b|\bin (?:steps|units|increments|schritten|einheiten)\b"
    r"|\bin \d[\d.,]* ?[^\s\d]{0,3} ?\w* (?:resolution|steps|auflösung|schritten)|\(in \d",
    re.IGNORECASE,
)
_PLAIN_VALUE = re.compile(r"[+-]?\d+(?:[.,]\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")
_LETTERS = re.compile(r"[^\W\d_]+")
_STATE = re.compile(r"\([^()]+\)$")
_LONGEST_LABEL = 5  # words of an option that stands within a question
_TELLING = 2  # words of an option's label by which it can be asked for without its parameter
_STEM = 5  # letters at the beginning of a word that its forms share
_ELSEWHERE = re.compile(r"(?:see|refer to|same as|as (?:above|below)|siehe|vgl|wie (?:oben|unten))\b", re.IGNORECASE)
# What is said beside what a parameter does: it describes nothing.
_REMARK = re.compile(
    r"(?:note|must|only|requires?|applies|valid|available|should|(?:the )?values? (?:\d+|should|must|has|is)"
    r"|hinweis|nur|muss|gilt|erfordert|sollte|(?:der )?wert (?:\d+|sollte|muss))\b",
    re.IGNORECASE,
)
# A condition without what happens then: "When powered via USB".
_CONDITION = re.compile(r"(?:when|if|unless|while|wenn|falls|sofern|solange)\b[^,;:.]*\.?", re.IGNORECASE)
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
    `row` is made of, "" where there is none. `means`: the entry is a code or sign, so one asks what it means. `more`:
    its document says more of it than stands in `values` and `other`.
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
    more: bool = False


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
        bare = entry.name or entry.row
        slots = {"row": entry.row, "noun": entry.noun, "number": entry.number, "bare": bare} | dict(fact.slots)
        name = f"{entry.row}/{entry.where}/{fact.name}"
        yield replace(fact, kind=entry.kind, needs=entry.needs, where=entry.where, slots=slots, name=name)


def _facts(entry: Entry, language: Language) -> Iterator[Fact]:
    yield from _names(entry, language)
    for role, value in entry.values.items():
        if role == "options":
            yield from _options(entry, value, language)
        elif role == "description":
            yield from _description(entry, value, language)
        elif role in ("cause", "remedy"):
            yield from _trouble(entry, role, value)
        elif role in ("default", "range", "minimum", "maximum", "access", "unit"):
            answer, evidence = _scalar(entry, role, value, language)
            if answer:
                yield _fact(role, language.answers[role].format(value=answer), evidence)
            if answer and role == "default":
                yield from _switch(answer, evidence, language)
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


def _options(entry: Entry, value: Value, language: Language, prose: bool = False) -> Iterator[Fact]:
    """Options as a whole and one by one; those of `prose` as a whole only where the range holds no further value."""
    options = value.options or split_options(value.text)
    labels = [label.casefold() for _, label in options]
    if not options or len(set(labels)) < len(labels) or any(_SCALE.search(label) for label in labels):
        return
    whole = _covers([given for given, _ in options], entry.values.get("range"))
    if 2 <= len(options) <= MOST_OPTIONS and (whole or not prose):
        listed = "; ".join(f"{given} = {label.rstrip('.')}" for given, label in options)
        ask = "options" if whole else "named values"
        yield _fact(ask, language.answers[ask].format(value=listed), value.evidence)
    order = sorted(options, key=lambda option: crc32(f"{value.evidence}{option}".encode()))
    for given, label in order[:OPTIONS_ASKED]:
        if not _is_short(label) or given.casefold() == label.casefold():
            continue
        quoted = language.quoted(label)
        meaning = language.answers["option meaning"].format(value=given, label=quoted)
        yield _fact("option meaning", meaning, value.evidence, {"value": given}, f"option {given}")
        answer = language.answers["option value"].format(value=given, label=quoted)
        yield _fact("option value", answer, value.evidence, {"label": quoted}, f"option for {label}")
    yield from _set(entry, options, value, language)


def _set(entry: Entry, options: Sequence[tuple[str, str]], value: Value, language: Language) -> Iterator[Fact]:
    """What to set for an option that is named alone: of every option, since those that two entries have cannot be told
    apart, and are found by the writer only where each entry tells all of its own."""
    for given, label in options:
        words = label.split()
        telling = len(_LETTERS.findall(label)) >= _TELLING and len(words) <= _LONGEST_LABEL
        if entry.number and telling and words[0].casefold() not in language.verbs:
            answer = language.answers["set"].format(row=entry.row, value=given, label=label.rstrip("."))
            yield _fact("set", answer, value.evidence, {"label": language.quoted(label)}, f"set {label}")


def _switch(answer: str, evidence: Span, language: Language) -> Iterator[Fact]:
    """Whether a switch is on by default, where the default says so: "1 (Enable)", "off"."""
    state = (_STATE.search(answer) or [answer])[0].strip("() ").casefold()
    loose = loose_of(language.code)
    for name, states in (("yes", loose.on), ("no", loose.off)) if loose else ():
        if state in states:
            yield _fact("is on", language.answers[f"is on {name}"].format(value=answer), evidence)


def _covers(given: Sequence[str], bounds: Value | None) -> bool:
    """Whether options leave no whole number of a range without one; True where range or options are no numbers."""
    match = _RANGE.match(bounds.text) if bounds else None
    if match is None:
        return True
    count = 0
    for value in given:
        inner = _RANGE.fullmatch(value)
        low, high = (inner["low"], inner["high"]) if inner else (value, value)
        if not (_WHOLE.fullmatch(low) and _WHOLE.fullmatch(high)):
            return True
        count += int(high) - int(low) + 1
    return count > int(match["high"]) - int(match["low"])


def _description(entry: Entry, value: Value, language: Language) -> Iterator[Fact]:
    text = value.text.strip()
    words = text.split()
    if split_options(text):
        if "options" not in entry.values:  # what stands in prose beside a list of options is a part of them
            yield from _options(entry, value, language, prose=True)
        return
    if (
        _ELSEWHERE.match(text)
        or _CONDITION.fullmatch(text)
        or not ends_well(text)
        or words[0].casefold() in language.pronouns
        or text.casefold() == entry.name.casefold()
    ):
        return
    if entry.means:
        yield _fact("means", sentence(text), value.evidence)
    elif len(_explaining(text, entry, language)) >= EXPLAINING:
        alone = len(entry.values) == 1 and not entry.other and not entry.more
        plain = "remark" if _REMARK.match(text) else "only description" if alone else "description"
        yield _fact("does" if _DOES.match(text) else plain, sentence(text), value.evidence)


def _explaining(text: str, entry: Entry, language: Language) -> set[str]:
    """The words of a description, by their beginnings, that tell more than the entry's name and figures do."""
    own = {word[:_STEM] for word in _LETTERS.findall(entry.row.casefold())}
    words = (word for word in _LETTERS.findall(text.casefold()) if len(word) > 2 and word not in language.figurative)
    return {word[:_STEM] for word in words} - own


def _trouble(entry: Entry, role: str, value: Value) -> Iterator[Fact]:
    if ends_well(value.text) and len(value.text.split()) <= LONGEST_ANSWER:
        yield _fact(role, sentence(value.text), value.evidence, {"symptom": entry.row})


def _is_short(text: str) -> bool:
    return 0 < len(text.split()) <= LONGEST_VALUE
