"""The verb watch: a training seen from another terminal, while it runs and afterwards."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from werkmeister.artefact import holder
from werkmeister.building.run_report import figures, run_page, standing
from werkmeister.building.run_state import RunState, read_run
from werkmeister.config import Settings
from werkmeister.console import show_json
from werkmeister.errors import ArtefactError
from werkmeister.pipeline import artefacts_of

EVERY = 1.0
"""Seconds between two looks."""
_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 60


def watch_expert(
    settings: Settings, *, once: bool, report: Path | None, as_json: bool, wait: Callable[[float], None] = time.sleep
) -> None:
    """Show where the training of an expert stands, and go on showing it until it ends.

    With `once` or `as_json` it is shown once. `report` is where the page with all curves is written, as of now and
    again at the end. Raises ArtefactError where no training was begun.
    """
    home, name = artefacts_of(settings.folder), settings.table("expert").name or settings.folder.resolve().name
    state, running = _look(settings, home)
    if as_json:
        show_json(_as_json(state, running))
    elif once or not running:
        _print(state, running)
    else:
        state, running = _follow(settings, home, wait)
    if report is not None:
        report.write_text(run_page(state, name=name, running=running), encoding="utf-8")
        print(f"See {report}", file=sys.stderr)
    elif state.complete and not as_json:
        print(f"See {home / 'train' / 'report.html'}")


def _look(settings: Settings, home: Path) -> tuple[RunState, bool]:
    """The training as it stands, and whether a process is at work on it."""
    state = read_run(home / "train")
    if state is None:
        busy = holder(home)
        raise ArtefactError(
            f"no training of {settings.folder} was begun"
            + (f"; process {busy} is at an earlier stage" if busy is not None else ""),
            hint=f"werkmeister build {settings.folder}" if busy is None else "wait for it, and watch then",
        )
    return state, not state.complete and holder(home) is not None


def _follow(settings: Settings, home: Path, wait: Callable[[float], None]) -> tuple[RunState, bool]:
    """Show every change until the training ends or its process does."""
    state, running = _look(settings, home)
    if not sys.stdout.isatty():
        told = -1
        while running:
            if state.step != told:
                print(_line(state), flush=True)
                told = state.step
            wait(EVERY)
            state, running = _look(settings, home)
        print(standing(state, running=running))
        return state, running
    from rich.live import Live

    with Live(_panel(state, running), auto_refresh=False) as live:
        while running:
            wait(EVERY)
            state, running = _look(settings, home)
            live.update(_panel(state, running), refresh=True)
    return state, running


def _print(state: RunState, running: bool) -> None:
    from rich.console import Console

    Console(highlight=False).print(_panel(state, running))


def _panel(state: RunState, running: bool) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for word, figure in figures(state):
        table.add_row(Text(word, style="dim"), Text(figure))
    lines: list[Any] = [Text(standing(state, running=running), style="bold"), table]
    for word, key in (("loss", "loss"), ("validation", "eval_loss")):
        curve = sparkline([value for _, value in state.series(key)])
        if curve:
            lines.append(Text(f"{word:11}{curve}"))
    if running and state.noted is not None and time.time() - state.noted > 60:
        lines.append(Text(f"No step for {time.time() - state.noted:.0f} s: it evaluates, or a step takes that long."))
    return Group(*lines)


def sparkline(values: list[float]) -> str:
    """A curve in one line of blocks, at most 60 wide, each the mean of its stretch; "" for fewer than two values."""
    if len(values) < 2:
        return ""
    width = min(_WIDTH, len(values))
    cuts = [round(i * len(values) / width) for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means), max(means)
    span = high - low or 1.0
    return "".join(_BLOCKS[min(7, int((mean - low) / span * 8))] for mean in means)


def _line(state: RunState) -> str:
    wanted = ("step", "loss", "validation loss", "tokens/s", "time left")
    return ", ".join(f"{word} {figure}" for word, figure in figures(state) if word in wanted)


def _as_json(state: RunState, running: bool) -> dict[str, Any]:
    """The state with the newest figures by name; null is "not measured"."""
    names = ("loss", "eval_loss", "eval_mark", "learning_rate", "grad_norm")
    left = vars(replace(state, history=tuple(state.history), measures=dict(state.measures)))
    return {"running": running, **{name: state.latest(name) for name in names}, **left}
