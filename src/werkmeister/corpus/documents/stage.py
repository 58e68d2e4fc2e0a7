"""The stage documents: files in; their cleaned text and passages with places out, and a list of what was not read."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from werkmeister.artefact import Artefact, Draft, making, open_artefact, sha256_of
from werkmeister.bases.base import Base
from werkmeister.config import as_json, setting
from werkmeister.corpus.documents.document import Document, Unread
from werkmeister.corpus.lines import write_lines
from werkmeister.errors import DataError, SettingsError
from werkmeister.memory import Memory
from werkmeister.passage import Passage, passage_from_record, read_passages, write_passages
from werkmeister.progress import Progress

if TYPE_CHECKING:
    from werkmeister.corpus.documents.files import Found
    from werkmeister.corpus.documents.reading import Reader
    from werkmeister.corpus.documents.units import Count

VERSION = 1
_WORKERS = 4
_AHEAD = 2
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class DocumentsSettings:
    """Which documents are read, and how long the passages are that they are cut into."""

    files: tuple[str, ...] = setting(
        (), help="documents, patterns such as manuals/*.pdf, or folders; empty: the expert has no documents"
    )
    script: str = setting(
        "", help="Python script in the expert's folder that makes the files, called with an output folder; empty: none"
    )
    script_args: tuple[str, ...] = setting((), help="further arguments of the script")
    script_packages: tuple[str, ...] = setting(
        (), help="packages that decide what the script makes: a new version makes the documents stale"
    )
    passage_tokens: int = setting(256, help="longest passage, counted with the base's tokenizer", unit="tokens", low=32)
    overlap: int = setting(
        32, help="whole sentences repeated at the most where a section had to be cut", unit="tokens", low=0
    )

    def __post_init__(self) -> None:
        if self.overlap * 2 > self.passage_tokens:
            raise ValueError(f"overlap = {self.overlap} is more than half of passage_tokens = {self.passage_tokens}")


def documents_inputs(expert: Path, settings: DocumentsSettings, base: Base) -> dict[str, str]:
    """What the documents depend on: the files' hashes, or of the script and all beside it, and the base's tokenizer;
    and on how files are read and cut.

    Fast, and never fails for a file that is missing: that is told when the stage runs.
    """
    from werkmeister.corpus.documents import passages, reading
    from werkmeister.corpus.documents.files import find_files

    inputs = {"base": base.identity, "kreuzberg": _kreuzberg()}
    inputs |= {"reading": str(reading.VERSION), "cutting": str(passages.VERSION)}
    if settings.script:
        from werkmeister.corpus.script import script_inputs

        inputs |= script_inputs(expert, settings.script, settings.script_args, settings.script_packages)
    found = find_files(settings.files, [expert])
    inputs |= {f"file {name}": sha256_of(path) for path, name in found.files if os.access(path, os.R_OK)}
    absent = "by the script" if settings.script else "not on this machine"
    inputs |= {f"file {name}": reason for name, reason in found.lost}
    return inputs | {f"file {entry}": absent for entry in found.missing}


def documents(
    expert: Path, output: Path, settings: DocumentsSettings, *, base: Base, home: Path, progress: Progress
) -> Artefact:
    """Make the artefact of kind "documents": documents.jsonl, passages.jsonl, unread.jsonl, texts/.

    Files that give no text are listed with the reason, and the rest goes on; what was read before is remembered below
    `home` by content and name. Raises DataError when an entry of documents.files names nothing, or when no file at all
    could be read, and SettingsError when the passages would not leave half of the base's context for the rest.
    """
    if settings.passage_tokens * 2 > base.context_length:
        raise SettingsError(
            f"documents.passage_tokens = {settings.passage_tokens} is more than half of the context of {base.name} "
            f"({base.context_length} tokens), and question and answer have to fit too",
            hint=f"set documents.passage_tokens to {base.context_length // 2} or less",
        )
    inputs = documents_inputs(expert, settings, base)
    with making("documents", output, version=VERSION, inputs=inputs, settings=as_json(settings)) as draft:
        found = _files(expert, settings, draft, progress)
        made = _Making(draft, settings, base, home, progress)
        for name, reason in found.lost:
            made.note_unread(Unread(name=name, sha256="", reason=reason))
        made.run(found.files)
    return open_artefact(output, "documents")


def load_documents(artefact: Artefact) -> Iterator[tuple[Document, list[Passage]]]:
    """Every document of a documents artefact with its passages, in order."""
    from werkmeister.corpus.documents.reading import document_from_record

    passages: dict[str, list[Passage]] = {}
    for passage in read_passages(artefact.file("passages.jsonl")):
        passages.setdefault(passage.document, []).append(passage)
    with artefact.file("documents.jsonl").open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            text = artefact.file(record["text"]).read_bytes().decode("utf-8")
            blocks = json.loads(artefact.file(record["blocks"]).read_bytes())
            kept = {key: record[key] for key in Document.__dataclass_fields__}
            document = document_from_record(kept | {"text": text, "blocks": blocks})
            yield document, passages.get(document.name, [])


def _files(expert: Path, settings: DocumentsSettings, draft: Draft, progress: Progress) -> Found:
    from werkmeister.corpus.documents.files import find_files

    roots = [expert]
    if settings.script:
        from werkmeister.corpus.script import run_script

        folder = draft.scratch / "script"
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        run_script(expert, settings.script, settings.script_args, folder, progress, table="documents")
        roots = [folder, expert]
    # A script without documents.files: all that it made.
    found = find_files(settings.files or (".",), roots)
    if found.missing:
        where = " and ".join(str(root) for root in roots)
        raise DataError(
            f"documents.files names what is not in {where}",
            problems=[f"{entry}: no such file or folder" for entry in found.missing],
            hint="correct documents.files in expert.toml",
        )
    if not found.files:
        raise DataError(
            f"documents.files = {', '.join(settings.files)} holds no document",
            problems=[
                *(f"{name} {reason}" for name, reason in found.lost[:_SHOWN]),
                *(f"{count} files ending in {ending} were passed over" for ending, count in _most(found.passed_over)),
            ],
            hint="name files that can be read (PDF, DOCX, PPTX, XLSX, HTML, MD, ADOC, RST, EPUB, TXT, EML)",
        )
    if found.passed_over:
        endings = ", ".join(f"{ending} {count}" for ending, count in _most(found.passed_over))
        progress.say(f"{found.passed_over.total()} files that are no documents were passed over: {endings}")
    return found


class _Making:
    """One run of the stage: reads ahead in worker processes, cuts and writes in the order of the files."""

    def __init__(self, draft: Draft, settings: DocumentsSettings, base: Base, home: Path, progress: Progress) -> None:
        self.draft, self.settings, self.base, self.progress = draft, settings, base, progress
        self.memory = Memory(home, "documents")
        self.count: Count | None = None
        self.remembered = 0
        self.unread: list[Unread] = []
        self.records: list[dict[str, Any]] = []
        self.passages: list[Passage] = []
        self.texts = draft.path / "texts"
        if self.texts.exists():
            shutil.rmtree(self.texts)
        self.texts.mkdir()

    def run(self, files: Sequence[tuple[Path, str]]) -> None:
        with self.progress.track("read documents", len(files)) as track:
            for result in self._read(files):
                if isinstance(result, Unread):
                    self.note_unread(result)
                else:
                    self._keep(result)
                pages = sum(record["pages"] for record in self.records)
                track.advance(1, pages=f"{pages:,}", passages=f"{len(self.passages):,}")
        self._finish(len(files))

    def _read(self, files: Sequence[tuple[Path, str]]) -> Iterator[Document | Unread]:
        """The files' documents in their order; some are read ahead, each in a worker process of its own."""
        from werkmeister.corpus.documents.reading import Reader

        given: set[str] = set()
        workers = min(_WORKERS, os.cpu_count() or 1, len(files))
        idle: SimpleQueue[Reader] = SimpleQueue()
        with ExitStack() as stack:
            for _ in range(workers):
                idle.put(stack.enter_context(Reader()))
            pool = stack.enter_context(ThreadPoolExecutor(workers))
            stack.callback(pool.shutdown, cancel_futures=True)
            waiting: list[Callable[[], Document | Unread]] = []
            for path, name in files:
                sha256 = _sha256(path)
                if sha256 in given:
                    waiting.append(partial(self._twin, path, name, sha256, idle))
                else:
                    waiting.append(pool.submit(self._one, path, name, sha256, idle).result)
                given |= {sha256} - {""}
                if len(waiting) > workers + _AHEAD:
                    yield waiting.pop(0)()
            while len(waiting) > 1:
                yield waiting.pop(0)()
            last = waiting.pop()()
        # The workers are gone before the last document is cut: the tokenizer needs the memory.
        yield last

    def _twin(self, path: Path, name: str, sha256: str, idle: SimpleQueue[Reader]) -> Document | Unread:
        """A file with the content of one before it: left out where that one was read, which its ending may prevent."""
        other = next((record["name"] for record in self.records if record["sha256"] == sha256), "")
        if other:
            return Unread(name=name, sha256=sha256, reason=f"has the same content as {other}, which was read")
        return self._one(path, name, sha256, idle)

    def _one(self, path: Path, name: str, sha256: str, idle: SimpleQueue[Reader]) -> Document | Unread:
        from werkmeister.corpus.documents.reading import VERSION as READING
        from werkmeister.corpus.documents.reading import document_from_record, record_of

        key = ["read", READING, _kreuzberg(), sha256, name]
        kept = self.memory.get(key) if sha256 else None
        if kept is not None:
            self.remembered += 1
            return document_from_record(kept)
        reader = idle.get()
        try:
            document = reader.read(path, name)
        finally:
            idle.put(reader)
        if isinstance(document, Document):
            self.memory.put(key, record_of(document))
        return document

    def _keep(self, document: Document) -> None:
        passages = self._cut(document)
        number = len(self.records) + 1
        text, blocks = f"texts/{number}.md", f"texts/{number}.json"
        (self.draft.path / text).write_bytes(document.text.encode("utf-8", "replace"))
        (self.draft.path / blocks).write_text(json.dumps([asdict(block) for block in document.blocks]), "utf-8")
        kept = {key: getattr(document, key) for key in Document.__dataclass_fields__ if key not in ("text", "blocks")}
        numbers = {"characters": len(document.text), "passages": len(passages)}
        self.records.append(kept | numbers | {"text": text, "blocks": blocks})
        self.passages += passages

    def _cut(self, document: Document) -> list[Passage]:
        from werkmeister.corpus.documents.passages import VERSION as CUTTING
        from werkmeister.corpus.documents.reading import VERSION as READING

        budget, overlap = self.settings.passage_tokens, self.settings.overlap
        versions = [CUTTING, READING, _kreuzberg()]
        key = ["cut", *versions, document.sha256, document.name, self.base.identity, budget, overlap]
        kept = self.memory.get(key)
        if kept is not None:
            return [passage_from_record(one | {"text": document.text[one["start"] : one["end"]]}) for one in kept]
        passages = self._cut_anew(document)
        # The text stands in the document already.
        self.memory.put(key, [asdict(passage) | {"text": ""} for passage in passages])
        return passages

    def _cut_anew(self, document: Document) -> list[Passage]:
        from werkmeister.corpus.documents.passages import cut

        if self.count is None:
            from werkmeister.bases.tokens import load_tokenizer

            self.count = counting(load_tokenizer(self.base))
        return cut(document, self.count, budget=self.settings.passage_tokens, overlap=self.settings.overlap)

    def note_unread(self, unread: Unread) -> None:
        self.unread.append(unread)
        if len(self.unread) <= _SHOWN:
            self.progress.say(f"not read: {unread.name} {unread.reason}")
        elif len(self.unread) == _SHOWN + 1:
            self.progress.say("further files that were not read are listed in unread.jsonl")

    def _finish(self, given: int) -> None:
        if not self.passages:
            raise DataError(
                f"none of the {given} documents could be read",
                problems=[f"{one.name} {one.reason}" for one in self.unread[:_SHOWN]],
                hint="mend or replace the files, or correct documents.files in expert.toml",
            )
        write_lines(self.draft.path / "documents.jsonl", self.records)
        write_lines(self.draft.path / "unread.jsonl", (asdict(one) for one in self.unread))
        write_passages(self.draft.path / "passages.jsonl", self.passages)
        base = self.base
        tokens = sum(passage.tokens for passage in self.passages)
        self.draft.facts |= {
            "base": {"name": base.name, "identity": base.identity, "context_length": base.context_length},
            "documents": len(self.records),
            "passages": len(self.passages),
            "unread": len(self.unread),
            "languages": dict(sorted(Counter(record["language"] for record in self.records).items())),
            "tokens": tokens,
        }
        dropped: Counter[str] = Counter()
        for record in self.records:
            dropped.update(dict(record["dropped"]))
        pages = sum(record["pages"] for record in self.records)
        self.draft.measures |= {"pages": pages, "dropped": dict(dropped), "remembered": self.remembered}
        empty = sum(len(record["empty_pages"]) for record in self.records)
        if empty:
            self.draft.measures["empty_pages"] = empty
            self.progress.say(_of_empty_pages(self.records, empty))
        unread = f"; {len(self.unread)} files not read, see unread.jsonl" if self.unread else ""
        self.progress.say(
            f"{len(self.records):,} documents, {len(self.passages):,} passages, {tokens:,} tokens{unread}"
        )


def _of_empty_pages(records: Sequence[Mapping[str, Any]], empty: int) -> str:
    """What a person should know of pages that gave nothing, although their documents were read."""
    most = max(records, key=lambda record: len(record["empty_pages"]))
    return (
        f"pages without text: {empty:,}, most of them ({len(most['empty_pages']):,} of {most['pages']:,} pages) in "
        f"{most['name']}; if they were scanned, and not left blank, make their text readable with OCR "
        "(ocrmypdf --skip-text OLD NEW); documents.jsonl lists them as empty_pages"
    )


def _sha256(path: Path) -> str:
    """Of the file's content; "" where it cannot be opened, which the reader tells."""
    try:
        return sha256_of(path)
    except OSError:
        return ""


def counting(tokenizer: Any) -> Count:
    """The function that counts tokens with a tokenizer, many texts at once and without special tokens."""
    return partial(_count, tokenizer)


def _count(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    if not texts:
        return []
    # A lone surrogate from a damaged file is no UTF-8, and tokenizers take nothing else.
    clean = [text.encode("utf-8", "replace").decode() for text in texts]
    return [len(ids) for ids in tokenizer(clean, add_special_tokens=False)["input_ids"]]


def _kreuzberg() -> str:
    try:
        return metadata.version("kreuzberg")
    except metadata.PackageNotFoundError:
        return "not installed"


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
