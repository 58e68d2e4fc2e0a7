"""The stage write, through its public door: on real documents artefacts, with the structural writer and a teacher."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.checkpoints import tiny_base
from tests.manuals import write_manual, write_manuals
from tests.openai_server import Server, serving
from werkmeister.artefact import exists, stage_key
from werkmeister.bases.base import Base
from werkmeister.config import as_json, read_settings
from werkmeister.corpus.documents.stage import DocumentsSettings, documents, load_documents
from werkmeister.corpus.writing.checks import CHECKS
from werkmeister.corpus.writing.stage import VERSION, WriteSettings, write, write_inputs
from werkmeister.errors import DataError, EngineError, SettingsError
from werkmeister.governing.policy import PolicySettings
from werkmeister.grounding import refusal
from werkmeister.passage import read_passages
from werkmeister.progress import Silent

MANUALS = 14


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base") / "tiny")


def read(expert: Path, base: Base):
    home = expert / "artefacts"
    settings = DocumentsSettings(files=("manuals",), passage_tokens=220, overlap=0)
    return documents(expert, home / "documents", settings, base=base, home=home, progress=Silent())


@pytest.fixture(scope="module")
def expert_of_manuals(tmp_path_factory, base) -> Path:
    expert = tmp_path_factory.mktemp("manuals") / "expert"
    write_manuals(expert / "manuals", MANUALS)
    read(expert, base)
    return expert


@pytest.fixture
def expert(expert_of_manuals, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(expert_of_manuals, tmp_path / "expert"))


def run(expert: Path, *, progress=None, system="", policy=None, source="documents", **given):
    home = expert / "artefacts"
    return write(
        home / source if source else None,
        home / "write",
        WriteSettings(**given),
        **{"expert": expert, "policy": policy or PolicySettings(), "home": home, "system": system},
        progress=progress or Silent(),
    )


def lines(made, name: str) -> list[dict]:
    return [json.loads(line) for line in made.file(name).read_text(encoding="utf-8").splitlines()]


def told(made) -> dict:
    return json.loads(made.file("report.json").read_text(encoding="utf-8"))


def test_every_pair_is_verified_against_the_document_and_belongs_to_a_family(expert):
    made = run(expert)
    texts = {d.name: d.text for d, _ in load_documents(read_artefact(expert))}
    passages = {p.id: p for p in read_passages(expert / "artefacts" / "documents" / "passages.jsonl")}
    pairs = lines(made, "pairs.jsonl")
    assert len({pair["document"] for pair in pairs}) == MANUALS
    for pair in pairs:
        own = passages[pair["passage"]]
        assert own.document == pair["document"]
        assert pair["group"]
        assert isinstance(pair["flags"], list)
        if pair["answerable"]:
            assert texts[pair["document"]][pair["start"] : pair["end"]] == pair["evidence"]
            assert own.start <= pair["start"] < pair["end"] <= own.end
        else:
            assert (pair["answer"], pair["evidence"]) == (refusal("en"), "")
    assert len({(pair["question"], pair["passage"]) for pair in pairs}) == len(pairs)


def read_artefact(expert: Path):
    from werkmeister.artefact import open_artefact

    return open_artefact(expert / "artefacts" / "documents", "documents")


def test_the_report_adds_up(expert):
    made = run(expert, unanswerable=0.25, open_book=0.5)
    report, pairs, dropped = told(made), lines(made, "pairs.jsonl"), lines(made, "dropped.jsonl")
    answerable = [pair for pair in pairs if pair["answerable"]]
    assert sum(report["writers"].values()) == report["written"] == len(answerable) + len(dropped)
    assert sum(report["checks"].values()) == len(dropped)
    assert set(report["checks"]) <= set(CHECKS)
    assert all(one["reason"] and one["group"] for one in dropped)
    assert sum(report["kinds"].values()) == len(pairs) == made.facts["pairs"]
    none = report["unanswerable"]
    assert none["made"] == len(pairs) - len(answerable) == none["same document"] + none["sister document"]
    assert none["made"] == none["wanted"] == round(len(answerable) * 0.5 / 3)
    assert report["families"]["groups"] == len({pair["group"] for pair in pairs})
    assert (made.facts["open_book"], made.facts["distractors"], made.facts["seed"]) == (0.5, 0, 0)
    assert made.facts["base"]["name"] == "tiny"


def test_variants_of_a_document_are_one_family(expert, base):
    write_manual(expert / "manuals", 90, like=3)
    read(expert, base)
    groups = {pair["document"]: pair["group"] for pair in lines(run(expert), "pairs.jsonl")}
    assert groups["manuals/norvex-090.md"] == groups["manuals/norvex-003.md"] == "manuals/norvex-003.md"
    assert len(set(groups.values())) == MANUALS


def test_the_same_again_is_the_same_and_seed_and_shares_decide(expert):
    first = run(expert)
    assert run(expert).identity == first.identity
    assert run(expert, seed=1).identity != first.identity
    assert run(expert, unanswerable=0.0).outputs["pairs.jsonl"]["bytes"] < first.outputs["pairs.jsonl"]["bytes"]


def test_touching_one_document_writes_that_one_alone_anew(expert, base, monkeypatch):
    from werkmeister.corpus.writing.structural.writer import StructuralWriter

    written = []
    whole = StructuralWriter.write

    def watched(self, document, passages):
        written.append(document.name)
        return whole(self, document, passages)

    monkeypatch.setattr(StructuralWriter, "write", watched)
    run(expert)
    assert len(written) == MANUALS
    path = expert / "manuals" / "norvex-005.md"
    path.write_text(path.read_text().replace("Technical data", "Ratings"), encoding="utf-8")
    read(expert, base)
    run(expert)
    assert written[MANUALS:] == ["manuals/norvex-005.md"]
    run(expert, seed=4)
    assert len(written) == MANUALS + 1


def test_the_same_file_with_another_title_is_written_anew(expert, monkeypatch):
    """A newer reader finds other titles and headings in files that did not change."""
    run(expert)

    def titled(source):
        return [
            (replace(document, title=document.title.replace("Norvex", "Zyklon")), own)
            for document, own in load_documents(source)
        ]

    monkeypatch.setattr("werkmeister.corpus.documents.stage.load_documents", titled)
    asked = [pair["question"] for pair in lines(run(expert, seed=1), "pairs.jsonl") if pair["answerable"]]
    assert all("Zyklon" in question for question in asked)


def test_a_limit_is_spread_over_all_documents(expert):
    made = run(expert, limit=MANUALS)
    asked = told(made)["asked"]
    passages = {p.id: p for p in read_passages(expert / "artefacts" / "documents" / "passages.jsonl")}
    assert len(asked) == MANUALS
    assert len({passages[one].document for one in asked}) == MANUALS
    assert {pair["passage"] for pair in lines(made, "pairs.jsonl")} <= set(asked)
    more = told(run(expert, limit=2 * MANUALS))["asked"]
    assert set(asked) < set(more), "what was paid for is asked again"


def test_personal_data_is_flagged_or_dropped(expert, base):
    (expert / "manuals" / "norvex-001.md").write_text(
        "# Norvex M107\n\n## Contact\n\n| Property | Value |\n| --- | --- |\n| Hotline | +49 30 901820 |\n"
        "| Mail address | help@norvex.example |\n",
        encoding="utf-8",
    )
    read(expert, base)
    flags = {flag for pair in lines(run(expert), "pairs.jsonl") for flag in pair["flags"]}
    assert flags == {"personal: e-mail", "personal: phone"}
    made = run(expert, personal="drop")
    assert not any(pair["flags"] for pair in lines(made, "pairs.jsonl"))
    assert {one["check"] for one in lines(made, "dropped.jsonl") if one["flags"]} == {"personal"}


def test_nothing_to_ask_about_is_an_error_and_no_artefact(expert, base):
    shutil.rmtree(expert / "manuals")
    (expert / "manuals").mkdir()
    (expert / "manuals" / "tale.txt").write_text("Once upon a time we went out. And then we came home again.")
    read(expert, base)
    with pytest.raises(DataError, match=r"nothing was found to ask about in 1 passages") as caught:
        run(expert)
    assert "teacher" in caught.value.hint
    assert not exists(expert / "artefacts" / "write")


def test_when_all_pairs_fall_to_the_checks_the_largest_reasons_are_named(expert, base):
    shutil.rmtree(expert / "manuals")
    (expert / "manuals").mkdir()
    table = "# Norvex M7\n\n## Contact\n\n| Property | Value |\n| --- | --- |\n| Mail address | a@norvex.example |\n"
    (expert / "manuals" / "m7.md").write_text(table)
    read(expert, base)
    with pytest.raises(DataError, match=r"all \d+ pairs that were written fell to the checks") as caught:
        run(expert, personal="drop")
    assert "personal: 2, such as: holds personal data (e-mail)" in caught.value.problems
    assert not exists(expert / "artefacts" / "write")


def teaches(body) -> str:
    """A teacher that asks about the weight where a passage tells it, and about nothing elsewhere."""
    said = body["messages"][-1]["content"]
    row = re.search(r"\| Weight \| (\d+ kg) \|", said)
    name = re.search(r"Norvex M\d+", said)
    if not row or not name:
        return json.dumps({"pairs": []})
    question = f"How heavy is the {name.group()}?"
    fact = {"evidence": row.group(), "questions": [question], "answer": f"It weighs {row.group(1)}."}
    return json.dumps({"pairs": [fact]})


@pytest.fixture
def server():
    with serving(Server(answer=teaches)) as told:
        yield told


def test_a_teacher_writes_beside_the_structural_writer_and_its_cost_is_told(expert, server):
    made = run(expert, writers=("structural", "teacher"), teacher=server.url, teacher_model="tiny")
    heavy = [
        pair for pair in lines(made, "pairs.jsonl") if pair["question"].startswith("How heavy") and pair["answerable"]
    ]
    assert len(heavy) == MANUALS
    assert all(pair["writer"].startswith("teacher") for pair in heavy)
    cost = made.measures["teacher"]
    assert cost["requests"] == len(server.asked) == len(told(made)["asked"])
    assert cost["prompt_tokens"] > 0
    before = len(server.asked)
    run(expert, writers=("structural", "teacher"), teacher=server.url, teacher_model="tiny", seed=3)
    assert len(server.asked) == before, "remembered per passage"


def test_a_teacher_that_returns_rubbish_is_an_error_and_no_artefact(expert, server):
    server.answer = lambda body: "Sure, happy to help!"
    with pytest.raises(EngineError):
        run(expert, writers=("teacher",), teacher=server.url, teacher_model="tiny")
    assert not exists(expert / "artefacts" / "write")


def test_prompts_alone_are_distilled_under_the_experts_system_message(tmp_path, server):
    server.answer = lambda body: f"Look at the fuse of {body['messages'][-1]['content'].split()[0]}."
    (tmp_path / "tickets.txt").write_text("Mill does not start\nLathe is loud\nPress leaks\n")
    given = {"prompts": ("tickets.txt",), "teacher": server.url, "teacher_model": "tiny"}
    made = run(tmp_path, source=None, system="Be brief.", **given)
    pairs = lines(made, "pairs.jsonl")
    assert [pair["answer"] for pair in pairs] == [f"Look at the fuse of {x}." for x in ("Mill", "Lathe", "Press")]
    assert {(pair["kind"], pair["passage"], pair["answerable"]) for pair in pairs} == {("prompt", "", True)}
    assert len({pair["group"] for pair in pairs}) == 3
    assert server.asked[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert told(made)["teacher"]["requests"] == 3


def test_a_host_that_the_policy_does_not_allow_is_never_asked(expert):
    with pytest.raises(SettingsError, match=r"\[policy\] allow"):
        run(expert, writers=("teacher",), teacher="https://llm.example.com/v1", teacher_model="m")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('writers = ["structral"]', "known are structural, teacher"),
        ('writers = ["teacher"]', "teacher is empty"),
        ("judge = true", "judge is true, and teacher is empty"),
        ('prompts = ["a.txt"]', "prompts are given"),
        ("writers = []", "writers is empty, so nobody writes"),
        ("unanswerable = 0.9", "at most 0.8"),
        ("open_books = 0.5", "did you mean 'open_book'?"),
    ],
)
def test_settings_that_cannot_work_are_refused_when_they_are_read(tmp_path, text, said):
    (tmp_path / "expert.toml").write_text(f"[write]\n{text}\n")
    with pytest.raises(SettingsError) as caught:
        read_settings(tmp_path, {"write": WriteSettings})
    assert said in str(caught.value)


def test_what_decides_the_pairs_makes_them_stale(tmp_path):
    (tmp_path / "p.txt").write_text("one\n")

    def key(system: str = "", **given) -> str:
        settings = WriteSettings(**given)
        return stage_key("write", VERSION, write_inputs(tmp_path, settings, system), as_json(settings))

    prompts = {"prompts": ("p.txt",), "teacher": "http://127.0.0.1:9/v1"}
    keys = [key(), key(forms=3), key(**prompts), key("Be kind.", **prompts), key(teacher="http://127.0.0.1:8/v1")]
    (tmp_path / "p.txt").write_text("two\n")
    keys.append(key(**prompts))
    assert len(set(keys)) == len(keys)
    assert key("Be kind.") == key(), "without prompts nobody is told the system message"
