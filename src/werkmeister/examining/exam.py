"""The stage exam: the same held-out examples put to base, baseline, adapter and every quantised file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from werkmeister.artefact import Artefact, making, open_artefact, write_json
from werkmeister.bases.find import find_same_base
from werkmeister.chat import Example, read_examples
from werkmeister.config import as_json, setting
from werkmeister.errors import ArtefactError, DataError
from werkmeister.examining import results
from werkmeister.examining.answering import Answerer
from werkmeister.examining.decision import decide
from werkmeister.examining.forgetting import examine_forgetting
from werkmeister.examining.marks import AUTO, MARKS, Marking, choose_mark
from werkmeister.examining.report import answer_rows, page
from werkmeister.examining.seats import (
    ADAPTER,
    EVERYONE,
    FEW_SHOT,
    conversations,
    measure_room,
    names_of,
    needs_base,
    take_seat,
)
from werkmeister.examining.sitting import Sitting, sit_apart, sit_exam
from werkmeister.examining.statistics import CONFIDENCE
from werkmeister.machine import read_machine
from werkmeister.progress import Progress, Silent
from werkmeister.served import served_by

VERSION = 2


@dataclass(frozen=True, kw_only=True)
class ExamSettings:
    """How the expert is examined."""

    mark: str = setting(
        AUTO,
        help="how an answer is graded; auto: json, grounded (from documents), label or token_f1, by the examples",
        choices=(AUTO, *MARKS),
    )
    limit: int = setting(200, help="examples of each part that are put; 0: all", low=0)
    base_limit: int = setting(
        60, help="of these, how many the untrained base is asked (it rambles, and is slow at it); 0: all", low=0
    )
    shots: int = setting(
        3,
        help="training examples in front of each question for the row 'base few-shot'; 0: no such row",
        low=0,
        high=50,
    )
    max_tokens: int = setting(0, help="longest answer; 0: derived from the longest target", unit="tokens", low=0)
    answerers: tuple[str, ...] = setting(
        EVERYONE, help="who sits the exam: base, base few-shot, baseline, adapter, files (all), or single files"
    )
    margin: float = setting(
        0.02,
        help="a file whose score is lower than the adapter's by more is marked as worse; the smallest file that is "
        "proven not to be worse than the best one by more is the one that answers",
        low=0.0,
        high=1.0,
    )
    slots: int = setting(
        1, help="conversations that llama.cpp answers at a time; more is rarely faster", low=1, high=64
    )
    forgetting: bool = setting(
        True, help="put 96 general questions to base and adapter, to see what was forgotten (under a minute each)"
    )
    seed: int = setting(0, help="seed of the choice of examples and of resampling", low=0)


def exam(
    dataset: Path,
    train: Path,
    export: Path,
    output: Path,
    settings: ExamSettings,
    *,
    expert: Path | None = None,
    progress: Progress | None = None,
) -> Artefact:
    """Make the artefact "exam": exam.json (rows), answers.jsonl (every answer with its mark), report.html.

    Each answerer sits in a process of its own. After a kill, the same call asks only what was not answered. `expert`
    is the folder that a relative base name counts from. Raises SettingsError for an unknown answerer, BaseModelError
    when the base is no longer that of the dataset.
    """
    progress = progress or Silent()
    data, trained, exported = (
        open_artefact(path, kind, make_with=f"werkmeister {kind}")
        for path, kind in ((dataset, "dataset"), (train, "train"), (export, "export"))
    )
    _check_kin(data, trained, exported)
    inputs = {"dataset": data.identity, "train": trained.identity, "export": exported.identity}
    names = names_of(settings.answerers, settings.shots, exported)
    pool = list(read_examples(data.file("exam.jsonl")))
    if not pool:
        raise DataError(
            f"{data.file('exam.jsonl')} holds no example", hint="raise dataset.exam, or add examples to the expert"
        )
    with making("exam", output, version=VERSION, inputs=inputs, settings=as_json(settings)) as draft:
        training = list(read_examples(data.file("train.jsonl")))
        marking, why = choose_mark(settings.mark, (*pool, *training))
        progress.say(f"mark: {marking.name} ({why})")
        base = (
            find_same_base(data.facts["base"], expert=expert, progress=progress)
            if needs_base(names, exported, settings.max_tokens)
            else None
        )
        room = measure_room(data, base, pool, training, names, settings.max_tokens, settings.shots, progress)
        chosen = results.choose_examples(pool, settings.limit, settings.seed)
        fewer = results.choose_examples(chosen, settings.base_limit, settings.seed)
        sittings = []
        for name in names:
            seat = take_seat(name, room, exported, trained, data, settings.slots)
            asked = fewer if seat.few else chosen
            put = conversations(asked, training, room.shots if name == FEW_SHOT else 0)
            folder = draft.scratch / name.replace(" ", "-")
            sittings.append(sit_apart(seat.job, put, asked, marking, folder, progress=progress))
            progress.say(_news(sittings[-1]))
        found = _result(sittings, marking, pool, settings.margin, settings.seed, _reference(names, exported))
        found |= {"mark_why": why, "base": dict(data.facts["base"]), "settings": as_json(settings)}
        found |= {"max_tokens": room.max_tokens, "shots": room.shots, "threads": room.threads}
        found |= _decided(sittings, marking, exported, settings, draft.facts, progress)
        if settings.forgetting and room.base and ADAPTER in names:
            found["forgetting"] = examine_forgetting(room.base, data, trained, draft.scratch, settings.seed, progress)
        _write(draft.path, found, sittings, _way(output, trained))
        draft.facts |= {"mark": marking.name, "headline": found["headline"], "pays": found["pays"]}
        draft.measures["rows"] = found["rows"]
    return open_artefact(output, "exam")


def _decided(
    sittings: Sequence[Sitting],
    marking: Marking,
    exported: Artefact,
    settings: ExamSettings,
    facts: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """The decision between the export's files, of which `facts` get what `served.served_file` reads."""
    decision = decide(sittings, marking, exported, settings.margin, settings.seed)
    if decision:
        facts["decision"] = {key: decision[key] for key in ("file", "why")}
        progress.say(f"the file to serve: {decision['why']}")
    return {"default_file": served_by(exported, decision).name, "decision": decision}


def take_exam(
    answerers: Sequence[Answerer],
    examples: Sequence[Example],
    *,
    mark: str = AUTO,
    reference: str = "adapter",
    margin: float = 0.02,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[Sitting]]:
    """Put the same examples to any answerers, in this process: the exam as in exam.json, and all answers.

    `answering.from_function` makes an answerer of any callable from question to text. Differences are taken to the
    answerer named `reference`, where it is among them.
    """
    if not examples:
        raise DataError("an exam needs examples, and there are none")
    marking, why = choose_mark(mark, examples)
    examples = list({example.id: example for example in examples}.values())
    sittings = [sit_exam(answerer, examples, marking, progress=progress or Silent()) for answerer in answerers]
    found = _result(sittings, marking, examples, margin, seed, reference)
    found |= {"mark_why": why, "shots": 0}
    return found | dict.fromkeys(("base", "default_file", "decision", "max_tokens")), sittings


def _result(
    sittings: Sequence[Sitting], marking: Marking, pool: Sequence[Example], margin: float, seed: int, reference: str
) -> dict[str, Any]:
    rows = results.rows_of(sittings, marking, reference=reference, margin=margin, seed=seed)
    pays, headline = results.verdict(rows, reference)
    parts: dict[str, dict[str, int]] = {}
    for example in pool:
        parts.setdefault(results.part_of(example), {"examples": 0})["examples"] += 1
    for part, counts in parts.items():
        groups = {example.group or example.id for example in pool if results.part_of(example) == part}
        counts["groups"] = len(groups)
    return {
        "headline": headline,
        "pays": pays,
        "mark": marking.name,
        "mark_meaning": marking.meaning,
        "reference": reference,
        "margin": margin,
        "confidence": CONFIDENCE,
        "seed": seed,
        "parts": parts,
        "machine": dataclasses.asdict(read_machine()),
        "rows": rows,
    }


def _check_kin(data: Artefact, trained: Artefact, exported: Artefact) -> None:
    """Refuse artefacts that were not made from one another: their scores would be of different experts."""
    for later, kind, earlier in ((trained, "dataset", data), (exported, "train", trained)):
        if later.inputs.get(kind) != earlier.identity:
            raise ArtefactError(
                f"{later.path} was made from another {kind} artefact than {earlier.path}",
                hint=f"make it again: werkmeister {later.kind}",
            )


def _reference(names: Sequence[str], exported: Artefact) -> str:
    """Whom the others are compared with: the adapter, else the file that is served, else whoever sits last."""
    return next((name for name in names if name in ("adapter", exported.facts.get("default"))), names[-1])


def _news(sitting: Sitting) -> str:
    """One line on an answerer that has sat the exam."""
    scores: dict[str, list[float]] = {}
    for answered in sitting.answered:
        scores.setdefault(results.part_of(answered.example), []).append(answered.mark.score)
    told = [f"{results.percent(sum(s) / len(s))} on {part} (n = {len(s)})" for part, s in scores.items()]
    return f"{sitting.name}: {', '.join(told)}"


def _way(output: Path, trained: Artefact) -> str:
    """The link from the exam's report to that of the training beside it; "" where there is none."""
    beside = trained.path.resolve().parent == output.resolve().parent
    return f"../{quote(trained.path.name)}/report.html" if beside and "report.html" in trained.outputs else ""


def _write(folder: Path, found: Mapping[str, Any], sittings: Sequence[Sitting], training: str) -> None:
    write_json(folder / "exam.json", found)
    answers = [row for sitting in sittings for row in answer_rows(sitting)]
    with (folder / "answers.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for row in answers:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    (folder / "report.html").write_text(page(found, answers, training=training), encoding="utf-8", newline="\n")
