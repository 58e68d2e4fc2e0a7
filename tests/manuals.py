"""Small Markdown manuals of machines that do not exist, with the shapes that the structural writer knows."""

from __future__ import annotations

import random
from pathlib import Path

_NAMES = (
    "Spindle speed",
    "Coolant flow",
    "Door delay",
    "Lamp brightness",
    "Alarm volume",
    "Chuck pressure",
    "Feed rate",
)
_VERBS = ("Press", "Hold", "Turn", "Release", "Open", "Close", "Lift")
_THINGS = ("the green lever", "the side panel", "the oil cap", "the front switch", "the rear valve", "the drip tray")
_TASKS = ("Lubrication", "Belt change", "Zero adjustment", "Filter cleaning", "Chip removal")


def write_manuals(folder: Path, count: int, *, first: int = 0) -> list[Path]:
    """Manuals number `first` to `first + count`, each of three sections that no other shares; the same every time."""
    folder.mkdir(parents=True, exist_ok=True)
    return [write_manual(folder, number) for number in range(first, first + count)]


def write_manual(folder: Path, number: int, *, like: int | None = None) -> Path:
    """One manual; with `like` it is a variant of that one, under its own name."""
    random_ = random.Random(number if like is None else like)
    name = f"Norvex M{number * 7 + 100}"
    rows = []
    for at, what in enumerate(random_.sample(_NAMES, 4), 1):
        rows.append(f"| {at} | {what} | {random_.randint(1, 99)} | 0 to {random_.randint(100, 999)} |")
    steps = []
    for _ in range(4):
        steps.append(f"{random_.choice(_VERBS)} {random_.choice(_THINGS)} for {random_.randint(2, 90)} seconds.")
    lines = [
        f"# {name}",
        "## Configuration parameters",
        "\n".join(("| Parameter | Name | Default | Range |", "| --- | --- | --- | --- |", *rows)),
        f"## {random_.choice(_TASKS)}",
        "\n".join(f"{at}. {step}" for at, step in enumerate(steps, 1)),
        "## Technical data",
        "\n".join(
            (
                *("| Property | Value |", "| --- | --- |"),
                f"| Weight | {random_.randint(20, 900)} kg |",
                f"| Oil grade | VG {random_.choice((32, 46, 68, 100))} |",
                f"| Service number | SN-{random_.randint(1000, 9999)} |",
            )
        ),
    ]
    path = folder / f"norvex-{number:03}.md"
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return path
