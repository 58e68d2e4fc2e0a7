"""What a training is said to need, against what it leaves on the disk."""

import math
from pathlib import Path

import pytest

from tests.checkpoints import tiny_expert, write_llama, write_phi3
from werkmeister.bases.shape import shape_of_folder
from werkmeister.building.estimate import adapter_parameters, training_disk
from werkmeister.pipeline import read_expert, run_stage


@pytest.mark.parametrize("targets", [["q_proj", "down_proj"], ["all-linear"]], ids=str)
@pytest.mark.parametrize("family", [write_llama, write_phi3], ids=lambda f: f.__name__[6:])
def test_the_weights_of_an_adapter_are_counted_from_the_shape(family, targets: list[str], tmp_path: Path) -> None:
    import safetensors

    expert = tiny_expert(
        tmp_path / "expert", checkpoint=family, train={"targets": targets, "epochs": 0.2, "evaluations": 1, "rank": 4}
    )
    run_stage(read_expert(expert), "dataset")
    file = run_stage(read_expert(expert), "train").artefact.file("adapter/adapter_model.safetensors")
    with safetensors.safe_open(file, "pt") as tensors:
        real = sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    counted = adapter_parameters(shape_of_folder(expert / "base"), rank=4, targets=targets)
    if family is write_llama:
        assert counted == real
    else:
        # Phi's fused layers share an input; q_proj is then the whole qkv_proj, counted as q alone.
        assert 0.6 * real < counted < 1.6 * real


def test_checkpoints_on_the_disk_are_what_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from werkmeister.building import trainer as training

    expert = tiny_expert(
        tmp_path / "expert",
        train={"epochs": 1.0, "evaluations": 3, "batch_size": 8, "targets": ["all-linear"], "rank": 64},
    )
    run_stage(read_expert(expert), "dataset")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "require_finite", killed)
    with pytest.raises(KeyboardInterrupt):
        run_stage(read_expert(expert), "train")
    folders = list((expert / "artefacts" / "train.partial" / "scratch" / "checkpoints").iterdir())
    assert len(folders) == 2
    there = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    base = expert / "base"
    weights = adapter_parameters(shape_of_folder(base), rank=64, targets=["all-linear"])
    said = training_disk(weights, tokenizer=base / "tokenizer.json") - 4 * weights
    assert there == pytest.approx(said * 2 / 3, rel=0.1)
