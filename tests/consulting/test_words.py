from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from werkmeister.consulting.words import Compounds, fold, language_of, terms, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Geräte", "Geraete"),
        ("Geräte", "GERÄT"),
        ("größer", "groesser"),
        ("Straße", "Strasse"),
        ("sensors", "Sensor"),
        ("Batterien", "Batterie"),
        ("café", "cafe"),
    ],
)
def test_spellings_and_endings_of_a_word_give_one_term(one, other):
    assert terms(one) == terms(other)


@pytest.mark.parametrize("word", ["neue", "Steuerung", "frequent", "queue", "aue"])
def test_what_is_no_umlaut_stays(word):
    assert fold(word) == word.casefold()


@pytest.mark.parametrize("spelling", ["FGK-101", "fgk101", "FGK 101", "FGK_101", "FGK.101"])
def test_a_model_number_is_found_however_it_is_written(spelling):
    assert {"fgk", "101"} <= set(terms(spelling))
    if " " not in spelling:
        assert "fgk101" in terms(spelling)


def test_a_compound_is_parted_by_the_words_of_the_documents():
    split = Compounds({"bewegung", "melder", "wasser", "rohr", "bruch"})
    assert split("bewegungsmelder") == ("bewegung", "melder")
    assert split("wasserrohrbruch") == ("wasser", "rohr", "bruch")
    assert split("bewegungskraft") == split("melder") == split("unbekannter") == ()
    assert terms("Bewegungsmelder", split) == ["bewegungsmeld", *terms("Bewegung"), *terms("Melder")]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Wie stelle ich die Uhr?", "de"),
        ("How do I set the clock?", "en"),
        ("ZW122", "en"),
        ("Lüfter reinigen", "de"),
        ("What is the default in the DE version?", "en"),
    ],
)
def test_the_language_of_a_question_is_told_by_its_little_words(text, language):
    assert language_of(text, "en") == language


def test_where_nothing_tells_the_language_it_is_the_documents():
    assert language_of("ZW122", "de") == "de"


@given(st.text(max_size=200))
def test_no_term_holds_a_blank_or_a_mark(text):
    for word in words(text):
        assert word.isalnum(), word
    assert all(term.isalnum() for term in terms(text))


@given(st.lists(st.sampled_from(["Pumpe", "FGK-101", "größer", "reset", "5", "ZW122"]), max_size=8))
def test_the_terms_of_a_text_are_those_of_its_words_in_order(tokens):
    assert terms(" ".join(tokens)) == [term for token in tokens for term in terms(token)]
