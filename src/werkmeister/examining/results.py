"""From sittings to the result of an exam: one row for each answerer, part and mark, and the verdict in words."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any

from werkmeister.chat import Example
from werkmeister.examining import clusters, statistics
from werkmeister.examining.marks import Marking
from werkmeister.examining.sitting import Answered, Sitting
from werkmeister.examining.statistics import Difference, Estimate
from werkmeister.machine import in_words

ALL_PARTS = "all"
ONLY_PART = "exam"
BASE = "base"
RIVALS = (BASE, "base few-shot", "baseline")
"""Answerers that nothing was trained for: fine-tuning pays where the expert beats each of them that sat the exam."""

Row = dict[str, Any]
_PAYS = "Fine-tuning pays"
_UNPROVEN = "A gain was seen and is not proven (ask more questions: exam.limit, exam.base_limit)"
_PAYS_NOT = "Fine-tuning does not pay"
# How a sentence goes on after a figure, for the parts whose name says how and not where.
_PLACES = {ONLY_PART: "", "with passage": " with passage", "from memory": " from memory"}
_PLACES |= {"unanswerable": " on unanswerable questions"}


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
    a second row with the mark `macro_f1` follows each. A row of the mark `grounded` has more: see `_abstention`.
    """
    parts = list(dict.fromkeys(part_of(a.example) for sitting in sittings for a in sitting.answered))
    against, base = (
        next((sitting for sitting in sittings if sitting.name == name), None) for name in (reference, BASE)
    )
    rows = []
    for part in [*parts, *([ALL_PARTS] if len(parts) > 1 else [])]:
        other = _of_part(against, part) if against else []
        for sitting in sittings:
            answered = _of_part(sitting, part)
            if not answered:
                continue
            pairs = None if sitting.name == reference or not other else paired(answered, other)
            made = _rows(sitting, part, answered, pairs, marking, margin, seed)
            if marking.name == "grounded":
                from_base = paired(answered, _of_part(base, part)) if base and sitting is not base else []
                made[0] |= _abstention(answered, seed)
                made[0] |= {"gain": _gain(from_base, marking, seed), "apart": _apart(pairs)}
            rows += made
    return rows


def verdict(rows: Sequence[Row], reference: str) -> tuple[dict[str, bool], str]:
    """On which parts fine-tuning pays, and the sentence that says so.

    It pays on a part when the reference beats every rival there: the paired interval excludes 0 and the p-value is
    below 5 % (the interval alone is too hopeful for a handful of examples). A gain that was seen and not proven is told
    apart from no gain: the first asks for more questions, the second for no fine-tuning. Who refuses everything is
    right on every unanswerable question, so there the difference is that of the share abstained minus the share of
    answerable questions refused.
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
        whole = {row["answerer"]: main.get((ALL_PARTS, row["answerer"]), {}) for row in (expert, *rivals)}
        apart = only_abstention(expert) and all(whole[row["answerer"]].get("apart") for row in rivals)
        gaps = {row["answerer"]: whole[row["answerer"]]["apart"] if apart else row["difference"] for row in rivals}
        pays[part] = all(gap["high"] < 0 and gap["p"] < 0.05 for gap in gaps.values())
        seen = all(gap["value"] < 0 for gap in gaps.values())
        outcome = _PAYS if pays[part] else _UNPROVEN if seen else _PAYS_NOT
        best = max(rivals, key=lambda row: gaps[row["answerer"]]["high"])
        sentences[outcome].append(
            _apart_words(
                whole[reference], [whole[row["answerer"]] for row in rivals], gaps[best["answerer"]], pays[part]
            )
            if apart
            else _part_words(part, expert, rivals, best, pays[part])
        )
    if not pays:
        return {}, "Whether fine-tuning pays was not measured: it needs the adapter beside a base or the baseline."
    told = [f"{outcome}: {'; '.join(parts)}." for outcome, parts in sentences.items() if parts]
    return pays, " ".join(told)


def only_abstention(row: Mapping[str, Any]) -> bool:
    """Whether a row holds unanswerable questions alone, so that its score is the share of abstentions."""
    return bool(row.get("abstained") and not row["refused"])


def on_part(part: str) -> str:
    """How a sentence goes on after a figure: " on new wordings", " with passage", nothing for an exam of one part."""
    return _PLACES.get(part, f" on {part}")


def interval(share: Mapping[str, Any]) -> str:
    """A share with its interval: 92.5 % (88.1–95.3)."""
    low, high = (percent(share[end]).removesuffix(" %") for end in ("low", "high"))
    return f"{percent(share['value'])} ({low}–{high})"


def span(difference: Mapping[str, Any]) -> str:
    """A difference of shares in points with its interval: −2.0 (−3.1 to −0.8)."""
    value, low, high = (points(difference[key]) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def cost(row: Mapping[str, Any], key: str, missing: str) -> str:
    """What an answerer took of something, as people read it; `missing` where it was not measured."""
    value = row[key]
    if value is None:
        return missing
    if key in ("bytes", "peak_memory"):
        return in_words(value)
    if key == "load_seconds":
        return f"{value:.1f} s"
    if key == "first_token_seconds":
        return f"{value * 1000:.0f} ms"
    return f"{value:.2g}" if key == "joules" and value < 10 else f"{value:.0f}"


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
    found = estimate_of(answered, marking, seed)
    difference = gap(pairs, marking, seed) if pairs else None
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
        "prompt_tokens_per_second": sitting.prompt_tokens_per_second,
        "first_token_seconds": sitting.first_token_seconds,
        "load_seconds": sitting.load_seconds,
        "peak_memory": sitting.peak_memory,
        "about": sitting.about,
        "difference": dataclasses.asdict(difference) if difference else None,
        "worse": difference.worse_than(margin) if difference else None,
        "proven": difference.proven(margin) if difference else None,
    }


def _abstention(answered: Sequence[Answered], seed: int) -> Row:
    """What a row of grounded answers says beside the score: the shares of unanswerable questions on which the answerer
    `abstained` and of answerable ones that it `refused`, each an Estimate as JSON (None where there are none of the
    kind), and the number of `groups`. Beside it stand `gain`, the paired difference to the base's score on the same
    questions, and `apart`, the difference to the reference in abstained minus refused, where both kinds were asked."""
    shares: Row = {}
    for name, answerable in (("abstained", False), ("refused", True)):
        own = [a for a in answered if a.mark.detail["answerable"] is answerable]
        found = _estimate([float(a.mark.detail["refused"]) for a in own], own, True, seed) if own else None
        shares[name] = dataclasses.asdict(found) if found else None
    return shares | {"groups": len({*_groups(answered)})}


def _apart(pairs: Sequence[tuple[Answered, Answered]] | None) -> Row | None:
    """How much better the first tells unanswerable from answerable questions: abstained − refused, of both."""
    kinds = [not one.mark.detail["answerable"] for one, _ in pairs or ()]
    if not pairs or len({*kinds}) < 2:
        return None
    a, b = ([float(answered.mark.detail["refused"]) for answered in side] for side in zip(*pairs, strict=True))
    return dataclasses.asdict(clusters.contrast_difference(a, b, kinds, _groups([one for one, _ in pairs])))


def _gain(pairs: Sequence[tuple[Answered, Answered]], marking: Marking, seed: int) -> Row | None:
    return dataclasses.asdict(gap(pairs, marking, seed)) if pairs else None


def estimate_of(answered: Sequence[Answered], marking: Marking, seed: int) -> Estimate:
    """The mean score of these answers with its interval."""
    return _estimate([a.mark.score for a in answered], answered, marking.clustered, seed)


def _estimate(scores: Sequence[float], answered: Sequence[Answered], clustered: bool, seed: int) -> Estimate:
    if clustered:
        return clusters.estimate(scores, _groups(answered), seed=seed)
    return statistics.estimate(scores, seed=seed)


def gap(pairs: Sequence[tuple[Answered, Answered]], marking: Marking, seed: int) -> Difference:
    """The first's score minus the second's."""
    a, b = [one.mark.score for one, _ in pairs], [other.mark.score for _, other in pairs]
    if marking.clustered:
        return clusters.paired_difference(a, b, _groups([one for one, _ in pairs]), seed=seed)
    return statistics.paired_difference(a, b, seed=seed)


def _groups(answered: Sequence[Answered]) -> list[str]:
    return [a.example.group or a.example.id for a in answered]


def _of_part(sitting: Sitting, part: str) -> list[Answered]:
    return [a for a in sitting.answered if part in (ALL_PARTS, part_of(a.example))]


def paired(a: Sequence[Answered], b: Sequence[Answered]) -> list[tuple[Answered, Answered]]:
    """The answers of both to each question that both were asked."""
    others = {answered.example.id: answered for answered in b}
    return [(one, others[one.example.id]) for one in a if one.example.id in others]


def _classes(answered: Sequence[Answered]) -> tuple[list[str], list[str]]:
    details: list[Mapping[str, Any]] = [a.mark.detail for a in answered]
    return [d["class"] for d in details], [d["named"] for d in details]


def _part_words(part: str, expert: Row, rivals: Sequence[Row], best: Row, pays: bool) -> str:
    on = on_part(part)
    by_name = {row["answerer"]: row for row in rivals}
    if pays:
        start = next((by_name[name] for name in (BASE, "base few-shot") if name in by_name), None)
        told = (
            f"{percent(start['score'])} → {percent(expert['score'])}{on}"
            if start
            else f"{percent(expert['score'])}{on}"
        )
        others = [f"{row['answerer']} {percent(row['score'])}" for row in rivals if row is not start]
        return told + (f" ({', '.join(others)})" if others else "")
    return (
        f"{_rival(best)} reaches {percent(best['score'])}{on} and the expert {percent(expert['score'])}; the paired "
        f"difference of {_gap_words(best['difference'])}"
    )


def _apart_words(expert: Row, rivals: Sequence[Row], gap: Mapping[str, Any], pays: bool) -> str:
    others = [
        f"{row['answerer']} {percent(row['abstained']['value'])} and {percent(row['refused']['value'])}"
        for row in rivals
    ]
    told = (
        f"the expert abstains on {interval(expert['abstained'])} of the unanswerable questions and refuses "
        f"{interval(expert['refused'])} of the answerable ones ({', '.join(others)})"
    )
    return told if pays else f"{told}; the paired difference, abstained minus refused, of {_gap_words(gap)}"


def _gap_words(gap: Mapping[str, Any]) -> str:
    value, low, high = (points(-gap[key]) for key in ("value", "high", "low"))
    outcome = "is a loss" if gap["low"] > 0 else "is no proof of a gain"
    return f"{value} points ({low} to {high}, n = {gap['n']}, p = {gap['p']:.2g}) {outcome}"


def points(share: float) -> str:
    """A difference of shares in points, with its sign: +3.5, −2.0, 0.0."""
    told = f"{share * 100:+.1f}".replace("-", "−")
    return "0.0" if told[1:] == "0.0" else told


def _rival(row: Row) -> str:
    if row["answerer"] == "baseline":
        return f"the plain baseline ({row['about']})" if row["about"] else "the plain baseline"
    return "the untrained base" if row["answerer"] == "base" else "the base with examples in its prompt"
