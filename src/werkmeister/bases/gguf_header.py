"""Reads the header of a GGUF file: metadata and the table of tensors, never the weights.

Written here because the reader of the `gguf` package maps the whole file and builds several objects for each of a
quarter of a million vocabulary entries (seconds), and because a damaged file must give an error that a person can use.
Each metadata value stays the bytes that stand in the file and is decoded when it is asked for, so that finding a base
is quick, and an export that changes three keys leaves the others identical to the last bit.
Source of the layout: the GGUF specification, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkmeister.errors import BaseModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
"""Of the data of tensors, where the metadata names no other."""
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", UINT32: "I", INT32: "i", FLOAT32: "f", BOOL: "?", 10: "Q", 11: "q", 12: "d"}
"""Type word of a metadata value → its code in `struct`."""
# ggml's types: name → (number, weights a block, bytes a block); from ggml's type traits.
_TYPES = {
    **{"F32": (0, 1, 4), "F16": (1, 1, 2), "BF16": (30, 1, 2), "F64": (28, 1, 8)},
    **{"I8": (24, 1, 1), "I16": (25, 1, 2), "I32": (26, 1, 4), "I64": (27, 1, 8)},
    **{"Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34)},
    **{"Q8_1": (9, 32, 40), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110), "Q4_K": (12, 256, 144)},
    **{"Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "Q8_K": (15, 256, 292), "IQ2_XXS": (16, 256, 66)},
    **{"IQ2_XS": (17, 256, 74), "IQ3_XXS": (18, 256, 98), "IQ1_S": (19, 256, 50), "IQ4_NL": (20, 32, 18)},
    **{"IQ3_S": (21, 256, 110), "IQ2_S": (22, 256, 82), "IQ4_XS": (23, 256, 136), "IQ1_M": (29, 256, 56)},
    **{"TQ1_0": (34, 256, 54), "TQ2_0": (35, 256, 66), "MXFP4": (39, 32, 17), "NVFP4": (40, 64, 36)},
    **{"Q1_0": (41, 128, 18)},
}
_NAMES = {number: name for name, (number, _, _) in _TYPES.items()}
_MOST_ENTRIES = 1 << 24
_MOST_DIMENSIONS = 8


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Name, shape (rows first, the width that is stored together last) and ggml type ("F32", "Q4_K") of a tensor."""

    name: str
    shape: tuple[int, ...]
    type: str

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return math.prod(self.shape[:-1])

    @property
    def values(self) -> int:
        """How many weights the tensor holds."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes in the file, without padding."""
        return self.rows * row_bytes(self.type, self.width)


def row_bytes(kind: str, width: int) -> int:
    """Bytes of a row of `width` numbers in the ggml type `kind`."""
    _, block, size = _TYPES[kind]
    return width // block * size


def block_width(kind: str) -> int:
    """The number of weights that the ggml type stores together: a row's width must be a multiple of it."""
    return _TYPES[kind][1]


def type_number(kind: str) -> int:
    """The number of a ggml type in the tensor table."""
    return _TYPES[kind][0]


class _Decoded(Mapping[str, Any]):
    """Metadata as values, each decoded when it is first asked for."""

    def __init__(self, raw: Mapping[str, bytes]) -> None:
        self._raw = raw
        self._known: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._known:
            self._known[key] = decode(self._raw[key])
        return self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)


@dataclass(frozen=True, kw_only=True)
class GgufHeader:
    """What stands in front of the weights of one GGUF file.

    `raw` are the metadata values as they stand in the file (type word and all), `metadata` the same as int, float,
    bool, str, or a list of these; `tensors` are in the order of the file, and `offsets` count from its first byte.
    """

    path: Path
    raw: Mapping[str, bytes]
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    offsets: Mapping[str, int]

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
        if file.read(4) != MAGIC:
            raise BaseModelError(f"{path} is not a GGUF file", hint="name a .gguf file, or a folder with safetensors")
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header = _read(path, data)
        except (struct.error, ValueError, KeyError) as error:
            raise _cut_off(path, size, f"its header cannot be read ({error})") from error
    if not isinstance(header.metadata.get("general.architecture"), str) or not header.tensors:
        raise BaseModelError(f"{path} names no architecture or holds no tensor", hint="fetch the model file again")
    end = max(header.offsets[name] + tensor.size for name, tensor in header.tensors.items())
    if size < end:
        raise _cut_off(path, size, f"it has {size} of the {end} bytes that its tensor table promises")
    return header


def decode(raw: bytes) -> Any:
    """A raw metadata value as int, float, bool, str, or a list of these; bytes that are no UTF-8 become U+FFFD."""
    return _payload(raw, 4, _word(raw, 0))[0]


def padded(size: int, alignment: int) -> int:
    """`size` rounded up to a multiple of `alignment`."""
    return -(-size // alignment) * alignment


def alignment_of(raw: Mapping[str, bytes]) -> int:
    """The alignment that raw metadata asks for. Raises ValueError when that is no positive whole number."""
    found = decode(raw["general.alignment"]) if "general.alignment" in raw else ALIGNMENT
    if not isinstance(found, int) or found < 1:
        raise ValueError(f"its alignment is {found!r}")
    return found


def _read(path: Path, data: mmap.mmap) -> GgufHeader:
    version = _word(data, 4)
    if version not in VERSIONS:
        raise BaseModelError(
            f"{path} has GGUF version {version}, and versions 2 and 3 are read",
            hint="fetch a current conversion of the model (a big-endian file is not read either)",
        )
    tensor_count, key_count = _count(data, 8), _count(data, 16)
    at = 24
    raw: dict[str, bytes] = {}
    for _ in range(key_count):
        key, at = _text(data, at)
        end = _payload_end(data, at + 4, _word(data, at))
        raw[key] = data[at:end]
        at = end
    tensors, offsets = {}, {}
    for _ in range(tensor_count):
        name, at = _text(data, at)
        dimensions = _word(data, at)
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise ValueError(f"tensor {name} has {dimensions} dimensions")
        *shape, number, offset = struct.unpack_from(f"<{dimensions}QIQ", data, at + 4)
        at += 4 + 8 * dimensions + 12
        if number not in _NAMES:
            raise BaseModelError(
                f"{path}: tensor {name} has the unknown ggml type {number}",
                hint="use a file in F16, Q8_0, Q4_K_M or another usual type",
            )
        tensors[name] = Tensor(name=name, shape=tuple(reversed(shape)), type=_NAMES[number])
        offsets[name] = offset
    start = padded(at, alignment_of(raw))
    return GgufHeader(
        path=path,
        raw=raw,
        metadata=_Decoded(raw),
        tensors=tensors,
        offsets={name: start + offset for name, offset in offsets.items()},
    )


def _cut_off(path: Path, size: int, what: str) -> BaseModelError:
    return BaseModelError(f"{path} is truncated or damaged: {what}", hint="delete it and fetch the model file again")


def _word(data: Any, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _count(data: Any, at: int) -> int:
    number = int(struct.unpack_from("<Q", data, at)[0])
    if number > _MOST_ENTRIES:
        raise ValueError(f"a count of {number}")
    return number


def _text(data: Any, at: int) -> tuple[str, int]:
    end = _payload_end(data, at, STRING)
    return bytes(data[at + 8 : end]).decode("utf-8", errors="replace"), end


def _payload_end(data: Any, at: int, kind: int, inside: int = 0) -> int:
    """Where the value ends whose bytes, without the type word, begin at `at`."""
    if kind == STRING:
        end = at + 8 + int(struct.unpack_from("<Q", data, at)[0])
    elif kind == ARRAY:
        if inside > 2:
            raise ValueError("lists in lists in lists")
        inner, count, end = _word(data, at), _count(data, at + 4), at + 12
        if inner in (STRING, ARRAY):
            for _ in range(count):
                end = _payload_end(data, end, inner, inside + 1)
        else:
            end += count * struct.calcsize("<" + SCALARS[inner])
    else:
        end = at + struct.calcsize("<" + SCALARS[kind])
    if end > len(data):
        raise ValueError("a value runs past the end of the file")
    return end


def _payload(raw: bytes, at: int, kind: int) -> tuple[Any, int]:
    """The value whose bytes begin at `at`, and where it ends."""
    if kind == STRING:
        return _text(raw, at)
    if kind != ARRAY:
        code = "<" + SCALARS[kind]
        return struct.unpack_from(code, raw, at)[0], at + struct.calcsize(code)
    inner, count, at = _word(raw, at), _count(raw, at + 4), at + 12
    if inner not in (STRING, ARRAY):
        code = f"<{count}{SCALARS[inner]}"
        return list(struct.unpack_from(code, raw, at)), at + struct.calcsize(code)
    items = []
    for _ in range(count):
        item, at = _payload(raw, at, inner)
        items.append(item)
    return items, at
