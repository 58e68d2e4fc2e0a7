import json
import re
from types import SimpleNamespace

import pytest

from tests.corpus.written_files import PER_DOCUMENT, passages_of, records_of, write_artefacts
from werkmeister.chat import Example, conversation
from werkmeister.corpus.decisions import Decisions, apply_decisions, decide
from werkmeister.corpus.reading import Source
from werkmeister.corpus.report import make_report, write_report
from werkmeister.corpus.reporting.coverage import NOT_ASKED, NOTHING_FOUND, coverage, funnel
from werkmeister.corpus.shapes import Given
from werkmeister.corpus.written import read_written
from werkmeister.grounding import open_book

COUNT = 12
PAIRS, DROPPED = records_of(COUNT)
BASE = SimpleNamespace(name="tiny", context_length=100)
TEACHER = {
    "name": "gemma",
    "requests": 40,
    "prompt_tokens": 12_345,
    "seconds": 3.5,
    "cost": None,
    "settings": {"temperature": 0.0},
}
CONTAMINATION = [{"what": "exam passages that stand in train", "n": 0, "of": 31}]


def decisions(*made) -> Decisions:
    return Decisions(of={decision.id: decision for decision in made})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    report = {"teacher": TEACHER, "judge": {"agreed": 18, "of": 20}, "notes": ["two manuals are one"]}
    return read_written(*write_artefacts(tmp_path_factory.mktemp("report"), COUNT, report))


def report_of(written, applied, **given):
    examples = [
        Example(
            prompt=conversation(open_book(record["question"], [written.passages[record["passage"]]])),
            target=record["answer"],
            part="with passage" if record["answerable"] else "unanswerable",
            group=record["group"],
            source=f"{record['document']}:{index}",
            passage=record["passage"],
            evidence=record["evidence"],
        )
        for index, record in enumerate(applied.pairs)
    ]
    splits = {"train": examples[:-20], "valid": examples[-20:-10], "exam": examples[-10:]}
    source = Source(name="pairs", format="pairs", shape="pairs", given=[Given(example=e, split="") for e in examples])
    lengths = {name: [len(e.question) // 4 for e in many] for name, many in splits.items()}
    shared = {"sources": [source], "dropped": [], "splits": splits, "lengths": lengths, "notes": [], "base": BASE}
    return make_report(**shared, limit=100, written=written, applied=applied, contamination=CONTAMINATION, **given)


def test_the_funnel_adds_up_from_passages_to_pairs_with_a_persons_decisions(written):
    made = decisions(decide(PAIRS[0], "drop"), decide(PAIRS[1], "drop"), decide(DROPPED[0], "keep"))
    applied = apply_decisions(written.pairs, written.dropped, made)
    rows = [(row["unit"], row["step"], row["dropped"], row["left"]) for row in funnel(written, applied)]
    verified = COUNT * PER_DOCUMENT
    assert rows == [
        ("passages", "cut from the documents", 0, 2 * COUNT),
        ("passages", "given to a writer", 0, 2 * COUNT),
        ("passages", "something was written from", COUNT, COUNT),
        ("pairs", "written", 0, verified),
        ("pairs", "check: numbers", COUNT, verified - COUNT),
        ("pairs", "unanswerable questions added", -COUNT, verified),
        ("pairs", "dropped by you", 2, verified - 2),
        ("pairs", "rescued by you", -1, verified - 1),
    ]
    assert rows[-1][-1] == len(applied.pairs)


def test_every_passage_without_a_pair_is_listed_with_its_reason(written):
    asked = [record["id"] for record in written.pairs]
    first = passages_of(0)
    own = [record for record in PAIRS if record["document"] == first[0].document]
    applied = apply_decisions(written.pairs, written.dropped, decisions(*(decide(r, "drop") for r in own)))
    documents, silent = coverage(written, applied)
    assert len(documents) == COUNT
    assert [(d.passages, d.covered, d.pairs) for d in documents[:2]] == [(2, 0, 0), (2, 1, PER_DOCUMENT)]
    assert documents[1].dropped == {"numbers": 1}
    assert documents[1].silent == {NOTHING_FOUND: 1}
    reasons = {one.place: one.reason for one in silent}
    assert reasons[first[0].place] == f"every pair was dropped (you {PER_DOCUMENT}, numbers 1)"
    assert reasons[first[1].place] == NOTHING_FOUND
    assert sum(d.passages - d.covered for d in documents) == len(silent) == COUNT + 1
    limited = written.__class__(**vars(written) | {"report": {"asked": [p.id for p in passages_of(0)]}})
    _, silent = coverage(limited, applied)
    assert {one.reason for one in silent if one.document != first[0].document} == {NOT_ASKED}
    assert asked


def test_a_passage_with_unanswerable_questions_alone_is_not_covered(written):
    only = [record for record in written.pairs if not record["answerable"]]
    documents, _ = coverage(written, apply_decisions(only, [], decisions()))
    assert {document.covered for document in documents} == {0}
    assert {document.pairs for document in documents} == {1}


def test_the_json_holds_what_the_page_draws(written):
    edit = decide(PAIRS[0], "edit", question="Pressure of P0, please?", answer="three bar")
    gone = decide(PAIRS[0] | {"id": "f" * 16}, "drop")
    applied = apply_decisions(written.pairs, written.dropped, decisions(edit, gone))
    report = json.loads(json.dumps(report_of(written, applied)))
    origin = report["origin"]
    assert origin["kinds"] == {"parameter": 8 * COUNT, "unanswerable": COUNT}
    assert origin["flags"] == {"personal: e-mail": COUNT // 2 * PER_DOCUMENT}
    assert len(origin["flagged"]) == COUNT // 2 * PER_DOCUMENT
    assert origin["answer_words"].count(2) >= 8 * COUNT - 1
    assert origin["decisions"]["counts"] == {"keep": 0, "edit": 1, "drop": 0, "rescued": 0, "waiting": 1}
    assert origin["decisions"]["waiting"][0]["question"] == PAIRS[0]["question"]
    assert origin["unread"] == [{"name": "manuals/scan.pdf", "reason": "holds pictures of pages and no text"}]
    assert origin["contamination"] == CONTAMINATION
    assert origin["teacher"] == TEACHER
    by_id = {record["id"]: record for record in applied.pairs}
    for sample in origin["samples"]:
        record = by_id[sample["id"]]
        assert sample["evidence"] == record["evidence"]
        text = written.passages[record["passage"]].text
        assert sample["before"] + sample["evidence"] + sample["after"] == text
    assert report["training_seconds"] is None


def test_the_advice_stands_on_the_datas_own_counts(written):
    applied = apply_decisions(written.pairs, written.dropped, decisions())
    advice = report_of(written, applied)["advice"]
    tokens = sum(passage.tokens for number in range(COUNT) for passage in passages_of(number))
    assert tokens > BASE.context_length // 2
    told = " ".join([*(reason["because"] for reason in advice["reasons"]), *advice["cautions"]])
    assert f"{8 * COUNT} of {8 * COUNT} answers (100%) hold a number or code" in told
    train = applied.pairs[:-20]
    unanswerable = sum(not record["answerable"] for record in train)
    assert f"{len(train) - unanswerable} examples with their passage are few" in told
    assert advice["verdict"] == "retrieval"


def test_the_page_stands_alone_escapes_and_marks_the_evidence(written, tmp_path):
    applied = apply_decisions(written.pairs, written.dropped, decisions(decide(PAIRS[0], "keep")))
    write_report(report_of(written, applied, training_seconds=5400.0), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<b>Lift it" not in page
    assert re.findall(r"(?:src|href)=|url\(|https?://(?!www\.w3\.org/2000/svg)", page) == []
    assert re.search(r"<mark>[A-Z][a-z ]+: \d+ ", page)
    for words in (
        "Files that could not be read",
        "holds pictures of pages and no text",
        "1.5 h on this machine",
        "1 without text",
    ):
        assert words in page
    for words in ("12,345", "cost</th>", "not measured", "two manuals are one", "1 kept, 0 edited, 0 dropped"):
        assert words in page
    assert page.index("holds pictures of pages") < page.index("From passages to pairs")


def test_without_documents_the_page_is_the_one_of_the_files(written, tmp_path):
    examples = [Example(prompt=conversation(f"Q{i}"), target="A", source=f"f:{i}") for i in range(30)]
    splits = {"train": examples[:20], "valid": examples[20:25], "exam": examples[25:]}
    source = Source(name="f", format="csv", shape="prompt", given=[Given(example=e, split="") for e in examples])
    lengths = {name: [3] * len(many) for name, many in splits.items()}
    report = make_report(sources=[source], dropped=[], splits=splits, lengths=lengths, notes=[], base=BASE, limit=100)
    write_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert report["origin"] is None
    assert report["advice"]["verdict"] == "more examples"
    assert "From the files to the splits" in page
    assert "Coverage of the documents" not in page


def test_one_document_is_enough_for_a_page(tmp_path):
    written = read_written(*write_artefacts(tmp_path, 1))
    applied = apply_decisions([*written.pairs] * 3, [], decisions())
    write_report(report_of(written, applied), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1 of 2 passages gave an answerable pair" in page
    assert "No check dropped a pair." not in page


def test_prompts_alone_without_documents_are_told_too(tmp_path):
    _, write = write_artefacts(tmp_path, 3)
    prompts = [r | {"passage": "", "evidence": "", "kind": "prompt", "document": "p.txt"} for r in records_of(3)[0]]
    (write / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in prompts), encoding="utf-8")
    (write / "dropped.jsonl").write_text("", encoding="utf-8")
    written = read_written(None, write)
    applied = apply_decisions(written.pairs, written.dropped, decisions())
    examples = [Example(prompt=conversation(r["question"]), target=r["answer"], source="p") for r in applied.pairs]
    splits = {"train": examples[:20], "valid": examples[20:23], "exam": examples[23:]}
    lengths = {name: [5] * len(many) for name, many in splits.items()}
    shared = {"sources": [], "dropped": [], "splits": splits, "lengths": lengths, "notes": [], "base": BASE}
    report = make_report(**shared, limit=100, written=written, applied=applied)
    write_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "no passage belongs to this pair" in page
    assert "No check dropped a pair." in page
    assert "Coverage of the documents" not in page
    assert any("examples that you brought are few" in told for told in report["advice"]["cautions"])


def test_with_thousands_of_pairs_and_documents_the_page_stays_small_and_says_what_it_left_out(tmp_path):
    count = 1500
    written = read_written(*write_artefacts(tmp_path, count))
    applied = apply_decisions(written.pairs, written.dropped, decisions())
    assert len(applied.pairs) > 5000
    write_report(report_of(written, applied), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 600_000
    assert "and 1,100 more, in report.json" in page
    assert len(json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["origin"]["coverage"]) == count
