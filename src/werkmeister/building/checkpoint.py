"""The trained model as a Hugging Face checkpoint: the base's safetensors with the adapter merged in, file by file.

A tensor is read, changed and written some rows at a time, so that the memory does not grow with the model.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from werkmeister.bases.gguf_header import Tensor, row_bytes
from werkmeister.bases.shape import INDEX, weight_files
from werkmeister.building.adapter import Adapter, Delta, Floats, read_adapter
from werkmeister.building.convert import PREFIX, entries
from werkmeister.building.merge import dequantise
from werkmeister.errors import ArtefactError
from werkmeister.machine import need_disk
from werkmeister.progress import Progress

if TYPE_CHECKING:
    from werkmeister.bases.base import Base

_ROWS = 8 << 20
"""Numbers of a tensor that are in memory at a time: 32 MiB in float32, whatever the model's size."""
_TYPES = ("F32", "F16", "BF16")
_NOT_COPIED = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx")


def write_checkpoint(base: Base, adapter: Path, folder: Path, progress: Progress) -> None:
    """Write `base` with the PEFT adapter in the folder `adapter` merged into it, in the base's own files and types.

    config and tokenizer are the base's; the chat template is the one in force, and generation_config.json names the
    tokens that end a turn under it. Rounding to a type of 16 bits is to the
    nearest, ties to even, as torch does it. Raises ArtefactError when the adapter cannot be merged or does not fit the
    base, MachineError when the disk is too small.
    """
    found = read_adapter(adapter)
    files = weight_files(base.folder)
    need_disk(folder, sum(file.stat().st_size for file in files), "the merged checkpoint")
    _check(base, found)
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        _merge_file(file, folder / file.name, found, progress)
    for file in sorted(base.folder.iterdir()):
        if file.is_file() and (file.name == INDEX or not file.name.endswith((*_NOT_COPIED, INDEX))):
            shutil.copyfile(file, folder / file.name)
    # The base may have had none, or one that was changed: the file is what was trained with.
    (folder / "chat_template.jinja").write_text(base.template, encoding="utf-8", newline="\n")
    _drop_older_template(folder / "tokenizer_config.json")
    _name_end_tokens(base, folder / "generation_config.json")


def _check(base: Base, adapter: Adapter) -> None:
    shapes = {
        module: (entry["dtype"], tuple(entry["shape"]))
        for file in weight_files(base.folder)
        for name, entry, _ in entries(file)
        if (module := _module(name))
    }
    problems = []
    for module, delta in adapter.deltas.items():
        kind, shape = shapes.get(module, ("", ()))
        wanted = (delta.b.shape[0], delta.a.shape[1])
        if not kind:
            problems.append(f"the base has no weight of its own for {module} (output and embedding may be tied)")
        elif shape != wanted:
            problems.append(f"{module} is {shape} in the base and {wanted} in the adapter")
        elif kind not in _TYPES:
            problems.append(f"{module} is stored as {kind}, and only {', '.join(_TYPES)} can be merged into")
    if problems:
        raise ArtefactError("the adapter does not fit the base", problems=problems, hint="train again on this base")


def _module(name: str) -> str:
    """The module whose weight a tensor is, as an adapter names it ("layers.0.self_attn.q_proj"); "" for any other."""
    plain = PREFIX.sub("", name).removeprefix("language_model.")
    return plain.removesuffix(".weight") if plain.endswith(".weight") and "vision" not in name else ""


def _merge_file(source: Path, target: Path, adapter: Adapter, progress: Progress) -> None:
    # In the order of their bytes, which is what the head promises.
    placed = sorted(entries(source), key=lambda found: found[1]["data_offsets"][0])
    size = source.stat().st_size
    with (
        source.open("rb") as file,
        target.open("wb") as written,
        progress.track(f"merging {source.name}", size) as bar,
    ):
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(0)
        bar.advance(written.write(file.read(8 + length)))
        for name, entry, start in placed:
            begin, end = (start + offset for offset in entry["data_offsets"])
            file.seek(begin)
            for piece in _pieces(file, end - begin, entry, adapter.deltas.get(_module(name))):
                bar.advance(written.write(piece))


def _pieces(file: BinaryIO, size: int, entry: Mapping[str, Any], delta: Delta | None) -> Iterator[bytes]:
    """The bytes of the tensor that begins where `file` stands, changed by `delta` where there is one."""
    if delta is None or delta.is_zero:
        for at in range(0, size, 4 * _ROWS):
            yield file.read(min(4 * _ROWS, size - at))
        return
    tensor = Tensor(name="", shape=tuple(entry["shape"]), type=entry["dtype"])
    step = max(1, _ROWS // tensor.width)
    for start in range(0, tensor.rows, step):
        stop = min(start + step, tensor.rows)
        raw = np.frombuffer(file.read((stop - start) * row_bytes(tensor.type, tensor.width)), dtype=np.uint8)
        yield _stored(dequantise(raw, tensor) + delta.rows(start, stop), tensor.type)


def _stored(rows: Floats, kind: str) -> bytes:
    if kind == "BF16":
        bits = rows.view(np.uint32)
        return (
            ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))
            .astype(np.uint16)
            .tobytes()
        )
    found = rows.astype(np.float16 if kind == "F16" else np.float32)
    if not np.isfinite(found).all():
        raise ArtefactError("a merged weight is beyond float16", hint="name the base in bfloat16 or float32")
    return found.tobytes()


def _drop_older_template(config: Path) -> None:
    """A template inside tokenizer_config.json would be a second one."""
    if config.is_file():
        held = json.loads(config.read_text(encoding="utf-8"))
        if held.pop("chat_template", None) is not None:
            config.write_text(json.dumps(held, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")


def _name_end_tokens(base: Base, config: Path) -> None:
    from werkmeister.bases.tokens import load_tokenizer

    tokenizer = load_tokenizer(base)
    held = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    said = held.get("eos_token_id")
    known = said if isinstance(said, list) else [said] if said is not None else [tokenizer.eos_token_id]
    added = [tokenizer.convert_tokens_to_ids(text) for text in base.stop if text in tokenizer.get_vocab()]
    ends = list(dict.fromkeys(number for number in (*added, *known) if number is not None))
    config.write_text(json.dumps(held | {"eos_token_id": ends}, indent=2) + "\n", encoding="utf-8", newline="\n")
