"""Which files documents.files names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from werkmeister.config import EXPERT_FILE
from werkmeister.corpus.documents.kinds import is_known

_HIDDEN = (".", "~$")
_MADE = "artefacts"


@dataclass(kw_only=True)
class Found:
    """The files in order, each with the name it is called by; what named nothing; endings passed over in folders.

    `lost` are links that lead nowhere and folders that cannot be looked into, by name, with the reason in words.
    """

    files: list[tuple[Path, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    lost: list[tuple[str, str]] = field(default_factory=list)


def find_files(entries: Sequence[str], roots: Sequence[Path]) -> Found:
    """Every file that the entries name, once: files, patterns (manuals/*.pdf) and folders, below the first root that
    has any; an absolute path counts for itself.

    A folder gives every file below it whose ending is one of a document, through links too; the rest is counted as
    passed over. What is named or matches a pattern is taken whatever its ending. Hidden files, Office's lock files
    (~$…) and what an expert's own stages made are left out.
    """
    found = Found()
    seen: set[Path] = set()
    for entry in entries:
        matches = _matches(entry, roots)
        if not matches:
            found.missing.append(entry)
        for path, name in matches:
            if path.is_dir():
                inner = _below(path, name, found)
                files = [(f, f"{name.rstrip('/')}/{f.relative_to(path).as_posix()}") for f in inner]
                files = [(f, shown.removeprefix("./")) for f, shown in files]
                found.passed_over.update(f.suffix.lower() or f.name for f, _ in files if not is_known(f.name))
                files = [(file, shown) for file, shown in files if is_known(file.name)]
            else:
                files = [(path, name)]
            for file, shown in files:
                if file.resolve() not in seen:
                    seen.add(file.resolve())
                    found.files.append((file, _as_text(shown)))
    return found


def _below(folder: Path, name: str, found: Found) -> list[Path]:
    """Every file below a folder in order; those behind links to folders come last, so that no other is renamed."""
    files: list[Path] = []
    walked: set[str] = set()
    links = [folder]

    def lost(path: Path, reason: str) -> None:
        found.lost.append((_as_text(f"{name.rstrip('/')}/{path.relative_to(folder).as_posix()}"), reason))

    def unreadable(error: OSError) -> None:
        lost(Path(error.filename), f"cannot be looked into ({error.strerror}): check its permissions")

    while links:
        here: list[Path] = []
        for at, folders, names in os.walk(links.pop(0), onerror=unreadable):
            # Of the same folder through a link and by itself, one is enough: so a loop of links ends.
            new = os.path.realpath(at) not in walked
            walked.add(os.path.realpath(at))
            kept = [Path(at, one) for one in sorted(folders) if new and not _is_left_out(Path(at), one)]
            folders[:] = [one.name for one in kept if not one.is_symlink()]
            links += [one for one in kept if one.is_symlink()]
            for one in names if new else ():
                path = Path(at, one)
                if one.startswith(_HIDDEN):
                    continue
                if path.is_file():
                    here.append(path)
                elif path.is_symlink() and is_known(one):
                    lost(path, "is a link that leads nowhere: mend or remove it")
        files += sorted(here)
    return files


def _is_left_out(folder: Path, name: str) -> bool:
    """Whether a folder is hidden, or holds what the stages of an expert made: no document of anybody's."""
    return name.startswith(_HIDDEN) or (name == _MADE and (folder / EXPERT_FILE).is_file())


def _matches(entry: str, roots: Sequence[Path]) -> list[tuple[Path, str]]:
    given = Path(entry).expanduser()
    if given.is_absolute():
        anchor = Path(given.anchor)
        return [(path, path.as_posix()) for path, _ in _matches(given.relative_to(anchor).as_posix(), [anchor])]
    for root in roots:
        exact = root / given
        if _exists(exact):
            return [(exact, given.as_posix())]
        wild = any(char in entry for char in "*?[")
        matched = [path for path in _glob(root, entry) if path.is_file()] if wild and entry.strip() else []
        matched = [path for path in matched if not _is_hidden(root, path.relative_to(root))]
        if matched:
            return [(path, path.relative_to(root).as_posix()) for path in matched]
    return []


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # longer than the system allows, or with a NUL
        return False


def _glob(root: Path, pattern: str) -> list[Path]:
    try:
        return sorted(root.glob(pattern))
    except ValueError:  # no pattern, such as manuals/**.md
        return []


def _as_text(name: str) -> str:
    """The name with bytes that are no UTF-8 written as \\xff: a lone surrogate can stand in no artefact."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_hidden(root: Path, below: Path) -> bool:
    folders = zip(below.parents, below.parts[::-1], strict=False)
    return any(part != ".." and _is_left_out(root / parent, part) for parent, part in folders)
