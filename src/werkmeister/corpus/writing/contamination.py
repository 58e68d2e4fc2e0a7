"""Contamination: what a model could have read in training of what the exam will ask; measured, and taken out.

Two ways lead from train to an exam: nearly the same question with the same answer, and nearly the same passage, in
whichever document it stands. Families keep variants of a document together; what documents share beside that (a page
of boilerplate) is found here.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from werkmeister.chat import Example
from werkmeister.corpus.duplicates import LEAKAGE, Dropped, jaccard, question_shingles
from werkmeister.corpus.writing.families import shingles, words_of
from werkmeister.grounding import is_learnt_refusal, read_open_book
from werkmeister.passage import Passage

NEAR_QUESTION = 0.9
"""Jaccard similarity of character 5-grams at which two questions with the same answer count as the same."""

NEAR_PASSAGE = 0.8
"""Jaccard similarity of word 5-grams at which two passages, each with its last heading, count as the same; one that
stands in the other word for word counts too."""

SPLITS = ("exam", "valid", "train")
"""In the order in which they win: what stands in an earlier one is taken out of the later ones."""


@dataclass(frozen=True, kw_only=True)
class Leak:
    """The `index` of an example that gives a held-out one away, the `held` one's index, how alike, and in what."""

    index: int
    held: int
    similarity: float
    what: str


def remove_contamination(
    splits: Mapping[str, Sequence[Example]], passages: Mapping[str, Passage], near: float = NEAR_QUESTION
) -> tuple[dict[str, list[Example]], list[Dropped]]:
    """Take out of train and valid what gives an exam item away, and out of train what gives a valid item away.

    Takes examples that hold their question alone, with the id of their passage (`books.bare_examples`).
    """
    left = {name: list(examples) for name, examples in splits.items()}
    dropped = []
    for held in SPLITS[:-1]:
        for name in SPLITS[SPLITS.index(held) + 1 :]:
            leaks = {leak.index: leak for leak in find_leaks(left[name], left[held], passages, near)}
            dropped += [
                Dropped(
                    example=left[name][leak.index],
                    reason=LEAKAGE,
                    kept=left[held][leak.held].source,
                    similarity=leak.similarity,
                )
                for leak in leaks.values()
            ]
            left[name] = [example for index, example in enumerate(left[name]) if index not in leaks]
    return left, dropped


def find_leaks(
    train: Sequence[Example], held: Sequence[Example], passages: Mapping[str, Passage], near: float = NEAR_QUESTION
) -> Iterator[Leak]:
    """Every example of `train` that gives one of `held` away, once for each way in which it does.

    What is read is taken from the prompt, as far as it is an open-book one, and is the passage that an example was
    written from. Of a held example it is that passage alone, not what stands beside it.
    """
    shown = _Shown(passages)
    yield from _questions([_asked(example) for example in train], [_asked(example) for example in held], near)
    yield from _passages([shown.texts(example) for example in train], [shown.own(example) for example in held])


def measure_contamination(
    splits: Mapping[str, Sequence[Example]], passages: Mapping[str, Passage], near: float = NEAR_QUESTION
) -> list[dict[str, Any]]:
    """What the finished examples show, read from their prompts as a model reads them: {"what", "n", "of"} each.

    `of` counts the exam's examples; `n` those of them that an example of train or valid gives away.
    """
    exam = splits["exam"]
    rest = [example for name in ("train", "valid") for example in splits[name]]
    leaks = list(find_leaks(rest, exam, passages, near))
    asked, read = ({leak.held for leak in leaks if leak.what == what} for what in ("question", "passage"))
    shown = _Shown(passages)
    groups = {example.group for example in rest if example.group}
    return [
        {
            "what": "exam questions that are asked in train, nearly in the same words and with the same answer",
            "n": len(asked),
            "of": len(exam),
        },
        {
            "what": "exam questions whose passage stands in train, in nearly the same words",
            "n": len(read),
            "of": sum(bool(shown.own(example)) for example in exam),
        },
        {
            "what": "exam questions about a family of documents that train asks about",
            "n": sum(example.group in groups for example in exam),
            "of": sum(bool(example.group) for example in exam),
        },
    ]


class _Shown:
    """Finds the passages that a prompt shows."""

    def __init__(self, passages: Mapping[str, Passage]) -> None:
        self.passages = passages
        self.by_line: defaultdict[str, list[Passage]] = defaultdict(list)
        for passage in passages.values():
            self.by_line[passage.shown.partition("\n")[0]].append(passage)

    def own(self, example: Example) -> list[str]:
        """The text of the passage that the example was written from; of a person's example, what its prompt shows."""
        if example.passage in self.passages:
            return [_body(self.passages[example.passage])]
        return self.texts(example)

    def texts(self, example: Example) -> list[str]:
        """The texts of the passages in the prompt, and of the one that the example was written from."""
        rest, _ = read_open_book(example.question)
        found = [_body(self.passages[example.passage])] if example.passage in self.passages else []
        while rest:
            known = self.by_line[rest.partition("\n")[0]]
            passage = max((p for p in known if rest.startswith(p.shown)), key=lambda p: len(p.shown), default=None)
            if passage is None:
                return [*found, rest]
            found.append(_body(passage))
            rest = rest[len(passage.shown) :].removeprefix("\n\n")
        return list(dict.fromkeys(found))


def _asked(example: Example) -> tuple[str, str]:
    return read_open_book(example.question)[1], example.target


def _questions(train: Sequence[tuple[str, str]], held: Sequence[tuple[str, str]], near: float) -> Iterator[Leak]:
    """Near questions with the same answer; a refusal is the answer to very different questions, and does not count."""
    by_answer: defaultdict[str, list[tuple[int, frozenset[str]]]] = defaultdict(list)
    for at, (question, answer) in enumerate(held):
        if not is_learnt_refusal(answer):
            by_answer[_folded(answer)].append((at, frozenset(question_shingles(question))))
    for index, (question, answer) in enumerate(train):
        rivals = by_answer.get(_folded(answer))
        if not rivals:
            continue
        own = frozenset(question_shingles(question))
        for at, other in rivals:
            alike = jaccard(own, other)
            if alike >= near:
                yield Leak(index=index, held=at, similarity=alike, what="question")


def _passages(train: Sequence[Sequence[str]], held: Sequence[Sequence[str]]) -> Iterator[Leak]:
    """Near passages: each example is given as the texts that are read with it, of which any may match."""
    index = _Index(list(dict.fromkeys(text for own in held for text in own)))
    asked: defaultdict[str, list[int]] = defaultdict(list)
    for at, own in enumerate(held):
        for text in own:
            asked[text].append(at)
    found: dict[str, list[tuple[str, float]]] = {}
    for at, own in enumerate(train):
        for text in own:
            if text not in found:
                found[text] = list(index.near(text))
            for other, alike in found[text]:
                for item in asked[other]:
                    yield Leak(index=at, held=item, similarity=alike, what="passage")


class _Index:
    """Held-out texts by their word 5-grams."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.plain = [words_of(text) for text in texts]
        self.sizes = []
        self.homes: defaultdict[int, list[int]] = defaultdict(list)
        for number, text in enumerate(texts):
            pieces = shingles(text)
            self.sizes.append(len(pieces))
            for piece in pieces:
                self.homes[piece].append(number)

    def near(self, text: str) -> Iterator[tuple[str, float]]:
        """Texts that are nearly this one, or stand in it, or in which it stands; with their similarity."""
        pieces = shingles(text)
        plain = words_of(text)
        shared = Counter(number for piece in pieces for number in self.homes.get(piece, ()))
        for number, count in shared.items():
            alike = count / (len(pieces) + self.sizes[number] - count)
            shorter, longer = sorted((plain, self.plain[number]), key=len)
            if alike >= NEAR_PASSAGE or f" {' '.join(shorter)} " in f" {' '.join(longer)} ":
                yield self.texts[number], alike


def _body(passage: Passage) -> str:
    return "\n".join((*passage.headings[-1:], passage.text))


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
