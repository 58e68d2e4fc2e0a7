"""DOCX before kreuzberg reads it: its reader loses every `&`, `<` and `>` of the text ("below < 5 bar").

So they are sent through it in disguise, as characters of the private use area, and uncovered behind it.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Sequence

from werkmeister.corpus.documents.kinds import UnreadableError
from werkmeister.corpus.documents.parts import Part

_ENTITY = re.compile(rb"&(amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9a-fA-F]{1,6});")
_NAMED = {b"amp": "&", b"lt": "<", b"gt": ">", b"quot": '"', b"apos": "'"}
_FIRST = 0xF5A0
_DISGUISED = {sign: chr(_FIRST + n) for n, sign in enumerate("&<>\"'")}
_UNCOVER = str.maketrans({cover: sign for sign, cover in _DISGUISED.items()})


def disguised(data: bytes) -> bytes:
    """The same DOCX with the entities in its texts replaced by characters that kreuzberg keeps.

    Raises UnreadableError when the archive is damaged.
    """
    out = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as given, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as made:
            for name in given.namelist():
                content = given.read(name)
                if name.endswith(".xml") and name.startswith(("word/", "docProps/")) and b"\0" not in content[:64]:
                    content = _ENTITY.sub(_disguise, content)
                made.writestr(name, content)
    # zipfile's RuntimeError: a password is needed, or the packing is one that it does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        if "encrypted" in str(error):
            raise UnreadableError("is encrypted: save it without a password, and run it again") from error
        raise UnreadableError(f"is damaged ({error}): copy it again, or open it and save it anew") from error
    return out.getvalue()


def uncovered(text: str) -> str:
    """The text with the disguised characters as they were."""
    return text.translate(_UNCOVER)


def title_of(parts: Sequence[Part]) -> str:
    """The heading that a document begins with where no other is as high, "" else.

    kreuzberg keeps the first level for Word's style "Title", and many begin with "Heading 1" in its place.
    """
    headings = [part for part in parts if part.kind == "heading"]
    begins = bool(headings) and parts[0] is headings[0]
    return headings[0].text if begins and all(part.level > headings[0].level for part in headings[1:]) else ""


def _disguise(match: re.Match[bytes]) -> bytes:
    name = match.group(1)
    if name.startswith(b"#"):
        number = int(name[2:], 16) if name[1:2] == b"x" else int(name[1:])
        sign = chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else "�"
    else:
        sign = _NAMED[name]
    return _DISGUISED.get(sign, sign).encode()
