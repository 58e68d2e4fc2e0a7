"""A built expert with the tiny model, made without the stages: only its export artefact stands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

import tiny_gguf

from werkmeister.artefact import making


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experts") / "tiny-expert"
    export = folder / "artefacts" / "export"
    export.parent.mkdir(parents=True)
    with making("export", export, version=1, inputs={}, settings={}) as draft:
        tiny_gguf.write_model(draft.path / "model-Q8_0.gguf")
        tiny_gguf.write_model(draft.path / "model-Q4_K_M.gguf", tiny_gguf.weights(seed=5))
        draft.facts |= {
            "system": "the hand",
            "stop": ["</s>"],
            "context_length": tiny_gguf.CONTEXT,
            "files": {"Q8_0": "model-Q8_0.gguf", "Q4_K_M": "model-Q4_K_M.gguf"},
            "default": "Q4_K_M",
        }
    return folder
