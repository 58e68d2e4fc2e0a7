from __future__ import annotations

import sqlite3

import numpy as np
import pytest
import shelves

from werkmeister.consulting import neighbours, vectors
from werkmeister.consulting.embedding import ScriptedEmbedder
from werkmeister.consulting.indexing import IndexSettings, index
from werkmeister.consulting.library import SqliteLibrary
from werkmeister.consulting.vectors import Vectors, nearest
from werkmeister.errors import ArtefactError
from werkmeister.progress import Silent

PASSAGES, CLUSTERS, WIDTH = 3000, 60, 64


class Clustered(ScriptedEmbedder):
    """Texts that name one of some topics lie about its centre; a question ("about 7") lies nearer to it."""

    def __init__(self):
        super().__init__(width=WIDTH)
        self.centres = np.random.default_rng(0).standard_normal((CLUSTERS, WIDTH))

    def questions(self, texts):
        rows = []
        for text in texts:
            digits = [int(word) for word in text.replace(".", " ").split() if word.isdigit()]
            seed, topic = (digits or [0])[-1], (digits or [0])[0]
            noise = np.random.default_rng([seed, len(text)]).standard_normal(WIDTH)
            rows.append(self.centres[topic % CLUSTERS] + 0.7 * noise)
        made = np.array(rows)
        return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


class Telling(Silent):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def passages():
    return [
        shelves.passage(f"d{n // 10}", f"Pump P{n // 10}", ("Notes",), f"topic {n % CLUSTERS} note {n}.")
        for n in range(PASSAGES)
    ]


def made(home, *, progress=None):
    documents = shelves.documents_artefact(home, passages())
    settings = IndexSettings(embedding="none", refused=0.0)
    return index(documents, home / "index", settings, home=home, progress=progress or Silent(), embedder=Clustered())


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    pytest.importorskip("usearch", reason="usearch is not installed: pip install 'werkmeister[retrieve]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "FROM", 1000)
        return made(tmp_path_factory.mktemp("near") / "artefacts")


@pytest.fixture(scope="module")
def library(artefact):
    return SqliteLibrary(artefact.file("library.sqlite"), embedder=Clustered(), weights=(0.0, 1.0))


@pytest.fixture(scope="module")
def exact(artefact):
    return Vectors(sqlite3.connect(artefact.file("library.sqlite")), WIDTH)


def test_the_approximate_index_finds_the_ten_best_of_the_exact_scan(library, exact, monkeypatch):
    monkeypatch.setattr(vectors, "_NEAR", 150)
    monkeypatch.setattr(vectors, "_REFINED", 100)
    embedder = Clustered()
    assert library.vectors.near is not None and library.vectors.coarse is None
    same = 0
    for number in range(100):
        question, naming = embedder.questions([f"about {number} is {number * 31}", f"name {number * 7}"])
        wanted = nearest(exact.scores(question, naming, 0.5), 10)
        got = nearest(library.vectors.scores(question, naming, 0.5), 10)
        same += len({n for n, _ in wanted} & {n for n, _ in got})
        both = dict(wanted).keys() & dict(got).keys()
        assert all(dict(got)[n] == pytest.approx(dict(wanted)[n], abs=1e-3) for n in both), "scored exactly"
    assert same / 1000 >= 0.95, same


def test_chosen_documents_are_compared_one_by_one(library, exact):
    question, naming = Clustered().questions(["about 7 is 3", "name 5"])
    ranges = [(40, 20), (2000, 10)]
    wanted = nearest(exact.scores(question, naming, 0.5), 30, ranges)
    got = nearest(library.vectors.scores(question, naming, 0.5, ranges), 30, ranges)
    assert [n for n, _ in got] == [n for n, _ in wanted]
    hits = library.search("about 7", documents=["d4", "d5"], limit=20)
    assert {hit.passage.document for hit in hits} == {"d4", "d5"} and all(hit.similarity > -1 for hit in hits)


def test_what_was_found_by_words_is_compared_too(library, exact):
    question, naming = Clustered().questions(["about 7 is 3", "name 5"])
    full = exact.scores(question, naming, 0.5)
    worst = int(np.argmin(full))
    assert library.vectors.scores(question, naming, 0.5)[worst] < -1
    assert library.vectors.scores(question, naming, 0.5, None, [worst])[worst] == pytest.approx(full[worst], abs=1e-3)


def test_an_index_that_is_not_of_this_library_is_refused(artefact, tmp_path):
    path = tmp_path / "library.sqlite"
    shelves.library(path, embedder=Clustered())
    (tmp_path / neighbours.NEIGHBOURS).write_bytes(artefact.file(neighbours.NEIGHBOURS).read_bytes())
    with pytest.raises(ArtefactError, match="vectors and the library"):
        SqliteLibrary(path, embedder=Clustered())


def test_the_same_vectors_give_the_same_file(artefact, tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "FROM", 1000)
    again = made(tmp_path / "artefacts").file(neighbours.NEIGHBOURS)
    assert again.read_bytes() == artefact.file(neighbours.NEIGHBOURS).read_bytes()


def test_without_the_package_all_are_compared_and_the_way_to_it_is_told(artefact, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(neighbours, "FROM", 1000)
    monkeypatch.setattr(neighbours, "find_spec", lambda name: None)
    progress = Telling()
    other = made(tmp_path / "artefacts", progress=progress)
    assert not (other.path / neighbours.NEIGHBOURS).exists()
    assert any("pip install 'werkmeister[retrieve]'" in said for said in progress.said)
    opened = SqliteLibrary(artefact.file("library.sqlite"), embedder=Clustered())
    assert opened.vectors.near is None and "usearch is not installed" in caplog.text


def test_few_vectors_have_no_approximate_index(tmp_path):
    assert not (made(tmp_path / "artefacts").path / neighbours.NEIGHBOURS).exists()
