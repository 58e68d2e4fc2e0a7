"""The documents of an expert as a browser bundle takes them along: its library's passages and rules, as JSON.

The page finds passages by their words alone (`page/app/library.js`), as the library does without an embedding model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from werkmeister.artefact import exists, open_artefact
from werkmeister.consulting.expert import AskSettings
from werkmeister.consulting.library import SqliteLibrary, trained_passages
from werkmeister.consulting.library_file import LIBRARY as INDEX
from werkmeister.consulting.library_file import by_document
from werkmeister.consulting.naming import file_words, name_of
from werkmeister.grounding import REFUSALS, open_book, own_words
from werkmeister.passage import Passage
from werkmeister.progress import Progress

LIBRARY = "library.json"
_KEPT = ("id", "title", "headings", "text", "language")
_LETTER = r"[\p{L}\p{N}_]"


def library_content(expert: Path, settings: AskSettings, progress: Progress) -> bytes:
    """The passages of the expert in the folder `expert`, and how they are used; b"" when it answers without any.

    Says so when the expert has documents and no index of them, and when its index also finds by meaning, which the
    page does not.
    """
    if not settings.library:
        return b""
    index = expert / "artefacts" / "index"
    if not exists(index):
        if exists(expert / "artefacts" / "documents"):
            progress.say(
                f"{expert} has documents and no index of them: the bundle answers without. To take them along, run "
                f"werkmeister index {expert} first"
            )
        return b""
    made = open_artefact(index, "index", make_with=f"werkmeister index {expert}")
    library = SqliteLibrary(made.file(INDEX), passages=settings.passages or trained_passages(expert))
    try:
        if made.facts["embedder"]:
            progress.say("the bundle finds passages by their words, not by meaning: that needs a second model")
        return _encoded(library)
    finally:
        library.close()


def _encoded(library: SqliteLibrary) -> bytes:
    passages = [library.passage(number) for number in range(library.count)]
    documents = list(by_document(passages))
    held = {
        "bar": library.bar.coverage,
        "off": library.bar.off,
        "language": library.language,
        "served": library.served,
        "labels": {language: _labels(language) for language in REFUSALS},
        "refusals": REFUSALS,
        "own_words": {name: _for_browsers(pattern) for name, pattern in own_words().items()},
        "documents": [_called(group) for group in documents],
        "passages": [_record(passage, number) for number, group in enumerate(documents) for passage in group],
    }
    return json.dumps(held, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _for_browsers(pattern: str) -> str:
    r"""A pattern whose \b and \w mean letters of every alphabet in a browser too, where they mean ASCII."""
    edge = f"(?:(?<={_LETTER})(?!{_LETTER})|(?<!{_LETTER})(?={_LETTER}))"
    return pattern.replace(r"\b", edge).replace(r"\w", _LETTER)


def _called(passages: Sequence[Passage]) -> dict[str, str]:
    """What a document is called by: the texts that its passages are found by beside their own."""
    file = file_words(passages[0].document)
    return {"named": f"{file} {name_of(passages)}", "title": f"{file} {passages[0].title}"}


def _record(passage: Passage, document: int) -> dict[str, object]:
    whole = asdict(passage)
    return {key: whole[key] for key in _KEPT} | {"place": passage.place, "document": document}


def _labels(language: str) -> tuple[str, str]:
    """The two labels of an open-book question, read off one."""
    passage = Passage(id="", document="", title="", headings=(), text="PASSAGE", start=0, end=0)
    documents, asked = open_book("QUESTION", [passage], language).split("PASSAGE")
    return documents.strip().removesuffix(":"), asked.strip().removesuffix("QUESTION").strip().removesuffix(":")
