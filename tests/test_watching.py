"""A training seen from outside: while it runs, when it was killed, and when it is over."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.building.test_train import made, wait_for
from werkmeister.artefact import exclusive, holder
from werkmeister.building.run_report import duration, energy_words, figures, run_page
from werkmeister.building.run_state import read_run
from werkmeister.building.runs import Runs
from werkmeister.errors import ArtefactError
from werkmeister.pipeline import artefacts_of, read_expert
from werkmeister.watching import sparkline, watch_expert


def written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a training at step 20 of 50: two seconds a step, 100 tokens each, on a GPU of 60 W."""
    clock, joules = 0.0, 0.0
    monkeypatch.setattr("time.perf_counter", lambda: clock)
    partial = folder / "train.partial"
    (partial / "scratch").mkdir(parents=True)
    gauge = lambda: {"memory": 2e9, "gpu_memory": 4.2e9, "gpu_power": 60.0, "gpu_joules": joules}  # noqa: E731
    runs = Runs(partial / "scratch" / "runs.jsonl", gauge)
    runs.begin(0, 50)
    lines = []
    for step in range(1, 21):
        clock, joules = step * 2.0, step * 120.0
        runs.note(step, step * 100, step * 1.9)
        lines.append(
            {"loss": 4 / step, "learning_rate": 1e-3, "step": step, "tokens": step * 100, "seconds": step * 1.9}
        )
        lines += [{"eval_loss": 5 / step, "step": step}] if step % 10 == 0 else []
    (partial / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"loss": 0.1, "st')
    return folder / "train"


def test_a_run_in_the_making_tells_speed_and_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = read_run(written(tmp_path, monkeypatch))
    assert (state.step, state.steps, state.complete) == (20, 50, False)
    assert state.seconds_left == pytest.approx(60), "30 steps of two seconds, saving and evaluating counted in"
    assert state.tokens_per_second == pytest.approx(100 / 1.9)
    assert (state.latest("loss"), state.latest("eval_loss")) == (0.2, 0.25)
    assert (state.gpu_power, state.gpu_joules) == (60.0, 2400.0)
    assert state.rates()[-1] == (20, pytest.approx(100 / 1.9))
    told = dict(figures(state))
    assert told["step"] == "20 of 50" and told["GPU power"] == "60 W" and told["time left"] == "60 s"


def test_the_page_has_every_curve_and_no_reference_to_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = run_page(read_run(written(tmp_path, monkeypatch)), name="<me>", running=True)
    for title in ("Loss", "Learning rate", "Speed"):
        assert f">{title}</text>" in page
    assert "&lt;me&gt;" in page and "<me>" not in page
    assert "about 60 s left" in page
    assert not re.findall(r'(?:src|href)="http', page) and "<script" not in page


def test_nothing_that_was_not_measured_has_a_figure(tmp_path: Path) -> None:
    expert = tmp_path / "expert"
    train = artefacts_of(expert) / "train"
    (train.with_name("train.partial") / "scratch").mkdir(parents=True)
    runs = Runs(train.with_name("train.partial") / "scratch" / "runs.jsonl")
    runs.begin(0, 10)
    told = dict(figures(read_run(train)))
    for word in ("loss", "tokens/s", "GPU power", "GPU energy", "time left", "peak GPU memory"):
        assert told[word] == "not measured"


def test_where_no_training_was_begun_it_is_said_with_the_next_command(tmp_path: Path) -> None:
    expert = made(tmp_path / "expert")
    with pytest.raises(ArtefactError, match="no training of") as caught:
        watch_expert(read_expert(expert), once=True, report=None, as_json=False)
    assert "werkmeister build" in caught.value.hint


def test_the_holder_of_a_lock_is_known_while_it_is_held(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    with exclusive(tmp_path):
        assert holder(tmp_path) == os.getpid()
    assert holder(tmp_path) is None
    (tmp_path / ".lock").write_text("999999999")
    assert holder(tmp_path) is None, "a process that was killed holds nothing"


def test_a_training_of_another_process_is_watched_to_its_end_and_a_killed_one_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expert = made(tmp_path / "expert", epochs=30.0)
    home = artefacts_of(expert)
    command = [sys.executable, "-m", "werkmeister.cli", "train", str(expert)]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: (state := read_run(home / "train")) is not None and state.step > 3, running)
    watch_expert(read_expert(expert), once=False, report=None, as_json=True)
    seen = json.loads(capsys.readouterr().out)
    assert seen["running"] and seen["step"] > 3 and seen["memory"] > 0 and seen["gpu_power"] is None
    running.send_signal(signal.SIGKILL)
    running.wait()
    watch_expert(read_expert(expert), once=False, report=None, as_json=False)
    assert "Interrupted at step" in capsys.readouterr().out
    again = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: holder(home) == again.pid, again)
    page = tmp_path / "page.html"
    watch_expert(read_expert(expert), once=False, report=page, as_json=False)
    told = capsys.readouterr().out
    assert again.wait(60) == 0
    assert "Complete: " in told and "It was interrupted 1 time and went on." in told
    assert ">Loss</text>" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "not measured"), (45, "45 s"), (700, "12 min"), (11100, "3 h 05 min")]
)
def test_times_read_as_people_say_them(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("joules", "words"), [(None, "not measured"), (850, "850 J"), (44280, "12.3 Wh"), (4.32e6, "1.20 kWh")]
)
def test_energy_reads_as_people_pay_for_it(joules: float | None, words: str) -> None:
    assert energy_words(joules) == words


def test_a_sparkline_is_no_wider_than_a_terminal_and_falls_with_its_values() -> None:
    assert sparkline([1.0]) == ""
    line = sparkline([1000.0 - i for i in range(1000)])
    assert len(line) == 60 and line[0] == "█" and line[-1] == "▁" and list(line) == sorted(line, reverse=True)
    assert sparkline([2.0, 2.0]) == "▁▁"
