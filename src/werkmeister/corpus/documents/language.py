"""Which language a text is in, told by its most frequent words."""

from __future__ import annotations

import re
from collections import Counter

_WORDS = {
    "en": "the of and to in is that it for was on are as with be this by at from or an not which you have can will if "
    "when has must should its your all more use used may into than then these there where each using",
    "de": "der die und das ist nicht den mit von zu ein eine sich auf für des dem im wird auch als bei oder werden "
    "einen nach wenn sind sie kann aus durch zum zur einer eines über wie nur noch müssen wurde dass diese dieser",
    "fr": "le la les des et est une dans que pour qui sur pas par plus avec sont ce au du être cette vous ou aux "
    "doit peut son ses nous mais comme lorsque fait sans",
    "es": "el los las del y que es una por con para se no su al lo como más o pero sus ha este si está son entre "
    "cuando muy sin sobre también debe puede hay usted",
    "it": "il di che è e un per non sono con una si del della le dei nel alla da più gli come anche delle lo ed "
    "essere questo quando può deve dal nella degli sul",
    "nl": "het een van en dat niet te op voor met zijn aan er worden wordt door ook bij naar als uit dan deze kan "
    "moet om heeft maar geen nog wel over dit",
    "pt": "o os as do da dos das e que não uma um para com por se mais como mas ao foi ser são você quando muito "
    "pelo pela também já está deve pode até isso",
    "sv": "och att det som en på är av för med den till inte har de ett om men var kan eller från vid ska när "
    "detta hur också under efter måste",
    "da": "og at det som en på er af for med den til ikke har de et om men var kan eller fra ved skal når dette "
    "hvordan også under efter blev",
    "pl": "i w na z się nie do że jest to o jak od za po przez dla są oraz lub przy tym który być może należy "
    "czy jego jako które należy aby",
    "cs": "a se na je že v s z do o pro i to by jako za ale od při jsou nebo být není který které lze musí pokud "
    "může také po jeho",
}
_OF = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_TOKEN = re.compile(r"[^\W\d_]+")
_SAMPLE = 200_000
_FEWEST = 3
_SHARE = 1 / 12


def detect_language(text: str, *, fewest: int = _FEWEST, share: float = _SHARE) -> str:
    """The two-letter code of the language of `text`, or "" where its words do not tell.

    Counts the stop words of eleven European languages and takes the language that has the most, if they make up a
    `share` of all words or more and lead the runner-up by a tenth of themselves. Tables and code hold few stop words:
    what has fewer than `fewest` stays unknown.
    """
    words = Counter(_TOKEN.findall(text[:_SAMPLE].casefold()))
    total = sum(words.values())
    scores = {language: sum(words[word] for word in known if word in words) for language, known in _OF.items()}
    (best, most), (_, second), *_ = sorted(scores.items(), key=lambda item: -item[1])
    if most < fewest or most < share * total or second * 10 > most * 9:
        return ""
    return best
