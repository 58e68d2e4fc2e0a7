"""What the review page works on: the pairs of an expert, a person's decisions on them, filters and the sample."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from werkmeister.corpus.decisions import (
    DROP,
    EDIT,
    KEEP,
    UNDECIDED,
    Decision,
    Record,
    append_decisions,
    decide,
    load_decisions,
)
from werkmeister.corpus.written import Written
from werkmeister.examining.statistics import CONFIDENCE, wilson

VERIFIED, DROPPED = "verified", "dropped"


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Which pairs a person wants to see; an empty field lets all through.

    `state` is verified or dropped (by a check), `decision` one of the verdicts, `text` is looked for in question and
    answer without regard to case.
    """

    state: str = VERIFIED
    kind: str = ""
    document: str = ""
    flag: str = ""
    check: str = ""
    decision: str = ""
    text: str = ""

    def lets_through(self, record: Record, verdict: str) -> bool:
        """Whether a pair with this decision in force is to be seen."""
        check = record.get("check", "")
        return (
            (not self.state or (self.state == DROPPED) == bool(check))
            and self.kind in ("", record["kind"])
            and self.document in ("", record["document"])
            and (not self.flag or self.flag in record.get("flags", ()))
            and self.check in ("", check)
            and self.decision in ("", verdict)
            and (not self.text or self.text.casefold() in f"{record['question']}\n{record['answer']}".casefold())
        )


FILTERS = tuple(item.name for item in fields(Filter))


def draw_sample(records: Sequence[Record], size: int, seed: int) -> list[Record]:
    """`size` of the verified pairs in random order, each as likely as any other.

    The draw depends on seed and ids alone, so pairs that stay are drawn again after a re-run.
    """
    verified = [record for record in records if not record.get("check")]
    return sorted(verified, key=lambda record: hashlib.sha256(f"{seed} {record['id']}".encode()).digest())[:size]


class ReviewSession:
    """The pairs under review. Decisions go to the expert's decisions.jsonl before any method returns.

    With `sample` > 0 only that many verified pairs, drawn at random, are under review, and `verdict` says what share
    of them is right. May be called from several threads.
    """

    def __init__(self, expert: Path, written: Written, *, sample: int = 0, seed: int = 0) -> None:
        self.expert = expert
        self.written = written
        self.sample = sample
        records = written.candidates()
        self.records = draw_sample(records, sample, seed) if sample else records
        self._by_id = {record["id"]: record for record in self.records}
        loaded = load_decisions(expert)
        self.notes = loaded.notes
        self._force: dict[str, Decision] = dict(loaded.of)
        self._undo: list[tuple[str, Decision | None]] = []
        self.made = 0
        self._lock = threading.Lock()

    def overview(self) -> dict[str, Any]:
        """What the page needs once: the values to filter by with their counts, and the progress."""
        values = {
            "kind": Counter(record["kind"] for record in self.records),
            "document": Counter(record["document"] for record in self.records),
            "flag": Counter(flag for record in self.records for flag in record.get("flags", ())),
            "check": Counter(record["check"] for record in self.records if record.get("check")),
        }
        return {
            "values": {name: sorted(counts.items()) for name, counts in values.items()},
            "dropped": sum(1 for record in self.records if record.get("check")),
            "sample": self.sample,
            "notes": list(self.notes),
            "progress": self.progress(),
        }

    def progress(self) -> dict[str, Any]:
        """How many pairs are decided and how; in a sample, the share that is right with its interval."""
        with self._lock:
            verdicts = Counter(self._force[i].verdict for i in self._by_id if i in self._force)
        decided = sum(verdicts.values())
        counts = {name: verdicts[name] for name in (KEEP, EDIT, DROP)}
        found: dict[str, Any] = {"total": len(self.records), "decided": decided, "counts": counts}
        if self.sample and decided:
            share = wilson(verdicts[KEEP], decided)
            found["verdict"] = {
                "right": verdicts[KEEP],
                "n": decided,
                "value": share.value,
                "low": share.low,
                "high": share.high,
                "confidence": CONFIDENCE,
            }
        return found

    def ids(self, chosen: Filter) -> tuple[list[str], int]:
        """Ids of the pairs that a filter lets through, in order, and the index of the first undecided one (else 0)."""
        with self._lock:
            force = dict(self._force)
        found = []
        for record in self.records:
            decision = force.get(record["id"])
            if chosen.lets_through(record, decision.verdict if decision else UNDECIDED):
                found.append(record["id"])
        return found, next((index for index, pair_id in enumerate(found) if pair_id not in force), 0)

    def rows(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Short lines for a list of pairs; unknown ids are left out."""
        return [self._row(self._by_id[i]) for i in ids if i in self._by_id]

    def item(self, pair_id: str) -> dict[str, Any] | None:
        """All that a person needs to judge one pair; None for an unknown id."""
        record = self._by_id.get(pair_id)
        if record is None:
            return None
        before, evidence, after = self.written.marked(record)
        decision = self._force.get(pair_id)
        return self._row(record) | {
            "original": {"question": record["question"], "answer": record["answer"]},
            "answerable": record.get("answerable", True),
            "language": record["language"],
            "writer": record.get("writer", ""),
            "evidence": record["evidence"],
            "passage": {"before": before, "evidence": evidence, "after": after},
            "place": self.written.place(record),
            "heading": self.written.heading(record),
            "flags": list(record.get("flags", ())),
            "reason": record.get("reason", ""),
            "note": decision.note if decision else "",
        }

    def decide(self, pair_id: str, verdict: str, *, question: str = "", answer: str = "", note: str = "") -> None:
        """Put a decision in force and on the disk. Raises KeyError for an unknown id, ValueError as `decide` does."""
        decision = decide(self._by_id[pair_id], verdict, question=question, answer=answer, note=note)
        with self._lock:
            self._undo.append((pair_id, self._put(pair_id, decision)))
            self.made += 1

    def undo(self) -> str:
        """Take back the last decision of this session and return the id of its pair; "" when there is none."""
        with self._lock:
            if not self._undo:
                return ""
            pair_id, earlier = self._undo[-1]
            self._put(pair_id, earlier or decide(self._by_id[pair_id], UNDECIDED))
            self._undo.pop()
            self.made -= 1
            return pair_id

    def _put(self, pair_id: str, decision: Decision) -> Decision | None:
        """Write a decision, then put it in force; return the one that was in force before."""
        append_decisions(self.expert, [decision])
        earlier = self._force.pop(pair_id, None)
        if decision.verdict != UNDECIDED:
            self._force[pair_id] = decision
        return earlier

    def _row(self, record: Record) -> dict[str, Any]:
        decision = self._force.get(record["id"])
        question, answer = decision.shown if decision else (record["question"], record["answer"])
        return {
            "id": record["id"],
            "question": question,
            "answer": answer,
            "kind": record["kind"],
            "document": record["document"],
            "check": record.get("check", ""),
            "decision": decision.verdict if decision else "",
        }


def read_filter(query: Mapping[str, str]) -> Filter:
    """A filter from the words of a query; what is not named keeps its default."""
    return Filter(**{name: query[name] for name in FILTERS if name in query})
