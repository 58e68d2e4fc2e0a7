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


def without_names(question: str, names: Callable[[str], Sequence[str]]) -> str:
    """A question without the words that name a document; the whole of it where hardly anything would be left."""
    named = set(names(question))
    kept = _RUN.sub(lambda run: "" if named.issuperset(words(run.group())) else run.group(), question)
    left = " ".join(kept.split())
    telling = [word for word in words(left) if word not in STOPS]
    return left if named and len(telling) >= _FEW else question
