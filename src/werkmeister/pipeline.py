"""Which stages an expert needs, what is stale and why, and running them in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister import artefact
from werkmeister.artefact import Artefact, open_artefact, read_manifest, stage_key
from werkmeister.building import export as export_stage
from werkmeister.building import train as train_stage
from werkmeister.building.processes import main_first
from werkmeister.building.settings import TrainSettings
from werkmeister.building.together import holding
from werkmeister.config import ExpertSettings, Settings, as_json, read_settings
from werkmeister.consulting import indexing as index_stage
from werkmeister.consulting.expert import AskSettings
from werkmeister.corpus import dataset as dataset_stage
from werkmeister.corpus.documents import stage as documents_stage
from werkmeister.corpus.writing import stage as write_stage
from werkmeister.delivery.settings import ServeSettings
from werkmeister.errors import ArtefactError, SettingsError
from werkmeister.examining import exam as exam_stage
from werkmeister.examining.marks import grader_of
from werkmeister.governing.policy import PolicySettings
from werkmeister.progress import Progress, Silent

if TYPE_CHECKING:
    from werkmeister.bases.base import Base

DECLARED: Mapping[str, type] = {
    "expert": ExpertSettings,
    "documents": documents_stage.DocumentsSettings,
    "index": index_stage.IndexSettings,
    "write": write_stage.WriteSettings,
    "dataset": dataset_stage.DatasetSettings,
    "train": TrainSettings,
    "export": export_stage.ExportSettings,
    "exam": exam_stage.ExamSettings,
    "ask": AskSettings,
    "serve": ServeSettings,
    "policy": PolicySettings,
}
"""Every table of expert.toml and the dataclass that declares its keys."""

STAGES = ("documents", "index", "write", "dataset", "train", "export", "exam")
"""The stages in order; each reads artefacts of those before it. `stages_of` says which ones an expert needs."""

_READS: Mapping[str, tuple[str, ...]] = {
    "documents": (),
    "index": ("documents",),
    "write": ("documents",),
    "dataset": ("documents", "write"),
    "train": ("dataset",),
    "export": ("dataset", "train"),
    "exam": ("dataset", "train", "export"),
}
_VERSIONS = {
    "documents": documents_stage.VERSION,
    "index": index_stage.VERSION,
    "write": write_stage.VERSION,
    "dataset": dataset_stage.VERSION,
    "train": train_stage.VERSION,
    "export": export_stage.VERSION,
    "exam": exam_stage.VERSION,
}


@dataclass(frozen=True)
class Step:
    """What a build will do about one stage: `reason` is empty when its artefact is up to date."""

    stage: str
    reason: str


@dataclass(frozen=True)
class Done:
    """What a build did about one stage; `seconds` of wall clock, 0 when nothing was run."""

    stage: str
    reason: str
    seconds: float
    artefact: Artefact


def read_expert(folder: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read and check the expert.toml of a folder, with the --set of this run on top."""
    return read_settings(folder, DECLARED, overrides)


def artefacts_of(folder: Path) -> Path:
    """The folder in which an expert's artefacts lie."""
    return folder / "artefacts"


def stages_of(settings: Settings) -> tuple[str, ...]:
    """The stages that this expert needs: without documents none reads them, and without text none writes pairs."""
    chosen, written = settings.table("documents"), settings.table("write")
    reads = bool(chosen.files or chosen.script)
    skipped = {"documents": not reads, "index": not reads, "write": not (reads or written.prompts)}
    return tuple(stage for stage in STAGES if not skipped.get(stage))


def plan(settings: Settings, base: Base, *, upto: str = "exam") -> list[Step]:
    """What a build up to a stage would run, and why."""
    steps: list[Step] = []
    identities: dict[str, str] = {}
    for stage in _upto(settings, upto):
        behind = [name for name in _read_by(settings, stage) if name not in identities]
        reason = f"{behind[0]} is made anew" if behind else _stale(settings, base, stage, identities)
        steps.append(Step(stage, reason))
        if not reason:
            identities[stage] = read_manifest(artefacts_of(settings.folder) / stage)["identity"]
    return steps


def build(
    settings: Settings, *, upto: str = "exam", progress: Progress | None = None, finish: bool = False
) -> list[Done]:
    """Run every stage up to `upto` that is missing or stale, in order; the rest is checked and kept.

    Raises BusyError when another build of the same expert is running, ArtefactError when an artefact was edited, and
    whatever a stage raises; artefacts that were complete stay.
    """
    progress = progress or Silent()
    done: list[Done] = []
    with holding(artefacts_of(settings.folder), upto):
        base = _base(settings, progress)
        identities: dict[str, str] = {}
        for stage in _upto(settings, upto):
            done.append(_bring_up_to_date(settings, base, stage, identities, progress, finish))
            identities[stage] = done[-1].artefact.identity
    return done


def run_stage(
    settings: Settings, stage: str, *, progress: Progress | None = None, finish: bool = False, again: bool = False
) -> Done:
    """Run one stage alone. What it reads must be there and up to date; `again` runs it even when nothing changed.

    `write` and `dataset` bring the stages in front of them up to date themselves: a person who asks for a dataset of
    documents means all of the way from the documents.
    """
    _require_needed(settings, stage)
    progress = progress or Silent()
    with holding(artefacts_of(settings.folder), stage):
        base = _base(settings, progress)
        identities: dict[str, str] = {}
        for earlier in _behind(settings, stage):
            reason = _stale(settings, base, earlier, identities)
            if reason and stage in ("index", "write", "dataset") and not _costly(settings, earlier):
                identities[earlier] = _run(settings, base, earlier, reason, progress, False).artefact.identity
                continue
            if reason:
                raise ArtefactError(
                    f"{stage} needs an up-to-date {earlier} artefact, and this one is not: {reason}",
                    hint=f"werkmeister {earlier} {settings.folder}, or werkmeister build {settings.folder} for all",
                )
            identities[earlier] = _open(settings, earlier).identity
        if again:
            return _run(settings, base, stage, "asked for", progress, finish)
        return _bring_up_to_date(settings, base, stage, identities, progress, finish)


def _upto(settings: Settings, stage: str) -> list[str]:
    _require_needed(settings, stage)
    before = [name for name in stages_of(settings) if STAGES.index(name) <= STAGES.index(stage)]
    # Nothing that is built reads the index: it is made on the way to the whole expert, or when asked for.
    return [name for name in before if name != "index" or stage in ("index", STAGES[-1])]


def _read_by(settings: Settings, stage: str) -> list[str]:
    needed = stages_of(settings)
    return [name for name in _READS[stage] if name in needed]


def _behind(settings: Settings, stage: str) -> list[str]:
    """All that a stage rests on, in order: what it reads, and what that was made from."""
    found: set[str] = set()
    for name in _read_by(settings, stage):
        found |= {name, *_behind(settings, name)}
    return [name for name in STAGES if name in found]


def _require_needed(settings: Settings, stage: str) -> None:
    if stage not in stages_of(settings):
        raise SettingsError(
            f"{settings.folder} has no {'documents' if stage == 'documents' else 'documents and no prompts'}, "
            f"so there is nothing for {stage} to do",
            hint='name some in expert.toml: [documents] files = ["manuals"]',
        )


def estimate_training_of(
    settings: Settings, base: Base, *, tokens: int, longest: int, learnt_share: float, train: int
) -> dict[str, Any]:
    """What training will take: fields of `building.estimate.Estimate`, and `words`, `device` and `plan` of the recipe.

    `plan` is the memory plan of a GPU (`memory` is then the card's), None on a CPU. `train` counts examples, `tokens`
    theirs, `longest` the longest's, `learnt_share` is the share of the text that is learnt.
    """
    from werkmeister.bases.shape import shape_of_folder
    from werkmeister.building.estimate import estimate_training, matmul_rate
    from werkmeister.building.presets import settle
    from werkmeister.building.recipe import derive_recipe

    shape = shape_of_folder(base.folder)
    chosen = settle(settings.table("train"), examples=train, width=shape.width)
    recipe = derive_recipe(
        settings=chosen,
        shape=shape,
        longest=min(longest, base.context_length),
        context_length=base.context_length,
        mean_tokens=tokens / max(1, train),
    )
    estimate = estimate_training(
        shape,
        recipe,
        rank=chosen.rank,
        all_linear="all-linear" in chosen.targets,
        tokens=tokens * chosen.epochs,
        learnt_share=learnt_share,
        rate=matmul_rate(recipe.compute, shape.width),
    )
    plan = asdict(recipe.plan) if recipe.plan else None
    found = asdict(estimate) | ({"memory": plan["training"]} if plan else {})
    return found | {"words": recipe.words(), "device": recipe.device, "plan": plan}


def _costly(settings: Settings, stage: str) -> bool:
    """Whether a stage that was made before would ask a teacher again: money is spent only where a person says so."""
    return (
        stage == "write"
        and bool(settings.table("write").teacher)
        and artefact.exists(artefacts_of(settings.folder) / "write")
    )


def _base(settings: Settings, progress: Progress) -> Base:
    from werkmeister.bases.find import find_base

    with main_first():
        return find_base(settings.table("expert").base, expert=settings.folder, progress=progress)


def _bring_up_to_date(
    settings: Settings, base: Base, stage: str, identities: Mapping[str, str], progress: Progress, finish: bool
) -> Done:
    reason = _stale(settings, base, stage, identities)
    if not reason:
        return Done(stage, "", 0.0, _open(settings, stage))
    return _run(settings, base, stage, reason, progress, finish and stage == "train")


def _run(settings: Settings, base: Base, stage: str, reason: str, progress: Progress, finish: bool) -> Done:
    progress.say(f"── {stage}: {reason}")
    begin = time.perf_counter()
    made = _RUNNERS[stage](settings, base, progress, finish)
    return Done(stage, reason, time.perf_counter() - begin, made)


def _inputs(settings: Settings, base: Base, stage: str, identities: Mapping[str, str]) -> dict[str, str]:
    own: dict[str, str] = {}
    if stage == "documents":
        own = documents_stage.documents_inputs(settings.folder, settings.table("documents"), base)
    elif stage == "index":
        own = index_stage.index_inputs(settings.table("index"))
    elif stage == "write":
        system = settings.table("expert").system
        own = write_stage.write_inputs(settings.folder, settings.table("write"), system)
    elif stage == "dataset":
        chosen, system = settings.table("dataset"), settings.table("expert").system
        own = dataset_stage.dataset_inputs(
            settings.folder, chosen, base, system, written="write" in stages_of(settings)
        )
    elif stage == "train":
        own = train_stage.train_inputs(settings.table("train"), settings.table("exam").mark)
    return own | {name: identities[name] for name in _read_by(settings, stage)}


def _stale(settings: Settings, base: Base, stage: str, identities: Mapping[str, str]) -> str:
    """Why a stage must run, in words; "" when its artefact is what its inputs and settings say."""
    path = artefacts_of(settings.folder) / stage
    inputs, chosen = _inputs(settings, base, stage, identities), as_json(settings.table(stage))
    if not artefact.exists(path):
        return "never made"
    manifest = read_manifest(path, make_with=f"werkmeister {stage} {settings.folder}")
    if manifest["key"] == stage_key(stage, _VERSIONS[stage], inputs, chosen):
        return ""
    was, now = manifest["settings"], chosen
    changed = [f"{stage}.{key}: {was.get(key)!r} → {now.get(key)!r}" for key in now if was.get(key) != now.get(key)]
    before = manifest["inputs"]
    changed += [f"{name} changed" for name in inputs if before.get(name) not in (None, inputs[name])]
    changed += [f"{name} is new" for name in inputs if name not in before]
    changed += [f"{name} is gone" for name in before if name not in inputs]
    return ", ".join(changed) or "this version of werkmeister makes it in another way"


def _open(settings: Settings, stage: str) -> Artefact:
    path = artefacts_of(settings.folder) / stage
    return open_artefact(path, stage, make_with=f"werkmeister {stage} {settings.folder}")


def _made(settings: Settings, stage: str) -> Path | None:
    """The artefact folder of an earlier stage, None where the expert does not need that stage."""
    return artefacts_of(settings.folder) / stage if stage in stages_of(settings) else None


def _run_documents(settings: Settings, base: Base, progress: Progress, finish: bool) -> Artefact:
    home = artefacts_of(settings.folder)
    chosen = settings.table("documents")
    return documents_stage.documents(
        settings.folder, home / "documents", chosen, base=base, home=home, progress=progress
    )


def _run_index(settings: Settings, base: Base, progress: Progress, finish: bool) -> Artefact:
    home = artefacts_of(settings.folder)
    return index_stage.index(home / "documents", home / "index", settings.table("index"), home=home, progress=progress)


def _run_write(settings: Settings, base: Base, progress: Progress, finish: bool) -> Artefact:
    home = artefacts_of(settings.folder)
    return write_stage.write(
        _made(settings, "documents"),
        home / "write",
        settings.table("write"),
        expert=settings.folder,
        policy=settings.table("policy"),
        home=home,
        progress=progress,
        system=settings.table("expert").system,
    )


def _run_dataset(settings: Settings, base: Base, progress: Progress, finish: bool) -> Artefact:
    def seconds(tokens: int, longest: int, learnt_share: float, train: int) -> float:
        told = {"tokens": tokens, "longest": longest, "train": train}
        return float(estimate_training_of(settings, base, learnt_share=learnt_share, **told)["seconds"])

    return dataset_stage.dataset(
        settings.folder,
        artefacts_of(settings.folder) / "dataset",
        settings.table("dataset"),
        base=base,
        system=settings.table("expert").system,
        documents=_made(settings, "documents"),
        written=_made(settings, "write"),
        estimate=seconds,
        progress=progress,
    )


def _run_train(settings: Settings, base: Base, progress: Progress, finish: bool) -> Artefact:
    home, mark = artefacts_of(settings.folder), settings.table("exam").mark
    return train_stage.train(
        home / "dataset",
        home / "train",
        settings.table("train"),
        expert=settings.folder,
        progress=progress,
        finish=finish,
        grader=grader_of(mark),
        mark=mark,
        policy=settings.table("policy"),
    )


def _run_export(settings: Settings, base: Base, progress: Progress, finish: bool) -> Artefact:
    home, chosen = artefacts_of(settings.folder), settings.table("export")
    return export_stage.export(
        home / "dataset", home / "train", home / "export", chosen, expert=settings.folder, progress=progress
    )


def _run_exam(settings: Settings, base: Base, progress: Progress, finish: bool) -> Artefact:
    home, chosen = artefacts_of(settings.folder), settings.table("exam")
    data, trained, exported = (home / stage for stage in ("dataset", "train", "export"))
    return exam_stage.exam(data, trained, exported, home / "exam", chosen, expert=settings.folder, progress=progress)


_RUNNERS: Mapping[str, Callable[[Settings, Any, Progress, bool], Artefact]] = {
    "documents": _run_documents,
    "index": _run_index,
    "write": _run_write,
    "dataset": _run_dataset,
    "train": _run_train,
    "export": _run_export,
    "exam": _run_exam,
}
