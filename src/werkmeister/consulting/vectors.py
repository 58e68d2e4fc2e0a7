"""The meaning half of a library: all vectors in memory, compared with a question's one by one.

A passage has a vector for each of its parts (a heading and what stands below it), made of the text alone, and its
document one for its name. What fits best of a passage's parts counts, and beside it how well the name fits: with one
vector for both, the name drowns what a passage says.

SQLite extensions such as sqlite-vec cannot be loaded by every Python (many are built without), so the vectors lie in
the library's file as blocks of 16-bit floats and are multiplied by numpy: exact, and fast up to some hundreds of
thousands of passages (EXPERIMENTS.md).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from werkmeister.consulting.naming import is_bare
from werkmeister.passage import Passage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from werkmeister.consulting.embedding import Matrix

_BLOCK = 4096  # vectors a row of the file
_LONGEST = 800  # characters of a part


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
    _known: dict[bytes, int] = field(default_factory=dict)

    def add_document(self, name: NDArray[Any], passages: Sequence[Passage], bodies: Sequence[NDArray[Any]]) -> None:
        """Take a document's name vector, and the vectors of its passages' `parts` one after the other."""
        self.names.append(name)
        rest = iter(bodies)
        for passage in passages:
            self.starts.append(len(self.of_part))
            self.document.append(len(self.names) - 1)
            self.bare.append(is_bare(passage))
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
        for kind in ("of_part", "starts", "document", "bare"):
            numbers = np.asarray(getattr(self, kind), dtype=np.int32)
            connection.execute("INSERT INTO vectors VALUES (?, 0, ?)", (kind, numbers.tobytes()))


class Vectors:
    """The vectors of a library in memory, as 32-bit floats: 4 · width bytes for each part that differs."""

    def __init__(self, connection: sqlite3.Connection, width: int) -> None:
        import numpy as np

        self.bodies, self.names = _matrix(connection, "body", width), _matrix(connection, "name", width)
        self.of_part, self.starts, self.document, bare = (
            _numbers(connection, kind) for kind in ("of_part", "starts", "document", "bare")
        )
        self.bare: NDArray[Any] = bare.astype(bool)
        self.hidden = np.where(self.bare, np.float32(-4), np.float32(0))

    def scores(self, question: NDArray[Any], naming: NDArray[Any], weight: float) -> NDArray[Any]:
        """How well each passage fits: the best of its parts against `question`, and `weight` times its document's name
        against `naming`, as a weighted mean (-1 to 1). A bare passage comes last, lower than any other."""
        import numpy as np

        best = np.maximum.reduceat((self.bodies @ question)[self.of_part], self.starts)
        named = (self.names @ naming)[self.document]
        mean: NDArray[Any] = (best + weight * named) / (1 + weight) + self.hidden
        return mean


def nearest(
    scores: NDArray[Any], limit: int, ranges: Sequence[tuple[int, int]] | None = None
) -> list[tuple[int, float]]:
    """The passages with the greatest scores, best first; equal ones in the order of their numbers.

    `ranges` are the (first, count) of those that count; None: all.
    """
    import numpy as np

    numbers = None
    if ranges is not None:
        numbers = np.concatenate([np.arange(first, first + count) for first, count in ranges] or [np.arange(0)])
        scores = scores[numbers]
    limit = min(limit, len(scores))
    if limit <= 0:
        return []
    best = np.argpartition(-scores, limit - 1)[:limit]
    best = best[np.lexsort((best, -scores[best]))]
    found = best if numbers is None else numbers[best]
    return [(int(number), float(score)) for number, score in zip(found, scores[best], strict=True)]


def _matrix(connection: sqlite3.Connection, kind: str, width: int) -> Matrix:
    import numpy as np

    (last,) = connection.execute("SELECT max(first) FROM vectors WHERE kind = ?", (kind,)).fetchone()
    blocks = _blocks(connection, kind)
    made: Matrix = np.empty((0, width), dtype=np.float32)
    for first, data in blocks:
        block = np.frombuffer(data, dtype=np.float16).reshape(-1, width)
        if not len(made):
            made = np.empty(((last or 0) + _BLOCK, width), dtype=np.float32)
        made[first : first + len(block)] = block
        end = first + len(block)
    return made[:end] if len(made) else made


def _blocks(connection: sqlite3.Connection, kind: str) -> Iterator[tuple[int, bytes]]:
    yield from connection.execute("SELECT first, data FROM vectors WHERE kind = ? ORDER BY first", (kind,))


def _numbers(connection: sqlite3.Connection, kind: str) -> NDArray[Any]:
    import numpy as np

    (data,) = connection.execute("SELECT data FROM vectors WHERE kind = ?", (kind,)).fetchone()
    return np.frombuffer(data, dtype=np.int32)
