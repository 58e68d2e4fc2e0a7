"""The command line as a person or a script meets it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.checkpoints import write_llama
from tests.corpus.documents.samples import pdf
from tests.manuals import write_manuals
from werkmeister.cli import main
from werkmeister.errors import SettingsError
from werkmeister.starting import new_expert


def run(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "werkmeister.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=120,
        check=False,
    )


def test_new_makes_an_expert_that_check_reads_and_never_overwrites(tmp_path: Path) -> None:
    made = run("new", tmp_path / "mine", "--json")
    assert made.returncode == 0
    assert [Path(file).name for file in json.loads(made.stdout)["files"]] == ["expert.toml", "examples.jsonl"]
    again = run("new", tmp_path / "mine")
    assert again.returncode == 2
    assert "not empty" in again.stderr


def test_new_with_documents_names_them_as_seen_from_the_expert_and_dataset_makes_examples_of_them(
    tmp_path: Path,
) -> None:
    write_manuals(tmp_path / "manuals", 14)
    write_llama(tmp_path / "base")
    arguments = ("new", "cnc", "--documents", "manuals/", "--documents", "manuals/*3.md", "--base", "../base")
    made = run(*arguments, "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    expert = tmp_path / "cnc"
    assert [Path(file).name for file in json.loads(made.stdout)["files"]] == ["expert.toml"]
    assert tomllib.loads((expert / "expert.toml").read_text())["documents"]["files"] == [
        "../manuals",
        "../manuals/*3.md",
    ]
    found = json.loads(run("check", expert, "--json").stdout)
    assert [step["stage"] for step in found["plan"]] == [
        "documents",
        "index",
        "write",
        "dataset",
        "train",
        "export",
        "exam",
    ]
    assert found["documents"]["files"] == 14
    told = run("dataset", expert, "--limit", 20, "--set", "documents.passage_tokens=200")
    assert told.returncode == 0, told.stderr
    assert "report.html" in told.stdout
    settings = json.loads((expert / "artefacts" / "write" / "manifest.json").read_text())["settings"]
    assert settings["limit"] == 20
    assert len(json.loads((expert / "artefacts" / "write" / "report.json").read_text())["asked"]) == 20
    as_json = json.loads(run("write", expert, "--set", "documents.passage_tokens=200", "--json").stdout)
    assert as_json["reason"].startswith("write.limit: 20")
    assert as_json["facts"]["pairs"] > 0


@pytest.mark.parametrize("name", ["x" * 300, "bad\udcff"])
def test_new_refuses_a_name_that_cannot_be_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError):
        new_expert(tmp_path / name, "smollm2-135m")
    with pytest.raises(SettingsError):
        new_expert(tmp_path / "good", "smollm2-135m", [tmp_path / name])
    assert not any(tmp_path.iterdir())


def test_check_prints_brackets_in_names_as_they_are(tmp_path: Path) -> None:
    run("new", tmp_path / "mine[/b]")
    done = run("check", "mine[/b]", cwd=tmp_path, COLUMNS="200")
    assert done.returncode == 0, done.stderr
    assert "mine[/b]" in done.stdout.splitlines()[1]


def test_check_says_beforehand_that_a_teacher_cannot_be_asked(tmp_path: Path) -> None:
    run("new", tmp_path / "mine", "--documents", str(Path(__file__)))
    for teacher, problem in (
        ("https://api.example.com/v1", "the policy forbids sending anything to api.example.com"),
        ("none.gguf", "there is no file none.gguf"),
    ):
        done = run("check", tmp_path / "mine", "--set", f"write.teacher={teacher}", "--json")
        assert done.returncode == 2
        assert problem in json.loads(done.stdout)["problems"][0]


def test_check_finds_a_teacher_below_the_home_folder_as_the_build_does(tmp_path: Path) -> None:
    run("new", tmp_path / "mine", "--documents", str(Path(__file__)))
    (tmp_path / "teacher.GGUF").touch()
    done = run("check", tmp_path / "mine", "--set", "write.teacher=~/teacher.GGUF", "--json", HOME=str(tmp_path))
    assert not any("write.teacher" in problem for problem in json.loads(done.stdout)["problems"])


@pytest.mark.parametrize(
    ("verb", "function", "goes_on"),
    [("serve", "serving.run_server", False), ("build", "pipeline.build", True), ("train", "pipeline.run_stage", True)],
)
def test_ctrl_c_promises_to_go_on_only_where_that_is_so(tmp_path: Path, monkeypatch, verb, function, goes_on) -> None:
    def stopped(*args, **options):
        raise KeyboardInterrupt

    new_expert(tmp_path / "mine", "smollm2-135m")
    monkeypatch.setattr(f"werkmeister.{function}", stopped)
    done = CliRunner().invoke(main, [verb, str(tmp_path / "mine")])
    assert done.exit_code == 130 and "Error: stopped" in done.stderr
    assert ("the same command goes on from there" in done.stderr) == goes_on


def test_new_refuses_documents_that_are_not_there(tmp_path: Path) -> None:
    done = run("new", tmp_path / "cnc", "--documents", tmp_path / "none")
    assert done.returncode == 2
    assert "there is nothing at" in done.stderr
    assert not (tmp_path / "cnc").exists()


def test_check_names_documents_that_are_missing_and_what_a_teacher_will_cost(tmp_path: Path) -> None:
    write_manuals(tmp_path / "manuals", 3)
    (tmp_path / "manuals" / "photo.jpg").write_bytes(b"x")
    write_llama(tmp_path / "base")
    (tmp_path / "expert.toml").write_text(
        '[expert]\nbase = "./base"\n[documents]\nfiles = ["manuals", "more/*.pdf"]\npassage_tokens = 100\n'
        '[write]\nwriters = ["teacher"]\nteacher = "http://127.0.0.1:9/v1"\nbudget_tokens = 5000\n'
        "budget_seconds = 60\nanswer_price = 10.0\n"
    )
    done = run("check", tmp_path, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 2
    assert found["problems"] == ["documents.files: more/*.pdf: no such file or folder"]
    assert any("1 files ending in .jpg are passed over" in note for note in found["notes"])
    bounds = "bounded by write.budget_tokens = 5,000 and write.budget_seconds = 60"
    (told,) = (note for note in found["notes"] if bounds in note)
    tokens = int(re.search(r"([\d,]+) tokens", told)[1].replace(",", ""))
    assert f"at most {tokens * 10 / 1e6:,.2f} at your prices (estimated)" in told


def test_check_counts_the_pages_of_pdfs_without_reading_them(tmp_path: Path) -> None:
    packed = zlib.compress(b"1 0 2 40 << /Type /Page /Parent 9 0 R >> << /Type/Page >> << /Type /Pages /Count 2 >>")
    stream = b"5 0 obj\n<< /Type /ObjStm /N 3 /First 9 /Length %d >>\nstream\n%s\nendstream" % (len(packed), packed)
    (tmp_path / "manuals").mkdir()
    (tmp_path / "manuals" / "plain.pdf").write_bytes(pdf([[(72, 700, 12, f"page {n}")] for n in range(7)]))
    (tmp_path / "manuals" / "packed.pdf").write_bytes(b"%PDF-1.5\n" + stream)
    (tmp_path / "manuals" / "none.pdf").write_bytes(b"%PDF-1.7\nnothing of the kind /Type /ObjStm >> stream\n12345")
    write_llama(tmp_path / "base")
    (tmp_path / "expert.toml").write_text(
        '[expert]\nbase = "./base"\n[documents]\nfiles = ["manuals"]\npassage_tokens = 100\n'
    )
    found = json.loads(run("check", tmp_path, "--json").stdout)
    assert (found["documents"]["files"], found["documents"]["pages"]) == (3, 7 + 2)
    assert [note for note in found["notes"] if "no page could be counted in manuals/none.pdf" in note]


@pytest.mark.parametrize("verb", ["dataset", "build", "write"])
def test_short_options_of_writing_are_overrides_that_are_checked(built: Path, verb: str) -> None:
    done = run(verb, built, "--budget-tokens", -5)
    assert done.returncode == 2
    assert "write.budget_tokens = -5 must be at least 0" in done.stderr


def test_documents_and_review_say_what_is_missing(built: Path) -> None:
    done = run("documents", built)
    assert done.returncode == 2
    assert "there is nothing for documents to do" in done.stderr
    done = run("review", built, "--no-browser")
    assert done.returncode == 2
    assert "Next:" in done.stderr


def test_build_says_that_nothing_changed_and_json_holds_the_exam(built: Path) -> None:
    told = run("build", built)
    assert told.returncode == 0, told.stderr
    assert "Nothing changed" in told.stdout
    found = json.loads(run("build", built, "--json").stdout)
    assert [stage["reason"] for stage in found["stages"]] == [""] * 4
    assert {row["answerer"] for row in found["exam"]["rows"]} >= {"base", "baseline", "adapter", "Q8_0", "Q4_K_M"}


def test_dataset_json_gives_the_splits_and_exam_json_the_rows(built: Path) -> None:
    splits = json.loads(run("dataset", built, "--json").stdout)["splits"]
    assert set(splits) == {"train", "valid", "exam"}
    assert all(split["examples"] > 0 for split in splits.values())
    rows = json.loads(run("exam", built, "--json").stdout)["rows"]
    for row in rows:
        wanted = {"answerer", "part", "mark", "score", "low", "high", "n", "bytes", "tokens_per_second"}
        assert wanted <= set(row)
        assert row["low"] <= row["score"] <= row["high"]


def test_ask_answers_and_says_how(built: Path) -> None:
    told = run("ask", built, "red hammer")
    assert told.returncode == 0, told.stderr
    answer = json.loads(run("ask", built, "red hammer", "--json").stdout)
    assert answer["text"] == told.stdout.strip()
    assert answer["route"] == "local"
    assert 0 <= answer["confidence"] <= 1
    assert run("ask", built, "red hammer", "--file", "Q9_9").returncode == 2


def test_chat_takes_questions_from_a_pipe(built: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "werkmeister.cli", "chat", str(built)],
        input="red hammer\n\n/new\nblue saw\n/quit\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_check_says_what_will_happen_and_does_nothing(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "expert"))
    shutil.rmtree(copy / "artefacts")
    found = json.loads(run("check", copy, "--json").stdout)
    assert [step["stage"] for step in found["plan"]] == ["dataset", "train", "export", "exam"]
    assert found["training"]["memory"] > 0
    assert found["training"]["seconds"] > 0
    assert found["problems"] == []
    told = run("check", copy)
    assert "never made" in told.stdout
    assert "estimated" in told.stdout
    assert not list((copy / "artefacts").glob("*/manifest.json"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda e: (e / "expert.toml").write_text('[expert]\nbase = "base"\nsytem = "x"\n'), "did you mean 'system'"),
        (lambda e: (e / "expert.toml").write_text('[expert]\nbase = "no-such-model"\n'), "no-such-model"),
        (lambda e: (e / "examples.jsonl").write_text(""), "examples.jsonl"),
        (lambda e: (e / "examples.jsonl").write_bytes(b'{"prompt": "\xff"}\n'), "UTF-8"),
        (lambda e: (e / "examples.jsonl").write_bytes(os.urandom(3000)), "examples.jsonl"),
        (lambda e: (e / "examples.jsonl").unlink(), "examples.jsonl"),
        (lambda e: shutil.rmtree(e), "werkmeister new"),
    ],
    ids=["typo", "unknown base", "empty", "not UTF-8", "binary", "missing", "no expert"],
)
def test_a_persons_mistake_exits_with_2_and_says_what_to_do(built: Path, tmp_path: Path, damage, said: str) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "expert"))
    damage(copy)
    done = run("build", copy)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    as_json = run("build", copy, "--json")
    assert said in json.dumps(json.loads(as_json.stdout), ensure_ascii=False)


def test_a_truncated_gguf_in_the_export_is_named(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "expert"))
    for model in (copy / "artefacts" / "export").glob("model-*.gguf"):
        with model.open("r+b") as file:
            file.truncate(1000)
    done = run("ask", copy, "red hammer")
    assert done.returncode == 2
    assert "gguf has SHA-256" in done.stderr


def test_a_read_only_folder_is_told(built: Path, tmp_path: Path) -> None:
    """Root may write anywhere, so the folder is made unwritable by what the kernel itself keeps read-only."""
    done = run("new", "/sys/kernel/expert")
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
