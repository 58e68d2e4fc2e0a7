"""The loss of answers in pieces: logits of some rows at a time, so that those of a whole step never stand in memory.

With a vocabulary of 49,152 the float32 logits of a step are 80 MB, and autograd holds several of that size: new memory
in every step, which the kernel clears page by page. Here each piece gives its share of the loss and of the gradient at
once, in two buffers that last as long as the training. Figures: EXPERIMENTS.md. Loss and gradient in one pass over
pieces are the idea of Hsu et al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM Training".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from werkmeister.building.fused_layers import compiled
from werkmeister.building.memory_plan import loss_rows

Buffers = tuple[Tensor, Tensor]
_ROWS = 128
"""Rows of a piece: fewer would read the head's weights too often, more would leave the cache."""
_STEP = 32
"""Rows are filled up to a multiple of this: oneDNN compiles a product for every shape that it meets, and keeps it."""


class _LossInPieces(torch.autograd.Function):
    """scale × Σ −log softmax(logits)[label], with a gradient for `hidden` alone.

    Shapes: hidden (n, width), weight (vocabulary, width) frozen, labels (n,). Softmax and its sums are in float32,
    the two products in the precision of `hidden`.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, scale: Tensor, cap: float, buffers: Buffers
    ) -> Tensor:
        product, wide = buffers
        count, more = len(labels), -len(labels) % _STEP
        states = nn.functional.pad(hidden, (0, 0, 0, more))
        wanted = nn.functional.pad(labels, (0, more))[:, None]
        # Rows that only fill up weigh nothing, in the loss and in the gradient.
        weights = nn.functional.pad(scale.to(torch.float32).expand(count), (0, more))[:, None]
        total, gradient = torch.zeros(()), torch.empty_like(states)
        for start in range(0, count, _ROWS):
            rows = slice(start, start + _ROWS)
            narrow = torch.mm(states[rows], weight.t(), out=product[: len(states[rows])])
            logits = wide[: len(narrow)].copy_(narrow)
            slope = None
            if cap:
                logits.div_(cap).tanh_()
                slope = 1 - logits.square()
                logits.mul_(cap)
            norm = logits.logsumexp(1, keepdim=True)
            total += ((norm - logits.gather(1, wanted[rows])) * weights[rows]).sum()
            # From here on the buffer holds the gradient of the logits: softmax, less one at the label.
            logits.sub_(norm).exp_()
            logits.scatter_add_(1, wanted[rows], torch.full_like(norm, -1.0))
            if slope is not None:
                logits.mul_(slope)
            torch.mm(narrow.copy_(logits.mul_(weights[rows])), weight, out=gradient[rows])
        ctx.save_for_backward(gradient[:count])
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0], None, None, None, None, None


class _LossOnGpu(torch.autograd.Function):
    """The same sum on a GPU: each piece's softmax, loss and gradient in a few kernels."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, scale: Tensor, cap: float) -> Tensor:
        rows = loss_rows(len(weight))
        more = -len(labels) % rows
        states = nn.functional.pad(hidden, (0, 0, 0, more))
        wanted = nn.functional.pad(labels, (0, more))[:, None]
        weights = nn.functional.pad(scale.to(torch.float32).expand(len(labels)), (0, more))[:, None]
        total, gradient = torch.zeros((), device=hidden.device), torch.empty_like(states)
        step = compiled(_piece)
        for start in range(0, len(states), rows):
            part = slice(start, start + rows)
            loss, slope = step(states[part] @ weight.t(), wanted[part], weights[part], cap)
            total += loss
            torch.mm(slope, weight, out=gradient[part])
        ctx.save_for_backward(gradient[: len(labels)])
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0].to(gradient.dtype), None, None, None, None


def _piece(logits: Tensor, wanted: Tensor, weights: Tensor, cap: float) -> tuple[Tensor, Tensor]:
    """Weighted loss of rows of logits (n, vocabulary) in 16 bits, and its gradient by them."""
    wide = logits.float()
    bent = torch.tanh(wide / cap) if cap else wide
    wide = bent * cap if cap else wide
    norm = wide.logsumexp(1, keepdim=True)
    loss = ((norm - wide.gather(1, wanted)) * weights).sum()
    hit = torch.arange(logits.shape[1], device=logits.device)[None] == wanted
    slope = ((wide - norm).exp() - hit.to(torch.float32)) * weights
    if cap:
        slope = slope * (1 - bent * bent)
    return loss, slope.to(logits.dtype)


class AnswerLoss:
    """Negative log-likelihood of answers; one for a training, since it keeps its buffers."""

    def __init__(self) -> None:
        self._buffers: Buffers | None = None

    def __call__(
        self,
        hidden: Tensor,
        head: nn.Module,
        labels: Tensor,
        count: Tensor,
        cap: float,
        weights: Tensor | None = None,
    ) -> Tensor:
        """The loss of `labels` (n,) after the states `hidden` (n, width), summed and divided by `count`.

        With `weights` (n,) each label counts so many times, and `count` is the sum of all weights of the step.
        `cap` bends the logits to cap · tanh(logits / cap), as Gemma 2 does; 0 leaves them. A head that is no plain
        frozen linear layer without bias goes the ordinary way of PyTorch.
        """
        if not hidden.requires_grad and len(labels) > _ROWS:
            # An evaluation: no gradient, and no more logits at once than in training.
            rows = [slice(i, i + _ROWS) for i in range(0, len(labels), _ROWS)]
            parts = [
                self(hidden[r], head, labels[r], count, cap, None if weights is None else weights[r]) for r in rows
            ]
            return torch.stack(parts).sum()
        plain = type(head) is nn.Linear and head.bias is None and not head.weight.requires_grad
        scale = (1 if weights is None else weights) / count
        if plain and hidden.is_cuda and hidden.requires_grad and len(labels):
            assert isinstance(head, nn.Linear)
            if hidden.dtype != head.weight.dtype:
                hidden = hidden.to(head.weight.dtype)
            on_gpu: Tensor = _LossOnGpu.apply(hidden, head.weight, labels, scale, cap)  # type: ignore[no-untyped-call]
            return on_gpu
        if plain and hidden.device.type == "cpu" and hidden.requires_grad and len(labels):
            assert isinstance(head, nn.Linear)
            if self._buffers is None:
                words = len(head.weight)
                # Made anew in every step they would scatter the heap, which then grows (EXPERIMENTS.md).
                self._buffers = torch.empty(_ROWS, words, dtype=hidden.dtype), torch.empty(_ROWS, words)
            arguments = (hidden, head.weight, labels, scale, cap, self._buffers)
            loss: Tensor = _LossInPieces.apply(*arguments)  # type: ignore[no-untyped-call]
            return loss
        logits = head(hidden).float()
        if cap:
            logits = cap * torch.tanh(logits / cap)
        if weights is None:
            return nn.functional.cross_entropy(logits, labels, reduction="sum") / count
        return (nn.functional.cross_entropy(logits, labels, reduction="none") * weights).sum() / count
