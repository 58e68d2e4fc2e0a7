"""Unanswerable questions: real questions put to a passage that provably does not answer them, with the learnt refusal.

An expert that never saw a question without an answer invents one. Made-up questions would be told apart by their form,
so these are questions that the writers asked of another passage: of another section of the same document, or of
another document with the same shapes, with the name of the thing exchanged. That the passage lacks the answer is
proven by rule (`lacks`), not believed.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

from werkmeister.corpus.writing.families import words_of
from werkmeister.corpus.writing.pair import Pair
from werkmeister.corpus.writing.structural.naming import thing_of
from werkmeister.grounding import refusal
from werkmeister.passage import Passage

NAME = "unanswerable v2"
KIND = "unanswerable"

_TRIES = 60
_SISTERS_FIRST = 0.2  # of the anchors are offered questions of other documents before those of their own
_STEM = 5
_ABSENT, _SHARED = 0.6, 0.6
_NAME_PARTS = re.compile(r"\s+[-–—|]\s+|:\s+|,\s+|\s*[()\[\]]\s*")
_SHORTEST_NAME = 4
_NUMBERED = re.compile(r"\b[^\W\d_]+ (?P<code>[^\W\d_]{0,4}\d[\w.]*)(?:\[\w+\])?")
_QUOTED = re.compile(r"[\"“„«](?P<said>[^\"“”„«»]+)[\"“”»]")
_STEP_WORDS = 3  # a quote of so many words in a question about a procedure is a step of it
_TELLING = 4  # letters of a word that gives an answer away where the title holds it
_SHORT_ANSWER = 6  # words of an answer that any of its words gives away
_EMPTY = (
    "the a an of to and or is are it its this that these those be by for with as at on in from into does do did can "
    "could should would will must may i you my your we one what which how when where who why if then than not no "
    "der die das den dem des ein eine einen einem einer eines und oder ist sind es im in am an auf aus bei von vom zu "
    "zum zur mit für als ich man was welche welcher welches welchen wie wann wo wer wozu wofür warum wird werden kann "
    "muss soll sich nicht kein keine dieser diese dieses hat haben gibt"
)
_STOP = frozenset(_EMPTY.split())
_SAME = tuple(
    frozenset(words.split())
    for words in (
        "reset resett factor default zurücks werksei rücks",
        "inclu add adding pair pairi join enrol hinzu anler einbi koppel",
        "exclu remov delet unpair leave entfer ausler lösch",
        "clean wash wipe reini säuber putz",
        "wake wakeu awake aufwa aufwe",
        "error fault alarm failu troub problem fehler stör",
        "insta mount attach assem monti monta einbau befest",
        "warra guara garan gewäh",
        "power suppl volta volt mains strom spann netzt",
        "batte accum akku",
        "weigh gewic",
        "size dimen abmes größe maße",
        "range dista reich entfe",
        "chang repla subst wechs ersetz tausch",
        "open unlock öffne",
        "close lock shut schli verri",
        "start begin launc starte begin",
        "stop halt abort end stopp abbre",
    )
)


@dataclass(frozen=True, kw_only=True)
class Unanswerable:
    """What was made; `wanted` is what the share asked for, and the rest could not be proven."""

    pairs: list[Pair]
    wanted: int
    same_document: int
    sister_document: int


Weight = Callable[[str], float]
"""How much a word tells: the logarithm of its inverse frequency among passages."""


@dataclass(frozen=True)
class _Corpus:
    """What the proof and the choice look things up in."""

    passages: Mapping[str, Passage]
    folded: Mapping[str, str] = field(repr=False)
    weight: Weight = field(repr=False)
    names: Mapping[str, str] = field(repr=False)
    of_document: Mapping[tuple[str, str], Sequence[Pair]] = field(repr=False)
    of_kind: Mapping[tuple[str, str], Sequence[Pair]] = field(repr=False)
    of_fact: Mapping[tuple[str, str], Sequence[Pair]] = field(repr=False)


def write_unanswerable(
    pairs: Sequence[Pair], passages: Mapping[str, Passage], *, share: float, open_book: float, seed: int
) -> Unanswerable:
    """Make unanswerable pairs, so many that they are `share` of all open-book pairs; the same for the same seed.

    `pairs` are verified and answerable, `passages` those that they name. `open_book` is the share of `pairs` that will
    be asked with their passage. A passage gets no more of them than it answers questions, and questions of the kinds
    that it answers, so that neither length nor kind gives away which is which.
    """
    anchors = [pair for pair in pairs if pair.answerable and pair.passage in passages]
    wanted = round(share / (1 - share) * open_book * len(anchors))
    corpus = _corpus(anchors, passages)
    random = Random(f"{seed} unanswerable")
    order = sorted(anchors, key=lambda pair: pair.id)
    random.shuffle(order)
    made: list[Pair] = []
    asked = {(_fold(pair.question), pair.passage) for pair in anchors}
    same = 0
    for anchor in order:
        if len(made) >= wanted:
            break
        found = _unanswered(anchor, corpus, asked, Random(f"{seed} {anchor.id}"))
        if found is None:
            continue
        pair, near = found
        asked.add((_fold(pair.question), pair.passage))
        made.append(pair)
        same += near
    made.sort(key=lambda pair: (pair.document, passages[pair.passage].start, pair.question))
    return Unanswerable(pairs=made, wanted=wanted, same_document=same, sister_document=len(made) - same)


def lacks(asked: Pair, question: str, name: str, passage: str, source: str, weight: Weight) -> bool:
    """Whether a passage provably does not answer a question that another one answers.

    `asked` is the pair that the question comes from, `question` as it will be put, `name` what it calls the thing;
    `passage` and `source` are the folded texts (`Passage.shown`) of the passage and of the one that answers.
    Proven means: neither the evidence nor an answer of several words stands in the passage; of the question's words
    that stand in the source the rarest is absent from the passage, and with it most of their weight; and the passage
    does not share most of the evidence's words. A word is absent when no word of the passage begins like it or means
    the same (a short list of maintenance words in English and German).
    """
    evidence, answer = _fold(asked.evidence), _fold(asked.answer)
    if evidence in passage or (len(answer.split()) > 2 and answer in passage):
        return False
    own = set(_terms(name))
    keys = [term for term in dict.fromkeys(_terms(question)) if term not in own and _stands(term, source)]
    if not keys:
        return False
    absent = [term for term in keys if not _stands(term, passage)]
    heavy = max(keys, key=lambda term: (weight(term), term))
    if heavy not in absent or sum(map(weight, absent)) < _ABSENT * sum(map(weight, keys)):
        return False
    said = [term for term in dict.fromkeys(_terms(asked.evidence)) if term not in own]
    there = [term for term in said if _stands(term, passage)]
    return sum(map(weight, there)) <= _SHARED * sum(map(weight, said))


def names_other(question: str, name: str, passage: Passage) -> bool:
    """Whether a passage has what the question numbers ("parameter 17 (…)"), so that the two are about one number.

    Asked of questions from another document: under the same number the passage has something else, and an expert
    would tell of that instead of refusing. `name` is what the question calls the thing; its digits do not count.
    """
    for match in _NUMBERED.finditer(question.replace(name, " ") if name else question):
        noun, code = match[0].split()[0], re.escape(match["code"].rstrip("."))
        said = rf"\b{re.escape(noun)}\W{{1,3}}{code}(?!\w)|^\|\s*{code}(?:\[\w+\])?\s*\|"
        if re.search(said, passage.shown, re.IGNORECASE | re.MULTILINE):
            return True
    return False


def gives_away(own: Pair, name: str, passage: Passage, weight: Weight) -> bool:
    """Whether the answer that the document gives elsewhere can be read off a passage or its title all the same.

    `own` is the document's pair, `name` what its question calls the thing: "PowerSwitch" tells the product type "Power
    Switch". A short answer is told by one of its words in the title, any answer by most of what it says in the passage.
    Words that the question says beside the name count for nothing, and numbers neither: they stand everywhere.
    """
    asked = set(_terms(own.question.replace(name, " ") if name else own.question))
    said = [term for term in dict.fromkeys(_terms(own.answer)) if term not in asked and not _has_digit(term)]
    if not said:
        return False
    title, text = _fold(passage.title), _fold(passage.shown)
    if len(said) <= _SHORT_ANSWER and any(len(term) >= _TELLING and _stands(term, title) for term in said):
        return True
    there = [term for term in said if _stands(term, text)]
    return sum(map(weight, there)) > _SHARED * sum(map(weight, said))


def _quotes_step(pair: Pair) -> bool:
    quotes = (match["said"] for match in _QUOTED.finditer(pair.question))
    return pair.kind == "procedure" and any(len(said.split()) >= _STEP_WORDS for said in quotes)


def _corpus(anchors: Sequence[Pair], passages: Mapping[str, Passage]) -> _Corpus:
    used = {pair.passage: passages[pair.passage] for pair in anchors}
    folded = {key: _fold(passage.shown) for key, passage in used.items()}
    counts = Counter(stem for text in folded.values() for stem in {_stem(word) for word in text.split()})
    rarest = math.log(1 + len(folded))
    weights = {stem: math.log((1 + len(folded)) / count) for stem, count in counts.items()}
    of_document: defaultdict[tuple[str, str], list[Pair]] = defaultdict(list)
    of_kind: defaultdict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in anchors:
        of_document[pair.document, pair.language].append(pair)
        of_kind[pair.kind, pair.language].append(pair)
    titles = {passage.document: passage.title for passage in used.values()}
    of_fact: defaultdict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in anchors:
        of_fact[pair.document, pair.fact].append(pair)
    names = {document: _name(titles[document], own) for (document, _), own in of_document.items()}

    def weight(term: str) -> float:
        return weights.get(_stem(term), rarest)

    return _Corpus(passages, folded, weight, names, of_document, of_kind, of_fact)


def _name(title: str, pairs: Sequence[Pair]) -> str:
    """What the questions about a document call its thing: the title, or the part of it that most of them hold."""
    thing = thing_of(title)
    parts = [title, thing.name if thing else "", *(p for p in _NAME_PARTS.split(title) if len(p) >= _SHORTEST_NAME)]
    counts = {part: sum(part in pair.question for pair in pairs) for part in dict.fromkeys(parts) if part}
    best = max(counts, key=lambda part: (counts[part], len(part)), default="")
    return best if best and counts[best] else ""


def _unanswered(anchor: Pair, corpus: _Corpus, asked: set[tuple[str, str]], random: Random) -> tuple[Pair, bool] | None:
    """A question for the anchor's passage, and whether it comes from the same document; None when none is proven."""
    passage = corpus.passages[anchor.passage]
    text = corpus.folded[anchor.passage]
    for other, question, near in _candidates(anchor, corpus, random):
        if (_fold(question), anchor.passage) in asked:
            continue
        name = corpus.names[anchor.document]
        if not near and names_other(question, name, passage):
            continue
        own = [other] if near else corpus.of_fact.get((anchor.document, other.fact), ()) if other.fact else ()
        if any(pair.passage == anchor.passage or gives_away(pair, name, passage, corpus.weight) for pair in own):
            continue
        if lacks(other, question, name, text, corpus.folded[other.passage], corpus.weight):
            made = Pair(
                question=question,
                answer=refusal(anchor.language),
                document=anchor.document,
                passage=anchor.passage,
                evidence="",
                start=passage.start,
                end=passage.start,
                kind=KIND,
                writer=NAME,
                language=anchor.language,
                fact=other.fact,
                answerable=False,
                loose=_loose(other, name, near, passage, corpus),
            )
            return made, near
    return None


def _loose(other: Pair, name: str, near: bool, passage: Passage, corpus: _Corpus) -> str:
    """The loose form of a question that is put to another passage, where it is proven of this form too."""
    loose, there = other.loose, corpus.names[other.document]
    if not loose or (not near and there and there in loose and not name):
        return ""
    if not near and there:
        loose = loose.replace(there, name)
    shown = corpus.folded[passage.id]
    return loose if lacks(other, loose, name, shown, corpus.folded[other.passage], corpus.weight) else ""


def _candidates(anchor: Pair, corpus: _Corpus, random: Random) -> Iterator[tuple[Pair, str, bool]]:
    """Pairs whose question may be put to the anchor's passage, own kind first: mostly from near before from sisters.

    A sister's steps are no premise for another thing, so its questions that quote one are passed over.
    """
    near = [
        p for p in _some(corpus.of_document[anchor.document, anchor.language], random) if p.passage != anchor.passage
    ]
    near.sort(key=lambda pair: pair.kind != anchor.kind)
    sisters = [
        p
        for p in _some(corpus.of_kind[anchor.kind, anchor.language], random)
        if p.document != anchor.document and not _quotes_step(p)
    ]
    name = corpus.names[anchor.document]
    first = random.random() >= _SISTERS_FIRST
    for pair in near if first else ():
        yield pair, pair.question, True
    for pair in sisters:
        other = corpus.names[pair.document]
        if name and other and pair.question.count(other) == 1:
            yield pair, pair.question.replace(other, name), False
    for pair in near if not first else ():
        yield pair, pair.question, True


def _some(pairs: Sequence[Pair], random: Random) -> list[Pair]:
    return random.sample(pairs, min(len(pairs), _TRIES))


@lru_cache(maxsize=1 << 15)
def _fold(text: str) -> str:
    return " ".join(words_of(text))


def _has_digit(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


def _terms(text: str) -> list[str]:
    return [word for word in _fold(text).split() if word not in _STOP]


@lru_cache(maxsize=1 << 15)
def _stem(word: str) -> str:
    return word if _has_digit(word) else word[:_STEM]


def _stands(term: str, folded: str) -> bool:
    """Whether a word, one that begins like it, or one that means the same stands in a folded text."""
    stem = _stem(term)
    # Longer beginnings are found inside of words too: German writes compounds in one.
    if len(stem) >= _STEM and not _has_digit(stem):
        if stem in folded:
            return True
    elif f" {stem} " in f" {folded} ":
        return True
    return any(f" {own}" in f" {folded}" for own in _alike(term))


@lru_cache(maxsize=1 << 14)
def _alike(term: str) -> frozenset[str]:
    """Beginnings of words that mean the same."""
    return next((group for group in _SAME if any(term.startswith(own) for own in group)), frozenset())
