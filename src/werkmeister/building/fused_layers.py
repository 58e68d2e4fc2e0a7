"""What stands between a decoder layer's matrix products (norms, rotation, gate, sums), in few kernels.

Run one by one these steps move as many bytes as the products themselves cost time. Each group below is one autograd
function whose forward and backward are plain tensor expressions that `torch.compile` turns into a kernel or two; only
its inputs are kept for the backward pass. The compiled kernels lie in PyTorch's cache on the disk, so a second run
does not compile. Without a compiler the same expressions run as they stand. Frozen norm weights get no gradient.

Rows (T tokens) may change from call to call; widths are fixed.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from werkmeister.building.packing import varlen

Forward = Callable[..., Any]
_LIKE_LLAMA = ("Llama", "Qwen2", "Qwen3", "Mistral")
_LIKE_GEMMA = ("Gemma3",)


def fuse_layers(model: nn.Module) -> int:
    """Give decoder layers of known families the fused forward for packed rows; returns how many were changed.

    A call without the lengths of a packed row (generation, padded batches) takes the layer's own forward.
    """
    changed = 0
    for layer in model.modules():
        kind = type(layer).__name__.removesuffix("DecoderLayer")
        if kind == type(layer).__name__ or kind not in _LIKE_LLAMA + _LIKE_GEMMA or not _is_plain(layer):
            continue
        # Instance attribute, not a patch of the class: other models in the process keep their forward.
        layer.forward = _forward_of(layer, gemma=kind in _LIKE_GEMMA)
        changed += 1
    return changed


def _is_plain(layer: Any) -> bool:
    act = getattr(layer.mlp, "act_fn", None)
    frozen = all(not p.requires_grad for name, p in layer.named_parameters() if "norm" in name)
    return frozen and _activation(act) is not None and not getattr(layer.self_attn, "attn_logit_softcapping", None)


def _activation(act: Any) -> str | None:
    name = type(act).__name__
    if isinstance(act, nn.SiLU) or name in ("SiLU", "SiLUActivation"):
        return "silu"
    return "gelu" if name in ("GELUTanh", "PytorchGELUTanh") else None


def _forward_of(layer: Any, *, gemma: bool) -> Forward:
    own = layer.forward
    attention, mlp = layer.self_attn, layer.mlp
    act = str(_activation(mlp.act_fn))

    def forward(hidden_states: Tensor, *args: Any, **more: Any) -> Any:
        ends = more.get("cu_seq_lens_q")
        if ends is None or more.get("past_key_values") is not None:
            return own(hidden_states, *args, **more)
        x = hidden_states[0]
        first = layer.input_layernorm
        heads = _attend(attention, _Norm.apply(x, first.weight, _eps(first), gemma), ends, gemma=gemma, **more)
        if gemma:
            after, before = layer.post_attention_layernorm, layer.pre_feedforward_layernorm
            h, z = _NormAddNorm.apply(x, heads, after.weight, before.weight, _eps(after), gemma)
            out = mlp.down_proj(_Gate.apply(mlp.gate_proj(z), mlp.up_proj(z), act))
            last = layer.post_feedforward_layernorm
            return _NormAdd.apply(h, out, last.weight, _eps(last), gemma)[None]
        after = layer.post_attention_layernorm
        h, z = _AddNorm.apply(x, heads, after.weight, _eps(after), gemma)
        return (h + mlp.down_proj(_Gate.apply(mlp.gate_proj(z), mlp.up_proj(z), act)))[None]

    return forward


def _attend(
    attention: Any,
    x: Tensor,
    ends: Tensor,
    *,
    gemma: bool,
    position_embeddings: tuple[Tensor, Tensor],
    max_length_q: int,
    **_: Any,
) -> Any:
    width = attention.head_dim
    q, k, v = (layer(x).view(len(x), -1, width) for layer in (attention.q_proj, attention.k_proj, attention.v_proj))
    cos, sin = (part[0] for part in position_embeddings)
    norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
    weights = [norm.weight if norm is not None else None for norm in norms]
    eps = _eps(norms[0]) if norms[0] is not None else 0.0
    q, k = _Turn.apply(q, k, *weights, cos, sin, eps, gemma)
    dropout = attention.attention_dropout if attention.training else 0.0
    window = getattr(attention, "sliding_window", None)
    heads = varlen(q, k, v, ends, max_length_q, scale=attention.scaling, dropout=dropout, window=window)
    return attention.o_proj(heads.reshape(len(x), -1))


def _eps(norm: Any) -> float:
    return float(getattr(norm, "eps", None) or norm.variance_epsilon)


@functools.cache
def compiled(function: Forward) -> Forward:
    """The function through Inductor where a GPU and its compiler (Triton) are there, else as it stands."""
    try:
        importlib.import_module("triton")
    except ImportError:
        return function
    return torch.compile(function)


def _run(function: Forward, rows: tuple[Tensor, ...], *more: Any) -> Any:
    if not rows[0].is_cuda:
        return function(*rows, *more)
    for tensor in rows:
        torch._dynamo.mark_dynamic(tensor, 0)
    return compiled(function)(*rows, *more)


def _normed(x: Tensor, weight: Tensor, eps: float, gemma: bool) -> Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return wide * (1.0 + weight.float()) if gemma else weight.float() * wide


def _norm_back(dy: Tensor, x: Tensor, weight: Tensor, eps: float, gemma: bool) -> Tensor:
    wide = x.float()
    slope = dy.float() * ((1.0 + weight.float()) if gemma else weight.float())
    r = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return r * slope - wide * (r * r * r) * (wide * slope).mean(-1, keepdim=True)


def _norm(x: Tensor, weight: Tensor, eps: float, gemma: bool) -> Tensor:
    return _normed(x, weight, eps, gemma).to(x.dtype)


def _d_norm(dy: Tensor, x: Tensor, weight: Tensor, eps: float, gemma: bool) -> Tensor:
    return _norm_back(dy, x, weight, eps, gemma).to(x.dtype)


class _Function(torch.autograd.Function):
    """With the types that PyTorch's own apply lacks."""

    apply: ClassVar[Callable[..., Any]]


class _Norm(_Function):
    """RMSNorm of x (T, width)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, gemma: bool) -> Any:
        ctx.save_for_backward(x, weight)
        ctx.more = eps, gemma
        return _run(_norm, (x,), weight, eps, gemma)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return _run(_d_norm, (gradients[0], x), weight, *ctx.more), None, None, None


def _norm_add_norm(x: Tensor, y: Tensor, after: Tensor, before: Tensor, eps: float, gemma: bool) -> Any:
    h = (x.float() + _normed(y, after, eps, gemma)).to(x.dtype)
    return h, _norm(h, before, eps, gemma)


def _d_norm_add_norm(
    dh: Tensor, dz: Tensor, h: Tensor, y: Tensor, after: Tensor, before: Tensor, eps: float, gemma: bool
) -> Any:
    dx = dh.float() + _norm_back(dz, h, before, eps, gemma)
    return dx.to(h.dtype), _norm_back(dx, y, after, eps, gemma).to(y.dtype)


class _NormAddNorm(_Function):
    """h = x + norm(y), z = norm(h): between attention and MLP of Gemma 3."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, after: Tensor, before: Tensor, eps: float, gemma: bool) -> Any:
        h, z = _run(_norm_add_norm, (x, y), after, before, eps, gemma)
        ctx.save_for_backward(h, y, after, before)
        ctx.more = eps, gemma
        return h, z

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        h, y, after, before = ctx.saved_tensors
        dx, dy = _run(_d_norm_add_norm, (*gradients, h, y), after, before, *ctx.more)
        return dx, dy, None, None, None, None


def _norm_add(x: Tensor, y: Tensor, weight: Tensor, eps: float, gemma: bool) -> Tensor:
    return (x.float() + _normed(y, weight, eps, gemma)).to(x.dtype)


class _NormAdd(_Function):
    """x + norm(y): the end of a layer of Gemma 3."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor, eps: float, gemma: bool) -> Any:
        ctx.save_for_backward(y, weight)
        ctx.more = eps, gemma
        return _run(_norm_add, (x, y), weight, eps, gemma)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        y, weight = ctx.saved_tensors
        return gradients[0], _run(_d_norm, (gradients[0], y), weight, *ctx.more), None, None, None


def _add_norm(x: Tensor, y: Tensor, weight: Tensor, eps: float, gemma: bool) -> Any:
    h = x + y
    return h, _norm(h, weight, eps, gemma)


def _d_add_norm(dh: Tensor, dz: Tensor, h: Tensor, weight: Tensor, eps: float, gemma: bool) -> Tensor:
    return (dh.float() + _norm_back(dz, h, weight, eps, gemma)).to(h.dtype)


class _AddNorm(_Function):
    """h = x + y, z = norm(h): between attention and MLP of Llama and relatives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor, eps: float, gemma: bool) -> Any:
        h, z = _run(_add_norm, (x, y), weight, eps, gemma)
        ctx.save_for_backward(h, weight)
        ctx.more = eps, gemma
        return h, z

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        h, weight = ctx.saved_tensors
        dx = _run(_d_add_norm, (*gradients, h), weight, *ctx.more)
        return dx, dx, None, None, None


def _acted(gate: Tensor, act: str) -> Tensor:
    if act == "gelu":
        return nn.functional.gelu(gate, approximate="tanh")
    return nn.functional.silu(gate)


def _gate(gate: Tensor, up: Tensor, act: str) -> Tensor:
    return (_acted(gate.float(), act) * up.float()).to(gate.dtype)


def _d_gate(d: Tensor, gate: Tensor, up: Tensor, act: str) -> Any:
    wide, slope = gate.float(), d.float()
    if act == "gelu":
        t = torch.tanh(_ROOT * (wide + _CUBE * wide * wide * wide))
        value = 0.5 * wide * (1 + t)
        turn = 0.5 * (1 + t) + 0.5 * wide * (1 - t * t) * _ROOT * (1 + 3 * _CUBE * wide * wide)
    else:
        s = torch.sigmoid(wide)
        value, turn = wide * s, s * (1 + wide * (1 - s))
    return (slope * up.float() * turn).to(gate.dtype), (slope * value).to(up.dtype)


_ROOT, _CUBE = 0.7978845608028654, 0.044715
"""√(2/π) and the cubic's factor of the tanh form of GELU (Hendrycks and Gimpel 2016)."""


class _Gate(_Function):
    """act(gate) · up, elementwise over (T, inner)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, act: str) -> Any:
        ctx.save_for_backward(gate, up)
        ctx.act = act
        return _run(_gate, (gate, up), act)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return *_run(_d_gate, (gradients[0], *ctx.saved_tensors), ctx.act), None


def _half(x: Tensor, sign: float) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat((-sign * b, sign * a), dim=-1)


def _turned(x: Tensor, cos: Tensor, sin: Tensor, weight: Tensor | None, eps: float, gemma: bool) -> Tensor:
    wide = _normed(x, weight, eps, gemma) if weight is not None else x.float()
    return (wide * cos[:, None].float() + _half(wide, 1.0) * sin[:, None].float()).to(x.dtype)


def _d_turned(d: Tensor, x: Tensor, cos: Tensor, sin: Tensor, weight: Tensor | None, eps: float, gemma: bool) -> Tensor:
    slope = d.float() * cos[:, None].float() + _half(d.float() * sin[:, None].float(), -1.0)
    return (_norm_back(slope, x, weight, eps, gemma) if weight is not None else slope).to(x.dtype)


def _turn(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, wq: Tensor | None, wk: Tensor | None, eps: float, gemma: bool
) -> Any:
    return _turned(q, cos, sin, wq, eps, gemma), _turned(k, cos, sin, wk, eps, gemma)


def _d_turn(
    dq: Tensor,
    dk: Tensor,
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    wq: Tensor | None,
    wk: Tensor | None,
    eps: float,
    gemma: bool,
) -> Any:
    return _d_turned(dq, q, cos, sin, wq, eps, gemma), _d_turned(dk, k, cos, sin, wk, eps, gemma)


class _Turn(_Function):
    """Norm (where the family has one) and rotary position of q (T, heads, width) and k (T, key heads, width)."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        wq: Tensor | None,
        wk: Tensor | None,
        cos: Tensor,
        sin: Tensor,
        eps: float,
        gemma: bool,
    ) -> Any:
        ctx.save_for_backward(q, k, cos, sin, wq, wk)
        ctx.more = eps, gemma
        return _run(_turn, (q, k, cos, sin), wq, wk, eps, gemma)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        q, k, cos, sin, wq, wk = ctx.saved_tensors
        dq, dk = _run(_d_turn, (*gradients, q, k, cos, sin), wq, wk, *ctx.more)
        return dq, dk, None, None, None, None, None, None
