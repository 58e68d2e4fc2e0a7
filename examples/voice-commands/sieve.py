"""Which drawn sentences are worth learning from: about half of what templates can say is odd.

``sensible`` looks at grammar and artefacts, ``Recogniser`` asks hassil whether the sentence leads back to the same
intent and slots, and to no other that is as good.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import german
from german import CARRIERS, ONE
from grammar import Language, Slots, Spoken, Value, completion
from hassil.intents import SlotList, TextSlotList
from hassil.recognize import RecognizeResult, recognize_all

LONGEST = 18  # words
ODD = {
    "de": (
        r"\b(ausm|Lichtern|geräte?|Stufe Stufe)\b|\bvon den\b|\b(der|die) (gesamt|ganz)\w+ der\b|\bjede[rsn]?\b",
        r"\bdes \w+[^s\W]\b|\b(in|auf|bei) (im|am|in|an|vom|beim)\b|\b(vom|von dem|von der) (der|die|das|dem|den)\b",
        # infinitive first
        r"^(?!(den|einen|meinen|unseren|allen|nächsten|vorherigen|letzten)\b)[a-zäöü]\w*(en|ern|eln) \w",
        r" (starte?|aktiviere|deaktiviere)$",  # order last
        r"^(dreh|mach|stell|setz|fahr)e? .*\w(erhöhen|ringern|zieren|drehen|senken|stellen)$",  # order and infinitive
        r"\b(zur|zum) (der|dem|meine[rm]|unsere[rm])\b|\b(meines|unseres|eines)\b|^steht\b.*\b(öffnet|schlie(ß|ss)t)$",
        r" (erhöhe?|ringere?|reduzier|reduziere|senke?|verringere?)( (machen|einstellen|stellen))?$",
        r"\b(ist|sind|steht|stehen)\b.*\b(öffnet|schlie(ß|ss)t)\b|\b(von|dem|der|den|das|die) des\b",
        r"\bhat (im|in|auf)\b",
        r"(Song|Track|Titel|Lied)(springen|spulen)|\bzu (nächst|letzt|vorherig)|\bGeschwindigkeit (den|die|das)\b",
        r"\bden (nächst|vorherig|letzt)e[rs]?\b|\bdas (nächst|vorherig|letzt)e[rsn]\b|\bdas \w+ Stufe\b",
        r"\b(der|die) ganzen\b",
        r"^(setzt|schreibt|macht|fahrt|schaltet)\b|^(mache?|fahre?) (in|nach) .*(Stunde|Minute|Sekunde)",
        r"(erhöhen|drehen|senken|ringern|zieren) (machen|einstellen|stellen)$",
        r"\b(alle|sämtliche) (Beleuchtung|Licht|Lampe|Tür|Markise|Tor|Jalousie)\b",
        r"\b(ein|zwei|drei|vier|fünf|sechs|sieben|acht|neun) (ein|drei)|\w (halb|viertel)\b",  # halves, badly spelled
        r"\bHalbe\b",
        r"^(ist|sind|steht|stehen|welche|wie ?viele)\b.*\bnicht\b",
        r"^(wie ?viele|welche|ist (alle|sämtliche))\b(?!.*\bsind\b).*\bist\b|^ist (\w+ ){0,4}(alle|sämtliche)\b",
    ),
    "en": (
        r"\b(is|are) ((the|my|our) ){1,2}(on|off|open|closed|unlocked|locked|shut|opening|closing|all|every|any)\b",
        r"\b(the|my|our) (the|my|our|all|every|here)\b|\b(in|of|at) (in|on|of|at)\b|\bon (of|at)\b",
        r"\b(lights|lamps|fans|switches|doors|windows|blinds|curtains|shutters|shades|awnings|gates|locks) is\b",
        r"\ball (the |my )?(lamp|fan|light|door|window|blind|curtain|shutter|shade|awning|gate|lock|switch)\b",
        r"\bwhat of\b|\b(every|each|a|single) \w+s\b|\bmany (?!\w*s\b|.*s (is|are)\b)",
        r" °|\ban (?![aeiou]|hour|18|11|8)|\ba ([aeio]|18|11|8)\w* ?(minute|hour|second)",
        r"\b(some|any|which|all) of (the|my|our) \w+(?<!s)\b|^(is|are) (the )?(some|every|each)\b|^is (the )?all\b",
        r"\b(every|all) lighting\b|\bevery (my|our|the)\b|\b(lower|close|shut) up\b|\b(the|my|our) \w+ (are|is) the\b",
        r"\b(shut|close) (up|down) (?!to)|\b(change|set|make) (on|off)\b",
    ),
}
ODD_OF = {code: re.compile("|".join(patterns)) for code, patterns in ODD.items()}
ASKS_EN = re.compile(
    r"(is|are|which|what|whats|what's|how|how's|hows|any|do|does|did|where|where's|wheres|tell|can|who|who's|"
    r"whos|check|read|give|have|anyone|has)\b",
    re.I,
)
PARTING = {
    "in",
    "on",
    "of",
    "at",
    "to",
    "from",
    "for",
    "by",
    "with",
    "off",
    "out",
    "up",
    "down",
    "is",
    "are",
    "and",
    "as",
    "named",
    "called",
    "that",
    "if",
}
TELLING = {
    "vacuum": re.compile(r"saug|putz|wisch|reinig|vacuum|clean|hoover|sweep|dust", re.I),
    "lock": re.compile(
        r"sperr|rieg|schlie(ß|ss)\w* .*\b(ab|auf|zu)$|(ab|auf|zu)schl|schloss|lock|bolt|nuki|safe", re.I
    ),
    "lawn_mower": re.compile(r"mäh|rasen|wiese|mow|lawn|grass", re.I),
}
PARTICLES = {
    "turn",
    "switch",
    "bring",
    "change",
    "put",
    "get",
    "light",
    "lights",
    "lamps",
    "lighting",
    "fan",
    "fans",
    "is",
    "are",
}
UNITS = re.compile(r"(\S+?)([ -])(hour|minute|second)(s?)\b(?! floor)")


def sensible(language: Language, spoken: Spoken, intent: str) -> bool:
    """Whether a person might say it: grammar, lengths, no artefacts of the templates."""
    text = spoken.text
    words = re.findall(r"[\w'-]+", text.lower())
    if not words or len(words) > LONGEST or ODD_OF[language.code].search(text):
        return False
    if any(one.rstrip("s") == two.rstrip("s") for one, two in pairwise(words)):
        return False
    if not all(re.search(rf"(?<![\w-]){re.escape(value.text)}(?![\w-])", text) for value in spoken.values.values()):
        return False
    bare = text
    for value in spoken.values.values():
        bare = bare.replace(value.text, "")
    if re.search(r"[a-zäöüß][A-ZÄÖÜ]", bare) or _contradicts(spoken):
        return False
    if not _told(spoken):
        return False
    return _english(spoken, intent) if language.code == "en" else german.agrees(language, spoken)


def _contradicts(spoken: Spoken) -> bool:
    """Sixty minutes beside hours, or a light that is closed."""
    slots = spoken.slots
    domain = spoken.values["name"].domain if "name" in spoken.values else slots.get("domain")
    if domain in ("light", "fan", "switch") and re.search(r"\b(offen|geöffnet|geschlossen)\b|\b(auf|zu)$", spoken.text):
        return True
    return (slots.get("minutes", 0) > 59 and "hours" in slots) or (
        slots.get("seconds", 0) > 59 and ("minutes" in slots or "hours" in slots)
    )


def _told(spoken: Spoken) -> bool:
    """Whether the sentence shows what an invented name stands for: a vacuum cleans, a mower mows, a door that is
    a lock is locked, a list is called one."""
    name = spoken.values.get("name")
    if name is None:
        return True
    if (name.gender == "pet" or name.domain == "lock") and not TELLING[name.domain].search(spoken.text):
        return False
    return name.domain != "todo" or "list" in spoken.text.lower()


def _doubled(words: list[str]) -> bool:
    """Two articles with nothing between that parts one noun phrase from the next."""
    last = -9
    for at, word in enumerate(words):
        if word in ("the", "my", "our"):
            if at - last <= 4:
                return True
            last = at
        elif word in PARTING:
            last = -9
    return False


def _english(spoken: Spoken, intent: str) -> bool:
    text = spoken.text
    if _doubled(text.lower().split()):
        return False
    if intent == "HassGetState" and not ASKS_EN.match(text) and "state" in spoken.slots:
        return False
    for found in UNITS.finditer(text):
        one, joint, many = found[1] in ONE, found[2], found[4]
        timer_next = text[found.end() :].strip().startswith("timer")
        if (one and many) or (joint == "-" and (many or not timer_next)) or not (one or many or timer_next):
            return False
    return all(_english_value(text, slot, value) for slot, value in spoken.values.items())


def _english_value(text: str, slot: str, value: Value) -> bool:
    """Article, preposition and ``floor`` around one open slot."""
    before = text[: text.find(value.text)].lower().split()
    after = text[text.find(value.text) + len(value.text) :].strip()
    articled = bool(before) and before[-1] in ("the", "my", "our")
    if value.gender in ("0", "pet") and articled and not after.startswith(CARRIERS):
        return False
    if value.domain == "light" and re.match(r"(lights?|lamps?|lighting)\b", after):
        return False
    near = before[:-1] if articled else before
    preposition, earlier = near[-1] if near else "", near[-2] if len(near) > 1 else ""
    if slot == "state":
        return preposition in ("at", "in") or value.text == "home"
    if slot not in ("area", "floor"):
        return True
    if slot == "floor" and (value.gender == "the" and not value.places) != after.startswith("floor"):
        return False
    outside = "on" in value.places or after.startswith("floor")
    if (preposition == "on" and earlier not in PARTICLES and not outside) or (preposition == "in" and outside):
        return False
    return value.gender != "0" or slot == "area" or preposition not in ("in", "on", "of", "at")


class Recogniser:
    """hassil with this example's words: does a sentence lead back to the intent and slots it was drawn with?"""

    def __init__(self, language: Language) -> None:
        self.language = language
        self.lists: dict[str, SlotList] = {}
        for name in ("area", "floor"):
            self.lists[name] = TextSlotList.from_tuples(
                ((value.text, value.text) for value in language.values[name]), allow_template=False
            )
        self.lists["name"] = TextSlotList.from_tuples(
            ((value.text, value.text, {"domain": value.domain}) for value in language.values["name"]),
            allow_template=False,
        )

    def agrees(self, text: str, intent: str, slots: Slots) -> bool:
        """Whether the best reading of the sentence is this one, and no other is as good."""
        best: dict[tuple[int, int], set[str]] = {}
        for result in recognize_all(text, self.language.intents, slot_lists=self.lists, language=self.language.code):
            wild = sum(1 for entity in result.entities_list if entity.is_wildcard)
            length = sum(len(entity.text or "") for entity in result.entities_list if entity.is_wildcard)
            best.setdefault((wild, length), set()).add(completion(result.intent.name, _heard(result)))
        return bool(best) and best[min(best)] == {completion(intent, slots)}


def _heard(result: RecognizeResult) -> dict[str, Any]:
    heard = {}
    for name, entity in result.entities.items():
        value = entity.value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        heard[name] = value.strip() if isinstance(value, str) else value
    return heard
