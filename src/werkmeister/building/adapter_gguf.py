"""The adapter alone as a GGUF, to be laid over the base's own GGUF by llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from werkmeister.bases.gguf_file import encode, write_gguf
from werkmeister.bases.gguf_header import Tensor, decode
from werkmeister.building.adapter import Adapter, Delta, Floats


def write_adapter(path: Path, adapter: Adapter, deltas: Mapping[str, Delta], base: Mapping[str, bytes]) -> None:
    """Write the deltas (in GGUF names and row order) as F32; `base` is the metadata of the base's GGUF.

    llama.cpp scales by alpha / rank whatever the training did, so under rank-stabilised LoRA the alpha written is the
    one that gives the same factor. F32 costs little (rank 16 on 135 M weights: 20 MB) and adds no error.
    """
    name = decode(base["general.name"]) if "general.name" in base else "base"
    metadata = {
        "general.type": encode("adapter"),
        "general.architecture": base["general.architecture"],
        "general.name": encode(f"{name} adapter"),
        "adapter.type": encode("lora"),
        "adapter.lora.alpha": encode(float(adapter.scale * adapter.rank)),
    }
    sides: dict[str, Floats] = {}
    for tensor, delta in deltas.items():
        sides[f"{tensor}.lora_a"] = delta.a
        sides[f"{tensor}.lora_b"] = delta.b
    tensors = [Tensor(name=side, shape=rows.shape, type="F32") for side, rows in sides.items()]

    def chunks(tensor: Tensor) -> Iterator[bytes]:
        yield np.ascontiguousarray(sides[tensor.name], dtype=np.float32).tobytes()

    write_gguf(path, metadata, tensors, chunks)
