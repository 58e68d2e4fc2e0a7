"""Written pairs on their way into a dataset: a person's decisions applied, contamination taken out, passages put in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.artefact import read_manifest
from werkmeister.chat import Example

if TYPE_CHECKING:
    from werkmeister.corpus.decisions import Applied, Decision
    from werkmeister.corpus.duplicates import Dropped
    from werkmeister.corpus.shapes import Given
    from werkmeister.corpus.writing.books import Asked, Books
    from werkmeister.corpus.written import Written

Estimate = Callable[[int, int, float, int], float]
"""Seconds that training takes, from the tokens of train, the longest example, the learnt share of the text, and the
number of examples in train."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What the stage write made, with a person's decisions applied; `bare` are its examples as questions alone.

    `languages` gives the language of each question by `books.asked_of` its bare example, `careful` the form that
    stands on its own; `notes` is what a person should know.
    """

    written: Written
    applied: Applied
    books: Books
    bare: list[Given]
    languages: Mapping[Asked, str]
    careful: Mapping[Asked, str]
    notes: Sequence[str]


def read_pairs(expert: Path, documents: Path | None, written: Path) -> Pairs:
    """Read the artefacts write and documents (None: pairs came from prompts alone), and apply decisions.jsonl."""
    from werkmeister.corpus.decisions import apply_decisions, load_decisions
    from werkmeister.corpus.writing.books import Books, asked_of, bare_examples
    from werkmeister.corpus.written import read_written

    read = read_written(documents, written)
    decisions = load_decisions(expert)
    applied = apply_decisions(read.pairs, read.dropped, decisions)
    edited = [record for record in applied.pairs if record["id"] in decisions.of and record["answerable"]]
    facts = read_manifest(written)["facts"]
    books = Books(**{key: facts[key] for key in ("open_book", "loose", "distractors", "seed")})
    bare = bare_examples(applied.pairs, read.passages, books)
    languages = {asked_of(one.example): own["language"] for one, own in zip(bare, applied.pairs, strict=True)}
    careful = {asked_of(one.example): own["question"] for one, own in zip(bare, applied.pairs, strict=True)}
    notes = [*applied.notes, *_doubts(edited, decisions.of, read)]
    return Pairs(
        written=read, applied=applied, books=books, bare=bare, languages=languages, careful=careful, notes=notes
    )


def _doubts(records: Sequence[Mapping[str, Any]], of: Mapping[str, Decision], written: Written) -> Iterator[str]:
    """What a person's own answers say that their passages do not: told, and kept all the same."""
    from werkmeister.corpus.decisions import EDIT
    from werkmeister.corpus.writing.figures import missing_figures

    for record in records:
        passage = written.passages.get(record["passage"])
        if of[record["id"]].verdict == EDIT and passage:
            missing = missing_figures(record["answer"], f"{passage.shown}\n{record['question']}")
            if missing:
                yield (
                    f"your answer to {record['question']!r} is kept, though its passage does not say "
                    f"{', '.join(missing)}: {passage.place}"
                )


def settle_splits(kept: Sequence[Given], pairs: Pairs) -> tuple[list[Given], list[Given]]:
    """What has a split, and what is still to be cut.

    An example that a person gave a split keeps it. Where its group names a document, or a family of documents, their
    pairs follow it: questions of one's own about a machine would be no exam if its manual were learnt from.
    """
    homes: dict[str, str] = {}
    for one in kept:
        if one.split and one.example.group:
            homes.setdefault(one.example.group, one.split)
    for record in pairs.applied.pairs:
        if record["document"] in homes:
            homes.setdefault(record["group"], homes[record["document"]])
    fixed, rest = [], []
    for one in kept:
        split = one.split or homes.get(one.example.group, "")
        if split:
            fixed.append(replace(one, split=split))
        else:
            rest.append(one)
    return fixed, rest


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
    return dress(clean, passages, pairs.books, pairs.languages, pairs.careful), leaks


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
        "training_seconds": estimate(sum(lengths["train"]), longest, learnt, len(train)) if estimate else None,
    }
