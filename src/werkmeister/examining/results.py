"""From sittings to the result of an exam: one row for each answerer, part and mark, and the verdict in words."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any

from werkmeister.chat import Example
from werkmeister.examining import statistics
from werkmeister.examining.marks import Marking
from werkmeister.examining.sitting import Answered, Sitting
from werkmeister.examining.statistics import Difference, Estimate

ALL_PARTS = "all"
ONLY_PART = "exam"
RIVALS = ("base", "base few-shot", "baseline")
"""Answerers that nothing was trained for: fine-tuning pays where the expert beats each of them that sat the exam."""

Row = dict[str, Any]
_PAYS = "Fine-tuning pays"
_UNPROVEN = "A gain was seen and is not proven (ask more questions: exam.limit, exam.base_limit)"
_PAYS_NOT = "Fine-tuning does not pay"


def choose_examples(examples: Sequence[Example], limit: int, seed: int) -> list[Example]:
    """At most `limit` examples of each part (0: all), drawn with a seed.

    The draw is nested: with a smaller limit the same examples come first, so any two answerers share the smaller set.
    """
    parts: dict[str, list[Example]] = {}
    for example in {e.id: e for e in examples}.values():
        parts.setdefault(part_of(example), []).append(example)
    chosen = []
    for part, members in parts.items():
        # Sorted first, so that the draw depends on the examples alone and not on their order in the file.
        members.sort(key=lambda e: e.id)
        random.Random(f"{seed}/{part}").shuffle(members)
        chosen += members[:limit] if limit else members
    return chosen


def part_of(example: Example) -> str:
    """The part of the exam that an example belongs to."""
    return example.part or ONLY_PART


def rows_of(sittings: Sequence[Sitting], marking: Marking, *, reference: str, margin: float, seed: int) -> list[Row]:
    """The rows of an exam: each answerer on each part, and on "all" where there are several parts.

    `difference` is the row's score minus that of the answerer `reference` on the examples that both answered;
    `worse` says that it is below −`margin`, `proven` that its whole interval is on that side of −`margin`. For labels
    a second row with the mark `macro_f1` follows each.
    """
    parts = list(dict.fromkeys(part_of(a.example) for sitting in sittings for a in sitting.answered))
    against = next((sitting for sitting in sittings if sitting.name == reference), None)
    rows = []
    for part in [*parts, *([ALL_PARTS] if len(parts) > 1 else [])]:
        other = _of_part(against, part) if against else []
        for sitting in sittings:
            answered = _of_part(sitting, part)
            if answered:
                pairs = None if sitting.name == reference or not other else _paired(answered, other)
                rows += _rows(sitting, part, answered, pairs, marking, margin, seed)
    return rows


def verdict(rows: Sequence[Row], reference: str) -> tuple[dict[str, bool], str]:
    """On which parts fine-tuning pays, and the sentence that says so.

    It pays on a part when the reference beats every rival there: the paired interval excludes 0 and the p-value is
    below 5 % (the interval alone is too hopeful for a handful of examples). A gain that was seen and not proven is told
    apart from no gain: the first asks for more questions, the second for no fine-tuning.
    """
    parts = [part for part in dict.fromkeys(row["part"] for row in rows) if part != ALL_PARTS]
    main = {(row["part"], row["answerer"]): row for row in rows if row["mark"] != "macro_f1"}
    pays: dict[str, bool] = {}
    sentences: dict[str, list[str]] = {_PAYS: [], _UNPROVEN: [], _PAYS_NOT: []}
    for part in parts:
        expert = main.get((part, reference))
        rivals = [main[part, name] for name in RIVALS if main.get((part, name), {}).get("difference")]
        if not expert or not rivals:
            continue
        pays[part] = all(row["difference"]["high"] < 0 and row["difference"]["p"] < 0.05 for row in rivals)
        seen = all(row["difference"]["value"] < 0 for row in rivals)
        outcome = _PAYS if pays[part] else _UNPROVEN if seen else _PAYS_NOT
        sentences[outcome].append(_part_words(part, expert, rivals, pays[part]))
    if not pays:
        return {}, "Whether fine-tuning pays was not measured: it needs the adapter beside a base or the baseline."
    return pays, " ".join(f"{outcome}: {'; '.join(parts)}." for outcome, parts in sentences.items() if parts)


def percent(share: float) -> str:
    """A share as people read it: 93 %, 92.5 %."""
    return f"{share * 100:.1f}".removesuffix(".0") + " %"


def _rows(
    sitting: Sitting,
    part: str,
    answered: Sequence[Answered],
    pairs: Sequence[tuple[Answered, Answered]] | None,
    marking: Marking,
    margin: float,
    seed: int,
) -> list[Row]:
    found = statistics.estimate([a.mark.score for a in answered], seed=seed)
    difference = None
    if pairs:
        difference = statistics.paired_difference(
            [a.mark.score for a, _ in pairs], [b.mark.score for _, b in pairs], seed=seed
        )
    row = _row(sitting, part, marking.name, found, difference, margin)
    row["cut"] = sum(a.finish == "length" for a in answered)
    if marking.name == "json":
        details = [a.mark.detail for a in answered]
        row["valid_json"] = sum(d["valid"] for d in details) / len(details)
        row["right_fields"] = sum(d["fields"] for d in details) / len(details)
        row["right_inside"] = sum(d.get("inside", a.mark.score) for a, d in zip(answered, details, strict=True))
        row["right_inside"] /= len(details)
    if marking.name != "label":
        return [row]
    found = statistics.macro_f1_estimate(*_classes(answered), seed=seed)
    difference = None
    if pairs:
        true, named = _classes([a for a, _ in pairs])
        difference = statistics.macro_f1_difference(true, named, _classes([b for _, b in pairs])[1], seed=seed)
    return [row, _row(sitting, part, "macro_f1", found, difference, margin) | {"cut": row["cut"]}]


def _row(sitting: Sitting, part: str, mark: str, found: Estimate, difference: Difference | None, margin: float) -> Row:
    return {
        "answerer": sitting.name,
        "part": part,
        "mark": mark,
        "score": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "interval": found.method,
        "bytes": sitting.bytes,
        "tokens_per_second": sitting.tokens_per_second,
        "first_token_seconds": sitting.first_token_seconds,
        "load_seconds": sitting.load_seconds,
        "peak_memory": sitting.peak_memory,
        "about": sitting.about,
        "difference": dataclasses.asdict(difference) if difference else None,
        "worse": difference.worse_than(margin) if difference else None,
        "proven": difference.proven(margin) if difference else None,
    }


def _of_part(sitting: Sitting, part: str) -> list[Answered]:
    return [a for a in sitting.answered if part in (ALL_PARTS, part_of(a.example))]


def _paired(a: Sequence[Answered], b: Sequence[Answered]) -> list[tuple[Answered, Answered]]:
    others = {answered.example.id: answered for answered in b}
    return [(one, others[one.example.id]) for one in a if one.example.id in others]


def _classes(answered: Sequence[Answered]) -> tuple[list[str], list[str]]:
    details: list[Mapping[str, Any]] = [a.mark.detail for a in answered]
    return [d["class"] for d in details], [d["named"] for d in details]


def _part_words(part: str, expert: Row, rivals: Sequence[Row], pays: bool) -> str:
    on = "" if part == ONLY_PART else f" on {part}"
    by_name = {row["answerer"]: row for row in rivals}
    if pays:
        start = next((by_name[name] for name in ("base", "base few-shot") if name in by_name), None)
        told = (
            f"{percent(start['score'])} → {percent(expert['score'])}{on}"
            if start
            else f"{percent(expert['score'])}{on}"
        )
        others = [f"{row['answerer']} {percent(row['score'])}" for row in rivals if row is not start]
        return told + (f" ({', '.join(others)})" if others else "")
    best = max(rivals, key=lambda row: row["difference"]["high"])
    gap = best["difference"]
    value, low, high = (_points(-gap[key]) for key in ("value", "high", "low"))
    return (
        f"{_rival(best)} reaches {percent(best['score'])}{on} and the expert {percent(expert['score'])}; the paired "
        f"difference of {value} points ({low} to {high}, n = {gap['n']}, "
        f"p = {gap['p']:.2g}) " + ("is a loss" if gap["low"] > 0 else "is no proof of a gain")
    )


def _points(share: float) -> str:
    """A difference of shares in points, with its sign: +3.5, −2.0, 0.0."""
    told = f"{share * 100:+.1f}".replace("-", "−")
    return "0.0" if told[1:] == "0.0" else told


def _rival(row: Row) -> str:
    if row["answerer"] == "baseline":
        return f"the plain baseline ({row['about']})" if row["about"] else "the plain baseline"
    return "the untrained base" if row["answerer"] == "base" else "the base with examples in its prompt"
