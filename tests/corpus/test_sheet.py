import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.corpus.written_files import records_of
from werkmeister.corpus.decisions import (
    DROP,
    EDIT,
    KEEP,
    UNDECIDED,
    Decisions,
    append_decisions,
    decide,
    load_decisions,
)
from werkmeister.corpus.sheet import COLUMNS, guarded, read_sheet, unguarded, write_sheet
from werkmeister.errors import DataError

PAIRS, DROPPED = records_of(3)
RECORDS = [*PAIRS, *DROPPED]
NONE = Decisions(of={})


def place(record) -> str:
    return f"{record['document']}, Data"


def exported(folder: Path, records=RECORDS, decisions=NONE, delimiter=",") -> Path:
    path = folder / "review.csv"
    assert write_sheet(path, records, decisions, place, delimiter=delimiter) == len(records)
    return path


def rows_of(path: Path, delimiter=",") -> list[dict[str, str]]:
    text = path.read_bytes().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def save(path: Path, rows: list[dict[str, str]], *, delimiter=",", columns=COLUMNS, encoding="utf-8-sig") -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter=delimiter, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def test_the_sheet_has_the_columns_a_mark_for_excel_and_every_pair_with_its_reason(tmp_path):
    path = exported(tmp_path)
    assert path.read_bytes().startswith(b"\xef\xbb\xbfid,decision,question,answer,evidence,place,flags,reason\r\n")
    rows = rows_of(path)
    assert [unguarded(row["id"]) for row in rows] == [record["id"] for record in RECORDS]
    assert rows[0]["place"] == "manuals/pump-0.md, Data"
    assert rows[-1]["reason"] == f"numbers: {DROPPED[-1]['reason']}"
    assert rows[PAIRS.index(next(r for r in PAIRS if r["flags"]))]["flags"] == "personal: e-mail"


def test_a_sheet_that_nobody_touched_decides_nothing_even_when_decisions_stand_in_it(tmp_path):
    edit = decide(PAIRS[2], EDIT, question="Flow?\nOf P0", answer="=40")
    append_decisions(tmp_path, [decide(PAIRS[0], KEEP), decide(PAIRS[1], DROP), edit, decide(DROPPED[0], KEEP)])
    decisions = load_decisions(tmp_path)
    for delimiter in ",;\t":
        path = exported(tmp_path, decisions=decisions, delimiter=delimiter)
        said = read_sheet(path, RECORDS, decisions)
        assert (said.decisions, said.replaced, said.rows) == ((), 0, len(RECORDS))
    assert rows_of(path, "\t")[2]["answer"] == "'=40"


def test_what_a_person_wrote_becomes_decisions(tmp_path):
    path = exported(tmp_path)
    rows = rows_of(path)
    rows[0]["decision"] = " Keep "
    rows[1]["decision"] = "DROP"
    rows[2]["answer"] = "40 litres"
    rows[3] |= {"decision": "keep", "question": "-Flow?\r\nReally"}
    rows[-1]["decision"] = "keep"
    kept = rows[:5] + rows[-1:]
    save(path, kept, delimiter=";", columns=("decision", "answer", "id", "question"))
    said = read_sheet(path, RECORDS, NONE)
    assert [(d.id, d.verdict, d.new_question, d.new_answer) for d in said.decisions] == [
        (PAIRS[0]["id"], KEEP, "", ""),
        (PAIRS[1]["id"], DROP, "", ""),
        (PAIRS[2]["id"], EDIT, PAIRS[2]["question"], "40 litres"),
        (PAIRS[3]["id"], EDIT, "-Flow?\nReally", PAIRS[3]["answer"]),
        (DROPPED[-1]["id"], KEEP, "", ""),
    ]
    assert said.rows == 6


def test_a_sheet_that_excel_saved_as_unicode_text_is_read(tmp_path):
    path = exported(tmp_path)
    rows = rows_of(path)
    rows[0]["decision"], rows[1]["answer"] = "drop", "größer"
    save(path, rows, delimiter="\t", encoding="utf-16")
    assert [(d.verdict, d.new_answer) for d in read_sheet(path, RECORDS, NONE).decisions] == [
        (DROP, ""),
        (EDIT, "größer"),
    ]


def test_an_empty_cell_changes_nothing_and_undecided_takes_back(tmp_path):
    append_decisions(tmp_path, [decide(PAIRS[0], DROP), decide(PAIRS[1], EDIT, question="Q?", answer="A")])
    decisions = load_decisions(tmp_path)
    path = exported(tmp_path, decisions=decisions)
    rows = rows_of(path)
    rows[0]["decision"] = ""
    rows[1]["decision"] = "undecided"
    rows[2]["decision"] = "undecided"
    save(path, rows)
    said = read_sheet(path, RECORDS, decisions)
    assert [(d.id, d.verdict) for d in said.decisions] == [(PAIRS[1]["id"], UNDECIDED)]
    assert said.replaced == 1


def test_all_mistakes_are_told_by_line_and_column_and_nothing_is_decided(tmp_path):
    path = exported(tmp_path)
    rows = rows_of(path)
    rows[0]["question"] = "two\nlines"
    rows[1]["decision"] = "maybe"
    rows[2] |= {"id": "0123456789abcdef", "decision": "keep"}
    rows[3]["answer"] = ""
    rows[4] |= {"decision": "drop", "answer": "changed"}
    rows[5]["decision"] = "edit"
    rows[6]["id"] = rows[0]["id"]
    save(path, rows)
    with pytest.raises(DataError) as caught:
        read_sheet(path, RECORDS, NONE)
    assert list(caught.value.problems) == [
        "review.csv:4: column decision: 'maybe' is none of keep, edit, drop, undecided",
        "review.csv:5: column id: no pair is called '0123456789abcdef'",
        "review.csv:6: column answer: is empty; to leave the pair out, write drop under decision",
        "review.csv:7: column answer: was changed, and column decision says drop; write edit, or restore the text",
        "review.csv:8: column decision: says edit, and question and answer are as they were",
        f"review.csv:9: column id: {rows[0]['id']} stands on line 2 already",
    ]
    assert "nothing was decided" in caught.value.hint


def test_rows_without_a_decision_on_pairs_that_are_gone_are_passed_over(tmp_path):
    path = exported(tmp_path)
    rows = rows_of(path)
    rows[0]["id"] = "0123456789abcdef"
    rows[1]["decision"] = "keep"
    save(path, rows)
    said = read_sheet(path, RECORDS, NONE)
    assert (len(said.decisions), said.gone, said.rows) == (1, 1, len(rows))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "review.csv: is empty"),
        (b"id,question,answer\r\nx,y,z\r\n", "review.csv:1: must have each column once: decision"),
        ("id,decision,question,answer\r\nx,keep,Größe,1\r\n".encode("cp1252"), "is not UTF-8"),
        ("id,decision,question,answer".encode("utf-16") + b"x", "is UTF-16 that breaks off"),
        (b'id,decision,question,answer\r\nx,keep,"never closed,1\r\n', "review.csv:2: is not valid CSV"),
        (b"id,decision,question,answer\r\nx,keep,a,b,c,d\r\n", "review.csv:2: has 6 cells under 4 columns"),
    ],
)
def test_a_file_of_another_form_is_refused_in_words(tmp_path, data, problem):
    path = tmp_path / "review.csv"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_sheet(path, RECORDS, NONE)
    assert any(problem in told for told in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    "text",
    [
        *(
            "=1+1",
            "+49 30 1",
            "-5 °C",
            "@home",
            "\t=1",
            "0815",
            "1.50",
            "3-4",
            "1/2",
            "1e5",
            "10 a",
            "5 %",
            "€5",
            "(5)",
        ),
        *("12 Mar 2024", "Mai 5", "1. März", "TRUE", "wahr", "1234567890123456", "12345678901234e1", "'=1", "''0815"),
    ],
)
def test_what_a_spreadsheet_would_change_or_run_is_guarded(text):
    assert guarded(text) == f"'{text}"
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize("text", ["0", "10", "255", "10 seconds", "Marker 12", "May I open it?", "0x0A", "", "it's"])
def test_what_every_spreadsheet_leaves_alone_is_left_alone(text):
    assert guarded(text) == text


@given(st.text(alphabet=st.sampled_from("'=+-@\t\r0815.,/ eEaM%€(\n") | st.characters(exclude_categories=["Cs"])))
def test_guarding_is_undone_for_every_text(text):
    assert unguarded(guarded(text)) == text
    cell = guarded(text)
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r")


@given(
    question=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    answer=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    delimiter=st.sampled_from(",;\t"),
)
def test_any_text_comes_back_from_the_sheet_as_it_went(tmp_path_factory, question, answer, delimiter):
    folder = tmp_path_factory.mktemp("sheet")
    record = PAIRS[0] | {"question": question, "answer": answer}
    path = exported(folder, [record, PAIRS[1]], delimiter=delimiter)
    assert read_sheet(path, [record, PAIRS[1]], NONE).decisions == ()


def test_a_text_that_no_cell_holds_is_cut_in_the_sheet_and_never_taken_for_an_edit(tmp_path):
    long = PAIRS[0] | {"answer": "=" + "word " * 8000}
    path = exported(tmp_path, [long, PAIRS[1]])
    rows = rows_of(path)
    assert len(rows[0]["answer"]) == 32_767
    assert read_sheet(path, [long, PAIRS[1]], NONE).decisions == ()
    rows[0]["answer"] += "more"
    save(path, rows)
    with pytest.raises(DataError, match="column answer: is longer than a cell holds"):
        read_sheet(path, [long, PAIRS[1]], NONE)
