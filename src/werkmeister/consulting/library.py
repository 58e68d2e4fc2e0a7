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
from werkmeister.consulting.bar import Bar
from werkmeister.consulting.conversation import standalone
from werkmeister.consulting.embedding import Embedder, SharedEmbedder, open_embedder_of
from werkmeister.consulting.finding import Finding
from werkmeister.consulting.fusion import fuse, ranks
from werkmeister.consulting.library_file import FORMAT, LIBRARY, passage_of, read_meta
from werkmeister.consulting.naming import codes, parted
from werkmeister.consulting.within import Within
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
_MOST_ROWS = 15_000  # passages that are scored for one question: what bounds the time of a search
_MOST_RANGES = 50
_NAMING = 0.5  # share of the documents holding a word that have it in their title, from which it is a name
_NAMED, _UNNAMED = 2.0, 0.5  # weight of a document's name beside the text, by whether the question names one
_REMEMBERED = 1 << 14
_WHOLE_NAME = 0.1
_NAMES_SAY = 0.5  # weight, beside that of words, of how well a question names a passage's document
_CERTAIN = 0.95


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A passage that was found. `coverage` is the share of the question's words in it, each weighed by how rare it is
    in the documents (0 to 1); `similarity` the dot product of the vectors (None without them)."""

    number: int
    passage: Passage
    coverage: float
    similarity: float | None


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
            from werkmeister.consulting.neighbours import open_neighbours
            from werkmeister.consulting.vectors import Vectors

            self.vectors = Vectors(self._connection, meta["width"], neighbours=open_neighbours(path))

    def find(self, question: str, history: Conversation = (), *, documents: Collection[str] = ()) -> Finding:
        """What a question is answered from: the best passages (of these `documents`, where some are named), or none
        when the documents do not tell."""
        asked = standalone(question, history, self.names)
        hits = self.search(asked, limit=max(self.served, 3), documents=documents)
        language = language_of(question, self.language)
        # Whoever names the documents says what is asked about: then the expert alone decides what they tell.
        told = self.bar.off or (bool(hits) if documents else any(self.passes(hit, asked) for hit in hits))
        kept = [hit.passage for hit in hits[: self.served]] if told else []
        return Finding(passages=tuple(kept), language=language, told=told, asked=asked)

    def passes(self, hit: Hit, question: str) -> bool:
        """Whether a passage fits a question well enough to answer from: above the bar, and of the model that the
        question names; a sibling's manual says something else in the same words."""
        held, _ = self._held(hit.number)
        if not all(held.intersection(forms) for forms in self._models(question)):
            return False
        foreign = language_of(question, self.language) != (hit.passage.language or self.language)
        return self.bar.passes(hit.coverage, hit.similarity, foreign=foreign)

    def search(self, question: str, *, limit: int = 5, documents: Collection[str] = ()) -> list[Hit]:
        """The passages for a question, best first; of these `documents` alone, where some are named.

        Without a term in common and without vectors nothing is found. An unknown document is an ArtefactError.
        """
        ranges = self._ranges(documents)
        asked = self.weights_of(self.terms_of(question))
        depth = max(CANDIDATES, limit)
        by_words = self.by_words(list(asked), depth, ranges)
        rankings = [ranks((number, self._fit(number, asked)) for number in by_words)]
        weights = [self.weights[0]]
        scores = self._scores(question, ranges, self._subject(by_words, asked), by_words)
        if scores is not None:
            from werkmeister.consulting.vectors import nearest

            rankings.append(ranks(nearest(scores + self._lifts(language_of(question, self.language)), depth, ranges)))
            weights.append(self.weights[1])
        found = dict.fromkeys(number for ranking in rankings for number in ranking)
        rankings.append(ranks((number, self._named(number, asked)) for number in found))
        order = fuse(rankings, [*weights, _NAMES_SAY * self.weights[0]])
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

    def within(self, documents: Collection[str]) -> Within:
        """The library of some of its documents; an unknown one is an ArtefactError."""
        self._ranges(documents)
        return Within(self, tuple(documents))

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

    def _scores(
        self,
        question: str,
        ranges: Sequence[tuple[int, int]] | None,
        subject: Collection[str],
        also: Sequence[int],
    ) -> NDArray[Any] | None:
        """How well every passage fits a question by meaning; None without vectors.

        A passage says what is asked, but seldom of which thing: it is compared with the question less what names a
        document, in general (`names`) or the one that is asked about (`subject`: "the Water Sensor 6").
        """
        if self.embedder is None or self.vectors is None:
            return None
        names = set(self.names(question))
        bare, named = parted(
            question, lambda word: word in names or (bool(subject) and set(terms(word, self._split)) <= set(subject))
        )
        if bare == question:
            (whole,) = self.embedder.questions([question])
            return self.vectors.scores(whole, whole, _UNNAMED, ranges, also)
        # In another language than the documents' a name shares but some of its words with theirs: "Wassersensor 6".
        naming = named if language_of(question, self.language) == self.language else question
        body, name = self.embedder.questions([bare, naming])
        return self.vectors.scores(body, name, _NAMED, ranges, also)

    def _lifts(self, language: str) -> NDArray[Any]:
        """What passages in another language than the question's lose for it alone: without this, what is in its own
        language goes before all that answers it in another."""
        from werkmeister.consulting.vectors import code_of

        assert self.vectors is not None and self.embedder is not None
        spoken = self.vectors.language
        foreign = (spoken != code_of(language)) & ((spoken != 0) | (language != self.language))
        lifts: NDArray[Any] = foreign * self.embedder.foreign
        return lifts

    def _coverage(self, number: int, asked: Mapping[str, float]) -> float:
        held, _ = self._held(number)
        return sum(weight for term, weight in asked.items() if term in held) / (sum(asked.values()) or 1.0)

    def _fit(self, number: int, asked: Mapping[str, float]) -> float:
        """Coverage, and among equals how much of the document's name was asked for: "dimmer" means the one that is
        called so rather than the LED dimmer pack."""
        _, named = self._held(number)
        return self._coverage(number, asked) + _WHOLE_NAME * len(named & asked.keys()) / (len(named) or 1)

    def _named(self, number: int, asked: Mapping[str, float]) -> float:
        """How well a question names the document of a passage: how much its words in the name say, and among equals
        how much of the name they are."""
        _, named = self._held(number)
        given = named & asked.keys()
        return sum(asked[term] for term in given) * (1 + _WHOLE_NAME * len(given) / (len(named) or 1))

    def _subject(self, numbers: Sequence[int], asked: Mapping[str, float]) -> frozenset[str]:
        """The terms of the document's name that a question names best, of those of some passages."""
        best = max(numbers, key=lambda number: self._named(number, asked), default=None)
        return self._held(best)[1] if best is not None else frozenset()

    def _held(self, number: int) -> tuple[frozenset[str], frozenset[str]]:
        """The terms by which a passage is found, and those of its document's name among them."""
        kept = self._terms.get(number)
        if kept is None:
            if len(self._terms) >= _REMEMBERED:
                self._terms.clear()
            held, named = self._connection.execute(
                "SELECT held, named FROM passages JOIN documents ON documents.number = document"
                " WHERE passages.number = ?",
                (number,),
            ).fetchone()
            kept = self._terms[number] = (frozenset(held.split()), frozenset(named.split()))
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

    def _models(self, question: str) -> list[tuple[str, ...]]:
        """The model numbers in a question: those that name a document, and those that no document has."""
        return [
            forms
            for forms in codes(question)
            if self.names(" ".join(forms)) or not any(count for _, count in self._counts(forms))
        ]

    def _counts(self, asked: Sequence[str]) -> list[tuple[str, int]]:
        found = []
        for term in dict.fromkeys(asked):
            row = self._connection.execute("SELECT passages FROM terms WHERE term = ?", (term,)).fetchone()
            found.append((term, row[0] if row else 0))
        return found

    def _alike(self, unknown: Sequence[str]) -> str:
        import difflib

        near = [name for one in unknown for name in difflib.get_close_matches(one, self.documents, 3, 0.4)]
        return f"like it are: {', '.join(dict.fromkeys(near))}" if near else "name documents as their sources are named"

    def _ranges(self, documents: Collection[str]) -> list[tuple[int, int]] | None:
        if not documents:
            return None
        unknown = [name for name in documents if name not in self.documents]
        if unknown:
            raise ArtefactError(
                f"the library has no document {', '.join(map(repr, unknown))}", hint=self._alike(unknown)
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
