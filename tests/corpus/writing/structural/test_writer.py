"""The structural writer: where its pairs stand, that they are the same every time, and what it passes over."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpus.writing.structural.written import ENGLISH, GERMAN, answers_to, document_of, pairs_of
from werkmeister.corpus.writing.checks import check_pair
from werkmeister.corpus.writing.structural.language import LANGUAGES, language_of
from werkmeister.corpus.writing.structural.writer import StructuralWriter


@pytest.mark.parametrize("text", [GERMAN, ENGLISH])
def test_evidence_is_a_quote_that_stands_in_its_passage_and_passes_the_checks(text: str) -> None:
    document, passages = document_of(text)
    known = {passage.id: passage for passage in passages}
    pairs = list(StructuralWriter(forms=6).write(document, passages))
    assert len(pairs) > 100
    for pair in pairs:
        passage = known[pair.passage]
        assert pair.evidence == document.text[pair.start : pair.end]
        assert passage.start <= pair.start < pair.end <= passage.end
        assert check_pair(pair, document, passage) is None, pair


@pytest.mark.parametrize("text", [GERMAN, ENGLISH])
def test_every_question_is_one_and_names_the_thing(text: str) -> None:
    for pair in pairs_of(text):
        assert re.search(r"HP 40|HX-200", pair.question), pair.question
        assert pair.question.endswith(("?", "next?", "weiter?")), pair.question
        assert "{" not in pair.question + pair.answer
        assert "  " not in pair.question


def test_the_same_document_gives_the_same_pairs_and_no_question_twice() -> None:
    once, again = pairs_of(GERMAN), pairs_of(GERMAN)
    assert once == again
    assert len({pair.question for pair in once}) == len(once)
    assert len({pair.id for pair in once}) == len(once)


def test_forms_are_at_most_as_many_as_asked_for_and_share_the_fact() -> None:
    for forms in (1, 2, 4):
        by_fact: dict[tuple[str, str], set[str]] = {}
        for pair in pairs_of(ENGLISH, forms=forms):
            by_fact.setdefault((pair.fact, pair.answer), set()).add(pair.question)
        assert max(map(len, by_fact.values())) == forms
    fewer = {pair.question for pair in pairs_of(ENGLISH, forms=2)}
    assert fewer < {pair.question for pair in pairs_of(ENGLISH, forms=4)}


def test_a_bound_on_the_facts_of_a_passage_keeps_as_many_kinds_of_question_as_it_can() -> None:
    table = "\n".join(f"| {n} | Value {n} | {n * 10} | 0 to {n * 100} |" for n in range(1, 21))
    text = f"# Pump HP 40\n\n## Parameters\n\n| No. | Name | Default | Range |\n| --- | --- | --- | --- |\n{table}\n"
    bound = pairs_of(text, forms=1, per_passage=4, budget=2000)
    assert len(bound) == 4
    assert len({pair.answer.split()[1] for pair in bound}) >= 3  # "The default …", "The range …", "It is …"
    assert len(pairs_of(text, forms=1, budget=2000)) == 80


def test_a_row_is_asked_for_only_where_its_passage_holds_the_head_of_the_table() -> None:
    rows = "\n".join(f"| {n} | Value number {n} | {n * 7} |" for n in range(1, 61))
    text = f"# Pump HP 40\n\n## Parameters\n\n| No. | Name | Default |\n| --- | --- | --- |\n{rows}\n"
    document, passages = document_of(text, budget=120)
    assert len(passages) > 2
    pairs = list(StructuralWriter().write(document, passages))
    assert {pair.passage for pair in pairs} == {passages[0].id}


@pytest.mark.parametrize(
    "text",
    [
        "## Overview\n\nIt is a pump. This is the best choice. There is a valve at the outlet.",
        "## Valve\n\nThe valve is the",
        "## Valve\n\nThe valve is the following part of the",
        "## Values\n\n| 1 | 2 |\n| --- | --- |\n| 3 | 4 |",
        "## Parameters\n\n| No. | Name | Default |\n| --- | --- | --- |\n| 1 | Mode | - |\n| 1 | Speed | n/a |",
        "## Note\n\n1. This is one remark.\n2. This is another remark.",
        "## Details\n\nSee chapter 7.",
        "## How does it work?\n\nAs described above.",
        "## Filter\n\n1. Remove the cap and the\n2. Insert the new filter.",
    ],
)
def test_what_is_ambiguous_empty_or_cut_off_is_passed_over(text: str) -> None:
    assert pairs_of(f"# Pump HP 40\n\n{text}\n") == []


def test_of_two_rows_of_one_key_and_two_tables_that_contradict_nothing_is_asked() -> None:
    head = "| Code | Meaning |\n| --- | --- |\n"
    pairs = pairs_of(
        f"# Pump HP 40\n\n## Codes\n\n{head}| E1 | Door open |\n| E2 | Motor hot |\n| E2 | Oil low |\n\n"
        f"## Code list\n\n{head}| E1 | Door closed |\n| E3 | Tank empty |\n"
    )
    assert answers_to(pairs, "E1") == set()
    assert answers_to(pairs, "E2") == set()
    assert answers_to(pairs, "E3") == {"Tank empty."}


def test_a_name_that_two_parameters_share_leads_to_no_number() -> None:
    head = "| No. | Name | Default |\n| --- | --- | --- |\n"
    pairs = pairs_of(f"# Pump HP 40\n\n## Parameters\n\n{head}| 1 | Delay | 5 |\n| 2 | Delay | 7 |\n| 3 | Mode | 1 |\n")
    assert not any(pair.answer in ("It is parameter 1.", "It is parameter 2.") for pair in pairs)
    assert answers_to(pairs, "number", "Mode") == {"It is parameter 3."}
    assert answers_to(pairs, "default", "parameter 2") == {"The default is 7."}


def test_a_value_that_the_title_gives_away_is_not_asked_for() -> None:
    pairs = pairs_of(
        "# Heidler HX-200\n\n## Data\n\n| Item | Value |\n| --- | --- |\n| Model | HX-200 |\n| Weight | 40 kg |\n"
    )
    assert {pair.answer for pair in pairs} == {"The weight is 40 kg."}


def test_the_language_is_that_of_the_passage_and_english_stands_in() -> None:
    assert {pair.language for pair in pairs_of(GERMAN)} == {"de"}
    document, passages = document_of(GERMAN)
    english = list(StructuralWriter(language="en").write(document, passages))
    assert {pair.language for pair in english} <= {"en"}
    assert language_of("fr").code == "en"
    table = "# HP 40\n\n| Fehlercode | Bedeutung |\n| --- | --- |\n| E1 | Tür offen |\n"
    assert {pair.language for pair in pairs_of(table)} == {"de"}


def test_all_languages_have_the_same_questions_answers_and_slots() -> None:
    first, *others = (language_of(code) for code in LANGUAGES)
    for other in others:
        assert set(other.questions) == set(first.questions)
        assert set(other.answers) == set(first.answers)
        assert set(other.roles.values()) == set(first.roles.values())
        for ask, forms in other.questions.items():
            assert _slots(forms) <= _slots(first.questions[ask]) | {"heading", "step", "number", "of", "on"}, ask
    for language in (first, *others):
        for ask, forms in language.questions.items():
            assert len(set(forms)) == len(forms)
            assert all(form.rstrip().endswith("?") or form == "{question}" for form in forms), ask
            assert all("{on}" in form or "{of}" in form for form in forms) or ask == "faq", ask


def _slots(forms: tuple[str, ...]) -> set[str]:
    return {name for form in forms for _, name, _, _ in string.Formatter().parse(form) if name}


def test_the_key_tells_what_decides_the_pairs() -> None:
    keys = [StructuralWriter().key, StructuralWriter(forms=3).key, StructuralWriter(language="de").key]
    keys.append(StructuralWriter(per_passage=5).key)
    assert len({str(key) for key in keys}) == 4
    assert StructuralWriter().name.startswith("structural ")


_LINE = st.one_of(
    st.text(alphabet='|-#*>1234567890.: \t=abcXYZäß?!"„“()[]`\\\n', max_size=60),
    st.sampled_from(
        [
            "# A",
            "## Parameter 1: X",
            "| No. | Name |",
            "| --- | --- |",
            "| 1 | a |",
            "1. Press the key.",
            "- a: b",
            "Q: What is it?",
        ]
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_LINE, max_size=25))
def test_any_text_is_read_and_what_is_written_is_well_formed(lines: list[str]) -> None:
    document, passages = document_of("\n".join(["# Pump HP 40", "", *lines, "", "End."]), budget=64)
    known = {passage.id: passage for passage in passages}
    for pair in StructuralWriter(forms=6).write(document, passages):
        assert pair.evidence == document.text[pair.start : pair.end] != ""
        assert known[pair.passage].start <= pair.start < pair.end <= known[pair.passage].end
        assert pair.question.strip() and pair.answer.strip()
