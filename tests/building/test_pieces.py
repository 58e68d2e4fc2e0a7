"""A step that runs out of memory is made again in smaller pieces; out-of-memory errors are injected."""

from pathlib import Path

import pytest
import torch

from tests.checkpoints import tiny_expert
from werkmeister.artefact import open_artefact
from werkmeister.building.pieces import Pieces, ran_out_of_memory
from werkmeister.errors import MachineError
from werkmeister.pipeline import artefacts_of, read_expert, run_stage

QUICK = {"epochs": 2.0, "learning_rate": 2e-2, "evaluations": 1, "batch_size": 8, "select": "loss", "rank": 4}


def trained(folder: Path) -> Path:
    expert = tiny_expert(folder, train=QUICK)
    run_stage(read_expert(expert), "dataset")
    run_stage(read_expert(expert), "train")
    return expert


def limited(monkeypatch: pytest.MonkeyPatch, most: int, error: Exception, *, training: bool = True) -> list[list[int]]:
    """Let the loss run out of memory above `most` tokens at once; returns the examples (their sums) of each call."""
    from werkmeister.building.trainer import ExpertTrainer

    own, seen = ExpertTrainer.compute_loss, []

    def compute_loss(trainer, model, inputs, *args, **kwargs):
        if model.training == training and inputs["input_ids"].numel() > most:
            if training:
                own(trainer, model, inputs, *args, **kwargs).backward()  # Gradients of the failed attempt.
            raise error
        if model.training:
            mask = inputs["attention_mask"]
            seen.append((inputs["input_ids"] * mask).sum(1).tolist())
        return own(trainer, model, inputs, *args, **kwargs)

    monkeypatch.setattr(ExpertTrainer, "compute_loss", compute_loss)
    return seen


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_out_of_memory_halves_the_pieces_and_the_adapter_is_the_same(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole")
    with monkeypatch.context() as patched:
        seen = limited(patched, 100, error)
        pieces = trained(tmp_path / "pieces")
    a, b = (open_artefact(artefacts_of(expert) / "train", "train") for expert in (whole, pieces))
    halved = b.measures["out_of_memory"]
    assert [entry["step"] for entry in halved] == [0] * len(halved) and halved[-1]["tokens"] <= 100
    assert "out_of_memory" not in a.measures
    assert b.measures["tokens"] == a.measures["tokens"] and b.measures["steps"] == a.measures["steps"]
    assert b.measures["training_loss"] == pytest.approx(a.measures["training_loss"], rel=0.02)
    examples = [one for call in seen for one in call]
    assert all(examples.count(one) % 2 == 0 for one in examples), "two epochs: an example is missing or twice"
    count = open_artefact(artefacts_of(pieces) / "dataset", "dataset").facts["splits"]["train"]["examples"]
    assert len(examples) == 2 * count


def test_an_evaluation_that_runs_out_of_memory_gives_the_same_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole")
    with monkeypatch.context() as patched:
        limited(patched, 60, torch.OutOfMemoryError("CUDA out of memory."), training=False)
        pieces = trained(tmp_path / "pieces")
    a, b = (open_artefact(artefacts_of(expert) / "train", "train").measures for expert in (whole, pieces))
    assert b["out_of_memory"] and b["validation_loss"] == pytest.approx(a["validation_loss"], rel=0.02)


def test_an_example_that_does_not_fit_alone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        limited(patched, 5, MemoryError())
        with pytest.raises(MachineError, match=r"single example of \d+ tokens") as caught:
            trained(tmp_path / "expert")
    assert "dataset.max_length" in caught.value.hint


def test_another_error_is_not_taken_for_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="size"):
        Pieces(tokens=10, packed=False).without_running_out(0, {}, lambda: torch.zeros(2) @ torch.zeros(3))
    assert not ran_out_of_memory(RuntimeError("shapes"))
    late = RuntimeError("operation failed due to a previous error during capture")
    late.__context__ = torch.OutOfMemoryError("CUDA out of memory.")
    assert ran_out_of_memory(late)
