"""The file of a library: every passage of the documents, its words (FTS5) and its vectors, in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.consulting.naming import file_words, name_of
from werkmeister.consulting.words import Compounds, stem, terms, words
from werkmeister.errors import ArtefactError, MachineError
from werkmeister.passage import Passage, passage_from_record

if TYPE_CHECKING:
    from werkmeister.consulting.vectors import Gathered

FORMAT = 2
LIBRARY = "library.sqlite"
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, first INTEGER NOT NULL,
                        passages INTEGER NOT NULL, named TEXT NOT NULL);
CREATE TABLE passages (number INTEGER PRIMARY KEY, id TEXT NOT NULL, document INTEGER NOT NULL, record TEXT NOT NULL,
                       held TEXT NOT NULL);
CREATE INDEX passages_id ON passages (id);
CREATE TABLE terms (term TEXT PRIMARY KEY, passages INTEGER NOT NULL, titles INTEGER NOT NULL,
                    documents INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE known (word TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(head, body, content='', tokenize='unicode61 remove_diacritics 0');
"""
_LEAST_KNOWN = 2  # passages that hold a word before it counts as one that compounds are made of


def write_library(path: Path, passages: Sequence[Passage], told: Callable[[int], None] = lambda count: None) -> None:
    """Write passages and their words; `told` is called with the number of passages done since the last call.

    Passages of one document must follow one another. An older file of that name is replaced.
    """
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    try:
        # A file that was cut off is never opened: its artefact has no manifest.
        try:
            connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_SCHEMA}")
        except sqlite3.OperationalError as error:
            if "fts5" not in str(error):
                raise
            raise MachineError(
                f"the SQLite {sqlite3.sqlite_version} of this Python has no FTS5", hint="use a Python built with it"
            ) from error
        known = _known(passages)
        work = _Writing(connection, Compounds(known))
        for group in by_document(passages):
            work.document(group)
            told(len(group))
        work.finish(known)
        connection.commit()
    finally:
        connection.close()


class _Writing:
    """One library on its way into the file."""

    def __init__(self, connection: sqlite3.Connection, split: Compounds) -> None:
        self.connection, self.split = connection, split
        self.number = self.documents = 0
        self.counts: Counter[str] = Counter()
        self.in_titles: Counter[str] = Counter()
        self.in_documents: Counter[str] = Counter()

    def document(self, passages: Sequence[Passage]) -> None:
        name = passages[0].document
        title = terms(f"{file_words(name)} {passages[0].title}", self.split)
        named = terms(f"{file_words(name)} {name_of(passages)}", self.split)
        held = set(named)
        row = (self.documents, name, self.number, len(passages), " ".join(named))
        self.connection.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", row)
        for passage in passages:
            head = [*named, *terms(" ".join(passage.headings), self.split)]
            body = terms(passage.text, self.split)
            found = {*head, *body}
            self.counts.update(found)
            held |= found
            searched = (self.number, " ".join(head), " ".join(body))
            self.connection.execute("INSERT INTO words (rowid, head, body) VALUES (?, ?, ?)", searched)
            record = json.dumps(asdict(passage), ensure_ascii=False)
            kept = (self.number, passage.id, self.documents, record, " ".join(sorted(found)))
            self.connection.execute("INSERT INTO passages VALUES (?, ?, ?, ?, ?)", kept)
            self.number += 1
        self.in_titles.update(set(title))
        self.in_documents.update(held)
        self.documents += 1

    def finish(self, known: Collection[str]) -> None:
        rows = sorted(
            (term, count, self.in_titles[term], self.in_documents[term]) for term, count in self.counts.items()
        )
        self.connection.executemany("INSERT INTO terms VALUES (?, ?, ?, ?)", rows)
        self.connection.executemany("INSERT INTO known VALUES (?)", sorted((word,) for word in known))
        self.connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        facts = {"format": FORMAT, "passages": self.number, "documents": self.documents}
        write_meta(self.connection, facts)


def add_vectors(path: Path, gathered: Gathered, embedder: str, width: int) -> None:
    """Write the vectors of all passages into a library file; `embedder` is the key of their model."""
    connection = sqlite3.connect(path)
    try:
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        (passages,) = connection.execute("SELECT count(*) FROM passages").fetchone()
        if len(gathered.starts) != passages:
            raise ArtefactError(f"{path} has {passages} passages and got the vectors of {len(gathered.starts)}")
        gathered.write(connection)
        write_meta(connection, {"embedder": embedder, "width": width})
        connection.commit()
    finally:
        connection.close()


def by_document(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    """The passages of each document together, in their order."""
    for _, group in groupby(passages, key=lambda passage: passage.document):
        yield list(group)


def write_meta(connection: sqlite3.Connection, facts: dict[str, Any]) -> None:
    """Keep facts about the library in its file."""
    rows = [(key, json.dumps(value)) for key, value in facts.items()]
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)


def add_meta(path: Path, facts: dict[str, Any]) -> None:
    """Add facts to a finished library file."""
    connection = sqlite3.connect(path)
    try:
        write_meta(connection, facts)
        connection.commit()
    finally:
        connection.close()


def read_meta(connection: sqlite3.Connection) -> dict[str, Any]:
    """The facts in a library's file."""
    return {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM meta")}


def passage_of(record: str) -> Passage:
    """A passage as the file keeps it."""
    return passage_from_record(json.loads(record))


def _known(passages: Iterable[Passage]) -> set[str]:
    """The folded words that stand in several passages, endings off and on: what compounds may be made of."""
    counts: Counter[str] = Counter()
    for passage in passages:
        counts.update({word for word in words(f"{passage.title} {passage.text}") if word.isalpha() and len(word) > 3})
    often = {word for word, count in counts.items() if count >= _LEAST_KNOWN}
    return often | {stem(word) for word in often}
