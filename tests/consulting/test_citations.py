from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shelves import manuals, passage

from werkmeister.consulting.citations import NONE, VERBATIM, WORDS, cite, holds, sentences, verbatim

FILTER = passage(
    "pump.pdf",
    "Pump P7",
    ("Maintenance", "Filter"),
    "Clean the filter every 3 months.\n\n- Default: 20 °C\n- Range: 5 to 35 °C\n\n| Code | Meaning |\n| --- | --- |\n"
    "| E5 | No water |\n| E15 | Pump blocked |",
    start=1000,
    page=12,
)


def cited(answer, passages=(FILTER,), question=""):
    return cite(answer, passages, question)


def test_a_sentence_of_the_passage_is_cited_with_its_characters_and_page():
    (found,) = cited("Clean the filter every 3 months.")
    assert (found.support, found.passage, found.page) == (VERBATIM, FILTER.id, 12)
    assert found.quote == "Clean the filter every 3 months"
    assert (found.start, found.document_start) == (0, 1000)
    assert found.place == "pump.pdf, p. 12, Maintenance › Filter"
    assert holds(found, FILTER)


def test_a_passage_of_several_pages_does_not_say_on_which_of_them_a_line_stands():
    (found,) = cited("Clean the filter every 3 months.", [replace(FILTER, last_page=13)])
    assert found.page == 0 and found.place.startswith("pump.pdf, p. 12–13,")


def test_case_marks_and_line_breaks_do_not_matter_and_the_quote_is_the_passages_own():
    (found,) = cited("clean   the FILTER every 3 months!")
    assert found.support == VERBATIM and found.quote == "Clean the filter every 3 months"


def test_each_sentence_has_its_own_citation_and_one_that_stands_nowhere_is_marked():
    first, second, third = cited("Clean the filter every 3 months. Use warm soapy vinegar. The range is 5 to 35 °C.")
    assert (first.support, second.support, third.support) == (VERBATIM, NONE, WORDS)
    assert not second.supported and second.quote == "" and second.record() == {"sentence": [33, 56], "support": "none"}
    assert third.quote == "Range: 5 to 35 °C"


@pytest.mark.parametrize(
    "answer", ["Clean the filter every 4 months.", "The range is 5 to 350 °C.", "The range is 5.5 to 35 °C.", "15"]
)
def test_a_number_that_the_passage_does_not_have_is_not_supported(answer):
    (found,) = cited(answer)
    assert found.support == NONE


def test_a_number_of_the_question_needs_no_source():
    (found,) = cited("E5 of unit 77 means no water.", question="What does E5 mean on unit 77?")
    assert (found.support, found.quote) == (WORDS, "E5 | No water")


def test_quoted_evidence_must_stand_there_word_for_word():
    (true,) = cited('The manual says "clean the filter every 3 months" about it.')
    (false,) = cited('The manual says "clean every filter in 3 months" about it.')
    assert (true.support, false.support) == (WORDS, NONE)


def test_an_answer_as_short_as_a_value_is_cited_where_the_question_points():
    text = "- Minimum: 5\n- Maximum: 35\n- Default: 5"
    place = passage("m.md", "M", ("Parameter 1",), text)
    (found,) = cite("5", [place], "What is the default?")
    assert place.text[: found.start].endswith("Default: ") and found.quote == "5"


def test_a_word_is_whole_or_not_there():
    assert verbatim("5", "15 5.5 50") == []
    assert verbatim("E5", "E15, E5.") == [(5, 7)]
    assert verbatim("no water", "No\nwater") == [(0, 8)]
    assert verbatim("...", "a ... b") == []


def test_a_refusal_and_an_answer_without_passages_cite_nothing():
    assert cited("The documents do not say.") == ()
    assert cite("Clean the filter.", ()) == ()


def test_the_passage_that_holds_it_is_cited_among_several():
    others = [one for one in manuals() if one.headings]
    (found,) = cite("Use four AA cells.", others)
    assert found.document == "manuals/acme-ax-200.md" and found.page == 2


def test_names_alone_do_not_support_a_sentence():
    (found,) = cited("The Pump P7 explodes quickly.")
    assert found.support == NONE


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("It is 5 V. Use it.", 2),
        ("Use e.g. Mobil oil. Then wait.", 2),
        ("Set approx. 5 bar. OK.", 2),
        ("1. Open it.\n2. Close it.", 2),
        ('He said "Stop." Then he left.', 2),
        ("Am 3. Mai ist Wartung. Danach nicht.", 2),
        ("No end", 1),
        ("", 0),
        (" \n ", 0),
    ],
)
def test_text_is_parted_into_sentences(text, count):
    assert len(list(sentences(text))) == count


@given(st.text(max_size=300))
def test_sentences_lie_in_order_and_leave_out_blanks_alone(text):
    end, kept = 0, ""
    for start, stop in sentences(text):
        assert end <= start < stop <= len(text)
        assert not text[start].isspace() and not text[stop - 1].isspace()
        kept += text[start:stop]
        end = stop
    assert "".join(kept.split()) == "".join(text.split())


SCRAPS = (
    "Reset",
    "hold",
    "the",
    "button",
    "5",
    "10",
    "LED",
    "rot",
    "für",
    "Größe",
    "E5",
    "|",
    "-",
    ".",
    ",",
    "\n",
    "°C",
)
WORDS_OF = st.lists(st.sampled_from(SCRAPS))


@settings(max_examples=200)
@given(WORDS_OF, WORDS_OF, st.integers(0, 500))
def test_every_citation_is_true_of_its_passage(said, written, start):
    text = " ".join(written).strip()
    if not text:
        return
    place = passage("d", "T", ("H",), text, start=start)
    answer = " ".join(said)
    for found in cite(answer, [place], "hold?"):
        assert answer[slice(*found.sentence)].strip()
        if found.supported:
            assert holds(found, place) and found.quote == text[found.start : found.end]


@given(st.lists(st.sampled_from(["reset", "Hold", "5", "10", "it", "für", "E5"]), min_size=1), st.data())
def test_any_run_of_a_passages_words_is_found_in_it(tokens, data):
    first = data.draw(st.integers(0, len(tokens) - 1))
    last = data.draw(st.integers(first + 1, len(tokens)))
    text = " ".join(tokens)
    start = len(" ".join(tokens[:first])) + (first > 0)
    run = " ".join(tokens[first:last])
    assert (start, start + len(run)) in verbatim(run.upper().replace("ß", "SS"), text)
