"""The parity gate on a model that really was trained: what it measures, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.building.exporting import examples, learnt_adapter
from tests.checkpoints import FAMILIES
from werkmeister.bases.base import Base
from werkmeister.bases.find import find_base
from werkmeister.bases.gguf_file import encode, write_gguf
from werkmeister.bases.gguf_header import decode, read_gguf_header
from werkmeister.building.adapter import read_adapter
from werkmeister.building.convert import CheckpointWeights
from werkmeister.building.merge import Merged, deltas_for
from werkmeister.building.parity import BOUNDS, bound_of, check
from werkmeister.building.quantise import quantise
from werkmeister.building.trained import Reference, load_trained, refer
from werkmeister.errors import ParityError
from werkmeister.progress import Silent


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(scope="module")
def base(root: Path) -> Base:
    FAMILIES["llama-untied"](root / "base")
    return find_base(str(root / "base"), progress=Silent())


@pytest.fixture(scope="module")
def reference(root: Path, base: Base) -> Reference:
    learnt_adapter(base, root / "adapter")
    return refer(load_trained(base, root / "adapter", Silent()), examples(), Silent())


@pytest.fixture(scope="module")
def file(root: Path, base: Base, reference: Reference) -> Path:
    weights = CheckpointWeights(base)
    merged = Merged(weights, deltas_for(weights, read_adapter(root / "adapter")))
    quantise(merged, root / "model.gguf", "Q8_0", progress=Silent())
    return root / "model.gguf"


def spoilt(file: Path, to: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> Path:
    """A copy of a GGUF with other metadata."""
    found, data = read_gguf_header(file), file.read_bytes()

    def chunks(tensor: object) -> list[bytes]:
        begin = found.offsets[tensor.name]  # type: ignore[attr-defined]
        return [data[begin : begin + tensor.size]]  # type: ignore[attr-defined]

    write_gguf(to, change(dict(found.raw)), tuple(found.tensors.values()), chunks)
    return to


def test_the_trained_model_ends_its_answers_and_so_does_the_file(reference: Reference, file: Path) -> None:
    assert reference.to_end, "the tiny model never ends an answer: the gate has nothing to check"
    figures = check(file, "Q8_0", reference, context=64, progress=Silent())
    assert figures.ended == figures.to_end > 0
    assert figures.prompts == len(examples()) and figures.positions >= 2 * figures.prompts
    assert figures.kl < BOUNDS["Q8_0"].kl and figures.top1 == 1.0


def test_a_file_with_a_shorter_context_than_promised_is_refused(
    reference: Reference, file: Path, tmp_path: Path
) -> None:
    short = spoilt(file, tmp_path / "short.gguf", lambda old: old | {"llama.context_length": encode(48)})
    with pytest.raises(ParityError, match=r"holds 48 tokens, and a context of 64") as caught:
        check(short, "Q8_0", reference, context=64, progress=Silent())
    assert "export.context_length" in str(caught.value)


def test_a_template_that_differs_in_later_turns_alone_is_refused(
    reference: Reference, file: Path, tmp_path: Path
) -> None:
    def change(metadata: dict[str, bytes]) -> dict[str, bytes]:
        template = decode(metadata["tokenizer.chat_template"])
        other = "{% if messages | length > 2 %}{{ 'x' }}{% endif %}" + template
        return metadata | {"tokenizer.chat_template": encode(other)}

    assert reference.turns
    with pytest.raises(ParityError, match="another prompt"):
        check(spoilt(file, tmp_path / "turns.gguf", change), "Q8_0", reference, context=64, progress=Silent())


def test_a_file_that_lost_its_end_token_is_refused(reference: Reference, file: Path, tmp_path: Path) -> None:
    def change(metadata: dict[str, bytes]) -> dict[str, bytes]:
        # llama.cpp knows <|im_end|> by its text, so it gets another one of the same length, in the template as well.
        renamed = {key: raw.replace(b"<|im_end|>", b"<|im_zzz|>") for key, raw in metadata.items()}
        return renamed | {"tokenizer.ggml.eos_token_id": encode(1)}

    with pytest.raises(ParityError, match="does not do what") as caught:
        check(spoilt(file, tmp_path / "endless.gguf", change), "Q8_0", reference, context=64, progress=Silent())
    assert "end token" in str(caught.value)


def test_another_base_frequency_is_refused(reference: Reference, file: Path, tmp_path: Path) -> None:
    other = spoilt(file, tmp_path / "rope.gguf", lambda old: old | {"llama.rope.freq_base": encode(50.0)})
    with pytest.raises(ParityError, match="does not do what") as caught:
        check(other, "Q8_0", reference, context=64, progress=Silent())
    assert "KL divergence" in str(caught.value) and "worst prompt" in str(caught.value)


def test_the_base_alone_is_refused(base: Base, reference: Reference, tmp_path: Path) -> None:
    quantise(CheckpointWeights(base), tmp_path / "base.gguf", "Q4_0", progress=Silent())
    with pytest.raises(ParityError, match=r"base\.gguf"):
        check(tmp_path / "base.gguf", "Q4_0", reference, context=64, progress=Silent())


def test_bounds_widen_for_a_coarse_reference_and_with_fewer_bits() -> None:
    kl = [BOUNDS[kind].kl for kind in ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")]
    assert kl == sorted(kl)
    assert bound_of("F16", "float32") == BOUNDS["F16"]
    assert bound_of("F16", "bfloat16").kl > BOUNDS["F16"].kl
