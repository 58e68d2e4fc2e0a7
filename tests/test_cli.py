"""The command line as a person or a script meets it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "werkmeister.cli", *map(str, arguments)],
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
