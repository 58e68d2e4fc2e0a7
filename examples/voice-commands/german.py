"""Whether a German sentence agrees with itself: articles and their nouns, endings, numbers, verbs."""

from __future__ import annotations

import re

from grammar import Language, Spoken

CARRIERS = ("scene", "script", "list", "timer", "szene", "skript", "liste")  # nouns that lend a name their article
ACCUSATIVE = {
    "den": "m",
    "die": "fp",
    "das": "n",
    "einen": "m",
    "eine": "f",
    "ein": "n",
    "meinen": "m",
    "unseren": "m",
    "meine": "fp",
    "unsere": "fp",
    "mein": "n",
    "unser": "n",
    "dieses": "n",
    "diesen": "m",
    "diese": "fp",
}
NOMINATIVE = ACCUSATIVE | {
    "der": "m",
    "den": "",
    "ein": "mn",
    "einen": "",
    "mein": "mn",
    "unser": "mn",
    "meinen": "",
    "unseren": "",
}
DATIVE = {
    "dem": "mn",
    "der": "f",
    "den": "p",
    "meinem": "mn",
    "meiner": "f",
    "unserem": "mn",
    "unserer": "f",
    "einem": "mn",
    "einer": "f",
    "diesem": "mn",
    "dieser": "f",
}
FUSED = {"im": "mn", "am": "mn", "vom": "mn", "zum": "mn", "beim": "mn", "ins": "n", "zur": "f"}
DATIVE_AFTER = {"von", "zu", "mit", "bei", "aus", "nach"}
EITHER_AFTER = {"in", "an", "auf"}
ASKING = {
    "ist",
    "sind",
    "steht",
    "stehen",
    "läuft",
    "wie",
    "was",
    "wo",
    "wann",
    "welche",
    "befindet",
    "hält",
    "wer",
    "hat",
}
ADJECTIVE = re.compile(
    r"(?:(\w+) )?(nächst|vorherig|letzt)(e[rsn]?) (Titel|Lied|Song|Track|Stück|Sender|Kapitel)\b", re.I
)
PROPERTIES = {
    "Geschwindigkeit",
    "Helligkeit",
    "Farbe",
    "Farbtemperatur",
    "Temperatur",
    "Lautstärke",
    "Position",
    "Zustand",
    "Status",
    "Wert",
    "Lüfter",
    "Stummschaltung",
    "Klima",
    "Heizung",
    "Thermostat",
}
SAME_IN_PLURAL = {
    "Fenster",
    "Lüfter",
    "Rollladen",
    "Rolladen",
    "Lautsprecher",
    "Fernseher",
    "Timer",
    "Sauger",
    "Staubsauger",
}
ONE = {"1", "eine", "ein", "einer", "one", "a", "an", "halbe", "halb", "viertel", "dreiviertel", "Halbe"}
UNITS = re.compile(r"(\S+) (Stunde|Minute|Sekunde)(n?)\b")


def agrees(language: Language, spoken: Spoken) -> bool:
    """Whether articles, adjectives, numbers and verbs fit the nouns they stand with."""
    text = spoken.text
    for number, _unit, many in UNITS.findall(text):
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
    if nouns and ((lower & {"ist", "steht"} and many) or (lower & {"sind", "stehen"} and not many)):
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
    after = spoken.text[place.end() :].strip().lower() if place else ""
    if value and value.places and after.startswith("timer"):
        return "m" in (ACCUSATIVE | NOMINATIVE | DATIVE | FUSED).get(last, "m")
    if value and value.places:
        articled = last in ACCUSATIVE | DATIVE | FUSED or last in EITHER_AFTER | DATIVE_AFTER
        near = f"{earlier} {last}".strip().lower()
        bare = not articled and "state" not in spoken.values
        return bare or last in value.places or near in value.places or (value.gender == "0" and last == "in")
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
