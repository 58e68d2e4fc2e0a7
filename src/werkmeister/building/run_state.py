"""Where a training stands, read from its folder by another process: nothing here needs torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from werkmeister.artefact import MANIFEST
from werkmeister.building.runs import read_lines


@dataclass(frozen=True, kw_only=True)
class RunState:
    """A training as its folder tells it.

    `complete` says that the artefact is made. `history` holds the lines of history.jsonl, oldest first. `steps` is
    None where the run has not told yet how many there are. `noted` is when it last told where it stands, in seconds
    since 1970 (None for a complete artefact). `tokens_per_second` is the rate of the last minute or so, `seconds_left`
    follows from the time that the steps of this run took, evaluations and checkpoints counted in; both are None where
    nothing tells. Sizes in bytes, power in watts, energy in joules; None is "not measured".
    """

    complete: bool
    step: int
    steps: int | None
    history: Sequence[Mapping[str, Any]]
    seconds: float | None
    seconds_left: float | None
    tokens: int | None
    tokens_per_second: float | None
    memory: float | None
    gpu_memory: float | None
    gpu_power: float | None
    gpu_joules: float | None
    noted: float | None
    measures: Mapping[str, Any]

    def latest(self, key: str) -> float | None:
        """The newest figure of that name in the history."""
        return next((entry[key] for entry in reversed(self.history) if key in entry), None)

    def series(self, key: str, over: str = "step") -> list[tuple[float, float]]:
        """The course of one figure of the history over another, as pairs."""
        return [(entry[over], entry[key]) for entry in self.history if key in entry and over in entry]

    def rates(self) -> list[tuple[float, float]]:
        """Tokens a second between every two lines of the history that tell tokens and time, over the step."""
        marks = [(e["step"], e["tokens"], e["seconds"]) for e in self.history if "tokens" in e and "seconds" in e]
        marks = [(0, 0, 0.0), *marks]
        return [(b[0], (b[1] - a[1]) / (b[2] - a[2])) for a, b in pairwise(marks) if b[2] > a[2]]


def read_run(train: Path) -> RunState | None:
    """The state of the training whose artefact is, or will be, `train`; None where none was begun.

    A run in the making counts before the artefact that it will replace.
    """
    partial = train.with_name(train.name + ".partial")
    if (partial / "scratch" / "runs.jsonl").is_file():
        return _in_the_making(partial)
    if (train / MANIFEST).is_file():
        return complete_run(train, json.loads((train / MANIFEST).read_text(encoding="utf-8"))["measures"])
    return None


def _in_the_making(partial: Path) -> RunState:
    notes = read_lines(partial / "scratch" / "runs.jsonl")
    last = notes[-1] if notes else {}
    own = [note for note in notes if note["run"] == last["run"]]
    step, steps = int(last.get("step", 0)), last.get("steps") or None
    history = [entry for entry in read_lines(partial / "history.jsonl") if entry["step"] <= step]
    made = step - own[0]["step"] if own else 0
    rate = last["seconds"] / made if made else None
    return RunState(
        complete=False,
        step=step,
        steps=steps,
        history=history,
        seconds=sum({note["run"]: note["seconds"] for note in notes}.values()),
        seconds_left=(steps - step) * rate if steps and rate else None,
        tokens=last.get("tokens"),
        tokens_per_second=_rate(own),
        **{name: last.get(name) for name in ("memory", "gpu_memory", "gpu_power", "gpu_joules")},
        noted=last.get("time"),
        measures={},
    )


def _rate(own: Sequence[Mapping[str, Any]]) -> float | None:
    """Tokens per second of training over the last minute of a run's notes."""
    if len(own) < 2:
        return None
    last = own[-1]
    first = next(note for note in own if last["training_seconds"] - note["training_seconds"] <= 60 or note is own[-2])
    passed = last["training_seconds"] - first["training_seconds"]
    return float((last["tokens"] - first["tokens"]) / passed) if passed > 0 else None


def complete_run(folder: Path, measures: Mapping[str, Any]) -> RunState:
    """The state of a training that is over, from what its folder and the measures of its manifest say."""
    history = read_lines(folder / "history.jsonl")
    last: Mapping[str, Any] = next((entry for entry in reversed(history) if "memory" in entry), {})
    return RunState(
        complete=True,
        step=measures["steps"],
        steps=measures["steps"],
        history=history,
        seconds=measures.get("seconds"),
        seconds_left=0.0,
        tokens=measures.get("tokens"),
        tokens_per_second=measures.get("tokens_per_second"),
        memory=measures.get("peak_memory"),
        gpu_memory=last.get("gpu_memory"),
        gpu_power=_mean_power(measures),
        gpu_joules=measures.get("gpu_joules"),
        noted=None,
        measures=measures,
    )


def _mean_power(measures: Mapping[str, Any]) -> float | None:
    joules, seconds = measures.get("gpu_joules"), measures.get("seconds")
    return joules / seconds if joules and seconds else None
