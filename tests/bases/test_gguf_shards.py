"""Shards against independent readers: the gguf package, and llama.cpp itself."""

import math

import pytest
from gguf import GGUFReader

from werkmeister.bases.gguf_header import read_gguf_header
from werkmeister.bases.gguf_shards import write_shards
from werkmeister.chat import Message
from werkmeister.engines.engine import Sampling
from werkmeister.engines.llama import LlamaEngine
from werkmeister.errors import BaseModelError
from werkmeister.progress import Silent


@pytest.fixture(scope="module")
def model(built):
    return built / "artefacts/export/model-Q8_0.gguf"


@pytest.mark.parametrize("size", [1, 20_000, 1 << 30])
def test_the_shards_hold_every_tensor_once_to_the_byte_and_the_first_the_metadata(model, tmp_path, size):
    paths = write_shards(model, tmp_path, "m", size, Silent())
    whole = GGUFReader(model)
    readers = [GGUFReader(path) for path in paths]
    assert [path.name for path in paths] == [f"m-{n:05}-of-{len(paths):05}.gguf" for n in range(1, len(paths) + 1)]
    there = [tensor for reader in readers for tensor in reader.tensors]
    assert [tensor.name for tensor in there] == [tensor.name for tensor in whole.tensors]
    for ours, theirs in zip(there, whole.tensors, strict=True):
        assert (ours.tensor_type, list(ours.shape)) == (theirs.tensor_type, list(theirs.shape))
        assert ours.data.tobytes() == theirs.data.tobytes()
    for number, reader in enumerate(readers):
        keys = {key: field.parts[-1][0] for key, field in reader.fields.items() if key.startswith("split.")}
        assert keys == {
            "split.no": number,
            "split.count": len(readers),
            "split.tensors.count": len(whole.tensors),
        }
    own = read_gguf_header(model).raw
    assert {key: raw for key, raw in read_gguf_header(paths[0]).raw.items() if key in own} == dict(own)


def test_no_shard_is_larger_than_asked_but_one_whose_only_tensor_is(model, tmp_path):
    size = 20_000
    paths = write_shards(model, tmp_path, "m", size, Silent())
    assert len(paths) > 2
    for path in paths:
        sizes = [math.ceil(tensor.n_bytes / 32) * 32 for tensor in GGUFReader(path).tensors]
        assert sum(sizes) <= size or len(sizes) == 1


def test_llama_cpp_answers_from_the_shards_as_from_the_whole(model, tmp_path):
    first, *_ = write_shards(model, tmp_path, "model", 20_000, Silent())
    asked = (Message("user", "What is the code of the red lamp?"),)
    answers = []
    for path in (model, first):
        with LlamaEngine(path, threads=1) as engine:
            (reply,) = engine.replies([asked], Sampling(max_tokens=8))
            answers.append((reply.text, [token.logprob for token in reply.tokens]))
    assert answers[0] == answers[1]


def test_a_file_that_was_cut_off_is_refused_before_anything_is_written(model, tmp_path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(BaseModelError, match="truncated"):
        write_shards(cut, tmp_path, "m", 1000, Silent())
    assert list(tmp_path.iterdir()) == [cut]
