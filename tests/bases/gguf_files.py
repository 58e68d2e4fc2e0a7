"""Writes a tiny Llama checkpoint as GGUF, with the official `gguf` package: independent of the project's own export."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
from safetensors import safe_open

_NAMES = {
    **{"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"},
    **{"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"},
    **{"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"},
    **{"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"},
}


def write_llama_gguf(
    checkpoint: Path,
    target: Path,
    *,
    kind: str = "F32",
    pre: str = "gpt-2",
    template: bool = True,
    text: str = "",
    scaling: float = 0.0,
) -> Path:
    """Write `checkpoint` (a tiny Llama) to `target`.

    `kind` is the ggml type of the matrices, `text` another template, `scaling` a linear rotary scaling.
    """
    config = json.loads((checkpoint / "config.json").read_text())
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(config["vocab_size"])
    if scaling:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling)
    _tokenizer(writer, checkpoint, config["vocab_size"], pre, text or (_own_template(checkpoint) if template else ""))
    for name, value in _tensors(checkpoint, config).items():
        if value.ndim == 1 or kind == "F32":
            writer.add_tensor(name, value)
            continue
        quantisation = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quantize(value, quantisation), raw_dtype=quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _tokenizer(writer: gguf.GGUFWriter, checkpoint: Path, rows: int, pre: str, template: str) -> None:
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    vocabulary = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    special = {entry["id"] for entry in tokenizer["added_tokens"]}
    kinds = [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(len(vocabulary))]
    spare = rows - len(vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([vocabulary[i] for i in range(len(vocabulary))] + [f"[PAD{i}]" for i in range(spare)])
    writer.add_token_types([*kinds, *[gguf.TokenType.UNUSED] * spare])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    if template:
        writer.add_chat_template(template)


def _own_template(checkpoint: Path) -> str:
    return str(json.loads((checkpoint / "tokenizer_config.json").read_text())["chat_template"])


def _tensors(checkpoint: Path, config: dict[str, int]) -> dict[str, np.ndarray]:
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    made = {}
    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118
            value = file.get_tensor(name).float().numpy()
            stem = name.removesuffix(".weight")
            block = ""
            if stem.startswith("model.layers."):
                number, _, stem = stem.removeprefix("model.layers.").partition(".")
                block = f"blk.{number}."
            short = _NAMES[stem]
            if short in heads:
                # llama.cpp pairs neighbouring rows of a head for the rotation, transformers the two halves.
                halves = value.reshape(heads[short], 2, -1, value.shape[1])
                value = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(value.shape)
            made[f"{block}{short}.weight"] = value
    return made
