"""The GGUF container as it is written: a stream, tensor by tensor. `gguf_header` reads it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from werkmeister.bases.gguf_header import (
    ARRAY,
    BOOL,
    FLOAT32,
    INT32,
    MAGIC,
    SCALARS,
    STRING,
    UINT32,
    VERSIONS,
    Tensor,
    alignment_of,
    padded,
    type_number,
)


def encode(value: bool | int | float | str | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]) -> bytes:
    """A raw metadata value in the types that llama.cpp expects: whole numbers as uint32 (int32 in lists), floats as
    float32, texts as UTF-8."""
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _packed_text(value)
    if not isinstance(value, Sequence):
        kind = _kind_of(value, UINT32)
        return struct.pack("<I" + SCALARS[kind], kind, value)
    if value and isinstance(value[0], str):
        head = struct.pack("<IIQ", ARRAY, STRING, len(value))
        return head + b"".join(_packed_text(str(item)) for item in value)
    kind = _kind_of(value[0], INT32) if value else INT32
    head = struct.pack("<IIQ", ARRAY, kind, len(value))
    return head + struct.pack(f"<{len(value)}{SCALARS[kind]}", *value)


def _kind_of(value: Any, whole: int) -> int:
    if isinstance(value, bool):
        return BOOL
    return FLOAT32 if isinstance(value, float) else whole


def _packed_text(text: str) -> bytes:
    encoded = text.encode("utf-8")
    return struct.pack("<Q", len(encoded)) + encoded


def header(metadata: Mapping[str, bytes], tensors: Sequence[Tensor]) -> bytes:
    """The bytes in front of the first tensor."""
    alignment = alignment_of(metadata)
    parts = [MAGIC, struct.pack("<IQQ", VERSIONS[-1], len(tensors), len(metadata))]
    for key, raw in metadata.items():
        parts += [_packed_text(key), raw]
    offset = 0
    for tensor in tensors:
        dimensions = len(tensor.shape)
        place = (*reversed(tensor.shape), type_number(tensor.type), offset)
        parts += [_packed_text(tensor.name), struct.pack(f"<I{dimensions}QIQ", dimensions, *place)]
        offset += padded(tensor.size, alignment)
    joined = b"".join(parts)
    return joined.ljust(padded(len(joined), alignment), b"\0")


def file_size(metadata: Mapping[str, bytes], tensors: Sequence[Tensor]) -> int:
    """The size in bytes of the file that `write_gguf` will write."""
    alignment = alignment_of(metadata)
    return len(header(metadata, tensors)) + sum(padded(tensor.size, alignment) for tensor in tensors)


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
    alignment = alignment_of(metadata)
    with _whole_or_nothing(path) as temporary, temporary.open("wb") as file:
        file.write(header(metadata, tensors))
        for tensor in tensors:
            written = sum(file.write(chunk) for chunk in chunks(tensor))
            if written != tensor.size:
                raise ValueError(f"tensor {tensor.name}: {written} bytes were made and {tensor.size} announced")
            file.write(b"\0" * (padded(written, alignment) - written))
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
