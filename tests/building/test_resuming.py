"""Training killed at ten random moments: no example seen twice or left out, and the same adapter, bit by bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.checkpoints import tiny_expert
from werkmeister.artefact import Artefact, open_artefact
from werkmeister.pipeline import artefacts_of, read_expert, run_stage

KILLS = 10
# The command itself, with a note of every step before it is made. One core, so that no sum is added in another order.
PROCESS = """
import json, os, sys
from werkmeister.building import trainer
from werkmeister.cli import main

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
own = trainer.ExpertTrainer.training_step

def training_step(self, model, inputs, *args, **kwargs):
    ids = [row[mask.bool()].tolist() for row, mask in zip(inputs["input_ids"], inputs["attention_mask"])]
    note = {"run": os.getpid(), "step": self.state.global_step + 1, "ids": ids}
    os.write(log, (json.dumps(note) + "\\n").encode())
    return own(self, model, inputs, *args, **kwargs)

trainer.ExpertTrainer.training_step = training_step
main()
"""


def made(folder: Path) -> Path:
    """A tiny expert whose training draws on every source of chance: order, dropout, noise, answers of the base."""
    train = {"epochs": 30.0, "learning_rate": 1e-2, "batch_size": 4, "evaluations": 30, "patience": 0}
    train |= {"dropout": 0.1, "neftune": 5.0, "replay": 0.1, "select": "mark"}
    expert = tiny_expert(folder, train=train, dataset={"valid": 0.2})
    run_stage(read_expert(expert), "dataset")
    return expert


def start(expert: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROCESS, str(log), "train", str(expert)]
    with (log.parent / f"{log.name}.out").open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out)


def notes(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_bytes().splitlines()] if log.is_file() else []


def finish(expert: Path, log: Path) -> Artefact:
    running = start(expert, log)
    assert running.wait(timeout=900) == 0, (log.parent / f"{log.name}.out").read_text()[-2000:]
    return open_artefact(artefacts_of(expert) / "train", "train")


def kill_somewhere(running: subprocess.Popen[bytes], log: Path, dice: random.Random) -> None:
    """Kill after some steps of this run and a little more: in a step, in an evaluation, while a checkpoint is written;
    one time in five before the first step."""
    early, steps = dice.random() < 0.2, dice.randint(1, 40)
    end = time.monotonic() + (dice.uniform(0.1, 4) if early else 300)
    try:
        while time.monotonic() < end:
            assert running.poll() is None, "the training ended before it was killed"
            if not early and sum(note["run"] == running.pid for note in notes(log)) >= steps:
                time.sleep(dice.uniform(0, 0.05))
                break
            time.sleep(0.03)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()


def by_run(found: list[dict]) -> list[list[dict]]:
    runs: dict[int, list[dict]] = {}
    for note in found:
        runs.setdefault(note["run"], []).append(note)
    return list(runs.values())


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_killed_at_ten_random_moments_training_sees_each_example_once_and_ends_at_the_same_adapter(
    tmp_path: Path,
) -> None:
    whole = finish(made(tmp_path / "whole"), tmp_path / "whole.log")
    expert, log = made(tmp_path / "killed"), tmp_path / "killed.log"
    dice = random.Random(int(os.environ.get("WERKMEISTER_DICE", "0")))
    for _ in range(KILLS):
        kill_somewhere(start(expert, log), log, dice)
    resumed = finish(expert, log)

    expected = {note["step"]: note["ids"] for note in notes(tmp_path / "whole.log")}
    steps = list(range(1, whole.measures["steps"] + 1))
    assert list(expected) == steps
    runs = by_run(notes(log))
    assert len(runs) >= 3
    for run in runs:
        # Each run makes its steps in order from a checkpoint on, with the batch that the order gives each step.
        first = run[0]["step"]
        assert [note["step"] for note in run] == list(range(first, first + len(run)))
        assert all(note["ids"] == expected[note["step"]] for note in run)
    # What is in the adapter: of each run what lies before the point from which a later one went on.
    kept: list[int] = []
    for run in runs:
        kept = [step for step in kept if step < run[0]["step"]] + [note["step"] for note in run]
    assert kept == steps, "a step was left out or made twice"

    assert resumed.measures["adapter_sha256"] == whole.measures["adapter_sha256"]
    assert resumed.measures["tokens"] == whole.measures["tokens"]
    assert _history(resumed) == _history(whole)
    assert resumed.file("replay.jsonl").read_bytes() == whole.file("replay.jsonl").read_bytes()


def _history(made: Artefact) -> list[tuple[int, float | None, float | None, float | None]]:
    lines = [json.loads(line) for line in made.file("history.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(line["step"], line.get("loss"), line.get("eval_loss"), line.get("eval_mark")) for line in lines]
