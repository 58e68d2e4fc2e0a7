"""The export stage through its public door, on tiny checkpoints of every family, against transformers and PEFT."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.building.exporting import (
    PROMPTS,
    Upstream,
    change_config,
    copy_of,
    examples,
    trained_logprobs,
    upstream,
    upstream_on,
)
from tests.checkpoints import FAMILIES
from tests.heard import Heard
from werkmeister.artefact import Artefact
from werkmeister.bases.find import find_base
from werkmeister.bases.gguf_header import read_gguf_header
from werkmeister.bases.tokens import load_tokenizer, prompt_ids
from werkmeister.building import adapter as adapters
from werkmeister.building import proof
from werkmeister.building.export import ExportSettings, export
from werkmeister.building.merge import Merged
from werkmeister.engines.llama import LlamaEngine
from werkmeister.errors import ArtefactError, MachineError, ParityError, SettingsError
from werkmeister.progress import Silent

ORIGINAL: dict[str, dict[str, Any]] = {"phi3": {"original_max_position_embeddings": 256}}
QUICK = ExportSettings(files=("F16",), parity_prompts=2)


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("WERKMEISTER_CACHE")
    os.environ["WERKMEISTER_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["WERKMEISTER_CACHE"]
    else:
        os.environ["WERKMEISTER_CACHE"] = before


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Upstream:
    return upstream(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def exported(llama: Upstream) -> Artefact:
    settings = ExportSettings(files=("F16", "Q8_0", "Q4_K_M"), parity_prompts=4)
    return run(llama, "exported", settings)


def run(made: Upstream, name: str, settings: ExportSettings = QUICK, progress: Silent | None = None) -> Artefact:
    return export(made.dataset, made.train, made.root / name, settings, progress=progress or Silent())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_served_logits_and_token_ids_equal_transformers_with_peft(family: str, tmp_path: Path) -> None:
    made = upstream(tmp_path, family)
    artefact = run(made, "export")
    tokenizer = load_tokenizer(made.base)
    rows = [prompt_ids(tokenizer, example.prompt) for example in examples()]
    wanted = trained_logprobs(made.base, made.adapter, rows)
    with LlamaEngine(artefact.file("model-F16.gguf"), context_length=made.base.context_length) as engine:
        for example, row, logprobs in zip(examples(), rows, wanted, strict=True):
            assert engine.prompt_ids(example.prompt) == row
            served = engine.next_logprobs(example.prompt, top=50)
            worst = max(abs(logprobs[token] - value) for token, value in served.items())
            assert worst < 0.02, f"{example.question!r}: {worst}"


LLAMA3 = {
    **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    **{"original_max_position_embeddings": 64, "rope_theta": 10000.0},
}
LONG = {
    **{"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 256},
    **{"short_factor": [1.0 + 0.1 * n for n in range(8)], "long_factor": [2.0 + n for n in range(8)]},
}
GEMMA = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "rope_theta": 1000000.0}


@pytest.mark.parametrize(
    ("family", "rope"),
    [("llama", LLAMA3), ("phi3", LONG), ("gemma3-text", GEMMA), ("qwen3", YARN)],
    ids=["llama3", "longrope", "linear", "yarn"],
)
def test_scaled_rotary_embeddings_are_carried_over(family: str, rope: dict[str, Any], tmp_path: Path) -> None:
    FAMILIES[family](tmp_path / "base")
    file = tmp_path / "base" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"rope_parameters": rope} | ORIGINAL.get(family, {})))
    made = upstream_on(tmp_path, find_base(str(tmp_path / "base"), progress=Silent()))
    artefact = run(made, "export", ExportSettings(files=("F16",), parity_prompts=4))
    assert artefact.measures["parity"]["F16"]["kl"] < 1e-5
    assert artefact.facts["context_length"] == (256 if family == "phi3" else made.base.context_length)


def test_facts_say_what_serving_needs(exported: Artefact, llama: Upstream) -> None:
    facts = exported.facts
    assert facts["files"] == {kind: f"model-{kind}.gguf" for kind in ("F16", "Q8_0", "Q4_K_M")}
    assert facts["default"] == next(iter(facts["files"]))
    assert facts["stop"] == ["<|im_end|>"] and facts["context_length"] == llama.base.context_length
    assert set(facts["base_file"]) == {"model.safetensors"}
    made = {*facts["files"].values(), "adapter.gguf"}
    golden = {name.replace(".gguf", ".expected.jsonl") for name in made}
    assert set(exported.outputs) == made | golden | {"imatrix.gguf"}, "the proof is not kept"
    assert facts["overlay"] is None
    assert set(exported.measures["parity"]) == {"adapter", *facts["files"]}


def test_all_makes_every_type_and_the_base_quantised_for_the_adapter(llama: Upstream) -> None:
    artefact = run(llama, "all", ExportSettings(files=("all",), parity_prompts=2))
    kinds = ["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS"]
    assert list(artefact.facts["files"]) == kinds
    overlay = artefact.facts["overlay"]
    assert overlay == {"name": "adapter on Q4_K_M", "file": "base-Q4_K_M.gguf", "type": "Q4_K_M"}
    assert set(artefact.measures["parity"]) == {"adapter", *kinds, overlay["name"]}
    # The base that the adapter is laid over was not changed by it: the figures are those of another model.
    assert artefact.outputs["base-Q4_K_M.gguf"]["sha256"] != artefact.outputs["model-Q4_K_M.gguf"]["sha256"]
    assert artefact.measures["importance"]["tokens"] > 0


def test_adapter_file_on_the_base_file_gives_the_merged_logits(exported: Artefact, tmp_path: Path) -> None:
    merged = exported.measures["parity"]["F16"]
    laid_over = exported.measures["parity"]["adapter"]
    assert abs(merged["effect"] - 1) < 0.01 and abs(laid_over["effect"] - 1) < 0.01
    file = read_gguf_header(exported.file("adapter.gguf"))
    assert file.metadata["general.type"] == "adapter" and file.metadata["adapter.type"] == "lora"
    assert file.metadata["adapter.lora.alpha"] == 8.0 and file.metadata["general.architecture"] == "llama"


def test_rank_stabilised_adapters_are_scaled_by_the_root(tmp_path: Path) -> None:
    made = upstream(tmp_path, use_rslora=True)
    artefact = run(made, "export")
    assert read_gguf_header(artefact.file("adapter.gguf")).metadata["adapter.lora.alpha"] == pytest.approx(16.0)
    assert abs(artefact.measures["parity"]["adapter"]["effect"] - 1) < 0.01


def test_a_gguf_base_keeps_its_metadata_byte_for_byte(exported: Artefact, llama: Upstream, tmp_path: Path) -> None:
    source = tmp_path / "own.gguf"
    source.write_bytes(exported.file("model-F16.gguf").read_bytes())
    made = upstream_on(tmp_path, find_base(str(source), progress=Silent()))
    artefact = run(made, "export", ExportSettings(files=("Q8_0",), parity_prompts=2))
    before, after = read_gguf_header(source).raw, read_gguf_header(artefact.file("model-Q8_0.gguf")).raw
    changed = {"general.name", "general.file_type", "general.quantization_version"}
    assert list(before) == list(after)
    assert {key for key in before if before[key] != after[key]} <= changed
    assert set(artefact.facts["base_file"]) == {"own.gguf"}


def test_two_exports_of_the_same_give_the_same_bytes(exported: Artefact, llama: Upstream) -> None:
    again = run(llama, "again", ExportSettings(files=("Q8_0",), parity_prompts=2))
    assert again.outputs["model-Q8_0.gguf"] == exported.outputs["model-Q8_0.gguf"]


def test_a_wrong_row_order_is_refused(llama: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "PERMUTED", frozenset())
    with pytest.raises(ParityError, match=r"adapter\.gguf on base-F16\.gguf") as caught:
        run(llama, "permuted", ExportSettings(files=("Q4_0",), parity_prompts=2))
    assert "effect" in str(caught.value) and "prompt" in str(caught.value)
    left = {path.name for path in (llama.root / "permuted.partial").glob("*.gguf")}
    assert left <= {"imatrix.gguf"}, "a refused file was kept"


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_M", "Q4_0"])
def test_a_file_without_the_adapter_is_refused_at_any_width(
    kind: str, llama: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Merged, "rows", lambda self, tensor, start, stop: self._base.rows(tensor, start, stop))
    with pytest.raises(ParityError, match=f"model-{kind}.gguf") as caught:
        run(llama, f"ignored-{kind}", ExportSettings(files=(kind,), parity_prompts=2))
    assert "0.0" in str(caught.value) and "attn_q" in str(caught.value)


def test_another_template_in_the_file_is_refused(llama: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    from werkmeister.bases.gguf_file import encode
    from werkmeister.building import convert
    from werkmeister.building.tokenizer_gguf import TEMPLATE, tokenizer_metadata

    other = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}assistant:"
    monkeypatch.setattr(
        convert, "tokenizer_metadata", lambda base, size: tokenizer_metadata(base, size) | {TEMPLATE: encode(other)}
    )
    with pytest.raises(ParityError, match="another prompt") as caught:
        run(llama, "template")
    text = str(caught.value)
    assert "first difference" in text and any(repr(question) in text for _, question, _ in PROMPTS)


def test_whole_files_of_an_interrupted_run_are_kept(llama: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "scratch/base-F16.gguf")

    with monkeypatch.context() as patch:
        patch.setattr(proof, "check", full)
        with pytest.raises(MachineError, match="disk is full"):
            run(llama, "resumed")
    partial = llama.root / "resumed.partial"
    kept = (partial / "model-F16.gguf").stat().st_mtime_ns
    assert not list(partial.glob("*.tmp"))
    heard = Heard()
    artefact = run(llama, "resumed", progress=heard)
    assert artefact.file("model-F16.gguf").stat().st_mtime_ns == kept
    assert any("interrupted" in line for line in heard.said)


def test_too_small_a_disk_is_said_before_work(llama: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("werkmeister.machine.free_disk", lambda path: 1000)
    with pytest.raises(MachineError, match="F16"):
        run(llama, "small-disk")
    assert not list((llama.root / "small-disk.partial").glob("*.gguf"))


def test_a_zero_adapter_passes_and_is_said(tmp_path: Path) -> None:
    heard = Heard()
    artefact = run(upstream(tmp_path, scale=0.0), "export", progress=heard)
    assert artefact.measures["parity"]["F16"]["effect"] is None
    assert any("zero" in line for line in heard.said)


def test_an_adapter_below_all_rounding_passes_and_is_said(tmp_path: Path) -> None:
    heard = Heard()
    run(upstream(tmp_path, scale=1e-5), "export", ExportSettings(files=("F16", "Q8_0")), progress=heard)
    assert any("hardly changes" in line for line in heard.said)


def test_unsupported_adapters_are_refused_by_name_all_at_once(llama: Upstream, tmp_path: Path) -> None:
    made = copy_of(llama, tmp_path)
    change_config(made.adapter, use_dora=True, rank_pattern={"q_proj": 8}, bias="all", modules_to_save=["lm_head"])
    with pytest.raises(ArtefactError) as caught:
        adapters.read_adapter(made.adapter)
    text = str(caught.value)
    assert all(word in text for word in ("use_dora", "rank_pattern", "bias", "modules_to_save"))


def test_an_edited_adapter_is_named(llama: Upstream, tmp_path: Path) -> None:
    made = copy_of(llama, tmp_path)
    file = made.adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ArtefactError, match=r"adapter_model\.safetensors"):
        adapters.read_adapter(made.adapter)
    with pytest.raises(ArtefactError, match="not what was made"):
        run(made, "export")


def test_an_adapter_of_another_base_is_refused(llama: Upstream, tmp_path: Path) -> None:
    made = upstream(tmp_path, "llama-256")
    from werkmeister.building.convert import CheckpointWeights
    from werkmeister.building.merge import deltas_for

    weights = CheckpointWeights(llama.base)
    deltas = deltas_for(weights, adapters.read_adapter(made.adapter))
    with pytest.raises(ArtefactError, match="does not fit"):
        Merged(weights, deltas)


def test_a_context_that_the_base_does_not_have_is_refused(llama: Upstream) -> None:
    with pytest.raises(SettingsError, match="context_length"):
        run(llama, "context", ExportSettings(files=("F16",), context_length=4096))


@pytest.mark.parametrize(
    ("given", "named"),
    [({"files": ("Q9",)}, "Q9"), ({"files": ()}, "at least one"), ({"default": "F16"}, "F16")],
)
def test_wrong_settings_are_named(given: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ExportSettings(**given)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2-135m", "gemma-3-270m"])
def test_a_packaged_base_is_exported_within_its_bounds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WERKMEISTER_CACHE", raising=False)
    made = upstream_on(tmp_path, find_base(name, progress=Silent()), scale=0.01, r=8, lora_alpha=16)
    kinds = ("F16", "Q8_0", "Q4_K_M")
    artefact = run(made, "export", ExportSettings(files=kinds, parity_prompts=2))
    measured = artefact.measures["parity"]
    assert measured["adapter"]["effect"] == pytest.approx(1, abs=0.01)
    assert all(0.9 < share < 1.1 for kind in kinds for share in measured[kind]["applied"].values())
    source = read_gguf_header(made.base.gguf)  # type: ignore[arg-type]
    served = read_gguf_header(artefact.file("model-Q8_0.gguf"))
    tokenizer = [key for key in source.raw if key.startswith("tokenizer.ggml.")]
    assert tokenizer and all(served.raw[key] == source.raw[key] for key in tokenizer)
    assert served.metadata["tokenizer.chat_template"] == made.base.template
