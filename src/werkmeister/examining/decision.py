"""Which file to serve: the smallest whose score is not worse than the best one's by more than the margin, proven.

"Proven" is one side of the paired interval: where the whole 95 % interval of (file − best) lies above −margin, a loss
beyond the margin has at most 2.5 % (non-inferiority). Each file is compared on its own; no allowance is made for there
being several. A loss that was merely not seen does not count: it takes questions to rule one out, and too few of them
leave the best file itself, which is told.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from werkmeister.artefact import Artefact
from werkmeister.drawing import Point, point_chart
from werkmeister.examining.marks import Marking
from werkmeister.examining.results import cost, estimate_of, gap, interval, paired, percent, points, span
from werkmeister.examining.sitting import Sitting
from werkmeister.machine import in_words

NOT_MEASURED = "not measured"
_COSTS = ("bytes", "peak_memory", "load_seconds", "prompt_tokens_per_second", "tokens_per_second", "joules")
_COLUMNS = (
    *("file", "score", "points to the best", "KL (nats)", "top-1 agreement"),
    *("size", "peak memory", "load", "prompt tokens/s", "tokens/s", "joules an answer"),
)


def decide(
    sittings: Sequence[Sitting], marking: Marking, exported: Artefact, margin: float, seed: int
) -> dict[str, Any] | None:
    """The decision on the files of an export that sat the exam, as it stands in exam.json; None when none of them did.

    `rows` go from the largest to the smallest file, the overlay among them: it is compared, and cannot be chosen, since
    it is no file of its own. `difference` is to the file `best`, on the questions of all parts. KL divergence and
    agreement are those that the export's gate measured against the trained model, on `positions` of exam answers.
    """
    files, overlay = exported.facts["files"], exported.facts.get("overlay")
    own = [sitting for sitting in sittings if sitting.name in files]
    if not own:
        return None
    asked = [*own, *(sitting for sitting in sittings if overlay and sitting.name == overlay["name"])]
    asked.sort(key=lambda sitting: -(sitting.bytes or 0))
    scores = {sitting.name: estimate_of(sitting.answered, marking, seed) for sitting in asked}
    best = max(own, key=lambda sitting: (scores[sitting.name].value, sitting.bytes or 0))
    rows = []
    for sitting in asked:
        pairs = paired(sitting.answered, best.answered)
        difference = gap(pairs, marking, seed) if sitting is not best and pairs else None
        holds = sitting is best or bool(difference and not difference.worse_than(margin) and difference.proven(margin))
        parity = exported.measures.get("parity", {}).get(sitting.name, {})
        rows.append(
            {"file": sitting.name, **_score(scores[sitting.name])}
            | {"difference": dataclasses.asdict(difference) if difference else None, "not_worse": holds}
            | {"eligible": sitting.name in files}
            | {key: parity.get(key) for key in ("kl", "kl_error", "agree", "positions")}
            | {key: getattr(sitting, key) for key in _COSTS}
        )
    chosen = next(row for row in reversed(rows) if row["not_worse"] and row["eligible"])
    found = {"file": chosen["file"], "best": best.name, "margin": margin, "rows": rows}
    return found | {"why": _why(found, chosen)}


def decision_table(decision: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Headings, and one row a file, the chosen one marked."""
    lines = []
    for row in decision["rows"]:
        kl = "–" if row["kl"] is None else f"{row['kl']:.1e} ± {row['kl_error']:.0e}"
        agree = "–" if row["agree"] is None else f"{percent(row['agree'])} of {row['positions']}"
        told = (_marked(row, decision), interval({**row, "value": row["score"]}), _gap_words(row, decision["best"]), kl)
        lines.append((*told, agree, *(cost(row, key, NOT_MEASURED) for key in _COSTS)))
    return _COLUMNS, tuple(lines)


def decision_picture(decision: Mapping[str, Any], words: str) -> str:
    """Size against score, the file that answers marked, as SVG; `words` name the score."""
    drawn = [
        Point(
            label=_marked(row, decision),
            x=row["bytes"] / 1e6,
            y=row["score"],
            low=row["low"],
            high=row["high"],
            group="",
        )
        for row in decision["rows"]
        if row["bytes"] is not None
    ]
    return point_chart(drawn, title="Size against score", x_label="size in MB", y_label=words, percent=True)


def _marked(row: Mapping[str, Any], decision: Mapping[str, Any]) -> str:
    return f"{row['file']} ✓" if row["file"] == decision["file"] else str(row["file"])


def _score(found: Any) -> dict[str, Any]:
    return {"score": found.value, "low": found.low, "high": found.high, "n": found.n}


def _gap_words(row: Mapping[str, Any], best: str) -> str:
    if row["difference"] is None:
        return "the best" if row["file"] == best else "–"
    return span(row["difference"])


def _why(found: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    """The sentence that says why this file, and what kept the smaller ones from it."""
    margin = f"{found['margin'] * 100:g} points"
    size = "" if chosen["bytes"] is None else f" ({in_words(chosen['bytes'])})"
    if len([row for row in found["rows"] if row["eligible"]]) == 1:
        return f"{chosen['file']}{size} is the only file that sat the exam"
    score = f"{chosen['file']}{size} scores {percent(chosen['score'])}"
    told = [
        f"{score}, the best of the files"
        if chosen["file"] == found["best"]
        else f"{score}, {points(chosen['difference']['value'])} points to {found['best']}, the best, and proven not to "
        f"be worse by more than {margin} (n = {chosen['n']})"
    ]
    below = found["rows"][found["rows"].index(chosen) + 1 :]
    for row in reversed([row for row in below if row["eligible"]]):
        gone = row["difference"]
        by = f"{points(gone['value'])} points, {points(gone['low'])} to {points(gone['high'])}"
        told.append(
            f"{row['file']} is worse ({by})"
            if gone["high"] < 0 and gone["value"] < -found["margin"]
            else f"{row['file']} may be worse by more than {margin} ({by}): more questions would tell (exam.limit)"
        )
    return "; ".join(told)
