"""Weights, read row by row in float32, wherever they lie; the merge of base and adapter is one such view.

Nothing here holds a whole model: a reader asks for some rows of one tensor, and gets base + scale · B·A for just these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import libgguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType

from werkmeister.bases.gguf_header import Tensor, decode, read_gguf_header, row_bytes
from werkmeister.building.adapter import Adapter, Delta, Floats, for_gguf
from werkmeister.errors import ArtefactError, BaseModelError

Bytes = npt.NDArray[np.uint8]
ARCHITECTURES = ("llama", "qwen3", "gemma3", "phi3")


class Weights(Protocol):
    """A model's metadata and tensors in GGUF names and order; `Tensor.type` is the type in which it is stored."""

    @property
    def metadata(self) -> Mapping[str, bytes]:
        """Raw GGUF values by key."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """What there is, in the order of the file to write."""

    @property
    def touched(self) -> frozenset[str]:
        """Names of tensors that are no longer what is stored: their stored type says only what they came from."""

    def rows(self, tensor: Tensor, start: int, stop: int) -> Floats:
        """Rows `start` to `stop` of a tensor, float32 [stop - start, width]; a vector is one row."""

    def stored(self, tensor: Tensor, start: int, stop: int) -> bytes | None:
        """The same rows as they are stored, or None when they are not stored in that form (converted, merged)."""


class GgufWeights:
    """The weights of a GGUF, dequantised as they are read."""

    def __init__(self, path: Path) -> None:
        header = read_gguf_header(path)
        self.metadata: Mapping[str, bytes] = header.raw
        self.tensors: Sequence[Tensor] = tuple(header.tensors.values())
        self.touched: frozenset[str] = frozenset()
        self._offsets = header.offsets
        self._path = path

    def stored(self, tensor: Tensor, start: int, stop: int) -> bytes | None:
        """The bytes of these rows as the file has them."""
        raw: bytes = self._bytes(tensor, start, stop).tobytes()
        return raw

    def rows(self, tensor: Tensor, start: int, stop: int) -> Floats:
        """These rows in float32. Raises BaseModelError for a type that cannot be dequantised."""
        return dequantise(self._bytes(tensor, start, stop), tensor)

    def _bytes(self, tensor: Tensor, start: int, stop: int) -> Bytes:
        size = row_bytes(tensor.type, tensor.width)
        return read_bytes(self._path, self._offsets[tensor.name] + start * size, (stop - start) * size)


def read_bytes(path: Path, begin: int, count: int) -> Bytes:
    """Bytes of a file, read and not mapped: what is mapped stays in this process's memory until the system wants it
    back, and of a base of 8 GB that is 8 GB."""
    return np.fromfile(path, dtype=np.uint8, count=count, offset=begin)


def dequantise(data: Bytes, tensor: Tensor) -> Floats:
    """Bytes of whole rows of a tensor as float32 [rows, width]."""
    found: Floats
    if tensor.type in ("F32", "F16", "F64"):
        found = data.view(f"f{int(tensor.type[1:]) // 8}").astype(np.float32).reshape(-1, tensor.width)
        return found
    if tensor.type == "BF16":
        found = (data.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32).reshape(-1, tensor.width)
        return found
    rows = data.reshape(-1, row_bytes(tensor.type, tensor.width))
    try:
        found = libgguf.dequantize_rows(rows, GGMLQuantizationType[tensor.type], tensor.width)
    except ValueError as error:
        raise BaseModelError(
            f"tensor {tensor.name} has the type {tensor.type}, which cannot be read ({error})",
            hint="name a base in F16, Q8_0 or a K-quant",
        ) from error
    return found


class Merged:
    """Base plus adapter: the touched tensors are base + scale · B·A in float32, the others as they are."""

    def __init__(self, base: Weights, deltas: Mapping[str, Delta]) -> None:
        self._base = base
        self._deltas = deltas
        self.metadata: Mapping[str, bytes] = base.metadata
        self.tensors: Sequence[Tensor] = base.tensors
        self.touched = frozenset(name for name, delta in deltas.items() if not delta.is_zero)
        _check_shapes(base, deltas)

    def rows(self, tensor: Tensor, start: int, stop: int) -> Floats:
        """Rows of the merged tensor."""
        rows = self._base.rows(tensor, start, stop)
        return rows + self._deltas[tensor.name].rows(start, stop) if tensor.name in self.touched else rows

    def stored(self, tensor: Tensor, start: int, stop: int) -> bytes | None:
        """The base's own bytes, of tensors that the adapter leaves alone."""
        return None if tensor.name in self.touched else self._base.stored(tensor, start, stop)


def deltas_for(weights: Weights, adapter: Adapter) -> dict[str, Delta]:
    """The adapter's deltas in the names and row order of these weights.

    Raises BaseModelError for an architecture whose row order is not known to Werkmeister, ArtefactError when the
    adapter does not fit the base.
    """
    architecture = decode(weights.metadata["general.architecture"])
    if architecture not in ARCHITECTURES:
        raise BaseModelError(
            f"the base has the architecture {architecture!r}, which export does not know",
            hint=f"choose a base of one of these: {', '.join(ARCHITECTURES)}",
        )

    def count(key: str, default: int | None = None) -> int:
        raw = weights.metadata.get(f"{architecture}.{key}")
        value = default if raw is None else decode(raw)
        if not isinstance(value, int):
            raise BaseModelError(f"the base's {architecture}.{key} is {value!r}, and one number is needed")
        return value

    heads = count("attention.head_count")
    return for_gguf(adapter, architecture, heads, count("attention.head_count_kv", heads), count("block_count"))


def context_limit(weights: Weights) -> int:
    """The longest context in which llama.cpp computes what training computed; 0 where there is no such limit.

    With two sets of rotary factors (Phi's long context) llama.cpp chooses by the context that is set up, and training
    by the length of the text: only up to the original context do both take the short ones.
    """
    if all(tensor.name != "rope_factors_short.weight" for tensor in weights.tensors):
        return 0
    architecture = decode(weights.metadata["general.architecture"])
    return int(decode(weights.metadata[f"{architecture}.rope.scaling.original_context_length"]))


def _check_shapes(base: Weights, deltas: Mapping[str, Delta]) -> None:
    shapes = {tensor.name: tensor.shape for tensor in base.tensors}
    problems = []
    for name, delta in deltas.items():
        wanted = (delta.b.shape[0], delta.a.shape[1])
        if name not in shapes:
            problems.append(f"the base has no tensor {name} of its own (output and embedding may be tied)")
        elif shapes[name] != wanted:
            problems.append(f"{name} is {shapes[name]} in the base and {wanted} in the adapter")
    if problems:
        raise ArtefactError("the adapter does not fit the base", problems=problems, hint="train again on this base")
