"""E-mail into parts: who, when and what about, then the text; attachments are counted and not read."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email.errors import MessageError
from email.message import EmailMessage, MIMEPart

from werkmeister.corpus.documents.kinds import UnreadableError
from werkmeister.corpus.documents.parts import Part, Reading, counted
from werkmeister.corpus.documents.plain import decode, read_plain

_SHOWN = ("From", "To", "Cc", "Date")
_HEADER = re.compile(rb"^[A-Za-z][A-Za-z0-9-]*:", re.MULTILINE)
_HEAD = 65536


def read_mail(data: bytes) -> Reading:
    """The parts of an .eml file. Its text is read as plain text, or as HTML where it has nothing else.

    Attachments are counted under dropped, in bytes: kept as files of their own they would be read. Raises
    UnreadableError when it is no e-mail.
    """
    if not _HEADER.search(data[:_HEAD]):
        raise UnreadableError("is no e-mail: it has no header; if it is text, let its name end in .txt")
    try:
        message = message_from_bytes(data, policy=policy.default)
        assert isinstance(message, EmailMessage)
        head = [f"{name}: {value}" for name in _SHOWN if (value := _header(message, name))]
        body = _body(message)
        dropped = {f"attachment {name}": size for name, size in _attachments(message)}
    except (MessageError, LookupError, ValueError, AttributeError, IndexError, TypeError, KeyError) as error:
        # The standard library's parser stumbles over damaged headers in all these ways.
        raise UnreadableError(f"is a damaged e-mail ({error}): save it anew") from error
    subject = _header(message, "Subject")
    parts = [Part("heading", subject, 1)] if subject else []
    parts += [Part("paragraph", "\n".join(head))] if head else []
    parts += body.parts
    merged = dict(body.dropped) | dropped
    if not body.parts:
        raise UnreadableError("is an e-mail without text: save its attachments as files of their own")
    return Reading(parts=tuple(parts), title=subject, dropped=counted(merged))


def _header(message: EmailMessage, name: str) -> str:
    return " ".join(str(message.get(name, "")).split())


def _body(message: EmailMessage) -> Reading:
    part = message.get_body(preferencelist=("plain", "html"))
    if part is None:
        return Reading(parts=())
    content = _bytes(part)
    if part.get_content_type() == "text/html":
        from werkmeister.corpus.documents.extracting import extract

        return (
            extract(_text(part, content).encode("utf-8", "replace"), "html") if content.strip() else Reading(parts=())
        )
    return read_plain(_text(part, content))


def _text(part: MIMEPart, content: bytes) -> str:
    charset = part.get_content_charset() or ""
    try:
        return content.decode(charset).replace("\r\n", "\n") if charset else decode(content)
    except (LookupError, UnicodeDecodeError):
        return decode(content)


def _bytes(part: MIMEPart) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _attachments(message: EmailMessage) -> list[tuple[str, int]]:
    return [(part.get_filename() or part.get_content_type(), len(_bytes(part))) for part in message.iter_attachments()]
