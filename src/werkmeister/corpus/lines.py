"""JSON Lines of an artefact: records written, and read with the place of what is none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from werkmeister.errors import DataError


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one record a line (UTF-8 JSON)."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_lines(path: Path, needed: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """Read what `write_lines` wrote; DataError names file and line of what lacks a `needed` key, or is no record."""
    found = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
                missing = [name for name in needed if name not in record]
            except (ValueError, TypeError) as error:
                raise DataError(f"{path}:{number}: is no line of an artefact ({error})") from error
            if missing:
                raise DataError(f"{path}:{number}: lacks {', '.join(missing)}")
            found.append(record)
    return tuple(found)
