"""What a training run derives from its settings, the data and the machine, before anything heavy happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from werkmeister.building.memory_plan import MemoryPlan, best_optimizer, plan_memory
from werkmeister.building.processes import is_sharded
from werkmeister.errors import SettingsError, TrainingError

if TYPE_CHECKING:
    from werkmeister.bases.shape import Shape
    from werkmeister.building.settings import TrainSettings

EAGER_LENGTH = 512
"""Up to this length plain attention beats PyTorch's flash kernel on a CPU (measured, EXPERIMENTS.md)."""
_CPU_TOKENS = 4096
_CUDA_TOKENS = 8192
"""Tokens of one micro-batch, which bound the memory of activations."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The derived half of a run. `precision` is "nf4", "bf16", "fp16" or "fp32" for the frozen base; `compute` is the
    precision of the arithmetic; `micro_batch` × `accumulation` examples make one step; lengths in tokens. A step is
    computed in pieces of at most `tokens` tokens: `packed` into one row each, or padded to a multiple of `width_step`.
    `graphed`: the pieces run through CUDA graphs."""

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
    tokens: int
    packed: bool
    graphed: bool
    plan: MemoryPlan | None

    def words(self) -> str:
        """One line for the person."""
        return (
            f"{self.device}: base in {self.precision}, arithmetic in {self.compute}, {self.attention} attention, "
            + (
                f"rows of up to {self.tokens:,} tokens without padding"
                if self.packed
                else f"{self.micro_batch} × {self.accumulation} examples a step"
            )
            + (", activations recomputed" if self.checkpointing else "")
        )


def derive_recipe(
    *,
    settings: TrainSettings,
    shape: Shape,
    longest: int,
    context_length: int,
    mean_tokens: float,
    processes: int = 1,
) -> Recipe:
    """Choose device, precision and batches.

    `longest` is the longest example and `mean_tokens` the ordinary one, in tokens; `processes` share the examples of a
    step equally. Raises TrainingError when the longest does not fit the context, and SettingsError when a step cannot
    be shared out.
    """
    import torch

    if longest > context_length:
        raise TrainingError(
            f"the longest example has {longest} tokens, and the context of the base holds {context_length}",
            hint="set dataset.max_length, so that longer examples are left out and listed",
        )
    batch_size, micro_batch, precision = settings.batch_size, settings.micro_batch, settings.precision
    share = _share(batch_size, processes)
    cuda = torch.cuda.is_available()
    stored, compute = base_precision(precision, shape.architecture)
    fast = cuda and not is_sharded() and torch.cuda.get_device_capability()[0] >= 8
    packed = fast and compute != "fp32" and stored in ("nf4", compute)
    tokens = _CUDA_TOKENS if cuda else _CPU_TOKENS
    micro = micro_batch or max(1, min(share, tokens // longest))
    plan = None
    if packed:
        plan = plan_memory(
            shape,
            precision=stored,
            rank=settings.rank,
            targets=settings.targets,
            longest=longest,
            step_tokens=max(longest, micro_batch * longest or round(share * mean_tokens)),
            budget=settings.memory * 1e9 or torch.cuda.mem_get_info()[0],
        )
    micro = next(size for size in range(min(micro, share), 0, -1) if share % size == 0)
    return Recipe(
        device=torch.cuda.get_device_name() if cuda else "CPU",
        precision=stored,
        compute=compute,
        attention="packed flash" if packed else "sdpa" if cuda or longest > EAGER_LENGTH else "eager",
        micro_batch=micro,
        accumulation=share // micro,
        checkpointing=plan.checkpointing if plan else cuda,
        optimizer=best_optimizer(shape, rank=settings.rank, targets=settings.targets) if cuda else "adamw_torch_fused",
        max_length=longest,
        width_step=1 if cuda else width_step(longest),
        fuse=packed or (not cuda and stored != "nf4"),
        tokens=plan.tokens if plan else micro * longest,
        packed=packed,
        graphed=packed and processes == 1,
        plan=plan,
    )


def _share(batch_size: int, processes: int) -> int:
    """The examples of a step that each process learns from."""
    if batch_size % processes:
        raise SettingsError(
            f"train.batch_size = {batch_size} examples cannot be shared equally by {processes} processes",
            hint=f"--set train.batch_size={-(-batch_size // processes) * processes}",
        )
    return batch_size // processes


def width_step(longest: int) -> int:
    """What batches' lengths are rounded up to on a CPU, so that there are at most 32 of them.

    oneDNN compiles its products for every shape that it meets and keeps a thousand; with more shapes than that, old
    ones are thrown out and new ones made in the middle of a step's tensors for as long as the training lasts. These
    litter the heap: it grows, and finding room in it takes more time from step to step (EXPERIMENTS.md).
    """
    return 4 * -(-longest // 128)


def base_precision(wanted: str, architecture: str) -> tuple[str, str]:
    """The precision that the frozen base is stored in, and that of the arithmetic, on this machine."""
    import torch

    return _cuda_precision(wanted, architecture) if torch.cuda.is_available() else _cpu_precision(wanted)


def quantization_config(stored: str, compute: str, *, sharded: bool = False) -> Any:
    """The configuration of a base that is `stored` in NF4 (`bases.load.nf4`), None for one that is not."""
    from werkmeister.bases.load import nf4

    return nf4(torch_dtype(compute), sharded=sharded) if stored == "nf4" else None


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
