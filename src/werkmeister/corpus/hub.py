"""Data sets of the Hugging Face hub, or folders in its layout, through the `datasets` package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkmeister.corpus.findings import Findings
from werkmeister.corpus.reading import Source, collect_rows
from werkmeister.corpus.shapes import split_named
from werkmeister.progress import Progress

_NAMED = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(:(?P<rest>.+))?")
_FILE_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".zip", ".xlsx")


@dataclass(frozen=True, kw_only=True)
class HubName:
    """What `org/name@revision:config:split` names; only the id must be there."""

    id: str
    revision: str = ""
    config: str = ""
    split: str = ""


def parse_hub_name(text: str) -> HubName | None:
    """Read `org/name[@revision][:config][:split]`; None when the text is no such name.

    A single word after the id is a split when it is one of train, valid, validation, test, ... (a slice such as
    train[:1000] too), and a config otherwise.
    """
    match = _NAMED.fullmatch(text)
    if not match or match["id"].lower().endswith(_FILE_ENDINGS) or match["id"].startswith("."):
        return None
    # Colons inside brackets belong to a slice.
    words = re.split(r":(?![^\[]*\])", match["rest"]) if match["rest"] else []
    if len(words) > 2:
        return None
    if len(words) == 1 and split_named(words[0].split("[")[0]):
        words = ["", words[0]]
    config, split = (*words, "", "")[:2]
    return HubName(id=match["id"], revision=match["revision"] or "", config=config, split=split)


def collect_hub(name: HubName, folder: Path | None, findings: Findings, progress: Progress) -> list[Source]:
    """Load one hub data set (or `folder`, when it is on this machine) and read its rows, one Source a split.

    HF_HUB_OFFLINE=1 is respected: only what is in the cache is then found. Mistakes are noted in `findings`.
    """
    try:
        import datasets
    except ImportError:
        findings.add(f"{name.id}: the package datasets is missing", "pip install 'werkmeister[build]'")
        return []
    progress.say(f"loading data set {name.id}")
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(
            str(folder or name.id), name.config or None, split=name.split or None, revision=name.revision or None
        )
    # What load_dataset lets through: absent, gated, offline, unknown config or split, script, damaged files.
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, datasets.exceptions.DatasetsError) as error:
        findings.add(f"{name.id}: {_why(error)}", _next_step(name, folder, error))
        return []
    tables = {name.split: loaded} if name.split else dict(loaded)
    unknown = [] if name.split else [split for split in tables if not split_named(split)]
    if unknown and len(tables) > 1:
        findings.add(
            f"{name.id}: has splits {', '.join(tables)}, and {', '.join(unknown)} is none of train, valid, exam",
            f"name one: {name.id}:{name.config or 'default'}:{next(iter(tables))}",
        )
        return []
    sources = []
    for split, table in tables.items():
        label = f"{name.id}:{split}"
        with progress.track(f"read {label}", len(table)) as track:
            rows = _rows(table, track.advance)
            own = split_named(re.split(r"[\[_]", split)[0])
            sources.append(collect_rows(rows, label, "Hugging Face data set", findings, split=own))
    return sources


def _rows(table: Any, advance: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    # Classes stand as numbers in the table and as names in its description.
    classes = {key: kind for key, kind in table.features.items() if type(kind).__name__ == "ClassLabel"}
    for number, row in enumerate(table, 1):
        if number % 1024 == 0:
            advance(1024)
        for key, kind in classes.items():
            value = row[key]
            row[key] = kind.int2str(value) if isinstance(value, int) and 0 <= value < kind.num_classes else None
        yield number, row
    advance(len(table) % 1024)


def _why(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"cannot be loaded: {' '.join(lines[:2]) or type(error).__name__}"


def _next_step(name: HubName, folder: Path | None, error: Exception) -> str:
    if folder:
        return f"put JSONL, JSON, CSV or Parquet files of one shape into {folder}, or name the files themselves"
    text = f"{type(error).__name__} {error}".lower()
    if "offline" in text:
        return f"HF_HUB_OFFLINE is set and {name.id} is not in the cache: unset it once to download, or give a file"
    if "gated" in text or "401" in text or "403" in text:
        return f"accept the terms at https://huggingface.co/datasets/{name.id} and run: hf auth login"
    if "config" in text:
        return f"name the config: {name.id}:CONFIG"
    if "split" in text:
        return f"name the split: {name.id}:CONFIG:SPLIT"
    if "script" in text:
        return "data sets with a loading script are not supported: give its Parquet or JSONL files"
    return f"check the name, and the connection to https://huggingface.co/datasets/{name.id}; or give a file"
