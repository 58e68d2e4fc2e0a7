"""From passages to pairs: the funnel, what every document gave, and why a section gave nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from werkmeister.corpus.decisions import Applied, Record
from werkmeister.corpus.written import Written

NOT_ASKED = "no writer was given it: limit or budget was reached"
NOTHING_FOUND = "no writer found anything to ask"


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """What one document gave: passages, how many of them support a pair that is asked, and the pairs by what became
    of them. `empty_pages` is how many of the `pages` hold no text. `silent` counts the passages without one by
    reason."""

    document: str
    title: str
    language: str
    pages: int
    empty_pages: int
    passages: int
    covered: int
    pairs: int
    dropped: Mapping[str, int]
    silent: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Silent:
    """A passage that no pair of the dataset comes from, with its place, its size in tokens and the reason."""

    document: str
    place: str
    tokens: int
    reason: str


def funnel(written: Written, applied: Applied) -> list[dict[str, Any]]:
    """Steps from passages to the pairs that examples are made of: `unit`, `step`, `dropped` there (below 0: so many
    were added) and `left` after it.

    The checks stand in the order in which they were made, as far as the stage write tells it. Unanswerable questions
    are made from the pairs that passed them.
    """
    asked = written.report.get("asked")
    passages = len(written.passages)
    rows = [_row("passages", "cut from the documents", 0, passages)]
    if asked is not None:
        given = len(set(asked) & written.passages.keys())
        rows.append(_row("passages", "given to a writer", passages - given, given))
    fertile = len({r["passage"] for r in (*written.pairs, *written.dropped)} & written.passages.keys())
    rows.append(_row("passages", "something was written from", rows[-1]["left"] - fertile, fertile))
    reasons = Counter(record["check"] for record in written.dropped)
    added = sum(record["kind"] == "unanswerable" for record in written.pairs)
    left = len(written.pairs) + len(written.dropped) - added
    rows.append(_row("pairs", "written", 0, left))
    order = [name for name in written.report.get("checks", {}) if name in reasons]
    for name in dict.fromkeys((*order, *sorted(reasons, key=lambda name: (-reasons[name], name)))):
        left -= reasons[name]
        rows.append(_row("pairs", f"check: {name}", reasons[name], left))
    if added:
        left += added
        rows.append(_row("pairs", "unanswerable questions added", -added, left))
    removed, rescued = len(written.pairs) - _kept(written, applied), applied.counts["rescued"]
    if removed:
        left -= removed
        rows.append(_row("pairs", "dropped by you", removed, left))
    if rescued:
        left += rescued
        rows.append(_row("pairs", "rescued by you", -rescued, left))
    return rows


def coverage(written: Written, applied: Applied) -> tuple[list[Coverage], list[Silent]]:
    """What every document gave, in their order, and every passage that gave nothing.

    A passage counts as covered when an answerable pair that is asked comes from it.
    """
    asked = written.report.get("asked")
    given = set(asked) if asked is not None else written.passages.keys()
    kept = Counter(record["passage"] for record in applied.pairs if record.get("answerable", True))
    turned_down: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record in written.dropped:
        turned_down[record["passage"]][record["check"]] += 1
    for record in written.pairs:
        if record["id"] in applied.dropped_by_person:
            turned_down[record["passage"]]["you"] += 1
    pairs = Counter(record["document"] for record in applied.pairs)
    dropped: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record in written.dropped:
        dropped[record["document"]][record["check"]] += 1
    rows: defaultdict[str, list[Silent | None]] = defaultdict(list)
    for passage in written.passages.values():
        silent = None
        if not kept[passage.id]:
            reason = _reason(passage.id in given, turned_down.get(passage.id, Counter()))
            silent = Silent(document=passage.document, place=passage.place, tokens=passage.tokens, reason=reason)
        rows[passage.document].append(silent)
    found = [_coverage(d, rows[d["name"]], pairs[d["name"]], dropped[d["name"]]) for d in written.documents]
    return found, [silent for many in rows.values() for silent in many if silent]


def _coverage(document: Record, passages: Sequence[Silent | None], pairs: int, dropped: Counter[str]) -> Coverage:
    silent = Counter(_kind_of(one.reason) for one in passages if one)
    return Coverage(
        document=document["name"],
        title=document.get("title", ""),
        language=document.get("language", ""),
        pages=document.get("pages", 0),
        empty_pages=len(document.get("empty_pages", ())),
        passages=len(passages),
        covered=len(passages) - silent.total(),
        pairs=pairs,
        dropped=dict(dropped.most_common()),
        silent=dict(silent.most_common()),
    )


def _reason(given: bool, turned_down: Counter[str]) -> str:
    if turned_down:
        words = ", ".join(f"{name} {count:,}" for name, count in turned_down.most_common())
        return f"every pair was dropped ({words})"
    return NOTHING_FOUND if given else NOT_ASKED


def _kind_of(reason: str) -> str:
    return reason.partition(" (")[0]


def _kept(written: Written, applied: Applied) -> int:
    return sum(record["id"] not in applied.dropped_by_person for record in written.pairs)


def _row(unit: str, step: str, dropped: int, left: int) -> dict[str, Any]:
    return {"unit": unit, "step": step, "dropped": dropped, "left": left}
