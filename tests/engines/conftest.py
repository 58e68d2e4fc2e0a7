"""The tiny model, written once for all engine tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import tiny_gguf


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return tiny_gguf.write_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_adapter(tmp_path_factory):
    return tiny_gguf.write_adapter(tmp_path_factory.mktemp("tiny") / "adapter.gguf")


@pytest.fixture(scope="session")
def tiny_merged(tmp_path_factory):
    return tiny_gguf.write_model(tmp_path_factory.mktemp("tiny") / "merged.gguf", tiny_gguf.merged())
