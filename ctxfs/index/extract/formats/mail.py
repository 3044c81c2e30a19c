"""Reader of mail: the text, author, day and subject of each message in a message file (.eml) or mailbox (.mbox)."""

import codecs
import contextlib
import re
from collections.abc import Iterator
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.policy import Compat32
from email.utils import parseaddr, parsedate_to_datetime

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats import decode
from ctxfs.index.extract.formats.html import read_html

_MESSAGE = re.compile(rb"^From \S+.*$", re.MULTILINE)
_PARTS = 200
_MAX_BOUNDARIES = 200
_MAX_HEADER_CHARACTERS = 2_000
_MAX_HEADERS = 1_000
# Python lists these as text encodings. Mail uses none of them, and some take quadratic time.
_NO_CHARSETS = frozenset(("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "rot_13"))


class _BoundedHeaders(Compat32):
    """A policy that truncates raw headers, because the library's parsers take quadratic time and more for long ones."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name[:_MAX_HEADER_CHARACTERS], value[:_MAX_HEADER_CHARACTERS]


_POLICY = _BoundedHeaders()


def read_mail(data: bytes, *, many: bool) -> Iterator[Chunk]:
    """Yield the paragraphs of every message; `many` splits the data as an mbox file.

    The lines are exact for a message of one unencoded plain-text part, and otherwise those of the whole message.
    """
    starts = [found.start() for found in _MESSAGE.finditer(data)] if many else []
    for start, end in zip(starts or [0], [*starts[1:], len(data)], strict=True):
        whole = data[start:end]
        first = data.count(b"\n", 0, start) + 1
        yield from _read(
            whole.split(b"\n", 1)[-1] if starts else whole, first + bool(starts), first + whole.count(b"\n")
        )


def _read(data: bytes, first: int, last: int) -> Iterator[Chunk]:
    """Yield the paragraphs of one message; its whole source as one chunk if the message is malformed or hostile."""
    try:
        if data.count(b"boundary=") > _MAX_BOUNDARIES or len(_head(data).splitlines()) > _MAX_HEADERS:
            raise ValueError("no person or program sends this")
        passages = list(_passages(data, first, last))
    except Exception:  # the library raises errors of many types
        passages = [Chunk(decode(data).strip(), first, last)]
    yield from passages


def _head(data: bytes) -> bytes:
    found = re.search(rb"\r?\n\r?\n", data)
    return data[: found.start()] if found else data


def _passages(data: bytes, first: int, last: int) -> Iterator[Chunk]:
    message = message_from_bytes(data, policy=_POLICY)
    subject, author, day = _header(message, "subject"), _author(message), _day(message)
    for text, exact in _texts(message):
        at = first + _body_line(data, message) if exact else 0
        for paragraph in re.split(r"(\n\s*\n)", text):
            if paragraph.strip():
                lines = (min(at, last), min(at + paragraph.rstrip().count("\n"), last)) if exact else (first, last)
                yield Chunk(paragraph.strip(), lines[0], lines[1], subject, author, day)
            at += paragraph.count("\n")


def _body_line(data: bytes, message: Message) -> int:
    """Return the number of lines before the body, which need not follow an empty line if a header is malformed."""
    body = message.get_payload(decode=True)
    return max(0, data.count(b"\n") - body.count(b"\n")) if isinstance(body, bytes) else 0


def _texts(message: Message) -> Iterator[tuple[str, bool]]:
    """Yield (text, is verbatim in the file) of the plain-text parts, or of the HTML parts if there are no others."""
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
    """Decode a body by its charset; by `decode` if the charset is absent, unknown, unsafe or does not fit the body."""
    try:
        if charset and codecs.lookup(charset).name.replace("-", "_") not in _NO_CHARSETS:
            return body.decode(charset)
    except (LookupError, ValueError):  # ValueError: a decoding error, or a charset name that contains NUL
        pass
    return decode(body)


def _header(message: Message, name: str) -> str:
    return _plain(str(message.get(name, "")))


def _plain(value: str) -> str:
    """Return a header's text, at most 200 characters, with its encoded words (RFC 2047) decoded."""
    with contextlib.suppress(LookupError, ValueError, HeaderParseError):
        value = str(make_header(decode_header(value)))
    return " ".join(value.split())[:200]


def _author(message: Message) -> str:
    name, address = parseaddr(str(message.get("from", "")))
    return (_plain(name) or address)[:80]


def _day(message: Message) -> int | None:
    try:
        return parsedate_to_datetime(str(message["date"])[:100]).date().toordinal()
    except (ValueError, TypeError, IndexError, OverflowError):  # the header is absent or contains no date
        return None
