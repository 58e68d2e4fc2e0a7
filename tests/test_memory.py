"""What is remembered comes back as it was put, or not at all."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from werkmeister.memory import Memory

_JSON = st.recursive(
    st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(value=_JSON)
def test_every_json_value_comes_back(tmp_path_factory, value) -> None:
    home = tmp_path_factory.mktemp("home")
    Memory(home, "toy").put(["key", 1], value)
    assert Memory(home, "toy").get(["key", 1]) == value
    assert Memory(home, "toy").get(["key", 2]) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b" ",
        lambda data: b"[]",
        lambda data: data.replace(b"seven", b"eight"),
        lambda data: json.dumps({"text": 7}).encode(),
    ],
)
def test_a_file_of_another_shape_is_not_remembered_and_is_made_again(tmp_path: Path, damage) -> None:
    Memory(tmp_path, "toy").put("key", {"text": "seven"})
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    file.write_bytes(damage(file.read_bytes()))
    memory = Memory(tmp_path, "toy")
    assert memory.get("key") is None
    memory.put("key", {"text": "seven"})
    assert memory.get("key") == {"text": "seven"}


def test_what_was_not_used_is_forgotten(tmp_path: Path) -> None:
    first = Memory(tmp_path, "toy")
    for key in "abc":
        first.put(key, key)
    second = Memory(tmp_path, "toy")
    second.get("a")
    second.put("b", "b")
    assert second.forget_others() == 1
    assert [second.get(key) for key in "abc"] == ["a", "b", None]
