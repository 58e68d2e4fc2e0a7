"""`python -m werkmeister.examining.sit JOB`: one answerer in a process of its own.

A fresh process gives an honest peak of memory and keeps the crash of an engine to itself. It appends each answer to
the job's record, tells it on standard output, and ends when its parent does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import IO, Any

from werkmeister import machine
from werkmeister.artefact import write_json
from werkmeister.chat import Conversation, Message
from werkmeister.energy import ProcessorMeter
from werkmeister.errors import WerkmeisterError
from werkmeister.examining.answering import open_answerer
from werkmeister.examining.sitting import ask


def main(job_file: Path) -> int:
    """Answer the questions of a job; the exit code is that of the error that ended it, 0 for none."""
    events = _own_standard_output()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job = json.loads(job_file.read_text(encoding="utf-8"))
    try:
        _sit(job, events)
    except WerkmeisterError as error:
        told = {"message": error.message, "hint": error.hint, "problems": list(error.problems)}
        _tell(events, {"error": {"type": type(error).__name__, **told}})
        return error.exit_code
    return 0


def _sit(job: dict[str, Any], events: IO[str]) -> None:
    questions = list(_questions(Path(job["questions"])))
    answerer = open_answerer(job["name"], job["kind"], job["options"])
    meter, joules = ProcessorMeter(Path(job["powercap"])), None
    with Path(job["record"]).open("a", encoding="utf-8", newline="\n") as record:
        for (key, _), row in zip(questions, ask(answerer, [c for _, c in questions]), strict=True):
            line = {"id": key, **row}
            # On the disk before it is told: who reads the event may rely on the record.
            record.write(json.dumps(line, ensure_ascii=False) + "\n")
            record.flush()
            joules = meter.read()
            _tell(events, {"row": line})
    facts = {"about": answerer.about, "bytes": answerer.bytes, "load_seconds": answerer.load_seconds}
    facts |= {"joules": None if joules is None else joules / len(questions)}
    write_json(Path(job["facts"]), facts | {"peak_memory": machine.peak_memory()})


def _questions(path: Path) -> list[tuple[str, Conversation]]:
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [(row["id"], tuple(Message(m["role"], m["content"]) for m in row["messages"])) for row in rows]


def _own_standard_output() -> IO[str]:
    """Keep standard output for events, and send what libraries print to standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    return events


def _tell(events: IO[str], event: dict[str, Any]) -> None:
    events.write(json.dumps(event, ensure_ascii=False) + "\n")
    events.flush()


def _end_with_parent() -> None:
    # Standard input is a pipe that the parent never writes to: it ends when the parent is gone, even by kill -9.
    while os.read(0, 1):
        continue
    os._exit(1)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stderr.flush()
    # Everything is on the disk and told: a native engine that falls over while Python winds up must spoil nothing.
    os._exit(code)
