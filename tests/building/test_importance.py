"""The importance matrix: read from a model as its definition says, kept as llama.cpp's file, and of use."""

from pathlib import Path

import gguf
import libgguf
import numpy as np
import pytest

from tests.building.exporting import examples, random_adapter
from tests.building.test_quantise import Random
from tests.checkpoints import FAMILIES
from werkmeister.bases.base import Base
from werkmeister.bases.find import find_base
from werkmeister.bases.load import load_model
from werkmeister.bases.tokens import examples_ids, load_tokenizer
from werkmeister.building.adapter import Delta
from werkmeister.building.importance import Read, read_importance, write_importance
from werkmeister.building.merge import GgufWeights, Merged
from werkmeister.building.quantise import planned, quantise, weighable
from werkmeister.progress import Silent


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    root = tmp_path_factory.mktemp("importance")
    FAMILIES["llama"](root / "base")
    return find_base(str(root / "base"), progress=Silent())


def test_it_is_the_mean_square_of_what_each_layer_is_given_with_the_adapter_in(base: Base, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    random_adapter(base, tmp_path / "adapter", scale=0.3)
    rows = [[*prompt, *answer] for prompt, answer in examples_ids(load_tokenizer(base), examples())]
    model = PeftModel.from_pretrained(load_model(base, dtype=torch.float32), tmp_path / "adapter").eval()
    blocks = model.config.num_hidden_layers
    read = read_importance(model, rows, "llama", blocks, Silent())
    assert (read.texts, read.tokens) == (len(rows), sum(map(len, rows)))
    assert len(read.importance) == 7 * blocks

    # Independently: of the model into which PEFT merged the adapter, the layers' inputs from its hidden states.
    merged = model.merge_and_unload()
    states = []
    with torch.inference_mode():
        for row in rows:
            entry = merged(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states[0][0]
            states.append(merged.model.layers[0].input_layernorm(entry))
    wanted = torch.cat(states).square().mean(0).numpy()
    for name in ("attn_q", "attn_k", "attn_v"):
        assert np.allclose(read.importance[f"blk.0.{name}.weight"], wanted, rtol=1e-4)


def test_no_text_is_refused(base: Base) -> None:
    with pytest.raises(ValueError, match="no"):
        read_importance(None, [], "llama", 2, Silent())


def test_the_file_is_llama_cpps_own(tmp_path: Path) -> None:
    values = {"blk.0.attn_q.weight": np.array([1.0, 0.25, 9.0], dtype=np.float32)}
    write_importance(tmp_path / "imatrix.gguf", Read(importance=values, texts=3, tokens=40))
    reader = gguf.GGUFReader(tmp_path / "imatrix.gguf")
    assert reader.fields["general.type"].contents() == "imatrix"
    assert reader.fields["imatrix.chunk_count"].contents() == 1
    assert {tensor.name for tensor in reader.tensors} == {"blk.0.attn_q.weight.in_sum2", "blk.0.attn_q.weight.counts"}
    (found,) = libgguf.load_imatrix(tmp_path / "imatrix.gguf").values()
    assert np.allclose(found, values["blk.0.attn_q.weight"])


@pytest.mark.parametrize("file_type", ["Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_XS"])
def test_with_it_layers_say_more_of_what_they_said_on_inputs_that_it_was_not_read_from(
    file_type: str, tmp_path: Path
) -> None:
    model, generator = Random(), np.random.default_rng(3)
    spread = np.exp(generator.normal(0, 1.5, 256)).astype(np.float32)
    seen, held_out = (generator.normal(0, 1, (512, 256)).astype(np.float32) * spread for _ in range(2))
    importance = {tensor.name: (seen**2).mean(0) for tensor in model.tensors if tensor.name.startswith("blk")}
    errors = []
    for given in (None, importance):
        quantise(model, tmp_path / "m.gguf", file_type, importance=given, progress=Silent())
        file = GgufWeights(tmp_path / "m.gguf")
        lost = [
            ((file.rows(tensor, 0, tensor.rows) - model.rows(tensor, 0, tensor.rows)) @ held_out.T) ** 2
            for tensor in file.tensors
            if tensor.name.startswith("blk")
        ]
        errors.append(float(np.mean(lost)))
    assert errors[1] < 0.95 * errors[0]


def test_a_tensor_that_was_rounded_before_and_then_changed_is_rounded_without_it(tmp_path: Path) -> None:
    quantise(Random(), tmp_path / "base.gguf", "Q4_1", progress=Silent())
    weights = GgufWeights(tmp_path / "base.gguf")
    delta = Delta(np.full((1, 256), 0.01, np.float32), np.full((256, 1), 0.01, np.float32), 1.0)
    changed = Merged(weights, {"blk.0.attn_q.weight": delta})
    importance = dict.fromkeys(
        (tensor.name for tensor in weights.tensors if tensor.name.startswith("blk")),
        np.linspace(0.01, 10, 256, dtype=np.float32),
    )
    files = {}
    for name, given in (("plain", None), ("weighed", importance)):
        quantise(changed, tmp_path / f"{name}.gguf", "Q4_0", importance=given, progress=Silent())
        file = GgufWeights(tmp_path / f"{name}.gguf")
        files[name] = {tensor.name: file.rows(tensor, 0, tensor.rows) for tensor in file.tensors}
    assert np.array_equal(files["plain"]["blk.0.attn_q.weight"], files["weighed"]["blk.0.attn_q.weight"])
    assert not np.array_equal(files["plain"]["blk.0.attn_k.weight"], files["weighed"]["blk.0.attn_k.weight"])


def test_it_is_read_only_where_it_can_change_something(tmp_path: Path) -> None:
    assert weighable(Random(), ["F16", "Q4_0"]) and not weighable(Random(), ["F16", "Q8_0"])
    quantise(Random(), tmp_path / "base.gguf", "Q4_1", progress=Silent())
    weights = GgufWeights(tmp_path / "base.gguf")
    everywhere = {
        tensor.name: Delta(np.ones((1, 256), np.float32), np.ones((tensor.rows, 1), np.float32), 1.0)
        for tensor in weights.tensors
        if tensor.name.startswith("blk")
    }
    assert not weighable(Merged(weights, everywhere), ["Q4_0", "Q6_K"])


def test_the_first_ffn_down_of_4_bits_get_a_minimum_under_it() -> None:
    model = Random()
    model.tensors = [t for n in range(16) for t in (model_tensor(n, "ffn_down"), model_tensor(n, "attn_v"))]
    for file_type, wanted in (("Q4_0", "Q4_1"), ("Q5_0", "Q5_1")):
        plain, weighed = (planned(model, file_type, important=given) for given in (False, True))
        assert {tensor.type for tensor in plain} == {file_type}
        assert {t.name for t in weighed if t.type == wanted} == {f"blk.{n}.ffn_down.weight" for n in (0, 1)}
    plain, weighed = (planned(model, "IQ4_XS", important=given) for given in (False, True))
    assert {t.name for t in plain if t.type == "Q5_K"} == {f"blk.{n}.ffn_down.weight" for n in (0, 1)}
    assert {t.type for t in weighed} == {"IQ4_XS"}


def model_tensor(layer: int, kind: str):  # type: ignore[no-untyped-def]
    from werkmeister.bases.gguf_header import Tensor

    return Tensor(name=f"blk.{layer}.{kind}.weight", shape=(512, 512), type="F16")
