"""LoRA on a CPU in one autograd function a layer: adapters stay in float32, arithmetic runs in the base's bfloat16.

PEFT's own forward casts the whole activation to the adapter's precision, which on a CPU halves the speed; keeping the
adapter in bfloat16 instead loses small updates. Here only the two small matrices are cast. The result is the same
function of the same parameters, so PEFT saves, loads and resumes as ever. Figures: EXPERIMENTS.md.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn


class _FrozenLinearWithLora(torch.autograd.Function):
    """y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ with gradients for x, A and B.

    Shapes: x (…, in), weight W (out, in) frozen, A (rank, in) and B (out, rank) in float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
        down, up = a.to(x.dtype), (b * scaling).to(x.dtype)
        rows = x.reshape(-1, x.shape[-1])
        low = rows @ down.t()
        y = rows @ weight.t()
        y.addmm_(low, up.t())
        ctx.save_for_backward(rows, weight, down, up, low)
        ctx.scaling, ctx.shape = scaling, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        rows, weight, down, up, low = ctx.saved_tensors
        dy = gradients[0].reshape(-1, gradients[0].shape[-1])
        d_low = dy @ up
        dx = None
        if ctx.needs_input_grad[0]:
            dx = dy @ weight
            dx.addmm_(d_low, down)
            dx = dx.view(ctx.shape)
        da = (d_low.t() @ rows).float()
        db = (dy.t() @ low).float().mul_(ctx.scaling)
        return dx, None, da, db, None


def fuse_lora(model: nn.Module) -> int:
    """Give every plain LoRA layer of a PEFT model the fused forward; returns how many were changed.

    Layers with dropout, a bias, several adapters, or a quantised base keep PEFT's own forward.
    """
    fused = 0
    for module in model.modules():
        if isinstance(module, LoraLinear) and _is_plain(module):
            # Instance attribute, not a patch of the class: other models in the process keep PEFT's forward.
            module.forward = _forward_of(module)
            fused += 1
    return fused


def _is_plain(layer: Any) -> bool:
    return (
        list(layer.lora_A) == ["default"]
        and isinstance(layer.lora_dropout["default"], nn.Identity)
        and type(layer.get_base_layer()) is nn.Linear
        and layer.get_base_layer().bias is None
        and not layer.use_dora.get("default", False)
    )


def _forward_of(layer: Any) -> Any:
    def forward(x: Tensor) -> Any:
        return _FrozenLinearWithLora.apply(  # type: ignore[no-untyped-call]
            x,
            layer.get_base_layer().weight,
            layer.lora_A["default"].weight,
            layer.lora_B["default"].weight,
            layer.scaling["default"],
        )

    return forward
