"""What documents are called: the words by which a question says which of them it is about.

A manual says in its title which machine it is of, and its sections speak of "the device". So every passage is found by
its document's name as well, and a question is compared with the passages' texts without the names in it: those have
done their work when the document is found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from werkmeister.consulting.words import STOPS, words
from werkmeister.passage import Passage

_LONGEST_OPENING = 120
_BARE = 60
_RUN = re.compile(r"[^\W_]+(?:[-_./+'’][^\W_]+)*")
_FEW = 2
_LEAST_CODE = 4


def name_of(passages: Sequence[Passage]) -> str:
    """What a document is called, from its passages in order: its title, and the line that it opens with, where that is
    short and stands above every heading."""
    first = passages[0]
    opening = first.text.lstrip().split("\n", 1)[0].strip()
    plain = not first.headings and opening[:1].isalnum() and len(opening) <= _LONGEST_OPENING
    return f"{first.title} {opening}" if plain and opening != first.title else first.title


def file_words(document: str) -> str:
    """The words of a document's file name."""
    return PurePosixPath(document).stem


def is_bare(passage: Passage) -> bool:
    """Whether a passage says nothing but what its document is called: a short line above every heading."""
    return not passage.headings and len(passage.text) < _BARE


def codes(question: str) -> list[tuple[str, ...]]:
    """The model numbers in a question, each in the forms in which a document may have it: "ZV9032A-EU" is "zv9032a" and
    "zv9032aeu". A word of at least four characters that begins with a letter and holds a digit counts as one."""
    found = []
    for run in _RUN.findall(question):
        forms = (word for word in words(run) if len(word) >= _LEAST_CODE and word[0].isalpha())
        kept = tuple(word for word in forms if any(map(str.isdigit, word)))
        if kept:
            found.append(kept)
    return found


def parted(question: str, names: Callable[[str], bool]) -> tuple[str, str]:
    """A question without the words that name a document, and these words; twice the whole of it where hardly anything
    would be left, or nothing is named."""
    named: list[str] = []

    def kept(run: re.Match[str]) -> str:
        telling = [word for word in words(run.group()) if word not in STOPS]
        if not telling or not all(map(names, telling)):
            return run.group()
        named.append(run.group())
        return ""

    left = " ".join(_RUN.sub(kept, question).split())
    if not named or sum(word not in STOPS for word in words(left)) < _FEW:
        return question, question
    return left, " ".join(named)
