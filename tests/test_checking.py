"""What `werkmeister check` tells of a training on a GPU, from a memory plan made for a card that is not here."""

from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import tiny_expert
from werkmeister import checking
from werkmeister.pipeline import read_expert
from werkmeister.progress import Silent


def found_on_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fits: bool) -> dict[str, Any]:
    own = checking.estimate_training_of

    def on_a_card(*args: Any, **told: Any) -> dict[str, Any]:
        plan = {"loaded": 3.0e9, "training": 4.5e9, "evaluation": 4.1e9, "fits": fits}
        return own(*args, **told) | {"device": "a card", "plan": plan, "memory": 4.5e9}

    monkeypatch.setattr(checking, "estimate_training_of", on_a_card)
    return checking.check_expert(read_expert(tiny_expert(tmp_path)), progress=Silent())


def test_check_tells_the_card_memory_of_loading_training_and_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = found_on_a_card(tmp_path, monkeypatch, fits=True)
    checking.show_check(found)
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "on the GPU about 3.0 GB loaded, 4.5 GB in training, 4.1 GB in evaluation (estimated)" in told
    assert not found["problems"]


def test_a_training_that_no_card_of_this_machine_holds_is_a_problem_with_its_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = found_on_a_card(tmp_path, monkeypatch, fits=False)["problems"][0]
    assert "4.5 GB of the GPU's memory" in problem
    assert "dataset.max_length" in problem


def test_the_disk_that_is_needed_holds_the_base_under_the_adapter_too(tmp_path: Path) -> None:
    expert = tiny_expert(tmp_path)
    needed = [
        checking.check_expert(read_expert(expert, [f"export.files={files}"]), progress=Silent())["disk"]["needed"]
        for files in ('["Q8_0"]', '["Q8_0", "overlay"]')
    ]
    assert needed[0] < needed[1]
