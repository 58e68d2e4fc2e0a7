"""Examples of a step one behind the other in one row, without padding and without attention across them.

The positions restart at every example, and the attention is told where each begins. Where PyTorch's own flash kernel
runs (16 bits, Ampere and later) one call does all examples of the row; elsewhere each example is one call of SDPA.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

ATTENTION = "werkmeister_packed"
"""Name under which transformers finds the attention; without the lengths of a packed row it is SDPA."""


def divide(lengths: Sequence[int], tokens: int, *, packed: bool) -> list[slice]:
    """Neighbouring examples of a step in pieces of at most `tokens` tokens each, one example at least.

    Packed, a piece holds the sum of its lengths; padded, its longest length times its number.
    """
    pieces: list[slice] = []
    start = total = longest = 0
    for index, length in enumerate(lengths):
        total, longest = total + length, max(longest, length)
        size = total if packed else longest * (index + 1 - start)
        if size > tokens and index > start:
            pieces.append(slice(start, index))
            start, total, longest = index, length, length
    return [*pieces, slice(start, len(lengths))]


def pack(batch: Mapping[str, Tensor], lengths: Sequence[int]) -> dict[str, Any]:
    """One row of a padded batch: tensors (n, width) become (1, sum of lengths), and the model learns where each begins.

    Labels of first tokens are masked: nothing in front of them predicts them.
    """
    row: dict[str, Any] = {
        name: torch.cat([values[i, :length] for i, length in enumerate(lengths)])[None]
        for name, values in batch.items()
        if name != "attention_mask"
    }
    ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    row["labels"][0, ends[:-1].long()] = -100
    row["position_ids"] = torch.cat([torch.arange(length) for length in lengths])[None]
    # Four dimensions: transformers takes it for a finished mask and builds none; our attention does not look at it.
    row["attention_mask"] = torch.zeros(1, 1, 1, 1, dtype=torch.bool)
    row |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends}
    return row | {"max_length_q": max(lengths), "max_length_k": max(lengths)}


def register_attention() -> str:
    """Make the attention known to transformers; returns the name to load a model with."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(ATTENTION, packed_attention)
    AttentionMaskInterface.register(ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    return ATTENTION


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attention of transformers' interface: query (1, heads, T, width) to output (1, T, heads, width)."""
    if cu_seq_lens_q is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        more |= {"dropout": dropout, "scaling": scaling}
        plain: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **more)
        return plain
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return varlen(q, k, v, cu_seq_lens_q, max_length_q, scale=scale, dropout=dropout, window=sliding_window)[None], None


def varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ends: Tensor,
    longest: int,
    *,
    scale: float,
    dropout: float = 0.0,
    window: int | None = None,
) -> Tensor:
    """Causal attention inside each example: q (T, heads, width), k and v (T, key heads, width), `ends` (n + 1).

    `window`: a token sees itself and the window − 1 before it.
    """
    cut = window is not None and window < longest
    if flash_runs(q):
        # The op behind torch.nn.attention.varlen, whose own arguments changed between PyTorch 2.10 and 2.13.
        left = window - 1 if window is not None and cut else None
        answer: Tensor = torch.ops.aten._flash_attention_forward(
            *(q, k, v, ends, ends, longest, longest, dropout, not cut, False),
            **{"scale": scale, "window_size_left": left, "window_size_right": 0 if cut else None},
        )[0]
        return answer
    outputs = []
    bounds = ends.tolist()
    for start, end in itertools.pairwise(bounds):
        own_q, own_k, own_v = (states[start:end].transpose(0, 1)[None] for states in (q, k, v))
        mask = None
        if cut and window is not None:
            place = torch.arange(end - start, device=q.device)
            apart = place[:, None] - place[None]
            mask = (apart >= 0) & (apart < window)
        outputs.append(
            nn.functional.scaled_dot_product_attention(
                own_q,
                own_k,
                own_v,
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=mask is None,
                scale=scale,
                enable_gqa=True,
            )[0].transpose(0, 1)
        )
    return torch.cat(outputs)


def flash_runs(states: Tensor) -> bool:
    """Whether PyTorch's flash kernel takes these states (T, heads, width): 16 bits, Ampere or later, width to 256."""
    return (
        states.is_cuda
        and states.dtype in (torch.bfloat16, torch.float16)
        and states.shape[-1] <= 256
        and torch.cuda.get_device_capability(states.device)[0] >= 8
    )
