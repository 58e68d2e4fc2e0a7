"""Which files documents.files names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from werkmeister.corpus.documents.kinds import is_known

_HIDDEN = (".", "~$")


@dataclass(kw_only=True)
class Found:
    """The files in order, each with the name it is called by; what named nothing; endings passed over in folders."""

    files: list[tuple[Path, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def find_files(entries: Sequence[str], roots: Sequence[Path]) -> Found:
    """Every file that the entries name, once: files, patterns (manuals/*.pdf) and folders, below the first root that
    has any; an absolute path counts for itself.

    A folder gives every file below it whose ending is one of a document; the rest is counted as passed over. What is
    named or matches a pattern is taken whatever its ending. Hidden files and Office's lock files (~$…) are left out.
    """
    found = Found()
    seen: set[Path] = set()
    for entry in entries:
        matches = _matches(entry, roots)
        if not matches:
            found.missing.append(entry)
        for path, name in matches:
            if path.is_dir():
                inner = [file for file in sorted(path.rglob("*")) if file.is_file()]
                files = [(f, f"{name.rstrip('/')}/{f.relative_to(path).as_posix()}") for f in inner]
                files = [(f, shown.removeprefix("./")) for f, shown in files if not _is_hidden(f.relative_to(path))]
                found.passed_over.update(f.suffix.lower() or f.name for f, _ in files if not is_known(f.name))
                files = [(file, shown) for file, shown in files if is_known(file.name)]
            else:
                files = [(path, name)]
            for file, shown in files:
                if file.resolve() not in seen:
                    seen.add(file.resolve())
                    found.files.append((file, _as_text(shown)))
    return found


def _matches(entry: str, roots: Sequence[Path]) -> list[tuple[Path, str]]:
    given = Path(entry).expanduser()
    if given.is_absolute():
        anchor = Path(given.anchor)
        return [(path, path.as_posix()) for path, _ in _matches(given.relative_to(anchor).as_posix(), [anchor])]
    for root in roots:
        exact = root / given
        if exact.exists():
            return [(exact, given.as_posix())]
        wild = any(char in entry for char in "*?[")
        matched = [path for path in sorted(root.glob(entry)) if path.is_file()] if wild and entry.strip() else []
        matched = [path for path in matched if not _is_hidden(path.relative_to(root))]
        if matched:
            return [(path, path.relative_to(root).as_posix()) for path in matched]
    return []


def _as_text(name: str) -> str:
    """The name with bytes that are no UTF-8 written as \\xff: a lone surrogate can stand in no artefact."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_hidden(below: Path) -> bool:
    return any(part.startswith(_HIDDEN) and part != ".." for part in below.parts)
