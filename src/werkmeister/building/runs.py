"""What a training took over all its runs: it may be killed, stopped and resumed any number of times."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from werkmeister.machine import peak_memory

OFTEN = 5.0
"""Seconds after which a run notes where it stands although nothing else is written then: a person may be watching."""


class Runs:
    """The journal of a training's runs, a line a note, kept beside its checkpoints.

    A note says where a run stood: `step`, the `tokens` (without padding) and `training_seconds` of all steps up to
    there, whichever run made them, and of the run itself its `seconds` so far and its `peak_memory`. Steps that a kill
    took back and that were made again count once in the first two, and twice in `seconds`. What a killed run did after
    its last note is not known and not counted. Beside that a note holds `steps` (how many there are to make), the
    `time` of day in seconds since 1970, and what `gauge` reads (`building/gauge.py`).
    """

    def __init__(self, file: Path, gauge: Callable[[], Mapping[str, float]] = dict) -> None:
        self._file = file
        self._gauge = gauge
        self._steps = 0
        self._notes = read_lines(file)
        self._run = 0
        self._before: dict[str, Any] = {"tokens": 0, "training_seconds": 0.0}
        self._begin = time.perf_counter()

    def begin(self, step: int, steps: int = 0) -> None:
        """A new run goes on from `step`, of `steps` in all."""
        self._steps = steps
        self._run = 1 + max((note["run"] for note in self._notes), default=-1)
        # The last note of a step is of the run whose checkpoint stands there. A checkpoint of a version that kept no
        # journal has none: then counting begins here.
        self._before = next((note for note in reversed(self._notes) if note["step"] == step), self._before)
        self._begin = time.perf_counter()
        self._file.write_text("".join(json.dumps(note) + "\n" for note in self._notes), encoding="utf-8")
        self.note(step, 0, 0.0)

    def note(self, step: int, tokens: int, training_seconds: float) -> Mapping[str, Any]:
        """Write where this run stands, and return the note; `tokens` and `training_seconds` are its own."""
        note = {
            "run": self._run,
            "step": step,
            "steps": self._steps,
            "time": round(time.time(), 1),
            **self.totals(tokens, training_seconds),
            "seconds": round(time.perf_counter() - self._begin, 3),
            "peak_memory": peak_memory(),
            **self._gauge(),
        }
        self._notes.append(note)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(note) + "\n")
        return note

    def totals(self, tokens: int, training_seconds: float) -> dict[str, float]:
        """Tokens and seconds of all steps up to here, given those of this run."""
        return {
            "tokens": self._before["tokens"] + tokens,
            "training_seconds": round(self._before["training_seconds"] + training_seconds, 3),
        }

    def measures(self, step: int) -> dict[str, Any]:
        """What the adapter as it was at `step` took over all runs; empty when nothing was noted there."""
        kept = next((note for note in reversed(self._notes) if note["step"] == step), None)
        if kept is None:
            return {}
        last = {note["run"]: note for note in self._notes}
        first = {note["run"]: note["step"] for note in reversed(self._notes)}
        joules = [note["gpu_joules"] for note in last.values() if "gpu_joules" in note]
        return {
            "seconds": round(sum(note["seconds"] for note in last.values()), 1),
            "tokens": kept["tokens"],
            "training_seconds": round(kept["training_seconds"], 1),
            "tokens_per_second": round(kept["tokens"] / max(1e-9, kept["training_seconds"]), 1),
            "resumed": len(last) - 1,
            "resumed_at_steps": [first[run] for run in sorted(first)[1:]],
            "peak_memory": max(note["peak_memory"] for note in last.values()),
            "gpu_joules": round(sum(joules), 1) if len(joules) == len(last) else None,
        }


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines that a kill may have cut off in its last line; none where it is missing."""
    if not file.is_file():
        return []
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # The line on which a kill cut the writing off.
    return found
