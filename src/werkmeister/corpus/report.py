"""The report on a dataset: what was read, what was dropped and why, what stands in each split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from werkmeister.artefact import write_json
from werkmeister.bases.base import Base
from werkmeister.chat import Example
from werkmeister.corpus.duplicates import CONFLICT, EXACT, LEAKAGE, LONG, NEAR, Dropped
from werkmeister.corpus.reading import Source

STEPS = (EXACT, CONFLICT, NEAR, LEAKAGE, LONG)
_SAMPLES = 3
_LISTED_IN_PAGE = 200
_LISTED_LABELS = 100


def make_report(
    *,
    sources: Sequence[Source],
    dropped: Sequence[Dropped],
    splits: Mapping[str, Sequence[Example]],
    lengths: Mapping[str, Sequence[int]],
    notes: Sequence[str],
    base: Base,
    limit: int,
) -> dict[str, Any]:
    """The report as the JSON object that report.json holds; every dropped example is in it."""
    reasons = Counter(one.reason for one in dropped)
    read = sum(len(source.given) for source in sources)
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
        "parts": _by(splits, "part"),
        "labels": _by(splits, "label"),
        "tokens": {name: _lengths(counts) for name, counts in lengths.items()},
        "lengths": {name: list(counts) for name, counts in lengths.items()},
        "samples": {name: [e.record() for e in _spread(examples)] for name, examples in splits.items()},
        "notes": list(notes),
        "dropped": [_line(one) for one in dropped],
    }


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write report.json, and report.html: one page that stands alone and lists the first drops of each reason."""
    import jinja2

    from werkmeister.drawing import histogram

    write_json(folder / "report.json", report)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    page = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    listed = {step: [d for d in report["dropped"] if d["reason"] == step] for step in STEPS}
    picture = histogram(
        report["lengths"], title=f"Length of the examples in tokens of {report['base']}", x_label="tokens"
    )
    labels = sorted(report["labels"].items(), key=lambda item: (-sum(item[1].values()), item[0]))
    text = page.get_template("report.html").render(
        report=report,
        names=list(report["splits"]),
        listed={step: rows[:_LISTED_IN_PAGE] for step, rows in listed.items() if rows},
        more={step: max(0, len(rows) - _LISTED_IN_PAGE) for step, rows in listed.items()},
        labels=labels[:_LISTED_LABELS],
        more_labels=max(0, len(labels) - _LISTED_LABELS),
        picture=picture,
    )
    (folder / "report.html").write_text(text, encoding="utf-8", newline="\n")


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
