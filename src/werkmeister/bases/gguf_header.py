"""Reads the header of a GGUF file: metadata and the table of tensors, never the weights.

Written here because the reader of the `gguf` package maps the whole file and builds an object for each of a quarter
of a million vocabulary entries (seconds), and because a damaged file must give an error that a person can use.
Source of the layout: the GGUF specification, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from werkmeister.errors import BaseModelError

_MAGIC = b"GGUF"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_ENTRIES = 1 << 24
# ggml type number → (values a block, bytes a block); from ggml's type traits.
_BLOCKS = {
    **{0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82)},
    **{23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2)},
    **{34: (256, 54), 35: (256, 66), 39: (32, 17)},
}


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """One row of the tensor table: `shape` as ggml has it (fastest axis first), `offset` from the start of the data."""

    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def values(self) -> int:
        """How many weights the tensor holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class GgufHeader:
    """The metadata and tensor table of one GGUF file; the tensors' offsets count from byte `data_start`."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorEntry]
    data_start: int

    @property
    def architecture(self) -> str:
        """llama, qwen3, gemma3, phi3, …"""
        return str(self.metadata["general.architecture"])

    def get(self, key: str, default: Any = None) -> Any:
        """A value of the architecture's own keys: `get("context_length")` reads `llama.context_length`."""
        return self.metadata.get(f"{self.architecture}.{key}", default)


def read_gguf_header(path: Path) -> GgufHeader:
    """Read and check the header of `path`.

    Raises BaseModelError when the file is no GGUF, is damaged, or ends before its last tensor does (a download that
    was cut off).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            raise BaseModelError(f"{path} is not a GGUF file", hint="name a .gguf file, or a folder with safetensors")
        try:
            version = _scalar(file, "I")
            if version not in (2, 3):
                raise BaseModelError(
                    f"{path} has GGUF version {version}, and versions 2 and 3 are read",
                    hint="fetch a current conversion of the model",
                )
            tensor_count, key_count = _count(file), _count(file)
            metadata = {_string(file): _value(file, _scalar(file, "I")) for _ in range(key_count)}
            tensors = {}
            for _ in range(tensor_count):
                name = _string(file)
                shape = tuple(_scalar(file, "Q") for _ in range(_count(file, most=8)))
                tensors[name] = TensorEntry(shape=shape, type=_scalar(file, "I"), offset=_scalar(file, "Q"))
        except (struct.error, ValueError, KeyError) as error:
            raise _cut_off(path, size, f"its header cannot be read ({error})") from error
        header_end = file.tell()
    if not isinstance(metadata.get("general.architecture"), str) or not tensors:
        raise BaseModelError(f"{path} names no architecture or holds no tensor", hint="fetch the model file again")
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise _cut_off(path, size, f"its alignment is {alignment!r}")
    start = -(-header_end // alignment) * alignment
    header = GgufHeader(path=path, metadata=metadata, tensors=tensors, data_start=start)
    _check_length(header, size)
    return header


def _check_length(header: GgufHeader, size: int) -> None:
    end = header.data_start
    for name, tensor in header.tensors.items():
        if tensor.type not in _BLOCKS:
            raise BaseModelError(
                f"{header.path}: tensor {name} has the unknown ggml type {tensor.type}",
                hint="use a file in F16, Q8_0, Q4_K_M or another usual type",
            )
        block, length = _BLOCKS[tensor.type]
        end = max(end, header.data_start + tensor.offset + -(-tensor.values // block) * length)
    if size < end:
        raise _cut_off(header.path, size, f"it has {size} of the {end} bytes that its tensor table promises")


def _cut_off(path: Path, size: int, what: str) -> BaseModelError:
    return BaseModelError(f"{path} is truncated or damaged: {what}", hint="delete it and fetch the model file again")


def _scalar(file: IO[bytes], code: str) -> Any:
    return struct.unpack("<" + code, file.read(struct.calcsize("<" + code)))[0]


def _count(file: IO[bytes], most: int = _MOST_ENTRIES) -> int:
    # Dimension counts are 32 bits wide, all others 64.
    number: int = _scalar(file, "I" if most <= 8 else "Q")
    if number > most:
        raise ValueError(f"a count of {number}")
    return number


def _string(file: IO[bytes]) -> str:
    length = _count(file, most=1 << 26)
    data = file.read(length)
    if len(data) < length:
        raise ValueError("a text runs past the end of the file")
    return data.decode("utf-8", errors="replace")


def _value(file: IO[bytes], kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        inner = _scalar(file, "I")
        count = _count(file)
        if inner == _STRING:
            return [_string(file) for _ in range(count)]
        if inner == _ARRAY:
            return [_value(file, inner) for _ in range(count)]
        code = f"<{count}{_SCALARS[inner]}"
        return list(struct.unpack(code, file.read(struct.calcsize(code))))
    return _scalar(file, _SCALARS[kind])
