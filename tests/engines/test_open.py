"""An engine by one name: a base, a .gguf file, or a URL."""

from __future__ import annotations

import pytest

from tests.openai_server import serving
from werkmeister.artefact import sha256_of
from werkmeister.chat import conversation
from werkmeister.engines.engine import Sampling, reply
from werkmeister.engines.llama import LlamaEngine
from werkmeister.engines.open import engine_inputs, find_engine, is_url
from werkmeister.engines.remote import RemoteEngine
from werkmeister.errors import BaseModelError, SettingsError
from werkmeister.governing.policy import PolicySettings
from werkmeister.progress import Silent


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WERKMEISTER_CACHE", str(tmp_path / "cache"))


def test_a_gguf_file_opens_under_llama_cpp_and_is_known_by_its_content(tiny, tmp_path):
    found = find_engine(tiny.name, expert=tiny.parent, progress=Silent(), context_length=64)
    assert found.identity == sha256_of(tiny) and not found.remote and found.concurrency == 1
    with found.open() as engine:
        assert isinstance(engine, LlamaEngine) and engine.context_length == 64
        assert reply(engine, conversation("the land"), Sampling(max_tokens=4)).answer_tokens > 0
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(tiny.read_bytes())
    assert find_engine(str(copy), progress=Silent()).identity == found.identity
    assert engine_inputs(str(copy)) == {f"engine {copy}": found.identity}


def test_a_file_is_hashed_once_until_it_changes(tmp_path, monkeypatch):
    from werkmeister import artefact

    hashed = []
    monkeypatch.setattr(artefact, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    file = tmp_path / "model.gguf"
    file.write_bytes(b"one")
    first = [engine_inputs(str(file)) for _ in range(3)]
    assert len(hashed) == 1 and first[0] == first[2] == {f"engine {file}": sha256_of(file)}
    file.write_bytes(b"other")
    assert engine_inputs(str(file)) == {f"engine {file}": sha256_of(file)} != first[0]


def test_a_url_opens_the_endpoint_and_is_known_by_url_and_model():
    with serving() as server:
        found = find_engine(f"{server.url}/", model="tiny", progress=Silent())
        assert not server.headers, "the server was reached before the engine was opened"
        assert found.identity == f"{server.url} tiny" and not found.remote and found.concurrency == 4
        assert engine_inputs(f"{server.url}/", model="tiny") == {f"engine {server.url}/": found.identity}
        with found.open() as engine:
            assert isinstance(engine, RemoteEngine) and engine.concurrency == 4
            assert reply(engine, conversation("Hello"), Sampling()).text == "yes"


def test_the_only_model_of_an_endpoint_becomes_part_of_its_identity():
    with serving() as server:
        assert find_engine(server.url, progress=Silent()).identity == f"{server.url} tiny"


def test_the_policy_holds_before_anything_is_opened():
    url = "https://llm.example.com/v1"
    with pytest.raises(SettingsError, match=r"\[policy\] allow"):
        find_engine(url, model="big", progress=Silent())
    allowed = find_engine(url, model="big", progress=Silent(), policy=PolicySettings(allow=("llm.example.com",)))
    assert allowed.remote and allowed.facts["where"] == "llm.example.com"


def test_names_that_mean_nothing_are_told_with_the_setting(tmp_path):
    for name in ("gone.gguf", "smollm2-999m"):
        with pytest.raises(BaseModelError, match="teacher") as caught:
            find_engine(name, expert=tmp_path, progress=Silent())
        assert "write.teacher" in caught.value.hint
        assert engine_inputs(name, expert=tmp_path) == {f"engine {name}": "not on this machine"}
    assert engine_inputs("") == {}


def test_settings_of_an_endpoint_do_not_go_with_a_file(tiny):
    for more in ({"model": "big"}, {"key_env": "KEY"}):
        with pytest.raises(SettingsError, match="no URL"):
            find_engine(str(tiny), progress=Silent(), **more)


def test_urls_are_told_from_paths():
    assert is_url("HTTP://localhost/v1") and is_url("https://a.example/v1")
    assert not is_url("models/http.gguf") and not is_url("org/model")
