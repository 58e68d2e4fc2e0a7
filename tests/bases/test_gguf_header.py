"""The GGUF header reader, against the official package and against damage."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import pytest
from gguf_files import write_llama_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from werkmeister.bases.gguf_header import block_width, decode, read_gguf_header, row_bytes, type_number
from werkmeister.bases.shape import shape_of_folder, shape_of_gguf
from werkmeister.errors import BaseModelError


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Path:
    return write_llama_gguf(checkpoints["llama"], tmp_path_factory.mktemp("gguf") / "tiny.gguf", kind="Q8_0")


def test_metadata_and_tensors_are_those_of_the_official_reader(file: Path) -> None:
    header, reader = read_gguf_header(file), gguf.GGUFReader(file)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert header.metadata == fields
    assert {name: (t.shape, t.type, t.size, header.offsets[name]) for name, t in header.tensors.items()} == {
        t.name: (tuple(reversed(t.shape.tolist())), t.tensor_type.name, t.n_bytes, t.data_offset)
        for t in reader.tensors
    }


def test_every_metadata_value_stays_the_bytes_of_the_file(file: Path) -> None:
    header, data = read_gguf_header(file), file.read_bytes()
    assert all(key.encode() + raw in data for key, raw in header.raw.items())
    assert {key: decode(raw) for key, raw in header.raw.items()} == header.metadata


def test_every_known_block_size_is_that_of_the_official_package() -> None:
    official = {kind.name: (block, size) for kind, (block, size) in gguf.GGML_QUANT_SIZES.items()}
    assert len(official) > 30
    for name, (block, size) in official.items():
        assert (block_width(name), row_bytes(name, 3 * block)) == (block, 3 * size)
        assert type_number(name) == gguf.GGMLQuantizationType[name]


def test_the_shape_is_that_of_the_checkpoint_it_was_made_from(file: Path, checkpoints: dict[str, Path]) -> None:
    assert shape_of_gguf(read_gguf_header(file)) == shape_of_folder(checkpoints["llama"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_named_as_damaged(cut: float, file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    # Cutting inside the padding behind the last tensor loses nothing, hence 32 bytes off at least.
    short = tmp_path / "short.gguf"
    short.write_bytes(data[: int(cut * (len(data) - 32))])
    with pytest.raises(BaseModelError, match=r"short\.gguf"):
        read_gguf_header(short)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 4000), value=st.integers(0, 255))
def test_a_changed_byte_gives_a_header_or_a_clear_error(at: int, value: int, file: Path, tmp_path: Path) -> None:
    data = bytearray(file.read_bytes())
    data[at] = value
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(data)
    try:
        header = read_gguf_header(damaged)
    except BaseModelError as error:
        assert "damaged.gguf" in str(error)
    else:
        assert header.tensors


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tail=st.binary(max_size=200))
def test_any_bytes_behind_the_magic_give_a_clear_error(tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / "noise.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<I", 3) + tail)
    with pytest.raises(BaseModelError, match=r"noise\.gguf"):
        read_gguf_header(path)


def test_another_file_and_another_version_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(BaseModelError, match="not a GGUF file"):
        read_gguf_header(path)
    path.write_bytes(b"GGUF" + struct.pack("<I", 1))
    with pytest.raises(BaseModelError, match="version 1"):
        read_gguf_header(path)


def test_lists_that_go_ever_deeper_give_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "deep.gguf"
    deeper = struct.pack("<IQ", 9, 1) * 100_000
    path.write_bytes(
        b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<I", 9) + deeper
    )
    with pytest.raises(BaseModelError, match=r"deep\.gguf"):
        read_gguf_header(path)
