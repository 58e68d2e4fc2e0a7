"""The library of an expert: finds the passages that a question is answered from, by words and by meaning."""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.artefact import exists, open_artefact
from werkmeister.chat import Conversation
from werkmeister.consulting.conversation import standalone
from werkmeister.consulting.embedding import Embedder, SharedEmbedder, open_embedder_of
from werkmeister.consulting.finding import Finding
from werkmeister.consulting.fusion import fuse, ranks
from werkmeister.consulting.library_file import FORMAT, LIBRARY, passage_of, read_meta
from werkmeister.consulting.naming import without_names
from werkmeister.consulting.words import STOPS, Compounds, language_of, stem, terms, words
from werkmeister.errors import ArtefactError
from werkmeister.passage import Passage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from werkmeister.consulting.vectors import Vectors

CANDIDATES = 100
"""How many passages each ranking brings into the fusion."""

_HEAD, _BODY = 2.0, 1.0  # a word in title or heading counts twice
_COMMON = 0.15  # share of passages from which a word is too common to search by, while rarer ones are there
_MOST_TERMS = 24
_MOST_ROWS = 30_000  # passages that are scored for one question: what bounds the time of a search
_MOST_RANGES = 50
_NAMING = 0.5  # share of the documents holding a word that have it in their title, from which it is a name
_NAMED, _UNNAMED = 2.0, 0.5  # weight of a document's name beside the text, by whether the question names one
_REMEMBERED = 1 << 14
_WHOLE_NAME = 0.1
_CERTAIN = 0.95


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A passage that was found. `coverage` is the share of the question's words in it, each weighed by how rare it is
    in the documents (0 to 1); `similarity` the dot product of the vectors (None without them)."""

    number: int
    passage: Passage
    coverage: float
    similarity: float | None


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Below it the documents do not tell: the best passage has less than `coverage` and less than `similarity`.

    `foreign` is the similarity that is enough for a question in another language than the documents. `off`: every
    question is put to the expert, whatever was found.
    """

    coverage: float = 0.0
    similarity: float | None = None
    foreign: float | None = None
    off: bool = False

    def passes(self, coverage: float, similarity: float | None, *, foreign: bool = False) -> bool:
        """Whether a question is answered from a passage.

        A question in another language than the documents (`foreign`) shares hardly a word with them, whatever they
        tell: meaning decides on it alone, and without vectors nothing is known against it.
        """
        if self.off:
            return True
        enough = self.foreign if foreign else self.similarity
        if enough is None or similarity is None:
            return foreign or coverage >= self.coverage
        return similarity >= enough or (not foreign and coverage >= self.coverage)


class SqliteLibrary:
    """A library file, opened to be read by any number of threads. Satisfies `expert.Library`.

    `passages` is how many are put before a question. With an `embedder` (whose key must be the file's) meaning counts
    beside words; `weights` are those of words and meaning.
    """

    def __init__(
        self,
        path: Path,
        *,
        embedder: Embedder | None = None,
        passages: int = 1,
        weights: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self.path, self.served, self.weights = path, passages, weights
        self.embedder = SharedEmbedder(embedder) if embedder is not None else None
        self._threads = threading.local()
        self._terms: dict[int, tuple[frozenset[str], frozenset[str]]] = {}
        meta = read_meta(self._connection)
        if meta.get("format") != FORMAT:
            raise ArtefactError(f"{path} is no library of this version", hint="make it again: werkmeister index EXPERT")
        self.count: int = meta["passages"]
        self.documents: dict[str, tuple[int, int]] = {
            name: (first, count)
            for name, first, count in self._connection.execute("SELECT name, first, passages FROM documents")
        }
        self.bar = Bar(**meta["bar"]) if "bar" in meta else Bar()
        self.language: str = meta.get("language", "en")
        self._split = Compounds(_Known(self))
        self.vectors: Vectors | None = None
        if embedder is not None:
            if meta.get("embedder") != embedder.key:
                raise ArtefactError(
                    f"{path} has the vectors of {meta.get('embedder', 'no model')}, not of {embedder.key}",
                    hint="make it again: werkmeister index EXPERT",
                )
            from werkmeister.consulting.vectors import Vectors

            self.vectors = Vectors(self._connection, meta["width"])

    def find(self, question: str, history: Conversation = ()) -> Finding:
        """What a question is answered from: the best passages, or none when the documents do not tell."""
        asked = standalone(question, history, self.names)
        hits = self.search(asked, limit=max(self.served, 3))
        language = language_of(question, self.language)
        told = self.bar.off or any(self.passes(hit, language) for hit in hits)
        kept = [hit.passage for hit in hits[: self.served]] if told else []
        return Finding(passages=tuple(kept), language=language, told=told, asked=asked)

    def passes(self, hit: Hit, language: str) -> bool:
        """Whether a passage fits a question of this language well enough to answer from."""
        return self.bar.passes(hit.coverage, hit.similarity, foreign=language != self.language)

    def search(self, question: str, *, limit: int = 5, documents: Collection[str] = ()) -> list[Hit]:
        """The passages for a question, best first; of these `documents` alone, where some are named.

        Without a term in common and without vectors nothing is found. An unknown document is an ArtefactError.
        """
        ranges = self._ranges(documents)
        asked = self.weights_of(self.terms_of(question))
        depth = max(CANDIDATES, limit)
        by_words = self.by_words(list(asked), depth, ranges)
        rankings = [ranks((number, self._fit(number, asked)) for number in by_words)]
        scores = self._scores(question, ranges)
        if scores is not None:
            from werkmeister.consulting.vectors import nearest

            rankings.append(ranks(nearest(scores, depth, ranges)))
        order = fuse(rankings, self.weights[: len(rankings)])
        if self.weights[0] and by_words and max(self._coverage(n, asked) for n in by_words) >= _CERTAIN:
            # All that was asked stands there word for word: meaning has a say among equals alone.
            last = len(order) + 1
            order = sorted(order, key=lambda number: rankings[0].get(number, last))
        order = order[:limit]
        return [
            Hit(
                number=number,
                passage=self.passage(number),
                coverage=self._coverage(number, asked),
                similarity=None if scores is None else float(scores[number]),
            )
            for number in order
        ]

    def by_words(self, asked: Sequence[str], limit: int, ranges: Sequence[tuple[int, int]] | None = None) -> list[int]:
        """Numbers of passages by falling BM25 for these terms."""
        chosen = self._worth_asking(asked)
        if not chosen or ranges == []:
            return []
        query = " OR ".join(f'"{term}"' for term in chosen)
        where, values = _among(ranges)
        rows = self._connection.execute(
            f"SELECT rowid FROM words WHERE words MATCH ?{where} ORDER BY bm25(words, {_HEAD}, {_BODY}), rowid LIMIT ?",
            [query, *values, limit],
        )
        return [number for (number,) in rows]

    def terms_of(self, question: str) -> list[str]:
        """The terms of a question without those that say nothing (all of them where nothing else is left)."""
        found = terms(" ".join(words(question)), self._split)
        telling = terms(" ".join(word for word in words(question) if word not in STOPS), self._split)
        return list(dict.fromkeys(telling or found))

    def names(self, text: str) -> list[str]:
        """The words of a text that name a document: most documents that hold them have them in their title."""
        found = []
        for word in dict.fromkeys(words(text)):
            if word in STOPS or len(word) < 2 or (word.isdigit() and len(word) < 3):
                continue
            row = self._connection.execute(
                "SELECT titles, documents FROM terms WHERE term = ?", (stem(word),)
            ).fetchone()
            if row and row[0] and row[0] >= _NAMING * row[1]:
                found.append(word)
        return found

    def passage(self, number: int) -> Passage:
        """One passage by its number."""
        (record,) = self._connection.execute("SELECT record FROM passages WHERE number = ?", (number,)).fetchone()
        return passage_of(record)

    def close(self) -> None:
        """Close the connection of the calling thread; those of others close with their threads."""
        self._connection.close()
        del self._threads.connection

    @property
    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._threads, "connection", None)
        if found is None:
            uri = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"
            found = self._threads.connection = sqlite3.connect(uri, uri=True)
        return found

    def _scores(self, question: str, ranges: Sequence[tuple[int, int]] | None) -> NDArray[Any] | None:
        """How well every passage fits a question by meaning; None without vectors."""
        if self.embedder is None or self.vectors is None:
            return None
        bare = without_names(question, self.names)
        vectors = self.embedder.questions([bare, question] if bare != question else [question])
        weight = _NAMED if bare != question else _UNNAMED
        return self.vectors.scores(vectors[0], vectors[-1], weight, ranges)

    def _coverage(self, number: int, asked: Mapping[str, float]) -> float:
        held, _ = self._held(number)
        return sum(weight for term, weight in asked.items() if term in held) / (sum(asked.values()) or 1.0)

    def _fit(self, number: int, asked: Mapping[str, float]) -> float:
        """Coverage, and among equals how much of the document's name was asked for: "dimmer" means the one that is
        called so rather than the LED dimmer pack."""
        _, named = self._held(number)
        return self._coverage(number, asked) + _WHOLE_NAME * len(named & asked.keys()) / (len(named) or 1)

    def _held(self, number: int) -> tuple[frozenset[str], frozenset[str]]:
        """The terms by which a passage is found, and those of its document's name among them."""
        kept = self._terms.get(number)
        if kept is None:
            if len(self._terms) >= _REMEMBERED:
                self._terms.clear()
            record, named = self._connection.execute(
                "SELECT record, named FROM passages JOIN documents ON documents.number = document"
                " WHERE passages.number = ?",
                (number,),
            ).fetchone()
            passage = passage_of(record)
            said = terms(f"{' '.join(passage.headings)} {passage.text}", self._split)
            name = frozenset(named.split())
            kept = self._terms[number] = (name.union(said), name)
        return kept

    def weights_of(self, asked: Sequence[str]) -> dict[str, float]:
        """How much each term says: the logarithm of one over its share of passages, greatest for unknown ones."""
        return {term: math.log((1 + self.count) / (0.5 + min(n, self.count))) for term, n in self._counts(asked)}

    def _worth_asking(self, asked: Sequence[str]) -> list[str]:
        counts = sorted(((n, term) for term, n in self._counts(asked) if n), key=lambda one: one[0])
        rare = [(n, term) for n, term in counts if n <= max(_COMMON * self.count, 20)] or counts[:2]
        chosen: list[str] = []
        rows = 0
        for n, term in rare[:_MOST_TERMS]:
            rows += n
            if len(chosen) >= 2 and rows > _MOST_ROWS:
                break
            chosen.append(term)
        return chosen

    def _counts(self, asked: Sequence[str]) -> list[tuple[str, int]]:
        found = []
        for term in dict.fromkeys(asked):
            row = self._connection.execute("SELECT passages FROM terms WHERE term = ?", (term,)).fetchone()
            found.append((term, row[0] if row else 0))
        return found

    def _ranges(self, documents: Collection[str]) -> list[tuple[int, int]] | None:
        if not documents:
            return None
        unknown = [name for name in documents if name not in self.documents]
        if unknown:
            raise ArtefactError(
                f"the library has no document {', '.join(map(repr, unknown))}", hint="name them as the index does"
            )
        merged: list[tuple[int, int]] = []
        for first, count in sorted(self.documents[name] for name in set(documents)):
            if merged and merged[-1][0] + merged[-1][1] == first:
                merged[-1] = (merged[-1][0], merged[-1][1] + count)
            else:
                merged.append((first, count))
        return merged


def _among(ranges: Sequence[tuple[int, int]] | None) -> tuple[str, list[int | str]]:
    """The part of a query, and its values, that keeps it to some passages."""
    if ranges is None:
        return "", []
    if len(ranges) <= _MOST_RANGES:
        where = " OR ".join("rowid BETWEEN ? AND ?" for _ in ranges)
        return f" AND ({where})", [bound for first, count in ranges for bound in (first, first + count - 1)]
    numbers = [number for first, count in ranges for number in range(first, first + count)]
    return " AND rowid IN (SELECT value FROM json_each(?))", [json.dumps(numbers)]


class _Known:
    """The words that compounds may be made of, looked up in the file."""

    def __init__(self, library: SqliteLibrary) -> None:
        self._library = library

    def __contains__(self, word: object) -> bool:
        row = self._library._connection.execute("SELECT 1 FROM known WHERE word = ?", (word,)).fetchone()
        return row is not None


def open_library(folder: Path, *, passages: int = 0, threads: int = 0) -> SqliteLibrary | None:
    """The library of the expert in `folder`; None when it has no index.

    `passages` 0 takes as many as the expert was trained with. Raises ArtefactError for a damaged index, MachineError
    when its embedding model is not installed.
    """
    path = folder / "artefacts" / "index"
    if not exists(path):
        return None
    made = open_artefact(path, "index", make_with=f"werkmeister index {folder}")
    embedder = None
    if made.facts["embedder"]:
        embedder = open_embedder_of(made.facts["embedder"], threads)
    return SqliteLibrary(
        made.file(LIBRARY),
        embedder=embedder,
        passages=passages or trained_passages(folder),
        weights=tuple(made.facts["weights"]),
    )


def trained_passages(folder: Path) -> int:
    """How many passages stood before each question when the expert was trained; 1 where it was not told."""
    from werkmeister.artefact import read_manifest

    written = folder / "artefacts" / "write"
    if not exists(written):
        return 1
    return 1 + int(read_manifest(written)["facts"].get("distractors", 0))
