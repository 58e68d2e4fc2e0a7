"""The text decoder alone is loaded, and LoRA hits nothing outside it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import FAMILIES
from werkmeister.bases.find import find_base
from werkmeister.bases.load import load_model, lora_targets
from werkmeister.errors import BaseModelError, SettingsError
from werkmeister.progress import Silent

GEMMA3 = ("gemma3", "gemma3-middle")
PLAIN = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def _load(folder: Path, **options: Any) -> Any:
    import torch

    base = find_base(str(folder), progress=Silent())
    return load_model(base, dtype=torch.float32, device="cpu", **options)


def _ids() -> Any:
    import torch

    return torch.randint(0, 400, (2, 48), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layout", GEMMA3)
def test_the_text_part_of_a_multimodal_gemma_gives_the_logits_of_the_whole(
    layout: str, checkpoints: dict[str, Path], cache: Path
) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    whole = AutoModelForImageTextToText.from_pretrained(checkpoints[layout], dtype=torch.float32)
    text = _load(checkpoints[layout])
    assert type(text).__name__ == "Gemma3ForCausalLM"
    assert not [name for name, _ in text.named_modules() if "vision" in name or "multi_modal" in name]
    ids = _ids()
    with torch.no_grad():
        expected = whole(ids, token_type_ids=torch.zeros_like(ids)).logits
        assert expected.std() > 0.1
        torch.testing.assert_close(text(ids).logits, expected)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "gemma3"])
def test_other_families_load_as_transformers_loads_them(family: str, checkpoints: dict[str, Path], cache: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    expected = AutoModelForCausalLM.from_pretrained(checkpoints[family], dtype=torch.float32)
    model = _load(checkpoints[family])
    with torch.no_grad():
        torch.testing.assert_close(model(_ids()).logits, expected(_ids()).logits)


def test_dtype_and_attention_are_those_asked_for(checkpoints: dict[str, Path], cache: Path) -> None:
    import torch

    base = find_base(str(checkpoints["llama"]), progress=Silent())
    model = load_model(base, dtype=torch.bfloat16, device="cpu", attention="eager")
    assert model.dtype == torch.bfloat16 and model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("family", "attention", "every"),
    [
        ("llama", ["k_proj", "o_proj", "q_proj", "v_proj"], PLAIN),
        ("qwen3", ["k_proj", "o_proj", "q_proj", "v_proj"], PLAIN),
        ("phi3", ["o_proj", "qkv_proj"], ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]),
        ("gemma3", ["k_proj", "o_proj", "q_proj", "v_proj"], PLAIN),
    ],
)
def test_projections_are_found_in_every_family(
    family: str, attention: list[str], every: list[str], checkpoints: dict[str, Path], cache: Path
) -> None:
    model = _load(checkpoints[family])
    assert lora_targets(model, ["q", "k", "v", "o"]) == attention
    assert lora_targets(model, ["q_proj", "k_proj", "v_proj", "o_proj"]) == attention
    assert lora_targets(model, ["all-linear"]) == every
    assert lora_targets(model, [attention[0]]) == attention[:1]


@pytest.mark.parametrize("names", [["q", "k", "v", "o"], ["all-linear"]])
def test_lora_on_the_whole_multimodal_class_misses_the_tower(
    names: list[str], checkpoints: dict[str, Path], cache: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    whole = AutoModelForImageTextToText.from_pretrained(checkpoints["gemma3"])
    adapted = get_peft_model(whole, LoraConfig(r=2, target_modules=lora_targets(whole, names)))
    hit = {name.split(".lora_A")[0] for name, _ in adapted.named_parameters() if "lora_A" in name}
    assert len(hit) == 6 * (4 if "q" in names else 7)
    assert all(".language_model." in name for name in hit)


def test_an_unknown_target_names_what_the_model_has(checkpoints: dict[str, Path], cache: Path) -> None:
    with pytest.raises(SettingsError, match=r"no query, qkv[\s\S]*it has down_proj, .*v_proj"):
        lora_targets(_load(checkpoints["llama"]), ["q", "query", "qkv"])


def test_nf4_keeps_the_text_part_alone_and_trains(checkpoints: dict[str, Path], cache: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import BitsAndBytesConfig

    quantised = BitsAndBytesConfig(
        **{"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = _load(checkpoints["gemma3"], quantization_config=quantised)
    assert type(model.model.layers[0].self_attn.q_proj).__name__ == "Linear4bit"
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=lora_targets(model, ["q", "v"])))
    adapted.train()
    loss = adapted(_ids(), labels=_ids()).loss
    loss.backward()
    touched = [p.grad.abs().sum().item() for n, p in adapted.named_parameters() if "lora_B" in n]
    assert loss.isfinite() and len(touched) == 12 and min(touched) > 0


def test_a_weight_that_is_missing_is_named_and_not_drawn_at_random(
    checkpoints: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(checkpoints["llama"], folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseModelError) as caught:
        _load(folder)
    assert caught.value.problems == ("model.layers.1.mlp.up_proj.weight",)
