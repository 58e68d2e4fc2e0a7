"""What a training took of a GPU's memory, beside what was planned."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from werkmeister.building.pieces import Pieces
    from werkmeister.building.recipe import Recipe


class Card:
    """Readings of one run: sizes in bytes, as PyTorch's allocator counts them."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._loaded = 0

    def note_loaded(self) -> None:
        """The model stands in memory, and nothing else."""
        import torch

        if self._recipe.device != "CPU":
            self._loaded = torch.cuda.memory_allocated()

    def measures(self, pieces: Pieces) -> dict[str, Any]:
        """For the manifest: the readings, the plan, and every time that the memory ran out."""
        import torch

        found: dict[str, Any] = {"out_of_memory": pieces.halved} if pieces.halved else {}
        if self._recipe.device == "CPU":
            return found
        peaks = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        found |= {"gpu_loaded": self._loaded, "gpu_peak": peaks[0], "gpu_reserved": peaks[1]}
        if pieces.graphs is not None and pieces.graphs.failed:
            found["graphs_failed"] = pieces.graphs.failed
        if self._recipe.plan is not None:
            found["memory_plan"] = asdict(self._recipe.plan)
        return found
