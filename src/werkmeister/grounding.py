"""Open-book questions and refusals: the one form in which passages are put before a question, in training and in use.

A model answers from the passages when it was trained to, and only in the form in which it was trained. So dataset,
exam and the answering expert all build the prompt here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from werkmeister.passage import Passage

REFUSALS = {
    "en": "The documents do not say.",
    "de": "Das steht nicht in den Dokumenten.",
}
"""The learnt refusal by language; English stands in for a language that has none."""

_LABELS = {"en": ("Documents", "Question"), "de": ("Dokumente", "Frage")}

# A base was never taught our sentence; what it says in its own words counts as abstaining too, or the comparison is
# unfair. Short answers alone: a long one that says somewhere "not mentioned" has answered.
_ABSTAINING = re.compile(
    r"(?:do(?:es)? not|don't|doesn't) (?:say|mention|state|specify|provide|contain|include|tell)"
    r"|(?:is|are|was) not (?:mentioned|stated|specified|given|provided|included|available|found)"
    r"|(?:cannot|can't|could not|unable to) (?:answer|be answered|find|determine)"
    r"|no (?:information|mention|answer)|(?:i do not|i don't) know|not enough information"
    r"|steht nicht in|nicht (?:angegeben|erwähnt|genannt|enthalten|beschrieben|bekannt)|keine (?:angabe|information)"
    r"|(?:kann|lässt sich) .{0,40}nicht (?:beantworte[nt]|finden)|weiß ich nicht",
)
_SHORT = 200


def open_book(question: str, passages: Sequence[Passage], language: str = "en") -> str:
    """The user message of an open-book question: the passages as they are served, then the question.

    Without passages it is the bare question (closed-book).
    """
    if not passages:
        return question
    documents, asked = _LABELS.get(language, _LABELS["en"])
    shown = "\n\n".join(passage.shown for passage in passages)
    return f"{documents}:\n{shown}\n\n{asked}: {question}"


def refusal(language: str) -> str:
    """The sentence with which an expert abstains."""
    return REFUSALS.get(language, REFUSALS["en"])


def is_refusal(answer: str) -> bool:
    """Whether an answer abstains: it begins with a learnt refusal, or is short and says so in words of its own."""
    text = " ".join(unicodedata.normalize("NFKC", answer).casefold().split())
    if any(text.startswith(sentence.casefold().rstrip(".")) for sentence in REFUSALS.values()):
        return True
    return len(text) <= _SHORT and _ABSTAINING.search(text) is not None
