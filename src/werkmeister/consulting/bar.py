"""The bar of a library: how well a passage must fit a question before the documents count as telling anything.

It is calibrated on the documents themselves, without a model. A question made of a passage's own title and heading
is answerable; the same question asked of the library without that document is not (its best passage then is the
best wrong one). A person asks in other words than the documents: so a third of the heading's words, by chance, are
replaced by words that no document has. The bar is set so that no more than a chosen share
of the answerable questions falls below it, and what it then refuses of the others is measured and told. What it cannot
see is a question about a known thing that its document does not tell of: there the expert has to abstain.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from werkmeister.consulting.words import words
from werkmeister.passage import Passage
from werkmeister.progress import Progress

if TYPE_CHECKING:
    from werkmeister.consulting.library import SqliteLibrary

_QUESTIONS = 300
_REPLACED = 1 / 3
_SEED = 0


Found = tuple[float, float | None]
"""Coverage and similarity of the best passage for a question."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Below it the documents do not tell: the best passage has less than `coverage` and less than `similarity`.

    `foreign` is the similarity that is enough for a question in another language than the documents. `off`: every
    question is put to the expert, whatever was found.
    """

    coverage: float = 0.0
    similarity: float | None = None
    foreign: float | None = None
    off: bool = False

    def passes(self, coverage: float, similarity: float | None, *, foreign: bool = False) -> bool:
        """Whether a question is answered from a passage.

        A question in another language than the documents (`foreign`) shares hardly a word with them, whatever they
        tell: meaning decides on it alone, and without vectors nothing is known against it.
        """
        if self.off:
            return True
        enough = self.foreign if foreign else self.similarity
        if enough is None or similarity is None:
            return foreign or coverage >= self.coverage
        return similarity >= enough or (not foreign and coverage >= self.coverage)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A bar, and what it does: shares of `questions` answerable ones and as many unanswerable ones that it refuses."""

    bar: Bar
    questions: int
    refused_answerable: float
    refused_unanswerable: float

    def bar_facts(self) -> dict[str, Any]:
        """The bar as the library's file keeps it."""
        return asdict(self.bar)

    def record(self) -> dict[str, Any]:
        """All of it as JSON."""
        return self.bar_facts() | {
            "questions": self.questions,
            "refused_answerable": round(self.refused_answerable, 4),
            "refused_unanswerable": round(self.refused_unanswerable, 4),
        }

    def words(self) -> str:
        """What a person should know of it."""
        if not self.questions:
            return "every question is put to the expert" if self.bar.off else "the bar could not be calibrated"
        return (
            f"below the bar {self.refused_unanswerable:.0%} of {self.questions} questions without their document are "
            f"refused, and {self.refused_answerable:.0%} of those with it"
        )


def calibrate(library: SqliteLibrary, refused: float, progress: Progress) -> Calibration:
    """Set the bar of a library so that about `refused` of the answerable questions fall below it.

    `refused` 0 puts every question to the expert; a library of one document refuses those that it shares no word with.
    """
    if not refused or len(library.documents) < 2:
        return Calibration(bar=Bar(off=not refused), questions=0, refused_answerable=0.0, refused_unanswerable=0.0)
    chance = random.Random(_SEED)
    numbers = chance.sample(range(library.count), min(_QUESTIONS, library.count))
    told: list[Found] = []
    untold: list[Found] = []
    with progress.track("calibrate the bar", len(numbers)) as track:
        for number in numbers:
            passage = library.passage(number)
            question = _question(passage, chance)
            if question:
                others = [name for name in library.documents if name != passage.document]
                told.append(_best(library, question, ()))
                untold.append(_best(library, question, others))
            track.advance(1)
    bar = _bar(told, untold, refused, library.embedder.foreign if library.embedder else 0.0)
    return Calibration(
        bar=bar,
        questions=len(told),
        refused_answerable=_below(bar, told),
        refused_unanswerable=_below(bar, untold),
    )


def _question(passage: Passage, chance: random.Random) -> str:
    heading = passage.headings[-1] if passage.headings else passage.text[:80]
    said = [word if chance.random() >= _REPLACED else "".join(chance.choices("qxjzkv", k=7)) for word in words(heading)]
    return " ".join((passage.title, *said))


def _best(library: SqliteLibrary, question: str, documents: Sequence[str]) -> Found:
    hits = library.search(question, limit=3, documents=documents)
    similar = [hit.similarity for hit in hits if hit.similarity is not None]
    return max((hit.coverage for hit in hits), default=0.0), max(similar, default=None)


def _bar(told: Sequence[Found], untold: Sequence[Found], refused: float, foreign: float) -> Bar:
    """The highest coverage that refuses no more than its share of what is told, and the similarity above which hardly
    anything lies that is not."""
    if not told:
        return Bar()
    coverage = sorted(one for one, _ in told)[int(refused * len(told))]
    similar = sorted(one for _, one in told if one is not None)
    if not similar:
        return Bar(coverage=coverage)
    low = similar[int(refused * len(similar))]
    wrong = sorted(one for _, one in untold if one is not None)
    high = wrong[int((1 - refused) * (len(wrong) - 1))] if wrong else low
    return Bar(coverage=coverage, similarity=max(low, high), foreign=low - foreign)


def _below(bar: Bar, found: Sequence[Found]) -> float:
    return sum(not bar.passes(*one) for one in found) / len(found) if found else 0.0
