"""Sentences with their slots, drawn at random from the templates of ``home-assistant-intents``.

A *template* is one line of the package in hassil's notation. ``draw`` walks it once and picks one branch at every
fork; what it says for a slot it also writes down, so each sentence comes with its target. Free text (areas, names,
items) is written down exactly as it stands in the sentence: the target can be known from the sentence alone.
"""

from __future__ import annotations

import json
import random
import re
import tomllib
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from hassil.expression import (
    Alternative,
    Expression,
    ListReference,
    Permutation,
    RuleReference,
    Sentence,
    Sequence,
    TextChunk,
)
from hassil.intents import Intents, RangeSlotList, TextSlotList
from hassil.numbers import get_rbnf_engine
from hassil.parse_expression import parse_sentence

HERE = Path(__file__).parent
SLOT_ORDER = ("name", "area", "floor", "domain", "device_class", "state")
USUAL = {
    "temperature": (18, 19, 20, 21, 22, 23, 24),
    "color_temperature": (2000, 2700, 3000, 4000, 5000, 6500),
    "timer_hours": (1, 2, 3, 4),
    "timer_minutes": (2, 3, 5, 10, 15, 20, 30, 45),
    "timer_seconds": (10, 15, 20, 30, 45, 90),
    "percent": (10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 100),
}
LIKELY = {"temperature": (5, 30), "color_temperature": (2000, 6500), "timer_hours": (1, 24)}
BARE_PLACE = 0.08  # share of German places said without their preposition
IN_WORDS = 0.2  # share of numbers said in words
MADE = 0.6  # share of words made from a stem, where there are any
UNUSUAL = 0.35  # share of numbers drawn from their whole range

Slots = dict[str, Any]


class CannotFill(Exception):
    """A template cannot say the slots that are wanted of it."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """A word for an open slot, with what German needs to speak of it."""

    text: str
    gender: str = "0"
    places: tuple[str, ...] = ()
    domain: str = ""
    made: bool = False  # from a stem


@dataclass(frozen=True, kw_only=True)
class Template:
    """One template line: where it stands, what it means, which slots its block adds, which devices it speaks of."""

    group: str
    intent: str
    combination: str
    sentence: Sentence
    fixed: Slots
    domains: tuple[str, ...]
    own: bool


@dataclass(frozen=True, kw_only=True)
class Language:
    """One language: templates, compiled intents, values by list, rules for drawing, articled nouns by gender."""

    code: str
    templates: tuple[Template, ...]
    intents: Intents
    values: dict[str, tuple[Value, ...]]
    rules: dict[str, Sentence]
    genders: dict[str, str]


@dataclass(kw_only=True)
class Spoken:
    """A sentence with its slots, and the values that fill the open ones by slot."""

    text: str = ""
    slots: Slots = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)


def completion(intent: str, slots: Slots) -> str:
    """The target: compact JSON, slots in one canonical order."""
    ordered = {key: slots[key] for key in SLOT_ORDER if key in slots}
    ordered |= {key: slots[key] for key in sorted(slots) if key not in ordered}
    return json.dumps({"intent": intent, "slots": ordered}, ensure_ascii=False, separators=(",", ":"))


def read_values(table: dict[str, Any]) -> dict[str, tuple[Value, ...]]:
    """The words of one language by list; those of the list ``name`` carry their domain."""
    stems = {name: [stem.strip() for stem in line.split(",")] for name, line in table["stems"].items()}
    named = [value for domain, group in table["name"].items() for value in _values(group, stems, domain)]
    rest = {key: tuple(_values(group, stems)) for key, group in table.items() if key not in ("name", "stems")}
    return rest | {"name": tuple(named)}


def _values(group: dict[str, str], stems: dict[str, list[str]], domain: str = "") -> list[Value]:
    found = []
    for key, words in group.items():
        gender, _, places = key.partition(":")
        place = tuple(filter(None, places.split("/")))
        for given in words.split(","):
            made = "<" in given
            for word in _expanded(given.strip(), stems):
                found.append(Value(text=word, gender=gender, places=place, domain=domain, made=made))
    return list({value.text: value for value in sorted(found, key=lambda value: not value.made)}.values())


def _expanded(word: str, stems: dict[str, list[str]]) -> list[str]:
    """``<stem>word`` with each stem; any other word as it is."""
    stem = re.match(r"<(\w+)>", word)
    return [one + word[stem.end() :] for one in stems[stem[1]]] if stem else [word]


@lru_cache(maxsize=2)
def load(code: str) -> Language:
    """Templates and intents of the package in one language, with this example's own beside them."""
    data = json.loads(files("home_assistant_intents").joinpath("data", f"{code}.json").read_text(encoding="utf-8"))
    own = tomllib.loads((HERE / "templates.toml").read_text(encoding="utf-8"))[code]
    first_own = {intent: len(body["data"]) for intent, body in data["intents"].items()}
    for intent, blocks in own.get("templates", {}).items():
        data["intents"][intent]["data"] += blocks
    for body in data["intents"].values():
        for block in body["data"]:
            block.get("requires_context", {}).pop("area", None)
    templates = []
    for intent, body in data["intents"].items():
        for number, block in enumerate(body["data"]):
            templates += _templates(code, intent, number, block, number >= first_own[intent], own["skip"])
    values = read_values(tomllib.loads((HERE / "words.toml").read_text(encoding="utf-8"))[code])
    nouns = {noun.strip(): gender for gender, line in own["nouns"].items() for noun in line.split(",")}
    genders = nouns | {value.text: value.gender for group in values.values() for value in group}
    rules = {name: parse_sentence(text) for name, text in (data["expansion_rules"] | own["rules"]).items()}
    return Language(
        code=code,
        templates=tuple(templates),
        intents=Intents.from_dict(data),
        values=values,
        rules=rules,
        genders=genders,
    )


def _templates(
    code: str, intent: str, number: int, block: dict[str, Any], own: bool, skip: list[str]
) -> list[Template]:
    combination = block.get("metadata", {}).get("slot_combination", "own")
    found = []
    for line, text in enumerate(block["sentences"]):
        if any(re.match(pattern, f"{intent}/{combination}/{text}") for pattern in skip):
            continue
        domains = block.get("requires_context", {}).get("domain", ())
        found.append(
            Template(
                group=f"{code}/{intent}/{number}/{line}",
                intent=intent,
                combination=combination,
                sentence=parse_sentence(text),
                fixed=block.get("slots", {}),
                own=own,
                domains=(domains,) if isinstance(domains, str) else tuple(domains),
            )
        )
    return found


class Drawing:
    """One walk through a template. ``wanted`` are slots that must come out as given."""

    def __init__(self, language: Language, template: Template, rng: random.Random, wanted: Slots | None = None) -> None:
        self.language, self.template, self.rng, self.wanted = language, template, rng, wanted
        self.spoken = Spoken(slots=dict(template.fixed))

    def run(self) -> Spoken:
        """The sentence; ``CannotFill`` where ``wanted`` asks for what the template cannot say."""
        text = self.say(self.template.sentence.expression)
        self.spoken.text = re.sub(r"\s+", " ", text).strip()
        if self.wanted is not None and self.spoken.slots != self.wanted:
            raise CannotFill(self.template.group)
        return self.spoken

    def say(self, expression: Expression) -> str:
        """Text of one part of the template."""
        if isinstance(expression, TextChunk):
            return expression.original_text
        if isinstance(expression, Alternative):
            return self.say(self.rng.choice(expression.items))
        if isinstance(expression, Permutation):
            return " ".join(self.say(item) for item in self.rng.sample(expression.items, len(expression.items)))
        if isinstance(expression, Sequence):
            return "".join(self.say(item) for item in expression.items)
        if isinstance(expression, RuleReference):
            return self.say_rule(expression.rule_name)
        if isinstance(expression, ListReference):
            return self.say_slot(expression.list_name, expression.slot_name)
        raise TypeError(f"no way to say {expression!r}")

    def say_rule(self, name: str) -> str:
        """A German place is said as its word asks for; every other rule is walked."""
        if self.language.code == "de" and name in ("area", "floor"):
            value = self.pick(name, name)
            bare = not value.places or self.rng.random() < BARE_PLACE
            return value.text if bare else f"{self.rng.choice(value.places)} {value.text}"
        return self.say(self.language.rules[name].expression)

    def say_slot(self, source: str, slot: str) -> str:
        """Text for a slot of a template; its value goes into the slots."""
        if source in self.language.values:
            return self.pick(source, slot).text
        listed = self.language.intents.slot_lists[source]
        if isinstance(listed, TextSlotList):
            options = [v for v in listed.values if self.wanted is None or v.value_out == self.wanted.get(slot)]
            if not options:
                raise CannotFill(slot)
            option = self.rng.choice(options)
            self.spoken.slots[slot] = option.value_out
            return self.say(option.text_in)
        assert isinstance(listed, RangeSlotList)
        return self.say_number(source, slot, listed)

    def pick(self, source: str, slot: str) -> Value:
        """A value of an open list that suits the template's devices; it goes into the slots."""
        options = [
            value
            for value in self.language.values[source]
            if (source != "name" or value.domain in self.template.domains)
            and (self.wanted is None or value.text == self.wanted.get(slot))
        ]
        if not options:
            raise CannotFill(slot)
        domain = self.rng.choice(sorted({value.domain for value in options}))
        made = self.rng.random() < MADE
        of_domain = [value for value in options if value.domain == domain]
        value = self.rng.choice([value for value in of_domain if value.made == made] or of_domain)
        self.spoken.slots[slot], self.spoken.values[slot] = value.text, value
        return value

    def say_number(self, source: str, slot: str, listed: RangeSlotList) -> str:
        """A number, mostly a usual one, in digits or words."""
        factor = int(listed.multiplier or 1)
        if self.wanted is not None:
            number = self.wanted.get(slot)
            if not isinstance(number, int):
                raise CannotFill(slot)
            number *= factor
        elif self.rng.random() < UNUSUAL:
            low, high = LIKELY.get(source, (listed.start, listed.stop))
            number = self.rng.randrange(max(low, 1), high + 1, listed.step)
        else:
            number = self.rng.choice(USUAL.get(source, USUAL["percent"]))
        if not listed.start <= number <= listed.stop:
            raise CannotFill(slot)
        self.spoken.slots[slot] = number * factor
        if 1 < number <= 100 and self.rng.random() < IN_WORDS:
            return str(get_rbnf_engine(self.language.code).format_number(number).text)
        return str(number)
