"""kreuzberg: the one module that calls it. Office files, HTML and EPUB become Markdown, PDF its nodes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from werkmeister.corpus.documents.docx import disguised, title_of, uncovered
from werkmeister.corpus.documents.kinds import MIME, UnreadableError
from werkmeister.corpus.documents.markdown import read_markdown
from werkmeister.corpus.documents.markup import checked
from werkmeister.corpus.documents.parts import Reading
from werkmeister.corpus.documents.plain import decode

_LIMITS = {"max_archive_size": 1 << 30, "max_entity_length": 32 << 20}


def extract(data: bytes, format: str) -> Reading:
    """The parts of a file that kreuzberg reads; UnreadableError tells why it gave none."""
    result = _call(disguised(data) if format == "docx" else data, format)
    title = uncovered(str(result.metadata.get("title") or "")).strip()
    if format == "pdf":
        from werkmeister.corpus.documents.pdf import read_pdf

        nodes = result.document["nodes"] if result.document else []
        pages = [page["content"] for page in result.pages or ()]
        return read_pdf(nodes, pages, title)
    content = uncovered(result.content)
    if format == "html":
        # It puts the page's metadata in front, with the last line underlined as if it were a heading.
        content = re.sub(r"\A---\n(?:[^\n]*\n)*?\n?## title: [^\n]*\n|\A---\n(?:[\w-]+: [^\n]*\n)+---\n", "", content)
    reading = read_markdown(content, converted=True)
    first = title_of(reading.parts) if format == "docx" else ""
    reading = replace(reading, title=title or reading.title or first)
    return checked(decode(data), reading) if format == "html" else reading


def _call(data: bytes, format: str) -> Any:
    import kreuzberg as k

    config = k.ExtractionConfig(
        use_cache=False,
        output_format="markdown",
        include_document_structure=format == "pdf",
        pages=k.PageConfig(extract_pages=True) if format == "pdf" else None,
        content_filter=k.ContentFilterConfig(
            include_headers=format == "pdf",
            include_footers=format == "pdf",
            strip_repeating_text=False,
            include_watermarks=False,
        ),
        # Its tree-sitter downloads grammars, and its OCR models: nothing may be fetched here.
        tree_sitter=k.TreeSitterConfig(enabled=False),
        concurrency=k.ConcurrencyConfig(max_threads=1),
    )
    try:
        return k.extract_bytes_sync(data, MIME[format], config)
    except (k.KreuzbergError, ValueError, RuntimeError, OSError, OverflowError) as error:
        raise UnreadableError(_reason(str(error), format)) from error


def _reason(said: str, format: str) -> str:
    lowered = said.lower()
    if any(word in lowered for word in ("password", "encrypt", "decrypt")):
        return "is encrypted: save it without a password, and run it again"
    return f"cannot be read as {format.upper()} ({' '.join(said.split())[:160]}): open it and save it anew"
