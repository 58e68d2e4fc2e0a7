"""One table of splits serves reading and writing."""

import pytest

from werkmeister.bases.splits import SPLITS, name_of


@pytest.mark.parametrize("name", SPLITS)
def test_the_name_that_export_writes_means_the_split_that_was_read(name: str) -> None:
    written = name_of(SPLITS[name])
    assert written is not None and SPLITS[written] == SPLITS[name]


def test_the_canonical_names_come_back_as_themselves_and_an_unknown_split_has_none() -> None:
    for name in ("gpt-2", "smollm", "llama-bpe", "qwen2", "gpt-4o"):
        assert name_of(SPLITS[name]) == name
    assert name_of((True, r"\s+")) is None
