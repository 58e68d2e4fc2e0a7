"""The GGUF container: read without parsing what is only copied, written as a stream.

The official reader makes several objects of every token of the vocabulary (seconds, and hundreds of megabytes for
262,144 tokens). Here each metadata value stays the bytes that stand in the file, so an export that changes three keys
leaves the others identical to the last bit. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from werkmeister.errors import BaseModelError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = 32
_SCALARS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}


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
    def size(self) -> int:
        """Bytes in the file, without padding."""
        return self.rows * row_bytes(self.type, self.width)


@dataclass(frozen=True, kw_only=True)
class GgufFile:
    """What a GGUF holds: metadata as raw values (type word and all), tensors, and where each tensor begins."""

    path: Path
    metadata: Mapping[str, bytes]
    tensors: tuple[Tensor, ...]
    offsets: Mapping[str, int]

    def value(self, key: str, default: Any = None) -> Any:
        """One metadata value decoded: int, float, bool, str, or a list of these."""
        raw = self.metadata.get(key)
        return default if raw is None else decode(raw)


def row_bytes(kind: str, width: int) -> int:
    """Bytes of a row of `width` numbers in the ggml type `kind`."""
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return int(width // block * size)


def block_width(kind: str) -> int:
    """The number of weights that the ggml type stores together: a row's width must be a multiple of it."""
    return int(GGML_QUANT_SIZES[GGMLQuantizationType[kind]][0])


def read_gguf(path: Path) -> GgufFile:
    """Read the header of a GGUF and check that all its tensors are there.

    Raises BaseModelError when the file is no GGUF, is cut short, is one shard of several, or has the byte order of
    another machine.
    """
    size = path.stat().st_size
    if size < 24:
        raise _damaged(path, f"it has {size} bytes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != _MAGIC:
            raise _damaged(path, f"it begins with {data[:4]!r}, not with {_MAGIC!r}")
        try:
            found = _read(path, data)
        except (struct.error, ValueError, IndexError) as error:
            raise _damaged(path, f"its header ends or breaks before its end ({error})") from error
    for tensor in found.tensors:
        if found.offsets[tensor.name] + tensor.size > size:
            raise _damaged(path, f"tensor {tensor.name} lies beyond the end of its {size} bytes: the file is cut short")
    if found.value("split.count", 1) > 1:
        raise BaseModelError(
            f"{path} is one of {found.value('split.count')} shards of a GGUF",
            hint="join them into one file with llama-gguf-split --merge, and name that",
        )
    return found


def _damaged(path: Path, why: str) -> BaseModelError:
    return BaseModelError(f"{path} is not a whole GGUF: {why}", hint="fetch the file again, or name another base")


def _read(path: Path, data: mmap.mmap) -> GgufFile:
    version, tensor_count, pair_count = struct.unpack_from("<IQQ", data, 4)
    if version not in _VERSIONS:
        raise _damaged(path, f"version {version} is none of {_VERSIONS} (or the byte order is big-endian)")
    at = 24
    metadata: dict[str, bytes] = {}
    for _ in range(pair_count):
        key, at = _text(data, at)
        end = _value_end(data, at)
        metadata[key] = data[at:end]
        at = end
    entries = []
    for _ in range(tensor_count):
        name, at = _text(data, at)
        (dimensions,) = struct.unpack_from("<I", data, at)
        *shape, kind, offset = struct.unpack_from(f"<{dimensions}QIQ", data, at + 4)
        at += 4 + 8 * dimensions + 12
        kind_name = GGMLQuantizationType(kind).name
        entries.append((Tensor(name=name, shape=tuple(reversed(shape)), type=kind_name), offset))
    alignment = decode(metadata["general.alignment"]) if "general.alignment" in metadata else _ALIGNMENT
    start = _padded(at, alignment)
    return GgufFile(
        path=path,
        metadata=metadata,
        tensors=tuple(tensor for tensor, _ in entries),
        offsets={tensor.name: start + offset for tensor, offset in entries},
    )


def _text(data: Any, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    end = at + 8 + length
    if end > len(data):
        raise ValueError("a text runs over the end")
    return bytes(data[at + 8 : end]).decode("utf-8"), end


def _value_end(data: Any, at: int) -> int:
    """Where the value ends whose type word stands at `at`."""
    kind = GGUFValueType(struct.unpack_from("<I", data, at)[0])
    return _payload_end(data, at + 4, kind)


def _payload_end(data: Any, at: int, kind: GGUFValueType) -> int:
    if kind in _SCALARS:
        end = at + struct.calcsize("<" + _SCALARS[kind])
    elif kind is GGUFValueType.STRING:
        end = at + 8 + struct.unpack_from("<Q", data, at)[0]
    else:
        inner, count = struct.unpack_from("<IQ", data, at)
        inner, end = GGUFValueType(inner), at + 12
        if inner in _SCALARS:
            end += count * struct.calcsize("<" + _SCALARS[inner])
        else:
            for _ in range(count):
                end = _payload_end(data, end, inner)
    if end > len(data):
        raise ValueError("a value runs over the end")
    return int(end)


def decode(raw: bytes) -> Any:
    """A raw metadata value as int, float, bool, str, or a list of these."""
    kind = GGUFValueType(struct.unpack_from("<I", raw, 0)[0])
    return _payload(raw, 4, kind)[0]


def _payload(raw: bytes, at: int, kind: GGUFValueType) -> tuple[Any, int]:
    if kind in _SCALARS:
        code = "<" + _SCALARS[kind]
        return struct.unpack_from(code, raw, at)[0], at + struct.calcsize(code)
    if kind is GGUFValueType.STRING:
        return _text(raw, at)
    inner, count = struct.unpack_from("<IQ", raw, at)
    inner, at = GGUFValueType(inner), at + 12
    if inner in _SCALARS:
        code = f"<{count}{_SCALARS[inner]}"
        return list(struct.unpack_from(code, raw, at)), at + struct.calcsize(code)
    items = []
    for _ in range(count):
        item, at = _payload(raw, at, inner)
        items.append(item)
    return items, at


def encode(value: bool | int | float | str | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]) -> bytes:
    """A raw metadata value in the types that llama.cpp expects: whole numbers as uint32 (int32 in lists), floats as
    float32, texts as UTF-8."""
    if isinstance(value, str):
        return struct.pack("<I", GGUFValueType.STRING) + _packed_text(value)
    if not isinstance(value, Sequence):
        kind = _kind_of(value, GGUFValueType.UINT32)
        return struct.pack("<I" + _SCALARS[kind], kind, value)
    if value and isinstance(value[0], str):
        head = struct.pack("<IIQ", GGUFValueType.ARRAY, GGUFValueType.STRING, len(value))
        return head + b"".join(_packed_text(str(item)) for item in value)
    kind = _kind_of(value[0], GGUFValueType.INT32) if value else GGUFValueType.INT32
    head = struct.pack("<IIQ", GGUFValueType.ARRAY, kind, len(value))
    return head + struct.pack(f"<{len(value)}{_SCALARS[kind]}", *value)


def _kind_of(value: Any, whole: GGUFValueType) -> GGUFValueType:
    if isinstance(value, bool):
        return GGUFValueType.BOOL
    return GGUFValueType.FLOAT32 if isinstance(value, float) else whole


def _packed_text(text: str) -> bytes:
    encoded = text.encode("utf-8")
    return struct.pack("<Q", len(encoded)) + encoded


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def header(metadata: Mapping[str, bytes], tensors: Sequence[Tensor]) -> bytes:
    """The bytes in front of the first tensor."""
    alignment = decode(metadata["general.alignment"]) if "general.alignment" in metadata else _ALIGNMENT
    parts = [_MAGIC, struct.pack("<IQQ", _VERSIONS[-1], len(tensors), len(metadata))]
    for key, raw in metadata.items():
        parts += [_packed_text(key), raw]
    offset = 0
    for tensor in tensors:
        dimensions = len(tensor.shape)
        kind = GGMLQuantizationType[tensor.type]
        packed = struct.pack(f"<I{dimensions}QIQ", dimensions, *reversed(tensor.shape), kind, offset)
        parts += [_packed_text(tensor.name), packed]
        offset += _padded(tensor.size, alignment)
    joined = b"".join(parts)
    return joined.ljust(_padded(len(joined), alignment), b"\0")


def file_size(metadata: Mapping[str, bytes], tensors: Sequence[Tensor]) -> int:
    """The size in bytes of the file that `write_gguf` will write."""
    alignment = decode(metadata["general.alignment"]) if "general.alignment" in metadata else _ALIGNMENT
    return len(header(metadata, tensors)) + sum(_padded(tensor.size, alignment) for tensor in tensors)


def write_gguf(
    path: Path,
    metadata: Mapping[str, bytes],
    tensors: Sequence[Tensor],
    chunks: Callable[[Tensor], Iterable[bytes | memoryview]],
) -> None:
    """Write a GGUF tensor by tensor; `chunks` yields the bytes of one tensor, piece by piece.

    The file appears under its name only when it is whole and on the disk: until then it is `NAME.tmp`, which is
    removed when anything goes wrong. Raises OSError as the system does (full disk, no permission).
    """
    alignment = decode(metadata["general.alignment"]) if "general.alignment" in metadata else _ALIGNMENT
    with _whole_or_nothing(path) as temporary, temporary.open("wb") as file:
        file.write(header(metadata, tensors))
        for tensor in tensors:
            written = sum(file.write(chunk) for chunk in chunks(tensor))
            if written != tensor.size:
                raise ValueError(f"tensor {tensor.name}: {written} bytes were made and {tensor.size} announced")
            file.write(b"\0" * (_padded(written, alignment) - written))
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _whole_or_nothing(path: Path) -> Iterator[Path]:
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
