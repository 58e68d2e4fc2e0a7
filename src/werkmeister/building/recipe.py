"""What a training run derives from its settings, the data and the machine, before anything heavy happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from werkmeister.errors import TrainingError

EAGER_LENGTH = 512
"""Up to this length plain attention beats PyTorch's flash kernel on a CPU (measured, EXPERIMENTS.md)."""
_CPU_TOKENS = 4096
_CUDA_TOKENS = 8192
"""Tokens of one micro-batch, which bound the memory of activations."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The derived half of a run. `precision` is "nf4", "bf16", "fp16" or "fp32" for the frozen base; `compute` is the
    precision of the arithmetic; `micro_batch` × `accumulation` examples make one step; lengths in tokens. Batches are
    filled up to a multiple of `width_step`."""

    device: str
    precision: str
    compute: str
    attention: str
    micro_batch: int
    accumulation: int
    checkpointing: bool
    optimizer: str
    max_length: int
    width_step: int
    fuse: bool

    def words(self) -> str:
        """One line for the person."""
        return (
            f"{self.device}: base in {self.precision}, arithmetic in {self.compute}, {self.attention} attention, "
            f"{self.micro_batch} × {self.accumulation} examples a step"
            + (", activations recomputed" if self.checkpointing else "")
        )


def derive_recipe(
    *, precision: str, batch_size: int, micro_batch: int, longest: int, context_length: int, architecture: str
) -> Recipe:
    """Choose device, precision and batches.

    `longest` is the longest example in tokens. Raises TrainingError when it does not fit the context.
    """
    import torch

    if longest > context_length:
        raise TrainingError(
            f"the longest example has {longest} tokens, and the context of the base holds {context_length}",
            hint="set dataset.max_length, so that longer examples are left out and listed",
        )
    cuda = torch.cuda.is_available()
    stored, compute = _cuda_precision(precision, architecture) if cuda else _cpu_precision(precision)
    tokens = _CUDA_TOKENS if cuda else _CPU_TOKENS
    micro = micro_batch or max(1, min(batch_size, tokens // longest))
    micro = next(size for size in range(min(micro, batch_size), 0, -1) if batch_size % size == 0)
    return Recipe(
        device=torch.cuda.get_device_name() if cuda else "CPU",
        precision=stored,
        compute=compute,
        attention="sdpa" if cuda or longest > EAGER_LENGTH else "eager",
        micro_batch=micro,
        accumulation=batch_size // micro,
        checkpointing=cuda,
        optimizer="paged_adamw_8bit" if cuda and stored == "nf4" else "adamw_torch_fused",
        max_length=longest,
        width_step=1 if cuda else width_step(longest),
        fuse=not cuda and stored != "nf4",
    )


def width_step(longest: int) -> int:
    """What batches' lengths are rounded up to on a CPU, so that there are at most 32 of them.

    oneDNN compiles its products for every shape that it meets and keeps a thousand; with more shapes than that, old
    ones are thrown out and new ones made in the middle of a step's tensors for as long as the training lasts. These
    litter the heap: it grows, and finding room in it takes more time from step to step (EXPERIMENTS.md).
    """
    return 4 * -(-longest // 128)


def quantization_config(recipe: Recipe) -> Any:
    """The BitsAndBytesConfig of QLoRA (NF4, double quantisation), or None when the base is not stored in 4 bits.

    Source: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs".
    """
    if recipe.precision != "nf4":
        return None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch_dtype(recipe.compute),
    )


def torch_dtype(name: str) -> Any:
    """The torch dtype of "bf16", "fp16" or "fp32"."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]


def _cpu_precision(wanted: str) -> tuple[str, str]:
    from werkmeister.machine import read_machine

    fast = "bf16" if read_machine().bf16 else "fp32"
    if wanted == "auto":
        return fast, fast
    return wanted, fast if wanted == "nf4" else wanted


def _cuda_precision(wanted: str, architecture: str) -> tuple[str, str]:
    import torch

    if torch.cuda.get_device_capability()[0] >= 8:
        compute = "bf16"
    else:
        # Cards before Ampere have no bf16, and activations of Gemma 3 leave the range of fp16.
        compute = "fp32" if architecture.lower().startswith("gemma") else "fp16"
    if wanted == "auto":
        return "nf4", compute
    return wanted, compute if wanted == "nf4" else wanted
