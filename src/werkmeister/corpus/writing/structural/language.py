"""What the structural writer knows of a language: its questions, its names of columns, its telling and empty words.

A language is a TOML file beside this module, and one of loose questions; a further one needs its name in `_NAMES` and
no other code here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

_NAMES = {"en": "english", "de": "german"}
LANGUAGES = tuple(_NAMES)
"""The languages with questions; the first stands in for all others."""

_NUMBERED = r" (?:no\.? ?|nr\.? ?|#)?(?P<number>\w{0,4}\d[\w.]*(?:\[\w+\])?)\s*(?:[:–—.-]|\s-\s)\s*(?P<name>\S.*)"
_TERM = r"""(?P<term>[\w"“„-][\w./+#"”“„ -]{0,50}?)"""
_SHORT = r"(?: \([\w. /-]{1,30}\))?"
_STEPS = ("first", "last", "step", "next", "count")


@dataclass(frozen=True, kw_only=True)
class Language:
    """One language.

    `questions` are the forms of each question, filled from a fact's slots; {on} and {of} take the thing with its
    preposition, or nothing, and {it} the thing alone. `answers` are the sentences that wrap a value where it is none by
    itself. `roles` gives the role of a column or label by its folded name, `nouns` what the entries under a heading
    are by its last word. Headings in `empty` say nothing about what stands below, those in `glossary` hold terms.
    `procedures` are headings with what one wants to do there. `entry` finds the heading of an entry ("Parameter 13:
    Local Control"), `imperative` an order to the reader at the start of a sentence, `definition` what a sentence
    defines, `unclear` words that point at something else. No term begins with a word of `vague`, no answer with one of
    `pronouns`; those of `figurative` only go with figures and explain nothing. `verbs` gives the base form of the verbs
    of instructions by that and by their gerund.
    """

    code: str
    questions: Mapping[str, tuple[str, ...]]
    answers: Mapping[str, str]
    roles: Mapping[str, str]
    nouns: Mapping[str, str]
    empty: frozenset[str]
    glossary: frozenset[str]
    procedures: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]
    entry: re.Pattern[str]
    imperative: re.Pattern[str]
    definition: tuple[re.Pattern[str], ...]
    unclear: re.Pattern[str]
    question_label: re.Pattern[str]
    answer_label: re.Pattern[str]
    vague: frozenset[str]
    pronouns: frozenset[str]
    figurative: frozenset[str]
    abbreviations: frozenset[str]
    verbs: Mapping[str, str]
    quotes: tuple[str, str]
    section: str
    device: str
    on_device: str
    on_topic: str
    of_device: str
    of_topic: str
    capital_nouns: bool

    def quoted(self, text: str) -> str:
        """Text in the language's quotation marks; marks that it wears already are taken off."""
        bare = text.strip("\"„“”'‚‘’ ")
        return f"{self.quotes[0]}{bare}{self.quotes[1]}"

    def role(self, column: str) -> str:
        """The role of a column or label, "" where its name tells none."""
        return self.roles.get(column.casefold().strip(" .:()"), "")

    def is_plural(self, words: str) -> bool:
        """Whether a column or label names several things, as far as its ending tells."""
        last = words.split()[-1].casefold()
        return not self.capital_nouns and last.endswith("s") and not last.endswith(("ss", "us", "is", "as"))

    def lowered(self, words: str) -> str:
        """A column or label as it stands within a sentence: its capitals gone, abbreviations left."""
        if self.capital_nouns:
            return words
        return " ".join(word.lower() if word[:1].isupper() and word[1:].islower() else word for word in words.split())


@cache
def language_of(code: str) -> Language:
    """The language of a two-letter code; the first of `LANGUAGES` stands in for one that has no questions here."""
    read = language_file(code) or language_file(LANGUAGES[0])
    assert read is not None
    return _language(read)


def language_file(code: str, ending: str = "") -> dict[str, Any] | None:
    """What a language's TOML file says, None where it has none; `ending` is that of the file's name ("_loose")."""
    file = resources.files(__package__) / f"{_NAMES.get(code, '')}{ending}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def listed(text: str) -> list[str]:
    """Names that stand in one text, parted by semicolons."""
    return [" ".join(name.split()) for name in text.split(";")]


@cache
def is_empty(heading: str) -> bool:
    """Whether a heading says nothing about what stands below it ("Overview", "Hinweise zu …", "Name Default").

    Asked of all languages at once, since a manual of one language keeps headings of another.
    """
    folded = heading.casefold().strip(" .:!?")
    if not folded:
        return True
    words = folded.split()
    if words[0].strip(":.") in _POINTING:
        return True
    languages = [language_of(code) for code in LANGUAGES]
    # "Name Description" is the head of a table that was not seen as one.
    head = len(words) > 1 and any(all(language.role(word) for word in words) for language in languages)
    return head or any(folded in language.empty for language in languages)


_POINTING = frozenset(
    ("note", "notes", "hinweis", "hinweise", "anmerkung", "anmerkungen", "figure", "abbildung", "example")
)


def _language(read: Mapping[str, Any]) -> Language:
    patterns = read["patterns"]
    verbs = read.get("verbs", "").split()
    named = {"article": patterns["article"], "term": _TERM, "short": _SHORT}
    imperative = "".join(patterns["imperative"]).replace("{verbs}", "|".join(sorted(verbs, key=len, reverse=True)))
    questions = {ask: tuple(forms) for ask, forms in read["questions"].items()}
    for ask in _STEPS:
        questions.setdefault(f"task {ask}", questions[f"heading {ask}"])
    for one, many in (("cell", "cells"), ("property", "properties")):
        questions.setdefault(many, questions[one])
    return Language(
        questions=questions,
        answers=read["answers"],
        roles={name: role for role, names in read["roles"].items() for name in listed(names)},
        nouns=read["nouns"],
        empty=frozenset(listed(read["empty"])),
        glossary=frozenset(listed(read["glossary"])),
        procedures=tuple((_compiled(one["heading"]), tuple(one["tasks"])) for one in read["procedures"]),
        entry=_compiled(f"(?P<noun>{patterns['entry']}){_NUMBERED}"),
        imperative=re.compile(imperative) if read["capital_nouns"] else _compiled(imperative),
        definition=tuple(re.compile(_put(pattern, named)) for pattern in patterns["definition"]),
        unclear=_compiled(patterns["unclear"]),
        question_label=re.compile(patterns["question_label"]),
        answer_label=re.compile(patterns["answer_label"]),
        verbs={verb: verb for verb in verbs} | {_gerund(verb): verb for verb in verbs},
        quotes=(read["quotes"][0], read["quotes"][1]),
        vague=frozenset(read["vague"].split()),
        pronouns=frozenset(read["pronouns"].split()),
        figurative=frozenset(read["figurative"].split()),
        abbreviations=frozenset(read["abbreviations"].split()),
        code=read["code"],
        section=read["section"],
        device=read["device"],
        on_device=read["on_device"],
        on_topic=read["on_topic"],
        of_device=read["of_device"],
        of_topic=read["of_topic"],
        capital_nouns=read["capital_nouns"],
    )


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _put(pattern: str, named: Mapping[str, str]) -> str:
    for name, piece in named.items():
        pattern = pattern.replace(f"{{{name}}}", piece)
    return pattern


def _gerund(verb: str) -> str:
    """The gerund of an English verb: setting, removing, untying; irregular spellings stand in the list of verbs."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "ye", "oe")):
        return verb[:-1] + "ing"
    short = re.fullmatch(r"[^aeiou]*(?:qu|[^aeiou])?[aeiou][bdgklmnprt]", verb)
    stressed = verb.endswith(("begin", "refer", "forget", "set", "mit", "occur", "plug", "format", "program"))
    return verb + (verb[-1] if short or (stressed and verb != "input") else "") + "ing"
