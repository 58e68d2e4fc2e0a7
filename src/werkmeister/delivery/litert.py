"""LiteRT's own environment: litert-torch and litert-lm do not go together with the packages of training."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from werkmeister.bases.find import models_folder
from werkmeister.errors import EngineError, MachineError
from werkmeister.machine import need_disk
from werkmeister.progress import Progress

REQUIREMENTS = ("litert-torch==0.10.0", "litert-lm==0.18.1", "torch==2.14.1", "transformers==5.24.0")
"""The versions that were tried together."""
_SIZE = 8 << 30  # with the CUDA libraries that PyPI's torch brings on Linux
_TOLD = 400


def litert_python(given: Path | None, progress: Progress) -> Path:
    """The Python of LiteRT's environment: `given`, or that of an environment in the cache, which is made once.

    Raises MachineError when `given` lacks the packages, the disk is too small, or pip fails.
    """
    if given is not None:
        if not _has_packages(given):
            raise MachineError(
                f"{given} is no Python with litert-torch and litert-lm",
                hint=f"{given} -m pip install {' '.join(REQUIREMENTS)}",
            )
        return given
    known = known_python()
    if known is not None:
        return known
    folder = _folder()
    need_disk(folder, _SIZE, "LiteRT's environment")
    progress.say(
        f"making LiteRT's own environment in {folder}, once: {', '.join(REQUIREMENTS)}; several gigabytes are fetched "
        "with pip. To use one that you have: --python PATH"
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", "--clear", str(folder)], "python -m venv")
    with progress.track("installing LiteRT", None):
        _run([str(_python(folder)), "-m", "pip", "install", "--quiet", *REQUIREMENTS], "pip install")
    return _python(folder)


def known_python() -> Path | None:
    """The Python of the environment in the cache, when it stands there whole."""
    found = _python(_folder())
    return found if found.is_file() and _has_packages(found) else None


def call_litert(python: Path, *arguments: str) -> dict[str, Any]:
    """Run `litert_script.py` and return what it found. Raises EngineError with the last lines of its output."""
    with resources.as_file(resources.files("werkmeister.delivery") / "litert_script.py") as script:
        command = [str(python), str(script), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    lines = done.stdout.strip().splitlines()
    try:
        if done.returncode:
            raise ValueError("it ended with an error")
        found: dict[str, Any] = json.loads(lines[-1])
    except (ValueError, IndexError) as error:
        raise EngineError(
            f"LiteRT failed at: {' '.join(arguments)}",
            problems=[line[:_TOLD] for line in done.stderr.strip().splitlines()[-6:]] or [str(error)],
            hint="more than 4 GB of memory are needed to convert 135 M weights; report it if memory was free",
        ) from error
    return found


def _folder() -> Path:
    return models_folder().parent / "litert"


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _has_packages(python: Path) -> bool:
    test = "import importlib.util as u, sys; sys.exit(not (u.find_spec('litert_torch') and u.find_spec('litert_lm')))"
    try:
        return subprocess.run([str(python), "-c", test], capture_output=True).returncode == 0
    except OSError:
        return False


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise MachineError(
            f"LiteRT's environment cannot be made: {what} failed",
            problems=done.stderr.strip().splitlines()[-3:],
            hint=f"with a network, run: python -m pip install {' '.join(REQUIREMENTS)} in an environment of its own, "
            "and name its Python with --python",
        )
