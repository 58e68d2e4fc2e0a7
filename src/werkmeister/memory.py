"""Remembered results: costly pieces of a stage's work, kept outside its artefact by the hash of what decides them.

A stage whose inputs changed a little starts a new artefact; what it made of the inputs that stayed is found here. The
same store makes a stage resumable after `kill -9` in pieces, and keeps what was paid for when settings change.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from werkmeister.errors import ArtefactError

_FOLDER = "memory"


class Memory:
    """Results of one kind below `home`/memory/`kind`/, one file each, named by the hash of its key.

    A file holds the SHA-256 of its second line, which is the result as JSON. `get` returns None for what is not there,
    was cut short by a full disk, or is not what was put: then it is made again. `put` is atomic and may be called from
    several threads. `forget_others` deletes what was neither read nor written through this object: the results of
    inputs that are gone.
    """

    def __init__(self, home: Path, kind: str) -> None:
        self.folder = home / _FOLDER / kind
        self._used: set[str] = set()
        self._lock = threading.Lock()

    def get(self, key: Any) -> Any | None:
        """What was put under this key (any JSON value that decides the result), or None."""
        name = name_of(key)
        try:
            seal, _, text = self._path(name).read_bytes().partition(b"\n")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        if seal != _seal(text):
            return None
        self._mark(name)
        return json.loads(text)

    def put(self, key: Any, value: Any) -> None:
        """Keep a JSON value under a key; None cannot be kept, since `get` could not tell it from nothing."""
        if value is None:
            raise ArtefactError("None cannot be remembered")
        name = name_of(key)
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own for each writer: two threads may make the same result at once.
        part = path.with_name(f"{name}.{os.getpid()}-{threading.get_ident()}.part")
        text = json.dumps(value, ensure_ascii=False).encode()
        part.write_bytes(_seal(text) + b"\n" + text)
        part.replace(path)
        self._mark(name)

    def forget_others(self) -> int:
        """Delete every result that was not used through this object, and return how many."""
        gone = 0
        for path in self.folder.glob("*/*"):
            if path.stem not in self._used:
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    def _mark(self, name: str) -> None:
        with self._lock:
            self._used.add(name)

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.sealed"


def _seal(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


def name_of(key: Any) -> str:
    """Thirty-two hex digits that depend on a JSON value alone."""
    text = json.dumps(key, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
