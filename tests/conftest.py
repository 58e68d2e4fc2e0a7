"""One tiny expert, built once and shared by every test that reads and does not change it."""

from pathlib import Path

import pytest

from tests.checkpoints import tiny_expert


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Notes about tiny bases stay out of the person's cache; packaged models are still taken from it."""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny expert with all four artefacts."""
    from werkmeister.pipeline import build, read_expert

    folder = tiny_expert(
        tmp_path_factory.mktemp("built") / "expert",
        train={"epochs": 6.0, "learning_rate": 1e-2, "batch_size": 8, "evaluations": 2, "targets": ["all-linear"]},
    )
    build(read_expert(folder))
    return folder
