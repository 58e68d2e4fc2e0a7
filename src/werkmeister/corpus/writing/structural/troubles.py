"""Tables that say what is given for a thing as a whole (property, value), and what to do when something fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from werkmeister.corpus.writing.structural.entries import where_of
from werkmeister.corpus.writing.structural.fact import Fact
from werkmeister.corpus.writing.structural.language import Language
from werkmeister.corpus.writing.structural.outline import Section
from werkmeister.corpus.writing.structural.sentences import ends_well, sentence
from werkmeister.corpus.writing.structural.tables import Table, is_nothing

_LONGEST = 60  # words of a cause or remedy
_LONGEST_SYMPTOM = 20


def trouble_facts(table: Table, section: Section, language: Language) -> Iterator[Fact] | None:
    """The facts of a troubleshooting table, or None where the table is none.

    A symptom may stand in several rows, one for each cause, or once with empty cells below it: its causes are asked for
    together, the remedy by symptom and cause.
    """
    roles = [language.role(column) for column in table.columns]
    symptom = next((at for at, role in enumerate(roles) if role == "symptom"), None)
    cause = roles.index("cause") if "cause" in roles else None
    remedy = roles.index("remedy") if "remedy" in roles else None
    if symptom is None or (cause is None and remedy is None):
        return None
    return _troubles(table, (symptom, cause, remedy), where_of(section, language), language)


def _troubles(
    table: Table, columns: tuple[int, int | None, int | None], where: str, language: Language
) -> Iterator[Fact]:
    symptom, cause, remedy = columns
    counted = Counter(cells[symptom].casefold() for cells, _ in table.rows)
    empty = any(is_nothing(cells[symptom]) for cells, _ in table.rows)
    for cells, span in table.rows:
        problem = cells[symptom]
        if is_nothing(problem) or len(problem.split()) > _LONGEST_SYMPTOM or not ends_well(problem):
            continue
        slots = {"symptom": language.quoted(problem.rstrip("."))}
        alone = counted[problem.casefold()] == 1 and not empty
        for ask, at in (("cause", cause), ("remedy", remedy)):
            if at is None or not alone or not _is_answer(cells[at]):
                continue
            yield Fact(
                kind="troubleshooting",
                name=f"{ask} {problem}",
                ask=ask,
                answer=sentence(cells[at]),
                evidence=span,
                needs=(table.head,),
                slots=slots,
                where=where,
            )
        if alone or cause is None or remedy is None or not (_is_answer(cells[cause]) and _is_answer(cells[remedy])):
            continue
        yield Fact(
            kind="troubleshooting",
            name=f"remedy {problem} {cells[cause]}",
            ask="remedy of cause",
            answer=sentence(cells[remedy]),
            evidence=span,
            needs=(table.head,),
            slots=slots | {"cause": language.quoted(cells[cause].rstrip("."))},
            where=where,
        )


def _is_answer(cell: str) -> bool:
    return not is_nothing(cell) and len(cell.split()) <= _LONGEST and ends_well(cell)


def property_facts(table: Table, section: Section, language: Language) -> Iterator[Fact] | None:
    """The facts of a table of two columns, property and value (and perhaps a unit), or None where the table is none."""
    roles = [language.role(column) for column in table.columns]
    named = roles[0] in ("property", "name") and "value" in roles[1:]
    if not named or len(roles) > 3 or (len(roles) == 3 and "unit" not in roles):
        return None
    return _properties(table, roles, where_of(section, language), language)


def _properties(table: Table, roles: Sequence[str], where: str, language: Language) -> Iterator[Fact]:
    value, unit = roles.index("value"), roles.index("unit") if "unit" in roles else None
    counted = Counter(cells[0].casefold() for cells, _ in table.rows)
    for cells, span in table.rows:
        given = cells[value].rstrip(".")
        if unit is not None and not is_nothing(cells[unit]) and any(letter.isdigit() for letter in given):
            given = f"{given} {cells[unit]}"
        if is_nothing(cells[value]) or counted[cells[0].casefold()] > 1:
            continue
        fact = property_fact(cells[0], given, language)
        if fact is not None:
            yield Fact(
                kind="table",
                name=f"property {cells[0]} {where}",
                ask=fact[0],
                answer=fact[1],
                evidence=span,
                needs=(table.head,),
                slots={"property": fact[2]},
                where=where,
                core=given,
            )


def property_fact(label: str, value: str, language: Language) -> tuple[str, str, str] | None:
    """Question, answer and the property as a sentence calls it, or None where label or value are none."""
    words = label.split()
    if not 1 <= len(words) <= 6 or len(value.split()) > _LONGEST or not ends_well(value) or not label[:1].isalpha():
        return None
    called = language.quoted(label) if language.capital_nouns else language.lowered(label)
    ask = "properties" if language.is_plural(label) else "property"
    shown = label if language.capital_nouns else called
    return ask, language.answers[ask].format(property=shown, value=value), called
