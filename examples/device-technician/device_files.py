"""The device files of ``@zwave-js/config``: JSON with comments, templates to import, and conditions.

A file may take over a piece of another one, ``{"$import": "templates/x.json#name"}``, and hold entries that are only
meant for some firmware, ``{"$if": "firmwareVersion >= 1.5", …}``. What comes out here is plain: everything imported,
and of the conditional entries those of the newest firmware and of the first product that the file names.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')
_TERM = re.compile(r"\s*(\w+)\s*(===|!==|>=|<=|>|<)\s*([\w.]+)\s*")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "===": operator.eq,
    "!==": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_NEWEST = "255.255"


class DeviceFileError(Exception):
    """A device file that cannot be read as one; the message names it."""


def parse(text: str) -> Any:
    """JSON with ``//`` and ``/* */`` comments and commas before a closing bracket."""
    bare = _COMMENT.sub(lambda found: found.group(1) or "", text)
    return json.loads(_TRAILING_COMMA.sub(lambda found: found.group(1) or "", bare))


def version(text: str) -> tuple[int, ...]:
    """A firmware version to compare with others: 1.10 is newer than 1.9."""
    return tuple(int(part, 16 if part.startswith("0x") else 10) for part in text.split("."))


def holds(condition: str, facts: dict[str, str]) -> bool:
    """Whether ``a >= 1.5 && b === 0x01 || …`` holds; DeviceFileError when it is not of that form."""
    return any(all(_term(term, facts) for term in group.split("&&")) for group in condition.split("||"))


def _term(term: str, facts: dict[str, str]) -> bool:
    found = _TERM.fullmatch(term)
    if not found or found.group(1) not in facts:
        raise DeviceFileError(f"the condition {term.strip()!r} is of no known form")
    name, sign, value = found.groups()
    return _COMPARE[sign](version(facts[name]), version(value))


@dataclass
class DeviceFiles:
    """The files below one folder ``config/devices``; what was read is kept, since templates are imported often."""

    root: Path
    _read: dict[str, Any] = field(default_factory=dict)

    def names(self) -> Iterator[str]:
        """Every device file, relative to the folder, in order; templates are none."""
        for path in sorted(self.root.rglob("*.json")):
            name = path.relative_to(self.root)
            if "templates" not in name.parts and name.name != "index.json":
                yield name.as_posix()

    def device(self, name: str) -> dict[str, Any]:
        """One device with all that it imports, conditions decided."""
        whole = self._resolved(self._file(name), name, ())
        first = (whole.get("devices") or [{}])[0]
        facts = {
            "firmwareVersion": whole.get("firmwareVersion", {}).get("max", _NEWEST),
            "sdkVersion": _NEWEST,
            "productType": first.get("productType", "0x0000"),
            "productId": first.get("productId", "0x0000"),
        }
        decided = _decided(whole, facts)
        assert isinstance(decided, dict)
        return decided

    def _file(self, name: str) -> Any:
        if name not in self._read:
            try:
                self._read[name] = parse((self.root / name).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise DeviceFileError(f"{name}: {error}") from error
        return self._read[name]

    def _resolved(self, value: Any, name: str, trail: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [self._resolved(item, name, trail) for item in value]
        if not isinstance(value, dict):
            return value
        result: dict[str, Any] = {}
        for key, inner in value.items():
            if key == "$import":
                # What stands in the file itself, before the import or behind it, goes before what is imported.
                result = self._imported(inner, name, trail) | result
            else:
                result[key] = self._resolved(inner, name, trail)
        return result

    def _imported(self, reference: str, name: str, trail: tuple[str, ...]) -> dict[str, Any]:
        file, _, place = reference.partition("#")
        target = _beside(name, file) if file else name
        full = f"{target}#{place}"
        if full in trail:
            raise DeviceFileError(f"{name}: {reference} imports itself")
        found = self._file(target)
        try:
            for part in place.split("/") if place else ():
                found = found[part] if isinstance(found, dict) else next(item for item in found if item["#"] == part)
        except (KeyError, TypeError, StopIteration) as error:
            raise DeviceFileError(f"{name}: there is no {reference}") from error
        imported = self._resolved(found, target, (*trail, full))
        if not isinstance(imported, dict):
            raise DeviceFileError(f"{name}: {reference} is not an object")
        return imported


def _beside(name: str, file: str) -> str:
    if file.startswith("~/"):
        return file[2:]
    parts: list[str] = []
    for part in (PurePosixPath(name).parent / file).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def _decided(value: Any, facts: dict[str, str]) -> Any:
    """The value with conditions decided: an entry that does not hold is left out; of alternatives the first that does.

    Alternatives are lists that end in the case without condition (``label``), and parameters of one number.
    """
    if isinstance(value, dict):
        return {key: _decided(_chosen(key, inner, facts), facts) for key, inner in value.items() if key != "$if"}
    if isinstance(value, list):
        return [_decided(item, facts) for item in value if _applies(item, facts)]
    return value


def _applies(item: Any, facts: dict[str, str]) -> bool:
    return not (isinstance(item, dict) and "$if" in item) or holds(item["$if"], facts)


def _chosen(key: str, value: Any, facts: dict[str, str]) -> Any:
    if key in ("label", "description") and isinstance(value, list):
        taken = next((item for item in value if _applies(item, facts)), "")
        return taken["value"] if isinstance(taken, dict) else taken
    if key == "paramInformation" and isinstance(value, list):
        by_number: dict[str, Any] = {}
        for item in value:
            if _applies(item, facts):
                by_number.setdefault(item["#"], item)
        return list(by_number.values())
    return value
