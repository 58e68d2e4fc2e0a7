"""Small libraries for tests: a few manuals in English and one in German, written to a file without the stages."""

from __future__ import annotations

import hashlib
from pathlib import Path

from werkmeister.artefact import making
from werkmeister.consulting.library import SqliteLibrary
from werkmeister.consulting.library_file import add_meta, add_vectors, write_library
from werkmeister.consulting.naming import name_of
from werkmeister.consulting.vectors import Gathered, parts
from werkmeister.passage import Passage, write_passages

SYNONYMS = {
    "zuruckgesetzt": "reset",
    "zurucksetz": "reset",
    "batteri": "battery",
    "wechs": "replace",
    "wechsl": "replace",
    "lautstark": "volum",
}

MANUALS = {
    "manuals/acme-ax-100.md": (
        "Acme AX-100",
        "Water Sensor",
        {
            "Factory reset": "Press and hold the button for 10 seconds. The LED blinks red.",
            "Battery": "Replace the CR2 battery every 2 years.",
            "Volume": "The siren has 3 steps. The default is 2 (medium).",
        },
    ),
    "manuals/acme-ax-200.md": (
        "Acme AX-200",
        "Door Lock",
        {
            "Factory reset": "Remove the cover and press the small button 5 times.",
            "Battery": "Use four AA cells.",
            "Auto relock": "The lock closes after 30 seconds.",
        },
    ),
    "manuals/bolt-zw122.md": (
        "Bolt ZW122",
        "Thermostat",
        {
            "Factory reset": "Turn the wheel to OFF for 20 seconds.",
            "Display": "Parameter 7 sets the brightness from 0 to 99 %.",
        },
    ),
}


def passage(document: str, title: str, headings: tuple[str, ...], text: str, start: int = 0, page: int = 0) -> Passage:
    identity = hashlib.sha256(f"{document}{headings}{text}".encode()).hexdigest()[:16]
    return Passage(
        id=identity,
        document=document,
        title=title,
        headings=headings,
        text=text,
        start=start,
        end=start + len(text),
        first_page=page,
        last_page=page,
        language="en",
    )


def manuals() -> list[Passage]:
    found = []
    for document, (title, kind, sections) in MANUALS.items():
        found.append(passage(document, title, (), kind))
        start = len(kind) + 2
        for page, (heading, text) in enumerate(sections.items(), 1):
            found.append(passage(document, title, (heading,), text, start, page))
            start += len(text) + 2
    return found


def library(path: Path, passages=None, embedder=None, bar=None, **options) -> SqliteLibrary:
    passages = manuals() if passages is None else passages
    write_library(path, passages)
    if embedder is not None:
        gathered = Gathered()
        for document in dict.fromkeys(one.document for one in passages):
            group = [one for one in passages if one.document == document]
            texts = [name_of(group), *(part for one in group for part in parts(one))]
            name, *bodies = embedder.passages(texts)
            gathered.add_document(name, group, bodies)
        add_vectors(path, gathered, embedder.key, embedder.width)
    if bar is not None:
        add_meta(path, {"bar": bar})
    return SqliteLibrary(path, embedder=embedder, **options)


def documents_artefact(home: Path, passages=None) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    passages = manuals() if passages is None else passages
    with making("documents", home / "documents", version=1, inputs={}, settings={}) as draft:
        write_passages(draft.path / "passages.jsonl", passages)
        draft.facts["passages"] = len(passages)
    return home / "documents"
