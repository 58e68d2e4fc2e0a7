"""The export stage: base and adapter become GGUF files that llama.cpp serves, proven to do what was trained."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.artefact import Artefact, Draft, making, open_artefact, sha256_of
from werkmeister.config import as_json, setting
from werkmeister.errors import ArtefactError, SettingsError
from werkmeister.machine import in_words, need_disk
from werkmeister.progress import Progress, Silent

if TYPE_CHECKING:
    from werkmeister.bases.base import Base
    from werkmeister.building.importance import Importance
    from werkmeister.building.merge import Weights
    from werkmeister.building.proof import Work
    from werkmeister.building.trained import Reference

VERSION = 2
FILE_TYPES = (
    *("F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0"),
    *("Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0", "IQ4_XS"),
)
ALL = "all"
TABLE = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS")
"""What `files = ["all"]` writes, beside the overlay: the rows of the decision table."""
OVERLAY = "overlay"
ADAPTER = "adapter.gguf"
IMPORTANCE = "imatrix.gguf"
_SMALL = "Q4_K_M"


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What is written for llama.cpp, and how it is proven."""

    files: tuple[str, ...] = setting(
        ("Q8_0", "Q4_K_M"),
        help=f"file types to write, largest and most exact first: {', '.join(FILE_TYPES)}; {OVERLAY}: the base "
        f"quantised, for the adapter to be laid over; {ALL}: {', '.join(TABLE)}, {OVERLAY}",
    )
    default: str = setting(
        "", help="the file type that answers; empty: the exam decides (exam.margin), and before it the first of files"
    )
    importance: int = setting(
        8192, low=0, unit="tokens", help="of training text from which the importance matrix is read; 0: none is used"
    )
    context_length: int = setting(0, low=0, unit="tokens", help="longest conversation when serving; 0: the base's own")
    parity_prompts: int = setting(
        8, low=1, high=256, help="exam prompts on which every file is compared with the trained model"
    )
    seed: int = setting(0, low=0, help="which exam prompts are drawn for that")

    def __post_init__(self) -> None:
        known = (*FILE_TYPES, OVERLAY, ALL)
        unknown = [name for name in self.files if name not in known]
        if unknown:
            raise ValueError(f"files: {', '.join(unknown)} is none of {', '.join(known)}")
        if not self.kinds or len(set(self.files)) < len(self.files):
            raise ValueError("files: name at least one file type, and each once")
        if self.default and self.default not in self.kinds:
            raise ValueError(f"default: {self.default!r} is none of files ({', '.join(self.kinds)})")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The types of the merged files, in the order in which they were asked for."""
        wanted = [kind for name in self.files for kind in (TABLE if name == ALL else (name,))]
        return tuple(kind for kind in dict.fromkeys(wanted) if kind != OVERLAY)

    @property
    def overlaid(self) -> bool:
        """Whether the adapter is shipped on a quantised base as well."""
        return bool({ALL, OVERLAY} & {*self.files})


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

    The artefact holds `model-TYPE.gguf` for each type, `adapter.gguf`, which is laid over the base's own GGUF, the
    importance matrix where one was of use, and golden prompts of each. `facts` say what serving needs (see `_facts`),
    `measures["parity"]` what the gate found for each file. A run that was cut off keeps the files that were whole.
    `expert` is the folder that a relative base name counts from. Raises ParityError when a file does not do what the
    trained model does (that file is deleted), ArtefactError for an adapter that cannot be merged, BaseModelError for a
    base of an unknown architecture, SettingsError for a context that the base does not have, MachineError when the disk
    is too small.
    """
    from werkmeister.bases.find import find_same_base
    from werkmeister.building.proof import PROOF, prove
    from werkmeister.chat import read_examples

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
        work = _work(base, weights, trained.path / "adapter", context, settings, progress)
        overlay = _overlay(base) if settings.overlaid else None
        _need_disk(draft.path, work, settings, overlay)
        reference, importance = _read_trained(draft, work, data, settings, progress)
        _write_files(draft, work, importance, settings, progress)
        if overlay and overlay["file"]:
            _write(draft, overlay["file"], weights, overlay["type"], base, importance, progress)
        _write(draft, f"{draft.scratch.name}/{PROOF}", weights, "F16", base, {}, progress)
        draft.measures["parity"] = prove(
            draft, work, reference, list(read_examples(data.file("exam.jsonl"))), settings.kinds, overlay, progress
        )
        draft.facts |= _facts(base, trained, settings, context) | {"overlay": overlay}
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


def _work(
    base: Base, weights: Weights, adapter_folder: Path, context: int, settings: ExportSettings, progress: Progress
) -> Work:
    from werkmeister.building.adapter import read_adapter
    from werkmeister.building.merge import Merged, deltas_for
    from werkmeister.building.proof import Work

    adapter = read_adapter(adapter_folder)
    deltas = deltas_for(weights, adapter)
    if adapter.is_zero:
        progress.say("the adapter is zero: the files will answer as the base does")
    merged = Merged(weights, deltas)
    return Work(base=base, adapter=adapter, weights=weights, deltas=deltas, merged=merged, context_length=context)


def _read_trained(
    draft: Draft, work: Work, data: Artefact, settings: ExportSettings, progress: Progress
) -> tuple[Reference, Importance]:
    """What the gate compares with, and the importance matrix: both from one loading of the trained model, which is
    freed before anything is written."""
    from werkmeister.bases.tokens import examples_ids
    from werkmeister.building.importance import read_importance, write_importance
    from werkmeister.building.quantise import weighable
    from werkmeister.building.trained import load_trained, refer
    from werkmeister.chat import read_examples

    draw = random.Random(settings.seed)
    model = load_trained(work.base, work.adapter.folder, progress)
    exam, train = (list(read_examples(data.file(f"{split}.jsonl"))) for split in ("exam", "train"))
    reference = refer(model, draw.sample(exam, min(settings.parity_prompts, len(exam))), progress)
    if not settings.importance or not train or not weighable(work.merged, settings.kinds):
        if settings.importance and work.rounded:
            progress.say("no importance matrix: the base was rounded before, and under one rounding loses the adapter")
        return reference, {}
    rows, tokens = [], 0
    draw.shuffle(train)
    for prompt, answer in examples_ids(model.tokenizer, train):
        rows.append([*prompt, *answer][: work.base.context_length])
        tokens += len(rows[-1])
        if tokens >= settings.importance:
            break
    read = read_importance(model.model, rows, work.architecture, work.blocks, progress)
    write_importance(draft.path / IMPORTANCE, read)
    draft.measures["importance"] = {"texts": read.texts, "tokens": read.tokens, "tensors": len(read.importance)}
    progress.say(f"importance matrix: of {read.tokens:,} tokens in {read.texts:,} training examples")
    return reference, read.importance


def _write_files(
    draft: Draft, work: Work, importance: Importance, settings: ExportSettings, progress: Progress
) -> None:
    from werkmeister.building.adapter_gguf import write_adapter

    for kind in settings.kinds:
        _write(draft, model_file(kind), work.merged, kind, work.base, importance, progress)
    write_adapter(draft.path / ADAPTER, work.adapter, work.deltas, work.weights.metadata)


def _weights(base: Base) -> Weights:
    from werkmeister.building.merge import GgufWeights

    if base.gguf is not None:
        return GgufWeights(base.gguf)
    from werkmeister.building.convert import CheckpointWeights

    return CheckpointWeights(base)


def _need_disk(folder: Path, work: Work, settings: ExportSettings, overlay: Mapping[str, str] | None) -> None:
    from werkmeister.bases.gguf_file import file_size
    from werkmeister.building.proof import PROOF
    from werkmeister.building.quantise import planned

    kinds = {model_file(kind): kind for kind in settings.kinds} | {f"scratch/{PROOF}": "F16"}
    kinds |= {overlay["file"]: overlay["type"]} if overlay and overlay["file"] else {}
    missing = [kind for name, kind in kinds.items() if not (folder / name).exists()]
    sizes = [file_size(work.merged.metadata, planned(work.merged, kind)) for kind in missing]
    need_disk(folder, sum(sizes), f"export ({', '.join(missing)}; F16 only to prove the rest)")


def _write(
    draft: Draft, file: str, weights: Weights, kind: str, base: Base, importance: Importance, progress: Progress
) -> None:
    """Write one file, unless an interrupted run has left it whole."""
    from werkmeister.bases.gguf_file import encode
    from werkmeister.bases.gguf_header import decode
    from werkmeister.building.quantise import quantise
    from werkmeister.building.tokenizer_gguf import NAME, template_metadata

    path = draft.path / file
    if path.exists():
        progress.say(f"{file} is there from the interrupted run")
        return
    name = decode(weights.metadata[NAME]) if NAME in weights.metadata else base.name
    whose = " expert" if file == model_file(kind) else ""
    changed = template_metadata(base, weights.metadata) | {NAME: encode(f"{name}{whose}")}
    size = quantise(weights, path, kind, importance=importance, changed=changed, progress=progress)
    progress.say(f"{file}: {in_words(size)}")


def _overlay(base: Base) -> dict[str, str]:
    """What the adapter is laid over, where it is not merged: the base's own file when that is quantised ("file" is
    empty then), else one that is written beside the others."""
    from gguf import LlamaFileType

    from werkmeister.bases.gguf_header import read_gguf_header

    number = read_gguf_header(base.gguf).metadata.get("general.file_type") if base.gguf is not None else None
    kind = LlamaFileType(number).name.removeprefix("MOSTLY_") if number is not None else ""
    if kind.startswith(("Q", "IQ")):
        return {"name": f"adapter on {kind}", "file": "", "type": kind}
    return {"name": f"adapter on {_SMALL}", "file": f"base-{_SMALL}.gguf", "type": _SMALL}


def model_file(kind: str) -> str:
    """The name of the merged file of a type."""
    return f"model-{kind}.gguf"


def _facts(base: Base, trained: Artefact, settings: ExportSettings, context: int) -> dict[str, Any]:
    """What later stages read: base, system message, context, end tokens, the files and which of them is the default
    until an exam has decided; `overlay` is beside them, None where it was not asked for (see `_overlay`)."""
    files = {kind: model_file(kind) for kind in settings.kinds}
    return {
        "base": trained.facts["base"],
        "system": trained.facts["system"],
        "context_length": context,
        "stop": list(base.stop),
        "files": files,
        "adapter": ADAPTER,
        "default": settings.default or settings.kinds[0],
        "base_file": _base_file(base),
    }


def _base_file(base: Base) -> dict[str, Any]:
    """Name, size and SHA-256 of what was merged into: the base's own GGUF, or its safetensors."""
    from werkmeister.bases.shape import weight_files

    files = [base.gguf] if base.gguf is not None else weight_files(base.folder)
    return {file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in files}
