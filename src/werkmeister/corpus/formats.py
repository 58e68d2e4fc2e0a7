"""File formats of examples, found by content: JSONL, JSON, CSV and its kin, Parquet; each read as a stream of rows.

Every reader yields (line, row) and notes what it cannot read in Findings instead of stopping, where reading on makes
sense. A line is counted from 1, as editors do; a Parquet file has row numbers in its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from werkmeister.corpus.decoding import BOM, Advance
from werkmeister.corpus.delimited import delimited_rows, find_delimiter
from werkmeister.corpus.findings import Findings
from werkmeister.corpus.json_rows import Row, json_document, json_lines
from werkmeister.corpus.shapes import CHAT_COLUMNS, layout_of

_HEAD = 1 << 16
_NOT_TEXT = {
    b"PAR1": "parquet",
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"PK\x03\x04": "a zip file or a spreadsheet: unpack it, or save the sheet as CSV",
    b"%PDF": "a PDF document",
    b"GGUF": "a model file",
    b"SQLite format 3": "a SQLite database",
    b"BZh": "a bzip2 file: unpack it first",
    b"\xfd7zXZ": "an xz file: unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstd file: unpack it first",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
}


@dataclass(frozen=True)
class Format:
    """What a file turned out to be; `delimiter` is set for CSV and its kin."""

    name: str
    delimiter: str = ""


def find_format(path: Path, name: str, findings: Findings) -> Format | None:
    """Tell the format from the first bytes; a finding and None when there is none."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for magic, what in _NOT_TEXT.items():
        if head.startswith(magic):
            if what == "parquet":
                return Format("Parquet")
            findings.add(f"{name}: is {what}")
            return None
    head = head.removeprefix(BOM)
    text = head.lstrip()
    if not text:
        findings.add(f"{name}: is empty", "put examples in it, or take it out of dataset.files")
        return None
    if text[:1] in b"{[":
        return Format("JSON" if _is_document(text) else "JSONL")
    if _control_share(head) > 0.05:
        findings.add(f"{name}: is binary, not text", "give JSONL, JSON, CSV, TSV or Parquet")
        return None
    return _delimited(text, name, findings)


def rows(path: Path, kind: Format, name: str, findings: Findings, advance: Advance) -> Iterator[Row]:
    """The rows of a file of that format; `advance` is told the bytes that were read."""
    if kind.name == "Parquet":
        yield from _parquet_rows(path, name, findings, advance)
        return
    with path.open("rb") as file:
        if kind.name == "JSON":
            yield from json_document(file, name, findings, advance)
        elif kind.name == "JSONL":
            yield from json_lines(file, name, findings, advance)
        else:
            yield from delimited_rows(file, kind.delimiter, name, findings, advance)


def _is_document(text: bytes) -> bool:
    """Whether JSON text is one document rather than one object a line."""
    if text[:1] == b"[":
        return True
    lines = [line.strip() for line in text.split(b"\n", 50)[:50] if line.strip()]
    try:
        whole = json.loads(lines[0])
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict) and (len(lines) > 1 or layout_of(tuple(whole))):
        return False
    # A member that lists objects: {"data": [{ ...  But {"messages": [{ ... is an example of its own.
    member = re.match(rb'\{\s*"([^"\\]+)"\s*:\s*\[\s*\{', text)
    if member and member.group(1).decode("utf-8", "replace") not in CHAT_COLUMNS:
        return True
    # Pretty-printed: the first line opens and does not close, and the next is no object of its own.
    opens = lines[0].endswith((b"{", b"[", b",")) and not lines[0].endswith(b"},")
    return opens and len(lines) > 1 and not lines[1].startswith(b"{")


def _control_share(head: bytes) -> float:
    control = sum(head.count(byte) for byte in range(32) if byte not in b"\t\n\r\f\x1b")
    return control / len(head)


def _delimited(text: bytes, name: str, findings: Findings) -> Format | None:
    first = text.splitlines()[0].decode("utf-8", "replace")
    delimiter, columns, known = find_delimiter(first)
    if columns < 2 and not known:
        findings.add(
            f"{name}:1: begins with {first[:40]!r}, which is neither JSON nor a line of column names",
            "give JSONL, JSON, CSV, TSV or Parquet",
        )
        return None
    return Format("TSV" if delimiter == "\t" else "CSV", delimiter)


def _parquet_rows(path: Path, name: str, findings: Findings, advance: Advance) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            share = path.stat().st_size / max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
                advance(int(share * batch.num_rows))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        findings.add(f"{name}: is a damaged Parquet file after row {number}: {str(error).splitlines()[0]}")
