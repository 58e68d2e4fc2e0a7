"""The report on a dataset: what was read, what was dropped and why, what stands in each split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from werkmeister.bases.base import Base
from werkmeister.chat import Example
from werkmeister.corpus.decisions import Applied
from werkmeister.corpus.duplicates import CONFLICT, EXACT, LEAKAGE, LONG, NEAR, Dropped
from werkmeister.corpus.reading import Source
from werkmeister.corpus.reporting.origin import advise_on, describe_origin
from werkmeister.corpus.reporting.page import write_report
from werkmeister.corpus.written import Written

__all__ = ["by_part", "make_report", "percentile", "write_report"]

STEPS = (EXACT, CONFLICT, NEAR, LEAKAGE, LONG)
_SAMPLES = 3


def make_report(
    *,
    sources: Sequence[Source],
    dropped: Sequence[Dropped],
    splits: Mapping[str, Sequence[Example]],
    lengths: Mapping[str, Sequence[int]],
    notes: Sequence[str],
    base: Base,
    limit: int,
    written: Written | None = None,
    applied: Applied | None = None,
    contamination: Sequence[Mapping[str, Any]] = (),
    training_seconds: float | None = None,
) -> dict[str, Any]:
    """The report as the JSON object that report.json holds; every dropped example is in it.

    `written` and `applied` are given when examples were made from documents or prompts: the report then tells how.
    `contamination` are measured figures between train and the held-out splits ({"what", "n", "of"}), and
    `training_seconds` an estimate where one was made.
    """
    origin = describe_origin(written, applied, contamination) if written and applied else None
    advice = advise_on(splits, base.context_length, written, applied, origin)
    reasons = Counter(one.reason for one in dropped)
    read = sum(len(examples) for examples in splits.values()) + len(dropped)
    funnel, left = [{"step": "read", "dropped": 0, "left": read}], read
    for step in STEPS:
        left -= reasons[step]
        funnel.append({"step": step, "dropped": reasons[step], "left": left})
    return {
        "base": base.name,
        "limit_tokens": limit,
        "sources": [
            {"name": s.name, "format": s.format, "shape": s.shape, "examples": len(s.given), "unused": list(s.unused)}
            for s in sources
        ],
        "funnel": funnel,
        "dropped_counts": dict(reasons),
        "splits": {name: {"examples": len(examples)} for name, examples in splits.items()},
        "parts": by_part(splits),
        "labels": _by(splits, "label"),
        "tokens": {name: _lengths(counts) for name, counts in lengths.items()},
        "lengths": {name: list(counts) for name, counts in lengths.items()},
        "samples": {name: [e.record() for e in _spread(examples)] for name, examples in splits.items()},
        "notes": list(notes),
        "advice": asdict(advice),
        "training_seconds": training_seconds,
        "origin": origin,
        "dropped": [_line(one) for one in dropped],
    }


def percentile(counts: Sequence[int], share: float) -> int:
    """The nearest-rank percentile: the smallest value that at least `share` of the values do not exceed."""
    if not counts:
        return 0
    ordered = sorted(counts)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _lengths(counts: Sequence[int]) -> dict[str, int]:
    return {
        "p50": percentile(counts, 0.5),
        "p95": percentile(counts, 0.95),
        "max": max(counts, default=0),
        "total": sum(counts),
    }


def by_part(splits: Mapping[str, Sequence[Example]]) -> dict[str, dict[str, int]]:
    """How many examples of each part stand in each split; examples without a part are left out."""
    return _by(splits, "part")


def _by(splits: Mapping[str, Sequence[Example]], field: str) -> dict[str, dict[str, int]]:
    counts = {name: Counter(getattr(example, field) for example in examples) for name, examples in splits.items()}
    values = sorted({value for counter in counts.values() for value in counter if value})
    return {value: {name: counter[value] for name, counter in counts.items()} for value in values}


def _spread(examples: Sequence[Example]) -> list[Example]:
    """A few examples from all over the split."""
    step = max(1, len(examples) // _SAMPLES)
    return list(examples[::step][:_SAMPLES])


def _line(one: Dropped) -> dict[str, Any]:
    line = {
        "source": one.example.source,
        "reason": one.reason,
        "kept": one.kept,
        "similarity": None if one.similarity is None else round(one.similarity, 3),
        "tokens": one.tokens,
        "question": one.example.question[:200],
        "target": one.example.target[:200],
        "id": one.example.id,
    }
    return {key: value for key, value in line.items() if value not in (None, "")}
