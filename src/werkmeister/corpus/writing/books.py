"""Open-book and closed-book examples: how a verified pair is asked in training and in the exam.

Open-book, the question comes with its passage, as retrieval will serve it; closed-book, from memory. A pair is asked in
one way, and the question forms of one fact fall to both. What was never read cannot be known by heart: only documents
in train are asked about from memory, and the exam holds open-book questions alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from werkmeister.chat import Example, conversation
from werkmeister.corpus.shapes import Given
from werkmeister.corpus.writing.families import words_of
from werkmeister.corpus.writing.pair import PROMPT
from werkmeister.grounding import open_book
from werkmeister.passage import Passage

WITH_PASSAGE, FROM_MEMORY, UNANSWERABLE, PROMPTS = "with passage", "from memory", "unanswerable", "prompts"
"""What Example.part says of a written example; PROMPTS are distilled from prompts that the person brought."""


Asked = tuple[str, str]
"""What tells bare examples apart: id and passage. Loose questions on two devices may have the same words and answer."""


def asked_of(example: Example) -> Asked:
    """The key of a bare example."""
    return example.id, example.passage


@dataclass(frozen=True, kw_only=True)
class Books:
    """How pairs are asked: `open_book` share (the rest from memory), `loose` share of these that are asked as people
    do who have the thing before them, `distractors` beside the right passage, `seed`."""

    open_book: float
    loose: float
    distractors: int
    seed: int


def bare_examples(records: Sequence[Mapping[str, Any]], passages: Mapping[str, Passage], books: Books) -> list[Given]:
    """Records of pairs (Pair.record and "group") as examples that hold the question alone; `dress` gives the passages.

    Duplicates, splits and contamination are decided on these, since in a whole open-book prompt every question about
    one passage looks like every other; so the question is already the one that will be asked, loose or not. `source`
    is the passage's place, or the document's name.
    """
    given = []
    for record in records:
        passage = passages.get(record["passage"])
        part = PROMPTS if record["kind"] == PROMPT else WITH_PASSAGE if record["answerable"] else UNANSWERABLE
        example = Example(
            prompt=conversation(_asked(record, passages, books)),
            target=record["answer"],
            group=record["group"],
            part=part,
            source=passage.place if passage else record["document"],
            passage=record["passage"],
            evidence=record["evidence"],
        )
        given.append(Given(example, written=True))
    return given


def _asked(record: Mapping[str, Any], passages: Mapping[str, Passage], books: Books) -> str:
    loose = record["loose"] if record["passage"] in passages else ""
    chance = Random(f"{books.seed} loose {record['passage']} {record['question']}").random()
    return loose if loose and chance < books.loose else record["question"]


def dress(
    splits: Mapping[str, Sequence[Example]],
    passages: Mapping[str, Passage],
    books: Books,
    languages: Mapping[Asked, str],
    careful: Mapping[Asked, str],
) -> dict[str, list[Example]]:
    """The examples of each split as they will be asked; order is kept, and examples that are not written stay.

    `languages` gives the language of a question by `asked_of` its bare example, which decides the words of the prompt,
    and `careful` the question that stands on its own, to be asked from memory.
    Distractors come from passages of the same split alone, so that no text of the exam is read in training; those of
    the same document are preferred for answerable questions, those of other documents for unanswerable ones. None that
    holds the evidence, or that answers the same question, is taken.
    """
    dressing = {name: _Split(name, examples, passages, books, languages, careful) for name, examples in splits.items()}
    return {name: split.dressed() for name, split in dressing.items()}


class _Split:
    """The written examples of one split, and the passages that may stand beside them."""

    def __init__(
        self,
        name: str,
        examples: Sequence[Example],
        passages: Mapping[str, Passage],
        books: Books,
        languages: Mapping[Asked, str],
        careful: Mapping[Asked, str],
    ) -> None:
        self.name, self.examples, self.books = name, examples, books
        self.passages, self.languages, self.careful = passages, languages, careful
        used = dict.fromkeys(example.passage for example in examples if example.passage in passages)
        self.pool = [passages[key] for key in used]
        self.of_document: defaultdict[str, list[Passage]] = defaultdict(list)
        for passage in self.pool:
            self.of_document[passage.document].append(passage)
        self.answering: defaultdict[str, set[str]] = defaultdict(set)
        for example in examples:
            if example.part == WITH_PASSAGE:
                self.answering[_plain(example.question)].add(example.passage)

    def dressed(self) -> list[Example]:
        return [self._dress(example) for example in self.examples]

    def _dress(self, example: Example) -> Example:
        passage = self.passages.get(example.passage)
        if passage is None or example.part not in (WITH_PASSAGE, UNANSWERABLE):
            return example
        random = Random(f"{self.books.seed} books {example.passage} {example.id}")
        by_heart = random.random() >= self.books.open_book
        if by_heart and self.name == "train" and example.part == WITH_PASSAGE:
            careful = self.careful.get(asked_of(example), example.question)
            return replace(example, part=FROM_MEMORY, prompt=conversation(careful))
        served = self._beside(example, passage, random)
        served.insert(random.randint(0, len(served)), passage)
        language = self.languages.get(asked_of(example)) or passage.language
        question = open_book(example.question, served, language)
        return replace(example, prompt=conversation(question))

    def _beside(self, example: Example, passage: Passage, random: Random) -> list[Passage]:
        wanted = self.books.distractors
        if not wanted:
            return []
        near = [other for other in self.of_document[passage.document] if other.id != passage.id]
        random.shuffle(near)
        far = random.sample(self.pool, min(len(self.pool), 8 * wanted))
        far = [other for other in far if other.document != passage.document]
        ordered = [*far, *near] if example.part == UNANSWERABLE else [*near, *far]
        answering = self.answering[_plain(example.question)]
        evidence = _plain(example.evidence)
        fair = [o for o in ordered if o.id not in answering and not (evidence and evidence in _plain(o.text))]
        chosen = fair[:wanted]
        random.shuffle(chosen)
        return chosen


def _plain(text: str) -> str:
    return " ".join(words_of(text))
