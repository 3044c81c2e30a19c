"""Parts of a mail message: every text in it, the names of its attachments, and the messages that it contains."""

import codecs
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.policy import Compat32
from email.utils import collapse_rfc2231_value, parseaddr, parsedate_to_datetime
from itertools import islice

from ctxfs.index.extract.charsets import find_codec
from ctxfs.index.extract.formats.html import read_html
from ctxfs.index.extract.text_cleaning import clean
from ctxfs.index.extract.text_decoding import decode

_MAX_PARTS = 200
_MAX_DEPTH = 20
_MAX_HEADER_CHARACTERS = 2_000
_MAX_SHOWN_CHARACTERS = 200
_MIN_HTML_RATIO = 3  # an HTML part with so many times the words of its plain alternative is the message itself
_MIN_HTML_WORDS = 30
_BOUNDARY_LINE = re.compile(rb"^--([^\s-][^\r\n]{0,68}[^\s-]|[^\s-])\s*?$", re.MULTILINE)
_WORD = re.compile(r"\w+")
_VERBATIM_ENCODINGS = ("", "7bit", "8bit", "binary")


@dataclass(frozen=True, slots=True)
class BodyPart:
    """A text of a message under its subject, with its author and day. `is_verbatim`: it is unencoded in the file."""

    text: str
    heading: str
    author: str
    day: int | None
    is_verbatim: bool = False


class _BoundedHeaders(Compat32):
    """A policy that truncates raw headers, because the library's parsers take quadratic time and more for long ones.

    Headers of 8 bits a character are decoded as other texts are.
    """

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name[:_MAX_HEADER_CHARACTERS], value[:_MAX_HEADER_CHARACTERS]

    def header_fetch_parse(self, name: str, value: str) -> str:
        return value if value.isascii() else decode(value.encode("ascii", "surrogateescape"))


_POLICY = _BoundedHeaders()


def parse_message(data: bytes) -> Message:
    """Parse a message. Malformed ones are parsed as far as possible."""
    return message_from_bytes(data, policy=_POLICY)


def read_parts(message: Message) -> Iterator[BodyPart]:
    """Yield the texts of a message in order, then a line with the names of its attachments."""
    yield from islice(_read_message(message, message, 0), _MAX_PARTS)


def _read_message(message: Message, whole: Message, depth: int) -> Iterator[BodyPart]:
    subject, author, day = _read_header(message, "subject"), _read_author(message), _read_day(message)
    names: list[str] = []
    for part in _read_texts(message, whole, depth, names):
        if isinstance(part, BodyPart):
            yield part
        else:
            text, name, is_verbatim = part
            yield BodyPart(
                text, f"{subject} > {name}" if subject and name else subject or name, author, day, is_verbatim
            )
    if names:
        yield BodyPart(f"Attachments: {', '.join(names[:_MAX_PARTS])}", subject, author, day)


def _read_texts(
    part: Message, whole: Message, depth: int, names: list[str]
) -> Iterator[BodyPart | tuple[str, str, bool]]:
    """Yield (text, file name, is verbatim) of each text below a part, and the parts of contained messages.

    Append the names of attachments to `names`.
    """
    if depth > _MAX_DEPTH:
        return
    name = _read_file_name(part)
    children = _children_of(part)
    if part.get_content_type() == "message/rfc822" or part.get_content_type() == "message/global":
        names += [name] if name else []
        for child in children or ():
            yield from _read_message(child, whole, depth + 1)
        return
    if children is not None:
        if part.get_content_subtype() == "alternative":
            children = _choose_alternative(children)
        for child in children:
            yield from _read_texts(child, whole, depth + 1, names)
        return
    names += [name] if name else []
    kind = part.get_content_maintype()
    if kind in ("text", "multipart") or (kind == "message" and not part.is_multipart()):
        text = _read_text(part)
        encoding = str(part.get("content-transfer-encoding", "")).strip().lower()
        is_html = part.get_content_subtype() == "html"
        yield (
            text,
            name,
            part is whole and not is_html and encoding in _VERBATIM_ENCODINGS and part["content-type"] != "",
        )


def _children_of(part: Message) -> list[Message] | None:
    """Return the parts of a multipart, also of one whose boundary is missing or wrong; None for a single part."""
    payload = part.get_payload()
    if isinstance(payload, list):
        return [child for child in payload[:_MAX_PARTS] if isinstance(child, Message)]
    if part.get_content_maintype() != "multipart" or not isinstance(payload, str):
        return [] if part.get_content_maintype() == "message" and part.get_content_subtype() == "rfc822" else None
    body = payload.encode("utf-8", "surrogateescape")
    boundary = _BOUNDARY_LINE.search(body)
    if boundary is None:
        return None
    mark = boundary[1].decode("ascii", "replace").replace('"', "")
    header = f'Content-Type: {part.get_content_type()}; boundary="{mark}"\n\n'
    inner = parse_message(header.encode("ascii", "replace") + body).get_payload()
    return [child for child in inner[:_MAX_PARTS] if isinstance(child, Message)] if isinstance(inner, list) else None


def _choose_alternative(children: list[Message]) -> list[Message]:
    """Return the plain form of a text that has several; another one if that is empty, or is much shorter."""
    plain = [child for child in children if child.get_content_type() == "text/plain"]
    others = [child for child in children if child not in plain]
    if not plain or not others:
        return plain if plain else children
    plain_words = sum(len(_WORD.findall(_read_text(child))) for child in plain)
    html = [child for child in others if child.get_content_type() == "text/html"]
    html_words = sum(len(_WORD.findall(_read_text(child))) for child in html)
    is_stub = html_words >= _MIN_HTML_WORDS and html_words >= _MIN_HTML_RATIO * plain_words
    if not plain_words or is_stub:
        return others
    attached = [child for child in others if child not in html and child.get_content_maintype() != "multipart"]
    return [*plain, *attached]


def _read_text(part: Message) -> str:
    body = part.get_payload(decode=True)
    text = _decode_body(body if isinstance(body, bytes) else b"", part.get_content_charset())
    if part.get_content_subtype() == "html":
        return "\n\n".join(passage.text for passage in read_html(text))
    return clean(text)


def _decode_body(body: bytes, charset: str | None) -> str:
    """Decode a body by its charset; as any text if the charset is absent, unknown, or does not fit the body."""
    name = find_codec(charset) if charset else None
    if name is not None and codecs.lookup(name).name != codecs.lookup("cp1252").name:
        with contextlib.suppress(ValueError):
            return body.decode(name)
    return decode(body)


def _read_file_name(part: Message) -> str:
    value = part.get_param("filename", None, "content-disposition") or part.get_param("name", None)
    if value is None:
        return ""
    with contextlib.suppress(LookupError, ValueError, TypeError):
        if isinstance(value, tuple):
            name = find_codec(str(value[0] or "us-ascii")) or "utf-8"
            value = str(value[2]).encode("raw_unicode_escape", "surrogateescape").decode(name, "replace")
        value = collapse_rfc2231_value(value)
    return _decode_header_text(str(value))


def _read_header(message: Message, name: str) -> str:
    return _decode_header_text(str(message.get(name, "")))


def _decode_header_text(value: str) -> str:
    """Return a header's text, at most 200 characters, with its encoded words (RFC 2047) decoded."""
    pieces = []
    try:
        for piece, charset in decode_header(value):
            pieces.append(piece if isinstance(piece, str) else _decode_word(piece, charset))
        value = "".join(pieces)
    except (LookupError, ValueError, HeaderParseError):
        pass
    return " ".join(clean(value).split())[:_MAX_SHOWN_CHARACTERS]


def _decode_word(data: bytes, charset: str | None) -> str:
    # The library encodes the text around encoded words by this codec.
    return data.decode("raw_unicode_escape", "replace") if charset is None else _decode_body(data, charset)


def _read_author(message: Message) -> str:
    # Encoded words may contain the commas and brackets that separate addresses, so they are decoded afterwards.
    name, address = parseaddr(str(message.get("from", message.get("sender", ""))))
    return (_decode_header_text(name) or address)[:80]


def _read_day(message: Message) -> int | None:
    try:
        return parsedate_to_datetime(str(message["date"])[:100]).date().toordinal()
    except (ValueError, TypeError, IndexError, OverflowError):  # the header is absent or contains no date
        return None
