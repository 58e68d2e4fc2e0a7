"""The real hub client against a small hub on the loopback interface."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import COMMIT, Hub

from werkmeister.bases.find import find_base, known_base
from werkmeister.errors import BaseModelError
from werkmeister.progress import Silent

NAME = "someone/tiny-chat"


@pytest.fixture
def hub(tmp_path: Path, cache: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    server = Hub()
    repo = tmp_path / "repo"
    shutil.copytree(checkpoints["gemma3"], repo)
    (repo / "README.md").write_text("not needed")
    (repo / "original").mkdir()
    (repo / "original" / "consolidated.safetensors").write_bytes(b"x" * 100)
    (repo / "pytorch_model.bin").write_bytes(b"x" * 100)
    server.repos[NAME] = repo
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield server
    server.close()


def test_a_hub_model_is_fetched_without_the_files_that_training_does_not_need(hub: Hub, heard: Any) -> None:
    base = find_base(NAME, progress=heard)
    assert {file.name for file in base.folder.iterdir()} == {
        *("config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json"),
        *("added_tokens.json", "model.safetensors.index.json"),
        *("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
    }
    assert (base.source, base.licence, base.multimodal, base.architecture) == (
        *("hub", "apache-2.0", True),
        "gemma3_text",
    )
    assert any("fetching" in text for text in heard.said)
    assert heard.moved >= sum(file.stat().st_size for file in base.folder.glob("*.safetensors"))


def test_the_second_time_asks_the_hub_nothing_and_is_the_same_base(hub: Hub) -> None:
    assert known_base(NAME) is None
    first = find_base(NAME, progress=Silent())
    hub.asked.clear()
    assert find_base(NAME, progress=Silent()) == first == known_base(NAME)
    assert hub.asked == []


def test_identity_of_a_hub_model_depends_on_its_commit(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_base(NAME, progress=Silent())
    shutil.rmtree(cache)
    assert find_base(NAME, progress=Silent()).identity == first.identity
    shutil.rmtree(cache)
    other = COMMIT[::-1]
    monkeypatch.setattr("hub_server.COMMIT", other)
    assert find_base(NAME, progress=Silent()).identity != first.identity


def test_a_gated_model_names_the_licence_page_and_the_login_command(hub: Hub) -> None:
    hub.gated.add("google/gemma-3-4b-it")
    with pytest.raises(BaseModelError, match=r"gated[\s\S]*google/gemma-3-4b-it[\s\S]*hf auth login[\s\S]*HF_TOKEN"):
        find_base("google/gemma-3-4b-it", progress=Silent())


def test_an_unknown_id_names_the_nearest_packaged_model_and_the_allowed_forms(hub: Hub) -> None:
    with pytest.raises(BaseModelError, match=r"no model someone/smollm2-135[\s\S]*smollm2-135m[\s\S]*\.gguf"):
        find_base("someone/smollm2-135", progress=Silent())


def test_a_repository_of_gguf_files_says_how_to_use_one(hub: Hub, tmp_path: Path) -> None:
    repo = tmp_path / "ggufs"
    repo.mkdir()
    (repo / "model-Q8_0.gguf").write_bytes(b"GGUF")
    (repo / "config.json").write_text("{}")
    hub.repos["someone/ggufs"] = repo
    with pytest.raises(BaseModelError, match=r"download model-Q8_0\.gguf"):
        find_base("someone/ggufs", progress=Silent())


def test_offline_uses_the_cache_and_asks_nothing(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    online = find_base(NAME, progress=Silent())
    shutil.rmtree(cache)
    hub.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = find_base(NAME, progress=Silent())
    assert (offline.folder, offline.identity) == (online.folder, online.identity)
    assert hub.asked == []


def test_offline_without_the_model_says_so_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BaseModelError, match=r"HF_HUB_OFFLINE is set[\s\S]*hf download someone/tiny-chat"):
        find_base(NAME, progress=Silent())
    assert hub.asked == []


def test_a_broken_hub_falls_back_to_the_cache_and_else_names_the_error(hub: Hub, cache: Path) -> None:
    hub.broken = True
    with pytest.raises(BaseModelError, match="error 500"):
        find_base(NAME, progress=Silent())
    hub.broken = False
    online = find_base(NAME, progress=Silent())
    shutil.rmtree(cache)
    hub.broken = True
    assert find_base(NAME, progress=Silent()).identity == online.identity


def test_a_hub_that_never_answers_does_not_hang(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("werkmeister.bases.hub._TIMEOUT", 0.3)
    hub.silent = 2.0
    started = time.perf_counter()
    with pytest.raises(BaseModelError, match="cannot be reached"):
        find_base(NAME, progress=Silent())
    assert time.perf_counter() - started < 10


def test_an_endpoint_without_a_server_is_an_error_with_the_next_step(hub: Hub) -> None:
    hub.close()
    with pytest.raises(BaseModelError, match=r"cannot be reached[\s\S]*hf download"):
        find_base(NAME, progress=Silent())


def test_the_offline_variable_is_respected_in_a_fresh_process(tmp_path: Path) -> None:
    code = "from werkmeister.bases.find import find_base; from werkmeister.progress import Silent\n"
    code += "try:\n find_base('google/gemma-3-4b-it', progress=Silent())\nexcept Exception as error:\n print(error)"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "WERKMEISTER_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert "HF_HUB_OFFLINE is set" in done.stdout, done.stderr


def test_a_fetch_that_was_cut_off_is_taken_up_again(hub: Hub, cache: Path, tmp_path: Path) -> None:
    first = find_base(NAME, progress=Silent())
    weights = sorted(first.folder.glob("*.safetensors"))[1]
    weights.resolve().unlink()
    weights.unlink()
    assert find_base(NAME, progress=Silent()) == first
    index = json.loads((first.folder / "model.safetensors.index.json").read_text())
    assert all((first.folder / name).is_file() for name in index["weight_map"].values())
