"""Damaged documents of every format: no crash, no hang, and every file ends as a Document or as an Unread."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpus.documents.samples import SAMPLES
from werkmeister.corpus.documents.document import Document, Unread
from werkmeister.corpus.documents.kinds import UnreadableError
from werkmeister.corpus.documents.passages import cut
from werkmeister.corpus.documents.reading import Reader, read_bytes

SECONDS = 20.0


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader(seconds=SECONDS) as shared:
        yield shared


def truncated(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.randint(1, 20)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut_out(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    return content[:start] + content[start + chance.randint(1, 200) :]


def filled_in(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    return content[:start] + chance.randbytes(chance.randint(1, 300)) + content[start:]


def zeroed(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    length = chance.randint(1, 100)
    return content[:start] + bytes(length) + content[start + length :]


def repeated(content: bytes, chance: random.Random) -> bytes:
    start, end = chance.randrange(len(content)), chance.randrange(len(content))
    return content[:start] + content[end : end + 500] * chance.randint(1, 30) + content[start:]


DAMAGES = (truncated, flipped, cut_out, filled_in, zeroed, repeated)


def damage_and_read(reader: Reader, folder: Path, ending: str, seed: int, times: int) -> list[Document | Unread]:
    """Read `times` damaged files, and a sound one after them; whatever came of each."""
    chance = random.Random(f"{ending} {seed}")
    sound = SAMPLES[ending]()
    results = []
    for number in range(times):
        path = folder / f"damaged-{number}.{ending}"
        path.write_bytes(DAMAGES[number % len(DAMAGES)](sound, chance))
        results.append(reader.read(path, path.name))
        path.unlink()
    path = folder / f"sound.{ending}"
    path.write_bytes(sound)
    assert isinstance(reader.read(path, path.name), Document)
    return results


def check(result: Document | Unread) -> None:
    """A document has blocks within its text and passages that cover it; an Unread has a reason."""
    if isinstance(result, Unread):
        assert result.reason and "took longer" not in result.reason
        return
    assert result.text.strip()
    assert result.text.encode("utf-8")
    assert all(0 <= block.start < block.end <= len(result.text) for block in result.blocks)
    passages = cut(result, lambda texts: [len(text.split()) + len(text) // 8 + 1 for text in texts], budget=64)
    if any(block.kind != "heading" for block in result.blocks):
        assert passages


@pytest.mark.parametrize("ending", SAMPLES)
def test_a_damaged_file_ends_as_a_document_or_with_a_reason(ending, reader, tmp_path):
    for result in damage_and_read(reader, tmp_path, ending, seed=0, times=24):
        check(result)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
@pytest.mark.parametrize("ending", SAMPLES)
def test_a_damaged_file_ends_as_a_document_or_with_a_reason_in_many_more_trials(ending, seed, reader, tmp_path):
    for result in damage_and_read(reader, tmp_path, ending, seed=seed, times=120):
        check(result)


@pytest.mark.parametrize("content", sorted(SAMPLES))
@pytest.mark.parametrize("ending", ["pdf", "docx", "html", "txt", "eml", "rst", "adoc", "md"])
def test_any_content_under_any_ending_ends_as_a_document_or_with_a_reason(content, ending, reader, tmp_path):
    path = tmp_path / f"file.{ending}"
    path.write_bytes(SAMPLES[content]())
    check(reader.read(path, path.name))


NESTED = {
    "deep.html": b"<div>" * 50_000 + b"words in the middle" + b"</div>" * 50_000,
    "tables.html": b"<table><tr><td>" * 2_000 + b"words in the middle",
    "quotes.md": b"> " * 20_000 + b"words in the middle",
    "lists.md": b"".join(b" " * n + b"- words in the middle\n" for n in range(1_000)),
    "brackets.md": b"[" * 50_000 + b"words in the middle" + b"](" * 50_000,
    "stars.md": b"*a " * 50_000 + b"words in the middle",
    "anchors.adoc": b"[[[[<<" * 20_000 + b"words in the middle",
    "links.rst": b"`a " * 50_000 + b"words in the middle",
    "long.txt": b"words in the middle" + b"a" * 2_000_000,
    "leaders.txt": (b". " * 50 + b"12\n") * 10_000 + b"words in the middle",
    "notes.rst": b"".join(b"   " * n + b".. note::\n\n" for n in range(400)) + b"   " * 401 + b"words in the middle",
}


@pytest.mark.parametrize("name", NESTED)
def test_what_is_nested_or_repeated_without_end_is_read_in_time_or_given_up_with_a_reason(name, reader, tmp_path):
    path = tmp_path / name
    path.write_bytes(NESTED[name])
    result = reader.read(path, name)
    check(result)
    assert isinstance(result, Unread) or "words in the middle" in result.text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(alphabet=st.sampled_from("#*_`[]()<>|-=+~:.!/\\ \n\tab1äß日\r\f\0\u00ad"), max_size=400),
    st.sampled_from(["md", "txt", "adoc", "rst"]),
)
def test_texts_of_nothing_but_marks_keep_their_words(text, ending):
    # Letters stand alone here, so a mark may hide none but those of links, tags, comments and directives.
    try:
        document = read_bytes(text.encode(), f"a.{ending}")
    except UnreadableError:
        return
    check(document)
    if ending == "txt" and "#" not in text and "`" not in text:
        assert document.text.count("日") == text.count("日")
