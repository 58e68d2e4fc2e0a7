"""What a document is about, by its title: the thing that every question names."""

from __future__ import annotations

import re
from dataclasses import dataclass

_KINDS = (
    *("documentation", "manual", "handbook", "guide", "instructions", "instruction", "reference", "datasheet", "faq"),
    *("sheet", "specification", "specifications", "tutorial", "overview", "notes", "readme", "wiki", "quickstart"),
    *("dokumentation", "handbuch", "anleitung", "bedienungsanleitung", "betriebsanleitung", "gebrauchsanleitung"),
    *("montageanleitung", "wartungsanleitung", "benutzerhandbuch", "gerätehandbuch", "datenblatt", "kurzreferenz"),
    *("installationsanleitung", "kurzanleitung", "leitfaden", "referenz", "wartungshandbuch", "betriebshandbuch"),
    *("serviceanleitung", "servicehandbuch", "übersicht", "einführung", "faqs", "troubleshooting", "fehlersuche"),
)
_BEFORE_KIND = (
    *(
        "user",
        "users",
        "user's",
        "owner's",
        "operating",
        "operation",
        "installation",
        "service",
        "maintenance",
        "quick",
    ),
    *("reference", "getting", "started", "start", "technical", "programming", "integrator", "developer", "instruction"),
    *("product", "programmer's", "administrator", "admin", "setup", "safety", "repair", "the", "complete", "official"),
    *("technische", "technisches", "die", "das", "kurze", "kleine", "original", "online", "offizielle", "data"),
)
_FOR = re.compile(r"^(?:for|of|to|für|zu|zum|zur|der|des|von)\s+(?:the\s+|den\s+|die\s+|das\s+|der\s+)?", re.IGNORECASE)
_VERSION = re.compile(
    r"[\s,–-]+(?:version\s*|rev(?:ision)?\.?\s*|v)\d+\.\d+\S*.*$|[\s,]+\d{1,2}\.? \w+ \d{4}$", re.IGNORECASE
)
_FILE = re.compile(r"\.(?:pdf|docx?|md|html?|txt|adoc|rst|epub|pptx?|xlsx?|eml)$", re.IGNORECASE)
_WORD = re.compile(r"[\w'’&/.+-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """What the document is about. `device`: its name tells a make or model, not a piece of software or a topic."""

    name: str
    device: bool

    @property
    def words(self) -> frozenset[str]:
        """The words of the name, folded: a question that says one of the telling ones names the thing."""
        return frozenset(word.casefold() for word in _WORD.findall(self.name) if len(word) > 2)


def thing_of(title: str) -> Thing | None:
    """The thing that a title names, or None where it only says what kind of text it is ("User manual").

    "HX-200 operating manual" → HX-200; "LinuxCNC V2.9.0, 28 Jun 2026" → LinuxCNC; "Betriebsanleitung für die
    Hydraulikpumpe HP 40" → Hydraulikpumpe HP 40.
    """
    name = _VERSION.sub("", _FILE.sub("", " ".join(title.replace('"', "").split()))).strip(" ,–-:")
    words = name.split()
    at = next((i for i, word in enumerate(words) if word.strip(":,–-").casefold() in _KINDS), None)
    if at is not None:
        before = words[:at]
        while before and before[-1].strip(",:–-").casefold() in _BEFORE_KIND:
            before.pop()
        after = _FOR.sub("", " ".join(words[at + 1 :]).strip(" ,:–-"))
        kept = [word for word in before if word.casefold() not in ("the", "die", "das", "der")]
        name = " ".join(kept).strip(" ,:–-") if kept else after
    if len(name) < 2 or len(name) > 80 or not any(letter.isalpha() for letter in name):
        return None
    words = name.split()
    model = any(letter.isdigit() for letter in name) or any(len(word) > 1 and word.isupper() for word in words[1:])
    return Thing(name=name, device=model)
