"""Which drawn sentences are worth learning from: about half of what templates can say is odd.

``sensible`` looks at grammar and artefacts, ``Recogniser`` asks hassil whether the sentence leads back to the same
intent and slots, and to no other that is as good.
"""

from __future__ import annotations

import re
from typing import Any

from hassil.intents import SlotList, TextSlotList
from hassil.recognize import recognize_all
from hassil.recognize import RecognizeResult

from grammar import Language, Slots, Spoken, Value, completion

LONGEST = 18  # words
CARRIERS = ("scene", "script", "list", "timer", "szene", "skript", "liste")  # nouns that lend a name their article
ACCUSATIVE = {"den": "m", "die": "fp", "das": "n", "einen": "m", "eine": "f", "ein": "n", "meinen": "m", "unseren": "m",
              "meine": "fp", "unsere": "fp", "mein": "n", "unser": "n", "dieses": "n", "diesen": "m", "diese": "fp"}
NOMINATIVE = ACCUSATIVE | {"der": "m", "den": "", "ein": "mn", "einen": "", "mein": "mn", "unser": "mn", "meinen": "",
                           "unseren": ""}
DATIVE = {"dem": "mn", "der": "f", "den": "p", "meinem": "mn", "meiner": "f", "unserem": "mn", "unserer": "f",
          "einem": "mn", "einer": "f", "diesem": "mn", "dieser": "f"}
FUSED = {"im": "mn", "am": "mn", "vom": "mn", "zum": "mn", "beim": "mn", "ins": "n", "zur": "f"}
DATIVE_AFTER = {"von", "zu", "mit", "bei", "aus", "nach"}
EITHER_AFTER = {"in", "an", "auf"}
ASKING = {"ist", "sind", "steht", "stehen", "läuft", "wie", "was", "wo", "wann", "welche", "befindet", "hält", "wer", "hat"}
ADJECTIVE = re.compile(r"(?:(\w+) )?(nächst|vorherig|letzt)(e[rsn]?) (Titel|Lied|Song|Track|Stück|Sender|Kapitel)\b", re.I)
ODD = {
    "de": (
        r"\b(ausm|Lichtern|geräte?|Stufe Stufe)\b|\bvon den\b|\b(der|die) (gesamt|ganz)\w+ der\b|\bjede[rsn]?\b",
        r"\bdes \w+[^s\W]\b|\b(in|auf|bei) (im|am|in|an|vom|beim)\b|\b(vom|von dem|von der) (der|die|das|dem|den)\b",
        r"^(?!(den|einen|meinen|unseren|allen|nächsten|vorherigen|letzten)\b)[a-zäöü]\w*(en|ern|eln) \w",  # infinitive first
        r" (starte?|aktiviere|deaktiviere)$",  # order last
        r"^(dreh|mach|stell|setz|fahr)e? .*\w(erhöhen|ringern|zieren|drehen|senken|stellen)$",  # order and infinitive
        r"\b(zur|zum) (der|dem|meine[rm]|unsere[rm])\b|\b(meines|unseres|eines)\b|^steht\b.*\b(öffnet|schlie(ß|ss)t)$",
        r" (erhöhe?|ringere?|reduzier|reduziere|senke?|verringere?)( (machen|einstellen|stellen))?$",
        r"\b(ist|sind|steht|stehen)\b.*\b(öffnet|schlie(ß|ss)t)\b|\b(von|dem|der|den|das|die) des\b|\bhat (im|in|auf)\b",
        r"(Song|Track|Titel|Lied)(springen|spulen)|\bzu (nächst|letzt|vorherig)|\bGeschwindigkeit (den|die|das)\b",
        r"\bden (nächst|vorherig|letzt)e[rs]?\b|\bdas (nächst|vorherig|letzt)e[rsn]\b|\bdas \w+ Stufe\b|\b(der|die) ganzen\b",
        r"^(setzt|schreibt|macht|fahrt|schaltet)\b|^(mache?|fahre?) (in|nach) .*(Stunde|Minute|Sekunde)",
        r"(erhöhen|drehen|senken|ringern|zieren) (machen|einstellen|stellen)$",
        r"\b(alle|sämtliche) (Beleuchtung|Licht|Lampe|Tür|Markise|Tor|Jalousie)\b",
        r"\b(ein|zwei|drei|vier|fünf|sechs|sieben|acht|neun) (ein|drei)|\w (halb|viertel)\b|\bHalbe\b",  # halves, badly spelled
        r"^(ist|sind|steht|stehen|welche|wie ?viele)\b.*\bnicht\b",
        r"^(wie ?viele|welche|ist (alle|sämtliche))\b(?!.*\bsind\b).*\bist\b|^ist (\w+ ){0,4}(alle|sämtliche)\b",
    ),
    "en": (
        r"\b(is|are) (the |my |our )?(the|my|our) (on|off|open|closed|unlocked|locked|shut|opening|closing|all|every|any)\b",
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
ASKS_EN = re.compile(r"(is|are|which|what|whats|what's|how|how's|hows|any|do|does|did|where|where's|wheres|tell|can|who|who's|"
                     r"whos|check|read|give|have|anyone|has)\b", re.I)
PARTING = set("in on of at to from for by with off out up down is are and as named called that if".split())
PROPERTIES = set("Geschwindigkeit Helligkeit Farbe Farbtemperatur Temperatur Lautstärke Position Zustand Status Wert Lüfter "
                 "Stummschaltung Klima Heizung Thermostat".split())
SAME_IN_PLURAL = {"Fenster", "Lüfter", "Rollladen", "Rolladen", "Lautsprecher", "Fernseher", "Timer", "Sauger", "Staubsauger"}
TELLING = {"vacuum": re.compile(r"saug|putz|wisch|reinig|vacuum|clean|hoover|sweep|dust", re.I),
           "lock": re.compile(r"sperr|rieg|schlie(ß|ss)\w* .*\b(ab|auf|zu)$|(ab|auf|zu)schl|schloss|lock|bolt|nuki|safe", re.I),
           "lawn_mower": re.compile(r"mäh|rasen|wiese|mow|lawn|grass", re.I)}
PARTICLES = {"turn", "switch", "bring", "change", "put", "get", "light", "lights", "lamps", "lighting", "fan", "fans", "is", "are"}
UNITS = {"de": re.compile(r"(\S+) (Stunde|Minute|Sekunde)(n?)\b"), "en": re.compile(r"(\S+?)([ -])(hour|minute|second)(s?)\b(?! floor)")}
ONE = {"1", "eine", "ein", "einer", "one", "a", "an", "halbe", "halb", "viertel", "dreiviertel", "Halbe"}


def sensible(language: Language, spoken: Spoken, intent: str) -> bool:
    """Whether a person might say it: grammar, lengths, no artefacts of the templates."""
    text = spoken.text
    words = re.findall(r"[\w'-]+", text.lower())
    if not words or len(words) > LONGEST or ODD_OF[language.code].search(text):
        return False
    if any(one.rstrip("s") == two.rstrip("s") for one, two in zip(words, words[1:], strict=False)):
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
    return _english(spoken, intent) if language.code == "en" else _german(language, spoken)


def _contradicts(spoken: Spoken) -> bool:
    """Sixty minutes beside hours, or a light that is closed."""
    slots = spoken.slots
    domain = spoken.values["name"].domain if "name" in spoken.values else slots.get("domain")
    if domain in ("light", "fan", "switch") and re.search(r"\b(offen|geöffnet|geschlossen)\b|\b(auf|zu)$", spoken.text):
        return True
    return slots.get("minutes", 0) > 59 and "hours" in slots or slots.get("seconds", 0) > 59 and (
        "minutes" in slots or "hours" in slots)


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
    for found in UNITS["en"].finditer(text):
        one, joint, many = found[1] in ONE, found[2], found[4]
        timer_next = text[found.end():].strip().startswith("timer")
        if (one and many) or (joint == "-" and (many or not timer_next)) or not (one or many or timer_next):
            return False
    return all(_english_value(text, slot, value) for slot, value in spoken.values.items())


def _english_value(text: str, slot: str, value: Value) -> bool:
    """Article, preposition and ``floor`` around one open slot."""
    before = text[: text.find(value.text)].lower().split()
    after = text[text.find(value.text) + len(value.text):].strip()
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
    if preposition == "on" and earlier not in PARTICLES and not outside or preposition == "in" and outside:
        return False
    return value.gender != "0" or slot == "area" or preposition not in ("in", "on", "of", "at")


def _german(language: Language, spoken: Spoken) -> bool:
    text = spoken.text
    for number, _unit, many in UNITS["de"].findall(text):
        if (number in ONE) == bool(many):
            return False
    for article, _stem, ending, noun in ADJECTIVE.findall(text):
        if not _adjective(article.lower(), ending, "n" if noun in ("Lied", "Stück", "Kapitel") else "m"):
            return False
    asking = text.split()[0].lower() in ASKING
    if asking and not _verb_agrees(language, spoken):
        return False
    return all(_article(language, spoken, noun, asking) for noun in _nouns(language, spoken))


def _verb_agrees(language: Language, spoken: Spoken) -> bool:
    """``ist`` with one, ``sind`` with many, judged by the nouns that templates bring."""
    rest = spoken.text
    for value in spoken.values.values():
        rest = rest.replace(value.text, " ")
    words = rest.split()
    nouns = [word for word in words if word in language.genders and word not in SAME_IN_PLURAL]
    many = any(language.genders[noun] == "p" for noun in nouns)
    lower = {word.lower() for word in words}
    if nouns and (lower & {"ist", "steht"} and many or lower & {"sind", "stehen"} and not many):
        return False
    return not (lower & {"ist", "steht"} and lower & {"alle", "sämtliche", "irgendwelche"})


def _adjective(article: str, ending: str, gender: str) -> bool:
    if article in ("zum", "dem", "vom", "im", "beim"):
        return ending == "en"
    if article in ("den", "einen", "meinen"):
        return gender == "m" and ending == "en"
    if article == "das":
        return gender == "n" and ending == "e"
    return ending in ({"es"} if gender == "n" else {"er", "en"})


def _nouns(language: Language, spoken: Spoken) -> list[str]:
    """Words in the sentence whose gender is known: values whole, other nouns where no value holds them."""
    rest = spoken.text
    found = []
    for value in spoken.values.values():
        found.append(value.text)
        rest = rest.replace(value.text, " ")
    return found + [word for word in re.findall(r"[\wäöüÄÖÜß-]+", rest) if word in language.genders]


def _article(language: Language, spoken: Spoken, noun: str, asking: bool) -> bool:
    """Whether the words before a noun agree with its gender and case."""
    place = re.search(rf"(?<![\w-]){re.escape(noun)}(?![\w-])", spoken.text)
    before = spoken.text[: place.start()].split() if place else []
    last = before[-1].lower() if before else ""
    earlier = before[-2] if len(before) > 1 else ""
    value = next((value for value in spoken.values.values() if value.text == noun), None)
    gender = "0" if language.genders[noun] == "pet" else language.genders[noun]
    if value and value.places:
        articled = last in ACCUSATIVE | DATIVE | FUSED or last in EITHER_AFTER | DATIVE_AFTER
        near = f"{earlier} {last}".strip().lower()
        bare = not articled and "state" not in spoken.values
        return bare or last in value.places or near in value.places or value.gender == "0" and last == "in"
    after = spoken.text[place.end():].strip().lower() if place else ""
    if gender == "0" and after.startswith(CARRIERS):
        gender = "m" if after.startswith("timer") else "n" if after.startswith("skript") else "f"
    if gender == "0":
        return last not in ACCUSATIVE | DATIVE | FUSED | {"des": ""}
    if last in DATIVE_AFTER:
        return False
    if last in FUSED:
        return gender in FUSED[last]
    if last not in ACCUSATIVE | DATIVE | {"des": ""}:
        return True
    if earlier.lower() in DATIVE_AFTER:
        return gender in DATIVE.get(last, "")
    if earlier.lower() in EITHER_AFTER:
        return gender in DATIVE.get(last, "") or gender in ACCUSATIVE.get(last, "")
    if last == "der" and gender in "fp" and earlier in PROPERTIES:
        return True
    return gender in (NOMINATIVE if asking else ACCUSATIVE).get(last, "")


class Recogniser:
    """hassil with this example's words: does a sentence lead back to the intent and slots it was drawn with?"""

    def __init__(self, language: Language) -> None:
        self.language = language
        self.lists: dict[str, SlotList] = {}
        for name in ("area", "floor"):
            self.lists[name] = TextSlotList.from_tuples(
                ((value.text, value.text) for value in language.values[name]), allow_template=False)
        self.lists["name"] = TextSlotList.from_tuples(
            ((value.text, value.text, {"domain": value.domain}) for value in language.values["name"]), allow_template=False)

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
