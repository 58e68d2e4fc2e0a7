"""What a training will need, estimated from the model's shape and a probe of the machine; never a reading."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from werkmeister.bases.shape import Shape
    from werkmeister.building.recipe import Recipe

_SHARE_OF_MATMUL = 0.5
"""Share of the bare matrix-product rate that training is taken to reach; a rough figure, hence "estimated"."""
_LIBRARIES = 1.2e9
"""Resident size of torch, transformers, peft and trl after loading, roughly."""
_BYTES = {"nf4": 0.56, "bf16": 2.0, "fp16": 2.0, "fp32": 4.0}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Host memory on a CPU (GPU memory on a GPU) and disk in bytes, seconds of training."""

    memory: float
    disk: float
    seconds: float


def estimate_training(
    shape: Shape, recipe: Recipe, *, rank: int, all_linear: bool, tokens: float, learnt_share: float, rate: float
) -> Estimate:
    """Estimate one run over `tokens` tokens, of which `learnt_share` carry a label, at `rate` FLOP/s of matmul.

    A token costs 2 FLOP a weight forward and 2 backward (the frozen weights need no gradient of their own); the head
    runs on learnt tokens alone. Activations: about 34 × width bytes a token and layer in 16 bits, plus the attention
    scores of plain attention (Korthikanti et al. 2022, "Reducing Activation Recomputation").
    """
    adapter = adapter_parameters(shape, rank=rank, targets=("all-linear",) if all_linear else tuple("qkvo"))
    embedding = shape.vocabulary * shape.width
    body = shape.parameters - embedding * (1 if shape.tied else 2)
    flops = tokens * (4 * body + 4 * embedding * learnt_share) * (1.5 if recipe.checkpointing else 1.0)
    in_flight = recipe.micro_batch * recipe.max_length
    wide = 2 if recipe.compute == "fp32" else 1
    scores = 5 * shape.heads * recipe.max_length * wide if recipe.attention == "eager" else 0
    kept = 2 if recipe.checkpointing else 34 * wide + 4 * wide * shape.inner / shape.width
    activations = in_flight * shape.layers * (kept * shape.width + scores)
    # On a CPU the logits stand in memory piece by piece (building/answer_loss.py).
    logits = shape.vocabulary * (128 * 6 if recipe.device == "CPU" else in_flight * learnt_share * 10)
    memory = shape.parameters * _BYTES[recipe.precision] + adapter * 16 + activations + logits
    return Estimate(
        memory=memory + (_LIBRARIES if recipe.device == "CPU" else 0.6e9),
        disk=training_disk(adapter),
        seconds=flops / (rate * _SHARE_OF_MATMUL),
    )


def adapter_parameters(shape: Shape, *, rank: int, targets: Sequence[str]) -> int:
    """Weights of a LoRA adapter: rank × (in + out) for each layer that it stands in.

    `targets` as in TrainSettings. Families that fuse projections (Phi) have fewer, since theirs share an input; a
    name that is not known here counts as the widest, so that the figure is never too low.
    """
    width, inner = shape.width, shape.inner
    queries, keys = shape.heads * shape.head_width, shape.key_heads * shape.head_width
    sizes = {"q": width + queries, "k": width + keys, "v": width + keys, "o": queries + width}
    sizes |= {"gate": width + inner, "up": width + inner, "down": inner + width}
    sizes |= {"qkv": width + queries + 2 * keys, "gate_up": width + 2 * inner}
    linear = ("q", "k", "v", "o", "gate", "up", "down")
    names = linear if "all-linear" in targets else {target.removesuffix("_proj") for target in targets}
    return shape.layers * rank * sum(sizes.get(name, max(sizes.values())) for name in names)


def training_disk(adapter: int, *, tokenizer: Path | None = None) -> int:
    """Bytes that a training of `adapter` weights has on the disk at most, its result included.

    Two checkpoints are kept while a third is written: weights and both moments of Adam in float32, and a copy of the
    tokenizer's file each.
    """
    copied = tokenizer.stat().st_size if tokenizer is not None and tokenizer.is_file() else 0
    return 3 * (12 * adapter + copied) + 4 * adapter


def matmul_rate(compute: str, width: int) -> float:
    """FLOP/s of products (512 × width) · (width × width) in the given precision, probed for about half a second.

    On a CPU the seconds are those of the processor, a thread: what else runs on the machine now does not count.
    """
    import torch

    from werkmeister.building.recipe import torch_dtype

    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.randn(512, width, device=device).to(torch_dtype(compute))
    b = torch.randn(width, width, device=device).to(torch_dtype(compute))
    for _ in range(3):
        c = a @ b
    count, begin, worked = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < 0.5:
        for _ in range(10):
            c = a @ b
        float(c[0, 0])  # Waits for the device.
        count += 10
    seconds = time.perf_counter() - begin
    if device == "cpu":
        seconds = min(seconds, max(1e-9, (time.process_time() - worked) / torch.get_num_threads()))
    return count * 2 * 512 * width * width / seconds
