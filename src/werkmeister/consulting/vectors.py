"""The meaning half of a library: all vectors in memory, compared with a question's one by one.

A passage has a vector for each of its parts (a heading and what stands below it), made of the text alone, and its
document one for its name. What fits best of a passage's parts counts, and beside it how well the name fits: with one
vector for both, the name drowns what a passage says.

SQLite extensions such as sqlite-vec cannot be loaded by every Python (many are built without), so the vectors lie in
the library's file as blocks of 16-bit floats and are multiplied by numpy: fast up to some hundreds of thousands of
passages (EXPERIMENTS.md). Above that an approximate index (`neighbours`) says which of them are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from werkmeister.consulting.naming import is_bare
from werkmeister.consulting.neighbours import NEIGHBOURS
from werkmeister.errors import ArtefactError
from werkmeister.passage import Passage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from werkmeister.consulting.embedding import Matrix
    from werkmeister.consulting.neighbours import Neighbours

_BLOCK = 4096  # vectors a row of the file
_LONGEST = 800  # characters of a part
COARSE_FROM = 60_000
"""Vectors from which on all are compared roughly first."""

_DIRECTIONS = 64
_SAMPLE = 20_000
_REFINED = 500  # passages compared exactly after that
_NEAR = 1000  # vectors that the approximate index is asked for
_UNSEEN = -8.0  # score of a passage that it did not bring: below all others


def code_of(language: str) -> int:
    """A two-letter language as a number; 0 for one that is not known."""
    return int.from_bytes(language.encode()[:2], "big")


def parts(passage: Passage) -> list[str]:
    """The texts that a passage's vectors are made of: each heading in it with what stands below, under its headings.

    A long one is cut between lines. Never empty.
    """
    head = " › ".join(passage.headings)
    found: list[str] = []
    lines: list[str] = []
    for line in passage.text.split("\n"):
        full = sum(map(len, lines)) + len(line) > _LONGEST
        if lines and (full or (line.startswith("#") and any(map(str.strip, lines)))):
            found.append("\n".join(lines).strip())
            lines = []
        lines.append(line)
    found.append("\n".join(lines).strip())
    kept = [text for text in found if text] or [passage.title]
    return [f"{head}\n{text}" if head else text for text in kept]


@dataclass
class Gathered:
    """Vectors of passages and documents, gathered in order; equal ones are kept once."""

    bodies: list[NDArray[Any]] = field(default_factory=list)
    of_part: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    names: list[NDArray[Any]] = field(default_factory=list)
    document: list[int] = field(default_factory=list)
    bare: list[bool] = field(default_factory=list)
    language: list[int] = field(default_factory=list)
    _known: dict[bytes, int] = field(default_factory=dict)

    def add_document(self, name: NDArray[Any], passages: Sequence[Passage], bodies: Sequence[NDArray[Any]]) -> None:
        """Take a document's name vector, and the vectors of its passages' `parts` one after the other."""
        self.names.append(name)
        rest = iter(bodies)
        for passage in passages:
            self.starts.append(len(self.of_part))
            self.document.append(len(self.names) - 1)
            self.bare.append(is_bare(passage))
            self.language.append(code_of(passage.language))
            for _ in parts(passage):
                vector = next(rest)
                number = self._known.setdefault(vector.tobytes(), len(self.bodies))
                if number == len(self.bodies):
                    self.bodies.append(vector)
                self.of_part.append(number)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write all of it into a library's file."""
        import numpy as np

        connection.execute("CREATE TABLE vectors (kind TEXT, first INTEGER, data BLOB, PRIMARY KEY (kind, first))")
        for kind, rows in (("body", self.bodies), ("name", self.names)):
            for first in range(0, len(rows), _BLOCK):
                block = np.asarray(rows[first : first + _BLOCK], dtype=np.float16)
                connection.execute("INSERT INTO vectors VALUES (?, ?, ?)", (kind, first, block.tobytes()))
        for kind in ("of_part", "starts", "document", "bare", "language"):
            numbers = np.asarray(getattr(self, kind), dtype=np.int32)
            connection.execute("INSERT INTO vectors VALUES (?, 0, ?)", (kind, numbers.tobytes()))


class Vectors:
    """The vectors of a library in memory: 4 · width bytes for each part that differs.

    With more than `coarse_from` of them, all are first compared in the 64 directions in which they differ most, and the
    best passages then exactly: a fifth of the time, and half the memory (16-bit floats). Where there are `neighbours`,
    only what they name, and what `also` names, is compared.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        width: int,
        coarse_from: int = COARSE_FROM,
        neighbours: Neighbours | None = None,
    ) -> None:
        import numpy as np

        self.of_part, self.starts, self.document, bare = (
            _numbers(connection, kind) for kind in ("of_part", "starts", "document", "bare")
        )
        self.language = _numbers(connection, "language")
        self.counts: NDArray[Any] = np.diff(self.starts, append=len(self.of_part))
        self.bare: NDArray[Any] = bare.astype(bool)
        self.hidden = np.where(self.bare, np.float32(-4), np.float32(0))
        self.names = _matrix(connection, "name", width, np.float32)
        large = neighbours is not None or int(self.of_part.max(initial=-1)) >= coarse_from
        self.bodies = _matrix(connection, "body", width, np.float16 if large else np.float32)
        if neighbours is not None and neighbours.count != len(self.bodies):
            raise ArtefactError(
                f"{NEIGHBOURS} has {neighbours.count:,} vectors and the library {len(self.bodies):,}",
                hint="make the index again: werkmeister index EXPERT --again",
            )
        self.near = _Near(neighbours, self.of_part, self.counts) if neighbours is not None else None
        self.coarse = _Coarse(self.bodies) if large and neighbours is None else None

    def scores(
        self,
        question: NDArray[Any],
        naming: NDArray[Any],
        weight: float,
        ranges: Sequence[tuple[int, int]] | None = None,
        also: Sequence[int] = (),
    ) -> NDArray[Any]:
        """How well each passage fits: the best of its parts against `question`, and `weight` times its document's name
        against `naming`, as a weighted mean (-1 to 1). A bare passage comes last, lower than any other.

        `ranges` are the (first, count) of the passages that count; the scores of others may be rough, and lower than
        any where there are `neighbours`: those give the candidates, which with `also` are compared exactly. Within
        `ranges` all are.
        """
        import numpy as np

        if self.near is not None:
            named = (self.names @ naming)[self.document] * weight
            if ranges is None:
                bound = self.near.bound(question, len(self.starts)) + named + self.hidden * (1 + weight)
                near = [number for number, _ in nearest(bound, _REFINED)]
                chosen = np.unique(np.array([*near, *also], dtype=np.int64))
            else:
                chosen = _within(ranges)
            seen: NDArray[Any] = np.full(len(self.starts), _UNSEEN, dtype=np.float32)
            for first in range(0, len(chosen), _BLOCK):
                some = chosen[first : first + _BLOCK]
                seen[some] = (self._exact(some, question) + named[some]) / (1 + weight) + self.hidden[some]
            return seen
        similar = self.bodies @ question if self.coarse is None else self.coarse.similar(question)
        best = np.maximum.reduceat(similar[self.of_part], self.starts)
        named = (self.names @ naming)[self.document]
        mean: NDArray[Any] = (best + weight * named) / (1 + weight) + self.hidden
        if self.coarse is not None:
            chosen = np.array([number for number, _ in nearest(mean, _REFINED, ranges)], dtype=np.int64)
            mean[chosen] += (self._exact(chosen, question) - best[chosen]) / (1 + weight)
        return mean

    def _exact(self, chosen: NDArray[Any], question: NDArray[Any]) -> NDArray[Any]:
        """The best of the parts of some passages, exactly."""
        import numpy as np

        counts = self.counts[chosen]
        begins = np.cumsum(counts) - counts
        places = np.repeat(self.starts[chosen] - begins, counts) + np.arange(counts.sum())
        similar = self.bodies[self.of_part[places]].astype(np.float32) @ question
        found: NDArray[Any] = np.maximum.reduceat(similar, begins)
        return found


class _Near:
    """From the nearest vectors to the passages that have them."""

    def __init__(self, neighbours: Neighbours, of_part: NDArray[Any], counts: NDArray[Any]) -> None:
        import numpy as np

        self.neighbours = neighbours
        by_vector = np.argsort(of_part, kind="stable")
        self.passages: NDArray[Any] = np.repeat(np.arange(len(counts)), counts)[by_vector]
        self.starts: NDArray[Any] = np.searchsorted(of_part[by_vector], np.arange(neighbours.count + 1))

    def bound(self, question: NDArray[Any], passages: int) -> NDArray[Any]:
        """The dot product of each passage's best part; where none is among the nearest, that of the last of these,
        which no such part exceeds: so a passage whose document is named can still come first."""
        import numpy as np

        numbers, similar = self.neighbours.near(question, _NEAR)
        found: NDArray[Any] = np.full(passages, similar.min(initial=1.0), dtype=np.float32)
        for number, one in zip(numbers[::-1], similar[::-1], strict=True):
            found[self.passages[self.starts[number] : self.starts[number + 1]]] = one
        return found


class _Coarse:
    """Vectors in the few directions in which they differ most (principal components of a sample)."""

    def __init__(self, vectors: NDArray[Any]) -> None:
        import numpy as np

        sample = vectors[:: max(1, len(vectors) // _SAMPLE)].astype(np.float32)
        self.mean: NDArray[Any] = sample.mean(axis=0)
        _, directions = np.linalg.eigh(np.cov(sample - self.mean, rowvar=False))
        self.basis: NDArray[Any] = np.ascontiguousarray(directions[:, -_DIRECTIONS:], dtype=np.float32)
        self.vectors: NDArray[Any] = np.empty((len(vectors), self.basis.shape[1]), dtype=np.float32)
        for first in range(0, len(vectors), _BLOCK):
            block = vectors[first : first + _BLOCK].astype(np.float32)
            self.vectors[first : first + _BLOCK] = (block - self.mean) @ self.basis

    def similar(self, question: NDArray[Any]) -> NDArray[Any]:
        """The dot product of every vector with this one, roughly."""
        rough: NDArray[Any] = self.vectors @ (self.basis.T @ question) + float(self.mean @ question)
        return rough


def nearest(
    scores: NDArray[Any], limit: int, ranges: Sequence[tuple[int, int]] | None = None
) -> list[tuple[int, float]]:
    """The passages with the greatest scores, best first; equal ones in the order of their numbers.

    `ranges` are the (first, count) of those that count; None: all.
    """
    import numpy as np

    numbers = None
    if ranges is not None:
        numbers = _within(ranges)
        scores = scores[numbers]
    limit = min(limit, len(scores))
    if limit <= 0:
        return []
    best = np.argpartition(-scores, limit - 1)[:limit]
    best = best[np.lexsort((best, -scores[best]))]
    found = best if numbers is None else numbers[best]
    return [(int(number), float(score)) for number, score in zip(found, scores[best], strict=True)]


def _within(ranges: Sequence[tuple[int, int]]) -> NDArray[Any]:
    """The numbers in some ranges."""
    import numpy as np

    return np.concatenate([np.arange(first, first + count) for first, count in ranges] or [np.arange(0)])


def _matrix(connection: sqlite3.Connection, kind: str, width: int, numbers: type[Any]) -> Matrix:
    import numpy as np

    blocks = connection.execute("SELECT data FROM vectors WHERE kind = ? ORDER BY first", (kind,))
    found = [np.frombuffer(data, dtype=np.float16).reshape(-1, width).astype(numbers) for (data,) in blocks]
    made: Matrix = np.concatenate(found) if found else np.empty((0, width), dtype=numbers)
    return made


def _numbers(connection: sqlite3.Connection, kind: str) -> NDArray[Any]:
    import numpy as np

    (data,) = connection.execute("SELECT data FROM vectors WHERE kind = ?", (kind,)).fetchone()
    return np.frombuffer(data, dtype=np.int32)
