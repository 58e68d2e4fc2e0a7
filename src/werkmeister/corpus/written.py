"""What stands before a dataset that was made from documents: documents, passages, pairs and what was dropped.

The review by a person and the report read the same files; this is the one place that knows them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkmeister.corpus.decisions import Record
from werkmeister.corpus.lines import read_lines
from werkmeister.passage import Passage, read_passages

_NEEDED = ("id", "question", "answer", "document", "passage", "evidence", "start", "end", "kind", "language")


@dataclass(frozen=True, kw_only=True)
class Written:
    """The artefacts `documents` and `write` as the report and the review need them.

    `documents` and `unread` are records of documents.jsonl and unread.jsonl (both empty where pairs came from prompts
    alone), `pairs` the verified pairs, `dropped` those that a check turned down with `check` and `reason`, and
    `report` what the stage write counted.
    """

    documents: Sequence[Record]
    unread: Sequence[Record]
    passages: Mapping[str, Passage]
    pairs: Sequence[Record]
    dropped: Sequence[Record]
    report: Mapping[str, Any]

    def candidates(self) -> list[Record]:
        """Every pair once, by id: the verified ones first, then those that a check dropped."""
        found: dict[str, Record] = {}
        for record in (*self.pairs, *self.dropped):
            found.setdefault(record["id"], record)
        return list(found.values())

    def place(self, record: Record) -> str:
        """Where the pair comes from, for a person: file, page and headings."""
        passage = self.passages.get(record["passage"])
        return passage.place if passage else str(record["document"])

    def heading(self, record: Record) -> str:
        """Title and headings of the passage, as a model is given them above its text."""
        passage = self.passages.get(record["passage"])
        return passage.shown.split("\n", 1)[0] if passage and (passage.title or passage.headings) else ""

    def marked(self, record: Record) -> tuple[str, str, str]:
        """The passage's text before, inside and after the evidence; all of it before, where nothing is marked.

        The document's offsets are tried first; where they do not hold the evidence (a document that was read anew),
        the evidence is looked for in the text.
        """
        passage = self.passages.get(record["passage"])
        if passage is None:
            return "", "", ""
        text, evidence = passage.text, record["evidence"]
        start, end = record["start"] - passage.start, record["end"] - passage.start
        if not evidence:
            return text, "", ""
        if not (0 <= start < end <= len(text) and text[start:end] == evidence):
            start = text.find(evidence)
            end = start + len(evidence)
        return (text[:start], text[start:end], text[end:]) if start >= 0 else (text, "", "")


def read_written(documents: Path | None, write: Path) -> Written:
    """Read the folders of the artefacts documents (None: there are none) and write.

    Raises DataError naming file and line of what is not of their form.
    """
    dropped = write / "dropped.jsonl"
    report = write / "report.json"
    passages = documents / "passages.jsonl" if documents else None
    return Written(
        documents=read_lines(documents / "documents.jsonl", ("name",)) if documents else (),
        unread=read_lines(documents / "unread.jsonl", ("name", "reason")) if documents else (),
        passages={passage.id: passage for passage in read_passages(passages)} if passages else {},
        pairs=read_lines(write / "pairs.jsonl", _NEEDED),
        dropped=read_lines(dropped, (*_NEEDED, "check", "reason")) if dropped.is_file() else (),
        report=json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {},
    )
