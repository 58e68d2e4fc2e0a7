"""The shape of a model (layers, widths, vocabulary, parameters), read from its files without torch."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkmeister.bases.gguf_header import GgufHeader
from werkmeister.errors import BaseModelError

# Multimodal checkpoints whose text part is taken out: model type → the type of the text part.
TEXT_PARTS = {"gemma3": "gemma3_text"}
_NOT_TEXT = ("vision_tower", "multi_modal_projector", "vision_model", "audio_tower")
# What the published config.json of a family leaves to its class (gemma-3-4b-it names neither heads nor context).
_DEFAULTS: dict[str, dict[str, int]] = {
    "gemma3_text": {
        **{"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131072},
    },
}
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of the text part of a model: counts and widths in numbers of values."""

    architecture: str
    layers: int
    width: int
    inner: int
    heads: int
    key_heads: int
    head_width: int
    vocabulary: int
    context_length: int
    parameters: int
    tied: bool


def shape_of_folder(folder: Path) -> Shape:
    """The shape of a model in the Hugging Face layout.

    `parameters` is counted from the headers of the safetensors files, the text part alone; a tied output head counts
    once. Raises BaseModelError when a file is missing or truncated, or when config.json is not that of a text model.
    """
    config = read_config(folder)
    text = text_config(config, folder)
    tensors = tensor_shapes(folder)
    counted = sum(math.prod(shape) for name, shape in tensors.items() if not any(part in name for part in _NOT_TEXT))
    try:
        heads = int(text["num_attention_heads"])
        width = int(text["hidden_size"])
        return Shape(
            architecture=str(text.get("model_type") or config["model_type"]),
            layers=int(text["num_hidden_layers"]),
            width=width,
            inner=int(text["intermediate_size"]),
            heads=heads,
            key_heads=int(text.get("num_key_value_heads") or heads),
            head_width=int(text.get("head_dim") or width // heads),
            vocabulary=_vocabulary(text, tensors),
            context_length=int(text["max_position_embeddings"]),
            parameters=counted,
            tied=not any(name.endswith("lm_head.weight") for name in tensors),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BaseModelError(
            f"{folder / 'config.json'} lacks what a decoder of text has ({error})",
            hint="choose a causal language model: Llama, Qwen, Gemma, Phi, SmolLM or a relative of these",
        ) from error


def shape_of_gguf(header: GgufHeader) -> Shape:
    """The shape of a model in a GGUF file, from its header. Raises BaseModelError when a size is missing."""
    try:
        heads = int(header.get("attention.head_count"))
        width = int(header.get("embedding_length"))
        return Shape(
            architecture=header.architecture,
            layers=int(header.get("block_count")),
            width=width,
            inner=int(header.get("feed_forward_length")),
            heads=heads,
            key_heads=int(header.get("attention.head_count_kv", heads)),
            head_width=int(header.get("attention.key_length", width // heads)),
            vocabulary=header.tensors["token_embd.weight"].rows,
            context_length=int(header.get("context_length")),
            parameters=sum(t.values for name, t in header.tensors.items() if not name.startswith("rope_")),
            tied="output.weight" not in header.tensors,
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BaseModelError(
            f"{header.path} lacks what a decoder of text has ({error})",
            hint="choose the GGUF of a causal language model (not an embedding model, and not an mmproj file)",
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder; BaseModelError when it is absent or no JSON object."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BaseModelError(
            f"{folder} is no model: config.json is missing",
            hint="name a folder with config.json, model.safetensors and a tokenizer, or a .gguf file",
        ) from error
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{file} cannot be read: {error}", hint="fetch the model again") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise BaseModelError(f"{file} names no model_type", hint="fetch the model again")
    return config


def is_multimodal(config: Mapping[str, Any]) -> bool:
    """Whether the checkpoint holds other towers beside the text part."""
    return config["model_type"] in TEXT_PARTS


def text_config(config: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """The part of a config that describes the text decoder.

    Raises BaseModelError for models that write no text, multimodal ones whose text part cannot be taken out yet, and
    weights that were quantised before (a LoRA adapter could not be merged into them without loss).
    """
    kind = config["model_type"]
    names = [str(name) for name in config.get("architectures") or []]
    if "quantization_config" in config:
        method = (config["quantization_config"] or {}).get("quant_method", "an unknown method")
        raise BaseModelError(
            f"the weights in {folder} are already quantised ({method})",
            hint="name the original model; werkmeister quantises it itself",
        )
    if kind in TEXT_PARTS:
        inner = config.get("text_config")
        if not isinstance(inner, dict):
            raise BaseModelError(f"{folder / 'config.json'} has no text_config", hint="fetch the model again")
        return {**_DEFAULTS.get(TEXT_PARTS[kind], {}), "model_type": TEXT_PARTS[kind], **inner}
    if names and not any(name.endswith("ForCausalLM") for name in names):
        raise BaseModelError(
            f"{folder} holds {', '.join(names)}, and a causal language model is needed",
            hint=f"of the multimodal models these can be used: {', '.join(TEXT_PARTS)}",
        )
    return {**_DEFAULTS.get(kind, {}), **config}


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, in order.

    Raises BaseModelError when there are none, or when the index names files that are missing (all of them at once).
    """
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise BaseModelError(f"{index} cannot be read: {error}", hint="fetch the model again") from error
    else:
        names = [SINGLE]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        pickled = any(folder.glob("pytorch_model*.bin"))
        raise BaseModelError(
            f"{folder} is incomplete: weights are missing",
            problems=missing,
            hint="convert its pytorch_model.bin to safetensors (a .bin can run code when it is opened)"
            if pickled
            else "fetch the model again",
        )
    return [folder / name for name in names]


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, from the headers of the safetensors files.

    Raises BaseModelError naming every file that is truncated or is no safetensors file.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    problems = []
    for file in weight_files(folder):
        size = file.stat().st_size
        try:
            with file.open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                if length > size:
                    raise ValueError(f"its header of {length} bytes does not fit its {size} bytes")
                header = json.loads(stream.read(length))
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            end = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
            if size < end:
                raise ValueError(f"it has {size} of the {end} bytes that its header promises")
            shapes |= {name: tuple(entry["shape"]) for name, entry in entries.items()}
        except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"{file.name}: {error}")
    if problems:
        raise BaseModelError(
            f"weights in {folder} are truncated or damaged", problems=problems, hint="fetch the model again"
        )
    return shapes


def _vocabulary(text: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> int:
    # The table says it even where config.json leaves it to a default of its class.
    rows = [shape[0] for name, shape in tensors.items() if name.endswith("embed_tokens.weight")]
    return int(text.get("vocab_size") or rows[0]) if rows else int(text["vocab_size"])
