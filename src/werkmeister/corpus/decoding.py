"""Bytes of example files into text: UTF-8 line by line, with every bad byte noted at its line."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import IO

from werkmeister.corpus.findings import Findings

Advance = Callable[[int], None]
BOM = codecs.BOM_UTF8


def decoded_lines(file: IO[bytes], name: str, findings: Findings, advance: Advance) -> Iterator[tuple[int, str]]:
    """Decoded lines with their ends kept; a line that is not UTF-8 is noted and goes on with U+FFFD in it."""
    for number, raw in enumerate(file, 1):
        advance(len(raw))
        if number == 1:
            raw = raw.removeprefix(BOM)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            note_encoding(f"{name}:{number}", error, raw, findings)
            text = raw.decode("utf-8", "replace")
        if "\0" in text:
            findings.add(f"{name}:{number}: has a NUL byte at character {text.index(chr(0)) + 1}")
            text = text.replace("\0", "�")
        yield number, text


def note_encoding(where: str, error: UnicodeDecodeError, raw: bytes, findings: Findings) -> None:
    """Note the first byte of a line that is not UTF-8."""
    findings.add(
        f"{where}: is not UTF-8: byte {error.start + 1} of the line is 0x{raw[error.start]:02x}",
        "save the file as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW)",
    )
