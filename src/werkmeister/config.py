"""Settings: frozen dataclasses filled from one table each of `expert.toml` by a reader that reports all errors at once.

A stage declares its settings once, as a frozen keyword-only dataclass whose fields are made by `setting`; the meaning
and unit stand in the field, and the reference in the documentation is generated from them.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any

from werkmeister.errors import SettingsError

EXPERT_FILE = "expert.toml"


def setting(
    default: Any = MISSING,
    *,
    help: str,
    unit: str = "",
    choices: Sequence[str] = (),
    low: float | None = None,
    high: float | None = None,
    decides: bool = True,
) -> Any:
    """A field of a settings dataclass: its default, meaning, unit and bounds (both inclusive).

    `decides` is False where the value cannot change what the stage makes, so that changing it makes nothing stale.
    """
    notes = {"help": help, "unit": unit, "choices": tuple(choices), "low": low, "high": high, "decides": decides}
    return field(default=default, metadata=notes)


@dataclass(frozen=True, kw_only=True)
class ExpertSettings:
    """What an expert is, whatever stage runs."""

    name: str = setting("", help="the expert's name; empty: the folder's name")
    base: str = setting(
        help="base model: a packaged model (smollm2-135m, gemma-3-270m), a Hugging Face id, a folder, or a .gguf file"
    )
    system: str = setting("", help="system message in front of every conversation, in training and in use")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All tables of one expert.toml, read and checked; `overrides` are the --set of this run."""

    folder: Path
    tables: Mapping[str, Any]
    overrides: tuple[str, ...] = ()

    def table(self, name: str) -> Any:
        """The settings dataclass of one table."""
        return self.tables[name]


def read_settings(folder: Path, declared: Mapping[str, type], overrides: Sequence[str] = ()) -> Settings:
    """Read `folder`/expert.toml into the `declared` dataclasses (table name → class).

    `overrides` are texts like "train.rank=8". Raises SettingsError with every finding: line, key, nearest valid key.
    """
    path = folder / EXPERT_FILE
    if not path.is_file():
        raise SettingsError(
            f"there is no expert in {folder}: {path} is missing", hint=f"make one with: werkmeister new {folder}"
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
        content = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}", hint="mend that line") from error
    problems = []
    for override in overrides:
        problems += _apply(override, content)
    tables, found = _tables(content, declared, _Lines(path.name, text))
    problems += found
    if problems:
        raise SettingsError(f"{path} has {len(problems)} mistake{'s' * (len(problems) > 1)}", problems=problems)
    return Settings(folder=folder, tables=tables, overrides=tuple(overrides))


def as_json(settings: Any) -> dict[str, Any]:
    """A settings dataclass as the manifest keeps it: all that decides what the stage makes."""
    deciding = [item.name for item in dataclasses.fields(settings) if item.metadata.get("decides", True)]
    values = dataclasses.asdict(settings)
    return {key: list(v) if isinstance(v := values[key], tuple) else v for key in deciding}


def reference(declared: Mapping[str, type]) -> str:
    """The settings reference in Markdown, made from the declarations."""
    parts = ["# Settings\n", "Generated from the declarations in the code; do not edit.\n"]
    for table, kind in declared.items():
        parts.append(f"\n## [{table}]\n\n{(kind.__doc__ or '').strip().splitlines()[0]}\n")
        parts.append("| key | default | meaning |\n|---|---|---|")
        for item in dataclasses.fields(kind):
            parts.append(f"| `{item.name}` | {_default_words(item)} | {_meaning(item)} |")
    return "\n".join(parts) + "\n"


def _default_words(item: dataclasses.Field[Any]) -> str:
    if item.default is MISSING:
        return "(required)"
    value = list(item.default) if isinstance(item.default, tuple) else item.default
    return f"`{value!r}`".replace("True", "true").replace("False", "false").replace("None", "derived")


def _meaning(item: dataclasses.Field[Any]) -> str:
    notes = item.metadata
    words: str = notes["help"] + (f" ({notes['unit']})" if notes["unit"] else "")
    if notes["choices"]:
        words += "; one of " + ", ".join(f"`{choice}`" for choice in notes["choices"])
    return words.replace("|", "\\|")


class _Lines:
    """Finds the line of a key, since tomllib does not tell it."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._of: dict[tuple[str, str], int] = {}
        table = ""
        for number, line in enumerate(text.splitlines(), 1):
            head = re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line)
            pair = re.match(r"\s*([A-Za-z0-9_\-\"'.]+?)\s*=", line)
            if head:
                table = head.group(1).strip("\"'")
                self._of.setdefault((table, ""), number)
            elif pair:
                self._of.setdefault((table, pair.group(1).strip("\"'")), number)

    def at(self, table: str, key: str = "") -> str:
        number = self._of.get((table, key)) or self._of.get(("", key or table))
        return f"{self.name}:{number}" if number else "--set" if key else self.name


def _apply(override: str, content: dict[str, Any]) -> list[str]:
    name, equals, value = override.partition("=")
    table, dot, key = name.strip().partition(".")
    if not (equals and dot and table and key):
        return [f"--set {override!r} is not of the form table.key=value"]
    try:
        parsed = tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        parsed = value
    inner = content.setdefault(table, {})
    if not isinstance(inner, dict):
        return [f"--set {override!r}: {table} is no table"]
    inner[key] = parsed
    return []


def _tables(
    content: Mapping[str, Any], declared: Mapping[str, type], lines: _Lines
) -> tuple[dict[str, Any], list[str]]:
    problems = []
    for name, value in content.items():
        if name not in declared:
            what = f"table [{name}]" if isinstance(value, dict) else f"key {name!r} outside a table"
            problems.append(
                f"{lines.at(name) if isinstance(value, dict) else lines.at('', name)}: unknown {what}"
                + _near(name, declared)
            )
    tables = {}
    for name, kind in declared.items():
        given = content.get(name, {})
        if not isinstance(given, dict):
            problems.append(f"{lines.at('', name)}: {name} must be a table [{name}]")
            continue
        values, found = _values(name, given, kind, lines)
        problems += found
        if not found:
            try:
                tables[name] = kind(**values)
            except ValueError as error:
                problems.append(f"{lines.at(name)}: [{name}] {error}")
    return tables, problems


def _values(table: str, given: Mapping[str, Any], kind: type, lines: _Lines) -> tuple[dict[str, Any], list[str]]:
    hints = typing.get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    problems = []
    for key, value in given.items():
        where = lines.at(table, key)
        if key not in fields:
            problems.append(f"{where}: unknown key {key!r} in [{table}]" + _near(key, fields))
            continue
        values[key], wrong = _value(value, hints[key], fields[key])
        if wrong:
            problems.append(f"{where}: {table}.{key} = {value!r} {wrong}")
    for key, item in fields.items():
        if item.default is MISSING and key not in given:
            problems.append(f"{lines.at(table)}: {table}.{key} is missing ({item.metadata['help']})")
    return values, problems


def _value(value: Any, hint: Any, item: dataclasses.Field[Any]) -> tuple[Any, str]:
    """The value in the declared type, and what is wrong with it ("" when nothing is)."""
    notes = item.metadata
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kinds = [option for option in options if option is not type(None)]
    kind = kinds[0]
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        entries = value if isinstance(value, list) else [value]
        if not all(isinstance(entry, inner) for entry in entries):
            return None, f"must be a list of {_words(inner)}"
        return tuple(entries), ""
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        return None, f"must be {_words(kind)}"
    if notes["choices"] and value not in notes["choices"]:
        return None, f"must be one of {', '.join(notes['choices'])}" + _near(str(value), notes["choices"])
    if value != value:
        return None, "must be a number"
    if notes["low"] is not None and value < notes["low"]:
        return None, f"must be at least {notes['low']}"
    if notes["high"] is not None and value > notes["high"]:
        return None, f"must be at most {notes['high']}"
    return value, ""


def _words(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(kind, kind.__name__)


def _near(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
