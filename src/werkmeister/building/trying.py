"""A base opened as training holds it (NF4 on a GPU), to put questions to before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from werkmeister.building.recipe import base_precision, quantization_config, torch_dtype
from werkmeister.progress import Progress, Silent

if TYPE_CHECKING:
    from werkmeister.engines.transformers import TransformersEngine


def open_as_trained(
    name: str, *, precision: str = "auto", expert: Path | None = None, progress: Progress | None = None
) -> TransformersEngine:
    """The engine of the base `name` in the precision that training would store it in; close it to free the memory.

    `name`, `expert` and `precision` are those of `expert.base`, of its folder and of `train.precision`. Raises
    BaseModelError where there is no such base.
    """
    from werkmeister.bases.find import find_base
    from werkmeister.bases.load import load_model
    from werkmeister.bases.tokens import load_tokenizer
    from werkmeister.engines.transformers import TransformersEngine

    base = find_base(name, expert=expert or Path(), progress=progress or Silent())
    stored, compute = base_precision(precision, base.architecture)
    dtype = torch_dtype(compute if stored == "nf4" else stored)
    model = load_model(base, dtype=dtype, quantization_config=quantization_config(stored, compute))
    return TransformersEngine(model, load_tokenizer(base), name=base.name, stop=base.stop)
