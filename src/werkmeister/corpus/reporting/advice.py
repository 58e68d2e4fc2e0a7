"""Whether fine-tuning, retrieval or both will help, from what can be counted in the data; the exam decides.

What the rules rest on (thresholds are rules of thumb; each sentence tells the numbers that it follows from):

- *Facts are not learnt by heart from a few examples.* A model can recall a fact only when it met it in many wordings
  (Allen-Zhu & Li 2023, "Physics of Language Models: Part 3.1"), retrieval beats fine-tuning at bringing in knowledge
  (Ovadia et al. 2023, "Fine-Tuning or Retrieval?"), and examples of facts that a model does not know teach it to guess
  (Gekhman et al. 2024, "Does Fine-Tuning LLMs on New Knowledge Encourage Hallucinations?"). So many facts with few
  examples each speak for retrieval, and so do answers that are numbers and codes, where near is wrong, and documents
  that differ in details alone, which a memory mixes up. A document that changes need only be indexed anew.
- *Form is learnt from few examples*: about a thousand good ones (Zhou et al. 2023, "LIMA"). Answering from a passage,
  in the person's words and length, and abstaining are forms. So is a task with few distinct answers (a class, a code).
- *A text that fits into the prompt* needs neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

ENOUGH = 200
"""Examples of a form from which an effect is to be expected; others took about a thousand."""
FEW = 100
"""Below this many examples to learn from, no training is advised."""
WORDINGS = 10
"""Examples of a fact from which recall by heart is conceivable."""
MANY_FACTS = 100
EXACT = 0.3
"""Share of answers with a number or code from which being near is taken to be of no use."""
FAMILIES = 0.8
"""Groups a document below which the documents are taken for variants of one another."""
ABSTAIN = (0.05, 0.5)
A_CLASS = 20
"""Examples a class from which a task with few answers is taken to be learnable."""

RETRIEVAL, TUNING, PROMPT, BOTH, NEITHER = "retrieval", "fine-tuning", "prompt", "both", "more examples"


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What the advice follows from. Examples are those of train: `with_passage`, `from_memory` and `unanswerable` were
    made from documents, `brought` are the rest (files, prompts), of which `classes` are labels with `a_class` examples
    in the smallest. `facts` are distinct facts of the documents, `answers` the answerable pairs, `exact` those whose
    answer holds a digit. `tokens` is the length of all documents, `context` that of the base; `passages` and `covered`
    count passages and those a pair comes from. `groups` are families of documents."""

    train: int
    exam: int
    with_passage: int = 0
    from_memory: int = 0
    unanswerable: int = 0
    brought: int = 0
    classes: int = 0
    a_class: int = 0
    documents: int = 0
    groups: int = 0
    facts: int = 0
    answers: int = 0
    exact: int = 0
    tokens: int = 0
    context: int = 0
    passages: int = 0
    covered: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """One rule that applies: what it speaks for ("" for a caution), and why, with the numbers."""

    speaks_for: str
    because: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """`verdict` is retrieval, fine-tuning, both, prompt or more examples; `sentence` says it to a person."""

    verdict: str
    sentence: str
    reasons: tuple[Reason, ...]
    cautions: tuple[str, ...]


def advise(counts: Counts) -> Advice:
    """Apply every rule of this module's page to the counts."""
    found = [reason for rule in _RULES for reason in rule(counts)]
    reasons = tuple(reason for reason in found if reason.speaks_for)
    verdict = _verdict({reason.speaks_for for reason in reasons}, counts)
    cautions = tuple(reason.because for reason in found if not reason.speaks_for)
    return Advice(verdict=verdict, sentence=_SENTENCES[verdict], reasons=reasons, cautions=cautions)


_SENTENCES = {
    BOTH: "Both: retrieval finds the passage, and a model fine-tuned on these examples answers from it.",
    RETRIEVAL: "Retrieval: put the passages before a capable model; fine-tuning on these examples is worth little.",
    TUNING: "Fine-tuning: what is to be learnt here is a form or a task, and these examples show it.",
    PROMPT: "Put the documents into the prompt: they fit, so neither retrieval nor learning them by heart is needed.",
    NEITHER: "More examples first: there are too few here to learn from, or to measure what was learnt.",
}


def _verdict(speaks: set[str], counts: Counts) -> str:
    if PROMPT in speaks:
        return PROMPT
    if counts.train < FEW:
        return RETRIEVAL if RETRIEVAL in speaks else NEITHER
    if {RETRIEVAL, TUNING} <= speaks:
        return BOTH
    return next((name for name in (RETRIEVAL, TUNING) if name in speaks), NEITHER)


def _fits(c: Counts) -> Iterator[Reason]:
    if c.documents and 0 < c.tokens <= c.context // 2:
        yield Reason(
            speaks_for=PROMPT,
            because=f"all documents together have {c.tokens:,} tokens, and the base reads {c.context:,} at once",
        )


def _facts(c: Counts) -> Iterator[Reason]:
    if not c.facts:
        return
    each = c.answers / c.facts
    said = f"{c.facts:,} facts with {each:.1f} examples each"
    if c.facts >= MANY_FACTS and each < WORDINGS:
        yield Reason(
            speaks_for=RETRIEVAL,
            because=f"there are {said}: by heart a model learns a fact from many wordings alone (here: {WORDINGS} and"
            " more), and a passage that is shown tells it at once, also after the document has changed",
        )
    elif each >= WORDINGS:
        yield Reason(
            speaks_for=TUNING, because=f"there are {said}: in that many wordings a model may learn them by heart"
        )


def _exact(c: Counts) -> Iterator[Reason]:
    if c.answers and c.exact / c.answers >= EXACT:
        yield Reason(
            speaks_for=RETRIEVAL,
            because=f"{c.exact:,} of {c.answers:,} answers ({c.exact / c.answers:.0%}) hold a number or code: near is"
            " wrong there, and memory is only near",
        )


def _variants(c: Counts) -> Iterator[Reason]:
    if c.groups and c.documents > 1 and c.groups < FAMILIES * c.documents:
        yield Reason(
            speaks_for=RETRIEVAL,
            because=f"{c.documents:,} documents are variants of {c.groups:,}: by heart a model mixes up what differs in"
            " details alone",
        )


def _from_passage(c: Counts) -> Iterator[Reason]:
    if c.with_passage >= ENOUGH:
        yield Reason(
            speaks_for=TUNING,
            because=f"{c.with_passage:,} examples with a passage teach to answer from it, in their form and length",
        )
    elif c.documents:
        yield _caution(
            f"{c.with_passage:,} examples with their passage are few to learn from ({ENOUGH} and more): add documents,"
            " question forms, or a teacher"
        )


def _abstaining(c: Counts) -> Iterator[Reason]:
    asked = c.with_passage + c.unanswerable
    if not c.documents or not asked:
        return
    share = c.unanswerable / asked
    told = f"{c.unanswerable:,} of {asked:,} examples with a passage ({share:.0%}) are unanswerable"
    low, high = ABSTAIN
    if share < low:
        yield _caution(f"{told}: too few to learn to abstain; raise write.unanswerable, or the expert invents")
    elif share > high:
        yield _caution(f"{told}: too many; an expert that learns this refuses what it could answer")
    elif c.unanswerable >= ENOUGH // 4:
        yield Reason(speaks_for=TUNING, because=f"{told}, which teaches to abstain instead of inventing")


def _by_heart(c: Counts) -> Iterator[Reason]:
    if c.from_memory and c.facts and c.answers / c.facts < WORDINGS:
        yield _caution(
            f"{c.from_memory:,} examples ask from memory: they may teach to guess, and no exam can ask held-out"
            " documents so; write.open_book = 1.0 leaves them out"
        )


def _brought(c: Counts) -> Iterator[Reason]:
    if not c.brought:
        return
    if c.classes > 1:
        told = f"{c.brought:,} examples in {c.classes:,} classes, {c.a_class:,} in the smallest"
        if c.a_class >= A_CLASS:
            yield Reason(speaks_for=TUNING, because=f"{told}: a task with few answers is learnt from examples")
        else:
            yield _caution(f"{told}: classes with fewer than {A_CLASS} are hardly learnt")
        yield _caution("a plain lookup of the most similar example may do as well on classes: the exam compares both")
    elif c.brought >= ENOUGH:
        yield Reason(
            speaks_for=TUNING,
            because=f"{c.brought:,} examples that you brought show the form of the answers, and there is no document"
            " to look it up in",
        )
    else:
        yield _caution(f"{c.brought:,} examples that you brought are few to learn from ({ENOUGH} and more)")


def _gaps(c: Counts) -> Iterator[Reason]:
    if c.passages and c.covered / c.passages < 0.5:
        yield _caution(
            f"{c.passages - c.covered:,} of {c.passages:,} passages gave no pair: their reasons stand below; a teacher"
            " writes from running text, where rules find no shape"
        )


def _exam(c: Counts) -> Iterator[Reason]:
    if c.exam < FEW:
        yield _caution(f"the exam has {c.exam:,} examples: its intervals will be wide")


def _caution(words: str) -> Reason:
    return Reason(speaks_for="", because=words)


_RULES: tuple[Callable[[Counts], Iterator[Reason]], ...] = (
    *(_fits, _facts, _exact, _variants, _from_passage, _abstaining, _by_heart, _brought, _gaps, _exam),
)
