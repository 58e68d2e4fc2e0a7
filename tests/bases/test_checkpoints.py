"""The tiny checkpoints that all tests share: small, the same every time, and in the layouts they claim."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints import FAMILIES, tiny_expert
from werkmeister.artefact import sha256_of
from werkmeister.bases.shape import read_config, tensor_shapes


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_is_small_and_the_same_every_time(
    family: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    again = FAMILIES[family](tmp_path / "again")
    files = {file.name: sha256_of(file) for file in checkpoints[family].iterdir()}
    assert files == {file.name: sha256_of(file) for file in again.iterdir()}
    assert sum(file.stat().st_size for file in again.iterdir()) < 2_000_000


def test_the_multimodal_layouts_are_those_of_published_checkpoints(checkpoints: dict[str, Path]) -> None:
    published, middle = tensor_shapes(checkpoints["gemma3"]), tensor_shapes(checkpoints["gemma3-middle"])
    assert read_config(checkpoints["gemma3"])["architectures"] == ["Gemma3ForConditionalGeneration"]
    for name in (
        "language_model.model.layers.0.self_attn.q_proj.weight",
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "multi_modal_projector.mm_input_projection_weight",
    ):
        assert name in published
        assert "model." + name.replace("language_model.model.", "language_model.") in middle
    assert len(published) == len(middle)


def test_the_tiny_expert_has_sixty_examples_and_the_tables_asked_for(tmp_path: Path) -> None:
    from tomllib import loads

    folder = tiny_expert(tmp_path / "expert", train={"epochs": 2, "targets": ["q", "v"]})
    lines = (folder / "examples.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 60
    assert loads((folder / "expert.toml").read_text())["train"] == {"epochs": 2, "targets": ["q", "v"]}
