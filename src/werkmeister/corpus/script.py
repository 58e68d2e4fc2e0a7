"""An expert's own script that makes its example files: run in a process of its own, and hashed with all it reads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from werkmeister.artefact import sha256_of
from werkmeister.config import EXPERT_FILE
from werkmeister.errors import DataError
from werkmeister.progress import Progress

_SHOWN = 12


def run_script(
    expert: Path, script: str, args: Sequence[str], output: Path, progress: Progress, *, table: str = "dataset"
) -> None:
    """Run `python SCRIPT OUTPUT *args` in the expert's folder; each line that it prints is said.

    `output` is an empty folder for its files; `table` is the one of expert.toml that names the script. Raises
    DataError with the last lines of its stderr when it fails, and names the install command when an import is missing.
    """
    path = expert / script
    if not path.is_file():
        raise DataError(f"there is no script {path}", hint=f"correct {table}.script in expert.toml")
    command = [sys.executable, str(path.resolve()), str(output.resolve()), *args]
    with tempfile.TemporaryFile() as errors, progress.track(f"run {script}", None) as track:
        process = subprocess.Popen(
            command,
            cwd=expert,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "PYTHONUTF8": "1"},
        )
        try:
            for line in process.stdout or ():
                if line.strip():
                    progress.say(line.rstrip())
                track.advance()
            code = process.wait()
        finally:
            # Ctrl-C, or an error of ours: the script must not live on.
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").splitlines()
    if code:
        raise DataError(f"script {path} failed (exit code {code})", problems=said[-_SHOWN:], hint=_hint(said, path))
    if not any(output.iterdir()):
        raise DataError(
            f"script {path} ended well and wrote nothing into {output}",
            hint="it is called as: python SCRIPT OUTPUT_FOLDER ARGS, and must write its files into OUTPUT_FOLDER",
        )


def script_inputs(expert: Path, script: str, args: Sequence[str], packages: Sequence[str]) -> dict[str, str]:
    """Hashes of all that decides what the script makes: itself, the files beside it, its arguments, its packages.

    Beside it means in its folder, not below; expert.toml, hidden files and Markdown pages do not count.
    """
    path = expert / script
    inputs = {"script arguments": " ".join(args)} if args else {}
    for file in sorted(path.parent.iterdir()) if path.parent.is_dir() else []:
        counts = file.is_file() and not file.name.startswith(".") and file.suffix.lower() not in (".md", ".pyc")
        if counts and file.name != EXPERT_FILE:
            inputs[f"script {file.relative_to(expert).as_posix()}"] = sha256_of(file)
    for package in packages:
        try:
            inputs[f"package {package}"] = metadata.version(package)
        except metadata.PackageNotFoundError:
            inputs[f"package {package}"] = "not installed"
    return inputs


def _hint(said: Sequence[str], path: Path) -> str:
    for line in reversed(said):
        missing = re.match(r"(?:ModuleNotFoundError|ImportError): .*?'?([\w.]+)'?$", line)
        if missing:
            return f"pip install 'werkmeister[examples]', or the package that has {missing.group(1)}"
    return f"mend {path} and run it again"
