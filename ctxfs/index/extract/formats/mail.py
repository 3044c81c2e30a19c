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
from ctxfs.index.extract.formats.html import read_html
from ctxfs.index.extract.text_decoding import decode

_FROM_LINE = re.compile(rb"^From \S+.*$", re.MULTILINE)
_MAX_PARTS = 200
_MAX_BOUNDARIES = 200
_MAX_HEADER_CHARACTERS = 2_000
_MAX_HEADERS = 1_000
# Python lists these as text encodings. Mail uses none of them, and some take quadratic time.
_UNSAFE_CHARSETS = frozenset(("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "rot_13"))


class _BoundedHeaders(Compat32):
    """A policy that truncates raw headers, because the library's parsers take quadratic time and more for long ones."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name[:_MAX_HEADER_CHARACTERS], value[:_MAX_HEADER_CHARACTERS]


_POLICY = _BoundedHeaders()


def read_mail(data: bytes, *, is_mbox: bool) -> Iterator[Chunk]:
    """Yield the paragraphs of every message; `is_mbox` splits the data at the lines `From …`.

    The lines are exact for a message of one unencoded plain-text part, and otherwise those of the whole message.
    """
    starts = [match.start() for match in _FROM_LINE.finditer(data)] if is_mbox else []
    for start, end in zip(starts or [0], [*starts[1:], len(data)], strict=True):
        source = data[start:end]
        first_line = data.count(b"\n", 0, start) + 1
        yield from _read_message(
            source.split(b"\n", 1)[-1] if starts else source,
            first_line + bool(starts),
            first_line + source.count(b"\n"),
        )


def _read_message(data: bytes, first_line: int, last_line: int) -> Iterator[Chunk]:
    """Yield the paragraphs of one message; its whole source as one chunk if the message is malformed or hostile."""
    try:
        if data.count(b"boundary=") > _MAX_BOUNDARIES or len(_header_block(data).splitlines()) > _MAX_HEADERS:
            raise ValueError("too many headers or boundaries")
        passages = list(_read_passages(data, first_line, last_line))
    except Exception:  # the library raises errors of many types
        passages = [Chunk(decode(data).strip(), first_line, last_line)]
    yield from passages


def _header_block(data: bytes) -> bytes:
    match = re.search(rb"\r?\n\r?\n", data)
    return data[: match.start()] if match else data


def _read_passages(data: bytes, first_line: int, last_line: int) -> Iterator[Chunk]:
    message = message_from_bytes(data, policy=_POLICY)
    subject, author, day = _read_header(message, "subject"), _read_author(message), _read_day(message)
    for text, is_verbatim in _read_texts(message):
        line = first_line + _count_header_lines(data, message) if is_verbatim else 0
        for paragraph in re.split(r"(\n\s*\n)", text):
            if paragraph.strip():
                span = (
                    (min(line, last_line), min(line + paragraph.rstrip().count("\n"), last_line))
                    if is_verbatim
                    else (first_line, last_line)
                )
                yield Chunk(paragraph.strip(), span[0], span[1], subject, author, day)
            line += paragraph.count("\n")


def _count_header_lines(data: bytes, message: Message) -> int:
    """Return the number of lines before the body, which need not follow an empty line if a header is malformed."""
    body = message.get_payload(decode=True)
    return max(0, data.count(b"\n") - body.count(b"\n")) if isinstance(body, bytes) else 0


def _read_texts(message: Message) -> Iterator[tuple[str, bool]]:
    """Yield (text, is verbatim in the file) of the plain-text parts, or of the HTML parts if there are no others."""
    parts = [part for _, part in zip(range(_MAX_PARTS), message.walk(), strict=False) if not part.is_multipart()]
    plain_parts = [part for part in parts if part.get_content_type() == "text/plain" and not part.get_filename()]
    html_parts = [part for part in parts if part.get_content_type() == "text/html" and not part.get_filename()]
    for part in plain_parts or html_parts:
        body = part.get_payload(decode=True)
        text = _decode_body(body if isinstance(body, bytes) else b"", part.get_content_charset())
        encoded = str(part.get("content-transfer-encoding", "7bit")).strip().lower()
        if plain_parts:
            yield text, part is message and encoded in ("7bit", "8bit", "binary")
        else:
            yield "\n\n".join(passage.text for passage in read_html(text)), False


def _decode_body(body: bytes, charset: str | None) -> str:
    """Decode a body by its charset; by `decode` if the charset is absent, unknown, unsafe or does not fit the body."""
    try:
        if charset and codecs.lookup(charset).name.replace("-", "_") not in _UNSAFE_CHARSETS:
            return body.decode(charset)
    except (LookupError, ValueError):  # ValueError: a decoding error, or a charset name that contains NUL
        pass
    return decode(body)


def _read_header(message: Message, name: str) -> str:
    return _decode_header_text(str(message.get(name, "")))


def _decode_header_text(value: str) -> str:
    """Return a header's text, at most 200 characters, with its encoded words (RFC 2047) decoded."""
    with contextlib.suppress(LookupError, ValueError, HeaderParseError):
        value = str(make_header(decode_header(value)))
    return " ".join(value.split())[:200]


def _read_author(message: Message) -> str:
    name, address = parseaddr(str(message.get("from", "")))
    return (_decode_header_text(name) or address)[:80]


def _read_day(message: Message) -> int | None:
    try:
        return parsedate_to_datetime(str(message["date"])[:100]).date().toordinal()
    except (ValueError, TypeError, IndexError, OverflowError):  # the header is absent or contains no date
        return None
