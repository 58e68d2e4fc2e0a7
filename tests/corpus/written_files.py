"""Artefacts `documents` and `write` as their stages leave them, for tests of what stands behind them: pump manuals."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from werkmeister.artefact import making
from werkmeister.corpus.writing.pair import Pair
from werkmeister.grounding import refusal
from werkmeister.passage import Passage, write_passages

FACTS = (("Pressure", "bar", 3), ("Flow", "l/min", 40), ("Oil change", "h", 500), ("Weight", "kg", 12))
PER_DOCUMENT = 2 * len(FACTS) + 1
"""Verified pairs of one document: each fact asked in two forms, and one question that it does not answer."""


def name_of(number: int) -> str:
    return f"manuals/pump-{number}.md"


def passages_of(number: int) -> list[Passage]:
    """Two passages: a table of facts, and a section that nothing is written from."""
    texts = {
        "Data": "".join(f"- {what}: {start + number} {unit}\n" for what, unit, start in FACTS),
        "Delivery": f"Pump P{number} comes in a crate. <b>Lift it by the eyes.</b> Gehäuse größer als üblich.",
    }
    found, start = [], 0
    for index, (heading, text) in enumerate(texts.items()):
        found.append(
            Passage(
                id=f"{number:08x}{index:08x}",
                document=name_of(number),
                title=f"Pump P{number}",
                headings=(heading,),
                text=text,
                start=start,
                end=start + len(text),
                first_page=index + 1,
                last_page=index + 1,
                tokens=len(text.split()),
                language="en",
            )
        )
        start += len(text) + 1
    return found


def pairs_of(number: int) -> list[Pair]:
    data = passages_of(number)[0]
    shared: dict[str, Any] = {"document": data.document, "passage": data.id, "writer": "tests 1", "language": "en"}
    pairs = []
    for what, unit, start in FACTS:
        evidence = f"{what}: {start + number} {unit}"
        begin = data.start + data.text.index(evidence)
        for question in (f"What is the {what.lower()} of pump P{number}?", f"{what} of pump P{number}?"):
            place = {"evidence": evidence, "start": begin, "end": begin + len(evidence)}
            answer = f"{start + number} {unit}"
            pairs.append(Pair(question=question, answer=answer, kind="parameter", fact=what, **place, **shared))
    none: dict[str, Any] = {"evidence": "", "start": 0, "end": 0, "answerable": False, "kind": "unanswerable"}
    pairs.append(Pair(question=f"Which colour has pump P{number}?", answer=refusal("en"), **none, **shared))
    return pairs


def records_of(count: int) -> tuple[list[dict], list[dict]]:
    """Lines of pairs.jsonl and dropped.jsonl; each document has one pair dropped, every second a flag."""
    pairs, dropped = [], []
    for number in range(count):
        extra = {"group": name_of(number), "flags": ["personal: e-mail"] if number % 2 else []}
        pairs += [pair.record() | extra for pair in pairs_of(number)]
        wrong = Pair(
            **asdict(pairs_of(number)[0]) | {"question": f"Wie schwer ist P{number}?", "answer": f"{number} t"}
        )
        reason = f"{number} t does not stand in the passage"
        dropped.append(wrong.record() | extra | {"check": "numbers", "reason": reason})
    return pairs, dropped


def _lines(path: Path, records: list[dict]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def write_artefacts(home: Path, count: int = 12, report: dict | None = None) -> tuple[Path, Path]:
    """Make both artefacts of `count` documents below `home`; one more file is unread."""
    with making("documents", home / "documents", version=1, inputs={}, settings={}) as draft:
        passages = [passage for number in range(count) for passage in passages_of(number)]
        write_passages(draft.path / "passages.jsonl", passages)
        documents = [
            {"name": name_of(n), "sha256": "0" * 64, "format": "markdown", "title": f"Pump P{n}", "language": "en"}
            | {"pages": 2, "empty_pages": [2], "characters": 300, "passages": 2, "dropped": []}
            for n in range(count)
        ]
        _lines(draft.path / "documents.jsonl", documents)
        unread = {"name": "manuals/scan.pdf", "sha256": "1" * 64, "reason": "holds pictures of pages and no text"}
        _lines(draft.path / "unread.jsonl", [unread])
    with making("write", home / "write", version=1, inputs={}, settings={}) as draft:
        pairs, dropped = records_of(count)
        _lines(draft.path / "pairs.jsonl", pairs)
        _lines(draft.path / "dropped.jsonl", dropped)
        asked = [passage.id for passage in passages]
        told = {"asked": asked, "writers": {"tests 1": len(pairs) + len(dropped)}, "notes": []} | (report or {})
        (draft.path / "report.json").write_text(json.dumps(told), encoding="utf-8")
    return home / "documents", home / "write"
