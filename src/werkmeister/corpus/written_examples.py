"""Written pairs on their way into a dataset: a person's decisions applied, contamination taken out, passages put in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.artefact import read_manifest
from werkmeister.chat import Example

if TYPE_CHECKING:
    from werkmeister.corpus.decisions import Applied
    from werkmeister.corpus.duplicates import Dropped
    from werkmeister.corpus.shapes import Given
    from werkmeister.corpus.writing.books import Books
    from werkmeister.corpus.written import Written

Estimate = Callable[[int, int, float], float]
"""Seconds that training takes, from the tokens of train, the longest example, and the learnt share of the text."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What the stage write made, with a person's decisions applied; `bare` are its examples as questions alone.

    `languages` gives the language of each question by the id of its bare example.
    """

    written: Written
    applied: Applied
    books: Books
    bare: list[Given]
    languages: Mapping[str, str]


def read_pairs(expert: Path, documents: Path | None, written: Path) -> Pairs:
    """Read the artefacts write and documents (None: pairs came from prompts alone), and apply decisions.jsonl."""
    from werkmeister.corpus.decisions import apply_decisions, load_decisions
    from werkmeister.corpus.writing.books import Books, bare_examples
    from werkmeister.corpus.written import read_written

    read = read_written(documents, written)
    applied = apply_decisions(read.pairs, read.dropped, load_decisions(expert))
    facts = read_manifest(written)["facts"]
    bare = bare_examples(applied.pairs, read.passages)
    languages = {one.example.id: record["language"] for one, record in zip(bare, applied.pairs, strict=True)}
    books = Books(**{key: facts[key] for key in ("open_book", "distractors", "seed")})
    return Pairs(written=read, applied=applied, books=books, bare=bare, languages=languages)


def dress_pairs(
    splits: Mapping[str, Sequence[Example]], pairs: Pairs, near: float
) -> tuple[dict[str, list[Example]], list[Dropped]]:
    """Splits without what gives held-out examples away, each pair with its passage or from memory; what was dropped.

    `near` is the similarity from which two questions with the same answer count as the same.
    """
    from werkmeister.corpus.writing.books import dress
    from werkmeister.corpus.writing.contamination import remove_contamination

    passages = pairs.written.passages
    clean, leaks = remove_contamination(splits, passages, near)
    return dress(clean, passages, pairs.books, pairs.languages), leaks


def tell_of_pairs(
    pairs: Pairs,
    splits: Mapping[str, Sequence[Example]],
    lengths: Mapping[str, Sequence[int]],
    near: float,
    estimate: Estimate | None,
) -> dict[str, Any]:
    """What `make_report` is told beside the rest: pairs, decisions, how long training will take, and the contamination
    that is measured in the finished examples."""
    from werkmeister.corpus.writing.contamination import measure_contamination

    train = splits["train"]
    letters = sum(sum(len(message.content) for message in e.prompt) + len(e.target) for e in train)
    learnt = sum(len(example.target) for example in train) / max(1, letters)
    longest = max((max(counts, default=0) for counts in lengths.values()), default=0)
    return {
        "written": pairs.written,
        "applied": pairs.applied,
        "contamination": measure_contamination(splits, pairs.written.passages, near),
        "training_seconds": estimate(sum(lengths["train"]), longest, learnt) if estimate else None,
    }
