"""GGUF bases: prepared once, the same model and the same tokens as llama.cpp serves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from gguf_files import write_llama_gguf

from werkmeister.bases.base import Base
from werkmeister.bases.find import find_base
from werkmeister.bases.load import load_model
from werkmeister.bases.tokens import load_tokenizer, prompt_ids
from werkmeister.chat import Conversation, conversation
from werkmeister.errors import BaseModelError
from werkmeister.progress import Silent

QUESTION = conversation("What is the code of the red lamp?\n 12 or 345, it's 7", "Answer with the code.")


def _compare(base: Base, asked: Conversation) -> tuple[list[int], list[int], list[tuple[float, float]]]:
    """Token ids of transformers and llama.cpp, and both log-probabilities of the 40 likeliest next tokens (nats)."""
    import torch

    from werkmeister.engines.llama import LlamaEngine

    ids = prompt_ids(load_tokenizer(base), asked)
    with torch.no_grad():
        logits = load_model(base, dtype=torch.float32, device="cpu")(torch.tensor([ids])).logits[0, -1]
    ours = torch.log_softmax(logits.double(), -1).tolist()
    assert base.gguf is not None
    with LlamaEngine(base.gguf, template=base.template) as engine:
        theirs = engine.next_logprobs(asked, 40)
        return ids, engine.prompt_ids(asked), [(p, ours[token]) for token, p in theirs.items()]


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_1"])
@pytest.mark.parametrize("family", ["llama", "llama-untied"])
def test_a_prepared_gguf_gives_the_logits_of_llama_cpp(
    family: str, kind: str, checkpoints: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    file = write_llama_gguf(checkpoints[family], tmp_path / "tiny.gguf", kind=kind)
    base = find_base(str(file), progress=Silent())
    assert (base.source, base.gguf, base.architecture, base.context_length) == ("gguf", file, "llama", 512)
    ours, theirs, pairs = _compare(base, QUESTION)
    assert ours == theirs
    # llama.cpp keeps keys and values in 16 bits, and rounds activations to 8 bits in front of Q8_0 and Q4_1 matrices.
    assert max(abs(p - q) for p, q in pairs) < (0.005 if kind == "F32" else 0.1)


def test_values_that_float16_cannot_hold_are_kept_in_float32(
    checkpoints: dict[str, Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf_files
    import torch

    own = gguf_files._tensors

    def huge(checkpoint: Path, config: dict[str, int]) -> dict[str, Any]:
        made = own(checkpoint, config)
        made["output_norm.weight"] = made["output_norm.weight"] * 1e6
        return made

    monkeypatch.setattr(gguf_files, "_tensors", huge)
    base = find_base(str(write_llama_gguf(checkpoints["llama"], tmp_path / "huge.gguf")), progress=Silent())
    weight = load_model(base, dtype=torch.float32, device="cpu").get_parameter("model.norm.weight")
    assert bool(weight.isfinite().all()) and weight.abs().max() > 65504
    assert json.loads((base.folder / "config.json").read_text())["dtype"] == "float32"


def test_tied_embeddings_stay_tied(checkpoints: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    import torch

    for family, tied in (("llama", True), ("llama-untied", False)):
        file = write_llama_gguf(checkpoints[family], tmp_path / family / "tiny.gguf", kind="Q8_0")
        base = find_base(str(file), progress=Silent())
        model = load_model(base, dtype=torch.float32, device="cpu")
        shared = model.get_input_embeddings().weight is model.get_output_embeddings().weight
        assert shared == tied == json.loads((base.folder / "config.json").read_text())["tie_word_embeddings"]


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_token_ids_are_those_of_llama_cpp_for_every_known_split(
    pre: str, checkpoints: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    from werkmeister.engines.llama import LlamaEngine

    base = find_base(str(write_llama_gguf(checkpoints["llama"], tmp_path / "t.gguf", pre=pre)), progress=Silent())
    tokenizer = load_tokenizer(base)
    texts = ("a\n 12 b", "it's 12345 o'clock\n\n  x", "Größe 3,5 €!!  ", "THEY'LL\r\n\tgo 2026-11-24", "日本 😀")
    with LlamaEngine(base.gguf, template=base.template) as engine:
        for text in texts:
            assert prompt_ids(tokenizer, conversation(text)) == engine.prompt_ids(conversation(text)), text


def test_an_unknown_split_is_said(checkpoints: dict[str, Path], cache: Path, tmp_path: Path, heard: Any) -> None:
    find_base(str(write_llama_gguf(checkpoints["llama"], tmp_path / "t.gguf", pre="novel")), progress=heard)
    assert any("'novel'" in text for text in heard.said)


def test_preparing_shows_a_bar_over_the_tensors_and_draws_none_of_its_own(
    checkpoints: dict[str, Path], cache: Path, tmp_path: Path, heard: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    find_base(str(write_llama_gguf(checkpoints["llama"], tmp_path / "t.gguf")), progress=heard)
    assert "dequantising t.gguf" in heard.tracks and heard.moved == 20
    assert capfd.readouterr().err == ""


def test_a_preparation_that_was_killed_is_made_again(
    checkpoints: dict[str, Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from werkmeister.bases import prepared

    file = write_llama_gguf(checkpoints["llama"], tmp_path / "t.gguf")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepared, "_write_model", killed)
        with pytest.raises(KeyboardInterrupt):
            find_base(str(file), progress=Silent())
    base = find_base(str(file), progress=Silent())
    assert (base.folder / "model.safetensors").is_file()
    assert not list(cache.rglob("*.partial"))


def test_two_at_once_prepare_it_once(
    checkpoints: dict[str, Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Any
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from werkmeister.bases import prepared

    file = write_llama_gguf(checkpoints["llama"], tmp_path / "t.gguf")
    own, calls = prepared.prepare, []
    monkeypatch.setattr(prepared, "prepare", lambda *given: (calls.append(1), own(*given)))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: find_base(str(file), progress=heard), range(2))
    assert first == second and len(calls) == 1
    assert any("waiting for another process" in text for text in heard.said)


def _with_factors(monkeypatch: pytest.MonkeyPatch, factors: list[float]) -> None:
    import gguf_files
    import numpy as np

    own = gguf_files._tensors
    extra = {"rope_freqs.weight": np.array(factors, dtype=np.float32)}
    monkeypatch.setattr(gguf_files, "_tensors", lambda *given: own(*given) | extra)


def test_rotary_factors_that_would_be_lost_are_refused(
    checkpoints: dict[str, Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_factors(monkeypatch, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    file = write_llama_gguf(checkpoints["llama"], tmp_path / "t.gguf")
    with pytest.raises(BaseModelError, match=r"rope_freqs[\s\S]*Hugging Face id"):
        find_base(str(file), progress=Silent())


def test_linear_rotary_scaling_is_carried_over(checkpoints: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    file = write_llama_gguf(checkpoints["llama"], tmp_path / "t.gguf", scaling=4.0)
    base = find_base(str(file), progress=Silent())
    assert json.loads((base.folder / "config.json").read_text())["rope_parameters"]["factor"] == 4.0
    _, _, pairs = _compare(base, QUESTION)
    assert max(abs(p - q) for p, q in pairs) < 0.005


def test_llama_3_rotary_factors_are_carried_over(
    checkpoints: dict[str, Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    said = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0}
    said |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, rope_parameters=said)
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, device="cpu")
    plain = [10000.0 ** (-2 * pair / 16) for pair in range(8)]
    factors = [ours / theirs for ours, theirs in zip(plain, stretched.tolist(), strict=True)]
    assert max(factors) == pytest.approx(8.0) and min(factors) == pytest.approx(1.0)
    _with_factors(monkeypatch, factors)
    base = find_base(str(write_llama_gguf(checkpoints["llama"], tmp_path / "t.gguf")), progress=Silent())
    kept = json.loads((base.folder / "config.json").read_text())["rope_parameters"]
    assert kept == said
    _, _, pairs = _compare(base, QUESTION)
    assert max(abs(p - q) for p, q in pairs) < 0.005


def test_a_gguf_without_a_template_gets_a_standard_one_and_says_so(
    checkpoints: dict[str, Path], cache: Path, tmp_path: Path, heard: Any
) -> None:
    file = write_llama_gguf(checkpoints["llama"], tmp_path / "t.gguf", template=False)
    base = find_base(str(file), progress=heard)
    assert (base.template_source, base.stop) == ("standard ChatML", ("<|im_end|>",))
    assert any("standard ChatML" in text for text in heard.said)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2-135m", "gemma-3-270m"])
def test_a_packaged_model_gives_the_tokens_and_logits_of_llama_cpp(name: str) -> None:
    base = find_base(name, progress=Silent())
    asked = conversation("Turn on 12 lamps in the Küche.\n 3 of them at 20 %", "Answer in JSON.")
    ours, theirs, pairs = _compare(base, asked)
    assert ours == theirs
    mass, own = (math.log(sum(math.exp(pair[side]) for pair in pairs)) for side in (0, 1))
    divergence = sum(math.exp(p - mass) * ((p - mass) - (q - own)) for p, q in pairs)
    # Against the same weights in F32 llama.cpp is at 1e-5; the rest is its rounding of activations to 8 bits.
    assert 0 <= divergence < 0.02
