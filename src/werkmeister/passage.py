"""Passages: pieces of a document's text with their place; what examples are written from and answers point to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from werkmeister.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A piece of a document: `text` is the document's text from `start` to `end` (characters), verbatim.

    `id` is sixteen hex digits that depend on the document's name, the headings and the text alone, so it stays when
    another part of the document changes. `document` is the name the document is called by (its path below the expert's
    folder), `title` the document's own. `headings` lead to the passage, outermost first, without the title. Pages count
    from 1 and are 0 where the format has none. `tokens` are counted with the base's tokenizer; `language` is a
    two-letter code, "" where it is not known.
    """

    id: str
    document: str
    title: str
    headings: tuple[str, ...]
    text: str
    start: int
    end: int
    first_page: int = 0
    last_page: int = 0
    tokens: int = 0
    language: str = ""

    @property
    def place(self) -> str:
        """Where a person finds it: "manual.pdf, p. 12, Maintenance › Filter"."""
        pages = f"p. {self.first_page}" + (f"–{self.last_page}" if self.last_page > self.first_page else "")
        parts = (self.document, pages if self.first_page else "", " › ".join(self.headings))
        return ", ".join(part for part in parts if part)

    @property
    def shown(self) -> str:
        """The passage as a model is given it: title and headings on one line, then the text."""
        return f"{' › '.join(dict.fromkeys((self.title, *self.headings)))}\n{self.text}".strip()


def write_passages(path: Path, passages: Iterable[Passage]) -> int:
    """Write one passage a line (UTF-8 JSON) and return how many there were."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for passage in passages:
            file.write(json.dumps(asdict(passage), ensure_ascii=False) + "\n")
            count += 1
    return count


def read_passages(path: Path) -> Iterator[Passage]:
    """Read what `write_passages` wrote; DataError names file and line of what is not a passage."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield passage_from_record(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}:{number}: not a passage of a documents artefact ({error})") from error


def passage_from_record(record: dict[str, Any]) -> Passage:
    """The inverse of dataclasses.asdict; raises TypeError or KeyError for what is none."""
    return Passage(**record | {"headings": tuple(record["headings"])})
