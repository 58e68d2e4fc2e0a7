"""The part of the dataset's report that tells where examples from documents come from, and what was decided on them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from werkmeister.chat import Example
from werkmeister.corpus.decisions import Applied, Record
from werkmeister.corpus.reporting.advice import Advice, Counts, advise
from werkmeister.corpus.reporting.coverage import coverage, funnel
from werkmeister.corpus.written import Written

SAMPLES = 12
_AROUND, _LINES = 350, 6
"""Characters and lines of a passage that a sample shows on each side of the evidence."""
_PARTS = {"with passage": "with_passage", "from memory": "from_memory", "unanswerable": "unanswerable"}


def describe_origin(written: Written, applied: Applied, contamination: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Funnel, coverage, kinds, lengths, flags, samples, decisions and costs, as report.json holds them.

    `contamination` are measured figures: {"what", "n", "of"}.
    """
    documents, silent = coverage(written, applied)
    told = written.report
    return {
        "funnel": funnel(written, applied),
        "coverage": [asdict(one) for one in documents],
        "silent": [asdict(one) for one in silent],
        "unread": [{"name": one["name"], "reason": one["reason"]} for one in written.unread],
        "kinds": _kinds(applied.pairs),
        "languages": dict(Counter(str(record["language"]) for record in applied.pairs).most_common()),
        "writers": dict(Counter(str(record.get("writer", "")) for record in applied.pairs).most_common()),
        "answer_words": [len(record["answer"].split()) for record in applied.pairs if record.get("answerable", True)],
        "flags": dict(Counter(flag for record in applied.pairs for flag in record.get("flags", ())).most_common()),
        "flagged": [_short(record, written) for record in applied.pairs if record.get("flags")],
        "samples": [_sample(record, written) for record in _at_random(applied.pairs, SAMPLES)],
        "dropped_samples": _dropped_samples(written),
        "decisions": {
            "counts": dict(applied.counts),
            "waiting": [
                {"document": d.document, "question": d.question, "decision": d.verdict} for d in applied.waiting
            ],
        },
        "contamination": [dict(row) for row in contamination],
        **{name: told[name] for name in ("teacher", "judge", "unanswerable", "families") if told.get(name)},
        "notes": list(told.get("notes", ())),
    }


def advise_on(
    splits: Mapping[str, Sequence[Example]],
    context: int,
    written: Written | None,
    applied: Applied | None,
    origin: Mapping[str, Any] | None,
) -> Advice:
    """The advice for a dataset; what was not made from documents is told by the splits alone."""
    train, exam = splits["train"], splits["exam"]
    parts = Counter(_PARTS.get(example.part, "") if example.passage else "" for example in train)
    labels = Counter(example.label for example in train if example.label)
    brought = {
        "brought": parts[""],
        "classes": len(labels),
        "a_class": min(labels.values(), default=0),
    }
    counts = Counts(train=len(train), exam=len(exam), context=context, **brought)
    if written is None or applied is None or origin is None:
        return advise(counts)
    answers = [record for record in applied.pairs if record.get("answerable", True) and record["passage"]]
    made = asdict(counts) | {name: parts[name] for name in _PARTS.values()}
    grouped = [record for record in applied.pairs if record.get("group") and record["passage"]]
    made |= {
        # Of a document without a pair nobody knows the family.
        "documents": len({record["document"] for record in grouped}) or len(written.documents),
        "groups": len({record["group"] for record in grouped}),
        "facts": len({(record["document"], record.get("fact") or record["question"]) for record in answers}),
        "answers": len(answers),
        "exact": sum(any(letter.isdigit() for letter in record["answer"]) for record in answers),
        "tokens": sum(passage.tokens for passage in written.passages.values()),
        "passages": len(written.passages),
        "covered": sum(row["covered"] for row in origin["coverage"]),
    }
    return advise(Counts(**made))


def _kinds(pairs: Sequence[Record]) -> dict[str, int]:
    return dict(Counter(str(record["kind"]) for record in pairs).most_common())


def _at_random(records: Sequence[Record], count: int) -> list[Record]:
    """Some records, each as likely as any other; the same ones when the report is made again."""
    return sorted(records, key=lambda record: hashlib.sha256(f"sample {record['id']}".encode()).digest())[:count]


def _dropped_samples(written: Written) -> dict[str, list[dict[str, Any]]]:
    """Three dropped pairs of every check, drawn at random, each with its reason."""
    by_check: dict[str, list[Record]] = {}
    for record in written.dropped:
        by_check.setdefault(record["check"], []).append(record)
    return {
        check: [_short(record, written) | {"reason": record["reason"]} for record in _at_random(records, 3)]
        for check, records in sorted(by_check.items(), key=lambda item: (-len(item[1]), item[0]))
    }


def _sample(record: Record, written: Written) -> dict[str, Any]:
    before, evidence, after = written.marked(record)
    before = _beginning(before[::-1])[::-1] if evidence else _beginning(before, 3)
    after = _beginning(after)
    shown = {name: record.get(name) for name in ("kind", "language", "answerable")}
    shown["heading"] = written.heading(record)
    return _short(record, written, 2000) | shown | {"before": before, "evidence": evidence, "after": after}


def _short(record: Record, written: Written, most: int = 300) -> dict[str, Any]:
    texts = {name: _cut(record[name], most) for name in ("question", "answer")}
    return {"id": record["id"], **texts, "place": written.place(record), "flags": list(record.get("flags", ()))}


def _beginning(text: str, times: int = 1) -> str:
    """The first lines and characters of a text, with … where it goes on."""
    kept = "\n".join(text[: times * _AROUND].split("\n")[: times * _LINES])
    return kept if len(kept) == len(text) else f"{kept}…"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
