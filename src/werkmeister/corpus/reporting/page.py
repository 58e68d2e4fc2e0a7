"""The report as files: report.json, and report.html, one page that stands alone and stays readable with many pairs.

What a page cannot list in full is folded and cut, with the number left out; report.json holds everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from werkmeister.artefact import write_json

_LISTED_IN_PAGE = 200
_LISTED_LABELS = 100
_BARS = 14


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write report.json and report.html into a folder."""
    import jinja2

    from werkmeister.drawing import histogram

    write_json(folder / "report.json", report)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    page = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.filters |= {"number": lambda value: f"{value:,}", "minutes": _minutes}
    steps = [row["step"] for row in report["funnel"][1:]]
    dropped = {step: [d for d in report["dropped"] if d["reason"] == step] for step in steps}
    labels = sorted(report["labels"].items(), key=lambda item: (-sum(item[1].values()), item[0]))
    text = page.get_template("report.html").render(
        report=report,
        names=list(report["splits"]),
        dropped={step: first(rows) for step, rows in dropped.items() if rows},
        parts=first(list(report["parts"].items()), _LISTED_LABELS),
        labels=first(labels, _LISTED_LABELS),
        picture=histogram(
            report["lengths"], title=f"Length of the examples in tokens of {report['base']}", x_label="tokens"
        ),
        origin=_origin(report["origin"]) if report["origin"] else None,
    )
    (folder / "report.html").write_text(text, encoding="utf-8", newline="\n")


def first(rows: Sequence[Any], most: int = _LISTED_IN_PAGE) -> dict[str, Any]:
    """The first rows, how many there are, and how many are left out."""
    return {"rows": rows[:most], "total": len(rows), "more": max(0, len(rows) - most)}


def _origin(origin: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of the report's part on documents: drawings, and lists that are cut."""
    from werkmeister.drawing import Bar, bar_chart, histogram

    steps = [Bar(label=row["step"], value=row["left"], group=row["unit"]) for row in origin["funnel"]]
    kinds = list(origin["kinds"].items())
    bars = [Bar(label=kind, value=count) for kind, count in kinds[:_BARS]]
    shares = {"": [100 * row["covered"] / row["passages"] for row in origin["coverage"] if row["passages"]]}
    # What gave least is what a person must look at first.
    covered = sorted(origin["coverage"], key=lambda row: (row["covered"] / max(1, row["passages"]), row["document"]))
    pictures = {
        "funnel": bar_chart(steps, title="From passages to pairs", x_label="left after the step"),
        "kinds": bar_chart(bars, title="Pairs by kind", x_label="pairs"),
        "answers": histogram(
            {"": origin["answer_words"]}, title="Length of the answers", x_label="words", y_label="pairs"
        ),
    }
    if len(origin["coverage"]) > 1:
        pictures["coverage"] = histogram(
            shares,
            title="How much of each document gave pairs",
            x_label="passages with a pair, per cent of the document's",
            y_label="documents",
            bins=20,
        )
    return {
        "all": origin,
        "pictures": pictures,
        "coverage": first(covered, 400),
        "nothing": first([row for row in covered if not row["covered"]]),
        "silent": first(_by_reason(origin["silent"])),
        "unread": first(origin["unread"]),
        "flagged": first(origin["flagged"], 100),
        "teacher": _told(origin.get("teacher", {})),
        "judge": _told(origin.get("judge", {})),
        "waiting": first(origin["decisions"]["waiting"], 100),
        "documents": len(origin["coverage"]),
        "passages": sum(row["passages"] for row in origin["coverage"]),
        "covered": sum(row["covered"] for row in origin["coverage"]),
    }


def _by_reason(silent: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Passages that gave nothing, the largest of each reason first: most is lost there."""
    return sorted(silent, key=lambda one: (one["reason"].partition(" (")[0], -one["tokens"], one["place"]))


def _told(record: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """A record of figures as rows of word and value; what was not measured says so."""
    rows = []
    for name, value in record.items():
        if name.endswith("_note"):  # says why a figure is missing, and stands in its place
            continue
        word = f"{before}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            rows += _told(value, f"{word}: ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            rows.append((word, f"{value:,}"))
        else:
            rows.append((word, str(record.get(f"{name}_note", "not measured") if value is None else value)))
    return rows


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
