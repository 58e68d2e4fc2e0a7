"""People's own example files, whatever their format and shape, read into the one internal form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from werkmeister.chat import Example
from werkmeister.corpus.findings import Findings
from werkmeister.corpus.formats import find_format, rows
from werkmeister.corpus.json_rows import Row
from werkmeister.corpus.shapes import KNOWN_SHAPES, Given, Layout, layout_of, read_row
from werkmeister.progress import Progress, Silent

_STEP = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file or hub data set as it was read: its format, the shape of its rows, columns that were not used."""

    name: str
    format: str
    shape: str
    given: list[Given] = field(repr=False)
    unused: tuple[str, ...] = ()

    @property
    def examples(self) -> list[Example]:
        """The examples alone."""
        return [given.example for given in self.given]


def read_source(path: Path, *, name: str = "", progress: Progress | None = None) -> Source:
    """Read one file of examples; the format is found by its content, never by its extension.

    `name` is what the file is called in messages and in Example.source ("name:line"). Raises DataError with every
    mistake of the file (file, line, field), the first twenty in words. The file is read as a stream; only its
    examples are held.
    """
    findings = Findings()
    source = collect_source(path, name or path.name, findings, progress or Silent())
    findings.fail(name or str(path))
    if source is None:  # find_format notes why it returns nothing
        raise AssertionError("a file without a format has a finding")
    return source


def collect_source(path: Path, name: str, findings: Findings, progress: Progress) -> Source | None:
    """`read_source` that notes mistakes in `findings`, so that those of several files are told at once."""
    try:
        kind = find_format(path, name, findings)
        if kind is None:
            return None
        with progress.track(f"read {name}", path.stat().st_size) as track:
            held = 0

            def advance(amount: int) -> None:
                nonlocal held
                held += amount
                if held >= _STEP:
                    track.advance(held)
                    held = 0

            source = collect_rows(rows(path, kind, name, findings, advance), name, kind.name, findings)
            track.advance(held)
            return source
    except IsADirectoryError:
        findings.add(f"{name}: is a folder, and a file is needed")
    except OSError as error:
        findings.add(f"{name}: cannot be read: {error.strerror or error}")
    return None


def collect_rows(rows: Iterable[Row], name: str, kind: str, findings: Findings, *, split: str = "") -> Source:
    """Rows of one file as examples; `split` holds for rows that do not name their own."""
    given: list[Given] = []
    first: Layout | None = None
    layout: Layout | None = None
    columns: tuple[str, ...] = ()
    unused: dict[str, None] = {}
    before, seen = findings.count, 0
    for number, row in rows:
        seen += 1
        where = f"{name}:{number}"
        if not isinstance(row, dict):
            findings.add(f"{where}: is no object with named fields, such as prompt and completion")
            continue
        here = tuple(row)
        if here != columns or layout is None:
            columns, layout = here, _layout(here, first, where, findings)
            if layout is None:
                continue
            first = first or layout
            unused |= dict.fromkeys(layout.unused)
        one = read_row(row, layout, where, findings)
        if one is not None:
            given.append(one if one.split or not split else Given(one.example, split))
    if not seen and findings.count == before:
        findings.add(f"{name}: has no example")
    return Source(name=name, format=kind, shape=first.shape if first else "", given=given, unused=tuple(unused))


def _layout(columns: tuple[str, ...], first: Layout | None, where: str, findings: Findings) -> Layout | None:
    """The layout of a row: its own, or the file's when the row lacks a column of it (which is then found missing)."""
    layout = layout_of(columns)
    if first is None and layout is None:
        findings.add(
            f"{where}: columns {', '.join(columns[:12]) or '(none)'} fit no known shape",
            f"name the columns as one of: {KNOWN_SHAPES}",
        )
        return None
    if first is None or layout is None:
        return layout or first
    if (layout.prompt.lower(), layout.target.lower()) != (first.prompt.lower(), first.target.lower()):
        findings.add(f"{where}: is {layout.shape}, and the file began as {first.shape}", "keep to one shape in a file")
        return None
    return layout
