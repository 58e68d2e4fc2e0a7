"""Checks of pairs: each turns down what it can prove wrong, and says why in words that a person understands.

One pair at a time (`check_pair`): the evidence stands where it is said to stand, numbers, units and codes of the
answer come from the passage, the answer says something, is whole, and is in its language. All pairs together
(`check_together`): the same question is asked once, and never answered in two ways.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from werkmeister.chat import Example, conversation
from werkmeister.corpus.documents.document import Document
from werkmeister.corpus.documents.language import detect_language
from werkmeister.corpus.shapes import Given
from werkmeister.corpus.writing.families import words_of
from werkmeister.corpus.writing.figures import missing_figures
from werkmeister.corpus.writing.pair import PROMPT, DroppedPair, Pair
from werkmeister.passage import Passage
from werkmeister.progress import Progress

EVIDENCE, NUMBERS, TRIVIAL, TRUNCATED, LANGUAGE, LENGTH, PERSONAL, DUPLICATE, CONFLICT = (
    *("evidence", "numbers", "trivial", "truncated", "language", "length", "personal", "duplicate", "conflict"),
)
CHECKS = (EVIDENCE, NUMBERS, TRIVIAL, TRUNCATED, LANGUAGE, LENGTH, PERSONAL, DUPLICATE, CONFLICT)
"""The words that stand in DroppedPair.check, in the order in which the checks are made."""

LONGEST_QUESTION, LONGEST_ANSWER = 400, 1500
"""In characters. A passage of 256 tokens holds about 1,000, so a longer answer is a copy of it."""

NEAR = 0.9
"""Questions of one passage with the same answer that are this alike (Jaccard, character 5-grams) count as one."""

_SAID = re.compile(r"(?:[<>±≤≥]\s*)?(?:(?<![\w.])[+−-])?\d+(?:[.,]\d+)*\w*|\w+")
_EMPTY = (
    "the a an of to and or is are it this that these those be by for with as at "
    "der die das den dem des ein eine einen einem einer und oder ist sind es dies diese dieser zu von mit für als"
)
_EMPTY_WORDS = frozenset(_EMPTY.split())
_HANGING = re.compile(
    r"(?:[,;:(\[{/–—-]|\.\.\.|…"
    r"|\b(?:and|or|the|a|an|of|with|to|und|oder|der|die|das|ein|eine|von|mit|zu|bzw|e\.g|z\.b))\s*$",
    re.IGNORECASE,
)
_FINISHED = re.compile(r"[.!?:;…\"'”’»)\]|*`]\s*$")
_SENTENCE = 8
_TELLING = 60
_QUOTED = 0.7
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_LISTED = re.compile(r"^\s*(?:\(?\w{1,2}[.)]|[-*•])\s+", re.MULTILINE)
_FACES = re.compile(r"(?<!\S)[:;]-?[()](?!\S)")
# A value may be the same small number as one in the question ("parameter 1 … is value 1"), and still tells something.
_SHORT_NUMBER = re.compile(r"\d{1,3}")
_ASKING = {
    "en": re.compile(r"^(?:what|which|how|when|where|who|whose|why|does|do|is|are|can|must|should)\b", re.IGNORECASE),
    "de": re.compile(
        r"^(?:was(?! the| it)|welche[rsmn]?|wie|wann|wo|womit|wozu|wofür|wodurch|wer|warum|wieso|worauf|woran|wovon"
        r"|ist|sind|kann|muss|soll)\b",
        re.IGNORECASE,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Together:
    """What `check_together` left: pairs in order, a few with their question made unique, and what fell."""

    kept: list[Pair]
    dropped: list[DroppedPair]


def check_pair(
    pair: Pair, document: Document | None, passage: Passage | None, personal: str = "flag"
) -> DroppedPair | None:
    """The first check that a pair fails, None when it passes them all.

    `document` and `passage` are those that the pair names; both are None for a distilled prompt alone. `personal` is
    "drop" where pairs with personal data are to fall; otherwise `flags_of` marks them and they stay.
    """
    found = next(_objections(pair, document, passage, personal), None)
    return DroppedPair(pair=pair, check=found[0], reason=found[1]) if found else None


def flags_of(pair: Pair) -> list[str]:
    """What a person should look at: "personal: e-mail" and the like, from question, answer and evidence."""
    from werkmeister.governing.personal import find_personal

    text = "\n".join((pair.question, pair.answer, pair.evidence))
    return sorted({f"personal: {kind}" for kind, _, _ in find_personal(text, pair.language)})


def check_together(pairs: Sequence[Pair], titles: Mapping[str, str], progress: Progress) -> Together:
    """Leave out repeated and near-repeated questions, and settle questions with more than one answer.

    A question that several documents answer differently is asked of each by its title (`titles`: document → title);
    where the titles do not tell them apart, all of its answers are dropped. Of answers where one says what the other
    says and more, and of equal ones, the first is kept.
    """
    kept, dropped = _one_answer(pairs, titles)
    given = [Given(_bare(pair, index)) for index, pair in enumerate(kept)]
    from werkmeister.corpus.duplicates import drop_near

    _, near = drop_near(given, NEAR, progress)
    for one in near:
        pair, twin = kept[int(one.example.source)], kept[int(one.kept)]
        reason = f"nearly the same question with the same answer: {twin.question!r}"
        dropped.append(DroppedPair(pair=pair, check=DUPLICATE, reason=reason))
    gone = {int(one.example.source) for one in near}
    return Together(kept=[pair for index, pair in enumerate(kept) if index not in gone], dropped=dropped)


def _objections(
    pair: Pair, document: Document | None, passage: Passage | None, personal: str
) -> Iterator[tuple[str, str]]:
    if pair.kind != PROMPT:
        yield from ((EVIDENCE, reason) for reason in _evidence(pair, document, passage))
        if document is not None and passage is not None and pair.answerable:
            source = f"{passage.shown}\n{document.title}\n{pair.question}"
            missing = missing_figures(_LISTED.sub("", pair.answer), source)
            if missing:
                yield NUMBERS, f"not in the passage: {', '.join(missing)}"
    yield from ((TRIVIAL, reason) for reason in _trivial(pair))
    yield from ((TRUNCATED, reason) for reason in _truncated(pair, document))
    yield from ((LANGUAGE, reason) for reason in _language(pair))
    yield from ((LENGTH, reason) for reason in _length(pair))
    if personal == "drop":
        yield from ((PERSONAL, f"holds personal data ({flag.partition(': ')[2]})") for flag in flags_of(pair))


def _evidence(pair: Pair, document: Document | None, passage: Passage | None) -> Iterator[str]:
    if document is None or passage is None:
        yield f"there is no passage {pair.passage} of {pair.document}"
        return
    if not pair.answerable:
        if pair.evidence:
            yield "the question is not answerable, and yet evidence is quoted"
        return
    if not pair.evidence.strip():
        yield "no evidence is quoted"
    elif document.text[pair.start : pair.end] != pair.evidence:
        yield f"the quoted words do not stand at characters {pair.start} to {pair.end} of {pair.document}"
    elif not (passage.start <= pair.start and pair.end <= passage.end):
        yield f"the quoted words lie outside the passage ({passage.start} to {passage.end})"


def _trivial(pair: Pair) -> Iterator[str]:
    question, answer = words_of(pair.question), words_of(pair.answer)
    said = [word for word in answer if word not in _EMPTY_WORDS]
    if not question:
        yield "the question is empty"
    elif not answer and not any(unicodedata.category(letter)[0] in "SN" for letter in pair.answer):
        yield "the answer is empty"
    elif answer and not said:
        yield f"the answer {pair.answer!r} says nothing"
    elif said and set(said) <= set(question) and not any(_SHORT_NUMBER.fullmatch(word) for word in said):
        yield "the answer only repeats words of the question"


def _truncated(pair: Pair, document: Document | None) -> Iterator[str]:
    answer = pair.answer.strip()
    if pair.kind != PROMPT and _HANGING.search(answer) and words_of(answer) and not _ends_so(pair, document):
        yield f"the answer breaks off: …{answer[-30:]!r}"
    unbalanced = _unbalanced(answer)
    if unbalanced:
        yield f"{unbalanced} stands without its partner in the answer"
    if document is None or not pair.evidence:
        return
    text, start, end = document.text, pair.start, pair.end
    if start > 0 and text[start - 1].isalnum() and text[start : start + 1].isalnum():
        yield "the evidence begins in the middle of a word"
    if text[end - 1 : end].isalnum() and text[end : end + 1].isalnum():
        yield "the evidence ends in the middle of a word"
    elif _is_cut_sentence(answer, pair.evidence) and re.match(r" [a-zäöüß]", text[end:]):
        yield f"the answer ends in the middle of a sentence, before {text[end : end + 20].strip()!r}"


def _is_cut_sentence(answer: str, evidence: str) -> bool:
    """Whether a quoted answer is long enough for a sentence and has no end; a value or a name needs none."""
    long = len(answer.split()) >= _SENTENCE
    return long and evidence.rstrip().endswith(answer) and not _FINISHED.search(answer)


def _ends_so(pair: Pair, document: Document | None) -> bool:
    """Whether the document itself ends its line with the dots that the answer ends with ("10, 20, …")."""
    answer = pair.answer.rstrip()
    if document is None or not answer.endswith(("...", "…")) or not pair.evidence.rstrip().endswith(answer[-3:]):
        return False
    return document.text[pair.end : pair.end + 1] in ("", "\n")


def _unbalanced(text: str) -> str:
    """The first bracket without its partner, "" when all have one; list markers such as "a)" and faces do not count."""
    plain = _FACES.sub("", _LISTED.sub("", text))
    plain = re.sub(r"(?<![\w(])\w{1,2}\)", "", plain) if plain.count(")") > plain.count("(") else plain
    waiting: list[str] = []
    for letter in plain:
        if letter in "([{":
            waiting.append(letter)
        elif letter in _BRACKETS and (not waiting or waiting.pop() != _BRACKETS[letter]):
            return letter
    return waiting[0] if waiting else ""


def _language(pair: Pair) -> Iterator[str]:
    begins = (pair.question.strip(), pair.question.partition(": ")[2].strip())
    forms = (code for code, form in _ASKING.items() if any(form.match(words) for words in begins))
    asked = next(forms, "") or _told_language(pair.question)
    if asked and pair.language and asked != pair.language:
        yield f"the question is in {asked}, and {pair.language} was asked for"
    # Quoted words are in the document's language, whatever language the question is in.
    said, there = words_of(pair.answer), set(words_of(pair.evidence))
    quoted = sum(word in there for word in said) >= _QUOTED * len(said)
    answered = "" if quoted else _told_language(pair.answer)
    if answered and pair.language and answered != pair.language:
        yield f"the answer is in {answered}, and {pair.language} was asked for"


def _told_language(text: str) -> str:
    """The language of a text; of a short one only where it is one of those that questions are asked in.

    In few words the stop words of one language turn up by chance in another's ("a", "do", "on").
    """
    found = detect_language(text)
    return found if found in _ASKING or len(text.split()) >= _TELLING else ""


def _length(pair: Pair) -> Iterator[str]:
    for what, text, most in (("question", pair.question, LONGEST_QUESTION), ("answer", pair.answer, LONGEST_ANSWER)):
        if len(text) > most and pair.kind != PROMPT:
            yield f"the {what} has {len(text)} characters, more than {most}"


def _one_answer(pairs: Sequence[Pair], titles: Mapping[str, str]) -> tuple[list[Pair], list[DroppedPair]]:
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        groups[_plain(pair.question)].append(index)
    kept: dict[int, Pair] = {}
    dropped: dict[int, DroppedPair] = {}
    for members in groups.values():
        _settle([(index, pairs[index]) for index in members], titles, kept, dropped)
    return [kept[index] for index in sorted(kept)], [dropped[index] for index in sorted(dropped)]


def _settle(
    same: Sequence[tuple[int, Pair]], titles: Mapping[str, str], kept: dict[int, Pair], dropped: dict[int, DroppedPair]
) -> None:
    """Decide about all pairs that ask the same question."""
    distinct: list[tuple[int, Pair]] = []
    for index, pair in same:
        twin = next((other for _, other in distinct if _agree(pair.answer, other.answer)), None)
        if twin is None:
            distinct.append((index, pair))
        else:
            where = "" if twin.passage == pair.passage else f" ({twin.document})"
            reason = f"the same question has this answer already: {twin.answer[:80]!r}{where}"
            dropped[index] = DroppedPair(pair=pair, check=DUPLICATE, reason=reason)
    if len(distinct) > 1:
        named = [(index, _titled(pair, titles.get(pair.document, ""))) for index, pair in distinct]
        if len({_plain(pair.question) for _, pair in named}) == len(named):
            distinct = named
        else:
            for index, pair in distinct:
                other = next(other for at, other in distinct if at != index)
                reason = f"answered in another way by {other.document}: {other.answer[:80]!r}"
                dropped[index] = DroppedPair(pair=pair, check=CONFLICT, reason=reason)
            return
    kept.update(distinct)


def _titled(pair: Pair, title: str) -> Pair:
    return replace(pair, question=f"{title}: {pair.question}") if title else pair


def _agree(left: str, right: str) -> bool:
    """Whether two answers say the same: equal, or one holds all the words of the other in one piece."""
    one, other = sorted((f" {_plain(left)} ", f" {_plain(right)} "), key=len)
    return one in other if one.strip() else one == other


def _bare(pair: Pair, index: int) -> Example:
    return Example(
        prompt=conversation(pair.question), target=pair.answer, source=str(index), passage=pair.passage or pair.id
    )


def _plain(text: str) -> str:
    """Words and figures alone, folded; of a text without any, the text as it is.

    A figure keeps its sign and its separators: -9 is not 9, 4.5 not 4 5, and < 5 not > 5.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(match.replace(" ", "") for match in _SAID.findall(folded)) or text.strip()
