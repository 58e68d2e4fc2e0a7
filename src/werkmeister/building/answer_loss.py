"""The loss of answers in pieces: logits of some rows at a time, so that those of a whole step never stand in memory.

With a vocabulary of 49,152 the float32 logits of a step are 80 MB, and autograd holds several of that size: new memory
in every step, which the kernel clears page by page. Here each piece gives its share of the loss and of the gradient at
once, in the same two buffers. Figures: EXPERIMENTS.md. Loss and gradient in one pass over pieces are the idea of Hsu et
al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM Training".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_ROWS = 128
"""Rows of a piece: fewer would read the head's weights too often, more would leave the cache."""


class _LossInPieces(torch.autograd.Function):
    """scale × Σ −log softmax(logits)[label], with a gradient for `hidden` alone.

    Shapes: hidden (n, width), weight (vocabulary, width) frozen, labels (n,). Softmax and its sums are in float32,
    the two products in the precision of `hidden`.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, scale: Tensor, cap: float) -> Tensor:
        rows, words = min(_ROWS, len(labels)), len(weight)
        product = torch.empty(rows, words, dtype=hidden.dtype)
        wide = torch.empty(rows, words)
        total, gradient = torch.zeros(()), torch.empty_like(hidden)
        for start in range(0, len(labels), _ROWS):
            piece, wanted = hidden[start : start + _ROWS], labels[start : start + _ROWS, None]
            narrow = torch.mm(piece, weight.t(), out=product[: len(piece)])
            logits = wide[: len(piece)].copy_(narrow)
            slope = None
            if cap:
                logits.div_(cap).tanh_()
                slope = 1 - logits.square()
                logits.mul_(cap)
            norm = logits.logsumexp(1, keepdim=True)
            total += (norm - logits.gather(1, wanted)).sum()
            # From here on the buffer holds the gradient of the logits: softmax, less one at the label.
            logits.sub_(norm).exp_()
            logits.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=logits.dtype))
            if slope is not None:
                logits.mul_(slope)
            torch.mm(narrow.copy_(logits.mul_(scale)), weight, out=gradient[start : start + _ROWS])
        ctx.save_for_backward(gradient)
        return total * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0], None, None, None, None


def answer_loss(hidden: Tensor, head: nn.Module, labels: Tensor, count: Tensor, cap: float) -> Tensor:
    """Negative log-likelihood of `labels` (n,) after the states `hidden` (n, width), summed and divided by `count`.

    `cap` bends the logits to cap · tanh(logits / cap), as Gemma 2 does; 0 leaves them. A head that is no plain frozen
    linear layer without bias goes the ordinary way of PyTorch.
    """
    plain = type(head) is nn.Linear and head.bias is None and not head.weight.requires_grad
    if plain and hidden.requires_grad and len(labels):
        assert isinstance(head, nn.Linear)
        loss: Tensor = _LossInPieces.apply(hidden, head.weight, labels, 1 / count, cap)  # type: ignore[no-untyped-call]
        return loss
    logits = head(hidden).float()
    if cap:
        logits = cap * torch.tanh(logits / cap)
    return nn.functional.cross_entropy(logits, labels, reduction="sum") / count
