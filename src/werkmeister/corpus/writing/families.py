"""Families: documents that say nearly the same, which are not parted between train and exam.

Variants of one device, revisions of one manual, the same page in two formats: a question about one gives the answer
about the other away. Documents whose sets of word 5-grams have a Jaccard similarity of `ALIKE` or more are joined
(single linkage), and a family never parts. Where fewer than `FEWEST` families are left, nothing could be held out
fairly, and the sections of a document take their place, under its highest headings that make enough of them; in a
text without headings, its passages.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from werkmeister.corpus.documents.document import Document
from werkmeister.corpus.duplicates import bands, jaccard
from werkmeister.passage import Passage
from werkmeister.progress import Progress

ALIKE = 0.5
FEWEST = 10
_SECTIONS, _LARGEST, _DEEPEST = 20, 0.2, 6
_WIDE = 5
_BATCH = 256
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class Families:
    """Which group a passage belongs to.

    `mode` is "documents", "sections" or "passages"; `heads` names each document's family, `depth` is how many headings
    name a section (0 where documents are the groups).
    """

    mode: str
    heads: Mapping[str, str]
    depth: int = 0

    def group(self, passage: Passage) -> str:
        """The name of what never parts: the family's first document, with the section's headings where those count."""
        if self.mode == "passages":
            return f"{self.heads[passage.document]} › {passage.id}"
        return " › ".join((self.heads[passage.document], *passage.headings[: self.depth]))


def find_families(documents: Sequence[tuple[Document, Sequence[Passage]]], progress: Progress) -> Families:
    """Join documents into families; a family is called by its first document in the order given.

    Candidates come from MinHash with locality-sensitive hashing (a pair at the threshold is missed with a probability
    below 1e-6) and are verified by their exact similarity, so the result is the same everywhere. Sections are cut at
    the least depth of headings that makes twenty groups, none with more than a fifth of all passages.
    """
    shingled = [(document.name, shingles(document.text)) for document, _ in documents]
    parent = {name: name for name, _ in shingled}
    for left, right in _alike([pieces for _, pieces in shingled], progress):
        one, other = _root(parent, shingled[left][0]), _root(parent, shingled[right][0])
        first, second = sorted((one, other), key=list(parent).index) if one != other else (one, other)
        parent[second] = first
    heads = {name: _root(parent, name) for name in parent}
    if len(set(heads.values())) >= FEWEST:
        return Families(mode="documents", heads=heads)
    passages = [passage for _, own in documents for passage in own]
    tried = [Families(mode="sections", heads=heads, depth=depth) for depth in range(1, _DEEPEST + 1)]
    found = next((families for families in tried if _parts_well(families, passages)), tried[-1])
    if len({found.group(passage) for passage in passages}) < FEWEST:
        return Families(mode="passages", heads=heads)
    return found


def _parts_well(families: Families, passages: Sequence[Passage]) -> bool:
    sizes = Counter(families.group(passage) for passage in passages)
    return len(sizes) >= _SECTIONS and max(sizes.values()) <= _LARGEST * len(passages)


def shingles(text: str) -> frozenset[int]:
    """Word 5-grams as 64-bit numbers: folded case, punctuation left out. A shorter text is one shingle."""
    words = words_of(text)
    lines = (" ".join(words[at : at + _WIDE]) for at in range(max(1, len(words) - _WIDE + 1)))
    return frozenset(_number(line) for line in lines) if words else frozenset()


def words_of(text: str) -> list[str]:
    """The words of a text in order, folded."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _number(line: str) -> int:
    return int.from_bytes(hashlib.blake2b(line.encode(), digest_size=8).digest(), "big")


def _root(parent: dict[str, str], name: str) -> str:
    while parent[name] != name:
        parent[name] = parent[parent[name]]
        name = parent[name]
    return name


def _alike(pieces: Sequence[frozenset[int]], progress: Progress) -> list[tuple[int, int]]:
    """Pairs of places whose similarity is at or above the threshold."""
    import rensa

    rows, count = bands(ALIKE)
    index = rensa.RMinHashLSH(ALIKE, rows * count, count)
    found = []
    filled = [at for at, own in enumerate(pieces) if own]
    with progress.track("compare documents", len(filled)) as track:
        for start in range(0, len(filled), _BATCH):
            batch = filled[start : start + _BATCH]
            tokens = [[f"{piece:x}" for piece in sorted(pieces[at])] for at in batch]
            for at, hashed in zip(batch, rensa.RMinHash.from_token_sets(tokens, rows * count, 1), strict=True):
                found += [
                    (other, at) for other in sorted(index.query(hashed)) if jaccard(pieces[other], pieces[at]) >= ALIKE
                ]
                index.insert(at, hashed)
            track.advance(len(batch))
    return found
