"""The importance matrix: how much each column of a weight matters, read from the training text.

A linear layer adds up its inputs times its columns, so an error in a column costs as much as that column's input is
large: the mean of the squared inputs is its importance, and a quantiser that weighs its rounding errors with it keeps
more of what the model says. The inputs are those of the trained model (adapter and all) on what it was trained on,
prompt and answer; the forward pass is transformers', so any base that can be trained can be read.
Source of the method and of the file's layout: llama.cpp's tools/imatrix, whose llama-quantize takes the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from werkmeister.bases.gguf_file import encode, write_gguf
from werkmeister.bases.gguf_header import Tensor
from werkmeister.building.adapter import Floats, gguf_names
from werkmeister.progress import Progress

if TYPE_CHECKING:
    import torch

Importance = Mapping[str, Floats]
"""GGUF tensor name → the mean square of each input of that layer, float32 [width]."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """What was read: the importance, and the number of texts and tokens behind it."""

    importance: Importance
    texts: int
    tokens: int


def read_importance(
    model: Any, rows: Sequence[Sequence[int]], architecture: str, blocks: int, progress: Progress
) -> Read:
    """Run a loaded model (plain or under PEFT) over `rows` of token ids and add up the squared inputs of its layers.

    `architecture` and `blocks` are those of the GGUF ("llama", 30). The output head is left out, as llama.cpp does.
    Raises ValueError when there is no row.
    """
    import torch

    if not rows:
        raise ValueError("an importance matrix is read from text, and there is none")
    sums: dict[str, torch.Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(_adder(sums, name)) for name, layer in _layers(model, architecture, blocks)
    ]
    try:
        with torch.inference_mode(), progress.track("reading what matters", len(rows)) as track:
            for row in rows:
                model(input_ids=torch.tensor([list(row)], device=model.device), logits_to_keep=1)
                track.advance()
    finally:
        for hook in hooks:
            hook.remove()
    tokens = sum(len(row) for row in rows)
    found = {name: (total / tokens).float().cpu().numpy() for name, total in sums.items()}
    return Read(importance=found, texts=len(rows), tokens=tokens)


def write_importance(path: Path, read: Read) -> None:
    """Write it as llama.cpp's own imatrix file (GGUF); the text is one chunk to it."""
    metadata = {
        "general.type": encode("imatrix"),
        "imatrix.datasets": encode(["train.jsonl"]),
        "imatrix.chunk_count": encode(1),
        "imatrix.chunk_size": encode(read.tokens),
    }
    sides: dict[str, Floats] = {}
    for name, values in read.importance.items():
        sides[f"{name}.in_sum2"] = values[None, :] * np.float32(read.tokens)
        sides[f"{name}.counts"] = np.full((1, 1), read.tokens, dtype=np.float32)
    tensors = [Tensor(name=name, shape=values.shape, type="F32") for name, values in sides.items()]
    write_gguf(path, metadata, tensors, lambda tensor: [sides[tensor.name].tobytes()])


def _layers(model: Any, architecture: str, blocks: int) -> Iterator[tuple[str, Any]]:
    """The linear layers of the text model with their GGUF tensor names; of an adapted layer the base's own."""
    import torch

    names = gguf_names(architecture, blocks)
    for path, layer in model.named_modules():
        place = path.removesuffix(".base_layer")
        start = place.find("layers.")
        if isinstance(layer, torch.nn.Linear) and start >= 0 and ".lora_" not in place:
            name = names.get_name(f"model.{place[start:]}")
            if name is not None:
                yield f"{name}.weight", layer


def _adder(sums: dict[str, torch.Tensor], name: str) -> Any:
    def add(layer: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        squares = inputs[0].detach().flatten(0, -2).double().square().sum(0)
        sums[name] = squares if name not in sums else sums[name] + squares

    return add
