"""Definitions: sentences that say what something is, lists of terms, and glossaries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from werkmeister.corpus.documents.document import Block
from werkmeister.corpus.writing.structural.entries import lists_of, where_of
from werkmeister.corpus.writing.structural.fact import Fact, Span
from werkmeister.corpus.writing.structural.language import Language
from werkmeister.corpus.writing.structural.outline import Section, plain
from werkmeister.corpus.writing.structural.sentences import ends_well, sentence, sentences
from werkmeister.corpus.writing.structural.tables import Item
from werkmeister.corpus.writing.structural.troubles import property_fact

_WORDS = (6, 60)  # words of a defining sentence
_TERM_WORDS = 4
_ITEM_WORDS = (3, 80)  # words of what is said about a term
_DASH = re.compile(r"(?P<term>\S.{0,58}?)\s+[-–—]\s+(?P<said>\S.*)", re.DOTALL)
_COLON = re.compile(r"(?P<term>[^:]{1,60}?):\s+(?P<said>\S.*)", re.DOTALL)
_LABEL_WORDS = 4
_UNPOINTED = 12  # words; a longer text without a point at its end was most likely cut off
_ASIDE = re.compile(r"^\([^()]*\)\s+|\s+\([^()]*\)$")
_SIGNS = re.compile(r"\([^()]*\)|\[[^\]]*\]\S*|\S*[_<>=\d]\S*")
# What is said goes on from the term, so that it makes no answer alone: "Spindle – which turns …".
_GOES_ON = re.compile(
    r"(?:is|are|was|were|which|where|that|wobei|has|have|ist|sind|hat|welche[rs]?)\b"
    r"|(?:mit|in|an|auf|bei|durch) (?:dem|der|denen|welche[mnr]) (?:sie|man|der|die|das|eine?)\b",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(r"\b(?:see|as|siehe|wie)\b[^.]{0,40}\b(?:above|below|oben|unten)\b", re.IGNORECASE)
# A code with several parts names itself wherever it stands; a short one ("0x0A", "count") may mean two things.
_SELF_NAMED = re.compile(r"(?=\S{5})(?![<-])\S*[._<]\S*")
_MEASURED = re.compile(r"(?:[<>≤≥±~+-]|(?:ca|approx|max|min|about|up to|bis zu|etwa)\.?\s)?\s*\d")
_CODE = re.compile(r"(?=.*[A-Za-z])(?:[A-Z0-9_.+/-]{2,}|\S*[._<>\[\]#]\S*|\S*\d\S*|[a-z]+(?:-[a-z]+)+)")
_ACRONYM = re.compile(r"[A-Z][A-Za-z]*[A-Z0-9][\w./-]*")
_POINTS = re.compile(
    r"\b(?:following|below|above|previous|next section|this (?:section|chapter|manual|document|page)|figure|see"
    r"|folgende[mnrs]?|unten|oben|siehe|diese[mnrs]? (?:Abschnitt|Kapitel|Handbuch|Dokument)|Abbildung"
    r"|vorherige[mnrs]?)\b",
    re.IGNORECASE,
)


def sentence_facts(text: str, section: Section, language: Language) -> Iterator[Fact]:
    """The defining sentences of a section's paragraphs: the first of each, where its term is one to ask for.

    A term is one where it stands in the heading, is an abbreviation, or comes as the first words with "a" or "ein".
    """
    heading = section.name.casefold()
    for block in section.blocks:
        if block.kind != "paragraph":
            continue
        span = next(sentences(text, (block.start, block.end), language), None)
        if span is None:
            continue
        said = plain(text[slice(*span)])
        if (
            said.endswith(".")
            and _WORDS[0] <= len(said.split()) <= _WORDS[1]
            and ends_well(said)
            and not _POINTS.search(said)
        ):
            yield from _defined(said, span, heading, language)


def _defined(said: str, span: Span, heading: str, language: Language) -> Iterator[Fact]:
    match = next((found for pattern in language.definition if (found := pattern.fullmatch(said))), None)
    if match is None:
        return
    term = match["term"].strip("\"'“”„’‘ ")
    words = term.casefold().split()
    article = (match.groupdict().get("article") or "").strip()
    if not words or len(words) > _TERM_WORDS or words[0] in language.vague or words[-1] in language.vague:
        return
    named = term.casefold() in heading or (len(heading) > 3 and heading in term.casefold())
    indefinite = article.casefold() in ("a", "an", "ein", "eine")
    if not (named or indefinite or _ACRONYM.fullmatch(term)):
        return
    shown = f"{article.lower()} {term}".strip()
    verb = match["verb"]
    many = verb in ("are", "sind")
    ask = (
        "stands for"
        if verb.startswith(("stands", "is short", "steht", "ist die Abk"))
        else "define many"
        if many
        else "define"
    )
    yield Fact(kind="definition", name=f"define {term}", ask=ask, answer=said, evidence=span, slots={"term": shown})


def term_facts(text: str, section: Section, language: Language) -> Iterator[Fact]:
    """The terms of lists such as "G54 - first coordinate system", and of the paragraphs of a glossary."""
    glossary = any(name.casefold() in language.glossary for name in section.headings)
    where = where_of(section, language)
    for _, items in lists_of(text, section):
        if not any(item.number for item in items):
            yield from _listed(items, where, glossary, language)
    if glossary:
        for block in section.blocks:
            if block.kind == "paragraph":
                yield from _paragraph(text, block, section, language)


def _listed(items: Sequence[Item], where: str, glossary: bool, language: Language) -> Iterator[Fact]:
    pattern = next(
        (p for p in (_DASH, _COLON) if sum(bool(p.fullmatch(i.text)) for i in items) >= max(2, 0.6 * len(items))), None
    )
    if pattern is None:
        return
    found = [(match, item) for item in items if (match := pattern.fullmatch(item.text))]
    terms = [match["term"].casefold() for match, _ in found]
    pointed = sum(match["said"].endswith((".", "!", "?")) for match, _ in found) * 2 > len(found)
    for match, item in found:
        term = match["term"].strip("\"'“”„’‘ ")
        if (
            terms.count(match["term"].casefold()) > 1
            or item.children
            or language.role(term)
            or language.entry.fullmatch(item.text)
            or not _is_term(term, language)
        ):
            continue
        if pointed and not match["said"].endswith((".", "!", "?")) and len(match["said"].split()) > _LABEL_WORDS:
            continue  # its neighbours end in a point: the end of this one was lost
        fact = _term(term, match["said"], item.span, where, glossary, language)
        if fact is not None:
            yield fact


def _is_term(term: str, language: Language) -> bool:
    words = term.casefold().split()
    known = bool(words) and len(words) <= 5 and words[0] not in language.pronouns and words[0] not in language.vague
    return known and ends_well(term) and any(letter.isalpha() for letter in term)


def _term(term: str, said: str, span: Span, where: str, glossary: bool, language: Language) -> Fact | None:
    words = said.split()
    called = _ASIDE.sub("", term).strip() or term
    coded = _CODE.fullmatch(called) is not None
    cut_off = len(words) > _UNPOINTED and not said.endswith((".", "!", "?", ")", '"', "”", "“"))
    if _GOES_ON.match(said) or _ELSEWHERE.search(said):
        return None
    if len(_SIGNS.sub(" ", said).split()) < 2:
        return None
    if not ends_well(said) or cut_off or words[0].casefold() in language.pronouns or len(words) > _ITEM_WORDS[1]:
        return None
    if not glossary and not coded and len(words) <= 6 and _MEASURED.match(said):
        made = property_fact(term, said.rstrip("."), language)
        if made is None or not where:
            return None
        return Fact(
            kind="table",
            name=f"property {term} {where}",
            ask=made[0],
            answer=made[1],
            evidence=span,
            slots={"property": made[2]},
            where=where,
        )
    if len(words) < _ITEM_WORDS[0] or not (glossary or coded or where):
        return None
    named = "" if glossary or _SELF_NAMED.fullmatch(called) else where
    return Fact(
        kind="glossary" if glossary else "definition",
        name=f"term {term} {named}",
        ask="term" if glossary else "item",
        answer=sentence(said),
        evidence=span,
        slots={"term": language.quoted(called)},
        where=named,
    )


def _paragraph(text: str, block: Block, section: Section, language: Language) -> Iterator[Fact]:
    """A glossary's paragraph: "Term: text", "Term – text", or the text below a heading that is the term."""
    said = plain(text[block.start : block.end])
    match = _DASH.fullmatch(said) or _COLON.fullmatch(said)
    if match and len(match["term"].split()) <= _TERM_WORDS:
        term, meaning = match["term"], match["said"]
    elif section.name.casefold() not in language.glossary and block is section.blocks[0]:
        term, meaning = section.name, said
    else:
        return
    if _is_term(term, language):
        fact = _term(term, meaning, (block.start, block.end), "", True, language)
        if fact is not None:
            yield fact
