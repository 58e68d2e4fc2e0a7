"""A person's decisions on pairs: kept beside expert.toml, so that they outlive every artefact and every re-run.

`decisions.jsonl` is append-only and the last decision on a pair wins. Each line carries the pair as the person saw it,
so that the file can be read without any artefact, and a decision on a pair that is gone still says what it was about.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from werkmeister.corpus.decoding import BOM
from werkmeister.corpus.findings import Findings
from werkmeister.errors import DataError
from werkmeister.grounding import is_learnt_refusal

FILE = "decisions.jsonl"
KEEP, EDIT, DROP, UNDECIDED = "keep", "edit", "drop", "undecided"
VERDICTS = (KEEP, EDIT, DROP, UNDECIDED)
"""What a decision may say; `undecided` takes back an earlier one."""

Record = Mapping[str, Any]
"""A line of pairs.jsonl or dropped.jsonl: `Pair.record`, group and flags; check and reason where it was dropped."""

_TEXTS = ("document", "question", "answer", "new_question", "new_answer", "time", "note")


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What a person decided on the pair `id`; `document`, `question` and `answer` are the pair as it was seen.

    `new_question` and `new_answer` are the texts of an edit and empty otherwise; `time` is ISO 8601 in UTC.
    """

    id: str
    verdict: str
    document: str
    question: str
    answer: str
    new_question: str = ""
    new_answer: str = ""
    time: str = ""
    note: str = ""

    @property
    def shown(self) -> tuple[str, str]:
        """Question and answer after the decision."""
        return (self.new_question, self.new_answer) if self.verdict == EDIT else (self.question, self.answer)

    def line(self) -> str:
        """The line of decisions.jsonl; empty fields are left out."""
        said = {"id": self.id, "decision": self.verdict} | {name: getattr(self, name) for name in _TEXTS}
        return json.dumps({key: value for key, value in said.items() if value}, ensure_ascii=False) + "\n"


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The decisions in force, by the id of their pair (none of them `undecided`), and what a person should know."""

    of: Mapping[str, Decision]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Applied:
    """Pairs after a person's decisions, in the form of pairs.jsonl, and what was decided.

    `counts` has keep, edit and drop (decisions that met a pair), rescued (of these, pairs that a check had dropped)
    and waiting (decisions on pairs that are gone). `dropped_by_person` are the ids of the verified pairs left out.
    """

    pairs: tuple[Record, ...]
    counts: Mapping[str, int]
    waiting: tuple[Decision, ...]
    dropped_by_person: frozenset[str]
    notes: tuple[str, ...]


def decide(record: Record, verdict: str, *, question: str = "", answer: str = "", note: str = "") -> Decision:
    """A decision of this moment on a pair. An edit that changes nothing is a keep; it needs both texts.

    Raises ValueError for an unknown verdict and for an edit without question or answer.
    """
    if verdict not in VERDICTS:
        raise ValueError(f"decision {verdict!r} is none of {', '.join(VERDICTS)}")
    question, answer = question.strip(), answer.strip()
    if verdict == EDIT:
        for name, text in (("question", question), ("answer", answer)):
            if not text:
                raise ValueError(f"{name} is empty; to leave the pair out, drop it")
        if (question, answer) == (record["question"].strip(), record["answer"].strip()):
            verdict = KEEP
    edited = verdict == EDIT
    return Decision(
        **{name: record[name] for name in ("id", "document", "question", "answer")},
        verdict=verdict,
        new_question=question if edited else "",
        new_answer=answer if edited else "",
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        note=note.strip(),
    )


def load_decisions(expert: Path) -> Decisions:
    """The decisions of an expert; none when there is no file.

    A last line that was cut off (a killed process, a full disk) is left out with a note; every other line that is no
    decision is a mistake, and DataError names all of them by file and line.
    """
    path = expert / FILE
    try:
        *lines, tail = path.read_bytes().removeprefix(BOM).split(b"\n")
    except FileNotFoundError:
        return Decisions(of={})
    except OSError as error:
        what = "is a folder" if path.is_dir() else f"cannot be read: {error.strerror or error}"
        raise DataError(
            f"{path} {what}, and your decisions stand in a file of that name",
            hint="move it away or make it readable; decisions are made with: werkmeister review",
        ) from error
    findings, notes = Findings(), []
    force: dict[str, Decision] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            _take(_parse(line), force)
        except ValueError as error:
            findings.add(f"{path}:{number}: {error}", "mend that line, or delete it: it is no decision any more")
    findings.fail(FILE)
    if tail.strip():
        try:
            _take(_parse(tail), force)
        except ValueError:
            notes.append(f"{path}:{len(lines) + 1}: the last line was cut off and is left out; decide that pair again")
    return Decisions(of=force, notes=tuple(notes))


def append_decisions(expert: Path, decisions: Sequence[Decision]) -> None:
    """Write decisions behind the others; when this returns they are on the disk.

    A last line that was cut off is removed first: nothing could be read from it.
    """
    if not decisions:
        return
    path = expert / FILE
    lines = "".join(decision.line() for decision in decisions).encode()
    is_new = not path.exists()
    with path.open("a+b", buffering=0) as file:
        left = _mend_tail(file) + lines
        while left:  # A nearly full disk takes less than was given; the next write then raises.
            left = left[file.write(left) :]
        os.fsync(file.fileno())
    if is_new:
        _sync_folder(expert)


def decisions_inputs(expert: Path) -> dict[str, str]:
    """What a dataset depends on: a digest of the decisions in force, or nothing where there are none.

    Time and note do not count, and a decision that was taken back leaves no trace. Never fails: a file with mistakes
    is stood for by its bytes, and the mistakes are told when it is loaded.
    """
    path = expert / FILE
    try:
        force = load_decisions(expert).of
    except DataError:
        readable = path.is_file() and os.access(path, os.R_OK)
        return {"decisions": hashlib.sha256(path.read_bytes()).hexdigest() if readable else "cannot be read"}
    if not force:
        return {}
    deciding = sorted([d.id, d.verdict, d.new_question, d.new_answer] for d in force.values())
    return {"decisions": hashlib.sha256(json.dumps(deciding, ensure_ascii=False).encode()).hexdigest()}


def apply_decisions(pairs: Sequence[Record], dropped: Sequence[Record], decisions: Decisions) -> Applied:
    """Pairs as a person wants them: dropped ones are gone, edited ones say what the person wrote, and a kept or edited
    one that a check had dropped comes back, behind the others.

    An answer edited into a refusal makes the pair unanswerable, a refusal edited into an answer makes it answerable.
    `dropped` may hold the twin of a pair that was kept (same id); a decision means the pair then, and the twin stays
    dropped.
    """
    force = decisions.of
    met, seen = dict.fromkeys((KEEP, EDIT, DROP, "rescued"), 0), set()
    result: list[Record] = []
    left_out = set()
    for record in pairs:
        decision = force.get(record["id"])
        if decision is None:
            result.append(record)
            continue
        if record["id"] not in seen:
            met[decision.verdict] += 1
            seen.add(record["id"])
        if decision.verdict == DROP:
            left_out.add(record["id"])
        else:
            result.append(_edited(record, decision))
    own = {record["id"] for record in pairs}
    for record in dropped:
        decision = force.get(record["id"])
        if decision is None or record["id"] in own or record["id"] in seen:
            continue
        seen.add(record["id"])
        met[decision.verdict] += 1
        if decision.verdict != DROP:
            met["rescued"] += 1
            bare = {key: value for key, value in record.items() if key not in ("check", "reason")}
            result.append(_edited(bare, decision))
    waiting = tuple(decision for decision in force.values() if decision.id not in seen)
    return Applied(
        pairs=tuple(result),
        counts=met | {"waiting": len(waiting)},
        waiting=waiting,
        dropped_by_person=frozenset(left_out),
        notes=(*decisions.notes, *_words(met, len(waiting))),
    )


def _edited(record: Record, decision: Decision) -> Record:
    if decision.verdict != EDIT:
        return record
    new = dict(record) | {"question": decision.new_question, "answer": decision.new_answer, "loose": ""}
    if decision.new_answer != record["answer"]:
        answerable = not is_learnt_refusal(decision.new_answer)
        if record.get("answerable", True) and not answerable:
            new |= {"evidence": "", "start": 0, "end": 0}
        new["answerable"] = answerable
    return new


def _words(met: Mapping[str, int], waiting: int) -> Iterable[str]:
    if met[KEEP] + met[EDIT] + met[DROP]:
        rescued = f" ({met['rescued']:,} of these rescued from what the checks dropped)" if met["rescued"] else ""
        yield f"your decisions: {met[KEEP]:,} kept, {met[EDIT]:,} edited, {met[DROP]:,} dropped{rescued}"
    if waiting == 1:
        yield "1 decision waits for a pair that is gone"
    elif waiting:
        yield f"{waiting:,} decisions wait for pairs that are gone"


def _take(decision: Decision, force: dict[str, Decision]) -> None:
    force.pop(decision.id, None)  # a later decision stands later in the order too
    if decision.verdict != UNDECIDED:
        force[decision.id] = decision


def _parse(line: bytes) -> Decision:
    """One line; ValueError says what is wrong with it."""
    try:
        said = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start + 1})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(said, dict) or not isinstance(said.get("id"), str) or not said["id"]:
        raise ValueError("has no id")
    if said.get("decision") not in VERDICTS:
        raise ValueError(f"decision is {said.get('decision')!r}, and must be one of {', '.join(VERDICTS)}")
    wrong = [name for name in _TEXTS if not isinstance(said.get(name, ""), str)]
    if wrong:
        raise ValueError(f"{wrong[0]} is no text")
    if said["decision"] == EDIT and not (said.get("new_question", "").strip() and said.get("new_answer", "").strip()):
        raise ValueError("is an edit without new_question or new_answer")
    return Decision(id=said["id"], verdict=said["decision"], **{name: said.get(name, "") for name in _TEXTS})


def _mend_tail(file: IO[bytes]) -> bytes:
    """Remove a last line that was cut off; return what must stand before the next line."""
    end = file.seek(0, os.SEEK_END)
    start, tail = end, b""
    while start and b"\n" not in tail:
        start = max(0, start - 65536)
        file.seek(start)
        tail = file.read(end - start)
    begin, newline, last = tail.rpartition(b"\n")
    if not last:
        return b""
    try:
        _parse(last.removeprefix(BOM))
    except ValueError:
        file.truncate(start + len(begin) + len(newline))
        return b""
    return b"\n"


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there, and need not be
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
