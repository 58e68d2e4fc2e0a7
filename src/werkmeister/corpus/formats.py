"""File formats of examples, found by content: JSONL, JSON, CSV and its kin, Parquet; each read as a stream of rows.

Every reader yields (line, row) and notes what it cannot read in Findings instead of stopping, where reading on makes
sense. A line is counted from 1, as editors do; a Parquet file has row numbers in its place.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from werkmeister.corpus.findings import Findings
from werkmeister.corpus.shapes import CHAT_COLUMNS, layout_of, split_named

Row = tuple[int, Any]
Advance = Callable[[int], None]

_BOM = codecs.BOM_UTF8
_HEAD = 1 << 16
_CHUNK = 1 << 20
_LARGEST_CELL = 1 << 27
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


class DuplicateKeyError(ValueError):
    """A JSON object names one key twice."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


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
    head = head.removeprefix(_BOM)
    text = head.lstrip()
    if not text:
        findings.add(f"{name}: is empty", "put examples in it, or take it out of dataset.files")
        return None
    if text[:1] in b"{[":
        return Format("JSON" if _is_document(text) else "JSONL")
    if _control_share(head) > 0.05:
        findings.add(f"{name}: is binary, not text", "give JSONL, JSON, CSV, TSV or Parquet")
        return None
    return _delimited(head, name, findings)


def rows(path: Path, kind: Format, name: str, findings: Findings, advance: Advance) -> Iterator[Row]:
    """The rows of a file of that format; `advance` is told the bytes that were read."""
    if kind.name == "Parquet":
        yield from _parquet_rows(path, name, findings, advance)
        return
    with path.open("rb") as file:
        if kind.name == "JSON":
            yield from _Document(file, name, findings, advance).rows()
        elif kind.name == "JSONL":
            yield from _json_lines(file, name, findings, advance)
        else:
            yield from _delimited_rows(file, kind.delimiter, name, findings, advance)


def _is_document(text: bytes) -> bool:
    """Whether JSON text is one document rather than one object a line."""
    if text[:1] == b"[":
        return True
    lines = [line.strip() for line in text.split(b"\n", 50)[:50] if line.strip()]
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


def _delimited(head: bytes, name: str, findings: Findings) -> Format | None:
    first = head.splitlines()[0].decode("utf-8", "replace")
    columns = {}
    for delimiter in (",", "\t", ";", "|"):
        try:
            columns[delimiter] = next(csv.reader([first], delimiter=delimiter), [])
        except csv.Error:
            columns[delimiter] = []
    known = [d for d, names in columns.items() if layout_of(tuple(names))]
    best = known[0] if known else max(columns, key=lambda d: len(columns[d]))
    if len(columns[best]) < 2 and not known:
        findings.add(
            f"{name}:1: begins with {first[:40]!r}, which is neither JSON nor a line of column names",
            "give JSONL, JSON, CSV, TSV or Parquet",
        )
        return None
    return Format("TSV" if best == "\t" else "CSV", best)


def _lines(file: IO[bytes], name: str, findings: Findings, advance: Advance) -> Iterator[tuple[int, str]]:
    """Decoded lines with their ends kept; a line that is not UTF-8 is noted and goes on with U+FFFD in it."""
    for number, raw in enumerate(file, 1):
        advance(len(raw))
        if number == 1:
            raw = raw.removeprefix(_BOM)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            _note_encoding(f"{name}:{number}", error, raw, findings)
            text = raw.decode("utf-8", "replace")
        if "\0" in text:
            findings.add(f"{name}:{number}: has a NUL byte at character {text.index(chr(0)) + 1}")
            text = text.replace("\0", "�")
        yield number, text


def _note_encoding(where: str, error: UnicodeDecodeError, raw: bytes, findings: Findings) -> None:
    findings.add(
        f"{where}: is not UTF-8: byte {error.start + 1} of the line is 0x{raw[error.start]:02x}",
        "save the file as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW)",
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DuplicateKeyError(key)
            seen.add(key)
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _json_lines(file: IO[bytes], name: str, findings: Findings, advance: Advance) -> Iterator[Row]:
    for number, text in _lines(file, name, findings, advance):
        if not text.strip():
            continue
        try:
            yield number, _DECODER.decode(text)
        except DuplicateKeyError as error:
            findings.add(f"{name}:{number}: key {error.key!r} stands twice in one object")
        except RecursionError:
            findings.add(f"{name}:{number}: is nested too deep")
        except json.JSONDecodeError as error:
            findings.add(f"{name}:{number}: {_json_words(error, text)}")
        except ValueError as error:
            findings.add(f"{name}:{number}: is not valid JSON: {error}")


def _json_words(error: json.JSONDecodeError, text: str) -> str:
    if _cut_off(error, text):
        return f"ends in the middle of a JSON value ({error.msg.removesuffix(' starting at')}, character {error.colno})"
    return f"is not valid JSON: {error.msg} at character {error.colno}"


def _cut_off(error: json.JSONDecodeError, text: str) -> bool:
    """Whether more text could have mended it: the text stops within a string, an escape, a word or a list."""
    end = len(text.rstrip())
    rest = text[error.pos : end]
    word = any(whole.startswith(rest) for whole in ("true", "false", "null", "-"))
    escape = error.msg.startswith("Invalid \\") and len(rest) < 8
    return not rest or word or escape or error.msg.startswith("Unterminated")


def _delimited_rows(file: IO[bytes], delimiter: str, name: str, findings: Findings, advance: Advance) -> Iterator[Row]:
    lines = (text for _, text in _lines(file, name, findings, advance))
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


class _Document:
    """One JSON document, a list of rows or an object that holds lists of rows, decoded piece by piece."""

    def __init__(self, file: IO[bytes], name: str, findings: Findings, advance: Advance) -> None:
        self.name, self.findings = name, findings
        self.text, self.at, self.line = "", 0, 1
        self._chunks = self._decoded(file, advance)

    def rows(self) -> Iterator[Row]:
        """The rows; reading ends at the first place that is not JSON, since nothing after it can be trusted."""
        try:
            if self._next() == "[":
                yield from self._list()
            else:
                yield from self._object()
            if self._next():
                self.findings.add(f"{self.name}:{self.line}: has text after the end of the JSON document")
        except DuplicateKeyError as error:
            self._stop(f"key {error.key!r} stands twice in one object")
        except RecursionError:
            self._stop("is nested too deep")
        except json.JSONDecodeError as error:
            self.line += self.text.count("\n", self.at, error.pos)
            self._stop(
                "the JSON document ends in the middle"
                if _cut_off(error, self.text)
                else f"is not valid JSON: {error.msg}"
            )
        except ValueError as error:
            self._stop(f"is not valid JSON: {error}")

    def _stop(self, what: str) -> None:
        self.findings.add(f"{self.name}:{self.line}: {what}; nothing after it could be read")

    def _list(self, extra: dict[str, Any] | None = None) -> Iterator[Row]:
        self._take("[")
        if self._next() == "]":
            self._take("]")
            return
        while True:
            self._next()
            line, row = self.line, self._value()
            yield line, {**extra, **row} if extra and isinstance(row, dict) else row
            if self._next() == "]":
                self._take("]")
                return
            self._take(",")

    def _object(self) -> Iterator[Row]:
        """A lone example, or lists of rows under any keys; a key that names a split gives it to its rows."""
        self._take("{")
        members: dict[str, Any] = {}
        line, streamed = self.line, False
        while self._next() != "}":
            key_line, key = self.line, self._value()
            if not isinstance(key, str):
                raise json.JSONDecodeError("Expecting property name enclosed in double quotes", self.text, self.at)
            if key in members:
                self.line = key_line
                raise DuplicateKeyError(key)
            self._take(":")
            if key not in CHAT_COLUMNS and self._opens_rows():
                streamed, members[key] = True, None
                split = split_named(key)
                yield from self._list({"split": split} if split else None)
            else:
                members[key] = self._value()
            if self._next() != "}":
                self._take(",")
        self._take("}")
        if not streamed:
            yield line, members

    def _opens_rows(self) -> bool:
        if self._next() != "[":
            return False
        while not (rest := self.text[self.at + 1 :].lstrip()) and self._more():
            pass
        return rest.startswith("{")

    def _next(self) -> str:
        """The next character that is no white space, without taking it; "" at the end."""
        while True:
            end = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            self.line += self.text.count("\n", self.at, end)
            self.at = end
            if end < len(self.text):
                return self.text[end]
            if not self._more():
                return ""

    def _take(self, wanted: str) -> None:
        if self._next() != wanted:
            raise json.JSONDecodeError(f"Expecting {wanted!r}", self.text, self.at)
        self.at += 1

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                # Far from the end of what was read, more text would not mend it.
                cut = error.msg.startswith("Unterminated") or error.pos > len(self.text) - 16
                if not (cut and self._more()):
                    raise
                continue
            if end == len(self.text) and self._more():
                continue
            self.line += self.text.count("\n", self.at, end)
            self.at = end
            return value

    def _more(self) -> bool:
        """Read at least as much as is held, so that a long value is not decoded over and over."""
        held = self.text[self.at :]
        pieces, size = [held], 0
        while size <= len(held):
            chunk = next(self._chunks, "")
            if not chunk:
                break
            pieces.append(chunk)
            size += len(chunk)
        self.text, self.at = "".join(pieces), 0
        return size > 0

    def _decoded(self, file: IO[bytes], advance: Advance) -> Iterator[str]:
        line, first = 1, True
        rest = b""
        while chunk := file.read(_CHUNK):
            advance(len(chunk))
            raw = rest + (chunk.removeprefix(_BOM) if first else chunk)
            first = False
            # Cut at a line end where there is one, else before the last character that may go on.
            cut = raw.rfind(b"\n") + 1 or _whole(raw)
            raw, rest = raw[:cut], raw[cut:]
            yield self._text(raw, line)
            line += raw.count(b"\n")
        if rest:
            yield self._text(rest, line)

    def _text(self, raw: bytes, line: int) -> str:
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            for number, part in enumerate(raw.split(b"\n"), line):
                try:
                    part.decode("utf-8")
                except UnicodeDecodeError as error:
                    _note_encoding(f"{self.name}:{number}", error, part, self.findings)
            text = raw.decode("utf-8", "replace")
        if "\0" in text:
            number = line + text.count("\n", 0, text.index("\0"))
            self.findings.add(f"{self.name}:{number}: has a NUL byte")
            text = text.replace("\0", "�")
        return text


_SPACE = re.compile(r"[ \t\r\n]*")


def _whole(raw: bytes) -> int:
    """The length of `raw` without a last character that is cut off."""
    for back in range(1, min(4, len(raw)) + 1):
        byte = raw[-back]
        if byte >= 0xC0:
            return len(raw) - back
        if byte < 0x80:
            break
    return len(raw)
