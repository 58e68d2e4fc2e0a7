"""Reading one file: bytes into a Document, in this process or, safely, in a worker of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from werkmeister.artefact import sha256_of
from werkmeister.corpus.documents.contents import without_contents
from werkmeister.corpus.documents.document import Block, Document, Unread
from werkmeister.corpus.documents.kinds import UnreadableError, format_of
from werkmeister.corpus.documents.language import detect_language
from werkmeister.corpus.documents.parts import Reading, counted, lay_out
from werkmeister.errors import WerkmeisterError

VERSION = 2
"""Rises when the same file would be read otherwise: what was remembered before does not count then, and artefacts
that were made so are stale."""

_SECONDS = 120.0
_SECONDS_A_MEGABYTE = 10.0


def read_document(path: Path, name: str = "", *, seconds: float = 0) -> Document | Unread:
    """Read one file in a worker process of its own; a file that gives no text becomes an Unread with the reason.

    `name` is what the document is called (default: the file's name), `seconds` the longest that it may take (0: two
    minutes and ten seconds a megabyte). For many files one `Reader` is faster.
    """
    with Reader(seconds=seconds) as reader:
        return reader.read(path, name or path.name)


class Reader:
    """Reads files one after another in one worker process, which is started anew when a file crashed or hung it."""

    def __init__(self, *, seconds: float = 0) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def read(self, path: Path, name: str) -> Document | Unread:
        """The file's Document, or Unread with the reason; raises nothing for whatever is in the file."""
        try:
            size = path.stat().st_size
            sha256 = sha256_of(path)
        except OSError as error:
            return Unread(name=name, sha256="", reason=f"cannot be opened ({error.strerror}): check its permissions")
        limit = self.seconds or _SECONDS + _SECONDS_A_MEGABYTE * size / 1e6
        answer = self._ask({"path": str(path.resolve()), "name": name}, limit)
        if "document" in answer:
            return document_from_record(answer["document"])
        return Unread(name=name, sha256=sha256, reason=answer["reason"])

    def _ask(self, request: Mapping[str, str], limit: float) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            self._stop()
            return {"reason": f"took longer than {limit:.0f} s and was given up: split it, or convert it to text"}
        except BrokenPipeError:
            line = b""
        if not line:
            said = self._last_words()
            self._stop()
            return {"reason": f"crashed the reader ({said}): open it and save it anew, or convert it to text"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._stop()
            command = [sys.executable, "-m", "werkmeister.corpus.documents.worker"]
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by _stop)
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=_environment()
            )
            self._lines = queue.SimpleQueue()
            threading.Thread(target=_pump, args=(self._process, self._lines), daemon=True).start()
            # Its first line says that it runs: what fails before is no document's fault.
            if not self._lines.get():
                said = self._last_words()
                self._stop()
                raise WerkmeisterError(f"the process that reads documents does not start: {said}")
        return self._process

    def _last_words(self) -> str:
        """What the worker printed last before it ended, or how it ended."""
        assert self._process is not None and self._errors is not None
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").split("\n")
        return next((line.strip()[:160] for line in reversed(said) if line.strip()), f"exit code {code}")

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if stream is not None:
                        stream.close()
        if self._errors is not None:
            self._errors.close()
            self._errors = None


def _environment() -> dict[str, str]:
    """This process's own, with its import path: the worker must find the same package."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUTF8": "1"}


def _pump(process: subprocess.Popen[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    """Pass on the worker's lines, and b"" when it ended: a pipe cannot be read with a time limit on Windows."""
    assert process.stdout is not None
    with contextlib.suppress(ValueError, OSError):
        for line in process.stdout:
            lines.put(line)
    lines.put(b"")


def read_bytes(data: bytes, name: str) -> Document:
    """Read a file's bytes in this process. Raises UnreadableError with the reason where they give no text.

    Damaged files may crash or hang the libraries below: `read_document` is the safe door.
    """
    format = format_of(name, data)
    reading = _parts(data, format)
    text, blocks = lay_out(reading.parts)
    if not text.strip():
        raise UnreadableError(_empty(format, reading))
    return Document(
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        format=format,
        title=_title(reading, name),
        text=text,
        blocks=blocks,
        language=detect_language(text),
        pages=reading.pages,
        empty_pages=reading.empty_pages,
        dropped=reading.dropped,
    )


def record_of(document: Document) -> dict[str, Any]:
    """The document as a JSON object."""
    return {key: getattr(document, key) for key in Document.__dataclass_fields__ if key != "blocks"} | {
        "blocks": [asdict(block) for block in document.blocks]
    }


def document_from_record(record: Mapping[str, Any]) -> Document:
    """The inverse of `record_of`."""
    return Document(
        **dict(record)
        | {
            "blocks": tuple(Block(**block) for block in record["blocks"]),
            "empty_pages": tuple(record["empty_pages"]),
            "dropped": tuple((reason, count) for reason, count in record["dropped"]),
        }
    )


def _parts(data: bytes, format: str) -> Reading:
    if format == "pdf":
        from werkmeister.corpus.documents.extracting import extract

        return extract(data, format)
    reading = _unpaged(data, format)
    kept, dropped = without_contents(reading.parts)
    return replace(reading, parts=tuple(kept), dropped=counted(dropped + Counter(dict(reading.dropped))))


def _unpaged(data: bytes, format: str) -> Reading:
    from werkmeister.corpus.documents.asciidoc import read_asciidoc
    from werkmeister.corpus.documents.extracting import extract
    from werkmeister.corpus.documents.mail import read_mail
    from werkmeister.corpus.documents.markdown import read_markdown
    from werkmeister.corpus.documents.plain import decode, read_plain
    from werkmeister.corpus.documents.rst import read_rst

    if format == "email":
        return read_mail(data)
    readers = {"markdown": read_markdown, "text": read_plain, "asciidoc": read_asciidoc, "rst": read_rst}
    if format in readers:
        return readers[format](decode(data))
    return extract(data, format)


def _title(reading: Reading, name: str) -> str:
    first = next((part for part in reading.parts if part.kind == "heading"), None)
    if reading.title:
        return " ".join(reading.title.split())
    if first is not None and first.level == 1:
        return " ".join(first.text.split())
    return Path(name).stem.replace("_", " ").strip()


def _empty(format: str, reading: Reading) -> str:
    if format == "pdf":
        return (
            f"has {reading.pages} pages and no text: it was scanned; "
            "make its text readable with OCR (ocrmypdf OLD NEW), and use the new file"
        )
    return "holds no text: put the text into it, or take it out of documents.files"
