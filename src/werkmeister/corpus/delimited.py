"""Rows of CSV files and their kin, whatever the delimiter, as a stream; quoted fields may hold line breaks."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import IO, Any

from werkmeister.corpus.decoding import Advance, decoded_lines
from werkmeister.corpus.findings import Findings
from werkmeister.corpus.shapes import layout_of

_LARGEST_CELL = 1 << 27


def find_delimiter(first: str) -> tuple[str, int, bool]:
    """The delimiter of a line of column names, the number of columns, and whether they are of a known shape."""
    columns = {}
    for delimiter in (",", "\t", ";", "|"):
        try:
            columns[delimiter] = next(csv.reader([first], delimiter=delimiter), [])
        except csv.Error:
            columns[delimiter] = []
    known = [delimiter for delimiter, names in columns.items() if layout_of(tuple(names))]
    best = known[0] if known else max(columns, key=lambda delimiter: len(columns[delimiter]))
    return best, len(columns[best]), bool(known)


def delimited_rows(
    file: IO[bytes], delimiter: str, name: str, findings: Findings, advance: Advance
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows as (line where it begins, column → cell); ragged rows are noted and left out."""
    lines = (text for _, text in decoded_lines(file, name, findings, advance))
    before = csv.field_size_limit(_LARGEST_CELL)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    begins = 1
    try:
        for cells in reader:
            line, begins = begins, reader.line_num + 1
            if not any(cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                if not _check_header(header, f"{name}:{line}", findings):
                    return
            elif len(cells) != len(header):
                findings.add(
                    f"{name}:{line}: has {len(cells)} fields, and the header has {len(header)}",
                    'put fields that contain the delimiter or a line break in "quotes"',
                )
            else:
                yield line, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        what = "a quoted field is never closed" if "unexpected end" in str(error) else str(error)
        findings.add(f"{name}:{begins}: is not valid CSV: {what}; nothing after it could be read")
    finally:
        csv.field_size_limit(before)


def _check_header(header: list[str], where: str, findings: Findings) -> bool:
    twice = sorted({column for column in header if header.count(column) > 1})
    for column in twice:
        findings.add(f"{where}: column {column!r} stands twice in the header")
    return not twice
