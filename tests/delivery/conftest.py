"""A tiny expert to serve, made without the stages: only its export artefact stands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

import tiny_gguf

from werkmeister.artefact import making


@pytest.fixture(scope="session")
def tiny_expert(tmp_path_factory):
    """An expert of which only the export artefact stands."""
    folder = tmp_path_factory.mktemp("experts") / "tiny-expert"
    export = folder / "artefacts" / "export"
    export.parent.mkdir(parents=True)
    toml = '[expert]\nbase = "smollm2-135m"\n\n[dataset]\nfiles = ["examples.jsonl"]\n'
    (folder / "expert.toml").write_text(toml)
    with making("export", export, version=1, inputs={}, settings={}) as draft:
        tiny_gguf.write_model(draft.path / "model-Q8_0.gguf")
        draft.facts |= {"system": "the hand", "stop": ["</s>"], "context_length": tiny_gguf.CONTEXT}
        draft.facts |= {"files": {"Q8_0": "model-Q8_0.gguf"}, "default": "Q8_0"}
    return folder
