"""The export stage: base and adapter become GGUF files that llama.cpp serves, proven to do what was trained."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.artefact import Artefact, Draft, making, open_artefact, sha256_of
from werkmeister.config import as_json, setting
from werkmeister.errors import ArtefactError, ParityError, SettingsError
from werkmeister.machine import in_words, need_disk
from werkmeister.progress import Progress, Silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkmeister.bases.base import Base
    from werkmeister.building.adapter import Adapter, Delta
    from werkmeister.building.merge import Merged, Weights
    from werkmeister.building.trained import Reference

VERSION = 1
FILE_TYPES = (
    *("F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0"),
    *("Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0"),
)
ADAPTER = "adapter.gguf"
_PROOF = "base-F16.gguf"


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What is written for llama.cpp, and how it is proven."""

    files: tuple[str, ...] = setting(
        ("Q8_0", "Q4_K_M"), help=f"file types to write, largest and most exact first: {', '.join(FILE_TYPES)}"
    )
    default: str = setting("", help="the file type that answers when none is named; empty: the first of files")
    context_length: int = setting(0, low=0, unit="tokens", help="longest conversation when serving; 0: the base's own")
    parity_prompts: int = setting(
        8, low=1, high=256, help="exam prompts on which every file is compared with the trained model"
    )
    seed: int = setting(0, low=0, help="which exam prompts are drawn for that")

    def __post_init__(self) -> None:
        unknown = [name for name in self.files if name not in FILE_TYPES]
        if unknown:
            raise ValueError(f"files: {', '.join(unknown)} is none of {', '.join(FILE_TYPES)}")
        if not self.files or len(set(self.files)) < len(self.files):
            raise ValueError("files: name at least one file type, and each once")
        if self.default and self.default not in self.files:
            raise ValueError(f"default: {self.default!r} is none of files ({', '.join(self.files)})")


def export(
    dataset: Path,
    train: Path,
    output: Path,
    settings: ExportSettings,
    *,
    expert: Path | None = None,
    progress: Progress | None = None,
) -> Artefact:
    """Merge the adapter of a train artefact into its base, write every file of `settings.files`, and prove them.

    The artefact holds `model-TYPE.gguf` for each type and `adapter.gguf`, which is laid over the base's own GGUF.
    `facts` say what serving needs (see `_facts`), `measures["parity"]` what the gate found for each file. A run that
    was cut off keeps the files that were whole. `expert` is the folder that a relative base name counts from. Raises
    ParityError when a file does not do what the trained model does (that file is deleted), ArtefactError for an adapter
    that cannot be merged, BaseModelError for a base of an unknown architecture, SettingsError for a context that the
    base does not have, MachineError when the disk is too small.
    """
    from werkmeister.bases.find import find_same_base

    progress = progress or Silent()
    data = open_artefact(dataset, "dataset", make_with="werkmeister dataset")
    trained = open_artefact(train, "train", make_with="werkmeister train")
    if trained.inputs.get("dataset") != data.identity:
        raise ArtefactError(f"{train} was trained on another dataset than {dataset}", hint="run werkmeister train")
    base = find_same_base(trained.facts["base"], expert=expert, progress=progress)
    inputs = {"dataset": data.identity, "train": trained.identity}
    with making("export", output, version=VERSION, inputs=inputs, settings=as_json(settings)) as draft:
        weights = _weights(base)
        context = _context_length(settings, base, weights, progress)
        _make(draft, base, weights, trained.path / "adapter", data.file("exam.jsonl"), settings, progress)
        draft.facts |= _facts(draft.path, base, trained, settings, context)
    return open_artefact(output, "export")


def _context_length(settings: ExportSettings, base: Base, weights: Weights, progress: Progress) -> int:
    from werkmeister.building.merge import context_limit

    limit = min(base.context_length, context_limit(weights) or base.context_length)
    if settings.context_length > limit:
        raise SettingsError(
            f"export.context_length = {settings.context_length}, and {base.name} can be served with {limit} tokens",
            hint="take the setting out, or lower it",
        )
    if limit < base.context_length and not settings.context_length:
        progress.say(
            f"context: {limit} tokens of {base.context_length}, beyond which llama.cpp would compute otherwise"
        )
    return settings.context_length or limit


def _make(
    draft: Draft,
    base: Base,
    weights: Weights,
    adapter_folder: Path,
    exam: Path,
    settings: ExportSettings,
    progress: Progress,
) -> None:
    from werkmeister.building.adapter import read_adapter
    from werkmeister.building.adapter_gguf import write_adapter
    from werkmeister.building.merge import Merged, deltas_for

    adapter = read_adapter(adapter_folder)
    deltas = deltas_for(weights, adapter)
    merged = Merged(weights, deltas)
    if adapter.is_zero:
        progress.say("the adapter is zero: the files will answer as the base does")
    _need_disk(draft.path, merged, settings)
    for kind in settings.files:
        _write(draft, _model_file(kind), merged, kind, base, progress)
    write_adapter(draft.path / ADAPTER, adapter, deltas, weights.metadata)
    _prove(draft, base, adapter, weights, deltas, exam, settings, progress)


def _weights(base: Base) -> Weights:
    from werkmeister.building.merge import GgufWeights

    if base.gguf is not None:
        return GgufWeights(base.gguf)
    from werkmeister.building.convert import CheckpointWeights

    return CheckpointWeights(base)


def _need_disk(folder: Path, merged: Merged, settings: ExportSettings) -> None:
    from werkmeister.building.gguf_file import file_size
    from werkmeister.building.quantise import planned

    kinds = {_model_file(kind): kind for kind in settings.files} | {f"scratch/{_PROOF}": "F16"}
    missing = [kind for name, kind in kinds.items() if not (folder / name).exists()]
    sizes = [file_size(merged.metadata, planned(merged, kind)) for kind in missing]
    need_disk(folder, sum(sizes), f"export ({', '.join(missing)}; F16 only to prove the rest)")


def _write(draft: Draft, file: str, weights: Weights, kind: str, base: Base, progress: Progress) -> None:
    """Write one file, unless an interrupted run has left it whole."""
    from werkmeister.bases.gguf_header import decode
    from werkmeister.building.gguf_file import encode
    from werkmeister.building.quantise import quantise
    from werkmeister.building.tokenizer_gguf import NAME, template_metadata

    path = draft.path / file
    if path.exists():
        progress.say(f"{file} is there from the interrupted run")
        return
    name = decode(weights.metadata[NAME]) if NAME in weights.metadata else base.name
    changed = template_metadata(base, weights.metadata) | {NAME: encode(f"{name} expert")}
    size = quantise(weights, path, kind, changed=changed, progress=progress)
    progress.say(f"{file}: {in_words(size)}")


def _prove(
    draft: Draft,
    base: Base,
    adapter: Adapter,
    weights: Weights,
    deltas: Mapping[str, Delta],
    exam: Path,
    settings: ExportSettings,
    progress: Progress,
) -> None:
    """Three findings make the proof: the adapter on the exact base gives the trained model's logits; each merged file
    holds base + adapter within what its type explains; each file's own logits stay within the bound of its type."""
    from werkmeister.building.applied import applied
    from werkmeister.building.parity import BOUNDS, LEAST_MOVED, check

    reference = _reference(base, adapter.folder, exam, settings, progress)
    proof, overlay = draft.scratch / _PROOF, draft.path / ADAPTER
    _write(draft, f"scratch/{_PROOF}", weights, "F16", base, progress)
    parity: dict[str, Any] = {}
    with _refused_files_go(*(draft.path / _model_file(kind) for kind in settings.files), proof, overlay):
        figures = check(proof, "F16", reference, adapter=overlay, progress=progress)
    parity["adapter"] = figures.measures()
    if figures.moved < LEAST_MOVED and not adapter.is_zero:
        progress.say(f"the adapter hardly changes the answers (logprobs by {figures.moved:.1g}): was it trained?")
    for kind in settings.files:
        path = draft.path / _model_file(kind)
        with _refused_files_go(path):
            shares = applied(path, weights, deltas, progress)
            figures = check(path, kind, reference, progress=progress)
        parity[kind] = figures.measures() | {"applied": {name: round(entry.share, 4) for name, entry in shares.items()}}
        progress.say(f"{path.name} does what was trained: KL {figures.kl:.1g}, bound {BOUNDS[kind].kl:.1g}")
    draft.measures["parity"] = parity


@contextmanager
def _refused_files_go(*paths: Path) -> Iterator[None]:
    """Delete files that the gate refuses, so that the next run does not take them for whole."""
    try:
        yield
    except ParityError:
        for path in paths:
            path.unlink(missing_ok=True)
        raise


def _reference(base: Base, adapter: Path, exam: Path, settings: ExportSettings, progress: Progress) -> Reference:
    from werkmeister.building.trained import refer
    from werkmeister.chat import read_examples

    examples = list(read_examples(exam))
    drawn = random.Random(settings.seed).sample(examples, min(settings.parity_prompts, len(examples)))
    return refer(base, adapter, drawn, progress)


def _model_file(kind: str) -> str:
    return f"model-{kind}.gguf"


def _facts(folder: Path, base: Base, trained: Artefact, settings: ExportSettings, context: int) -> dict[str, Any]:
    """What later stages read: base, system message, context, end tokens, the files and which of them is the default."""
    files = {kind: _model_file(kind) for kind in settings.files}
    return {
        "base": trained.facts["base"],
        "system": trained.facts["system"],
        "context_length": context,
        "stop": list(base.stop),
        "files": files,
        "adapter": ADAPTER,
        "default": settings.default or settings.files[0],
        "base_file": _base_file(base),
    }


def _base_file(base: Base) -> dict[str, Any]:
    """Name, size and SHA-256 of what was merged into: the base's own GGUF, or its safetensors."""
    files = [base.gguf] if base.gguf is not None else sorted(base.folder.glob("*.safetensors"))
    return {file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in files}
