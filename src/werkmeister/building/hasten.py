"""Gives a trainer's model the forwards that cost least on its device; the function that is trained stays the same."""

from __future__ import annotations

import os
from typing import Any

from werkmeister.bases.find import models_folder
from werkmeister.building.fused_layers import fuse_layers
from werkmeister.building.fused_lora import fuse_lora
from werkmeister.building.graphed import GraphedDecoder
from werkmeister.building.recipe import Recipe


def hasten(trainer: Any, recipe: Recipe, *, dropout: float) -> None:
    """Fuse LoRA layers, and for packed rows decoder layers, and record CUDA graphs where every layer was fused.

    A dropout draws anew in every call, which a recorded graph does not.
    """
    fused = fuse_lora(trainer.model)
    if not recipe.packed:
        return
    # PyTorch's own place for compiled kernels is the folder for temporary files, which a restart empties.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(models_folder().parent / "kernels"))
    decoder = trainer.model.get_base_model().base_model
    layers = fuse_layers(trainer.model)
    adapters = sum(name.endswith("lora_A.default.weight") for name, _ in trainer.model.named_parameters())
    if recipe.graphed and not dropout and fused == adapters and layers == len(decoder.layers):
        trainer.pieces.graphs = GraphedDecoder(decoder, tokens=recipe.tokens, longest=recipe.max_length)
