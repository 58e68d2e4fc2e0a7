"""NEFTune and rank-stabilised LoRA, through the stage and through export; and targets by name."""

from pathlib import Path

import pytest

from tests.checkpoints import tiny_expert
from werkmeister.errors import SettingsError
from werkmeister.pipeline import read_expert, run_stage

QUICK = {"epochs": 2.0, "learning_rate": 1e-2, "evaluations": 2, "batch_size": 8}


def made(folder: Path, **train: object) -> Path:
    expert = tiny_expert(folder, train=QUICK | train)
    run_stage(read_expert(expert), "dataset")
    return expert


def test_neftune_puts_noise_on_the_embeddings_in_training_and_none_in_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from werkmeister.building.trainer import ExpertTrainer

    expert = made(tmp_path / "expert", neftune=5.0)
    moved: dict[bool, list[float]] = {True: [], False: []}
    own = ExpertTrainer.compute_loss

    def seen(trainer, model, inputs, *args, **kwargs):
        embedding = trainer.accelerator.unwrap_model(model).get_base_model().get_input_embeddings()
        ids = inputs["input_ids"]
        plain = torch.nn.functional.embedding(ids, embedding.weight).float()
        gap = (embedding(ids).float() - plain).abs().max().item()
        # Jain et al. 2023: uniform in ± alpha / √(length · width).
        moved[model.training].append(gap / (5.0 / (ids.shape[1] * plain.shape[-1]) ** 0.5))
        return own(trainer, model, inputs, *args, **kwargs)

    monkeypatch.setattr(ExpertTrainer, "compute_loss", seen)
    run_stage(read_expert(expert), "train")
    assert moved[True] and all(0.9 < gap <= 1.02 for gap in moved[True])
    assert moved[False] and {*moved[False]} == {0.0}


def test_rslora_trains_with_alpha_over_the_root_of_the_rank_and_export_keeps_to_it(tmp_path: Path) -> None:
    from werkmeister.building.adapter import read_adapter

    expert = made(tmp_path / "expert", rslora=True, rank=4, targets=["all-linear"])
    trained = run_stage(read_expert(expert), "train").artefact
    adapter = read_adapter(trained.path / "adapter")
    assert adapter.rslora and adapter.scale == pytest.approx(8 / 4**0.5)
    assert trained.facts["alpha"] == 8
    # The parity gate compares the merged file with PEFT's own forward: a scale of alpha / rank would be refused.
    exported = run_stage(read_expert(expert, ['export.files=["F16"]']), "export").artefact
    assert exported.measures["parity"]["F16"]["effect"] == pytest.approx(1, abs=0.05)


def test_an_unknown_target_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    expert = made(tmp_path / "expert", targets=["q_proj", "dwn_proj"])
    with pytest.raises(SettingsError, match=r"dwn_proj \(nearest: down_proj\)"):
        run_stage(read_expert(expert), "train")
