"""The merged checkpoint, loaded by transformers itself and compared with base and adapter under PEFT."""

import json
import struct
import tracemalloc

import numpy as np
import pytest

from tests.building.exporting import examples, trained_logprobs, upstream, upstream_on
from tests.checkpoints import FAMILIES
from werkmeister.bases.find import find_base
from werkmeister.bases.tokens import load_tokenizer, prompt_ids
from werkmeister.building import checkpoint
from werkmeister.building.adapter import Adapter, Delta
from werkmeister.building.checkpoint import write_checkpoint
from werkmeister.errors import ArtefactError
from werkmeister.progress import Silent


def exact_upstream(root, family):
    """A base in float32, so that nothing is rounded."""
    from safetensors.torch import load_file, save_file

    FAMILIES[family](root / "base")
    for file in (root / "base").glob("*.safetensors"):
        save_file({name: value.float() for name, value in load_file(file).items()}, file, metadata={"format": "pt"})
    return upstream_on(root, find_base(str(root / "base"), progress=Silent()))


def loaded_logprobs(folder, rows):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    kind = AutoConfig.from_pretrained(folder)
    auto = AutoModelForImageTextToText if hasattr(kind, "vision_config") else AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for row in rows:
        more = (
            {"token_type_ids": torch.zeros((1, len(row)), dtype=torch.long)} if auto is not AutoModelForCausalLM else {}
        )
        with torch.inference_mode():
            found.append(model(input_ids=torch.tensor([row]), **more).logits[0, -1].log_softmax(-1).numpy())
    return found


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_transformers_loads_it_and_its_logits_are_those_of_base_and_adapter(family, tmp_path, monkeypatch):
    made = exact_upstream(tmp_path, family)
    monkeypatch.setattr(checkpoint, "_ROWS", 700)  # several pieces a tensor
    write_checkpoint(made.base, made.adapter, tmp_path / "merged", Silent())
    tokenizer = load_tokenizer(made.base)
    rows = [prompt_ids(tokenizer, example.prompt) for example in examples()]
    wanted = trained_logprobs(made.base, made.adapter, rows)
    plain = loaded_logprobs(made.base.folder, rows)
    found = loaded_logprobs(tmp_path / "merged", rows)
    for ours, theirs, base in zip(found, wanted, plain, strict=True):
        assert np.abs(ours - np.asarray(theirs)).max() < 2e-4
        assert np.abs(ours - base).max() > 1e-2


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_rounding_is_that_of_torch(kind):
    import torch

    values = np.concatenate([np.random.default_rng(0).normal(size=4096), [1.00390625, 1.01171875, 0, -0.0, 65000]])
    rows = values.astype(np.float32).reshape(1, -1)
    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    theirs = torch.from_numpy(rows).to(types[kind])
    assert checkpoint._stored(rows, kind) == theirs.view(torch.uint8).numpy().tobytes()


def test_the_memory_does_not_grow_with_the_tensor(tmp_path, monkeypatch):
    rows, width, rank = 4096, 2048, 4
    head = json.dumps({"a.weight": {"dtype": "BF16", "shape": [rows, width], "data_offsets": [0, 2 * rows * width]}})
    source = tmp_path / "one.safetensors"
    source.write_bytes(struct.pack("<Q", len(head)) + head.encode() + bytes(2 * rows * width))
    monkeypatch.setattr(checkpoint, "_ROWS", 64 * width)
    delta = Delta(np.ones((rank, width), np.float32), np.ones((rows, rank), np.float32), 0.5)
    adapter = Adapter(folder=tmp_path, rank=rank, alpha=2.0, rslora=False, deltas={"a": delta})
    tracemalloc.start()
    checkpoint._merge_file(source, tmp_path / "merged.safetensors", adapter, Silent())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A piece is 0.5 MB in float32, the tensor 16 MB as it is stored.
    assert peak < 4 << 20
    merged = (tmp_path / "merged.safetensors").read_bytes()[8 + len(head) :]
    assert np.frombuffer(merged, np.uint16).tolist() == [0x4000] * (rows * width)  # 0 + 0.5 * 4


def test_the_template_in_force_and_the_end_tokens_stand_in_it_once(tmp_path):
    from transformers import AutoTokenizer

    made = upstream(tmp_path)
    write_checkpoint(made.base, made.adapter, tmp_path / "merged", Silent())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.chat_template == made.base.template
    assert "chat_template" not in json.loads((tmp_path / "merged/tokenizer_config.json").read_text("utf-8"))
    ends = json.loads((tmp_path / "merged/generation_config.json").read_text("utf-8"))["eos_token_id"]
    assert {tokenizer.convert_tokens_to_ids(text) for text in made.base.stop} <= set(ends)


def test_what_the_adapter_leaves_alone_is_the_bases_own_bytes(tmp_path):
    made = upstream(tmp_path, targets=("q",))
    write_checkpoint(made.base, made.adapter, tmp_path / "merged", Silent())
    before, after = ((folder / "model.safetensors").read_bytes() for folder in (made.base.folder, tmp_path / "merged"))
    (length,) = struct.unpack("<Q", before[:8])
    head = json.loads(before[8 : 8 + length])
    assert after[: 8 + length] == before[: 8 + length]
    for name, said in head.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in said["data_offsets"])
        assert (after[begin:end] == before[begin:end]) == ("q_proj" not in name), name


def test_an_adapter_of_another_base_is_refused_before_anything_is_written(tmp_path):
    made = upstream(tmp_path / "one")
    other = upstream(tmp_path / "two", "qwen3")
    with pytest.raises(ArtefactError, match="does not fit"):
        write_checkpoint(made.base, other.adapter, tmp_path / "merged", Silent())
    assert not (tmp_path / "merged").exists()
