"""The verb new: a folder that builds as it stands, to be filled with one's own examples."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from werkmeister.config import EXPERT_FILE
from werkmeister.errors import SettingsError
from werkmeister.machine import explain_os_error


def new_expert(folder: Path, base: str) -> list[Path]:
    """Write expert.toml and examples.jsonl into a new or empty folder, and return their paths.

    Raises SettingsError when the folder holds anything already, so that nothing is ever overwritten.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} exists and is not empty", hint="choose another name, or empty the folder")
    name = folder.resolve().name
    bad = next((letter for letter in f"{name}{base}" if letter in '"\\' or ord(letter) < 32), "")
    if bad:
        raise SettingsError(f"{bad!r} cannot stand in the name of an expert or base", hint="choose another name")
    starter = resources.files("werkmeister") / "starter"
    settings = (starter / EXPERT_FILE).read_text(encoding="utf-8")
    settings = settings.replace("{{ name }}", name).replace("{{ base }}", base)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / EXPERT_FILE).write_text(settings, encoding="utf-8", newline="\n")
        examples = (starter / "examples.jsonl").read_text(encoding="utf-8")
        (folder / "examples.jsonl").write_text(examples, encoding="utf-8", newline="\n")
    except OSError as error:
        raise (explain_os_error(error) or error) from error
    return [folder / EXPERT_FILE, folder / "examples.jsonl"]
