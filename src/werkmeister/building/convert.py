"""Weights of a Hugging Face checkpoint in GGUF terms, converted as they are read.

Why an own converter for four families, and not llama.cpp's: that one writes a second copy of the model to the disk
before anything can be quantised, knows a tokenizer only by a hash over it (a changed vocabulary is refused), and
without `tokenizer.model`, which transformers 5 no longer writes, gives all pieces of a SentencePiece vocabulary one
score, so that text falls into other tokens. Names come from the official `gguf` package; the parity gate proves the
rest on every export. Read beside it: conversion/{llama,qwen,gemma,phi}.py of llama.cpp, August 2026.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from werkmeister.bases.base import Base
from werkmeister.bases.gguf_file import encode
from werkmeister.bases.gguf_header import Tensor, row_bytes
from werkmeister.bases.shape import weight_files
from werkmeister.building.adapter import PERMUTED, Floats, architecture_of, permute_heads
from werkmeister.building.merge import dequantise, read_bytes
from werkmeister.building.tokenizer_gguf import tokenizer_metadata
from werkmeister.errors import BaseModelError

# Model type in config.json → GGUF architecture.
FAMILIES = {"llama": "llama", "qwen3": "qwen3", "phi3": "phi3", "gemma3_text": "gemma3"}
_OUTSIDE = ("vision_tower", "multi_modal_projector", "vision_model", "audio_tower")
PREFIX = re.compile(r"^(?:model\.language_model\.|language_model\.model\.|model\.)")
_BUFFERS = ("rotary_emb.inv_freq", "embed_scale")
# Every sixth layer of Gemma 3 attends globally: what llama.cpp assumes when the file does not say.
_GEMMA_PERIOD = 6
_GEMMA_27B_LAYERS = 62


class CheckpointWeights:
    """The text part of a checkpoint in safetensors, under GGUF names, shapes, row order and conventions."""

    def __init__(self, base: Base) -> None:
        """Read config, tokenizer and the headers of the weight files.

        Raises BaseModelError naming everything in the checkpoint that has no place in a GGUF that llama.cpp runs.
        """
        config = _config(base)
        architecture = FAMILIES[config.model_type]
        self._heads = {"attn_q.weight": config.num_attention_heads, "attn_k.weight": config.num_key_value_heads}
        self._permuted = architecture in PERMUTED
        self._shift = np.float32(1.0 if architecture == "gemma3" else 0.0)
        self._extra = _extra_tensors(config)
        self._places = _places(base, config, architecture)
        stored = {name: place.tensor for name, place in self._places.items()}
        extra = {name: Tensor(name=name, shape=values.shape, type="F32") for name, values in self._extra.items()}
        self.tensors: Sequence[Tensor] = [*extra.values(), *stored.values()]
        self.touched: frozenset[str] = frozenset()
        rows = stored["token_embd.weight"].shape[0]
        self.metadata: Mapping[str, bytes] = {
            "general.architecture": encode(architecture),
            "general.type": encode("model"),
            **{f"{architecture}.{key}": encode(value) for key, value in _hyperparameters(config, rows).items()},
            **tokenizer_metadata(base, rows),
        }

    def rows(self, tensor: Tensor, start: int, stop: int) -> Floats:
        """Rows in float32, in the order and with the conventions of GGUF."""
        if tensor.name in self._extra:
            return self._extra[tensor.name].reshape(1, -1)
        place = self._places[tensor.name]
        heads = next((count for end, count in self._heads.items() if tensor.name.endswith(end)), 0)
        if self._permuted and heads:
            size = tensor.rows // heads
            low, high = start // size * size, -(-stop // size) * size
            return permute_heads(place.rows(low, high), (high - low) // size)[start - low : stop - low]
        rows = place.rows(start, stop)
        return rows + self._shift if tensor.name.endswith("norm.weight") else rows

    def stored(self, tensor: Tensor, start: int, stop: int) -> bytes | None:
        """None: what is converted is not stored in that form."""
        return None


class _Place:
    """Where a tensor lies in a safetensors file."""

    def __init__(self, path: Path, tensor: Tensor, offset: int) -> None:
        self.tensor = tensor
        self._path = path
        self._offset = offset

    def rows(self, start: int, stop: int) -> Floats:
        size = row_bytes(self.tensor.type, self.tensor.width)
        return dequantise(read_bytes(self._path, self._offset + start * size, (stop - start) * size), self.tensor)


def require_convertible(base: Base) -> None:
    """Raise BaseModelError when export could not bring the base into GGUF; reads config.json alone.

    Called before training: a family that cannot be exported must not cost a night first.
    """
    if base.gguf is None:
        _config(base)


def _config(base: Base) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base.folder).get_text_config()
    if config.model_type not in FAMILIES:
        raise BaseModelError(
            f"base {base.name} is of the family {config.model_type!r}, which export cannot convert",
            hint=f"name a .gguf file of it, or a base of one of these: {', '.join(FAMILIES)}",
        )
    problems = _unsupported(config)
    if problems:
        raise BaseModelError(
            f"base {base.name} has features that export cannot convert", problems=problems, hint="name a .gguf of it"
        )
    return config


def _unsupported(config: Any) -> list[str]:
    problems = [
        f"{key} = {getattr(config, key)!r}"
        for key in ("attention_bias", "mlp_bias", "use_sliding_window", "attn_logit_softcapping")
        if getattr(config, key, None)
    ]
    if getattr(config, "use_bidirectional_attention", None):
        problems.append("use_bidirectional_attention")
    kind = _rope(config)["rope_type"]
    known = {"default", "linear", "yarn", "llama3", "longrope"}
    if kind not in known or (kind == "longrope") != ("long_factor" in _rope(config)):
        problems.append(f"rope_type = {kind!r}")
    if config.model_type == "gemma3_text":
        problems += _unsupported_gemma(config)
    return problems


def _unsupported_gemma(config: Any) -> list[str]:
    problems = []
    large = config.num_hidden_layers == _GEMMA_27B_LAYERS
    scale = config.hidden_size // config.num_attention_heads if large else config.head_dim
    if config.query_pre_attn_scalar != scale:
        problems.append(f"query_pre_attn_scalar = {config.query_pre_attn_scalar}, and llama.cpp takes {scale}")
    if _period(config) is None:
        problems.append("layer_types: global layers do not come at an even distance")
    return problems


def _period(config: Any) -> int | None:
    """The distance of layers with global attention; None when it varies."""
    kinds: list[str] = config.layer_types
    for period in (_GEMMA_PERIOD, *range(1, len(kinds) + 2)):
        if all((kind == "full_attention") == ((i + 1) % period == 0) for i, kind in enumerate(kinds)):
            return int(period)
    return None


def _rope(config: Any) -> Mapping[str, Any]:
    """The rotary settings of (global) attention."""
    rope: Mapping[str, Any] = config.rope_parameters
    overall: Mapping[str, Any] = rope.get("full_attention", rope)
    return overall


def _head_width(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _hyperparameters(config: Any, vocabulary: int) -> dict[str, Any]:
    """The architecture's own keys, without its name in front."""
    rope, width = _rope(config), _head_width(config)
    found: dict[str, Any] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "vocab_size": vocabulary,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.freq_base": float(rope["rope_theta"]),
        "rope.dimension_count": int(width * rope.get("partial_rotary_factor", 1.0)),
    }
    if rope["rope_type"] in ("linear", "yarn"):
        found |= {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": float(rope["factor"])}
    if rope["rope_type"] == "yarn":
        original = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        found["rope.scaling.original_context_length"] = int(original)
    if config.model_type == "gemma3_text":
        found |= _gemma_hyperparameters(config)
    if config.model_type == "phi3":
        found |= _phi_hyperparameters(config)
    return found


def _gemma_hyperparameters(config: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "attention.sliding_window": config.sliding_window,
        "rope.freq_base_swa": float(config.rope_parameters["sliding_attention"]["rope_theta"]),
    }
    if _period(config) != _GEMMA_PERIOD:
        found["attention.sliding_window_pattern"] = _period(config)
    if config.final_logit_softcapping:
        found["final_logit_softcapping"] = float(config.final_logit_softcapping)
    return found


def _phi_hyperparameters(config: Any) -> dict[str, Any]:
    rope = _rope(config)
    original = _original_context(config)
    found: dict[str, Any] = {
        "rope.scaling.original_context_length": original,
        "attention.sliding_window": config.sliding_window or 0,
    }
    if rope["rope_type"] == "longrope":
        scale = config.max_position_embeddings / original
        factor = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
        found["rope.scaling.attn_factor"] = float(rope.get("attention_factor") or factor)
    return found


def _original_context(config: Any) -> int:
    said = _rope(config).get("original_max_position_embeddings")
    return int(said or getattr(config, "original_max_position_embeddings", None) or config.max_position_embeddings)


def _extra_tensors(config: Any) -> dict[str, Floats]:
    """Rotary factors that llama.cpp reads as tensors, where Hugging Face has them in the config."""
    rope = _rope(config)
    if rope["rope_type"] == "llama3":
        return {"rope_freqs.weight": _llama3_factors(rope, _head_width(config))}
    if rope["rope_type"] == "longrope":
        return {
            "rope_factors_long.weight": np.asarray(rope["long_factor"], dtype=np.float32),
            "rope_factors_short.weight": np.asarray(rope["short_factor"], dtype=np.float32),
        }
    return {}


def _llama3_factors(rope: Mapping[str, Any], width: int) -> Floats:
    """What each frequency is divided by: 1 for short waves, `factor` for long ones, a blend between (Llama 3.1)."""
    frequencies = 1.0 / rope["rope_theta"] ** (np.arange(0, width, 2, dtype=np.float64) / width)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
    factors: Floats = (1.0 / ((1.0 - blend) / factor + blend)).astype(np.float32)
    return factors


def _places(base: Base, config: Any, architecture: str) -> dict[str, _Place]:
    """Every tensor of the text part by GGUF name, with its place on the disk."""
    names = gguf.get_tensor_name_map(architecture_of(architecture), config.num_hidden_layers)
    found: dict[str, _Place] = {}
    problems = []
    for path in weight_files(base.folder):
        for name, entry, start in entries(path):
            if any(part in name for part in _OUTSIDE) or name.endswith(_BUFFERS):
                continue
            plain = PREFIX.sub("model.", name).removeprefix("language_model.")
            if plain == "lm_head.weight" and config.tie_word_embeddings:
                continue
            known = names.get_name(plain, try_suffixes=(".weight",))
            if known is None or entry["dtype"] not in ("F32", "F16", "BF16"):
                problems.append(f"{path.name}: {name} ({entry['dtype']}, {entry['shape']})")
                continue
            tensor = Tensor(name=known, shape=tuple(entry["shape"]), type=entry["dtype"])
            found[known] = _Place(path, tensor, start + entry["data_offsets"][0])
    if problems or "token_embd.weight" not in found:
        raise BaseModelError(
            f"base {base.name} holds tensors that have no place in the architecture {architecture}",
            problems=problems or ["embed_tokens.weight is missing"],
            hint="name a .gguf file of it",
        )
    return found


def entries(path: Path) -> list[tuple[str, dict[str, Any], int]]:
    """Name, entry and start of the data of each tensor in a safetensors file."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        head = json.loads(file.read(length))
    return [(name, entry, 8 + length) for name, entry in head.items() if name != "__metadata__"]
