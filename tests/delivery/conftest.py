"""A tiny expert to serve, made without the stages: only its export artefact stands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

import tiny_gguf


@pytest.fixture(scope="session")
def tiny_expert(tmp_path_factory):
    """An expert of which only the export artefact stands."""
    folder = tiny_gguf.write_expert(tmp_path_factory.mktemp("experts") / "tiny-expert", "Q8_0")
    toml = '[expert]\nbase = "smollm2-135m"\n\n[dataset]\nfiles = ["examples.jsonl"]\n'
    (folder / "expert.toml").write_text(toml)
    return folder


@pytest.fixture
def client(gateway):
    """The official client of the gateway that the test's own module has running."""
    with gateway.client() as opened:
        yield opened
