import random

from hypothesis import given, settings
from hypothesis import strategies as st

from werkmeister.corpus.documents.document import Document
from werkmeister.corpus.duplicates import jaccard
from werkmeister.corpus.writing.families import ALIKE, FEWEST, Families, find_families, shingles
from werkmeister.passage import Passage
from werkmeister.progress import Silent

VOCABULARY = [f"word{number}" for number in range(400)]


def text_of(seed: int, words: int = 120) -> str:
    return " ".join(random.Random(seed).choices(VOCABULARY, k=words))


def variant(text: str, seed: int, changed: int) -> str:
    words = text.split()
    for at in random.Random(seed).sample(range(len(words)), changed):
        words[at] = f"other{seed}"
    return " ".join(words)


def document(name: str, text: str, *headings: tuple[str, ...]) -> tuple[Document, list[Passage]]:
    made = Document(name=name, sha256=name, format="text", title=name, text=text, blocks=())
    passages = [
        Passage(id=f"{name} {at}", document=name, title=name, headings=path, text=text, start=0, end=len(text))
        for at, path in enumerate(headings or ((),))
    ]
    return made, passages


def families(*texts: str) -> Families:
    return find_families([document(f"d{at:02}", text) for at, text in enumerate(texts)], Silent())


def jaccard_by_words(left: str, right: str) -> float:
    """By definition, on tuples of words: independent of the hashes of the code under test."""
    sets = [{tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in (left.split(), right.split())]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_variants_of_one_text_are_a_family_named_by_the_first():
    texts = [text_of(seed) for seed in range(12)]
    found = families(*texts, variant(texts[3], 1, 4), variant(texts[3], 2, 4))
    assert found.mode == "documents"
    assert found.heads["d12"] == found.heads["d13"] == found.heads["d03"] == "d03"
    assert len(set(found.heads.values())) == 12


def test_joining_goes_along_a_chain():
    first = text_of(1)
    second = variant(first, 2, 6)
    third = variant(second, 3, 6)
    fourth = variant(third, 4, 6)
    assert jaccard_by_words(first, fourth) < ALIKE <= jaccard_by_words(third, fourth)
    assert set(families(first, second, third, fourth).heads.values()) == {"d00"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=2, max_size=8))
def test_two_documents_as_alike_as_the_threshold_never_part(rows):
    texts = [variant(text_of(seed), at, changed) for at, (seed, changed) in enumerate(rows)]
    heads = families(*texts).heads
    for left in range(len(texts)):
        for right in range(left):
            if jaccard_by_words(texts[left], texts[right]) >= ALIKE:
                assert heads[f"d{left:02}"] == heads[f"d{right:02}"]


@given(st.text(max_size=80), st.text(max_size=80))
def test_likeness_is_symmetric_and_one_only_for_texts_of_the_same_words(left, right):
    one, other = shingles(left), shingles(right)
    assert jaccard(one, other) == jaccard(other, one)
    assert jaccard(one, one) == 1.0


def test_documents_without_words_are_no_family():
    assert len(set(families("", "…", "").heads.values())) == 3


def test_with_few_documents_sections_are_the_groups_as_deep_as_needed():
    paths = [(f"Part {n // 12}", f"Chapter {n // 2}", f"Section {n}") for n in range(48)]
    found = find_families([document("manual", text_of(1), *paths)], Silent())
    assert (found.mode, found.depth) == ("sections", 2)
    passage = document("manual", "x", paths[5])[1][0]
    assert found.group(passage) == "manual › Part 0 › Chapter 2"


def test_sections_of_variants_share_their_group():
    text = text_of(1)
    paths = [(f"Chapter {n}",) for n in range(30)]
    both = [document("a", text, *paths), document("b", variant(text, 1, 3), *paths)]
    found = find_families(both, Silent())
    assert found.group(both[0][1][4]) == found.group(both[1][1][4]) == "a › Chapter 4"


def test_a_text_without_headings_has_its_passages_for_groups():
    found = find_families([document("note", text_of(1), *[()] * 30)], Silent())
    assert found.mode == "passages"
    assert found.group(document("note", "x")[1][0]) == "note › note 0"


def test_documents_that_are_distinct_and_enough_are_groups_of_their_own():
    found = families(*[text_of(seed) for seed in range(FEWEST)])
    assert found.mode == "documents"
    assert all(name == head for name, head in found.heads.items())
    empty = families(*[""] * FEWEST)
    assert len(set(empty.heads.values())) == FEWEST
