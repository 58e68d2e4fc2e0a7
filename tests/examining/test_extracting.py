import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examining.devices import examples, manual
from werkmeister.chat import Example, conversation
from werkmeister.errors import DataError
from werkmeister.examining.extracting import CUTS, fit_extract, reads_passages, sections
from werkmeister.examining.marks import MARKS
from werkmeister.grounding import is_refusal, open_book

PASSAGE = """Acme X1 › Care
## Battery
Use two AAA cells. Do not mix old and new ones.
- Voltage: 3 V
1. Open the lid.
2. Insert the cells.
## Parameters
| Number | Name | Default |
|---|:--:|---|
| 1 | Interval | 60 s |
| 2 | Volume | |"""


def answers(cut: str) -> list[str]:
    return [piece.answer for section in sections(PASSAGE) for piece in section.pieces(cut)]


def test_a_passage_is_cut_into_sentences_rows_values_or_sections():
    assert answers("sentence") == [
        "Battery",
        "Use two AAA cells.",
        "Do not mix old and new ones.",
        "Voltage: 3 V",
        "Open the lid.",
        "Insert the cells.",
        "Parameters",
        "1, Interval, 60 s",
        "2, Volume",
    ]
    values = answers("value")
    assert "3 V" in values and "60 s" in values and "Voltage: 3 V" not in values
    assert answers("section") == [
        "Use two AAA cells. Do not mix old and new ones. Voltage: 3 V Open the lid. Insert the cells.",
        "Number, Name, Default 1, Interval, 60 s 2, Volume",
    ]


@pytest.mark.parametrize("cut", CUTS)
@given(st.text(alphabet="ab |-#:1.\n", max_size=60))
def test_any_passage_can_be_cut(cut, passage):
    for section in sections(passage):
        assert section.pieces(cut)
        for piece in section.pieces(cut):
            assert all(word.rstrip(",") in passage for word in piece.answer.split()), "cut out, never made up"


def test_it_finds_the_value_in_the_passage_of_a_device_that_it_never_saw_and_abstains_where_nothing_is_alike():
    train, exam = examples(range(20)), examples(range(20, 30))
    baseline = fit_extract(train)
    said = [reply.text for reply in baseline.replies([e.prompt for e in exam])]
    scores = {part: [] for part in ("with passage", "unanswerable")}
    for example, answer in zip(exam, said, strict=True):
        scores[example.part].append(MARKS["grounded"](answer, example).score)
    assert sum(scores["with passage"]) / 40 > 0.7
    assert sum(scores["unanswerable"]) / 10 > 0.9
    assert "of the passage by TF-IDF, or refusal" in baseline.about
    passages = {e.prompt: manual(20 + i // 5).text for i, e in enumerate(exam)}
    assert all(is_refusal(a) or a in passages[e.prompt] for e, a in zip(exam, said, strict=True)), (
        "only cut, never made up"
    )


def test_without_refusals_in_training_it_never_abstains():
    train = [e for e in examples(range(10)) if e.part == "with passage"]
    baseline = fit_extract(train)
    asked = [conversation(open_book("What is the weather like?", [manual(40)]))]
    (reply,) = baseline.replies(asked)
    assert reply.text and not is_refusal(reply.text) and "refusal" not in baseline.about


def test_closed_book_questions_are_looked_up_among_the_closed_book_ones():
    train = examples(range(10), closed=True)
    asked = next(e for e in train if e.part == "from memory" and "X7" in e.question)
    (reply,) = fit_extract(train).replies([asked.prompt])
    assert reply.text == asked.target


def test_what_reads_no_passage_is_told_apart_and_refused():
    plain = [Example(prompt=conversation("How much?"), target="5")]
    assert reads_passages(examples([1])) and not reads_passages(plain)
    with pytest.raises(DataError, match="with a passage"):
        fit_extract(plain)
