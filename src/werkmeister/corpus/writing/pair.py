"""Pairs: a question, its answer and the evidence for it, as a writer makes them, and the seam Writer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from werkmeister.corpus.documents.document import Document
from werkmeister.passage import Passage

PROMPT = "prompt"
"""The kind of a distilled pair: no passage supports it, so what needs one is not asked of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A question that a passage answers (or, where `answerable` is False, does not), with the evidence.

    `question` stands on its own: it names the thing that it asks about, so that it can be asked without the passage.
    `evidence` is quoted verbatim from the passage and found at [`start`, `end`) of the *document's* text; it is empty
    for what is not answerable. `kind` is the shape it came from (definition, parameter, procedure, troubleshooting,
    faq, glossary, table, teacher, unanswerable, prompt); `fact` names the fact asked for: pairs that ask the same in
    different forms share it. `writer` names the writer and its version; `language` is a two-letter code. `loose` asks
    the same as people do who have the passage's thing before them, "" where the writer has no such form: it leans on
    the passage, and is asked with it alone.
    """

    question: str
    answer: str
    document: str
    passage: str
    evidence: str
    start: int
    end: int
    kind: str
    writer: str
    language: str
    fact: str = ""
    answerable: bool = True
    loose: str = ""

    @property
    def id(self) -> str:
        """Sixteen hex digits of document, question and answer: a person's decision on it outlives a new cutting.

        Where the pair is not answerable, of its passage too: the answer is always the refusal, and the same question
        may be put to several passages of a document.
        """
        told = [self.document, self.question, self.answer, *(() if self.answerable else (self.passage,))]
        text = json.dumps(told, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def record(self) -> dict[str, Any]:
        """The JSON object that stands on one line of a file of pairs; its `id` stands in front."""
        return {"id": self.id} | asdict(self)


def pair_from_record(record: dict[str, Any]) -> Pair:
    """The inverse of `Pair.record`; raises TypeError for what is none."""
    return Pair(**{key: value for key, value in record.items() if key != "id"})


@dataclass(frozen=True, kw_only=True, slots=True)
class DroppedPair:
    """A pair that a check turned down, and why: `check` is one word for the funnel, `reason` tells the person."""

    pair: Pair
    check: str
    reason: str


class Writer(Protocol):
    """Whoever makes pairs from a document's passages.

    `name` goes into every pair. `key` is a JSON value of all that decides what it writes beside document and passages
    (version, settings, model): what it wrote is remembered under it.
    """

    name: str
    key: Any

    def write(self, document: Document, passages: Sequence[Passage]) -> Iterator[Pair]:
        """Yield the pairs of one document, in order. What a writer finds nothing in, it passes over."""
