"""Rows of JSON files, one object a line or one document, decoded as a stream; a key that stands twice is a mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from werkmeister.corpus.decoding import BOM, Advance, decoded_lines, note_encoding
from werkmeister.corpus.findings import Findings
from werkmeister.corpus.shapes import CHAT_COLUMNS, split_named

Row = tuple[int, Any]

_CHUNK = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")


class DuplicateKeyError(ValueError):
    """A JSON object names one key twice."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


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


def json_lines(file: IO[bytes], name: str, findings: Findings, advance: Advance) -> Iterator[Row]:
    """Rows of JSON Lines; a line that is not one JSON value is noted and left out."""
    for number, text in decoded_lines(file, name, findings, advance):
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
    # Not error.colno: past a line's end it counts from 1 again.
    place = f"character {min(error.pos, len(text.rstrip())) + 1}"
    if _cut_off(error, text):
        return f"ends in the middle of a JSON value ({error.msg.removesuffix(' starting at')}, {place})"
    return f"is not valid JSON: {error.msg} at {place}"


def _cut_off(error: json.JSONDecodeError, text: str) -> bool:
    """Whether more text could have mended it: the text stops within a string, an escape, a word or a list."""
    end = len(text.rstrip())
    rest = text[error.pos : end]
    word = any(whole.startswith(rest) for whole in ("true", "false", "null", "-"))
    escape = error.msg.startswith("Invalid \\") and len(rest) < 8
    return not rest or word or escape or error.msg.startswith("Unterminated")


def json_document(file: IO[bytes], name: str, findings: Findings, advance: Advance) -> Iterator[Row]:
    """Rows of one JSON document: a list of rows, an object that holds lists of rows, or a lone example."""
    return _Document(file, name, findings, advance).rows()


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
        """A lone example, or lists of rows under any keys; a key that names a split gives it to its rows.

        Members beside lists of rows (version, licence) hold no examples and are passed over.
        """
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
            raw = rest + (chunk.removeprefix(BOM) if first else chunk)
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
                    note_encoding(f"{self.name}:{number}", error, part, self.findings)
            text = raw.decode("utf-8", "replace")
        if "\0" in text:
            number = line + text.count("\n", 0, text.index("\0"))
            self.findings.add(f"{self.name}:{number}: has a NUL byte")
            text = text.replace("\0", "�")
        return text


def _whole(raw: bytes) -> int:
    """The length of `raw` without a last character that is cut off."""
    for back in range(1, min(4, len(raw)) + 1):
        byte = raw[-back]
        if byte >= 0xC0:
            return len(raw) - back
        if byte < 0x80:
            break
    return len(raw)
