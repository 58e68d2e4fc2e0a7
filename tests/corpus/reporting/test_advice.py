"""The rules of the advice: each applies where it says, tells its numbers, and the verdict follows from them."""

from dataclasses import replace

import pytest

from werkmeister.corpus.reporting.advice import (
    BOTH,
    NEITHER,
    PROMPT,
    RETRIEVAL,
    TUNING,
    Counts,
    advise,
)

MANUALS = Counts(
    train=5000,
    exam=400,
    with_passage=3600,
    from_memory=900,
    unanswerable=500,
    documents=1500,
    groups=1500,
    facts=2500,
    answers=5000,
    exact=800,
    tokens=2_000_000,
    context=8192,
    passages=9000,
    covered=6000,
)
TICKETS = Counts(train=900, exam=100, brought=900, classes=6, a_class=60, context=8192)


def test_many_facts_in_passages_call_for_both_and_the_numbers_are_told():
    advice = advise(MANUALS)
    assert advice.verdict == BOTH
    told = " ".join(reason.because for reason in advice.reasons)
    assert "2,500 facts with 2.0 examples each" in told
    assert "3,600 examples with a passage" in told
    assert "500 of 4,100 examples with a passage (12%) are unanswerable" in told
    assert [reason.speaks_for for reason in advice.reasons] == [RETRIEVAL, TUNING, TUNING]
    assert advice.cautions == (
        "900 examples ask from memory: they may teach to guess, and no exam can ask held-out documents so;"
        " write.open_book = 1.0 leaves them out",
    )


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, BOTH),
        ({"tokens": 4096}, PROMPT),
        ({"tokens": 4097}, BOTH),
        ({"train": 99, "with_passage": 60}, RETRIEVAL),
        ({"with_passage": 150, "unanswerable": 30}, RETRIEVAL),
        ({"facts": 90}, TUNING),
        ({"facts": 500, "answers": 5000}, TUNING),
        ({"facts": 90, "exact": 1500}, BOTH),
        ({"facts": 90, "groups": 1100}, BOTH),
    ],
)
def test_the_verdict_follows_from_the_counts(changed, verdict):
    assert advise(replace(MANUALS, **changed)).verdict == verdict


@pytest.mark.parametrize(
    ("changed", "verdict", "told"),
    [
        ({}, TUNING, "900 examples in 6 classes, 60 in the smallest"),
        ({"a_class": 3}, NEITHER, "classes with fewer than 20 are hardly learnt"),
        ({"classes": 0}, TUNING, "900 examples that you brought show the form of the answers"),
        ({"classes": 0, "brought": 120, "train": 120}, NEITHER, "120 examples that you brought are few"),
        ({"train": 40, "brought": 40}, NEITHER, "60 in the smallest"),
    ],
)
def test_examples_that_a_person_brought_are_judged_by_their_number(changed, verdict, told):
    advice = advise(replace(TICKETS, **changed))
    assert advice.verdict == verdict
    assert told in " ".join((*advice.cautions, *(reason.because for reason in advice.reasons)))


@pytest.mark.parametrize(
    ("changed", "caution"),
    [
        ({"unanswerable": 100}, "raise write.unanswerable, or the expert invents"),
        ({"unanswerable": 4000}, "refuses what it could answer"),
        ({"exam": 40}, "the exam has 40 examples"),
        ({"covered": 4000}, "5,000 of 9,000 passages gave no pair"),
    ],
)
def test_what_a_person_should_mend_is_said(changed, caution):
    assert any(caution in told for told in advise(replace(MANUALS, **changed)).cautions)
    assert not any(caution in told for told in advise(MANUALS).cautions)


def test_every_reason_holds_a_number_and_no_rule_divides_by_nothing():
    for counts in (MANUALS, TICKETS, Counts(train=0, exam=0), Counts(train=500, exam=9, documents=3, context=100)):
        advice = advise(counts)
        assert advice.sentence
        for reason in advice.reasons:
            assert any(letter.isdigit() for letter in reason.because)
