"""Entries: the rows of a table, the items of a list and the sections that each describe one parameter, code or part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from werkmeister.corpus.documents.document import Block
from werkmeister.corpus.writing.structural.fact import Fact, Span
from werkmeister.corpus.writing.structural.language import Language, is_empty
from werkmeister.corpus.writing.structural.outline import Section, plain
from werkmeister.corpus.writing.structural.tables import Item, Table, is_nothing, read_list
from werkmeister.corpus.writing.structural.values import Entry, Value, entry_facts

_NUMBERISH = re.compile(r"[#\w.\[\]/-]{1,16}")
_LABELLED = re.compile(r"(?P<label>[^:\n]{1,40}):\s+(?P<value>\S.*)", re.DOTALL)
_LISTED = re.compile(
    r"(?P<name>[^\[\],]{2,80}?)(?:\s*\[(?P<range>[^\]]+)\])?(?:,\s*(?:default|Standard|Vorgabe):?\s+(?P<default>\S.*))?"
)
_GENERIC_NOUNS = frozenset(
    (
        *("#", "no", "nr", "number", "nummer", "num", "id", "pos", "lfd. nr", "lfd nr", "parameter #", "name", "label"),
        *("title", "designation", "bezeichnung", "benennung", "item", "property", "merkmal", "eigenschaft", "titel"),
    )
)
_PARAMETERS = frozenset(("parameter", "param"))
_MEANS = frozenset(
    (
        *(
            "code",
            "error code",
            "fault code",
            "alarm code",
            "error",
            "fault",
            "alarm",
            "message",
            "error message",
            "led",
        ),
        *(
            "status",
            "indication",
            "warning",
            "abbreviation",
            "acronym",
            "term",
            "symbol",
            "fehlercode",
            "fehler",
            "meldung",
        ),
        *("fehlermeldung", "störungscode", "anzeige", "warnung", "begriff", "abkürzung", "fehlernummer", "alarmcode"),
    )
)
_YES_NO = frozenset(("yes", "no", "ja", "nein", "x", "true", "false", "✓", "✗", "•"))
_SCALARS = frozenset(("default", "range", "minimum", "maximum", "unit", "options", "access"))
_LISTS = frozenset(
    (
        *(
            "list",
            "table",
            "overview",
            "of",
            "the",
            "all",
            "codes",
            "code",
            "and",
            "their",
            "meaning",
            "meanings",
            "numbers",
        ),
        *(
            "liste",
            "tabelle",
            "übersicht",
            "der",
            "die",
            "alle",
            "und",
            "ihre",
            "bedeutung",
            "configuration",
            "available",
        ),
    )
)
_KNOWN = _SCALARS | {"description", "cause", "remedy"}
_LONGEST_KEY = 8  # words


def where_of(section: Section, language: Language, skip: int = 0, noun: str = "") -> str:
    """The innermost heading that says something; `skip` leaves out so many of the innermost.

    A heading that only says what its entries are, "Alarm list" over alarms, says nothing.
    """
    names = section.headings[: len(section.headings) - skip]
    return next((name for name in reversed(names) if not is_empty(name) and not _only_says(name, noun)), "")


def _only_says(heading: str, noun: str) -> bool:
    if not noun:
        return False
    known = {word.casefold()[:4] for word in noun.split()}
    words = [word.casefold() for word in re.findall(r"\w+", heading)]
    return all(word in _LISTS or word[:4] in known for word in words)


def table_facts(table: Table, section: Section, language: Language) -> Iterator[Fact]:
    """The facts of a table whose rows are entries: numbered, named, or called by their first column."""
    roles = _roles(table.columns, language)
    number = next((at for at, role in enumerate(roles) if role == "number"), None)
    name = next((at for at, role in enumerate(roles) if role == "name"), None)
    key = 0 if number is None else number
    if name == key or number is None:
        name = None
    counted = Counter(cells[key].casefold() for cells, _ in table.rows)
    coded = sum(any(c.isdigit() for c in cells[key]) for cells, _ in table.rows) >= 0.7 * len(table.rows)
    noun = _noun(table.columns[key], table.columns[name] if name is not None else "", section, language)
    for cells, span in table.rows:
        given = cells[key]
        if is_nothing(given) or counted[given.casefold()] > 1 or len(given.split()) > _LONGEST_KEY:
            continue
        if coded and not any(c.isdigit() for c in given):
            continue  # a row that only parts the table ("Motion") among numbered ones
        taken = {key} if name is None else {key, name}
        values = {
            role: Value(text=cells[at], evidence=span)
            for at, role in enumerate(roles)
            if at not in taken and role in _KNOWN and not is_nothing(cells[at])
        }
        other = {
            table.columns[at]: Value(text=cells[at], evidence=span)
            for at, role in enumerate(roles)
            if at not in taken and role not in _KNOWN and _tells(cells[at])
        }
        named = cells[name] if name is not None and not is_nothing(cells[name]) else ""
        called = _called(given, named, noun, number is not None, language)
        entry = Entry(
            row=called.row,
            number=called.number,
            noun=called.noun,
            name=called.name,
            values=values,
            other=other,
            evidence=span,
            needs=(table.head,),
            kind="parameter" if "default" in roles or noun.casefold() in _PARAMETERS else "table",
            means=table.columns[key].casefold() in _MEANS,
            where=where_of(section, language, noun=noun),
        )
        yield from entry_facts(entry, language)


def list_facts(items: Sequence[Item], section: Section, language: Language) -> Iterator[Fact]:
    """The facts of items such as "Parameter 13: Local Control [0..255 lux], default 50"."""
    found = [(item, match) for item in items if (match := language.entry.fullmatch(item.text))]
    counted = Counter(match["number"] for _, match in found)
    for item, match in found:
        parts = _LISTED.fullmatch(match["name"])
        if parts is None or counted[match["number"]] > 1:
            continue
        texts = {"range": parts["range"], "default": parts["default"]}
        values = {role: Value(text=text.strip(), evidence=item.span) for role, text in texts.items() if text}
        values |= _labelled(item.children, language)
        where = where_of(section, language, noun=match["noun"])
        entry = _entry(match, parts["name"].strip(), values, item.span, where, language)
        yield from entry_facts(entry, language)


def section_facts(text: str, section: Section, language: Language) -> Iterator[Fact]:
    """The facts of a section that describes one entry: its heading names it, lines below give its values.

    "Parameter 13: Local Control" does; another heading does where two lines at least have the name of a value.
    """
    items = [item for block in section.blocks if block.kind == "list" for item in read_list(text, block)]
    values = _labelled(items, language)
    match = language.entry.fullmatch(section.name)
    if match is None and len([role for role in values if role in _SCALARS]) < 2:
        return
    before = [block for block in section.blocks if block.kind == "paragraph"]
    if len(before) == 1 and before[0] is section.blocks[0]:
        said = plain(text[before[0].start : before[0].end])
        if len(said.split()) <= 60:
            values["description"] = Value(text=said, evidence=(before[0].start, before[0].end))
    if not values:
        return
    where = where_of(section, language, skip=1)
    if match is not None:
        entry = _entry(match, match["name"], values, section.heading, where, language)
    elif section.name and not is_empty(section.name):
        row = language.quoted(section.name)
        entry = Entry(row=row, values=values, other={}, evidence=section.heading, where=where)
    else:
        return
    yield from entry_facts(replace(entry, more=len(section.blocks) > 1), language)


def is_entry(section: Section, language: Language) -> bool:
    """Whether the heading names an entry: what stands below is no procedure then."""
    return language.entry.fullmatch(section.name) is not None


def _entry(
    match: re.Match[str], name: str, values: dict[str, Value], evidence: Span, where: str, language: Language
) -> Entry:
    noun = match["noun"] if language.capital_nouns else match["noun"].lower()
    noun = "parameter" if noun == "param" else noun
    called = _called(match["number"], name, noun, True, language)
    means = noun.casefold() in _MEANS
    return Entry(
        row=called.row,
        number=called.number,
        noun=called.noun,
        name=called.name,
        values=values,
        other={},
        evidence=evidence,
        where=where,
        means=means,
    )


def _labelled(items: Sequence[Item], language: Language) -> dict[str, Value]:
    """The values of items such as "Default: 0", by role; those of a role that stands twice are left out."""
    values: dict[str, Value] = {}
    twice: set[str] = set()
    for item in items:
        match = _LABELLED.fullmatch(item.text)
        label = match["label"] if match else item.text.rstrip(":")
        role = language.role(label)
        if role not in _SCALARS or not (match or item.children):
            continue
        options = tuple(
            (found["label"], found["value"])
            for child in item.children
            if (found := _LABELLED.fullmatch(child.text)) and not child.children
        )
        if len(options) < len(item.children) or len({value for value, _ in options}) < len(options):
            continue
        if role in values:
            twice.add(role)
        values[role] = Value(text=match["value"] if match else "", evidence=item.span, options=options)
    return {role: value for role, value in values.items() if role not in twice}


def _roles(columns: Sequence[str], language: Language) -> list[str]:
    """The role of every column; a role belongs to one column, the first that has it."""
    roles: list[str] = []
    for column in columns:
        role = language.role(column)
        roles.append("" if role in roles else role)
    return roles


def _noun(key: str, name: str, section: Section, language: Language) -> str:
    """What an entry of the table is: by the name of its key column, else of its name column, else by the section's."""
    words = key.rstrip(".").split()
    if key.casefold().strip(" .") not in _GENERIC_NOUNS:
        kept = words[:-1] if len(words) > 1 and words[-1].casefold() in _GENERIC_NOUNS else words
        return language.lowered(" ".join(kept))
    first = name.split()[0] if name else ""
    if first.casefold() in {noun.casefold() for noun in language.nouns.values()}:
        return language.lowered(first)
    last = section.name.split()[-1].casefold() if section.name else ""
    return language.nouns.get(last, "")


@dataclass(frozen=True, slots=True)
class _Called:
    """How a question calls an entry; see `Entry`."""

    row: str
    number: str = ""
    noun: str = ""
    name: str = ""


def _called(key: str, name: str, noun: str, numbered: bool, language: Language) -> _Called:
    if numbered and _NUMBERISH.fullmatch(key):
        called = f"{noun} {key}" if noun else key
        telling = name if name.casefold() not in (called.casefold(), key) else ""
        row = f"{called} ({name})" if telling else called if noun else f"no. {key}"
        return _Called(row, key, noun, name)
    if not noun:
        return _Called(language.quoted(key))
    is_code = any(letter.isdigit() for letter in key) and len(key.split()) <= 2
    shown = key if is_code else language.quoted(key)
    return _Called(f"{noun} {shown}" if language.capital_nouns or is_code else f"the {noun} {shown}")


def _tells(cell: str) -> bool:
    return not is_nothing(cell) and cell.casefold() not in _YES_NO


def lists_of(text: str, section: Section) -> Iterator[tuple[Block, tuple[Item, ...]]]:
    """The lists of a section with their items."""
    for block in section.blocks:
        if block.kind == "list":
            yield block, read_list(text, block)
