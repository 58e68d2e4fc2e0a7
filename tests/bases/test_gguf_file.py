"""The GGUF container against the official reader, and against damage."""

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from werkmeister.bases.gguf_file import encode, file_size, write_gguf
from werkmeister.bases.gguf_header import Tensor, decode, read_gguf_header
from werkmeister.errors import BaseModelError

VALUES = st.one_of(
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.floats(width=32, allow_nan=False),
    st.text(),
    st.lists(st.text()),
    st.lists(st.integers(-(2**31), 2**31 - 1)),
    st.lists(st.floats(width=32, allow_nan=False)),
)


@given(VALUES)
def test_a_value_survives_encoding(value: object) -> None:
    assert decode(encode(value)) == value  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    metadata = {
        "general.architecture": encode("llama"),
        "llama.block_count": encode(2),
        "llama.eps": encode(1e-5),
        "tokenizer.ggml.tokens": encode(["a", "ß", "😀", ""]),
        "tokenizer.ggml.scores": encode([0.0, -1.5]),
        "flag": encode(True),
    }
    rows = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b.weight": np.ones(5, dtype=np.float32)}
    tensors = [Tensor(name=name, shape=values.shape, type="F32") for name, values in rows.items()]
    write_gguf(path, metadata, tensors, lambda tensor: [rows[tensor.name].tobytes()])
    assert path.stat().st_size == file_size(metadata, tensors)
    return path


def test_the_official_reader_reads_what_was_written(written: Path) -> None:
    reader = gguf.GGUFReader(written)
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["a", "ß", "😀", ""]
    assert reader.fields["llama.eps"].contents() == pytest.approx(1e-5)
    assert reader.fields["flag"].contents() is True
    first, second = reader.tensors
    assert np.array_equal(first.data, np.arange(6, dtype=np.float32).reshape(2, 3))
    assert np.array_equal(second.data, np.ones(5, dtype=np.float32))


def test_what_the_official_writer_wrote_is_read(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "qwen3")
    writer.add_token_list(["x", "ü"])
    writer.add_uint64("big", 2**40)
    writer.add_tensor("t.weight", np.full((3, 32), 0.5, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read_gguf_header(tmp_path / "other.gguf")
    assert file.metadata["general.architecture"] == "qwen3"
    assert file.metadata["tokenizer.ggml.tokens"] == ["x", "ü"] and file.metadata["big"] == 2**40
    assert file.tensors == {"t.weight": Tensor(name="t.weight", shape=(3, 32), type="F16")}


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(written: Path, tmp_path_factory: pytest.TempPathFactory, cut: float) -> None:
    whole = written.read_bytes()
    # The last twelve bytes are the padding behind the last tensor.
    short = tmp_path_factory.mktemp("cut") / "short.gguf"
    short.write_bytes(whole[: int(cut * (len(whole) - 12))])
    with pytest.raises(BaseModelError, match=r"truncated or damaged|not a GGUF"):
        read_gguf_header(short)


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(BaseModelError, match="not a GGUF"):
        read_gguf_header(tmp_path / "x.gguf")


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def full(_: Tensor) -> Iterator[bytes]:
        yield b"\0" * 4
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_gguf(tmp_path / "m.gguf", {}, [Tensor(name="t", shape=(2,), type="F32")], full)
    with pytest.raises(ValueError, match="8 announced"):
        write_gguf(tmp_path / "m.gguf", {}, [Tensor(name="t", shape=(2,), type="F32")], lambda _: [b"\0" * 4])
    assert not list(tmp_path.iterdir())
