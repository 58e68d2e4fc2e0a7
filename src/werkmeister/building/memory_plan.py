"""What a training holds in a GPU's memory, told from the model's shape before it starts, and how to fit the card.

The sums follow what the code keeps: the frozen weights as stored, the adapters, for each token of a row what every
layer keeps for the backward pass, and what one layer holds while it is computed backwards. Against
`torch.cuda.max_memory_allocated`: EXPERIMENTS.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from werkmeister.building.estimate import adapter_parameters

if TYPE_CHECKING:
    from werkmeister.bases.shape import Shape

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""A weight in NF4 with double quantisation: four bits, a byte for 64 weights, and four for 256 of those bytes."""
MOST_TOKENS = 8192
"""Tokens of a row at most. Longer ones were faster without CUDA graphs (EXPERIMENTS.md); with them: not measured."""
_CONTEXT = 0.6e9
"""Beside the tensors: CUDA's context, kernels, and what the allocator keeps in reserve, roughly."""
_LARGE_ADAPTER = 25_000_000
"""Weights from which Adam's moments go into 8 bits in paged memory: below, float32 moments cost at most 200 MB and
their one fused kernel saves a hundred launches a step."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """How a training keeps to a budget; sizes in bytes.

    `tokens` of a row are computed at once. `loaded` is the base alone, `training` and `evaluation` the most that
    tensors take then; `fits` says whether `training` and the context of CUDA stay within the budget.
    """

    tokens: int
    checkpointing: bool
    optimizer: str
    loaded: float
    training: float
    evaluation: float
    fits: bool


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    fixed: float
    kept: float
    kept_checkpointed: float
    layer: float
    loss: float
    evaluation: float


def plan_memory(
    shape: Shape,
    *,
    precision: str,
    rank: int,
    targets: Sequence[str],
    longest: int,
    step_tokens: int,
    budget: float,
) -> MemoryPlan:
    """The fastest way to train within `budget` bytes of a GPU.

    `longest` is the longest example and `step_tokens` a whole step, in tokens. Activations are recomputed only when
    rows of a full step (or of MOST_TOKENS) would not fit otherwise; where not even the longest example fits, the plan
    for it comes back with `fits` false.
    """
    optimizer = best_optimizer(shape, rank=rank, targets=targets)
    wanted = max(longest, min(MOST_TOKENS, step_tokens))
    room = budget - _CONTEXT
    for checkpointing in (False, True):
        tokens = wanted
        while tokens > longest and training_bytes(shape, tokens, checkpointing, precision, rank, targets) > room:
            tokens = max(longest, tokens - 256)
        # A short row without recomputation reads the weights more often than recomputation costs.
        if tokens >= wanted or checkpointing:
            break
    peak = training_bytes(shape, tokens, checkpointing, precision, rank, targets)
    sizes = _sizes(shape, precision, rank, targets)
    return MemoryPlan(
        tokens=tokens,
        checkpointing=checkpointing,
        optimizer=optimizer,
        loaded=loaded_bytes(shape, precision),
        training=peak,
        evaluation=sizes.fixed + tokens * sizes.evaluation + 128 * 14.0 * shape.vocabulary,
        fits=peak <= room,
    )


def training_bytes(
    shape: Shape, tokens: int, checkpointing: bool, precision: str, rank: int, targets: Sequence[str]
) -> float:
    """The most that the tensors of a training take with rows of `tokens` tokens.

    It is reached either in the backward pass of one layer, or in the loss, when nothing of a layer stands in memory.
    """
    sizes = _sizes(shape, precision, rank, targets)
    kept = sizes.kept_checkpointed if checkpointing else sizes.kept
    return sizes.fixed + tokens * kept + max(tokens * sizes.layer, sizes.loss)


def loaded_bytes(shape: Shape, precision: str) -> float:
    """The base as it stands in memory: its linear layers as stored, the rest in 16 bits (32 where all is)."""
    linear = _linear(shape) * shape.layers
    wide = 4 if precision == "fp32" else 2
    return linear * (NF4_BYTES if precision == "nf4" else wide) + (shape.parameters - linear) * wide


def best_optimizer(shape: Shape, *, rank: int, targets: Sequence[str]) -> str:
    """transformers' name of the AdamW for an adapter of this size on a GPU."""
    large = adapter_parameters(shape, rank=rank, targets=targets) > _LARGE_ADAPTER
    return "paged_adamw_8bit" if large else "adamw_torch_fused"


def loss_rows(words: int) -> int:
    """Rows of logits of so many words that the loss holds at once: about 128 MB in 16 bits, beside their gradient."""
    return max(64, min(1024, (1 << 26) // words // 64 * 64))


def _linear(shape: Shape) -> int:
    queries, keys = shape.heads * shape.head_width, shape.key_heads * shape.head_width
    return shape.width * (2 * queries + 2 * keys + 3 * shape.inner)


def _sizes(shape: Shape, precision: str, rank: int, targets: Sequence[str]) -> _Sizes:
    wide = 4 if precision == "fp32" else 2
    queries, keys = shape.heads * shape.head_width, shape.key_heads * shape.head_width
    attention = 5 * shape.width + 3 * queries + 3 * keys
    inner = 2 * shape.inner
    if "all-linear" in targets or any(name.split("_")[0] in ("gate", "up", "down") for name in targets):
        inner += shape.inner + shape.width  # Their adapters need their inputs.
    layer = wide * (attention + inner)
    adapter = adapter_parameters(shape, rank=rank, targets=targets)
    moments = 8 if best_optimizer(shape, rank=rank, targets=targets) == "adamw_torch_fused" else 0
    # Weights and gradients in float32, and one matrix of the base written out.
    fixed = loaded_bytes(shape, precision) + adapter * (8 + moments) + wide * shape.width * shape.inner
    ends = 2 * wide * shape.width  # The last states and their gradient.
    return _Sizes(
        fixed=fixed,
        kept=shape.layers * layer + ends,
        kept_checkpointed=shape.layers * wide * shape.width + ends,
        layer=layer + wide * 3 * shape.inner,
        loss=2.0 * 2 * loss_rows(shape.vocabulary) * shape.vocabulary,
        evaluation=wide * (3 * shape.inner + 8 * shape.width),
    )
