"""The structural writer: pairs from the shapes of a document alone, without any model, the same every time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

from werkmeister.corpus.documents.document import Document
from werkmeister.corpus.documents.language import detect_language
from werkmeister.corpus.writing.pair import Pair
from werkmeister.corpus.writing.structural.definitions import sentence_facts, term_facts
from werkmeister.corpus.writing.structural.entries import list_facts, lists_of, section_facts, table_facts
from werkmeister.corpus.writing.structural.fact import Fact, Span
from werkmeister.corpus.writing.structural.language import LANGUAGES, Language, language_of
from werkmeister.corpus.writing.structural.loosely import loose_question, signature
from werkmeister.corpus.writing.structural.naming import thing_of
from werkmeister.corpus.writing.structural.outline import Section, sections
from werkmeister.corpus.writing.structural.phrasing import Phrasing
from werkmeister.corpus.writing.structural.procedures import procedure_facts
from werkmeister.corpus.writing.structural.questions import faq_facts
from werkmeister.corpus.writing.structural.tables import read_table
from werkmeister.corpus.writing.structural.troubles import property_facts, trouble_facts
from werkmeister.passage import Passage

VERSION = 6
FORMS = 2
_TELLING = 6  # words of an answer whose language can be told

_Found = tuple[Passage, Fact, Language]


class StructuralWriter:
    """Writes pairs from definitions, tables, lists, procedures and questions as they stand in a document.

    `forms` are the question forms a fact is asked in, at most; a fact with fewer forms has fewer. `per_passage` is the
    most facts that one passage gives, of as many kinds of question as it has, chosen the same way every time; 0: all.
    `language` "auto" asks in the language of the passage, English where that has no questions here. A fact is written
    only where one passage holds its quote and all that is needed to understand it, and where its answer is in the
    language of the question. Two facts of one document that would be asked by the same question with different
    answers are both left out.
    """

    def __init__(self, *, forms: int = FORMS, language: str = "auto", per_passage: int = 0) -> None:
        self.forms = forms
        self.per_passage = per_passage
        self.language = language
        self.name = f"structural {VERSION}"
        self.key: Any = {
            "writer": "structural",
            "version": VERSION,
            "forms": forms,
            "language": language,
            "per_passage": per_passage,
        }

    def write(self, document: Document, passages: Sequence[Passage]) -> Iterator[Pair]:
        """Yield the pairs of one document in the order of its text."""
        thing = thing_of(document.title)
        found = _sure(list(self._facts(document, _Shelf(passages))))
        if self.per_passage:
            found = _fewer(found, self.per_passage)
        made: dict[str, Pair | None] = {}
        unsure = _alike(found)
        for passage, fact, language in found:
            lean = signature(fact) not in unsure
            for pair in self._pairs(document, passage, fact, Phrasing(language, thing, self.forms), lean):
                _keep(made, pair)
        yield from (pair for pair in made.values() if pair is not None)

    def _facts(self, document: Document, shelf: _Shelf) -> Iterator[_Found]:
        for section in sections(document):
            first = shelf.at(section.blocks[0].start)
            code = self.language if self.language != "auto" else (first.language if first else "") or document.language
            language = language_of(code) if code else _told(document.text, section)
            for fact in section_facts_of(document.text, section, language):
                passage = shelf.holding(fact)
                if passage is not None and _speaks(fact.answer, language, document.language):
                    yield passage, fact, language

    def _pairs(
        self, document: Document, passage: Passage, fact: Fact, phrasing: Phrasing, lean: bool
    ) -> Iterator[Pair]:
        start, end = fact.evidence
        for at, question in enumerate(phrasing.questions(document.name, fact)):
            key = f"{document.name}\0{fact.name}\0{at}"
            yield Pair(
                question=question,
                answer=fact.answer,
                document=document.name,
                passage=passage.id,
                evidence=document.text[start:end],
                start=start,
                end=end,
                kind=fact.kind,
                writer=self.name,
                language=phrasing.language.code,
                fact=fact.name,
                loose=loose_question(fact, phrasing.language, phrasing.thing, key) if lean else "",
            )


def _told(text: str, section: Section) -> Language:
    """The language of a section that is too short of words to tell: by the names of its tables' columns."""
    tables = [read_table(text, block) for block in section.blocks if block.kind == "table"]
    columns = [column for table in tables if table is not None for column in table.columns]
    return max((language_of(code) for code in LANGUAGES), key=lambda one: sum(bool(one.role(name)) for name in columns))


def _speaks(answer: str, language: Language, document: str) -> bool:
    """Whether an answer is in the language of its question, as far as its words tell.

    Where a passage is of another language than its document, short answers have to prove it too: its parts may differ.
    """
    if document and document != language.code:
        return detect_language(answer, fewest=1) == language.code
    found = detect_language(answer) if len(answer.split()) >= _TELLING else ""
    if found or language.code == LANGUAGES[0]:
        return found in ("", language.code)
    # What stayed untranslated is English: one word of it is enough to tell where no more is to be had.
    return detect_language(answer, fewest=1) != LANGUAGES[0]


def _sure(found: list[_Found]) -> list[_Found]:
    """The facts without those that ask the same and answer otherwise; of those that answer the same, the first."""
    asked: dict[tuple[str, ...], list[int]] = {}
    for at, (_, fact, language) in enumerate(found):
        forms = "".join(language.questions[fact.ask])
        slots = [f"{name}={value}" for name, value in sorted(fact.slots.items()) if f"{{{name}}}" in forms]
        asked.setdefault((language.code, fact.ask, fact.where, *slots), []).append(at)
    kept = [places[0] for places in asked.values() if len({found[at][1].answer for at in places}) == 1]
    return [found[at] for at in sorted(kept)]


def _alike(found: list[_Found]) -> set[tuple[str, ...]]:
    """Signatures of loose questions that facts of one document share and answer differently."""
    answers: dict[tuple[str, ...], set[str]] = {}
    for _, fact, _ in found:
        answers.setdefault(signature(fact), set()).add(fact.answer)
    return {key for key, said in answers.items() if len(said) > 1}


def _fewer(found: list[_Found], most: int) -> list[_Found]:
    """At most so many facts of each passage: one of each kind of question, then a second one, and so on."""
    groups: dict[str, dict[str, list[int]]] = {}
    for at, (passage, fact, _) in enumerate(found):
        groups.setdefault(passage.id, {}).setdefault(fact.ask, []).append(at)
    kept: list[int] = []
    for name, asks in groups.items():
        ranked = [
            (turn, crc32(f"{name}{ask}{found[at][1].name}".encode()), at)
            for ask, places in asks.items()
            for turn, at in enumerate(sorted(places, key=lambda at: crc32(found[at][1].name.encode())))
        ]
        kept += [at for _, _, at in sorted(ranked)[:most]]
    return [found[at] for at in sorted(kept)]


def _keep(made: dict[str, Pair | None], pair: Pair) -> None:
    """Keep a pair unless its question was asked before; with another answer, neither can be trusted."""
    asked = pair.question.casefold()
    if asked not in made:
        made[asked] = pair
    else:
        before = made[asked]
        if before is None or before.answer != pair.answer:
            made[asked] = None


def section_facts_of(text: str, section: Section, language: Language) -> Iterator[Fact]:
    """Every fact of one section, whatever its shape."""
    for block in section.blocks:
        table = read_table(text, block) if block.kind == "table" else None
        if table is not None:
            yield from (
                trouble_facts(table, section, language)
                or property_facts(table, section, language)
                or table_facts(table, section, language)
            )
    for _, items in lists_of(text, section):
        yield from list_facts(items, section, language)
    yield from section_facts(text, section, language)
    yield from faq_facts(text, section, language)
    yield from procedure_facts(text, section, language)
    yield from sentence_facts(text, section, language)
    yield from term_facts(text, section, language)


class _Shelf:
    """The passages of a document, to find the one that holds a fact."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = sorted(passages, key=lambda passage: passage.start)
        self._starts = [passage.start for passage in self._passages]

    def at(self, place: int) -> Passage | None:
        """The passage that a place of the text lies in."""
        return self._first((place, place + 1))

    def holding(self, fact: Fact) -> Passage | None:
        """The first passage that holds the evidence and all that it needs, or None."""
        spans = (fact.evidence, *fact.needs)
        return self._first((min(start for start, _ in spans), max(end for _, end in spans)))

    def _first(self, span: Span) -> Passage | None:
        at = bisect_right(self._starts, span[0])
        # Passages may overlap: of those that begin before the span, the nearest that also ends behind it.
        for passage in reversed(self._passages[max(0, at - 3) : at]):
            if span[1] <= passage.end:
                return passage
        return None
