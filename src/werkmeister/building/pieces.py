"""A step's examples computed in pieces that fit the memory, smaller ones when it runs out.

The Trainer hands over the whole step. So a step that ran out of memory is simply made again in smaller pieces: its
gradients are thrown away first, no example is seen twice or skipped, and no checkpoint is needed. Not caught is what
runs out in the optimizer's own step: it may have moved some weights by then, and cannot be made again.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from werkmeister.building.packing import divide, pack
from werkmeister.errors import MachineError

_T = TypeVar("_T")


class Pieces:
    """Divides batches into pieces of at most `tokens` tokens, and halves that when the memory runs out.

    `packed` pieces are rows without padding; others are padded to a multiple of `width_step`. `halved` holds the step
    and the tokens of each halving; `graphs` is the GraphedDecoder that runs the pieces, where one does.
    """

    def __init__(self, *, tokens: int, packed: bool, width_step: int = 1) -> None:
        self.tokens, self.packed = tokens, packed
        self.halved: list[dict[str, int]] = []
        self._width_step = width_step
        self.graphs: Any = None

    def of(self, batch: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        """The pieces of a padded batch (examples, width), in order."""
        lengths = batch["attention_mask"].sum(1).tolist()
        found: list[dict[str, Any]] = []
        for part in self._parts(lengths):
            own = {name: values[part] for name, values in batch.items()}
            if self.packed:
                found.append(pack(own, lengths[part]))
            else:
                width = -(-max(lengths[part]) // self._width_step) * self._width_step
                found.append({name: values[:, :width] for name, values in own.items()})
        return found

    def without_running_out(
        self, step: int, batch: Mapping[str, Tensor], work: Callable[[], _T], *, clear: Callable[[], None] | None = None
    ) -> _T:
        """The result of `work`, made again in smaller pieces when it ran out of memory.

        `clear` drops what a failed attempt left. Raises MachineError when a single example does not fit.
        """
        while True:
            try:
                return work()
            except (MemoryError, RuntimeError) as error:
                if not ran_out_of_memory(error):
                    raise
            # Outside of the handler: its traceback keeps the tensors of the failed attempt alive.
            if clear is not None:
                clear()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._shrink(step, batch)

    def _parts(self, lengths: list[int]) -> list[slice]:
        """Slices of about equal size: the last piece of a step would otherwise be any size, and waste its filling."""
        parts = divide(lengths, self.tokens, packed=self.packed)
        if not self.packed or len(parts) == 1:
            return parts
        even = -(-sum(lengths) // len(parts))
        tokens = min(self.tokens, even + max(lengths) // 2)
        better = divide(lengths, tokens, packed=True)
        return better if len(better) == len(parts) else parts

    def _shrink(self, step: int, batch: Mapping[str, Tensor]) -> None:
        lengths = batch["attention_mask"].sum(1).tolist()
        if len(self._parts(lengths)) == len(lengths):
            raise MachineError(
                f"the memory does not hold a single example of {max(lengths)} tokens in training",
                hint="leave longer examples out (dataset.max_length), choose a smaller base, or close what else "
                "uses the memory",
            )
        most = sum(lengths) if self.packed else max(lengths) * len(lengths)
        self.tokens = max(1, min(self.tokens, most) // 2)
        self.halved.append({"step": step, "tokens": self.tokens})
        if self.graphs is not None:
            self.graphs.limit(self.tokens)


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised upon, tells that the memory ran out."""
    while error is not None:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in str(error) for words in _SAYINGS):
            return True
        error = error.__cause__ or error.__context__
    return False


_SAYINGS = ("can't allocate memory", "not enough memory", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How PyTorch's allocator for the CPU, its Windows form, and CUDA's libraries tell that the memory ran out."""
