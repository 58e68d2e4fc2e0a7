"""Questions that a document answers itself: headings that ask, and "Q: … A: …"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from werkmeister.corpus.documents.document import Block
from werkmeister.corpus.writing.structural.entries import is_entry
from werkmeister.corpus.writing.structural.fact import Fact, Span
from werkmeister.corpus.writing.structural.language import Language
from werkmeister.corpus.writing.structural.outline import Section, plain
from werkmeister.corpus.writing.structural.procedures import answer_text
from werkmeister.corpus.writing.structural.sentences import ends_well

LONGEST = 900  # characters of an answer
_FEWEST_WORDS = 3
_ASKS = re.compile(r"[^?]{8,200}\?")


def faq_facts(text: str, section: Section, language: Language) -> Iterator[Fact]:
    """The questions of a section with their answers; a question that leans on another one ("And if it …?") is left."""
    yield from _heading(text, section, language)
    yield from _labelled(text, section, language)


def _heading(text: str, section: Section, language: Language) -> Iterator[Fact]:
    label = language.question_label.match(section.name)
    question = section.name[label.end() :] if label else section.name
    span = (section.blocks[0].start, section.blocks[-1].end)
    answered = all(block.kind in ("paragraph", "list", "code") for block in section.blocks)
    if _ASKS.fullmatch(question) and not is_entry(section, language) and answered and span[1] - span[0] <= LONGEST:
        yield from _asked(question, text, span, language)


def _labelled(text: str, section: Section, language: Language) -> Iterator[Fact]:
    """Pairs of "Q: …" and "A: …", in one paragraph or in paragraphs that follow each other."""
    question = ""
    for block in section.blocks:
        marks = list(_marks(text, block, language))
        if not marks or marks[0][0] != block.start:
            question = ""
            continue
        for (_, start, is_question), end in zip(marks, [*(mark[0] for mark in marks[1:]), block.end], strict=True):
            said = text[start:end].rstrip()
            if is_question:
                question = plain(said) if said.endswith("?") else ""
            elif question:
                yield from _asked(question, text, (start, start + len(said)), language)
                question = ""


def _marks(text: str, block: Block, language: Language) -> list[tuple[int, int, bool]]:
    """The labels in a paragraph: where each begins and ends, and whether it is a question's."""
    if block.kind != "paragraph":
        return []
    asks = [(m.start(), m.end(), True) for m in language.question_label.finditer(text, block.start, block.end)]
    answers = [(m.start(), m.end(), False) for m in language.answer_label.finditer(text, block.start, block.end)]
    return sorted(asks + answers)


def _asked(question: str, text: str, span: Span, language: Language) -> Iterator[Fact]:
    said = answer_text(text[slice(*span)])
    leans = language.unclear.search(question) is not None or len(question.split()) < _FEWEST_WORDS
    if leans or not ends_well(plain(said)) or len(said) > LONGEST or len(said.split()) < _FEWEST_WORDS:
        return
    yield Fact(kind="faq", name=f"faq {question}", ask="faq", answer=said, evidence=span, slots={"question": question})
