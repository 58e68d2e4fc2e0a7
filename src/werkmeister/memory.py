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
    """Results of one kind below `home`/memory/`kind`/, one JSON file each, named by the hash of its key.

    `get` returns None for what is not there, or was cut short by a full disk. `put` is atomic and may be called from
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
        path = self._path(name)
        try:
            value = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        self._mark(name)
        return value

    def put(self, key: Any, value: Any) -> None:
        """Keep a JSON value under a key; None cannot be kept, since `get` could not tell it from nothing."""
        if value is None:
            raise ArtefactError("None cannot be remembered")
        name = name_of(key)
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own for each writer: two threads may make the same result at once.
        part = path.with_name(f"{name}.{os.getpid()}-{threading.get_ident()}.part")
        part.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8", newline="\n")
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
        return self.folder / name[:2] / f"{name}.json"


def name_of(key: Any) -> str:
    """Thirty-two hex digits that depend on a JSON value alone."""
    text = json.dumps(key, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
