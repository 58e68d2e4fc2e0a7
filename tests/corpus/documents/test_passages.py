"""Cutting documents into passages, held against what a passage is by definition."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from werkmeister.corpus.documents.document import Document
from werkmeister.corpus.documents.parts import Part, lay_out, pipe_table
from werkmeister.corpus.documents.passages import cut
from werkmeister.passage import Passage


def count(texts: Sequence[str]) -> list[int]:
    """Tokens as a byte-pair tokenizer counts them, roughly: four letters each, and one for every sign and blank run.

    Not additive, as tokenizers are not: a word that is cut has other tokens than the whole.
    """
    return [len(re.findall(r"[^\W_]{1,4}|[\W_]|\s+", text)) for text in texts]


def document(parts: Sequence[Part], *, name: str = "manual.pdf", title: str = "Manual") -> Document:
    text, blocks = lay_out(parts)
    return Document(name=name, sha256="0" * 64, format="pdf", title=title, text=text, blocks=blocks, language="en")


words = st.text(alphabet=st.sampled_from("abcdefg äöß,;-—€\U0001f600日.!?0123"), min_size=1, max_size=40)
sentences = st.lists(words, min_size=1, max_size=12).map(lambda some: ". ".join(some))
paragraphs = sentences.map(lambda text: Part("paragraph", text))
long_words = st.integers(1, 900).map(lambda n: Part("paragraph", "x" * n))
lists = st.lists(words, min_size=1, max_size=12).map(lambda items: Part("list", "\n".join(f"- {i}" for i in items)))
rows = st.lists(st.lists(words, min_size=2, max_size=3), min_size=2, max_size=8)
tables = rows.map(lambda cells: Part("table", pipe_table(cells)))
code = st.lists(words, min_size=1, max_size=8).map(lambda lines: Part("code", "\n".join(["```", *lines, "```"])))
headings = st.builds(
    Part, st.just("heading"), st.sampled_from(["Filter", "Pump", "Reset", "Manual"]), st.integers(1, 4)
)
pages = st.integers(1, 5)
parts = st.lists(
    st.one_of(headings, paragraphs, paragraphs, long_words, lists, tables, code).flatmap(
        lambda part: pages.map(lambda page: replace(part, page=page))
    ),
    max_size=25,
)


def section_of(made: Document, place: int) -> int:
    """The start of the last heading before a place, −1 for none."""
    return max((b.start for b in made.blocks if b.kind == "heading" and b.start <= place), default=-1)


@settings(max_examples=150, deadline=None)
@given(parts, st.integers(8, 120), st.integers(0, 40))
def test_passages_are_verbatim_within_the_budget_and_leave_nothing_out(parts, budget, overlap):
    made = document(parts)
    passages = cut(made, count, budget=budget, overlap=overlap)
    covered = bytearray(len(made.text))
    for passage in passages:
        assert passage.text == made.text[passage.start : passage.end]
        assert passage.text == passage.text.strip() != ""
        assert passage.tokens == count([passage.text])[0]
        assert passage.tokens <= budget or len(passage.text) == 1
        covered[passage.start : passage.end] = b"\1" * len(passage.text)
    for block in made.blocks:
        if block.kind != "heading":
            assert all(covered[i] or made.text[i].isspace() for i in range(block.start, block.end))
    assert len({passage.id for passage in passages}) == len(passages)
    assert [p.start for p in passages] == sorted(p.start for p in passages)


@settings(max_examples=100, deadline=None)
@given(parts, st.integers(8, 80), st.integers(0, 40))
def test_passages_overlap_only_where_a_section_was_cut_and_by_no_more_than_they_may(parts, budget, overlap):
    made = document(parts)
    passages = cut(made, count, budget=budget, overlap=overlap)
    for before, after in pairwise(passages):
        shared = made.text[after.start : before.end] if after.start < before.end else ""
        if shared:
            assert section_of(made, before.start) == section_of(made, after.start) == section_of(made, after.end - 1)
            assert count([shared])[0] <= overlap
            assert after.end > before.end


@settings(max_examples=100, deadline=None)
@given(parts, st.integers(8, 80))
def test_headings_lead_to_what_the_passage_holds(parts, budget):
    made = document(parts)
    for passage in cut(made, count, budget=budget):
        path: list[tuple[int, str]] = []
        for block in made.blocks:
            if block.kind == "heading" and block.start < passage.start:
                path = [(level, text) for level, text in path if level < block.level]
                path.append((block.level, made.text[block.start : block.end].lstrip("# ")))
        inside = [b.level for b in made.blocks if b.kind == "heading" and passage.start <= b.start < passage.end]
        if section_of(made, passage.start) == passage.start >= 0 and inside:
            path = [(level, text) for level, text in path if level < inside[0]]
        texts = [text for _, text in path]
        texts = texts[1:] if texts[:1] == ["Manual"] else texts
        assert passage.headings == tuple(texts)
        # What shares a passage stands directly under one heading.
        assert len(set(inside)) <= 1


@settings(max_examples=60, deadline=None)
@given(parts, parts)
def test_a_change_of_one_chapter_leaves_the_ids_of_the_others(first, second):
    def chapter(name: str, inner: Sequence[Part]) -> list[Part]:
        deeper = [replace(part, level=part.level + 1) if part.kind == "heading" else part for part in inner]
        return [Part("heading", name, 1), Part("paragraph", "Word " * 40), *deeper]

    whole = document([*chapter("One", first), *chapter("Two", second)])
    alone = document(chapter("One", first))
    kept = {passage.id for passage in cut(whole, count, budget=60)}
    assert {passage.id for passage in cut(alone, count, budget=60)} <= kept


def test_the_same_text_twice_gets_two_ids_and_a_renamed_document_others():
    same = [Part("heading", "Filter", 1), Part("paragraph", "Clean it. " * 8)] * 2
    passages = cut(document(same), count, budget=100)
    assert len({passage.id for passage in passages}) == len(passages) == 2
    renamed = cut(document(same, name="other.pdf"), count, budget=100)
    assert {p.id for p in passages}.isdisjoint(p.id for p in renamed)


def test_a_new_number_in_front_of_a_heading_changes_no_id():
    def manual(number: str) -> list[Passage]:
        return cut(document([Part("heading", f"{number} Filter", 1), Part("paragraph", "Clean it.")]), count, budget=50)

    assert [p.id for p in manual("3.1")] == [p.id for p in manual("4.1")]


def test_what_fits_is_not_cut_and_what_does_not_is_cut_between_sentences_items_and_rows():
    sentences = [f"Sentence number {n} is about the filter." for n in range(30)]
    items = [f"- Item number {n} of the list" for n in range(30)]
    table = pipe_table([["Name", "Value"], *([f"row {n}", f"value {n}"] for n in range(30))])
    made = document(
        [
            Part("heading", "Text", 1),
            Part("paragraph", " ".join(sentences)),
            Part("heading", "List", 1),
            Part("list", "\n".join(items)),
            Part("heading", "Table", 1),
            Part("table", table),
        ]
    )
    passages = cut(made, count, budget=60)
    for heading, whole in (("Text", sentences), ("List", items), ("Table", table.split("\n"))):
        texts = [p.text for p in passages if p.headings == (heading,)]
        assert len(texts) > 2
        pieces = [piece for text in texts for piece in re.split(r"\n|(?<=\.) ", text)]
        assert pieces == whole


def test_a_list_that_fits_goes_whole_into_the_next_passage_with_the_line_that_announces_it():
    steps = "\n".join(f"{n}. Turn the screw number {n}." for n in range(1, 5))
    made = document(
        [
            Part("heading", "Change", 1),
            Part("paragraph", "The filter gets dirty in time. " * 4),
            Part("paragraph", "To change the filter:"),
            Part("list", steps),
        ]
    )
    _, last = cut(made, count, budget=100)
    assert last.text == f"To change the filter:\n\n{steps}"


def test_small_sections_share_a_passage_under_their_own_heading_alone():
    entries = [Part("heading", "Glossary", 1)]
    for term in ("Axis", "Backlash", "Chuck"):
        entries += [Part("heading", term, 2), Part("paragraph", f"{term} is a word.")]
    entries += [Part("heading", "Safety", 1), Part("paragraph", "Wear gloves.")]
    glossary, safety = cut(document(entries, title="Book"), count, budget=120)
    assert glossary.headings == ("Glossary",) and "## Backlash\n\nBacklash is a word." in glossary.text
    assert safety.headings == ("Safety",) and safety.text == "Wear gloves."


def test_pages_and_language_are_those_of_the_passage():
    made = document(
        [
            Part("heading", "One", 1, 2),
            Part("paragraph", "The pump is on and the valve is closed, so that it can be opened. " * 2, page=2),
            Part("paragraph", "Then the pump is off and it must be cleaned with water.", page=3),
            Part("heading", "Zwei", 1, 4),
            Part(
                "paragraph", "Die Pumpe ist an und das Ventil ist zu, damit es mit der Hand geöffnet wird. " * 3, page=4
            ),
        ]
    )
    first, second = cut(made, count, budget=200)
    assert (first.first_page, first.last_page, first.language) == (2, 3, "en")
    assert (second.first_page, second.last_page, second.language) == (4, 4, "de")
    assert second.place == "manual.pdf, p. 4, Zwei"


def test_abbreviations_and_numbers_end_no_sentence():
    text = "Drehen Sie z. B. Nr. 3 um ca. 5 mm. Danach, d. h. sofort, prüfen Sie Abb. 2 (vgl. Kap. 4). See e.g. Fig. 7."
    made = document([Part("heading", "A", 1), Part("paragraph", f"{text} {'Wort ' * 30}.")])
    texts = [passage.text for passage in cut(made, count, budget=40)]
    starts = [text.split()[0] for text in texts]
    assert starts[:3] == ["Drehen", "Danach,", "See"]
