"""Loose questions: how people ask who have the passage's thing before them.

A person in front of a device neither names it nor its parameter's number, writes no quotation marks, and often no
sentence. A model that was only asked whole and careful questions takes such a one for a question without an answer. So
each pair may carry a loose form of its question, which is asked with the passage alone: it leans on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from zlib import crc32

from werkmeister.corpus.writing.structural.fact import Fact
from werkmeister.corpus.writing.structural.language import Language, language_file, listed
from werkmeister.corpus.writing.structural.naming import Thing

_IN_OTHER_WORDS = 2  # one task of so many is left as the manual names it
_MARKS = "\"„“”'‚‘’ "


@dataclass(frozen=True, kw_only=True)
class Loose:
    """One language's loose forms by kind of question, filled from a fact's slots.

    {bare} is the name that the fact is about without noun, number and marks; {thing} the thing's own. `openings` and
    `endings` stand around a form. `tasks` are other words for a task, by a piece of how the manual calls it, `synonyms`
    for words of names and labels; `on` and `off` are the names of a switch's two states.
    """

    openings: Sequence[str]
    endings: Sequence[str]
    forms: Mapping[str, Sequence[str]]
    tasks: Mapping[str, Sequence[str]]
    synonyms: Mapping[str, Sequence[str]]
    on: frozenset[str]
    off: frozenset[str]


@cache
def loose_of(code: str) -> Loose | None:
    """The loose forms of a language, None where it has none."""
    read = language_file(code, "_loose")
    if read is None:
        return None
    return Loose(
        openings=read["openings"],
        endings=read["endings"],
        forms=read["forms"],
        tasks=read["tasks"],
        synonyms=read["synonyms"],
        on=frozenset(listed(read["words"]["on"])),
        off=frozenset(listed(read["words"]["off"])),
    )


def signature(fact: Fact) -> tuple[str, ...]:
    """What a loose form of this fact's question tells: facts that share it cannot be told apart by such a question."""
    said = ("value", "label", "column", "property", "step", "symptom", "cause", "task", "heading")
    bare = fact.slots.get("bare") or fact.slots.get("row", "")
    # A number that a form may name in the name's place is told by `row`; the forms with the name alone decide.
    told = [bare] if fact.ask != "name" else [fact.slots.get("number", "")]
    return (fact.ask, *told, *(fact.slots.get(key, "") for key in said), fact.slots.get("number", "") * _counted(fact))


def _counted(fact: Fact) -> bool:
    return fact.ask.endswith("step")


def loose_question(fact: Fact, language: Language, thing: Thing | None, key: str) -> str:
    """A loose form of a fact's question, the same for the same `key`; "" where the language has none for it."""
    loose = loose_of(language.code)
    forms = loose.forms.get(fact.ask, ()) if loose else ()
    slots = _slots(fact, language, loose, key) if loose else {}
    fitting = [form for form in forms if all(slots.get(name) for name in _names(form))]
    if loose is None or not fitting:
        return ""
    chosen = _pick(fitting, f"{key} form")
    opening, ending = _pick(loose.openings, f"{key} opening"), _pick(loose.endings, f"{key} ending")
    if thing is None or ("{thing}" in opening and "{thing}" in ending):
        opening, ending = opening * ("{thing}" not in opening), ending * ("{thing}" not in ending)
    said = chosen.format(**slots)
    if ending.strip() in f"{opening}{said}" or not said.endswith("?"):
        ending = ""  # nobody says please twice, or after a whole sentence
    if ending:
        said = f"{said.rstrip('?')}{ending}{'?' if said.endswith('?') else ''}"
    name = thing.name if thing else ""
    question = f"{opening}{said}".replace("{thing}", name)
    if fact.core and fact.core.casefold() in question.casefold():
        return ""
    # Half of all people begin with a capital.
    return question[:1].upper() + question[1:] if crc32(f"{key} capital".encode()) % 2 else question


def _slots(fact: Fact, language: Language, loose: Loose, key: str) -> dict[str, str]:
    slots = {name: _plain(value) for name, value in fact.slots.items()}
    slots["bare"] = _plain(fact.slots.get("bare", "") or fact.slots.get("term", "") or fact.slots.get("row", ""))
    for name in ("bare", "label", "heading", "symptom"):
        if name in slots and crc32(f"{key} {name} lower".encode()) % 3:
            slots[name] = language.lowered(slots[name])
            # An option that is asked for without its parameter is found by its words alone.
            if fact.ask != "set" or name != "label":
                slots[name] = _said(slots[name], loose, f"{key} {name}")
    task = slots.get("task", "")
    words = next((words for piece, words in loose.tasks.items() if piece in task), ())
    if words and crc32(f"{key} words".encode()) % _IN_OTHER_WORDS == 0:
        slots["task"] = _pick(words, f"{key} task")
    return slots


def _said(name: str, loose: Loose, key: str) -> str:
    """A name with some of its words as people say them."""
    for word, others in loose.synonyms.items():
        if crc32(f"{key} {word}".encode()) % _IN_OTHER_WORDS == 0:
            found = re.search(rf"\b{re.escape(word)}\b", name, re.IGNORECASE)
            if found:
                name = name[: found.start()] + _pick(others, f"{key} {word} other") + name[found.end() :]
    return name


def _plain(value: str) -> str:
    return value.replace("{it}", "it").replace("{of}", "").strip(_MARKS)


def _names(form: str) -> list[str]:
    return [piece.partition("}")[0] for piece in form.split("{")[1:]]


def _pick(choices: Sequence[str], key: str) -> str:
    return choices[crc32(key.encode()) % len(choices)]
