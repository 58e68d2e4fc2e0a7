"""What a person sees in the terminal: bars, tables and errors. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from werkmeister.building.processes import is_main
from werkmeister.errors import WerkmeisterError
from werkmeister.progress import Progress, Silent, Track


def live() -> Progress:
    """Bars where a person watches, plain lines where a file or a pipe does."""
    if not is_main():
        return Silent()
    return _Bars() if sys.stderr.isatty() else _Lines()


class _Bars:
    """Live bars drawn by rich."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    @contextmanager
    def track(self, label: str, total: float | None) -> Iterator[Track]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self._console) as bars:
            task = bars.add_task(label, total=total, shown="")
            yield _BarTrack(bars, task)


class _BarTrack:
    def __init__(self, bars: Any, task: Any) -> None:
        self._bars, self._task = bars, task

    def advance(self, amount: float = 1, **shown: str) -> None:
        fields = {"shown": _words(shown)} if shown else {}
        self._bars.update(self._task, advance=amount, **fields)


class _Lines:
    """A line at the start, every twenty seconds, and at the end."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def track(self, label: str, total: float | None) -> Iterator[Track]:
        track = _LineTrack(label, total)
        yield track
        track.report()


class _LineTrack:
    EVERY = 20.0

    def __init__(self, label: str, total: float | None) -> None:
        self._label, self._total, self._done = label, total, 0.0
        self._begin = self._told = time.monotonic()
        self._skipped = 0.0
        self._shown: dict[str, str] = {}

    def advance(self, amount: float = 1, **shown: str) -> None:
        if not self._done and time.monotonic() - self._begin < 0.5:
            self._skipped = amount  # A resumed run begins with a jump that took no time.
        self._done += amount
        self._shown |= shown
        if time.monotonic() - self._told >= self.EVERY:
            self.report()

    def report(self) -> None:
        self._told = time.monotonic()
        passed = self._told - self._begin
        parts = [f"{self._label}: {self._done:g}" + (f"/{self._total:g}" if self._total else "")]
        if self._shown:
            parts.append(_words(self._shown))
        fresh = self._done - self._skipped
        if self._total and fresh > 0 and self._done < self._total:
            parts.append(f"{passed / fresh * (self._total - self._done):.0f} s left")
        else:
            parts.append(f"{passed:.0f} s")
        print(", ".join(parts), file=sys.stderr, flush=True)


def _words(shown: Mapping[str, str]) -> str:
    return "  ".join(f"{name} {value}" for name, value in shown.items())


def show_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """A table on stdout; every column but the first stands to the right, and texts that are no figures to the left."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left")
    for index, column in enumerate(columns):
        figures = index > 0 and all(not row[index] or row[index][0] in "0123456789+-−–—<≈" for row in rows)
        table.add_column(Text(column), justify="right" if figures else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # as it stands: a name such as "e[/b]" is no markup
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print(table)


def show_error(error: WerkmeisterError, *, as_json: bool) -> None:
    """An error: for a person on stderr, as JSON on stdout where JSON was asked for."""
    if as_json:
        problems = list(error.problems)
        show_json({"error": {"message": error.message, "problems": problems, "hint": error.hint}})
    else:
        print(f"Error: {error}", file=sys.stderr)
