"""API keys: made here, shown once, kept as hashes in the expert's folder."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Any

from werkmeister.errors import SettingsError

KEYS_FILE = "keys.json"
_BEGIN = "wm-"
_BYTES = 32


def new_key(expert: Path, name: str) -> str:
    """Make a key for somebody called `name` and return it; only its hash is kept. A name's former key is replaced.

    SHA-256 without salt or stretching is enough: a key is 256 random bits, which nobody guesses or looks up, unlike a
    password.
    """
    if not name.strip() or len(name) > 64:
        raise SettingsError(f"{name!r} is no name for a key", hint="give 1 to 64 characters that say who will use it")
    path = expert / KEYS_FILE
    kept = [entry for entry in _read(path) if entry["name"] != name]
    key = _BEGIN + secrets.token_urlsafe(_BYTES)
    kept.append({"name": name, "sha256": _hash(key)})
    part = path.with_name(f"{KEYS_FILE}.{os.getpid()}.part")
    part.touch(mode=0o600)
    part.write_text(json.dumps(kept, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    part.replace(path)
    return key


class Keys:
    """The keys of an expert. A changed file is read again, so a key is made or taken back without a restart."""

    def __init__(self, expert: Path) -> None:
        self._path = expert / KEYS_FILE
        self._stamp: tuple[int, int] | None = None
        self._hashes: list[tuple[str, str]] = []
        self._reload()

    def __len__(self) -> int:
        self._reload()
        return len(self._hashes)

    def owner(self, key: str) -> str | None:
        """Whose key it is, None for nobody's. The time taken does not tell how much of a key was right."""
        self._reload()
        given, found = _hash(key), None
        for name, known in self._hashes:
            if hmac.compare_digest(given, known):
                found = name
        return found

    def _reload(self) -> None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino)
        except OSError:
            stamp = None
        if stamp != self._stamp:
            self._hashes = [(entry["name"], entry["sha256"]) for entry in _read(self._path)] if stamp else []
            self._stamp = stamp


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [{"name": str(entry["name"]), "sha256": str(entry["sha256"])} for entry in entries]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path} is not a file of keys ({error})",
            hint="delete it and make new keys with: werkmeister serve --new-key",
        ) from error
