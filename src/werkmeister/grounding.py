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
# unfair. "Not" alone proves nothing ("the batteries are not included" is an answer): either the one who answers does
# not know, or a source does not tell, or there is nothing but "not specified". Gaps are bounded and stay within a
# clause, so that no text makes the search slow.
_CLAUSE = r"(?:(?!\b(?:says?|states?|that|dass)\b)[^.,;:!?]){0,60}?"
_NOT = r"(?:do(?:es)? not|don't|doesn't|did not|didn't|cannot|can not|can't|could not|couldn't)"
_NEIN = r"\b(?:nicht|nichts|keine?|keinen|keinerlei)\b"
_ADVERBS = r"(?:(?:really|explicitly|directly|specifically|clearly|currently|actually|also|further|yet) ){0,2}"
_SOURCE = (
    r"\b(?:documents?|documentation|texts?|passages?|manuals?|contexts?|articles?|excerpts?|sections?|sources?"
    r"|(?:provided|given) information|information (?:provided|given|above))\b"
)
_QUELLE = (
    r"\b(?:dokument\w{0,9}|text(?:es|en|e)?|abschnitt\w{0,2}|passagen?|handb(?:uch|üch)\w{0,3}|anleitung(?:en)?"
    r"|unterlagen|kontext\w{0,2}|auszug\w{0,2}|quellen?|artikel\w?)\b"
)
_TELL = (
    r"(?:say|mention|state|specify|provide|contain|include|tell|give|describe|indicate|list|explain|cover|address"
    r"|answer|have|reveal|discuss|disclose|offer|identify)\b"
)
_TOLD = r"(?:mentioned|stated|specified|described|documented|discussed|disclosed)\b"
_GESAGT = r"(?:erwähnt|genannt|angegeben|spezifiziert|beschrieben|beantwortet|aufgeführt|dokumentiert|erläutert)\b"
_SAGT = (
    r"\b(?:enthält|enthalten|nennt|nennen|erwähnt|erwähnen|sagt|sagen|gibt(?! es)|geben|beschreibt|beschreiben|macht"
    r"|machen|liefert|liefern|verrät|verraten|beantwortet|beantworten|steht|stehen|schweigt)\b"
)
_WISSEN = (
    r"(?:beantworten|sagen|finden|nennen|angeben|entnehmen|bestimmen|beurteilen|helfen|auskunft|antwort"
    r"|information\w{0,2}|angaben?|zugriff)"
)
_INFORMATIONEN = r"(?:(?:näheren|genauen|weiteren|konkreten) )?(?:angaben?|information(?:en)?|hinweise?|antwort)\b"
_OWN_WORDS = (
    # The one who answers does not know.
    rf"\bi {_NOT} {_ADVERBS}(?:know|find|answer|determine|provide|tell|say|see|have|give|locate|identify|assist)\b",
    rf"\bwe {_NOT} {_ADVERBS}know\b|\bi(?: am|'m) (?:not able|unable|not sure|not certain|not aware)\b",
    r"\bich weiss (?:(?:es|das|leider|auch) ){0,3}nicht\b|\bweiss ich (?:leider )?nicht\b|\bich weiss nichts\b",
    rf"\b(?:ich|dazu|darüber|hierzu)\b[^.;:!?]{{0,80}}?{_NEIN}[^.;:!?]{{0,40}}?\b{_WISSEN}\b",
    r"\bdazu kann ich\b[^.;:!?]{0,20}nichts\b",
    # A source does not tell.
    rf"{_SOURCE}{_CLAUSE}\b{_NOT} {_ADVERBS}{_TELL}",
    rf"{_SOURCE}{_CLAUSE}\b(?:lacks?|ha(?:s|ve)|contains?|gives?|provides?|makes?|includes?) no "
    r"(?:\w+ ){0,2}(?:information|mention|answers?|details?|data|reference|indication)\b",
    rf"\b(?:is|are|was|were)(?: not|n't) {_ADVERBS}{_TOLD}",
    r"\bnot (?:given|included|available|found|listed|contained|covered|present|clear|known|provided|answered|possible) "
    rf"{_CLAUSE}\b(?:in|by|from) {_CLAUSE}{_SOURCE}",
    r"\bthere(?: is|'s| was| are) (?:no|not enough|insufficient) "
    r"(?:\w+ ){0,2}(?:information|mention|details?|indication|reference)\b",
    r"\bno (?:\w+ )?(?:information|mention|details?|indication)s? (?:is |are |was |were )?"
    r"(?:about|on|regarding|concerning|given|provided|available|found|whether)\b",
    r"\b(?:not enough|insufficient|without more|without further) (?:information|context|details)\b",
    r"\bquestion (?:cannot|can't|can not|could not) be answered\b|\b(?:cannot|can't|can not) be "
    rf"(?:answered|determined|inferred|found|derived|known) {_CLAUSE}\b(?:from|based|with|in) {_CLAUSE}{_SOURCE}",
    r"\b(?:not possible|impossible) to (?:say|tell|answer|know|determine)\b",
    rf"{_QUELLE}{_CLAUSE}{_SAGT}{_CLAUSE}{_NEIN}|{_QUELLE}{_CLAUSE}{_NEIN}{_CLAUSE}\b(?:hervor|entnehmen|ableiten)\b",
    rf"\b(?:wird|werden|ist|sind|wurden?)\b{_CLAUSE}\bnicht (?:\w{{3,12}} ){{0,2}}{_GESAGT}",
    rf"\b(?:steht|stehen|findet|finden|geht|lässt)\b{_CLAUSE}{_NEIN}{_CLAUSE}\b(?:im|in|aus)\b{_CLAUSE}{_QUELLE}",
    rf"\b(?:es gibt|gibt es|es liegen|liegen|es sind|finden sich|fehlen|habe ich)\b{_CLAUSE}{_NEIN} {_INFORMATIONEN}",
    rf"\bfrage\b{_CLAUSE}\b(?:kann|lässt sich)\b{_CLAUSE}{_NEIN}{_CLAUSE}\bbeantworte[nt]\b",
    r"\bnicht genug (?:informationen|angaben|kontext)\b|\bnicht genügend (?:informationen|angaben|kontext)\b",
)
_BARE = (
    r"(?:the answer is |(?:this|that|it) is |das ist |die antwort ist |answer: |antwort: )?"
    r"(?:unknown|unanswerable|n/?a|(?:i )?(?:do not|don't) know|i have no idea|no (?:answer|information|mention|idea)"
    r"|not (?:\w{5,10} )?(?:specified|mentioned|stated|given|known|answerable|indicated|described|answered|disclosed)"
    r"|unbekannt|k\. ?a\.?|weiss nicht|dazu steht (?:dort |hier |da )?nichts"
    r"|nicht (?:\w{5,10} )?(?:angegeben|bekannt|erwähnt|genannt|spezifiziert|beschrieben|beantwortbar)"
    r"|keine (?:\w{5,10} )?(?:angaben?|information(?:en)?|antwort|ahnung)(?: verfügbar| vorhanden| dazu| gefunden)?)"
    r"(?: (?:in|by|im|in den|aus) (?:the |dem |den |der )?\w{1,20}(?: \w{1,20})?)?"
)
_ABSTAINING = re.compile("|".join(f"(?:{words})" for words in _OWN_WORDS))
_ONLY = re.compile(_BARE)
# "If the value is not specified, 50 is used" tells; "it is not mentioned, but usually 50" tells as well.
_CONDITION = re.compile(r"\b(?:if|when|unless|until|whenever|wenn|falls|sofern|solange|where)\b")
_TURN = re.compile(
    r"\b(?:but|however|typically|usually|generally|probably|likely|assume|nevertheless|instead|aber|jedoch|allerdings"
    r"|normalerweise|üblicherweise|wahrscheinlich|vermutlich|stattdessen|in der regel|meist)\b"
)
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
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


def read_open_book(message: str) -> tuple[str, str]:
    """The inverse of `open_book`: the passages as the message shows them, and the question.

    The passages are "" when the message is no open-book question. A question that itself holds a blank line and the
    label of a question is read from there on.
    """
    for documents, asked in _LABELS.values():
        shown, label, question = message.rpartition(f"\n\n{asked}: ")
        if label and shown.startswith(f"{documents}:\n"):
            return shown.removeprefix(f"{documents}:\n"), question
    return "", message


def refusal(language: str) -> str:
    """The sentence with which an expert abstains."""
    return REFUSALS.get(language, REFUSALS["en"])


def is_learnt_refusal(text: str) -> bool:
    """Whether a text is one of the learnt refusals and nothing else: what the target of an unanswerable question is."""
    return _folded(text).rstrip(".") in {_folded(sentence).rstrip(".") for sentence in REFUSALS.values()}


def is_refusal(answer: str) -> bool:
    """Whether an answer abstains: it begins with a learnt refusal, or says in words of its own that it cannot tell.

    Own words count where they open the answer (its first sentence, or all of it up to 200 characters) and no turn to
    an answer follows ("it is not mentioned, but usually 5 bar"). English and German.
    """
    text = _folded(answer)
    if any(text.startswith(_folded(sentence).rstrip(".")) for sentence in REFUSALS.values()):
        return True
    head = text
    if len(text) > _SHORT:
        end = _SENTENCE_END.search(text, 0, _SHORT)
        head = text[: end.start()] if end else ""
    if _ONLY.fullmatch(head.strip(" .!\"'()*-")):
        return True
    for found in _ABSTAINING.finditer(head):
        clause = re.split(r"[.;:!?]", head[: found.start()])[-1]
        if not _CONDITION.search(clause) and not _TURN.search(text, found.end()):
            return True
    return False


def own_words() -> dict[str, str]:
    """The patterns by which `is_refusal` knows a refusal in words of its own, for who does the same in another
    language: `telling` it, `only` that and nothing else, and the `condition` before or `turn` behind that undoes it."""
    found = {"telling": _ABSTAINING, "only": _ONLY, "condition": _CONDITION, "turn": _TURN}
    return {name: pattern.pattern for name, pattern in found.items()}


def _folded(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    return " ".join(plain.casefold().split())
