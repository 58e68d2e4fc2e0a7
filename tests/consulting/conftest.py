"""A built expert with the tiny model, made without the stages: only its export artefact stands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

import tiny_gguf


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    return tiny_gguf.write_expert(tmp_path_factory.mktemp("experts") / "tiny-expert", "Q8_0", "Q4_K_M")
