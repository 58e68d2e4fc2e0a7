"""Artefact folders: made in `NAME.partial/`, complete when `manifest.json` exists, checked by SHA-256 when opened.

The manifest is written last and the folder renamed into place after it, so a killed stage leaves either the old
artefact or none, and its partial folder is taken up again when the same stage runs with the same inputs and settings.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from werkmeister import __version__
from werkmeister.errors import ArtefactError, BusyError, MachineError, WerkmeisterError
from werkmeister.machine import explain_os_error, free_disk

MANIFEST = "manifest.json"
FORMAT = 1
_DRAFT = "draft.json"
_HASHED_BEFORE = ".hashes.json"
_ALMOST_FULL = 16 << 20
_NEEDED = {"kind", "format", "key", "identity", "seal", "inputs", "settings", "facts", "measures", "outputs"}
_DECIDING_PACKAGES = (
    *("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "tokenizers", "numpy"),
    *("scikit-learn", "gguf", "libgguf", "xllamacpp"),
)


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A complete artefact folder and what its manifest says."""

    path: Path
    kind: str
    key: str
    identity: str
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    measures: Mapping[str, Any]
    outputs: Mapping[str, Mapping[str, Any]]
    manifest: Mapping[str, Any]

    def file(self, name: str) -> Path:
        """The path of one output; ArtefactError when the manifest does not list it."""
        if name not in self.outputs:
            raise ArtefactError(f"artefact {self.path} has no file {name!r}", hint=f"it has: {', '.join(self.outputs)}")
        return self.path / name


@dataclass
class Draft:
    """An artefact in the making: write files below `path`; fill `facts` and `measures`.

    `facts` are what later stages read (they count in the identity); `measures` are what was measured on the way.
    `resumed` says that files of an interrupted run with the same key are still there. What lies below `scratch` is
    deleted when the artefact is complete.
    """

    path: Path
    resumed: bool
    facts: dict[str, Any] = field(default_factory=dict)
    measures: dict[str, Any] = field(default_factory=dict)

    @property
    def scratch(self) -> Path:
        """A folder for checkpoints and half-made files."""
        folder = self.path / "scratch"
        folder.mkdir(exist_ok=True)
        return folder


def stage_key(kind: str, version: int, inputs: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """The hash of everything that decides a stage's result; a stage is stale when it differs from its artefact's."""
    return _digest({"kind": kind, "version": version, "inputs": dict(inputs), "settings": dict(settings)})


def beside(output: Path) -> Draft:
    """The draft of the artefact `output` that another process of the same training is making; write nothing there."""
    return Draft(output.with_name(output.name + ".partial"), resumed=True)


@contextmanager
def making(
    kind: str,
    output: Path,
    *,
    version: int,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    resume_only: bool = False,
) -> Iterator[Draft]:
    """Make one artefact: yield a Draft, and complete it when the block ends without an error.

    `inputs` maps a name to the SHA-256 (or identity) of what was read; `version` rises when the stage's method
    changes. On an error the partial folder stays, for the next run with the same key to take up; one of another key is
    set aside as `NAME.abandoned` (one generation is kept). `resume_only` demands an interrupted run and raises
    ArtefactError, touching nothing, where there is none. Raises MachineError when the disk is full or the folder
    cannot be written.
    """
    key = stage_key(kind, version, inputs, settings)
    partial = output.with_name(output.name + ".partial")
    try:
        draft = _open_draft(partial, key, resume_only)
        yield draft
        shutil.rmtree(partial / "scratch", ignore_errors=True)
        manifest = {
            "kind": kind,
            "format": FORMAT,
            "version": version,
            "key": key,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "inputs": dict(inputs),
            "settings": dict(settings),
            "facts": draft.facts,
            "measures": draft.measures,
            "outputs": _outputs(partial),
            "code": {"werkmeister": __version__, "sha256": code_hash()},
            "packages": package_versions(),
        }
        manifest["identity"] = _identity(manifest)
        manifest["seal"] = _seal(manifest)
        write_json(partial / MANIFEST, manifest)
        (partial / _DRAFT).unlink()
        _replace(partial, output)
    except OSError as error:
        raise (explain_os_error(error) or error) from error
    except WerkmeisterError:
        raise
    except Exception as error:
        # torch and safetensors report a full disk with errors of their own.
        if free_disk(partial) < _ALMOST_FULL:
            raise MachineError(f"the disk of {partial} is full", hint="free some space and run it again") from error
        raise


def open_artefact(path: Path, kind: str, *, make_with: str = "") -> Artefact:
    """Open a complete artefact and check every output against its SHA-256.

    A file whose size and time are those of the last check is not read again. Raises ArtefactError naming the file.
    `make_with` is the command that makes the artefact, for the error.
    """
    _recover(path)
    manifest = read_manifest(path, make_with=make_with)
    if manifest["kind"] != kind:
        raise ArtefactError(f"{path} holds a {manifest['kind']} artefact, and a {kind} artefact is needed here")
    problems = _check_outputs(path, manifest)
    if problems:
        raise ArtefactError(
            f"artefact {path} is not what was made",
            problems=problems,
            hint=f"restore the file, or delete the folder {path} and run {make_with or 'the stage'} again",
        )
    return Artefact(
        path=path,
        manifest=manifest,
        **{name: manifest[name] for name in ("kind", "key", "identity", "inputs", "settings")},
        **{name: manifest[name] for name in ("facts", "measures", "outputs")},
    )


def read_manifest(path: Path, *, make_with: str = "") -> dict[str, Any]:
    """The manifest of a complete artefact; ArtefactError when there is none, or it was edited into something else."""
    file = path / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtefactError(f"there is no artefact {path}", hint=make_with or "run the stage that makes it") from error
    except PermissionError as error:
        raise ArtefactError(f"you may not read {file}", hint=f"give yourself the right to: chmod u+r {file}") from error
    except OSError as error:
        raise ArtefactError(
            f"{file} cannot be read: {error.strerror or error}",
            hint=f"mend the disk, or delete {path} and make it again",
        ) from error
    except ValueError as error:
        raise ArtefactError(f"{file} is no JSON any more: {error}", hint=f"delete {path} and make it again") from error
    if not isinstance(manifest, dict) or not manifest.keys() >= _NEEDED:
        raise ArtefactError(f"{file} is no manifest any more", hint=f"delete {path} and make it again")
    if manifest.get("format") != FORMAT:
        raise ArtefactError(
            f"{file} has format {manifest.get('format')!r}, and this version reads {FORMAT}",
            hint=f"delete {path} and make it again",
        )
    if manifest["seal"] != _seal(manifest):
        raise ArtefactError(
            f"{file} was changed after it was written: its seal is not the hash of what it says",
            hint=f"restore it, or delete the folder {path} and make it again",
        )
    return manifest


def exists(path: Path) -> bool:
    """Whether a complete artefact stands at `path`."""
    _recover(path)
    return (path / MANIFEST).is_file()


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock of an artefacts folder; BusyError with the other's process number when it is held.

    The operating system drops the lock with the process, so a killed build leaves no lock behind.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise (explain_os_error(error) or error) from error
    with file:
        if not _lock(file):
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise BusyError(
                f"another build of {folder.parent} is running (process {owner})",
                hint="wait for it, or stop it with Ctrl-C in its terminal",
            )
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def holder(folder: Path) -> int | None:
    """The number of the process that holds the lock of an artefacts folder; None where nobody does."""
    import psutil

    lock = folder / ".lock"
    try:
        told, since = lock.read_text(encoding="utf-8").strip(), lock.stat().st_mtime
        # A number that was given to another process after a kill began later than the lock was taken.
        return int(told) if psutil.Process(int(told)).create_time() <= since + 1 else None
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON and have it on the disk before returning."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        json.dump(value, file, ensure_ascii=False, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


@cache
def code_hash() -> str:
    """A hash over the package's own source, so that a manifest names the code that made it."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


@cache
def package_versions() -> dict[str, str]:
    """Versions of the packages that decide results, where installed."""
    versions = {}
    for name in _DECIDING_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _identity(manifest: Mapping[str, Any]) -> str:
    # Reports are views for people and may hold times of day: they do not make later stages stale.
    hashes = {name: o["sha256"] for name, o in manifest["outputs"].items() if not name.startswith("report")}
    return _digest({"kind": manifest["kind"], "facts": manifest["facts"], "outputs": hashes})


def _seal(manifest: Mapping[str, Any]) -> str:
    """The hash of the whole manifest, so that an edit of a measure is noticed as well as one of a file."""
    # As JSON reads it back: tuples are lists, and keys are texts.
    plain = json.loads(json.dumps({name: value for name, value in manifest.items() if name != "seal"}))
    return _digest(plain)


def _open_draft(partial: Path, key: str, resume_only: bool) -> Draft:
    note = partial / _DRAFT
    if note.is_file():
        try:
            resumed = json.loads(note.read_text(encoding="utf-8"))["key"] == key
        except (ValueError, KeyError):
            resumed = False
        if resumed:
            return Draft(partial, resumed=True)
    if resume_only:
        raise ArtefactError(
            f"{partial} holds no interrupted run with these inputs and settings; nothing was touched",
            hint="repeat the --set of the interrupted run, or leave --finish out",
        )
    if partial.exists():
        # Hours of training may lie there: a setting tried by mistake must not cost them.
        abandoned = partial.with_name(partial.name.removesuffix(".partial") + ".abandoned")
        shutil.rmtree(abandoned, ignore_errors=True)
        partial.rename(abandoned)
    partial.mkdir(parents=True)
    write_json(note, {"key": key})
    return Draft(partial, resumed=False)


def _outputs(folder: Path) -> dict[str, dict[str, Any]]:
    files = (f for f in sorted(folder.rglob("*")) if f.is_file() and f.name not in (MANIFEST, _DRAFT))
    return {f.relative_to(folder).as_posix(): {"bytes": f.stat().st_size, "sha256": sha256_of(f)} for f in files}


def _replace(partial: Path, output: Path) -> None:
    old = output.with_name(output.name + ".replaced")
    if old.exists():
        shutil.rmtree(old)
    if output.exists():
        output.rename(old)
    partial.rename(output)
    shutil.rmtree(old, ignore_errors=True)


def _recover(output: Path) -> None:
    """Undo a replacement that was cut off between its two renames."""
    old = output.with_name(output.name + ".replaced")
    if old.exists() and not output.exists():
        old.rename(output)


def _check_outputs(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    cache_file = path.parent / _HASHED_BEFORE
    try:
        known: dict[str, list[Any]] = json.loads(cache_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    problems, changed = [], False
    for name, said in manifest["outputs"].items():
        file = path / name
        if not file.is_file():
            problems.append(f"{name} is missing")
            continue
        stat = file.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = known.get(str(file.resolve()))
        if not (entry and entry[:3] == stamp):
            entry = [*stamp, sha256_of(file)]
            known[str(file.resolve())] = entry
            changed = True
        if entry[3] != said["sha256"]:
            problems.append(f"{name} has SHA-256 {entry[3][:12]}…, the manifest says {said['sha256'][:12]}…")
    if changed:
        # A read-only folder can still be consulted; only the memory of the check is lost.
        with contextlib.suppress(OSError):
            write_json(cache_file, known)
    return problems


def _lock(file: IO[str]) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            # Past the end: a locked byte cannot be read there, and the process number stands at the start.
            os.lseek(file.fileno(), 1 << 30, os.SEEK_SET)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
