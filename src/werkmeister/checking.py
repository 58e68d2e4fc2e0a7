"""The verb check: files, base model, memory, disk and time of a build, before any work."""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.artefact import read_manifest
from werkmeister.building.export import OVERLAY
from werkmeister.chat import Example, read_examples
from werkmeister.config import Settings
from werkmeister.errors import BaseModelError, SettingsError
from werkmeister.machine import free_disk, in_words, read_machine
from werkmeister.pipeline import artefacts_of, estimate_training_of, plan, stages_of
from werkmeister.progress import Progress

if TYPE_CHECKING:
    from werkmeister.bases.base import Base

_PAGE = re.compile(rb"/Type\s*/Page\b")
_OBJECTS = re.compile(rb"/Type\s*/ObjStm\b(?:(?!endobj|stream).){0,300}stream\r?\n", re.DOTALL)
_LARGEST_PDF, _LARGEST_STREAM = 256 << 20, 1 << 22
# Measured on a manual of 1,335 pages and on 150 short ones (EXPERIMENTS.md): tokens a page, how full passages are.
_TOKENS_A_PAGE, _SHARE_OF_PASSAGE = 450, 0.55
_TOKENS_OF_A_REQUEST = 900
_LETTERS_A_TOKEN = 3.0
_TEMPLATE_TOKENS = 16
"""Rough, on the safe side for German and English; used only until the dataset stage has counted."""


def check_expert(settings: Settings, *, progress: Progress) -> dict[str, Any]:
    """Look at everything that a build of this expert will need; fetches no model and trains nothing.

    The result holds `machine`, `base`, `examples`, `documents` (where there are any), `plan`, `training` (estimated),
    `problems` (what will stop the build) and `notes`. Documents are counted, not read: sizes alone tell how long they
    may be. Raises DataError with all mistakes in the examples files.
    """
    from werkmeister.bases.find import known_base

    machine = read_machine()
    base = known_base(settings.table("expert").base, expert=settings.folder)
    found: dict[str, Any] = {"expert": str(settings.folder), "machine": asdict(machine), "problems": [], "notes": []}
    found["base"] = _base_facts(settings, base)
    found["examples"] = _examples(settings, base, progress)
    found["notes"] += found["examples"].pop("notes", ())
    if "write" in stages_of(settings) and settings.table("write").teacher:
        found["problems"] += _teacher_problems(settings)
    if "documents" in stages_of(settings):
        found["documents"] = documents = _documents(settings)
        found["problems"] += documents.pop("problems")
        found["notes"] += documents.pop("notes")
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
        found["training"] = training = estimate_training_of(
            settings, base, **{key: found["examples"][key] for key in ("tokens", "longest", "learnt_share", "train")}
        )
        found["disk"] = _disk(settings, base, training["disk"])
        _judge(found, settings, machine.memory_free)
    return found


def show_check(found: dict[str, Any]) -> None:
    """Print what `check_expert` found."""
    from werkmeister.building.run_report import duration
    from werkmeister.console import show_table

    machine, base, examples = found["machine"], found["base"], found["examples"]
    rows = [
        ("machine", f"{machine['processor']}, {machine['cores']} cores, {in_words(machine['memory_free'])} free"),
        ("base", base["words"]),
        *([("files", found["documents"]["words"])] if "documents" in found else []),
        ("examples", examples["words"]),
    ]
    if "training" in found:
        training = found["training"]
        rows += [
            ("training", training["words"]),
            ("memory", _memory(training)),
            ("time", f"about {duration(training['seconds'])} of training where nothing else runs (estimated)"),
            ("disk", f"about {in_words(found['disk']['needed'])} of {in_words(found['disk']['free'])} free"),
        ]
    rows += [(step["stage"], step["reason"] or "up to date") for step in found["plan"]]
    rows += [("note", note) for note in found["notes"]] + [("PROBLEM", problem) for problem in found["problems"]]
    show_table(("", found["expert"]), rows)
    print("Not ready." if found["problems"] else f"Next: werkmeister build {found['expert']}")


def _memory(training: dict[str, Any]) -> str:
    plan = training["plan"]
    if plan is None:
        return f"about {in_words(training['memory'])} (estimated)"
    loaded, most, exam = (in_words(plan[name]) for name in ("loaded", "training", "evaluation"))
    return f"on the GPU about {loaded} loaded, {most} in training, {exam} in evaluation (estimated)"


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
    if base is not None and not plan(settings, base, upto="dataset")[-1].reason:
        from werkmeister.corpus.splits import unexamined

        manifest = read_manifest(made)
        splits = {name: split["examples"] for name, split in manifest["facts"]["splits"].items()}
        tokens = manifest["measures"]["tokens"]["train"]["total"]
        return {
            "splits": splits,
            "tokens": tokens,
            "train": splits["train"],
            "longest": manifest["facts"]["longest_tokens"],
            "learnt_share": _learnt_share(list(read_examples(made / "train.jsonl"))),
            "words": ", ".join(f"{name} {count:,}" for name, count in splits.items()) + f"; {tokens:,} tokens",
            "notes": unexamined(manifest["measures"].get("parts", {})),
        }
    chosen = settings.table("dataset")
    if chosen.script:
        return {"words": f"made by {chosen.script} when the dataset stage runs"}
    if "write" in stages_of(settings):
        return {"words": "written when the dataset stage runs; memory and time of training can be told then"}
    from werkmeister.corpus.dataset import read_files

    examples = [example for source in read_files(settings.folder, chosen, progress) for example in source.examples]
    letters = [_letters(example) for example in examples]
    train = 1 - chosen.valid - chosen.exam
    return {
        "examples": len(examples),
        "train": round(len(examples) * train),
        "tokens": round((sum(letters) / _LETTERS_A_TOKEN + _TEMPLATE_TOKENS * len(examples)) * train),
        "longest": round(max(letters) / _LETTERS_A_TOKEN) + _TEMPLATE_TOKENS,
        "learnt_share": _learnt_share(examples),
        "words": f"{len(examples):,} in {', '.join(chosen.files)}",
    }


def _documents(settings: Settings) -> dict[str, Any]:
    """The documents that will be read: how many, how large, and how many passages that may be, from sizes alone."""
    from werkmeister.corpus.documents.files import find_files

    chosen, write = settings.table("documents"), settings.table("write")
    if chosen.script:
        return {"words": f"made by {chosen.script} when the documents stage runs", "problems": [], "notes": []}
    found = find_files(chosen.files, [settings.folder])
    sizes = [_size(path) for path, _ in found.files]
    pages = {name: _pdf_pages(path) for path, name in found.files if path.suffix.lower() == ".pdf"}
    text = sum(size for size, (path, _) in zip(sizes, found.files, strict=True) if path.suffix.lower() != ".pdf")
    tokens = sum(pages.values()) * _TOKENS_A_PAGE + text / _LETTERS_A_TOKEN
    passages = max(1, round(tokens / (_SHARE_OF_PASSAGE * chosen.passage_tokens)))
    problems = [f"documents.files: {entry}: no such file or folder" for entry in found.missing]
    if not found.files and not problems:
        problems.append(f"documents.files = {', '.join(chosen.files)} holds no document")
    words = f"{len(found.files):,} document{'s' * (len(found.files) != 1)}, {in_words(sum(sizes))}"
    words += f", {sum(pages.values()):,} pages of PDF" if any(pages.values()) else ""
    words += f"; about {passages:,} passage{'s' * (passages != 1)} (estimated)" if found.files else ""
    notes = [f"{name} {reason}" for name, reason in found.lost[:3]]
    notes += [f"{count} files ending in {end} are passed over" for end, count in found.passed_over.most_common(3)]
    blank = [name for name, count in pages.items() if not count]
    if blank:
        notes.append(f"no page could be counted in {', '.join(blank[:3])}{' …' * (len(blank) > 3)}: damaged or no PDF?")
    if "teacher" in write.writers:
        asked = min(passages, write.limit) if write.limit else passages
        cost = asked * (_TOKENS_OF_A_REQUEST + chosen.passage_tokens)
        bounds = {name: getattr(write, name) for name in ("budget_tokens", "budget_seconds")}
        bound = " and ".join(f"write.{name} = {most:,}" for name, most in bounds.items() if most)
        price = max(write.prompt_price, write.answer_price)
        money = f", at most {cost * price / 1e6:,.2f} at your prices" if price else ""
        notes.append(
            f"{write.teacher} will be asked about {asked:,} passages, {cost:,} tokens{money} (estimated)"
            + (f", bounded by {bound}" if bound else "")
        )
    facts = {"files": len(found.files), "bytes": sum(sizes), "pages": sum(pages.values()), "passages": passages}
    return facts | {"words": words, "problems": problems, "notes": notes}


def _teacher_problems(settings: Settings) -> list[str]:
    """What will keep the teacher from being asked: the policy, a key or a file that is missing; asks nobody."""
    from werkmeister.engines.open import is_url, model_file
    from werkmeister.governing.policy import require_allowed

    write = settings.table("write")
    if not is_url(write.teacher):
        name = write.teacher.strip()
        gone = name.lower().endswith(".gguf") and model_file(name, settings.folder) is None
        return [f"write.teacher: there is no file {name}"] if gone else []
    problems = []
    try:
        require_allowed(write.teacher, settings.table("policy"))
    except SettingsError as error:
        problems.append(f"write.teacher: {error.message}")
    if write.key_env and not os.environ.get(write.key_env):
        problems.append(f"write.key_env: the environment variable {write.key_env} is not set")
    return problems


def _size(path: Path) -> int:
    """In bytes; 0 where it cannot be told, which the documents stage will list."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _pdf_pages(path: Path) -> int:
    """The page objects of a PDF, without rendering any; 0 where it is encrypted, unreadable or too large."""
    if _size(path) > _LARGEST_PDF:
        return 0
    try:
        data = path.read_bytes()
    except OSError:
        return 0
    count = len(_PAGE.findall(data))
    for match in _OBJECTS.finditer(data):
        # PDF 1.5 packs objects into compressed streams.
        with contextlib.suppress(zlib.error):
            count += len(_PAGE.findall(zlib.decompressobj().decompress(data[match.end() :], _LARGEST_STREAM)))
    return count


def _letters(example: Example) -> int:
    return sum(len(message.content) for message in example.prompt) + len(example.target)


def _learnt_share(examples: Sequence[Example]) -> float:
    """Share of the text that is learnt."""
    return sum(len(e.target) for e in examples) / max(1, sum(map(_letters, examples)))


def _disk(settings: Settings, base: Base, training: float) -> dict[str, float]:
    export = settings.table("export")
    kinds = (*export.kinds, *((OVERLAY,) if export.overlaid else ()))
    files = sum(base.parameters * _BYTES_A_WEIGHT.get(name, 1.1) for name in kinds)
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
    if training["plan"] and not training["plan"]["fits"]:
        found["problems"].append(
            f"training needs about {in_words(training['memory'])} of the GPU's memory, more than it has free or "
            "train.memory allows; set dataset.max_length, so that long examples are left out, or choose a smaller base"
        )
    if found["disk"]["needed"] > found["disk"]["free"]:
        folder: Path = settings.folder
        found["problems"].append(f"the disk of {folder} has too little space: free some, or move the expert")
