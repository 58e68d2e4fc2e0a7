"""One answerer sits one exam: in this process (`sit_exam`), or in one of its own that may be killed (`sit_apart`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkmeister import errors
from werkmeister.artefact import write_json
from werkmeister.chat import Conversation, Example, messages_json
from werkmeister.energy import POWERCAP
from werkmeister.errors import EngineError, WerkmeisterError
from werkmeister.examining.answering import ALONE, Answerer
from werkmeister.examining.marks import Mark, Marking
from werkmeister.grounding import read_open_book
from werkmeister.progress import Progress, Silent, Track

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One example, the answer it got (`finish` as in Reply), and its mark."""

    example: Example
    answer: str
    finish: str
    mark: Mark


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """All answers of one answerer, with what was measured on the way; None where it was not measured.

    `tokens_per_second` is the rate of generation behind the first token, of answers made one at a time;
    `first_token_seconds` the mean wait for that first token, and `prompt_tokens_per_second` the tokens of the prompt
    that were computed over that wait; `peak_memory` in bytes, of a process of its own; `joules` an answer, of the
    processors of the whole machine, without loading.
    """

    name: str
    answered: tuple[Answered, ...]
    about: str = ""
    bytes: int | None = None
    load_seconds: float | None = None
    tokens_per_second: float | None = None
    prompt_tokens_per_second: float | None = None
    first_token_seconds: float | None = None
    peak_memory: int | None = None
    joules: float | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """An answerer to be opened in a process of its own: `kind` and `options` as `answering.open_answerer` takes."""

    name: str
    kind: str
    options: Mapping[str, Any]


def sit_exam(
    answerer: Answerer, examples: Sequence[Example], marking: Marking, *, progress: Progress | None = None
) -> Sitting:
    """Put the examples to an answerer in this process and mark what it says."""
    rows = ask(answerer, [example.prompt for example in examples])
    with (progress or Silent()).track(f"exam: {answerer.name}", len(examples)) as track:
        kept = list(_watched(zip(examples, rows, strict=True), marking, track))
    about = {"about": answerer.about, "bytes": answerer.bytes, "load_seconds": answerer.load_seconds}
    return _sitting(answerer.name, kept, about)


def sit_apart(
    job: Job,
    conversations: Mapping[str, Conversation],
    examples: Sequence[Example],
    marking: Marking,
    folder: Path,
    *,
    progress: Progress | None = None,
    powercap: Path = POWERCAP,
) -> Sitting:
    """Put the examples to the answerer of a job in a process of its own, and mark what it says.

    `conversations` holds what is asked for each example, by the example's id. Answers are written to `folder` one by
    one; those already there are not asked again, so a killed exam goes on where it was. `powercap` is where the system
    shows the energy of its processors. Raises the error that the
    process ended with, or EngineError with the end of its log when it crashed.
    """
    record, facts = folder / "answers.jsonl", folder / "facts.json"
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_record(record)
    missing = by_passage([example for example in examples if example.id not in rows])
    with (progress or Silent()).track(f"exam: {job.name}", len(examples)) as track:
        kept = list(_watched(((e, rows[e.id]) for e in examples if e.id in rows), marking, track))
        if missing or not facts.is_file():
            questions = folder / "questions.jsonl"
            _write_questions(questions, {example.id: conversations[example.id] for example in missing})
            write_json(
                folder / "job.json",
                {"name": job.name, "kind": job.kind, "options": dict(job.options)}
                | {"questions": str(questions), "record": str(record), "facts": str(facts), "powercap": str(powercap)},
            )
            by_id = {example.id: example for example in missing}
            fresh = ((by_id[row["id"]], row) for row in _run(job.name, folder))
            kept += _watched(fresh, marking, track)
    order = {example.id: index for index, example in enumerate(examples)}
    kept.sort(key=lambda pair: order[pair[0].example.id])
    if len(kept) != len(examples):
        raise EngineError(f"{job.name} gave {len(kept)} answers to {len(examples)} questions of the exam")
    return _sitting(job.name, kept, json.loads(facts.read_text(encoding="utf-8")))


def by_passage(examples: Sequence[Example]) -> list[Example]:
    """The order in which an engine is asked: questions on one passage follow one another.

    llama.cpp keeps what it computed for a common beginning, and the passage is most of a prompt. The first ones, on
    which speed is measured, have each a passage of their own. Without passages the order stays.
    """
    of = {example.id: read_open_book(example.question)[0] for example in examples}
    if not any(of.values()):
        return list(examples)
    order = {passage: number for number, passage in enumerate(dict.fromkeys(of.values()))}
    alone = {passage: example for example in reversed(examples) if (passage := of[example.id])}
    first = list(alone.values())[::-1][:ALONE]
    leading = {example.id for example in first}
    rest = [example for example in examples if example.id not in leading]
    return [*first, *sorted(rest, key=lambda example: order[of[example.id]])]


def ask(answerer: Answerer, conversations: Sequence[Conversation]) -> Iterator[Row]:
    """What an answerer replies to each conversation, as JSON objects."""
    for index, reply in enumerate(answerer.replies(conversations)):
        yield {
            "answer": reply.text,
            "finish": reply.finish,
            "tokens": reply.answer_tokens,
            "prompt_tokens": reply.prompt_tokens - reply.cached_tokens,
            "first_seconds": reply.first_seconds,
            "seconds": reply.seconds,
            "alone": index < answerer.alone,
        }


def read_record(path: Path) -> dict[str, Row]:
    """The answers in a record, by example id. A last line that was cut off by a kill is taken away from the file."""
    if not path.is_file():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    rows = [json.loads(line) for line in whole.splitlines()]
    return {row["id"]: row for row in rows}


def _watched(pairs: Iterable[tuple[Example, Row]], marking: Marking, track: Track) -> Iterator[tuple[Answered, Row]]:
    """Mark each answer as it comes, and show the score so far."""
    total, count = 0.0, 0
    for example, row in pairs:
        mark = marking(row["answer"], example)
        total, count = total + mark.score, count + 1
        track.advance(1, score=f"{total / count:.1%}")
        yield Answered(example=example, answer=row["answer"], finish=row["finish"], mark=mark), row


def _sitting(name: str, kept: Sequence[tuple[Answered, Row]], facts: Mapping[str, Any]) -> Sitting:
    # The first answer alone pays for warming up (page faults of the weights, caches), which is not the steady speed.
    alone = [row for _, row in kept if row["alone"] and row["tokens"]]
    timed = [row for row in alone[1:] or alone if row["tokens"] > 1]
    after_first = sum(row["seconds"] - row["first_seconds"] for row in timed)
    tokens = sum(row["tokens"] - 1 for row in timed)
    waited = sum(row["first_seconds"] for row in timed)
    return Sitting(
        name=name,
        answered=tuple(answered for answered, _ in kept),
        tokens_per_second=tokens / after_first if after_first > 0 else None,
        prompt_tokens_per_second=sum(row["prompt_tokens"] for row in timed) / waited if waited > 0 else None,
        first_token_seconds=waited / len(timed) if timed else None,
        **{key: facts.get(key) for key in ("bytes", "load_seconds", "peak_memory", "joules")},
        about=facts.get("about", ""),
    )


def _write_questions(path: Path, conversations: Mapping[str, Conversation]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for key, messages in conversations.items():
            file.write(json.dumps({"id": key, "messages": messages_json(messages)}, ensure_ascii=False) + "\n")


def _run(name: str, folder: Path) -> Iterator[Row]:
    """Run `examining.sit` on the job in `folder` and yield its rows as they come."""
    log = folder / "log.txt"
    # Two spinning threads on a busy core run ten times slower than waiting ones (see EXPERIMENTS.md).
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-X", "utf8", "-m", "werkmeister.examining.sit", str(folder / "job.json")]
    error: Mapping[str, Any] | None = None
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment
        ) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if not line.endswith(b"\n"):
                    break  # the process was killed in the middle of a word
                event = json.loads(line)
                if "row" in event:
                    yield event["row"]
                else:
                    error = event["error"]
            # Leaving this block closes standard input, which would end a process that is still winding up.
            process.wait()
        except BaseException:
            # Ctrl-C, a full disk, an exam that was given up: the process must not go on without its reader.
            process.kill()
            raise
    if error:
        raise _raised(error)
    if process.returncode:
        end = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-8:]
        killed = process.returncode in (-9, 137)
        raise EngineError(
            f"{name} broke off in the exam (exit code {process.returncode})",
            problems=end,
            hint="the system may have run out of memory: close other programs and run it again, it goes on there"
            if killed
            else "run it again: answers that were given are kept",
        )


def _raised(error: Mapping[str, Any]) -> WerkmeisterError:
    kind = getattr(errors, str(error["type"]), WerkmeisterError)
    raised = kind(error["message"], hint=error["hint"], problems=error["problems"])
    assert isinstance(raised, WerkmeisterError)
    return raised
