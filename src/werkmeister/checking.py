"""The verb check: files, base model, memory, disk and time of a build, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.artefact import read_manifest
from werkmeister.chat import Example, read_examples
from werkmeister.config import Settings
from werkmeister.errors import BaseModelError
from werkmeister.machine import free_disk, in_words, read_machine
from werkmeister.pipeline import artefacts_of, plan
from werkmeister.progress import Progress

if TYPE_CHECKING:
    from werkmeister.bases.base import Base

_LETTERS_A_TOKEN = 3.0
_TEMPLATE_TOKENS = 16
"""Rough, on the safe side for German and English; used only until the dataset stage has counted."""


def check_expert(settings: Settings, *, progress: Progress) -> dict[str, Any]:
    """Look at everything that a build of this expert will need; fetches no model and trains nothing.

    The result holds `machine`, `base`, `examples`, `plan`, `training` (estimated), `problems` (what will stop the
    build) and `notes`. Raises DataError with all mistakes in the examples files.
    """
    from werkmeister.bases.find import known_base

    machine = read_machine()
    base = known_base(settings.table("expert").base, expert=settings.folder)
    found: dict[str, Any] = {"expert": str(settings.folder), "machine": asdict(machine), "problems": [], "notes": []}
    found["base"] = _base_facts(settings, base)
    found["examples"] = _examples(settings, base, progress)
    if base is None:
        found["notes"].append("the base will be fetched first; memory and time are estimated once it is here")
        found["plan"] = [{"stage": "base", "reason": f"fetch {settings.table('expert').base}"}]
        return found
    from werkmeister.building.convert import require_convertible

    try:
        require_convertible(base)
    except BaseModelError as error:
        found["problems"].append(str(error))
    found["plan"] = [{"stage": step.stage, "reason": step.reason} for step in plan(settings, base)]
    if found["examples"].get("tokens"):
        found["training"] = training = _training(settings, base, found["examples"])
        found["disk"] = _disk(settings, base, training["disk"])
        _judge(found, settings, machine.memory_free)
    return found


def show_check(found: dict[str, Any]) -> None:
    """Print what `check_expert` found."""
    from werkmeister.console import show_table

    machine, base, examples = found["machine"], found["base"], found["examples"]
    rows = [
        ("machine", f"{machine['processor']}, {machine['cores']} cores, {in_words(machine['memory_free'])} free"),
        ("base", base["words"]),
        ("examples", examples["words"]),
    ]
    if "training" in found:
        training = found["training"]
        rows += [
            ("training", training["words"]),
            ("memory", f"about {in_words(training['memory'])} (estimated)"),
            ("time", f"about {_minutes(training['seconds'])} of training (estimated)"),
            ("disk", f"about {in_words(found['disk']['needed'])} of {in_words(found['disk']['free'])} free"),
        ]
    rows += [(step["stage"], step["reason"] or "up to date") for step in found["plan"]]
    rows += [("note", note) for note in found["notes"]] + [("PROBLEM", problem) for problem in found["problems"]]
    show_table(("", found["expert"]), rows)
    print("Not ready." if found["problems"] else f"Next: werkmeister build {found['expert']}")


def _base_facts(settings: Settings, base: Base | None) -> dict[str, Any]:
    name = settings.table("expert").base
    if base is None:
        return {"name": name, "words": f"{name}: not on this machine yet"}
    words = f"{name}: {base.parameters / 1e6:.0f} M parameters, {base.architecture}, context {base.context_length:,}"
    words += f", licence {base.licence or 'not stated'}, template: {base.template_source}"
    return {
        "name": name,
        "parameters": base.parameters,
        "architecture": base.architecture,
        "context_length": base.context_length,
        "licence": base.licence,
        "template_source": base.template_source,
        "words": words,
    }


def _examples(settings: Settings, base: Base | None, progress: Progress) -> dict[str, Any]:
    """Counts from the dataset artefact where it is up to date, else from the files themselves."""
    made = artefacts_of(settings.folder) / "dataset"
    if base is not None and not plan(settings, base, upto="dataset")[0].reason:
        manifest = read_manifest(made)
        splits = {name: split["examples"] for name, split in manifest["facts"]["splits"].items()}
        tokens = manifest["measures"]["tokens"]["train"]["total"]
        return {
            "splits": splits,
            "tokens": tokens,
            "longest": manifest["facts"]["longest_tokens"],
            "learnt_share": _learnt_share(list(read_examples(made / "train.jsonl"))),
            "words": ", ".join(f"{name} {count:,}" for name, count in splits.items()) + f"; {tokens:,} tokens",
        }
    chosen = settings.table("dataset")
    if chosen.script:
        return {"words": f"made by {chosen.script} when the dataset stage runs"}
    from werkmeister.corpus.dataset import read_files

    examples = [example for source in read_files(settings.folder, chosen, progress) for example in source.examples]
    letters = [_letters(example) for example in examples]
    train = 1 - chosen.valid - chosen.exam
    return {
        "examples": len(examples),
        "tokens": round((sum(letters) / _LETTERS_A_TOKEN + _TEMPLATE_TOKENS * len(examples)) * train),
        "longest": round(max(letters) / _LETTERS_A_TOKEN) + _TEMPLATE_TOKENS,
        "learnt_share": _learnt_share(examples),
        "words": f"{len(examples):,} in {', '.join(chosen.files)}",
    }


def _letters(example: Example) -> int:
    return sum(len(message.content) for message in example.prompt) + len(example.target)


def _learnt_share(examples: Sequence[Example]) -> float:
    """Share of the text that is learnt."""
    return sum(len(e.target) for e in examples) / max(1, sum(map(_letters, examples)))


def _training(settings: Settings, base: Base, examples: dict[str, Any]) -> dict[str, Any]:
    from werkmeister.bases.shape import shape_of_folder
    from werkmeister.building.estimate import estimate_training, matmul_rate
    from werkmeister.building.recipe import derive_recipe

    chosen = settings.table("train")
    recipe = derive_recipe(
        precision=chosen.precision,
        batch_size=chosen.batch_size,
        micro_batch=chosen.micro_batch,
        longest=min(examples["longest"], base.context_length),
        context_length=base.context_length,
        architecture=base.architecture,
    )
    shape = shape_of_folder(base.folder)
    estimate = estimate_training(
        shape,
        recipe,
        rank=chosen.rank,
        all_linear="all-linear" in chosen.targets,
        tokens=examples["tokens"] * chosen.epochs,
        learnt_share=examples["learnt_share"],
        rate=matmul_rate(recipe.compute, shape.width),
    )
    return {"words": recipe.words(), "device": recipe.device} | asdict(estimate)


def _disk(settings: Settings, base: Base, training: float) -> dict[str, float]:
    export = settings.table("export")
    files = sum(base.parameters * _BYTES_A_WEIGHT.get(name, 1.1) for name in export.files)
    proof = 2.0 * base.parameters  # The base in 16 bits, against which the export proves the adapter.
    return {"needed": files + proof + training, "free": free_disk(artefacts_of(settings.folder))}


_BYTES_A_WEIGHT = {"F16": 2.0, "BF16": 2.0, "F32": 4.0, "Q8_0": 1.07, "Q6_K": 0.83, "Q5_K_M": 0.75, "Q4_K_M": 0.65}


def _judge(found: dict[str, Any], settings: Settings, memory_free: int) -> None:
    training = found["training"]
    if training["device"] == "CPU" and training["memory"] > memory_free:
        found["problems"].append(
            f"training needs about {in_words(training['memory'])} of memory and {in_words(memory_free)} are free; "
            "set train.micro_batch = 1 or choose a smaller base"
        )
    if found["disk"]["needed"] > found["disk"]["free"]:
        folder: Path = settings.folder
        found["problems"].append(f"the disk of {folder} has too little space: free some, or move the expert")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
