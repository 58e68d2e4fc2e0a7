"""Splits a GGUF file into shards as llama.cpp reads them: a browser takes no file over 2 GB into memory at once, and
neither do some hosts and file systems.

Every shard is a GGUF of its own with three keys: `split.no`, `split.count` and `split.tensors.count`. The first holds
the model's metadata beside its tensors, and is the one that is opened. Source of the layout: llama.cpp's gguf-split.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from werkmeister.bases.gguf_file import write_gguf
from werkmeister.bases.gguf_header import GgufHeader, Tensor, alignment_of, padded, read_gguf_header
from werkmeister.progress import Progress, Track

LARGEST = 2_000_000_000
"""Bytes of a model file that every place takes: a larger one is split where the runtime opens shards. The metadata of
the first shard comes on top, and leaves it below 2 GiB."""

_UINT16, _INT32 = 2, 5
_CHUNK = 4 << 20


def write_shards(model: Path, folder: Path, stem: str, size: int, progress: Progress) -> list[Path]:
    """Write the shards of `model` as `folder`/`stem`-00001-of-00003.gguf and so on, in order.

    Each holds at most `size` bytes of tensors; a tensor that is larger stands alone. Tensors keep their order and every
    byte. Raises BaseModelError when `model` is no whole GGUF file.
    """
    header = read_gguf_header(model)
    parts = _parts(list(header.tensors.values()), size, alignment_of(header.raw))
    paths = [folder / f"{stem}-{number:05}-of-{len(parts):05}.gguf" for number in range(1, len(parts) + 1)]
    total = sum(tensor.size for tensor in header.tensors.values())
    with model.open("rb") as source, progress.track(f"splitting {model.name} into {len(parts)} files", total) as bar:
        for number, (path, part) in enumerate(zip(paths, parts, strict=True)):
            raw = {
                **(header.raw if number == 0 else _alignment(header)),
                "split.no": struct.pack("<IH", _UINT16, number),
                "split.count": struct.pack("<IH", _UINT16, len(parts)),
                "split.tensors.count": struct.pack("<Ii", _INT32, len(header.tensors)),
            }
            write_gguf(path, raw, part, partial(_copied, source, header, bar))
    return paths


def _parts(tensors: Sequence[Tensor], size: int, alignment: int) -> list[list[Tensor]]:
    parts: list[list[Tensor]] = [[]]
    held = 0
    for tensor in tensors:
        weight = padded(tensor.size, alignment)
        if parts[-1] and held + weight > size:
            parts.append([])
            held = 0
        parts[-1].append(tensor)
        held += weight
    return parts


def _alignment(header: GgufHeader) -> dict[str, bytes]:
    key = "general.alignment"
    return {key: header.raw[key]} if key in header.raw else {}


def _copied(source: BinaryIO, header: GgufHeader, bar: Track, tensor: Tensor) -> Iterator[bytes]:
    """The bytes of a tensor as they stand in the file."""
    source.seek(header.offsets[tensor.name])
    left = tensor.size
    while left:
        piece = source.read(min(_CHUNK, left))
        yield piece
        bar.advance(len(piece))
        left -= len(piece)
