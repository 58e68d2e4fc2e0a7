"""Shapes are read without torch and agree with what transformers builds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.checkpoints import FAMILIES
from werkmeister.bases.shape import read_config, shape_of_folder, text_config


@pytest.mark.parametrize("family", [*FAMILIES, "gemma3-middle"])
def test_the_shape_is_that_of_the_model_that_transformers_builds(family: str, checkpoints: dict[str, Path]) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = checkpoints[family]
    shape = shape_of_folder(folder)
    config = AutoConfig.from_pretrained(folder).get_text_config()
    model = AutoModelForCausalLM.from_pretrained(folder)
    text = [(n, p) for n, p in model.named_parameters() if "vision" not in n and "multi_modal" not in n]
    assert shape.parameters == sum(parameter.numel() for _, parameter in text)
    assert (shape.layers, shape.width, shape.inner) == (
        *(config.num_hidden_layers, config.hidden_size),
        config.intermediate_size,
    )
    assert (shape.heads, shape.key_heads) == (config.num_attention_heads, config.num_key_value_heads)
    assert shape.head_width == getattr(config, "head_dim", None) or shape.width // shape.heads
    assert (shape.vocabulary, shape.context_length) == (config.vocab_size, config.max_position_embeddings)
    assert shape.tied == (model.get_input_embeddings().weight is model.get_output_embeddings().weight)


def test_what_the_published_gemma3_config_leaves_out_is_what_its_class_says(tmp_path: Path) -> None:
    from transformers import Gemma3TextConfig

    # The text_config of google/gemma-3-4b-it names its widths and layers only.
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    read = text_config(read_config(tmp_path), tmp_path)
    default = Gemma3TextConfig()
    for key in ("num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"):
        assert read[key] == getattr(default, key)
    assert read["hidden_size"] == 2560
