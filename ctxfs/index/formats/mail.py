"""Messages: what each says, by whom, when and about what. One in a file (.eml), or many after one another (.mbox)."""

import re
from collections.abc import Iterator
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parseaddr

from ctxfs.index.chunks import Chunk
from ctxfs.index.formats import decode
from ctxfs.index.formats.html import read_html

_MESSAGE = re.compile(rb"^From \S+.*$", re.MULTILINE)
_PARTS = 200


def read_mail(data: bytes, *, many: bool) -> Iterator[Chunk]:
    """The paragraphs of every message; lines are those of the message, or exact where its text is there as it was typed."""
    starts = [found.start() for found in _MESSAGE.finditer(data)] if many else []
    for start, end in zip(starts or [0], [*starts[1:], len(data)], strict=True):
        whole = data[start:end]
        first = data.count(b"\n", 0, start) + 1
        yield from _read(
            whole.split(b"\n", 1)[-1] if starts else whole, first + bool(starts), first + whole.count(b"\n")
        )


def _read(data: bytes, first: int, last: int) -> Iterator[Chunk]:
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    subject, author, day = _header(message, "subject"), _author(message), _day(message)
    for text, exact in _texts(message):
        at = first + _body_line(data) if exact else 0
        for paragraph in re.split(r"(\n\s*\n)", text):
            if paragraph.strip():
                lines = (at, min(at + paragraph.rstrip().count("\n"), last)) if exact else (first, last)
                yield Chunk(paragraph.strip(), lines[0], lines[1], subject, author, day)
            at += paragraph.count("\n")


def _body_line(data: bytes) -> int:
    """Lines before the first line of the body."""
    found = re.search(rb"\r?\n\r?\n", data)
    return data.count(b"\n", 0, found.end()) if found else 0


def _texts(message: EmailMessage) -> Iterator[tuple[str, bool]]:
    """(text, whether it stands in the file as it is): the plain parts, or the HTML ones if there are no others."""
    parts = [part for _, part in zip(range(_PARTS), message.walk(), strict=False) if not part.is_multipart()]
    plain = [part for part in parts if part.get_content_type() == "text/plain" and not part.get_filename()]
    html = [part for part in parts if part.get_content_type() == "text/html" and not part.get_filename()]
    for part in plain or html:
        body = part.get_payload(decode=True)
        text = _decoded(body if isinstance(body, bytes) else b"", part.get_content_charset())
        encoded = str(part.get("content-transfer-encoding", "7bit")).strip().lower()
        if plain:
            yield text, part is message and encoded in ("7bit", "8bit", "binary")
        else:
            yield "\n\n".join(passage.text for passage in read_html(text)), False


def _decoded(body: bytes, charset: str | None) -> str:
    try:
        return body.decode(charset) if charset else decode(body)
    except (LookupError, UnicodeDecodeError):
        return decode(body)


def _header(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message.get(name, "")).split())[:200]
    except Exception:  # headers of spam break the standard library in many ways
        return ""


def _author(message: EmailMessage) -> str:
    name, address = parseaddr(_header(message, "from"))
    return (name or address)[:80]


def _day(message: EmailMessage) -> int | None:
    try:
        when = message["date"].datetime
    except Exception:  # absent, or no date
        return None
    return when.date().toordinal() if isinstance(when, datetime) else None
