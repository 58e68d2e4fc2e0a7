from __future__ import annotations

from pathlib import Path

import pytest

from tests.heard import Heard


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model cache of this test alone."""
    monkeypatch.setenv("WERKMEISTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny checkpoint of every family; tests read them and never write."""
    from tests.checkpoints import FAMILIES, write_gemma3

    root = tmp_path_factory.mktemp("checkpoints")
    made = {name: write(root / name) for name, write in FAMILIES.items()}
    return made | {"gemma3-middle": write_gemma3(root / "gemma3-middle", published=False)}
