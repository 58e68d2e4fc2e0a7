"""The verb new: a folder that builds as it stands, to be filled with one's own examples or made from documents."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from werkmeister.config import EXPERT_FILE
from werkmeister.errors import SettingsError, WerkmeisterError
from werkmeister.machine import explain_os_error

_STARTERS = {False: (EXPERT_FILE, "examples.jsonl"), True: ("documents.toml",)}


def new_expert(folder: Path, base: str, documents: Sequence[Path] = ()) -> list[Path]:
    """Write a commented expert.toml into a new or empty folder, and return the paths of what was written.

    Without `documents` an examples file stands beside it. Each of `documents` is a folder, a file or a pattern, as seen
    from where the person is; expert.toml names it as seen from `folder`, so that both can be moved together. Raises
    SettingsError when the folder holds anything already, so that nothing is ever overwritten, and when a document is
    not there.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SettingsError(f"{folder} exists and is not empty", hint="choose another name, or empty the folder")
    except OSError as error:
        raise _no_folder(folder, error) from error
    name = folder.resolve().name
    bad = next((letter for letter in f"{name}{base}" if letter in '"\\' or not _is_text(letter)), "")
    if bad:
        raise SettingsError(f"{bad!r} cannot stand in the name of an expert or base", hint="choose another name")
    odd = [repr(str(path)) for path in documents if not all(map(_is_text, str(path.resolve())))]
    if odd:
        raise SettingsError(
            f"{', '.join(odd)} cannot stand in {EXPERT_FILE}: its name is no UTF-8 text",
            hint="rename it, or name a folder above it: what lies in it may be called anything",
        )
    missing = [str(path) for path in documents if not _exists(path)]
    if missing:
        raise SettingsError(
            f"there is nothing at {', '.join(missing)}", hint="name the folder or the file that holds the documents"
        )
    fills = {"name": name, "base": base, "documents": ", ".join(_as_toml(path, folder) for path in documents)}
    first, *rest = _STARTERS[bool(documents)]
    starter = resources.files("werkmeister") / "starter"
    settings = (starter / first).read_text(encoding="utf-8")
    for key, value in fills.items():
        settings = settings.replace(f"{{{{ {key} }}}}", value)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / EXPERT_FILE).write_text(settings, encoding="utf-8", newline="\n")
        for file in rest:
            (folder / file).write_text((starter / file).read_text(encoding="utf-8"), encoding="utf-8", newline="\n")
    except OSError as error:
        raise _no_folder(folder, error) from error
    return [folder / EXPERT_FILE, *(folder / file for file in rest)]


def _is_text(letter: str) -> bool:
    """Whether a letter can stand in a settings file: no control character, no byte of a name that is no UTF-8."""
    return ord(letter) >= 32 and not 0xD800 <= ord(letter) <= 0xDFFF


def _no_folder(folder: Path, error: OSError) -> WerkmeisterError:
    told = SettingsError(f"{folder} cannot be made: {error.strerror}", hint="choose another name or place")
    return explain_os_error(error) or told


def _exists(path: Path) -> bool:
    try:
        if path.exists():
            return True
    except OSError:  # longer than the system allows
        return False
    root = Path(path.anchor) if path.is_absolute() else Path()
    pattern = str(path.relative_to(path.anchor) if path.is_absolute() else path)
    return any(letter in pattern for letter in "*?[") and next(root.glob(pattern), None) is not None


def _as_toml(path: Path, folder: Path) -> str:
    """The path as seen from the expert's folder; as it is where no way leads there (another drive of Windows)."""
    try:
        seen = os.path.relpath(path.resolve(), folder.resolve())
    except ValueError:
        seen = str(path.resolve())
    # A basic string of TOML escapes as JSON does.
    return json.dumps(Path(seen).as_posix(), ensure_ascii=False)
