from __future__ import annotations

import dataclasses
import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import shelves

from werkmeister.chat import Message
from werkmeister.consulting.bar import Bar
from werkmeister.consulting.embedding import ScriptedEmbedder
from werkmeister.consulting.library import SqliteLibrary
from werkmeister.consulting.naming import parted
from werkmeister.consulting.vectors import Vectors, nearest, parts
from werkmeister.consulting.words import terms
from werkmeister.errors import ArtefactError


@pytest.fixture(scope="module")
def by_words(tmp_path_factory):
    return shelves.library(tmp_path_factory.mktemp("words") / "library.sqlite")


@pytest.fixture(scope="module")
def by_both(tmp_path_factory):
    embedder = ScriptedEmbedder(shelves.SYNONYMS, width=256)
    return shelves.library(tmp_path_factory.mktemp("both") / "library.sqlite", embedder=embedder)


@pytest.mark.parametrize("model", ["AX-200", "ax200", "AX 200", "Acme AX-200"])
def test_a_section_is_found_by_model_number_and_heading_however_written(by_words, model):
    best = by_words.search(f"How is the {model} reset?")[0].passage
    assert (best.title, best.headings) == ("Acme AX-200", ("Factory reset",))


def test_a_section_is_found_by_what_its_document_is_described_as(by_words):
    best = by_words.search("battery of the water sensor")[0].passage
    assert (best.document, best.headings) == ("manuals/acme-ax-100.md", ("Battery",))


def test_a_german_question_finds_its_english_passage_by_meaning_and_not_by_words(by_words, by_both):
    question = "Wie wird das AX-200 zurückgesetzt?"
    wanted = ("Acme AX-200", ("Factory reset",))
    found = [(hit.passage.title, hit.passage.headings) for hit in by_both.search(question)]
    assert found[0] == wanted
    lexical = by_words.search(question)
    own = [hit for hit in lexical if hit.passage.title == "Acme AX-200"]
    assert lexical[: len(own)] == own and len(own) == 4, "words find the manual"
    assert len({round(hit.coverage, 6) for hit in own}) == 1, "and nothing to choose a section by"


def test_a_search_keeps_to_the_documents_that_are_named(by_both):
    hits = by_both.search("factory reset", documents=["manuals/bolt-zw122.md", "manuals/acme-ax-100.md"], limit=9)
    assert {hit.passage.document for hit in hits} == {"manuals/bolt-zw122.md", "manuals/acme-ax-100.md"}
    with pytest.raises(ArtefactError, match=r"no document 'x\.pdf'"):
        by_both.search("reset", documents=["x.pdf"])


def test_many_documents_can_be_named(tmp_path):
    many = [shelves.passage(f"d{n}", f"Pump P{n}", ("Reset",), f"Push it {n} times.") for n in range(200)]
    library = shelves.library(tmp_path / "l.sqlite", many)
    wanted = [f"d{n}" for n in range(0, 200, 2)]
    hits = library.search("How to push?", documents=wanted, limit=150)
    assert {hit.passage.document for hit in hits} <= set(wanted) and len(hits) >= 100


def test_coverage_is_the_share_of_what_is_asked_weighed_by_rarity(by_words):
    whole = by_words.search("AX-100 battery")[0]
    half = by_words.search("AX-100 flurbzork")[0]
    assert whole.coverage == pytest.approx(1.0)
    assert 0 < half.coverage < 0.9
    weights = by_words.weights_of(["reset", "flurbzork"])
    assert weights["flurbzork"] > weights["reset"]


def test_a_question_of_unknown_words_finds_nothing_by_words(by_words):
    assert by_words.search("flurbzork?") == []
    assert not by_words.find("flurbzork?").told


def test_words_that_name_a_document_are_told_from_others(by_words):
    assert by_words.names("How is the Acme AX-100 reset?") == ["acme", "ax", "100", "ax100"]
    assert by_words.names("How is the battery replaced?") == []


def test_a_question_is_compared_with_texts_without_the_names_in_it(by_words):
    def names(word):
        return bool(by_words.names(word))

    assert parted("How is the battery of the AX-100 replaced?", names) == (
        "How is the battery of the replaced?",
        "AX-100",
    )
    assert parted("And the AX-100?", names) == ("And the AX-100?",) * 2, "nothing would be left"


def test_a_question_is_compared_without_what_the_document_it_is_about_is_called(tmp_path):
    class Listening(ScriptedEmbedder):
        def questions(self, texts):
            heard.append(list(texts))
            return super().questions(texts)

    heard: list[list[str]] = []
    library = shelves.library(tmp_path / "library.sqlite", embedder=Listening(shelves.SYNONYMS, width=256))
    heard.clear()
    question = "How do I replace the battery of the water sensor?"
    best = library.search(question)[0].passage
    assert (best.document, best.headings) == ("manuals/acme-ax-100.md", ("Battery",))
    library.search("Wie wird bei dem water sensor die Batterie gewechselt?")
    assert heard == [
        ["How do I replace the battery of the ?", "water sensor"],
        ["Wie wird bei dem die Batterie gewechselt?", "Wie wird bei dem water sensor die Batterie gewechselt?"],
    ], "a name is compared with names, and all of a question in another language"


def test_a_person_who_names_the_documents_is_answered_from_these_alone(by_both):
    some = by_both.within(["manuals/acme-ax-200.md"])
    found = some.find("How is it reset to factory settings?")
    assert found.told
    assert {passage.document for passage in found.passages} == {"manuals/acme-ax-200.md"}
    with pytest.raises(ArtefactError, match=r"no document 'x\.pdf'"):
        by_both.within(["x.pdf"])


@pytest.mark.parametrize("model", ["AX-300", "AX300", "Acme AX300-B", "QZ4455"])
def test_a_model_that_no_document_has_is_not_answered_for_from_its_sibling(tmp_path, model):
    library = shelves.library(tmp_path / "library.sqlite", bar={"coverage": 0.2})
    assert library.find("How is the Acme AX-100 reset to factory settings?").told
    assert not library.find(f"How is the Acme {model} reset to factory settings?").told


def test_a_passage_of_a_sibling_passes_no_question_that_names_another(tmp_path):
    library = shelves.library(tmp_path / "library.sqlite", bar={"coverage": 0.2})
    question = "How is the AX-100 reset to factory settings?"
    (own, sibling) = (library.search(question, limit=1, documents=[f"manuals/acme-ax-{n}00.md"])[0] for n in (1, 2))
    assert library.passes(own, question) and not library.passes(sibling, question)


@pytest.mark.parametrize("question", ["Does it take a CR2 battery for the reset?", "Is 10s enough for the reset?"])
def test_short_codes_and_quantities_are_no_models(tmp_path, question):
    assert shelves.library(tmp_path / "library.sqlite", bar={"coverage": 0.2}).find(question).told


@pytest.mark.parametrize(("foreign", "first"), [(0.0, "pump.md"), (0.6, "pumpe.md")])
def test_passages_in_another_language_are_given_back_what_they_lose_for_it(tmp_path, foreign, first):
    english = shelves.passage("pump.md", "Pump P1", ("Notes",), "Clean the filter before you start.")
    german = shelves.passage("pumpe.md", "Pumpe P2", ("Sieb",), "Das Sieb wird unter klarem Wasser gespült.")
    embedder = ScriptedEmbedder({"sieb": "clean"}, width=256)
    embedder.foreign = foreign
    passages = [english, dataclasses.replace(german, language="de")]
    library = shelves.library(tmp_path / "library.sqlite", passages, embedder, weights=(0.0, 1.0))
    assert library.search("How do you clean the filter?")[0].passage.document == first


def test_a_follow_up_searches_for_what_was_named_before(by_words):
    history = (Message("user", "How is the AX-200 reset?"), Message("assistant", "Press the small button 5 times."))
    found = by_words.find("And which battery does it take?", history)
    assert found.passages[0].text == "Use four AA cells."
    assert found.asked.startswith("And which battery does it take? (")
    assert by_words.find("And which battery does it take?").asked == "And which battery does it take?"


def test_the_bar_refuses_what_no_passage_covers(tmp_path):
    bar = {"coverage": 0.4, "similarity": None}
    library = shelves.library(tmp_path / "l.sqlite", bar=bar)
    assert library.find("How is the AX-100 reset?").told
    refused = library.find("How often must the Miele W1 drum be descaled?")
    assert (refused.told, refused.passages) == (False, ())


def test_a_question_in_another_language_is_held_to_meaning_alone():
    bar = Bar(coverage=0.5, similarity=0.8, foreign=0.6)
    assert bar.passes(0.1, 0.7, foreign=True) and not bar.passes(0.9, 0.5, foreign=True)
    assert bar.passes(0.9, 0.5) and bar.passes(0.1, 0.8) and not bar.passes(0.1, 0.7)
    assert Bar(coverage=0.5).passes(0.1, None, foreign=True), "without vectors nothing can be said of it"


def test_the_vectors_give_what_numpy_gives_for_every_passage(tmp_path):
    embedder = ScriptedEmbedder(width=64)
    library = shelves.library(tmp_path / "l.sqlite", embedder=embedder)
    passages = shelves.manuals()
    question, naming = embedder.questions(["battery replace", "Acme AX-200"])
    got = library.vectors.scores(question, naming, 2.0)
    for number, passage in enumerate(passages):
        if not passage.headings:
            continue
        bodies = np.float16(embedder.questions(parts(passage))).astype(np.float64)
        kind = shelves.MANUALS[passage.document][1]
        name = np.float16(embedder.questions([f"{passage.title} {kind}"])).astype(np.float64)
        expected = ((bodies @ question).max() + 2 * (name @ naming)[0]) / 3
        assert got[number] == pytest.approx(expected, abs=1e-5)
    order = [number for number, _ in nearest(got, len(passages))]
    assert order == sorted(range(len(passages)), key=lambda n: (-got[n], n))
    assert [n for n, _ in nearest(got, 5, [(4, 2), (9, 1)])] == [n for n in order if n in (4, 5, 9)]


def test_a_bare_line_with_the_name_comes_last(by_both):
    assert by_both.search("Acme AX-100 Water Sensor", limit=20)[-1].similarity < -1


def test_equal_texts_have_one_vector(tmp_path):
    same = [shelves.passage(f"d{n}", f"Pump P{n}", ("Reset",), "Hold the button for 3 seconds.") for n in range(50)]
    library = shelves.library(tmp_path / "l.sqlite", same, ScriptedEmbedder(width=32))
    assert len(library.vectors.bodies) == 1 and len(library.vectors.names) == 50


def test_more_vectors_than_a_block_come_back_in_their_order(tmp_path):
    many = [shelves.passage(f"d{n // 100}", "T", (f"H{n}",), f"value{n} of thing{n * 7}") for n in range(5000)]
    library = shelves.library(tmp_path / "l.sqlite", many, ScriptedEmbedder(width=16))
    embedder = library.embedder
    for number in (0, 4095, 4096, 4999):
        vector = library.vectors.bodies[library.vectors.of_part[library.vectors.starts[number]]]
        assert vector == pytest.approx(embedder.questions(parts(many[number]))[0], abs=1e-3)


def test_the_embedder_is_asked_by_one_thread_at_a_time(tmp_path):
    class Alone(ScriptedEmbedder):
        inside = most = 0

        def questions(self, texts):
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.002)
            try:
                return super().questions(texts)
            finally:
                self.inside -= 1

    embedder = Alone(shelves.SYNONYMS)
    library = shelves.library(tmp_path / "l.sqlite", embedder=embedder)
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(library.search, "How is the boiler reset?") for _ in range(8)]
        made = [pool.submit(library.embedder.embed, ["boiler", "pump"]) for _ in range(8)]
    assert all(one.result() for one in found) and embedder.most == 1
    assert np.allclose(made[0].result(), embedder.questions(["boiler", "pump"]))


def test_many_threads_search_one_library(by_both):
    wanted = [hit.number for hit in by_both.search("AX-200 battery")]
    results: list[list[int]] = []

    def work():
        results.extend([hit.number for hit in by_both.search("AX-200 battery")] for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [wanted] * 160


@pytest.mark.parametrize(
    "question", ['"', "AX* OR NOT (", "' ; DROP TABLE words --", "", "   ", "\0", "head:reset", "the of"]
)
def test_no_question_breaks_the_search(by_both, question):
    assert isinstance(by_both.search(question), list)


def test_an_index_of_another_model_or_format_is_refused(tmp_path):
    path = tmp_path / "l.sqlite"
    shelves.library(path)
    with pytest.raises(ArtefactError, match="vectors of no model, not of scripted"):
        SqliteLibrary(path, embedder=ScriptedEmbedder())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    with pytest.raises(ArtefactError, match="no library of this version"):
        SqliteLibrary(path)


def test_terms_that_are_everywhere_are_not_searched_for_while_rarer_ones_are(tmp_path):
    many = [shelves.passage(f"d{n}", "T", ("H",), f"common words and item{n}") for n in range(100)]
    library = shelves.library(tmp_path / "l.sqlite", many)
    assert library.by_words(terms("common item7"), 100) == [7]
    assert len(library.by_words(terms("common"), 100)) == 100


def test_comparing_roughly_first_finds_what_comparing_all_exactly_finds(tmp_path):
    chance = random.Random(1)
    stock = [f"word{n}" for n in range(300)]
    many = [
        shelves.passage(f"d{n // 10}", f"Pump P{n // 10}", (f"Part {n % 10}",), " ".join(chance.choices(stock, k=12)))
        for n in range(4000)
    ]
    library = shelves.library(tmp_path / "l.sqlite", many, ScriptedEmbedder(width=96))
    with sqlite3.connect(library.path) as connection:
        rough = Vectors(connection, 96, coarse_from=1000)
    assert rough.coarse is not None and library.vectors.coarse is None and rough.bodies.dtype == np.float16
    for _ in range(20):
        question, naming = library.embedder.questions([" ".join(chance.choices(stock, k=5)), "Pump P7"])
        exact = nearest(library.vectors.scores(question, naming, 2.0), 20)
        found = nearest(rough.scores(question, naming, 2.0), 20)
        assert len({number for number, _ in exact} & {number for number, _ in found}) >= 19
        assert [score for _, score in found[:5]] == pytest.approx([score for _, score in exact[:5]], abs=2e-3)
        kept = [(100, 50), (3000, 10)]
        among = nearest(rough.scores(question, naming, 2.0, kept), 5, kept)
        assert among[0][0] == nearest(library.vectors.scores(question, naming, 2.0), 5, kept)[0][0]


def test_where_all_that_was_asked_stands_word_for_word_meaning_decides_among_equals_alone(tmp_path):
    class Misled(ScriptedEmbedder):
        def questions(self, texts):
            return super().questions(["use four aa cells" if "Bolt" in text else text for text in texts])

    library = shelves.library(tmp_path / "l.sqlite", embedder=Misled(width=256))
    assert library.search("Bolt ZW122 display")[0].passage.headings == ("Display",)
