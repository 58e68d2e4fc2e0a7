"""Which type each tensor gets, and what the bytes mean to others; what of an adapter is left in a file."""

import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.heard import Heard
from werkmeister.bases.gguf_file import encode
from werkmeister.bases.gguf_header import Tensor, read_gguf_header
from werkmeister.building.adapter import Delta, permute_heads
from werkmeister.building.applied import ERRORS, applied
from werkmeister.building.merge import GgufWeights, Merged
from werkmeister.building.quantise import DEFAULT_TYPE, planned, quantise
from werkmeister.errors import BaseModelError, ParityError
from werkmeister.progress import Silent

HEADS, WIDTH = 4, 256


class Random:
    """A two-layer model of normally distributed weights, in memory."""

    def __init__(self, width: int = WIDTH) -> None:
        generator = np.random.default_rng(0)
        shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (96, width), "output_norm.weight": (width,)}
        for layer in range(2):
            kinds = ("attn_q", "attn_k", "attn_v", "ffn_down")
            shapes |= {f"blk.{layer}.{kind}.weight": (width, width) for kind in kinds}
        self.values = {name: generator.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
        self.tensors: Sequence[Tensor] = [Tensor(name=n, shape=s, type="F32") for n, s in shapes.items()]
        self.metadata: Mapping[str, bytes] = {"general.architecture": encode("llama")}

        self.touched: frozenset[str] = frozenset()

    def rows(self, tensor: Tensor, start: int, stop: int) -> np.ndarray:
        return self.values[tensor.name].reshape(-1, tensor.width)[start:stop]

    def stored(self, tensor: Tensor, start: int, stop: int) -> bytes | None:
        return self.rows(tensor, start, stop).tobytes()


def layers(count: int, width: int, kinds: Sequence[str]) -> list[Tensor]:
    names = [f"blk.{layer}.{kind}.weight" for layer in range(count) for kind in kinds]
    return [Tensor(name=name, shape=(width, width), type="F16") for name in names]


def types(tensors: Sequence[Tensor], file_type: str) -> dict[str, str]:
    model = Random()
    model.tensors = tensors
    return {tensor.name: tensor.type for tensor in planned(model, file_type)}


def test_q4_k_m_of_32_layers_is_the_mix_of_the_published_files() -> None:
    found = types(layers(32, 4096, ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_down", "ffn_up")), "Q4_K_M")
    more = {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31}
    for kind in ("attn_v", "ffn_down"):
        assert {n for n in range(32) if found[f"blk.{n}.{kind}.weight"] == "Q6_K"} == more
    assert {found[f"blk.{n}.{kind}.weight"] for n in range(32) for kind in ("attn_q", "ffn_up")} == {"Q4_K"}


def test_fused_attention_counts_as_values() -> None:
    tensors = layers(2, 512, ("attn_qkv",))
    assert types(tensors, "Q4_K_M") == {"blk.0.attn_qkv.weight": "Q4_K", "blk.1.attn_qkv.weight": "Q6_K"}
    assert types(tensors, "Q5_K_M") == {"blk.0.attn_qkv.weight": "Q5_K", "blk.1.attn_qkv.weight": "Q6_K"}


@pytest.mark.parametrize(("tied", "embedding"), [(True, "Q6_K"), (False, "Q4_K")])
def test_output_or_tied_embedding_gets_six_bits(tied: bool, embedding: str) -> None:
    tensors = [Tensor(name="token_embd.weight", shape=(1000, 512), type="F16")]
    tensors += [] if tied else [Tensor(name="output.weight", shape=(1000, 512), type="F16")]
    found = types(tensors, "Q4_K_M")
    assert found["token_embd.weight"] == embedding
    assert tied or found["output.weight"] == "Q6_K"
    assert set(types(tensors, "Q8_0").values()) == {"Q8_0"}


@pytest.mark.parametrize(
    ("file_type", "width", "wanted"),
    [
        ("Q4_K_M", 576, "Q5_0"),
        ("Q5_K_M", 576, "Q5_1"),
        ("Q6_K", 576, "Q8_0"),
        ("IQ4_XS", 576, "IQ4_NL"),
        ("Q4_0", 40, "F16"),
        ("Q8_0", 576, "Q8_0"),
    ],
)
def test_widths_that_do_not_divide_fall_back(file_type: str, width: int, wanted: str) -> None:
    assert set(types(layers(32, width, ("attn_q",)), file_type).values()) == {wanted}
    tied = [Tensor(name="token_embd.weight", shape=(64, width), type="F16")]
    assert types(tied, file_type)["token_embd.weight"] == ("F16" if width == 40 else "Q8_0")


def test_iq4_xs_gives_values_more_bits_where_four_heads_share_them() -> None:
    model = Random()
    model.tensors = layers(2, 512, ("attn_q", "attn_v"))
    assert {tensor.type for tensor in planned(model, "IQ4_XS")} == {"IQ4_XS"}
    heads = {"llama.attention.head_count": encode(8), "llama.attention.head_count_kv": encode(2)}
    model.metadata = {**model.metadata, **heads}
    found = {tensor.name: tensor.type for tensor in planned(model, "IQ4_XS")}
    assert {name for name, kind in found.items() if kind == "Q5_K"} == {f"blk.{n}.attn_v.weight" for n in range(2)}


def test_vectors_and_norms_stay_exact() -> None:
    tensors = [
        Tensor(name="blk.0.attn_norm.weight", shape=(512,), type="BF16"),
        Tensor(name="rope_freqs.weight", shape=(32,), type="F32"),
    ]
    assert set(types(tensors, "Q4_0").values()) == {"F32"}


@pytest.mark.parametrize("file_type", sorted(DEFAULT_TYPE))
def test_gguf_dequantises_to_what_we_read_and_near_what_was_meant(file_type: str, tmp_path: Path) -> None:
    model, path = Random(), tmp_path / "m.gguf"
    size = quantise(model, path, file_type, progress=Silent())
    assert path.stat().st_size == size
    ours = GgufWeights(path)
    for theirs, tensor in zip(gguf.GGUFReader(path).tensors, ours.tensors, strict=True):
        meaning = gguf.dequantize(theirs.data, theirs.tensor_type).reshape(-1, tensor.width)
        assert np.array_equal(ours.rows(tensor, 0, tensor.rows), meaning)
        meant = model.rows(tensor, 0, tensor.rows)
        assert np.sqrt(np.mean((meaning - meant) ** 2) / np.mean(meant**2)) <= ERRORS[tensor.type]


def test_file_type_is_named_in_the_metadata(tmp_path: Path) -> None:
    quantise(Random(), tmp_path / "m.gguf", "Q4_K_M", progress=Silent())
    file = read_gguf_header(tmp_path / "m.gguf")
    assert file.metadata["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q4_K_M
    assert file.metadata["general.quantization_version"] == gguf.GGML_QUANT_VERSION


def test_a_tensor_that_keeps_its_type_is_copied_bit_for_bit(tmp_path: Path) -> None:
    quantise(Random(), tmp_path / "a.gguf", "Q4_K_M", progress=Silent())
    quantise(GgufWeights(tmp_path / "a.gguf"), tmp_path / "b.gguf", "Q4_K_M", progress=Silent())
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_numbers_beyond_f16_are_named(tmp_path: Path) -> None:
    model = Random()
    model.values["blk.1.attn_v.weight"][3, 3] = 1e6
    with pytest.raises(BaseModelError, match=r"blk.1.attn_v.weight.*F16"):
        quantise(model, tmp_path / "m.gguf", "F16", progress=Silent())
    model.values["blk.1.attn_v.weight"][3, 3] = np.nan
    with pytest.raises(BaseModelError, match=r"blk.1.attn_v.weight.*not finite"):
        quantise(model, tmp_path / "m.gguf", "Q8_0", progress=Silent())
    assert not list(tmp_path.iterdir())


def test_a_large_tensor_is_never_whole_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("werkmeister.building.quantise.threads_by_load", lambda: 1)
    model = Random()
    model.values = {"token_embd.weight": np.ones((24576, 1024), dtype=np.float32)}
    model.tensors = [Tensor(name="token_embd.weight", shape=(24576, 1024), type="F32")]
    quantise(model, tmp_path / "base.gguf", "F16", progress=Silent())
    del model
    base = GgufWeights(tmp_path / "base.gguf")
    change = Delta(np.ones((4, 1024), dtype=np.float32), np.ones((24576, 4), dtype=np.float32), 1.0)
    tracemalloc.start()
    quantise(Merged(base, {"token_embd.weight": change}), tmp_path / "m.gguf", "Q8_0", progress=Silent())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24576 * 1024 * 4 / 2, f"{peak / 1e6:.0f} MB for a tensor of 100 MB"


@given(heads=st.integers(1, 6), half=st.integers(1, 8))
def test_permuted_rows_pair_up_the_halves_of_each_head(heads: int, half: int) -> None:
    rows = np.arange(heads * 2 * half, dtype=np.float32)[:, None]
    moved = permute_heads(rows, heads)[:, 0]
    for head in range(heads):
        for place in range(half):
            first = head * 2 * half
            assert moved[first + 2 * place] == first + place
            assert moved[first + 2 * place + 1] == first + half + place


def deltas(model: Random, order: bool = False) -> dict[str, Delta]:
    generator = np.random.default_rng(1)
    found = {}
    for tensor in model.tensors:
        if "attn" not in tensor.name:
            continue
        a = generator.normal(0, 0.1, (4, tensor.width)).astype(np.float32)
        b = generator.normal(0, 0.02, (tensor.rows, 4)).astype(np.float32)
        found[tensor.name] = Delta(a, permute_heads(b, HEADS) if order and "attn_v" not in tensor.name else b, 2.0)
    return found


@pytest.mark.parametrize("file_type", ["F16", "Q8_0", "Q4_K_M", "Q4_0"])
def test_the_adapter_is_found_in_the_weights_at_any_width(file_type: str, tmp_path: Path) -> None:
    model = Random()
    quantise(Merged(model, deltas(model)), tmp_path / "m.gguf", file_type, progress=Silent())
    shares = applied(tmp_path / "m.gguf", model, deltas(model), Silent())
    assert set(shares) == {"attn_q", "attn_k", "attn_v"}
    assert all(abs(entry.share - 1) < 0.2 and entry.deviation < 0.1 for entry in shares.values())


@pytest.mark.parametrize("file_type", ["F16", "Q8_0", "Q4_K_M", "Q4_0"])
def test_rows_in_another_order_are_found_in_the_weights_at_any_width(file_type: str, tmp_path: Path) -> None:
    model = Random()
    quantise(Merged(model, deltas(model, order=True)), tmp_path / "m.gguf", file_type, progress=Silent())
    with pytest.raises(ParityError) as caught:
        applied(tmp_path / "m.gguf", model, deltas(model), Silent())
    assert "attn_q" in str(caught.value) and "attn_k" in str(caught.value) and "attn_v" not in str(caught.value)


@pytest.mark.parametrize("stored", ["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_1", "Q4_K_M", "Q4_0"])
@pytest.mark.parametrize("file_type", ["Q4_0", "IQ4_XS", "Q4_K_M", "Q5_1", "Q5_K_M", "Q6_K", "Q8_0"])
def test_a_gentle_adapter_survives_a_base_that_was_rounded_before(stored: str, file_type: str, tmp_path: Path) -> None:
    quantise(Random(), tmp_path / "base.gguf", stored, progress=Silent())
    base = GgufWeights(tmp_path / "base.gguf")
    gentle = {name: Delta(delta.a, delta.b, 0.2) for name, delta in deltas(Random()).items()}
    quantise(Merged(base, gentle), tmp_path / "m.gguf", file_type, progress=Silent())
    shares = applied(tmp_path / "m.gguf", base, gentle, Silent())
    assert all(0.85 < entry.share < 1.15 for entry in shares.values()), shares


def test_other_types_than_usual_are_said(tmp_path: Path) -> None:
    quantise(Random(), tmp_path / "base.gguf", "Q4_K_M", progress=Silent())
    base, heard = GgufWeights(tmp_path / "base.gguf"), Heard()
    quantise(Merged(base, deltas(Random())), tmp_path / "m.gguf", "Q4_K_M", progress=heard)
    assert any("6 tensors get another type" in line for line in heard.said), heard.said


def test_a_damaged_tensor_is_named(tmp_path: Path) -> None:
    model, path = Random(), tmp_path / "m.gguf"
    quantise(Merged(model, deltas(model)), path, "Q8_0", progress=Silent())
    data = bytearray(path.read_bytes())
    begin = read_gguf_header(path).offsets["blk.1.attn_k.weight"]
    data[begin : begin + 20000] = bytes(20000)
    path.write_bytes(data)
    with pytest.raises(ParityError, match="attn_k"):
        applied(path, model, deltas(model), Silent())
