"""One name, one base: where it is looked for, what is remembered, and what is said when it cannot be."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gguf_files import write_llama_gguf

from werkmeister.bases.find import find_base, known_base, models_folder
from werkmeister.errors import BaseModelError, MachineError
from werkmeister.progress import Silent


@pytest.fixture
def model(tmp_path: Path, cache: Path, checkpoints: dict[str, Path]) -> Path:
    """A local model folder of this test's own, with a cache of its own."""
    folder = tmp_path / "expert" / "model"
    shutil.copytree(checkpoints["llama"], folder)
    return folder


def _find(name: str | Path, expert: Path | None = None) -> Any:
    return find_base(str(name), expert=expert, progress=Silent())


def _edit(file: Path, **changes: Any) -> None:
    content = json.loads(file.read_text())
    content.update({key: value for key, value in changes.items() if value is not None})
    for key in [key for key, value in changes.items() if value is None]:
        content.pop(key, None)
    file.write_text(json.dumps(content))


def test_a_relative_folder_counts_from_the_expert_and_then_from_the_working_directory(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _find("./model", model.parent).folder == model
    monkeypatch.chdir(tmp_path)
    assert _find("expert/model", tmp_path / "elsewhere").folder == model
    other = tmp_path / "model"
    shutil.copytree(model, other)
    assert _find("model", model.parent).folder == model
    assert _find("model").folder == other


def test_a_local_folder_wins_over_a_hub_id_of_the_same_text(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _find("expert/model").source == "folder"


def test_a_base_tells_what_its_files_say(model: Path) -> None:
    base = _find(model)
    assert (base.name, base.source, base.gguf, base.architecture) == (str(model), "folder", None, "llama")
    assert (base.context_length, base.stop, base.template_source) == (512, ("<|im_end|>",), "base")
    assert base.parameters == 102720 and not base.multimodal


def test_the_second_call_reads_no_model_file_and_loads_no_heavy_module(model: Path, cache: Path) -> None:
    first = _find(model)
    code = (
        "import sys, time; started = time.process_time()\n"
        "from werkmeister.bases.find import find_base\nfrom werkmeister.progress import Silent\n"
        f"base = find_base({str(model)!r}, progress=Silent())\n"
        "heavy = {'torch', 'transformers', 'numpy', 'jinja2', 'huggingface_hub', 'gguf'} & set(sys.modules)\n"
        "print(base.identity, sorted(heavy), time.process_time() - started)"
    )
    environment = os.environ | {"WERKMEISTER_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    identity, heavy, seconds = done.stdout.rsplit(maxsplit=2)
    assert (identity, heavy) == (first.identity, "[]")
    assert float(seconds) < 0.3


def test_nothing_is_hashed_again_while_files_stand_as_they_were(model: Path, heard: Any) -> None:
    find_base(str(model), progress=heard)
    assert "hashing the base's files" in heard.tracks
    heard.tracks.clear()
    find_base(str(model), progress=heard)
    assert heard.tracks == []


@pytest.mark.parametrize("changed", ["template", "weights", "tokenizer"])
def test_identity_changes_with_weights_tokenizer_and_template(model: Path, changed: str) -> None:
    before = _find(model).identity
    if changed == "template":
        (model / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}")
    elif changed == "weights":
        data = bytearray((model / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (model / "model.safetensors").write_bytes(data)
    else:
        tokenizer = json.loads((model / "tokenizer.json").read_text())
        tokenizer["model"]["merges"].pop()
        (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert _find(model).identity != before


def test_identity_stays_when_a_file_is_only_touched_or_the_folder_copied(model: Path, tmp_path: Path) -> None:
    before = _find(model).identity
    os.utime(model / "model.safetensors", (1, 1))
    assert _find(model).identity == before
    shutil.copytree(model, tmp_path / "copy")
    assert _find(tmp_path / "copy").identity == before


def test_a_damaged_note_is_made_again(model: Path, cache: Path) -> None:
    before = _find(model)
    (note,) = cache.rglob("base.json")
    note.write_text("{ not json")
    assert _find(model) == before
    note.write_text("[]")
    assert _find(model) == before


def test_the_cache_lies_where_the_variable_says_and_else_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WERKMEISTER_CACHE", os.path.join("some", "where"))  # noqa: PTH118
    assert models_folder() == Path("some/where/models")
    monkeypatch.delenv("WERKMEISTER_CACHE")
    assert models_folder() == Path.home() / ".cache" / "werkmeister" / "models"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smolm2-135m", "did you mean 'smollm2-135m'"),
        ("Gemma-3-270M-it", "did you mean 'gemma-3-270m'"),
        ("", "no base model ''"),
        ("a/b/c", "no base model 'a/b/c'"),
        ("./nowhere", "no file or folder ./nowhere"),
        ("models/none.gguf", "no file or folder models/none.gguf"),
        ("~/nowhere-at-all", "no file or folder ~/nowhere-at-all"),
    ],
)
def test_a_name_that_means_nothing_gets_the_nearest_one_and_the_allowed_forms(
    name: str, words: str, cache: Path
) -> None:
    for find in (lambda: _find(name), lambda: known_base(name)):
        with pytest.raises(BaseModelError) as caught:
            find()
        assert words in str(caught.value)
        assert "smollm2-135m" in caught.value.hint and "owner/model" in caught.value.hint


def test_known_base_fetches_and_prepares_nothing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    assert known_base("smollm2-135m") is None
    assert known_base("someone/model") is None
    file = write_llama_gguf(model, tmp_path / "tiny.gguf")
    assert known_base(str(file)) is None
    base = _find(file)
    assert known_base(str(file)) == base
    assert known_base(str(model)) == _find(model)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_an_incomplete_folder_names_what_is_missing(model: Path, missing: str) -> None:
    (model / missing).unlink()
    with pytest.raises(BaseModelError, match=missing):
        _find(model)


def test_all_missing_shards_are_named_at_once(tmp_path: Path, cache: Path, checkpoints: dict[str, Path]) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoints["gemma3"], folder)
    for shard in folder.glob("*.safetensors"):
        shard.unlink()
    with pytest.raises(BaseModelError) as caught:
        _find(folder)
    assert caught.value.problems == ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_safetensors_are_named(model: Path, keep: int) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(BaseModelError, match=r"truncated or damaged[\s\S]*model\.safetensors"):
        _find(model)


def test_a_truncated_gguf_is_named_before_anything_is_prepared(model: Path, tmp_path: Path, cache: Path) -> None:
    file = write_llama_gguf(model, tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BaseModelError, match=r"tiny\.gguf is truncated[\s\S]*fetch the model file again"):
        _find(file)
    assert not list(cache.rglob("prepared*"))


def _set_metadata(monkeypatch: pytest.MonkeyPatch, key: str, value: Any) -> None:
    from werkmeister.bases import find

    own = find.read_gguf_header
    monkeypatch.setattr(
        find,
        "read_gguf_header",
        lambda path: dataclasses.replace(own(path), metadata={**own(path).metadata, key: value}),
    )


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("general.type", "adapter", "holds no model"), ("split.count", 3, r"one of 3 pieces[\s\S]*--merge")],
)
def test_a_gguf_that_is_no_whole_model_is_refused(
    key: str, value: Any, words: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_llama_gguf(model, tmp_path / "tiny.gguf")
    _set_metadata(monkeypatch, key, value)
    with pytest.raises(BaseModelError, match=words):
        _find(file)


def test_a_file_of_another_kind_is_told_so(model: Path) -> None:
    with pytest.raises(BaseModelError, match=r"model/config\.json is a file, but no \.gguf"):
        _find("model/config.json", model.parent)


def test_a_changed_gguf_is_prepared_again(tmp_path: Path, cache: Path, checkpoints: dict[str, Path]) -> None:
    file = write_llama_gguf(checkpoints["llama"], tmp_path / "tiny.gguf")
    first = _find(file)
    write_llama_gguf(checkpoints["llama-untied"], file)
    second = _find(file)
    assert second.identity != first.identity and second.parameters != first.parameters


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM"),
        ({"quantization_config": {"quant_method": "gptq"}}, r"already quantised \(gptq\)"),
        ({"hidden_size": None}, "hidden_size"),
        ({"model_type": None}, "model_type"),
    ],
)
def test_a_model_of_an_unusable_kind_is_refused_by_name(model: Path, change: dict[str, Any], words: str) -> None:
    _edit(model / "config.json", **change)
    with pytest.raises(BaseModelError, match=words):
        _find(model)


def test_weights_that_are_only_pickled_are_not_opened(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match=r"convert its pytorch_model\.bin to safetensors"):
        _find(model)


def test_a_cache_that_cannot_be_written_is_named(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("WERKMEISTER_CACHE", str(tmp_path / "file"))
    with pytest.raises(MachineError, match="file"):
        _find(model)


def test_a_supplied_template_is_said(model: Path, heard: Any) -> None:
    _edit(model / "tokenizer_config.json", chat_template=None)
    base = find_base(str(model), progress=heard)
    assert base.template_source == "standard ChatML"
    assert any("standard ChatML" in text for text in heard.said)


def test_a_multimodal_checkpoint_counts_its_text_part_alone(cache: Path, checkpoints: dict[str, Path]) -> None:
    base, text = _find(checkpoints["gemma3"]), _find(checkpoints["gemma3-text"])
    assert base.multimodal and not text.multimodal
    assert (base.parameters, base.architecture) == (text.parameters, text.architecture)
    assert _find(checkpoints["gemma3-middle"]).parameters == text.parameters
