"""The plain baseline of open-book questions: the piece of the given passage that is most like the question.

A lookup among training questions knows nothing of a document that it never saw; this one reads the passage, as the
expert does, and uses no language model: the section most like the question, and in it the sentence, row or value most
like what the question says beyond the section's heading. What is cut out and below which likeness it abstains is
chosen by the marks on training examples, so that it is as good as so plain a method gets.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from werkmeister.chat import Conversation, Example
from werkmeister.engines.engine import Reply
from werkmeister.errors import DataError
from werkmeister.examining.answering import Answerer, plain_reply
from werkmeister.examining.baseline import fit_baseline, weighed
from werkmeister.examining.marks import grounded
from werkmeister.grounding import is_learnt_refusal, read_open_book

CUTS = {"sentence": "sentence or row", "value": "value", "section": "section"}
"""What is cut out of a passage: a sentence or row; of "key: value" and of table rows the value; a whole section."""

_FIT, _AT_ONCE = 1000, 64
_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-ZÄÖÜ0-9])")
_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_PAIR = re.compile(r"^([^:]{2,60}):\s+(.+)$")
_RULE = re.compile(r"^\|[\s:|-]+\|$")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that can be answered, and the words by which it is found."""

    answer: str
    words: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading (the passage's first line is one) and the pieces below it: sentences, rows, and values."""

    heading: str
    text: str
    sentences: tuple[Piece, ...]
    values: tuple[Piece, ...]

    def pieces(self, cut: str) -> tuple[Piece, ...]:
        """What can be cut out; `cut` is one of `CUTS`."""
        if cut == "section":
            return (Piece(self.text, self.text),)
        return self.sentences if cut == "sentence" else self.values


def is_open(example: Example) -> bool:
    """Whether an example is an open-book question: one that is put with a passage."""
    return bool(read_open_book(example.question)[0])


def reads_passages(examples: Sequence[Example]) -> bool:
    """Whether any of the examples is an open-book question."""
    return any(map(is_open, examples))


def sections(passage: str) -> list[Section]:
    """The sections of a passage as a prompt shows it, in order; those without any text are left out.

    A piece is found by its own words, the item above it that ends in a colon, and a table's columns.
    """
    found: list[Section] = []
    heading = ""
    lines: list[str] = []
    for number, line in enumerate([*passage.splitlines(), "#"]):
        if line.startswith("#") or number == 0:
            if any(lines):
                found.append(_section(heading, lines))
            heading, lines = line.strip("# "), []
        else:
            lines.append(line.rstrip())
    return found


def fit_extract(train: Sequence[Example], *, name: str = "baseline") -> Answerer:
    """Fit the baseline to training examples, some of them open-book. Closed-book questions go to `fit_baseline`.

    Raises DataError when none is open-book.
    """
    opened = [example for example in train if is_open(example)]
    if not opened:
        raise DataError("the extractive baseline needs training examples with a passage, and there are none")
    begin = time.perf_counter()
    closed = [example for example in train if not is_open(example)]
    lookup = fit_baseline(closed) if closed else None
    sample = sorted(opened, key=lambda example: example.id)[:_FIT]
    vectors, _ = weighed([example.question for example in sample])
    refusals = Counter(example.target for example in train if is_learnt_refusal(example.target)).most_common(1)
    refusal = refusals[0][0] if refusals else ""
    chosen, least = _fitted(vectors, sample, refusal)

    def replies(conversations: Sequence[Conversation]) -> Iterator[Reply]:
        for start in range(0, len(conversations), _AT_ONCE):
            asked = conversations[start : start + _AT_ONCE]
            began = time.perf_counter()
            best = _closest(vectors, [conversation[-1].content for conversation in asked], chosen)
            each = (time.perf_counter() - began) / len(asked)
            for conversation, (answer, likeness) in zip(asked, best, strict=True):
                if lookup and not read_open_book(conversation[-1].content)[0]:
                    yield from lookup.replies([conversation])
                else:
                    yield plain_reply(refusal if likeness < least else answer, each)

    about = f"closest {CUTS[chosen]} of the passage by TF-IDF" + (", or refusal" if refusal else "")
    return Answerer(name=name, replies=replies, load_seconds=time.perf_counter() - begin, about=about)


def _section(heading: str, lines: Sequence[str]) -> Section:
    sentences, values = [Piece(heading, heading)], [Piece(heading, heading)]
    header: list[str] = []
    text: list[str] = []
    above = ""
    for line in filter(None, lines):
        told = _ITEM.sub("", line).strip()
        if line.startswith("|"):
            if _RULE.match(line):
                continue
            cells = [cell.strip() for cell in line.strip("| ").split("|")]
            told = ", ".join(cell for cell in cells if cell)
            if header:
                sentences.append(Piece(told, f"{' '.join(header)} {told}"))
                named = zip(header[1:], cells[1:], strict=False)
                values += [Piece(cell, f"{cells[0]} {column}") for column, cell in named if cell]
            header = header or cells
        elif told.endswith(":"):
            header, above = [], told
        else:
            header, above = [], above if line.startswith(" ") else ""
            pair = _PAIR.match(told)
            own = [Piece(sentence, f"{above} {sentence}") for sentence in _SENTENCES.split(told)]
            sentences += own
            values += [Piece(pair[2], f"{above} {told}")] if pair else own
        text.append(told)
    return Section(heading, " ".join(text), tuple(sentences), tuple(values))


def _closest(vectors: Any, questions: Sequence[str], cut: str) -> list[tuple[str, float]]:
    """For each open-book question the answer cut out of its passage, and how alike question and section are (cosine);
    "" and 0 where there is nothing to cut."""
    read = [read_open_book(question) for question in questions]
    within = [sections(passage) for passage, _ in read]
    asked = [question for _, question in read]
    best = _most_alike(vectors, asked, [[f"{one.heading} {one.text}" for one in own] for own in within])
    picked = [own[index] if own else None for own, (index, _) in zip(within, best, strict=True)]
    options = [section.pieces(cut) if section else () for section in picked]
    titles = [passage.partition("\n")[0] for passage, _ in read]
    beyond = [
        _without(question, f"{title} {section.heading if section else ''}")
        for question, title, section in zip(asked, titles, picked, strict=True)
    ]
    chosen = _most_alike(vectors, beyond, [[piece.words for piece in own] for own in options])
    return [
        (own[index].answer, likeness) if own else ("", 0.0)
        for own, (index, _), (_, likeness) in zip(options, chosen, best, strict=True)
    ]


def _most_alike(vectors: Any, asked: Sequence[str], options: Sequence[Sequence[str]]) -> list[tuple[int, float]]:
    """For each text the index of the option most like it and the likeness; (0, 0) where there is none."""
    every = [text for own in options for text in own]
    if not every:
        return [(0, 0.0)] * len(asked)
    # Rows of the two joined vectorisers have length √2 where both find something.
    likeness = (vectors.transform(every) @ vectors.transform(asked).T).toarray() / 2
    best, start = [], 0
    for index, own in enumerate(options):
        column = likeness[start : start + len(own), index]
        start += len(own)
        top = int(column.argmax()) if own else 0
        best.append((top, float(column[top]) if own else 0.0))
    return best


def _without(text: str, known: str) -> str:
    """A text without the words that another one has."""
    words = {word.casefold() for word in _WORD.findall(known)}
    return " ".join(word for word in _WORD.findall(text) if word.casefold() not in words)


def _fitted(vectors: Any, sample: Sequence[Example], refusal: str) -> tuple[str, float]:
    """The cut, and the likeness below which to abstain, with the highest mean mark on the sample."""
    best = (-1.0, "sentence", 0.0)
    for cut in CUTS:
        found = []
        for start in range(0, len(sample), _AT_ONCE):
            found += _closest(vectors, [example.question for example in sample[start : start + _AT_ONCE]], cut)
        marks = [
            (likeness, grounded(answer, example).score, grounded(refusal, example).score if refusal else 0.0)
            for (answer, likeness), example in zip(found, sample, strict=True)
        ]
        best = max(best, *((mean, cut, least) for mean, least in _thresholds(marks)))
    return best[1], best[2]


def _thresholds(marks: Sequence[tuple[float, float, float]]) -> Iterator[tuple[float, float]]:
    """The mean mark for each threshold that abstains below it, from (likeness, mark of the piece, of abstaining)."""
    ordered = sorted(marks)
    total = sum(mark for _, mark, _ in ordered)
    yield total / len(ordered), 0.0
    for index, (likeness, mark, abstaining) in enumerate(ordered[:-1]):
        total += abstaining - mark
        if ordered[index + 1][0] > likeness:
            yield total / len(ordered), ordered[index + 1][0]
