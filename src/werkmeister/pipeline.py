"""Which stages an expert needs, what is stale and why, and running them in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister import artefact
from werkmeister.artefact import Artefact, exclusive, open_artefact, read_manifest, stage_key
from werkmeister.building import export as export_stage
from werkmeister.building import train as train_stage
from werkmeister.config import ExpertSettings, Settings, as_json, read_settings
from werkmeister.consulting.expert import AskSettings
from werkmeister.corpus import dataset as dataset_stage
from werkmeister.errors import ArtefactError
from werkmeister.examining import exam as exam_stage
from werkmeister.progress import Progress, Silent

if TYPE_CHECKING:
    from werkmeister.bases.base import Base

DECLARED: Mapping[str, type] = {
    "expert": ExpertSettings,
    "dataset": dataset_stage.DatasetSettings,
    "train": train_stage.TrainSettings,
    "export": export_stage.ExportSettings,
    "exam": exam_stage.ExamSettings,
    "ask": AskSettings,
}
"""Every table of expert.toml and the dataclass that declares its keys."""

STAGES = ("dataset", "train", "export", "exam")
"""The stages in order; each reads artefacts of those before it."""

_READS = {"dataset": (), "train": ("dataset",), "export": ("dataset", "train"), "exam": ("dataset", "train", "export")}
_VERSIONS = {
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


def plan(settings: Settings, base: Base, *, upto: str = "exam") -> list[Step]:
    """What a build up to a stage would run, and why."""
    steps: list[Step] = []
    identities: dict[str, str] = {}
    for stage in STAGES[: STAGES.index(upto) + 1]:
        behind = [name for name in _READS[stage] if name not in identities]
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
    with exclusive(artefacts_of(settings.folder)):
        base = _base(settings, progress)
        identities: dict[str, str] = {}
        for stage in STAGES[: STAGES.index(upto) + 1]:
            done.append(_bring_up_to_date(settings, base, stage, identities, progress, finish))
            identities[stage] = done[-1].artefact.identity
    return done


def run_stage(
    settings: Settings, stage: str, *, progress: Progress | None = None, finish: bool = False, again: bool = False
) -> Done:
    """Run one stage alone. What it reads must be there and up to date; `again` runs it even when nothing changed."""
    progress = progress or Silent()
    with exclusive(artefacts_of(settings.folder)):
        base = _base(settings, progress)
        identities: dict[str, str] = {}
        for earlier in _READS[stage]:
            reason = _stale(settings, base, earlier, identities)
            if reason:
                raise ArtefactError(
                    f"{stage} needs an up-to-date {earlier} artefact, and this one is not: {reason}",
                    hint=f"werkmeister {earlier} {settings.folder}, or werkmeister build {settings.folder} for all",
                )
            identities[earlier] = _open(settings, earlier).identity
        if again:
            return _run(settings, base, stage, "asked for", progress, finish)
        return _bring_up_to_date(settings, base, stage, identities, progress, finish)


def _base(settings: Settings, progress: Progress) -> Base:
    from werkmeister.bases.find import find_base

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
    if stage == "dataset":
        system = settings.table("expert").system
        return dataset_stage.dataset_inputs(settings.folder, settings.table("dataset"), base, system)
    return {name: identities[name] for name in _READS[stage]}


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


def _run_dataset(settings: Settings, base: Base, progress: Progress, finish: bool) -> Artefact:
    return dataset_stage.dataset(
        settings.folder,
        artefacts_of(settings.folder) / "dataset",
        settings.table("dataset"),
        base=base,
        system=settings.table("expert").system,
        progress=progress,
    )


def _run_train(settings: Settings, base: Base, progress: Progress, finish: bool) -> Artefact:
    home, chosen = artefacts_of(settings.folder), settings.table("train")
    return train_stage.train(
        home / "dataset", home / "train", chosen, expert=settings.folder, progress=progress, finish=finish
    )


def _run_export(settings: Settings, base: Base, progress: Progress, finish: bool) -> Artefact:
    home, chosen = artefacts_of(settings.folder), settings.table("export")
    return export_stage.export(
        home / "dataset", home / "train", home / "export", chosen, expert=settings.folder, progress=progress
    )


def _run_exam(settings: Settings, base: Base, progress: Progress, finish: bool) -> Artefact:
    home = artefacts_of(settings.folder)
    return exam_stage.exam(
        home / "dataset",
        home / "train",
        home / "export",
        home / "exam",
        settings.table("exam"),
        expert=settings.folder,
        progress=progress,
    )


_RUNNERS: Mapping[str, Callable[[Settings, Any, Progress, bool], Artefact]] = {
    "dataset": _run_dataset,
    "train": _run_train,
    "export": _run_export,
    "exam": _run_exam,
}
