"""Packed rows and fused layers, against transformers and PEFT on one example after the other."""

import copy
import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.checkpoints import write_gemma3_text, write_llama, write_qwen3
from werkmeister.building.answer_loss import AnswerLoss, _piece
from werkmeister.building.fused_layers import fuse_layers
from werkmeister.building.fused_lora import fuse_lora
from werkmeister.building.packing import divide, pack, register_attention


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 200), st.booleans())
def test_pieces_hold_every_example_once_in_order_and_keep_to_the_budget(lengths, tokens, packed) -> None:
    pieces = divide(lengths, tokens, packed=packed)
    assert [i for piece in pieces for i in range(len(lengths))[piece]] == list(range(len(lengths)))
    for piece in pieces:
        part = lengths[piece]
        assert len(part) == 1 or (sum(part) if packed else max(part) * len(part)) <= tokens
    for left, right in itertools.pairwise(pieces):
        both = [*lengths[left], lengths[right.start]]
        assert (sum(both) if packed else max(both) * len(both)) > tokens, "the piece had room"


def batch(lengths: list[int], words: int) -> dict[str, torch.Tensor]:
    """Random examples of these lengths, padded; the first third of each is a prompt."""
    torch.manual_seed(1)
    shape = len(lengths), max(lengths)
    mask = torch.arange(shape[1])[None] < torch.tensor(lengths)[:, None]
    ids = torch.randint(3, words, shape) * mask
    learnt = mask & (torch.arange(shape[1])[None] >= torch.tensor(lengths)[:, None] // 3) & (torch.arange(shape[1]) > 0)
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": ids.masked_fill(~learnt, -100)}


def adapted(folder: Path, attention: str):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    lora = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "o_proj"]))
    torch.manual_seed(0)
    for name, parameter in lora.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return lora


@pytest.mark.parametrize("window", [512, 7], ids=["window of the whole", "window of 7"])
@pytest.mark.parametrize("family", [write_llama, write_qwen3, write_gemma3_text], ids=lambda f: f.__name__[6:])
def test_a_packed_row_has_the_loss_and_the_gradients_of_its_examples_alone(family, window, tmp_path: Path) -> None:
    import json

    folder = family(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    if "sliding_window" in config:
        (folder / "config.json").write_text(json.dumps(config | {"sliding_window": window}))
    plain = adapted(folder, "eager")
    lengths = [9, 31, 4, 17]
    data = batch(lengths, config["vocab_size"])
    count = (data["labels"] != -100).sum()
    total = 0.0
    for i, length in enumerate(lengths):
        ids, labels = data["input_ids"][i : i + 1, :length], data["labels"][i, :length]
        logits = plain(input_ids=ids, use_cache=False).logits[0, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="sum") / count
        loss.backward()
        total += float(loss)

    ours = adapted(folder, register_attention())
    assert fuse_lora(ours) > 0 and fuse_layers(ours) == config["num_hidden_layers"]
    row = pack(copy.deepcopy(data), lengths)
    labels = row.pop("labels")[0, 1:]
    causal = ours.get_base_model()
    hidden = causal.base_model(**row, use_cache=False).last_hidden_state[0, :-1]
    learnt = labels != -100
    loss = AnswerLoss()(hidden[learnt], causal.get_output_embeddings(), labels[learnt], count, 0.0)
    loss.backward()
    assert float(loss) == pytest.approx(total, rel=1e-5)
    for (name, a), (_, b) in zip(plain.named_parameters(), ours.named_parameters(), strict=True):
        if a.requires_grad:
            torch.testing.assert_close(b.grad, a.grad, rtol=2e-4, atol=2e-6, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("cap", [0.0, 3.0])
def test_the_piece_of_a_gpus_loss_is_the_cross_entropy_and_its_gradient(cap: float) -> None:
    torch.manual_seed(2)
    logits = torch.randn(6, 50, dtype=torch.float64) * 4
    wanted, weights = torch.randint(0, 50, (6, 1)), torch.rand(6, 1)
    loss, slope = _piece(logits, wanted, weights, cap)
    leaf = logits.clone().requires_grad_()
    bent = cap * torch.tanh(leaf / cap) if cap else leaf
    expected = (torch.nn.functional.cross_entropy(bent, wanted[:, 0], reduction="none") * weights[:, 0]).sum()
    expected.backward()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(slope, leaf.grad, rtol=1e-4, atol=1e-6)


def test_a_padded_batch_and_an_answer_take_the_model_own_way(tmp_path: Path) -> None:
    folder = write_gemma3_text(tmp_path / "base")
    plain, ours = adapted(folder, "sdpa"), adapted(folder, register_attention())
    fuse_layers(ours)
    data = batch([5, 12], 200)
    inputs = {"input_ids": data["input_ids"], "attention_mask": data["attention_mask"]}
    with torch.no_grad():
        torch.testing.assert_close(ours(**inputs).logits, plain(**inputs).logits)
        a, b = (model.generate(**inputs, max_new_tokens=4, do_sample=False) for model in (plain, ours))
    assert torch.equal(a, b)
