"""Spoken commands in German and English with their intent and slots, made from ``home-assistant-intents``.

    python make_examples.py OUTPUT_FOLDER [--cut small]

Writes ``examples.jsonl`` (train, valid, exam) and ``dev.jsonl`` (held out like the exam; for choosing settings).
The same package versions and seed give the same bytes. Held out from training are

* whole templates, said with outputs that training has seen (part *new wordings*),
* whole outputs and some words altogether, said with templates that training has seen (part *new outputs*),
* what people wrote by hand, in ``own_wording.jsonl`` (part *own wording*).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from grammar import CannotFill, Drawing, Language, Slots, Spoken, Template, completion, load
from sieve import Recogniser, sensible
from wording import Habits, capital, reword, tidy

HERE = Path(__file__).parent
LANGUAGES = ("de", "en")
SEED = 2026
HELD_TEMPLATES = {"exam": 9, "dev": 6}  # percent of the templates
HELD_OUTPUTS = {"exam": 7, "dev": 5}  # percent of the outputs
HELD_WORDS = {"exam": 8, "dev": 5}  # percent of the words of an open list
KNOWN = ("vacuum", "lawn_mower")  # devices that a sentence is about only for who knows the word: never held out
TRIES = 40  # draws from one template before another is tried
COMMON = ("HassTurnOn", "HassTurnOff", "HassLightSet", "HassClimateSetTemperature", "HassStartTimer")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How many rows of each kind one size of the example has."""

    train: int
    exam: int
    dev: int
    own: float  # share of train rows from this example's own templates
    intents: tuple[str, ...] = ()  # the only ones; empty: all
    without: str = "$^"  # kinds (see kind_of) in which this is found are left out


HARD = r'HassLightSet.*temperature|"(cover|lock|valve|scene|script|button)"'
CUTS = {
    "full": Cut(train=19200, exam=320, dev=320, own=0.3),
    "small": Cut(
        train=3750,
        exam=200,
        dev=200,
        own=0.2,
        without=HARD,
        intents=(
            "HassTurnOn",
            "HassTurnOff",
            "HassLightSet",
            "HassClimateSetTemperature",
            "HassClimateGetTemperature",
            "HassStartTimer",
            "HassCancelTimer",
            "HassShoppingListAddItem",
            "HassMediaPause",
            "HassGetWeather",
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One example as it is written."""

    prompt: str
    completion: str
    split: str
    group: str
    label: str
    part: str = ""

    def line(self) -> str:
        """Its JSON; ``part`` only where there is one."""
        fields = {
            "prompt": self.prompt,
            "completion": self.completion,
            "split": self.split,
            "part": self.part,
            "group": self.group,
            "label": self.label,
        }
        return json.dumps({key: value for key, value in fields.items() if value}, ensure_ascii=False) + "\n"


@dataclass(kw_only=True)
class Drawn:
    """A sentence that passed the sieve, with the template it came from."""

    template: Template
    spoken: Spoken
    code: str

    @property
    def output(self) -> str:
        """Its target."""
        return completion(self.template.intent, self.spoken.slots)


@dataclass(kw_only=True)
class Source:
    """One language, ready to draw from: templates by the meaning of their block, each with its fate."""

    language: Language
    recogniser: Recogniser
    kinds: dict[str, list[Template]] = field(default_factory=dict)
    fate: dict[str, str] = field(default_factory=dict)  # template group → train, exam or dev

    def draw(self, template: Template, rng: random.Random, wanted: Slots | None = None) -> Drawn | None:
        """A sensible sentence of the template, or None where none was found."""
        for _ in range(TRIES):
            try:
                spoken = Drawing(self.language, template, rng, wanted).run()
            except CannotFill:
                continue
            if sensible(self.language, spoken, template.intent) and self.recogniser.agrees(
                spoken.text, template.intent, spoken.slots
            ):
                return Drawn(template=template, spoken=tidy(spoken, self.language.code), code=self.language.code)
        return None


def percent(*what: str) -> int:
    """A number from 0 to 99 that depends on the words alone."""
    return zlib.crc32("/".join((str(SEED), *what)).encode()) % 100


def fate_of(number: int, shares: dict[str, int]) -> str:
    """Exam, dev or train for a number from 0 to 99."""
    return "exam" if number < shares["exam"] else "dev" if number < shares["exam"] + shares["dev"] else "train"


def kind_of(template: Template) -> str:
    """What a template means: intent, fixed slots, devices and the slots that its block fills."""
    return json.dumps([template.intent, template.fixed, template.domains, template.combination], sort_keys=True)


def wanted(cut: Cut, intent: str, what: str) -> bool:
    """Whether a cut takes an intent and what is said of its kind."""
    return (not cut.intents or intent in cut.intents) and not re.search(cut.without, what)


def prepare(code: str, cut: Cut) -> Source:
    """Templates by kind, and which are held out: never the last one of a kind, never this example's own."""
    language = load(code)
    source = Source(language=language, recogniser=Recogniser(language))
    kinds: dict[str, list[Template]] = defaultdict(list)
    for template in language.templates:
        if wanted(cut, template.intent, kind_of(template)):
            kinds[kind_of(template)].append(template)
    for name, templates in kinds.items():
        package = sorted((t for t in templates if not t.own), key=lambda t: percent("last", t.group))
        for at, template in enumerate(package):
            source.fate[template.group] = (
                fate_of(percent("template", template.group), HELD_TEMPLATES) if at else "train"
            )
        source.fate |= {template.group: "train" for template in templates if template.own}
        source.kinds[name] = templates
    return source


def fate_of_output(drawn: Drawn) -> str:
    """Exam, dev or train: by the words that fill the open slots, then by the whole output. Closed ones are trained."""
    fates = {
        fate_of(percent("word", value.text), HELD_WORDS)
        for value in drawn.spoken.values.values()
        if value.domain not in KNOWN or value.gender == "pet"
    }
    numbers = any(isinstance(value, int) for value in drawn.spoken.slots.values())
    if fates or numbers or len(drawn.spoken.slots) > 2:
        fates.add(fate_of(percent("output", drawn.output.lower()), HELD_OUTPUTS))
    fates.discard("train")
    return "train" if not fates else fates.pop() if len(fates) == 1 else "neither"


def draws(source: Source, rng: random.Random, own: float) -> Iterator[Drawn]:
    """Sentences of trained templates without end: intents by the root of their kinds, kinds by that of their lines."""
    intents: dict[str, list[list[Template]]] = defaultdict(list)
    mine: dict[str, list[Template]] = defaultdict(list)
    for templates in source.kinds.values():
        trained = [t for t in templates if source.fate[t.group] == "train"]
        if any(not t.own for t in trained):
            intents[templates[0].intent].append([t for t in trained if not t.own])
        if any(t.own for t in trained):
            mine[templates[0].intent] += [t for t in trained if t.own]
    weights = [len(kinds) ** 0.5 * (1.6 if name in COMMON else 1) for name, kinds in intents.items()]
    own_weights = [len(templates) ** 0.5 for templates in mine.values()]
    while True:
        if mine and rng.random() < own:
            template = rng.choice(rng.choices(list(mine.values()), own_weights)[0])
        else:
            kinds = rng.choices(list(intents.values()), weights)[0]
            template = rng.choice(rng.choices(kinds, [len(kind) ** 0.5 for kind in kinds])[0])
        drawn = source.draw(template, rng)
        if drawn:
            yield drawn


def split_draws(source: Source, rng: random.Random, cut: Cut) -> dict[str, list[Drawn]]:
    """Draws for training and, from outputs that training must not see, for exam and dev."""
    wanted = {"train": cut.train // 2, "exam": cut.exam // 2, "dev": cut.dev // 2}
    found: dict[str, list[Drawn]] = {name: [] for name in wanted}
    seen: set[str] = set()
    repeats: dict[str, int] = defaultdict(int)
    for drawn in draws(source, rng, cut.own):
        fate = fate_of_output(drawn)
        if fate == "neither" or len(found[fate]) >= wanted[fate] or (fate != "train" and drawn.template.own):
            continue
        repeats[drawn.spoken.text.lower()] += 1
        if drawn.spoken.text.lower() in seen and (fate != "train" or repeats[drawn.spoken.text.lower()] > 4):
            continue
        seen.add(drawn.spoken.text.lower())
        found[fate].append(drawn)
        if all(len(found[name]) >= wanted[name] for name in wanted):
            return found
    raise AssertionError("draws has no end")


def new_wordings(source: Source, rng: random.Random, trained: list[Drawn], fate: str, count: int) -> list[Drawn]:
    """Held-out templates saying outputs that training has seen, from a training sentence of the same kind each."""
    outputs: dict[str, list[Drawn]] = defaultdict(list)
    for drawn in trained:
        outputs[kind_of(drawn.template)].append(drawn)
    taken = {drawn.spoken.text.lower() for drawn in trained}
    held: dict[str, list[Template]] = defaultdict(list)
    for kind, templates in source.kinds.items():
        if kind in outputs:
            held[templates[0].intent] += [t for t in templates if source.fate[t.group] == fate]
    intents = [name for name, templates in held.items() if templates]
    found: list[Drawn] = []
    for _ in range(count * 40):
        if len(found) >= count:
            break
        template = rng.choice(held[rng.choices(intents, [len(held[name]) ** 0.5 for name in intents])[0]])
        model = rng.choice(outputs[kind_of(template)])
        said = source.draw(template, rng, model.spoken.slots)
        if said and said.spoken.text.lower() not in taken:
            taken.add(said.spoken.text.lower())
            found.append(said)
    return found


def rows_of(drawn: list[Drawn], split: str, part: str) -> list[Row]:
    """Rows in standard spelling."""
    return [
        Row(
            prompt=capital(d.spoken.text, [v.text for v in d.spoken.values.values()]),
            completion=d.output,
            split=split,
            part=part,
            group=d.template.group,
            label=d.template.intent,
        )
        for d in drawn
    ]


def training_rows(drawn: list[Drawn], rng: random.Random) -> list[Row]:
    """Rows in the many ways people speak; no prompt twice."""
    rows: dict[str, Row] = {}
    for one in drawn:
        prompt, slots = reword(one.spoken, one.code, rng, Habits())
        rows.setdefault(
            prompt,
            Row(
                prompt=prompt,
                completion=completion(one.template.intent, slots),
                split="train",
                group=one.template.group,
                label=one.template.intent,
            ),
        )
    return list(rows.values())


def own_wording(cut: Cut) -> dict[str, list[Row]]:
    """The commands written by hand: every second one for dev, the others for the exam."""
    lines = (HERE / "own_wording.jsonl").read_text(encoding="utf-8").splitlines()
    rows: dict[str, list[Row]] = {"dev": [], "exam": []}
    for at, line in enumerate(lines):
        given = json.loads(line)
        if not wanted(cut, given["intent"], line):
            continue
        target = completion(given["intent"], given["slots"])
        rows[given["half"]].append(
            Row(
                prompt=given["prompt"],
                completion=target,
                split="exam",
                part="own wording",
                group=f"own/{at}",
                label=given["intent"],
            )
        )
    return rows


def make(cut: Cut) -> tuple[list[Row], list[Row]]:
    """All rows of one size of the example: those of ``examples.jsonl``, those of ``dev.jsonl``."""
    train: list[Row] = []
    held: dict[str, list[Row]] = {"exam": [], "dev": []}
    for code in LANGUAGES:
        rng = random.Random(f"{SEED}/{code}")
        source = prepare(code, cut)
        found = split_draws(source, rng, cut)
        plain = [drawn for drawn in found["train"] if not drawn.template.own]
        for fate, count in (("exam", cut.exam // 2), ("dev", cut.dev // 2)):
            held[fate] += rows_of(new_wordings(source, rng, plain, fate, count), "exam", "new wordings")
            held[fate] += rows_of(found[fate], "exam", "new outputs")
        train += training_rows(found["train"], rng)
    return assemble(train, held, cut)


def assemble(train: list[Row], held: dict[str, list[Row]], cut: Cut) -> tuple[list[Row], list[Row]]:
    """Shuffled training rows without any sentence of the exam or dev, then valid (a part of dev) and exam."""
    mine = own_wording(cut)
    held = {fate: rows + mine[fate] for fate, rows in held.items()}
    kept_out = {row.prompt.lower().rstrip(".!?") for rows in held.values() for row in rows}
    train = [row for row in train if row.prompt.lower().rstrip(".!?") not in kept_out]
    random.Random(SEED).shuffle(train)
    templated = [row for row in held["dev"] if row.part != "own wording"]
    valid = [
        Row(prompt=row.prompt, completion=row.completion, split="valid", group=row.group, label=row.label)
        for row in templated[:: max(1, len(templated) // 200)]
    ]
    return train + valid + held["exam"], held["dev"]


def main() -> None:
    """Write the example into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="folder to write into; made if absent")
    parser.add_argument("--cut", choices=CUTS, default="full", help="size of the example")
    settings = parser.parse_args()
    examples, dev = make(CUTS[settings.cut])
    settings.folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("examples.jsonl", examples), ("dev.jsonl", dev)):
        (settings.folder / name).write_text("".join(row.line() for row in rows), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
