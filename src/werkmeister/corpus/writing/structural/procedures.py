"""Procedures: sections that tell what to do, as numbered steps or as orders to the reader."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

from werkmeister.corpus.writing.structural.entries import is_entry, where_of
from werkmeister.corpus.writing.structural.fact import Fact, Span
from werkmeister.corpus.writing.structural.language import Language, is_empty
from werkmeister.corpus.writing.structural.outline import Section, plain
from werkmeister.corpus.writing.structural.sentences import ends_well, sentence, sentences
from werkmeister.corpus.writing.structural.tables import Item, read_list

LONGEST = 1000  # characters of a whole procedure as an answer
AROUND = 250  # characters of other text that are told with the steps
MOST_STEPS = 20
_INLINE = re.compile(r"(?:(?<=\s)|^)(?:Step |Schritt )?(\d{1,2})[.)]\s+(?=\S)")
_WORDS_OF_STEP = (2, 60)
_WORDS_QUOTED = 18
_HEADING_WORDS = 10
_HOW_TO = re.compile(r"how (?:do (?:i|you) |to |can (?:i|you) )(.+?)\??$", re.IGNORECASE)
_OBJECT = re.compile(
    r"(?:the|an?|your|all|any|to|from|in|on|up|off|out|and|both|each|with|for|new|its)\b", re.IGNORECASE
)
_SURE = frozenset(
    (
        *(
            "install",
            "remove",
            "replace",
            "connect",
            "configure",
            "create",
            "add",
            "adjust",
            "delete",
            "download",
            "enable",
        ),
        *(
            "disable",
            "verify",
            "choose",
            "insert",
            "build",
            "compile",
            "upgrade",
            "update",
            "uninstall",
            "activate",
            "unlock",
        ),
        *("deactivate", "assign", "determine", "measure", "disconnect", "edit", "open", "close", "import", "adding"),
    )
)
_GERMAN_TASK = re.compile(r"(?:(?:Das|Die|Den|Der|Eine?n?|Alle|Ihre?n?|Neue[ns]?)\s.+\s)[a-zäöüß]+(?:en|ern|eln|un)$")
_MARK = re.compile(r"^(?:[-*+•·–]|(?:Step |Schritt )?\d{1,3}[.)])\s+")
_POINTS = re.compile(
    r"\b(?:described|shown|mentioned|explained|listed|noted|as|see|found|steps?) (?:above|below|earlier)\b"
    r"|\bsee (?:the )?figure|\b(?:program|example|table|code|list|figure|command|line)s? (?:below|above)"
    r"|\b(?:oben|unten) (?:genannt|beschrieben|gezeigt|aufgeführt|gefunden|erwähnt)|\bsiehe (?:oben|unten|Abbildung)",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(r"^(?:see|refer to|for (?:more|further)|siehe|vgl)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a procedure: its text, its number and its span."""

    text: str
    number: int
    span: Span
    whole: bool  # nothing stands below it


def procedure_facts(text: str, section: Section, language: Language) -> Iterator[Fact]:
    """The facts of one section: the whole procedure, and single steps where there is one numbered row of them."""
    heading = section.name
    if not heading or is_entry(section, language) or heading.endswith("?") or len(heading.split()) > _HEADING_WORDS:
        return
    tasks = _tasks(heading, language)
    if not tasks and (is_empty(heading) or not ends_well(heading)):
        return
    row = _steps(text, section)
    if row is None:
        return
    steps, span = row
    known = 2 if any(pattern.search(heading) for pattern, _ in language.procedures) else 1 if tasks else 0
    if not _is_procedure(text, section, steps, known, language):
        return
    where = where_of(section, language, skip=1)
    name = f"{heading}/{where}"
    forms = {"task": tasks[0], "heading": language.quoted(heading)} if tasks else {"heading": language.quoted(heading)}
    whole = _whole(text, section, steps, span, language)
    if whole is not None:
        answer, evidence = whole
        for task in tasks or ("",):
            yield Fact(
                kind="procedure",
                name=name,
                ask="how to" if task else "heading",
                answer=answer,
                evidence=evidence,
                slots={**forms, "task": task} if task else forms,
                where=where,
            )
    if len(steps) >= 2:
        yield from _step_facts(steps, span, ("task" if tasks else "heading", forms, name, where), language)


def _tasks(heading: str, language: Language) -> tuple[str, ...]:
    """What a reader wants to do, as it stands behind "How do I …", or nothing where the heading does not say."""
    for pattern, tasks in language.procedures:
        if pattern.search(heading):
            return tasks
    how_to = _HOW_TO.fullmatch(heading)
    if how_to and not language.capital_nouns:
        return (_verb_first(how_to[1], language) or how_to[1],)
    if language.capital_nouns:
        return (heading[0].lower() + heading[1:],) if _GERMAN_TASK.fullmatch(heading) else ()
    task = _verb_first(heading, language)
    first, _, rest = heading.casefold().partition(" ")
    verb = language.verbs.get(first, "")
    return (task,) if task and (verb in _SURE or _OBJECT.match(rest)) else ()


def _verb_first(heading: str, language: Language) -> str:
    first, _, rest = heading.partition(" ")
    verb = language.verbs.get(first.casefold())
    # Only the verb loses its capital: the words behind it may be names.
    return f"{verb} {rest}" if verb and rest else ""


def _steps(text: str, section: Section) -> tuple[list[Step], Span] | None:
    """The one numbered row of steps of a section, with the span of all; empty where there is none, or more than one.

    None where the row is damaged: a step that was cut off, or holds the next one.
    """
    rows: list[tuple[list[Step], Span]] = []
    for block in section.blocks:
        if block.kind == "list":
            items = read_list(text, block)
            inline = list(_inline(text, (block.start, block.end))) if len(items) == 1 else []
            if inline:
                rows.append((inline, (inline[0].span[0], inline[-1].span[1])))
            elif items and items[0].number:
                rows.append(([_step(item) for item in items], (items[0].span[0], items[-1].span[1])))
        elif block.kind == "paragraph":
            steps = list(_inline(text, (block.start, block.end)))
            if steps:
                rows.append((steps, (steps[0].span[0], steps[-1].span[1])))
    if len(rows) != 1:
        return [], (0, 0)
    steps, span = rows[0]
    in_order = [step.number for step in steps] == list(range(1, len(steps) + 1))
    # "… on the desktop 4. Drag a file": the reader of the file lost a line break, and the row goes on unseen.
    lost = any(re.search(rf"\s{step.number + 1}[.)](?!\d)", step.text) for step in steps)
    if lost or not all(ends_well(step.text) for step in steps):
        return None
    return (steps, span) if in_order and 2 <= len(steps) <= MOST_STEPS else ([], (0, 0))


def _step(item: Item) -> Step:
    return Step(item.text, item.number, item.span, not item.children)


def _inline(text: str, span: Span) -> Iterator[Step]:
    """Steps that stand in one paragraph, "1. … 2. …", counted from 1 without a gap."""
    marks: list[re.Match[str]] = []
    for mark in _INLINE.finditer(text, *span):
        if int(mark[1]) == len(marks) + 1:
            marks.append(mark)
    if len(marks) < 2 or marks[0].start() != span[0]:
        return
    for mark, end in zip(marks, [*(mark.start() for mark in marks[1:]), span[1]], strict=True):
        yield Step(
            plain(text[mark.end() : end]), int(mark[1]), (mark.start(), _stripped(text, mark.start(), end)), True
        )


def _stripped(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isspace():
        end -= 1
    return end


def _whole(
    text: str, section: Section, steps: Sequence[Step], span: Span, language: Language
) -> tuple[str, Span] | None:
    """The answer that tells the whole procedure and its evidence, or None where the section tells none."""
    blocks = section.blocks
    everything = (blocks[0].start, blocks[-1].end)
    around = everything[1] - everything[0] - (span[1] - span[0] if steps else 0)
    if any(block.kind not in ("paragraph", "list", "code") for block in blocks) or around > (
        AROUND if steps else LONGEST
    ):
        everything = span
    if everything[0] == everything[1] or everything[1] - everything[0] > LONGEST:
        return None
    said = text[slice(*everything)]
    if _ELSEWHERE.match(said) or _POINTS.search(said) or not ends_well(plain(said)):
        return None
    return answer_text(said), everything


def _orders(texts: Sequence[str], language: Language) -> float:
    """The share of texts that begin with an order to the reader."""
    return sum(language.imperative.match(text) is not None for text in texts) / max(1, len(texts))


def _is_procedure(text: str, section: Section, steps: Sequence[Step], known: int, language: Language) -> bool:
    """Whether a section tells what to do.

    `known` says how sure the heading makes it: 2 for the name of a procedure, 1 for a task, 0 for neither.
    """
    if steps:
        return _orders([step.text for step in steps], language) >= (0.6, 0.3, 0.1)[known]
    said = [
        plain(text[start:end])
        for block in section.blocks
        if block.kind in ("paragraph", "list")
        for start, end in sentences(text, (block.start, block.end), language)
    ]
    said = [_MARK.sub("", one) for one in said]
    if known == 2:
        return _orders(said, language) > 0
    return known == 1 and bool(said) and _orders(said[:1], language) == 1 and _orders(said, language) >= 0.5


def answer_text(said: str) -> str:
    """A piece of a document as an answer: its lines without marks and blank ones."""
    lines = (plain(line) for line in said.split("\n") if not line.lstrip().startswith("```"))
    return "\n".join(line for line in lines if line)


def _step_facts(
    steps: Sequence[Step], span: Span, asked: tuple[str, dict[str, str], str, str], language: Language
) -> Iterator[Fact]:
    """Facts of single steps; what only tells what the thing does then ("The LED blinks.") is no step to ask for."""
    form, slots, name, where = asked

    def fits(step: Step) -> bool:
        return _asks_well(step) and language.imperative.match(step.text) is not None

    def fact(what: str, answer: str, evidence: Span, needs: tuple[Span, ...] = (), **more: str) -> Fact:
        return Fact(
            kind="procedure",
            name=f"{name}/{what}{more.get('number', '')}",
            ask=f"{form} {what}",
            answer=answer,
            evidence=evidence,
            needs=needs,
            slots={**slots, **more},
            where=where,
        )

    last = steps[-1]
    yield fact("count", language.answers["count"].format(value=last.number), span)
    if fits(steps[0]):
        yield fact("first", sentence(steps[0].text), steps[0].span)
    if len(steps) < 3:
        return
    if fits(last):
        yield fact("last", sentence(last.text), last.span, (span,))
    inner = sorted(steps[1:-1], key=lambda step: crc32(step.text.encode()))
    for step in inner[:1]:
        if fits(step):
            yield fact("step", sentence(step.text), step.span, number=str(step.number))
    texts = [step.text.casefold() for step in steps]
    followed = sorted(pairwise(steps), key=lambda two: crc32(two[0].text[::-1].encode()))
    for step, following in followed[:2]:
        quotable = len(step.text.split()) <= _WORDS_QUOTED and texts.count(step.text.casefold()) == 1
        if quotable and fits(step) and fits(following):
            both = (step.span[0], following.span[1])
            yield fact(
                "next", sentence(following.text), following.span, (both,), step=language.quoted(sentence(step.text))
            )


def _asks_well(step: Step) -> bool:
    low, high = _WORDS_OF_STEP
    return step.whole and low <= len(step.text.split()) <= high and not _POINTS.search(step.text)
