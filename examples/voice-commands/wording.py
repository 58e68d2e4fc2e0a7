"""The ways people say a sentence: politeness, fillers, casing, punctuation, typos.

Every function keeps the meaning. Where it changes the letters of a free-text slot (lower case, ``ae`` for ``ä``) the
slot changes with them, for free text is always the words of the sentence; typos stay out of the slots.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from grammar import Slots, Spoken

IMPERATIVE = {
    "de": re.compile(
        r"^(schalt|mach|stell|setz|dreh|fahr|öffne|schließ|schliess|dimm|starte?|stopp|beende|lösch|pausier|halt|"
        r"spiel|füge?|pack|schreib|nimm|saug|putz|wisch|reinig|mäh|sperr|aktivier|deaktivier|verlänger|verkürz|"
        r"erhöh|reduzier|verringer|senk|änder|färb|lass|sag|gib|schick|brech|brich|heiz|kühl|erstell|ergänz|"
        r"entsperr|verriegl|entriegl|führ|drück|überspring|streich|hak|entfern)\w*$",
        re.I,
    ),
    "en": re.compile(
        r"^(turn|switch|set|make|change|open|close|shut|raise|lower|lift|start|stop|create|cancel|pause|resume|play|"
        r"skip|add|put|remove|take|check|complete|delete|lock|unlock|clean|vacuum|mow|dim|increase|decrease|activate|"
        r"deactivate|mute|unmute|announce|broadcast|continue|adjust|bring|run|press|return|tell|go|replay|unpause|"
        r"illuminate|light|execute|give)$",
        re.I,
    ),
}
INFINITIVE = re.compile(r"\w{3,}(en|ern|eln)$")
POLITE_DE = ("{} bitte", "bitte {}", "hey, {}", "du, {}", "{}, danke", "{} und zwar jetzt", "ok, {}")
ASK_DE = (
    "kannst du {}",
    "kannst du bitte {}",
    "könntest du {}",
    "könntest du bitte {}",
    "würdest du bitte {}",
    "kannst du mal {}",
    "ich möchte {}",
    "du sollst {}",
    "kannst du mir {}",
    "bitte {}",
    "könntest du mal eben {}",
    "ich will {}",
    "wir wollen {}",
    "du könntest {}",
)
POLITE_EN = (
    "please {}",
    "{} please",
    "could you {}",
    "can you {}",
    "can you please {}",
    "could you please {}",
    "hey, {}",
    "would you {}",
    "I'd like you to {}",
    "I want you to {}",
    "{}, thanks",
    "hey can you {}",
    "ok {}",
    "now {}",
    "would you please {}",
    "just {}",
    "go ahead and {}",
    "I need you to {}",
)
AFTER_VERB = ("bitte", "mal", "mal bitte", "doch mal", "mal eben", "bitte mal", "jetzt", "mal schnell", "mir mal")
FILLERS = {"de": ("ähm ", "äh ", "also ", "so, ", "na, "), "en": ("um ", "uh ", "so ", "well, ", "er, ")}
NOUNS = re.compile(
    r"\b(lautstärke|musik|temperatur|heizung|thermostat|klima\w*|datum|uhrzeit|album|playlist|wiedergabeliste|"
    r"podcast|lied|song|track|fernsehsendung|sendung|ton|künstler\w*|sänger\w*|band|platte|nummer|serie|show|film|"
    r"titel|uhr|tag|zimmer|bereich|raum)\b"
)


@dataclass(frozen=True, kw_only=True)
class Habits:
    """Shares of the sentences that are changed in each way."""

    capital: float = 0.5
    polite: float = 0.3
    lower: float = 0.22
    mark: float = 0.25
    typo: float = 0.1
    filler: float = 0.04
    ascii: float = 0.03


def tidy(spoken: Spoken, code: str) -> Spoken:
    """Standard spelling: German nouns in capitals."""
    text = spoken.text
    if code == "de":
        text = NOUNS.sub(lambda found: found[0][:1].upper() + found[0][1:], text)
        text = text if all(value.text in text for value in spoken.values.values()) else spoken.text
    return Spoken(text=text, slots=spoken.slots, values=spoken.values)


def capital(text: str, values: list[str]) -> str:
    """The first letter in capitals, unless a slot stands there."""
    return text if any(text.startswith(value) for value in values) else text[:1].upper() + text[1:]


def reword(spoken: Spoken, code: str, rng: random.Random, habits: Habits) -> tuple[str, Slots]:
    """The sentence as some person might type or say it, and its slots."""
    text, slots = spoken.text, dict(spoken.slots)
    free = {slot: value.text for slot, value in spoken.values.items()}
    if rng.random() < habits.polite:
        text = polite(text, code, rng)
    if rng.random() < habits.typo:
        text = typo(text, set(" ".join(free.values()).split()), rng)
    if rng.random() < habits.filler:
        text = rng.choice(FILLERS[code]) + text
    if rng.random() < habits.capital:
        text = capital(text, list(free.values()))
    if rng.random() < habits.mark:
        text += "?" if _asks(text) and rng.random() < 0.8 else rng.choice((".", "!", "."))
    if rng.random() < habits.lower:
        text, free = text.lower(), {slot: word.lower() for slot, word in free.items()}
    if code == "de" and rng.random() < habits.ascii:
        text, free = _plain(text), {slot: _plain(word) for slot, word in free.items()}
    if all(word in text for word in free.values()):
        return text, slots | free
    return spoken.text, dict(spoken.slots)


def polite(text: str, code: str, rng: random.Random) -> str:
    """A wrapper that suits the sentence: an order, an infinitive, or anything else."""
    first, *rest = text.split()
    order = bool(IMPERATIVE[code].match(first))
    if code == "en":
        form = rng.choice(POLITE_EN if order else ("hey, {}", "{} please", "ok, {}", "{}, please"))
        return form.format(text if first == "I" else text[:1].lower() + text[1:])
    if order and rest:
        return (
            f"{first} {rng.choice(AFTER_VERB)} {' '.join(rest)}"
            if rng.random() < 0.5
            else rng.choice(POLITE_DE).format(text)
        )
    if rest and not order and not _asks(text) and INFINITIVE.search(text):
        return rng.choice(ASK_DE).format(text)
    return rng.choice(
        ("hey, {}", "{}, bitte", "sag mal, {}", "du, {}") if _asks(text) else ("{} bitte", "bitte {}")
    ).format(text)


def typo(text: str, keep: set[str], rng: random.Random) -> str:
    """One slip of the fingers, in a word of four letters or more that is not part of ``keep``."""
    words = text.split()
    places = [at for at, word in enumerate(words) if len(word) > 3 and word.isalpha() and word not in keep]
    if not places:
        return text
    at = rng.choice(places)
    word, spot = words[at], rng.randrange(1, len(words[at]) - 2)
    words[at] = rng.choice(
        (
            word[:spot] + word[spot + 1] + word[spot] + word[spot + 2 :],
            word[:spot] + word[spot + 1 :],
            word[:spot] + word[spot] + word[spot:],
        )
    )
    return " ".join(words)


def _asks(text: str) -> bool:
    return bool(
        re.match(
            r"(is|are|what|how|who|where|which|any|do|when|ist|sind|wie|was|wo|wann|wer|welche|steht|gibt)\b",
            text,
            re.I,
        )
    )


def _plain(text: str) -> str:
    table: dict[str, str | int | None] = {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"}
    return text.translate(str.maketrans(table))
