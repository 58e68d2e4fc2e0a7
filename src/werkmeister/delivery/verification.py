"""Checks a bundle on the machine where it is to run: files, template, context, and the golden answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from werkmeister.artefact import sha256_of
from werkmeister.bases.gguf_header import read_gguf_header
from werkmeister.delivery.bundle import FORMAT, MANIFEST, TEMPLATE, digest, names_in
from werkmeister.delivery.litert import known_python, litert_python
from werkmeister.delivery.phone_target import REPORT, ask_litert
from werkmeister.engines.engine import Engine
from werkmeister.engines.golden import EXPECTED, Difference, read_golden, replay
from werkmeister.errors import ArtefactError, BaseModelError, ParityError, WerkmeisterError
from werkmeister.progress import Progress, Silent

_MOST = 20


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found in a whole bundle. `golden` is how many golden prompts were asked, 0 when it carries none;
    `differences` say in words where an answer is another. `notes` tell what was not checked, and why."""

    path: Path
    target: str
    expert: str
    files: int
    golden: int
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        return {
            "path": str(self.path),
            "target": self.target,
            "expert": self.expert,
            "files": self.files,
            "golden": self.golden,
            "equal": self.golden - len(self.differences),
            "differences": list(self.differences),
            "notes": list(self.notes),
        }

    def words(self) -> str:
        """What a person reads."""
        asked = f"{self.golden - len(self.differences)} of {self.golden} golden answers are those of the export"
        lines = [
            f"{self.path}: {self.expert} for {self.target}",
            f"{self.files} files are those that were exported",
            asked if self.golden else "no golden answer was asked for",
            *self.notes,
        ]
        return "\n".join(lines)

    def problem(self) -> WerkmeisterError | None:
        """The error that tells of the differences; None when there are none."""
        if not self.differences:
            return None
        return ParityError(
            f"{len(self.differences)} of {self.golden} golden answers of {self.path} are not those of the export",
            problems=self.differences,
            hint="compare the versions of xllamacpp (pip show xllamacpp); on another kind of processor a close choice "
            "may fall otherwise",
        )


def verify_bundle(
    bundle: Path, *, base: Path | None = None, python: Path | None = None, progress: Progress | None = None
) -> Verification:
    """Check every file's hash, the template and the context, and ask the golden prompts again.

    `base` is the GGUF that an adapter bundle is laid over; `python` that of LiteRT's environment, for a phone bundle.
    Differences in answers are part of what is returned. Raises ArtefactError for a folder that is no bundle, for
    changed, missing or foreign files, and for a model that is not the one described; BaseModelError when an adapter's
    base is another; whatever the engine raises that loads the model.
    """
    progress = progress or Silent()
    manifest = _read(bundle)
    with progress.track("checking files", len(manifest["outputs"])) as bar:
        _check_files(bundle, manifest["outputs"], bar.advance)
    _check_description(bundle, manifest)
    found = Verification(
        path=bundle, target=manifest["kind"], expert=manifest["expert"], files=len(manifest["outputs"]), golden=0
    )
    golden = bundle / EXPECTED
    if not golden.is_file():
        found = replace(found, notes=("the bundle carries no golden prompts",))
    elif manifest["kind"] == "adapter" and base is None:
        note = "an adapter answers on its base alone: name it with --base BASE.gguf to ask the golden prompts"
        found = replace(found, notes=(note,))
    else:
        found = _replayed(found, manifest, base, progress)
    return _with_litert(found, manifest, python, progress) if "litert" in manifest else found


def _read(bundle: Path) -> dict[str, Any]:
    file = bundle / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        whole = {"kind", "format", "expert", "outputs", "serving"} <= manifest.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise ArtefactError(
            f"{bundle} is no bundle: {file.name} cannot be read ({error})",
            hint="name the folder that werkmeister export --target made",
        ) from error
    if not whole or manifest["format"] != FORMAT:
        raise ArtefactError(
            f"{file} is none that this version reads (format {manifest.get('format')!r})",
            hint="make the bundle again with werkmeister export --target",
        )
    return dict(manifest)


def _check_files(bundle: Path, outputs: Mapping[str, Mapping[str, Any]], advance: Any) -> None:
    problems = []
    for name, said in outputs.items():
        file = bundle / name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif file.stat().st_size != said["bytes"]:
            problems.append(f"{name} has {file.stat().st_size} bytes, and {said['bytes']} were exported")
        elif sha256_of(file) != said["sha256"]:
            problems.append(f"{name} was changed: its SHA-256 is not the one in {MANIFEST}")
        advance()
    problems += [f"{name} is not part of it" for name in names_in(bundle) if name not in (*outputs, MANIFEST)]
    if problems:
        rest = len(problems) - _MOST
        raise ArtefactError(
            f"{bundle} is not what was exported",
            problems=[*problems[:_MOST], *([f"and {rest} more"] if rest > 0 else [])],
            hint="copy the bundle again, or make it again with werkmeister export --target",
        )


def _check_description(bundle: Path, manifest: Mapping[str, Any]) -> None:
    """The model file has the template and the room that the manifest describes."""
    said = manifest["serving"]
    if said["engine"] == "transformers" or manifest["kind"] == "adapter":
        template, context = _template(bundle), 0
    else:
        header = read_gguf_header(bundle / said["file"])
        template = str(header.metadata.get("tokenizer.chat_template", ""))
        context = int(header.get("context_length", 0))
    problems = []
    if digest(template) != said["template"]:
        problems.append("its chat template is not the one that the expert was trained with")
    if context and said["context_length"] > context:
        problems.append(f"{said['context_length']} tokens of context are promised, and the model has {context}")
    if problems:
        raise ArtefactError(
            f"the model in {bundle} is not the one described", problems=problems, hint="export it again"
        )


def _template(bundle: Path) -> str:
    """The chat template that lies beside a model, with its line ends as they are."""
    return (bundle / TEMPLATE).read_bytes().decode("utf-8")


def _replayed(found: Verification, manifest: Mapping[str, Any], base: Path | None, progress: Progress) -> Verification:
    golden = read_golden(found.path / EXPECTED)
    said = manifest["serving"]
    with (
        _engine(found.path, manifest, base, progress) as engine,
        progress.track(f"asking {engine.name}", len(golden)) as bar,
    ):
        differences = list(replay(engine, golden, stop=said["stop"], told=bar.advance))
    return replace(found, golden=len(golden), differences=_words(differences))


def _words(differences: Sequence[Difference]) -> tuple[str, ...]:
    return tuple(difference.words() for difference in differences)


def _engine(bundle: Path, manifest: Mapping[str, Any], base: Path | None, progress: Progress) -> Engine:
    said = manifest["serving"]
    if said["engine"] == "transformers":
        from werkmeister.bases.find import find_base
        from werkmeister.engines.transformers import open_transformers

        merged = find_base(str(bundle.resolve()), progress=progress)
        return open_transformers(replace(merged, stop=tuple(said["stop"])), exact=True)
    from werkmeister.engines.llama import LlamaEngine

    model = bundle / said["file"]
    if manifest["kind"] != "adapter" or base is None:
        return LlamaEngine(model)  # the room that is promised may be shorter than a golden prompt
    _same_base(base, manifest["base"])
    return LlamaEngine(base, adapter=model, template=_template(bundle))


def _same_base(base: Path, said: Mapping[str, Any]) -> None:
    """A GGUF base must be the very file; of one in safetensors every conversion may be used."""
    known = {entry["sha256"] for name, entry in said["files"].items() if name.endswith(".gguf")}
    if not base.is_file():
        raise BaseModelError(f"there is no file {base}", hint=f"name the GGUF of {said['name']}")
    if known and sha256_of(base) not in known:
        raise BaseModelError(
            f"{base} is not the base that the adapter was trained on ({said['name']})",
            problems=[f"its SHA-256 is none of: {', '.join(sorted(known))}"],
            hint=f"name the GGUF of {said['name']} with that hash",
        )


def _with_litert(
    found: Verification, manifest: Mapping[str, Any], python: Path | None, progress: Progress
) -> Verification:
    said = manifest["litert"]
    interpreter = litert_python(python, progress) if python else known_python()
    if interpreter is None:
        note = f"{said['file']} was not asked: LiteRT's environment is not on this machine (--python names one)"
        return replace(found, notes=(*found.notes, note))
    golden = read_golden(found.path / said["expected"])
    with progress.track(f"asking LiteRT-LM with {said['file']}", None):
        asked = ask_litert(interpreter, found.path / said["file"], golden)
    recorded = json.loads((found.path / REPORT).read_text(encoding="utf-8"))["asking"]["answers"]
    now = [replace(entry, answer=answer) for entry, answer in zip(golden, recorded, strict=True)]
    changed = [
        Difference(golden=entry, answer=answer)
        for entry, answer in zip(now, asked["answers"], strict=True)
        if entry.answer != answer
    ]
    note = f"LiteRT-LM: {sum(asked['equal'])} of {len(golden)} answers are those of transformers"
    return replace(
        found,
        golden=found.golden + len(golden),
        differences=(*found.differences, *_words(changed)),
        notes=(*found.notes, note),
    )
