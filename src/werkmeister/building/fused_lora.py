"""LoRA in one autograd function a layer: adapters stay in float32, arithmetic runs in the 16 bits of the base.

PEFT's own forward casts the whole activation to the adapter's precision, which on a CPU halves the speed; keeping the
adapter in bfloat16 instead loses small updates. Here only the two small matrices are cast. A base in NF4 is written
out for the product and forgotten, in the forward and again in the backward pass. The result is the same function of the
same parameters, so PEFT saves, loads and resumes as ever. Figures: EXPERIMENTS.md.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn


class _FrozenLinearWithLora(torch.autograd.Function):
    """y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ with gradients for x, A and B.

    Shapes: x (…, in), W (out, in) the frozen weight of `base`, A (rank, in) and B (out, rank) in float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: nn.Module, a: Tensor, b: Tensor, scaling: float) -> Tensor:
        down, up = a.to(x.dtype), (b * scaling).to(x.dtype)
        rows = x.reshape(-1, x.shape[-1])
        low = rows @ down.t()
        y = rows @ _weight(base, x.dtype).t()
        y.addmm_(low, up.t())
        ctx.save_for_backward(rows, down, up, low)
        ctx.scaling, ctx.shape, ctx.base = scaling, x.shape, base
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        rows, down, up, low = ctx.saved_tensors
        dy = gradients[0].reshape(-1, gradients[0].shape[-1])
        d_low = dy @ up
        dx = None
        if ctx.needs_input_grad[0]:
            dx = dy @ _weight(ctx.base, dy.dtype)
            dx.addmm_(d_low, down)
            dx = dx.view(ctx.shape)
        da = (d_low.t() @ rows).float()
        db = (dy.t() @ low).float().mul_(ctx.scaling)
        return dx, None, da, db, None


def fuse_lora(model: nn.Module) -> int:
    """Give every plain LoRA layer of a PEFT model the fused forward; returns how many were changed.

    Layers with dropout, a bias or several adapters keep PEFT's own forward, and so does NF4 where nothing is learnt:
    an answer's single tokens have kernels of their own.
    """
    fused = 0
    for module in model.modules():
        if isinstance(module, LoraLayer) and _is_plain(module):
            # Instance attribute, not a patch of the class: other models in the process keep PEFT's forward.
            module.forward = _forward_of(module)
            fused += 1
    return fused


def _is_plain(layer: Any) -> bool:
    return (
        list(layer.lora_A) == ["default"]
        and isinstance(layer.lora_dropout["default"], nn.Identity)
        and (type(layer.get_base_layer()) is nn.Linear or _in_nf4(layer.get_base_layer()))
        and layer.get_base_layer().bias is None
        and not layer.use_dora.get("default", False)
    )


def _in_nf4(base: nn.Module) -> bool:
    return type(base).__name__ == "Linear4bit" and getattr(base.weight, "quant_state", None) is not None


def _weight(base: nn.Module, dtype: torch.dtype) -> Tensor:
    """The frozen weight (out, in) in the precision of the activations."""
    weight: Any = base.weight
    if getattr(weight, "quant_state", None) is None:
        return weight.detach()  # type: ignore[no-any-return]
    from bitsandbytes.functional import dequantize_4bit

    written: Tensor = dequantize_4bit(weight.data, weight.quant_state).to(dtype)
    return written


def _forward_of(layer: Any) -> Any:
    own, quantised = layer.forward, _in_nf4(layer.get_base_layer())

    def forward(x: Tensor) -> Any:
        if quantised and not torch.is_grad_enabled():
            return own(x)
        return _FrozenLinearWithLora.apply(  # type: ignore[no-untyped-call]
            x,
            layer.get_base_layer(),
            layer.lora_A["default"].weight,
            layer.lora_B["default"].weight,
            layer.scaling["default"],
        )

    return forward
