"""Reader of mail: the messages of a message file (.eml, Maildir) or mailbox (.mbox), each with author, day and subject."""

import re
from collections.abc import Iterator

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats.mail_detection import find_separators, header_block
from ctxfs.index.extract.formats.mail_parts import BodyPart, parse_message, read_parts
from ctxfs.index.extract.text_cleaning import clean
from ctxfs.index.extract.text_decoding import decode

_QUOTED_FROM = re.compile(rb"^>(?=>*From )", re.MULTILINE)
_PARAGRAPH_END = re.compile(r"(\n\s*\n)")
_MAX_BOUNDARIES = 200
_MAX_HEADERS = 1_000


def read_mail(data: bytes, *, is_mbox: bool) -> Iterator[Chunk]:
    """Yield the paragraphs of every message; `is_mbox` splits the data at its separators.

    The lines are exact for a message of one unencoded plain-text part, and otherwise those of the whole message.
    """
    starts = find_separators(data) if is_mbox else []
    for start, end in zip(starts or [0], [*starts[1:], len(data)], strict=True):
        source = data[start:end]
        first_line = data.count(b"\n", 0, start) + 1
        last_line = first_line + source.count(b"\n")
        if starts:
            source = _QUOTED_FROM.sub(b"", source.partition(b"\n")[2])
        yield from _read_message(source, first_line + bool(starts), last_line)


def _read_message(data: bytes, first_line: int, last_line: int) -> Iterator[Chunk]:
    """Yield the paragraphs of one message; its whole source as one chunk if the message is malformed or hostile."""
    try:
        if data.count(b"boundary=") > _MAX_BOUNDARIES or len(header_block(data).splitlines()) > _MAX_HEADERS:
            raise ValueError("too many headers or boundaries")
        passages = list(_read_passages(data, first_line, last_line))
    except Exception:  # the library raises errors of many types
        passages = [Chunk(clean(decode(data)).strip(), first_line, last_line)]
    yield from passages


def _read_passages(data: bytes, first_line: int, last_line: int) -> Iterator[Chunk]:
    message = parse_message(data)
    for part in read_parts(message):
        if not part.is_verbatim:
            yield from _split_paragraphs(part, first_line, last_line, last_line)
            continue
        body = message.get_payload(decode=True)
        body_lines = body.count(b"\n") if isinstance(body, bytes) else 0
        line = first_line + max(0, data.count(b"\n") - body_lines)
        yield from _split_paragraphs(part, line, line, last_line)


def _split_paragraphs(part: BodyPart, line: int, first_end: int, last_line: int) -> Iterator[Chunk]:
    """Yield the paragraphs of a part.

    Those of a verbatim part begin at `line`. Those of others have the lines `line` to `first_end`.
    """
    start = line
    for paragraph in _PARAGRAPH_END.split(part.text):
        if paragraph.strip():
            first, end = line, first_end
            if part.is_verbatim:
                first, end = min(start, last_line), min(start + paragraph.rstrip().count("\n"), last_line)
            yield Chunk(paragraph.strip(), first, end, part.heading, part.author, part.day)
        start += paragraph.count("\n")
