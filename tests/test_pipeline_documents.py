"""The way from documents to a dataset through the pipeline: what runs, why, and in what order."""

import json
import shutil
from pathlib import Path

import pytest

from tests.checkpoints import write_llama
from tests.manuals import write_manuals
from werkmeister.bases.find import find_base
from werkmeister.chat import read_examples
from werkmeister.errors import ArtefactError
from werkmeister.pipeline import artefacts_of, build, plan, read_expert, run_stage, stages_of
from werkmeister.progress import Silent

ALL = ("documents", "index", "write", "dataset", "train", "export", "exam")
SETTINGS = """
[expert]
base = "./base"

[documents]
files = ["manuals"]
passage_tokens = 200

[train]
epochs = 1.0
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """An expert whose documents have become a dataset."""
    folder = tmp_path_factory.mktemp("documents") / "expert"
    write_llama(folder / "base")
    write_manuals(folder / "manuals", 14)
    (folder / "expert.toml").write_text(SETTINGS, encoding="utf-8")
    build(read_expert(folder), upto="dataset")
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "expert"))


def ran(done) -> dict[str, str]:
    return {one.stage: one.reason for one in done if one.reason}


def test_documents_make_a_dataset_and_a_second_build_nothing(made: Path) -> None:
    assert stages_of(read_expert(made)) == ALL
    assert [path.name for path in sorted(artefacts_of(made).iterdir()) if (path / "manifest.json").is_file()] == [
        *("dataset", "documents", "write"),
    ]
    assert ran(build(read_expert(made), upto="dataset")) == {}
    manifest = json.loads((artefacts_of(made) / "dataset" / "manifest.json").read_text())
    assert {"documents", "write"} <= set(manifest["inputs"])
    exam = list(read_examples(artefacts_of(made) / "dataset" / "exam.jsonl"))
    assert all(example.passage and example.group for example in exam)
    report = json.loads((artefacts_of(made) / "dataset" / "report.json").read_text())
    assert report["training_seconds"] > 0


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("documents.passage_tokens=150", ["documents", "write", "dataset"]),
        ("write.unanswerable=0.4", ["write", "dataset"]),
        ("dataset.seed=5", ["dataset"]),
        ("exam.limit=5", []),
        ('policy.allow=["llm.example.com"]', []),
        # Another way of doing the same: the pairs are the same, and so is the dataset.
        ("write.concurrency=2", ["write"]),
    ],
)
def test_a_changed_setting_runs_its_stage_and_what_changes_behind_it(copy: Path, override: str, stages) -> None:
    done = ran(build(read_expert(copy, [override]), upto="dataset"))
    assert list(done) == stages
    if stages:
        assert override.partition("=")[0] + ":" in done[stages[0]]


def test_a_touched_document_is_named_and_the_plan_knows_what_follows(copy: Path) -> None:
    path = copy / "manuals" / "norvex-004.md"
    path.write_text(path.read_text().replace("Weight", "Mass"), encoding="utf-8")
    settings = read_expert(copy)
    base = find_base("./base", expert=copy, progress=Silent())
    steps = {step.stage: step.reason for step in plan(settings, base)}
    assert "norvex-004.md changed" in steps["documents"]
    assert steps["write"] == "documents is made anew"
    assert steps["dataset"] == "documents is made anew"
    assert list(ran(build(settings, upto="dataset"))) == ["documents", "write", "dataset"]


def test_a_document_touched_without_a_change_of_its_text_ends_at_the_documents(copy: Path) -> None:
    path = copy / "manuals" / "norvex-004.md"
    path.write_text(path.read_text(), encoding="utf-8")
    assert ran(build(read_expert(copy), upto="dataset")) == {}


def test_dataset_alone_brings_documents_and_pairs_along_and_train_alone_refuses_stale_ones(copy: Path) -> None:
    write_manuals(copy / "manuals", 1, first=30)
    settings = read_expert(copy)
    with pytest.raises(ArtefactError, match=r"train needs an up-to-date documents artefact"):
        run_stage(settings, "train")
    assert run_stage(settings, "dataset").reason
    assert ran(build(settings, upto="dataset")) == {}


def test_decisions_make_the_dataset_stale_and_nothing_before_it(copy: Path) -> None:
    from werkmeister.corpus.decisions import DROP, append_decisions, decide

    line = (artefacts_of(copy) / "write" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[0]
    append_decisions(copy, [decide(json.loads(line), DROP)])
    done = ran(build(read_expert(copy), upto="dataset"))
    assert list(done) == ["dataset"]
    assert "decisions" in done["dataset"]


def test_an_expert_of_prompts_alone_reads_no_documents(tmp_path: Path) -> None:
    text = '[expert]\nbase = "./base"\n[write]\nprompts = ["p.txt"]\nteacher = "http://127.0.0.1:9/v1"\n'
    (tmp_path / "expert.toml").write_text(text)
    assert stages_of(read_expert(tmp_path)) == ALL[2:]


def test_dataset_never_asks_a_teacher_again_of_its_own_accord(copy: Path) -> None:
    """Pairs written under --limit or --budget-tokens would otherwise be written anew, without either."""
    settings = read_expert(copy, ['write.teacher="http://127.0.0.1:9/v1"', "write.limit=3"])
    with pytest.raises(ArtefactError, match="limit") as refused:
        run_stage(settings, "dataset")
    assert "werkmeister write" in refused.value.hint
