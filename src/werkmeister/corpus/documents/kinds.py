"""Which format a file has: told by its content first, and by its name where the content does not tell."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePosixPath

EXTENSIONS = {
    "pdf": "pdf",
    "docx": "docx",
    "docm": "docx",
    "pptx": "pptx",
    "pptm": "pptx",
    "xlsx": "xlsx",
    "xlsm": "xlsx",
    "html": "html",
    "htm": "html",
    "xhtml": "html",
    "md": "markdown",
    "markdown": "markdown",
    "adoc": "asciidoc",
    "asciidoc": "asciidoc",
    "asc": "asciidoc",
    "rst": "rst",
    "epub": "epub",
    "txt": "text",
    "text": "text",
    "eml": "email",
}
"""Format by the ending of a file's name."""

MIME = {
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
    "epub": "application/epub+zip",
}
"""The media type by which kreuzberg knows a format; the others are read without it."""

_TEXTS = ("html", "markdown", "asciidoc", "rst", "text", "email")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OPEN_DOCUMENT = b"mimetypeapplication/vnd.oasis.opendocument"
_LARGEST = 1 << 30
_OTHERS = (
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"II*\0", "a picture"),
    (b"MM\0*", "a picture"),
    (b"{\\rtf", "a rich text file"),
    (b"\x1f\x8b", "a packed archive"),
    (b"7z\xbc\xaf", "a packed archive"),
    (b"Rar!", "a packed archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"%!PS", "a PostScript file"),
)
_CONVERT = "convert it to PDF, DOCX or text"


class UnreadableError(Exception):
    """A file that gives no text; the message is the reason, in words that tell the person what to do."""


def is_known(name: str) -> bool:
    """Whether a file's name ends as a document that can be read."""
    return _ending(name) in EXTENSIONS


def format_of(name: str, data: bytes) -> str:
    """The format of a file of this name and content; UnreadableError when it is none that can be read."""
    if not data.strip(b"\0 \t\r\n\f\xef\xbb\xbf"):
        raise UnreadableError("is empty: put the text into it, or take it out of documents.files")
    named = EXTENSIONS.get(_ending(name), "")
    # Some programs put bytes in front of the mark; a text that only speaks of PDF stays a text.
    if data.lstrip().startswith(b"%PDF-") or (b"%PDF-" in data[:1024] and named not in _TEXTS):
        return "pdf"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _of_zip(data, named)
    if data.startswith(_OLE):
        raise UnreadableError(_of_ole(data))
    for start, what in _OTHERS:
        if data.startswith(start):
            raise UnreadableError(f"is {what}, whatever its name says: {_CONVERT}")
    if named in ("pdf", "docx", "pptx", "xlsx", "epub"):
        if b"<html" in data[:2048].lower():
            return "html"
        raise UnreadableError(f"is damaged, or no {named.upper()} file: its first bytes are not of one; copy it again")
    if not named:
        known = ", ".join(sorted(EXTENSIONS))
        raise UnreadableError(f"has an unknown ending (known: {known}): rename it, or {_CONVERT}")
    return named


def _ending(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).suffix.lower().removeprefix(".")


def _of_zip(data: bytes, named: str) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    # A damaged directory may tell of a version that zipfile does not know, and of places beyond any number.
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, OverflowError) as error:
        raise UnreadableError("is damaged (its packed content cannot be opened): copy it again") from error
    size = sum(entry.file_size for entry in entries)
    if size > _LARGEST:
        raise UnreadableError(f"unpacks to {size / 1e9:.1f} GB, which no document needs: check where it comes from")
    names = {entry.filename.lower() for entry in entries}
    for start, kind in (("word/", "docx"), ("ppt/", "pptx"), ("xl/", "xlsx")):
        if any(name.startswith(start) for name in names):
            return kind
    if _OPEN_DOCUMENT in data[:100]:
        raise UnreadableError("is an OpenDocument file (.odt, .ods, .odp): save it as DOCX, XLSX, PPTX or PDF")
    if "meta-inf/container.xml" in names or "mimetype" in names:
        return "epub"
    if named in ("docx", "pptx", "xlsx", "epub"):
        raise UnreadableError(f"is damaged: its {named.upper()} content is missing; copy it again")
    raise UnreadableError("is a zip archive: unpack it, and name the files in it in documents.files")


def _of_ole(data: bytes) -> str:
    if "EncryptedPackage".encode("utf-16-le") in data:
        return "is encrypted: open it with its password, save it without one, and run it again"
    return "is of the Office format before 2007 (.doc, .xls, .ppt, .msg): save it as DOCX, XLSX, PPTX or PDF"
