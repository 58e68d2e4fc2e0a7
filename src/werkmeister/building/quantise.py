"""Write weights as a GGUF of a given file type, choosing each tensor's type as llama.cpp's own quantiser does."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import libgguf
import numpy as np
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, LlamaFileType

from werkmeister.bases.gguf_file import encode, file_size, write_gguf
from werkmeister.bases.gguf_header import Tensor, block_width, decode
from werkmeister.building.adapter import Floats
from werkmeister.building.importance import Importance
from werkmeister.building.merge import Weights
from werkmeister.errors import BaseModelError
from werkmeister.machine import in_words, need_disk, threads_by_load
from werkmeister.progress import Progress, Track

# The type that most tensors of a file get.
DEFAULT_TYPE = {
    **{name: name for name in ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_1", "Q5_0", "Q4_1", "Q4_0")},
    **{"Q5_K_M": "Q5_K", "Q5_K_S": "Q5_K", "Q4_K_M": "Q4_K", "Q4_K_S": "Q4_K", "IQ4_XS": "IQ4_XS"},
}
# Rows whose width is no multiple of 256 cannot take a K-quant.
_FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}
# A weight that lies on the grid of a 4-bit type and is moved by a fraction of a step rounds back to where it was: of a
# gentle adapter (a twentieth of a step) 3 % is left from Q4_K to Q4_K, 7 % from Q4_1 to Q4_K, 57 % from Q4_1 to Q5_K,
# since the search for the best scale finds the old grid again. So a tensor that was rounded before and then changed
# goes only to types that keep the change (measured: 88 to 100 %), whose grids do not fall onto the old one, and without
# importance: under it the search finds the old grid there too (67 % of Q4_1 to Q4_0, 83 % to Q5_0 are left).
FREE = ("F32", "F16", "BF16", "F64", "Q8_0")
"""Stored types that let any other keep a change."""
_KEEPS = {
    **dict.fromkeys(("Q4_1", "Q4_K"), ("Q5_0", "Q4_0", "IQ4_NL", "IQ4_XS", "Q6_K", "Q8_0")),
    **dict.fromkeys(FREE, (*DEFAULT_TYPE.values(), "IQ4_NL")),
}
_CHUNK = 8 * 2**20  # bytes of float32 that one thread works on
_BLOCK = re.compile(r"blk\.(\d+)\.")
# The kinds of tensors that a mix treats apart; fused attention counts as attn_v.
_KINDS = {"attn_v": ("attn_v.weight", "attn_qkv.weight"), "ffn_down": ("ffn_down.weight",)}


def planned(weights: Weights, file_type: str, *, important: bool = False) -> tuple[Tensor, ...]:
    """The tensors of a file of that type, each with its own type.

    Source: llama_tensor_get_type_impl and tensor_type_fallback in llama.cpp's llama-quant.cpp (November 2026), for
    dense models; `important` says that there is an importance matrix. In the _M mixes a third of the layers keep attn_v
    and ffn_down in more bits. Beyond that source, a tensor that the adapter changed gets a type that keeps the change
    (`_KEEPS`).
    """
    usual = _usual(weights, file_type, important)
    return tuple(
        replace(tensor, type=_off_grid(stored.type, tensor.type)) if tensor.name in weights.touched else tensor
        for stored, tensor in zip(weights.tensors, usual, strict=True)
    )


@dataclass(frozen=True)
class _Mix:
    """What decides on the types in a file beside a tensor's own name: whether the embedding is the output too, tensor
    name → (its place among its kind, how many there are), how many query heads share a key head, and whether there is
    an importance matrix."""

    file_type: str
    tied: bool
    layers: Mapping[str, Mapping[str, tuple[int, int]]]
    shared: int
    important: bool


def _usual(weights: Weights, file_type: str, important: bool) -> tuple[Tensor, ...]:
    tensors = weights.tensors
    mix = _Mix(
        file_type=file_type,
        tied=all(tensor.name != "output.weight" for tensor in tensors),
        layers={kind: _layers(tensors, ends) for kind, ends in _KINDS.items()},
        shared=_heads_a_key(weights.metadata),
        important=important,
    )
    return tuple(replace(tensor, type=_type_of(tensor, mix)) for tensor in tensors)


def weighable(weights: Weights, file_types: Sequence[str]) -> bool:
    """Whether an importance matrix would change anything in files of these types."""
    plans = [planned(weights, file_type) for file_type in file_types]
    return any(
        _takes_importance(weights, stored) and block_width(tensor.type) > 1 and tensor.type not in ("Q8_0", stored.type)
        for plan in plans
        for stored, tensor in zip(weights.tensors, plan, strict=True)
        if _BLOCK.match(tensor.name)
    )


def _takes_importance(weights: Weights, stored: Tensor) -> bool:
    return stored.name not in weights.touched or stored.type in FREE


def _heads_a_key(metadata: Mapping[str, bytes]) -> int:
    prefix = f"{decode(metadata['general.architecture'])}.attention.head_count"
    heads, keys = (decode(metadata[key]) if key in metadata else 0 for key in (prefix, f"{prefix}_kv"))
    return int(heads // keys) if isinstance(heads, int) and isinstance(keys, int) and keys else 1


def _layers(tensors: Sequence[Tensor], ends: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Tensor name → (its place among its kind, how many there are), in the order of the layers."""
    found = [tensor.name for tensor in tensors if tensor.name.endswith(ends)]
    found.sort(key=lambda name: int(_BLOCK.match(name)[1]) if _BLOCK.match(name) else -1)  # type: ignore[index]
    return {name: (place, len(found)) for place, name in enumerate(found)}


def _type_of(tensor: Tensor, mix: _Mix) -> str:
    if len(tensor.shape) < 2 or not tensor.name.endswith("weight") or "_norm.weight" in tensor.name:
        return "F32"
    default = DEFAULT_TYPE[mix.file_type]
    if block_width(default) == 1:
        return default
    chosen = _mixed(tensor, default, mix)
    if tensor.width % block_width(chosen):
        chosen = _FALLBACK.get(chosen, "F16")
    return chosen if tensor.width % block_width(chosen) == 0 else "F16"


def _off_grid(stored: str, chosen: str) -> str:
    """`chosen`, or the smallest larger type that keeps a small change to a tensor stored as `stored`."""
    keeps = _KEEPS.get(stored, ("Q8_0",))
    if block_width(chosen) == 1 or chosen in keeps:
        return chosen
    return "Q5_0" if "Q5_0" in keeps and not chosen.startswith("Q6") else "Q8_0"


def _mixed(tensor: Tensor, default: str, mix: _Mix) -> str:
    name = tensor.name
    if name == "output.weight" or (mix.tied and name == "token_embd.weight"):
        return "Q8_0" if default == "Q8_0" or tensor.width % block_width(default) else "Q6_K"
    kind = next((kind for kind, places in mix.layers.items() if name in places), None)
    if kind is None:
        return default
    place, count = mix.layers[kind][name]
    if mix.file_type in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if _gets_more_bits(place, count) else default
    if mix.file_type == "Q4_K_S":
        return "Q5_K" if place < (4 if kind == "attn_v" else count // 8) else default
    if mix.file_type == "IQ4_XS":
        more = mix.shared >= 4 if kind == "attn_v" else place < count // 8 and not mix.important
        return "Q5_K" if more else default
    if kind == "ffn_down" and mix.important and place < count // 8:
        return {"Q4_0": "Q4_1", "Q5_0": "Q5_1"}.get(mix.file_type, default)
    return default


def _gets_more_bits(place: int, count: int) -> bool:
    return place < count // 8 or place >= 7 * count // 8 or (place - count // 8) % 3 == 2


def quantise(
    weights: Weights,
    path: Path,
    file_type: str,
    *,
    importance: Importance | None = None,
    changed: Mapping[str, bytes] | None = None,
    progress: Progress,
) -> int:
    """Write `weights` to `path` as a GGUF of `file_type` and return its size in bytes.

    `importance` weighs the error of each column of a tensor, where it has the tensor and that would not cost the
    adapter (`_KEEPS`). `changed` are metadata values to set beside general.file_type and general.quantization_version;
    all others are copied byte for byte. A few chunks of rows are in memory at a time, never a whole tensor. Raises
    MachineError when the disk has too little room, BaseModelError when a weight does not fit the type, OSError as the
    system does.
    """
    importance = importance or {}
    tensors = planned(weights, file_type, important=bool(importance))
    metadata = {
        **weights.metadata,
        **(changed or {}),
        "general.file_type": encode(int(_file_type(file_type))),
        "general.quantization_version": encode(int(GGML_QUANT_VERSION)),
    }
    size = file_size(metadata, tensors)
    more = sum(a != b for a, b in zip(tensors, _usual(weights, file_type, bool(importance)), strict=True))
    if more:
        progress.say(f"{path.name}: {more} tensors get another type than {file_type} gives, which keeps the adapter")
    need_disk(path.parent, size, f"the {file_type} file ({path.name})")
    stored = {tensor.name: tensor for tensor in weights.tensors}
    threads = threads_by_load()
    with progress.track(f"writing {path.name}", size) as track, ThreadPoolExecutor(threads) as pool:
        gauge = _Gauge(track)

        def chunks(tensor: Tensor) -> Iterator[bytes]:
            source = stored[tensor.name]
            weighed = importance.get(tensor.name) if _takes_importance(weights, source) else None
            made = _in_order(pool, threads + 1, _jobs(weights, source, tensor, weighed))
            return gauge.passing(made)

        write_gguf(path, metadata, tensors, chunks)
    return size


def _file_type(name: str) -> LlamaFileType:
    return LlamaFileType.ALL_F32 if name == "F32" else LlamaFileType[f"MOSTLY_{name}"]


class _Gauge:
    """Moves a bar on by bytes and shows the speed."""

    def __init__(self, track: Track) -> None:
        self._track = track
        self._began = time.perf_counter()
        self._bytes = 0

    def passing(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Hand chunks on and count them once they are written."""
        for chunk in chunks:
            yield chunk
            self._bytes += len(chunk)
            seconds = max(time.perf_counter() - self._began, 1e-9)
            self._track.advance(len(chunk), speed=f"{in_words(self._bytes / seconds)}/s")


def _jobs(weights: Weights, stored: Tensor, tensor: Tensor, weighed: Floats | None) -> Iterator[Callable[[], bytes]]:
    """One job for each chunk of rows of a tensor."""
    step = max(1, _CHUNK // (4 * tensor.width))

    def make(start: int, stop: int) -> bytes:
        kept = weights.stored(stored, start, stop) if stored.type == tensor.type else None
        return _encoded(weights.rows(stored, start, stop), tensor, weighed) if kept is None else kept

    for start in range(0, tensor.rows, step):
        yield partial(make, start, min(start + step, tensor.rows))


def _in_order(pool: ThreadPoolExecutor, ahead: int, jobs: Iterable[Callable[[], bytes]]) -> Iterator[bytes]:
    """The results of jobs in their order, never more than `ahead` of them at once (libgguf frees the interpreter)."""
    waiting: deque[Future[bytes]] = deque()
    for job in jobs:
        waiting.append(pool.submit(job))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _encoded(rows: Floats, tensor: Tensor, weighed: Floats | None) -> bytes:
    if not np.isfinite(rows).all():
        raise BaseModelError(f"tensor {tensor.name} holds numbers that are not finite", hint="train again")
    if tensor.type == "F32":
        return rows.tobytes()
    if tensor.type == "F16":
        with np.errstate(over="ignore"):
            halves = rows.astype(np.float16)
        if not np.isfinite(halves).all():
            raise BaseModelError(
                f"tensor {tensor.name} does not fit into F16", hint="take BF16 or Q8_0 in export.files"
            )
        return halves.tobytes()
    packed: bytes = libgguf.quantize_rows(rows, GGMLQuantizationType[tensor.type], imatrix=weighed).tobytes()
    return packed
