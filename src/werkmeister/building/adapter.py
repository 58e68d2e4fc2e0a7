"""The trained adapter: read from its PEFT folder, checked, and put into the row order and names of a GGUF."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from werkmeister.errors import ArtefactError

Floats = npt.NDArray[np.float32]

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# llama.cpp rotates neighbouring pairs of a head's rows on these architectures, and Hugging Face the two halves: the
# rows of q and k are stored in another order. The other supported architectures (qwen3, gemma3, phi3) rotate halves.
PERMUTED = frozenset({"llama"})
_PAIR = re.compile(
    r"(?:^|\.)(?:layers\.(?P<layer>\d+)\.(?P<module>[\w.]+?)|(?P<head>lm_head))\.lora_(?P<side>[AB])\.weight$"
)
# Ways to start an adapter that also change the base's own weights: the plain base plus the adapter is then wrong.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class Delta:
    """What is added to one weight: scale · b @ a, with a [rank, in] and b [out, rank]."""

    a: Floats
    b: Floats
    scale: float

    def rows(self, start: int, stop: int) -> Floats:
        """The rows of the sum's second term, float32 [stop - start, in]."""
        product: Floats = np.matmul(self.b[start:stop] * np.float32(self.scale), self.a)
        return product

    @property
    def is_zero(self) -> bool:
        """Whether it adds nothing."""
        return not (self.a.any() and self.b.any())


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A LoRA adapter by module name of the text model: "layers.0.self_attn.q_proj" → Delta, or "lm_head"."""

    folder: Path
    rank: int
    alpha: float
    rslora: bool
    deltas: Mapping[str, Delta]

    @property
    def is_zero(self) -> bool:
        """Whether the adapter changes nothing at all (an untrained one)."""
        return all(delta.is_zero for delta in self.deltas.values())

    @property
    def scale(self) -> float:
        """The factor before b @ a: alpha / rank, or alpha / √rank under rank-stabilised LoRA."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


def read_adapter(folder: Path) -> Adapter:
    """Read a PEFT folder. Raises ArtefactError that names every feature which export does not support."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(folder / CONFIG, error) from error
    problems = _unsupported(config)
    if problems:
        raise ArtefactError(
            f"the adapter in {folder} cannot be merged",
            problems=problems,
            hint="train again without these settings",
        )
    tensors = _read_tensors(folder / WEIGHTS)
    adapter = Adapter(
        folder=folder,
        rank=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        rslora=bool(config.get("use_rslora")),
        deltas={},
    )
    return replace(adapter, deltas=_pair_up(adapter, tensors))


def _unsupported(config: Mapping[str, Any]) -> list[str]:
    problems = []
    if config.get("peft_type") != "LORA":
        problems.append(f"peft_type is {config.get('peft_type')!r}, and only LORA is supported")
    if config.get("bias", "none") != "none":
        problems.append(f"bias = {config['bias']!r}: trained biases are not supported")
    switches = ("use_dora", "lora_bias", "fan_in_fan_out", "use_qalora", "use_bdlora")
    filled = (
        *("rank_pattern", "alpha_pattern", "modules_to_save", "trainable_token_indices", "layer_replication"),
        *("target_parameters", "alora_invocation_tokens", "arrow_config", "megatron_config"),
    )
    problems += [f"{key} = {config[key]!r} is not supported" for key in (*switches, *filled) if config.get(key)]
    start = str(config.get("init_lora_weights", "")).lower()
    if start.startswith(_CHANGES_BASE):
        problems.append(f"init_lora_weights = {start!r} changes the base's own weights, which is not supported")
    return problems


def _read_tensors(path: Path) -> dict[str, Floats]:
    import torch
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Floats] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                tensors[name] = file.get_tensor(name).to(torch.float32).numpy()
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    return tensors


def _pair_up(adapter: Adapter, tensors: Mapping[str, Floats]) -> dict[str, Delta]:
    sides: dict[str, dict[str, Floats]] = {}
    problems = []
    for name, tensor in tensors.items():
        match = _PAIR.search(name)
        if match is None or "vision" in name:
            problems.append(f"tensor {name} is not part of LoRA on a linear layer of the text model")
            continue
        module = f"layers.{match['layer']}.{match['module']}" if match["layer"] else "lm_head"
        sides.setdefault(module, {})[match["side"]] = tensor
    deltas = {}
    for module, pair in sides.items():
        shapes = {side: tuple(tensor.shape) for side, tensor in pair.items()}
        if set(pair) != {"A", "B"} or shapes["A"][0] != adapter.rank or shapes["B"][1] != adapter.rank:
            problems.append(f"{module}: {shapes} are not the two sides of rank {adapter.rank}")
        elif not all(np.isfinite(tensor).all() for tensor in pair.values()):
            problems.append(f"{module}: some numbers are not finite")
        else:
            deltas[module] = Delta(pair["A"], pair["B"], adapter.scale)
    if not deltas and not problems:
        problems.append("there is no LoRA tensor in it")
    if problems:
        raise ArtefactError(f"the adapter in {adapter.folder} cannot be merged", problems=problems, hint="train again")
    return deltas


def _unreadable(path: Path, error: Exception) -> ArtefactError:
    return ArtefactError(f"{path} cannot be read: {error}", hint="delete the train artefact and train again")


def permute_heads(rows: Floats, heads: int) -> Floats:
    """Reorder the rows of a q or k projection from Hugging Face's halves to the pairs of the llama architecture."""
    size = rows.shape[0] // heads
    order = np.arange(rows.shape[0]).reshape(heads, 2, size // 2).swapaxes(1, 2).reshape(-1)
    return rows[order]


def for_gguf(adapter: Adapter, architecture: str, heads: int, kv_heads: int, blocks: int) -> dict[str, Delta]:
    """The deltas by GGUF tensor name ("blk.0.attn_q.weight"), their rows in the order of that architecture.

    Raises ArtefactError when a module has no tensor in that architecture.
    """
    names = gguf_names(architecture, blocks)
    deltas, problems = {}, []
    for module, delta in adapter.deltas.items():
        name = names.get_name(module if module == "lm_head" else f"model.{module}")
        if name is None:
            problems.append(f"{module} has no tensor in the architecture {architecture}")
            continue
        if architecture in PERMUTED and module.endswith(("q_proj", "k_proj")):
            delta = replace(delta, b=permute_heads(delta.b, heads if module.endswith("q_proj") else kv_heads))
        deltas[f"{name}.weight"] = delta
    if problems:
        raise ArtefactError(
            f"the adapter in {adapter.folder} does not belong to this base", problems=problems, hint="train again"
        )
    return deltas


def gguf_names(architecture: str, blocks: int) -> gguf.TensorNameMap:
    """The map from module names to tensor names of an architecture."""
    return gguf.get_tensor_name_map(architecture_of(architecture), blocks)


def architecture_of(name: str) -> gguf.MODEL_ARCH:
    """The architecture of that GGUF name ("llama", "gemma3")."""
    by_name = {known: arch for arch, known in gguf.MODEL_ARCH_NAMES.items()}
    return by_name[name]
