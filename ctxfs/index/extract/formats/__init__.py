"""Files whose text is not what is in them byte by byte: HTML, mail, PDF; and how bytes become text.

A reader gives passages in order; here they are joined and split into chunks. Lines are those of the file (pages, for a PDF), so that
a hit can be looked up there. What is here runs in the worker of an `Extractor`: no file that others wrote is parsed elsewhere.
"""

import codecs
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ctxfs.index.extract.chunks import LIMIT, TARGET, Chunk, cut

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_HTML = frozenset((".html", ".htm", ".xhtml"))
_MAIL = frozenset((".eml", ".mbox"))
_PDF = ".pdf"
_PDF_FACTOR = 10
MAX_CHUNKS = 20_000
MAX_CHARACTERS = 16_000_000
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class UnreadableFile(Exception):
    """The file is listed and not searched; the message says why, for `ctxfs status`."""


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def is_extracted(name: str) -> bool:
    """True if chunks of the file do not hold its lines as they are."""
    return _suffix(name) in _HTML | _MAIL | {_PDF}


def is_slow(name: str) -> bool:
    """True for a file that takes long to read however small it is."""
    return _suffix(name) == _PDF


def format_of(name: str) -> str:
    """What a file is called in a reason why it cannot be read."""
    suffix = _suffix(name)
    return "PDF" if suffix == _PDF else "mail" if suffix in _MAIL else "HTML" if suffix in _HTML else "text"


def size_limit(name: str, max_file_bytes: int) -> int:
    """Bytes up to which a file is read; of a PDF only a part is text."""
    return max_file_bytes * _PDF_FACTOR if _suffix(name) == _PDF else max_file_bytes


def decode(data: bytes) -> str:
    """Bytes as text: UTF-8, or what a byte order mark says; a line that is no UTF-8 is taken for Latin-1."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "\n".join(_decoded_line(line) for line in data.split(b"\n"))


def _decoded_line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def is_binary(data: bytes) -> bool:
    """As git decides, by a NUL byte near the beginning; but for text that a byte order mark announces."""
    return b"\0" in data[:8192] and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def chunks_of(name: str, data: bytes) -> list[Chunk]:
    """The chunks of a file, sound Unicode all of them; Unreadable if it holds no text that could be searched.

    Bounded in what it returns, not in the time and memory that it takes: see `extractor.py`.
    """
    chunks: list[Chunk] = []
    left = MAX_CHARACTERS
    for chunk in _read(name, data):
        left -= len(chunk.text) + len(chunk.heading) + len(chunk.author)
        if len(chunks) == MAX_CHUNKS or left < 0:
            raise UnreadableFile(f"{format_of(name)}: falls into too many pieces")
        chunks.append(_sound(chunk))
    return chunks


def _read(name: str, data: bytes) -> Iterable[Chunk]:
    suffix = _suffix(name)
    if suffix == _PDF:
        from ctxfs.index.extract.formats.pdf import read_pdf

        return gather(read_pdf(data))
    if is_binary(data):
        raise UnreadableFile("binary")
    text = decode(data)
    if suffix in _HTML:
        from ctxfs.index.extract.formats.html import read_html

        return gather(read_html(text))
    if suffix in _MAIL:
        from ctxfs.index.extract.formats.mail import read_mail

        return gather(read_mail(data, many=suffix == ".mbox"))
    return cut(name, text)


def _sound(chunk: Chunk) -> Chunk:
    """The chunk without halves of surrogate pairs, which JSON and some charsets may hold and nothing can store or send."""
    if chunk.text.isascii() and chunk.heading.isascii() and chunk.author.isascii():
        return chunk
    texts = (_LONE_SURROGATE.sub("\ufffd", text) for text in (chunk.text, chunk.heading, chunk.author))
    text, heading, author = texts
    return replace(chunk, text=text, heading=heading, author=author)


def gather(passages: Iterable[Chunk]) -> Iterator[Chunk]:
    """Chunks as chunks: neighbours of one heading, author and day joined up to TARGET, longer ones split at LIMIT."""
    held: Chunk | None = None
    for whole in passages:
        for passage in _split(whole):
            if held is not None and _alike(held, passage) and len(held.text) + len(passage.text) < TARGET:
                held = replace(held, text=f"{held.text}\n{passage.text}", last=passage.last)
                continue
            if held is not None:
                yield held
            held = passage
    if held is not None:
        yield held


def _alike(one: Chunk, other: Chunk) -> bool:
    return (one.heading, one.author, one.day) == (other.heading, other.author, other.day)


def _split(passage: Chunk) -> Iterator[Chunk]:
    """Parts of a passage at spaces, each below LIMIT."""
    rest = passage.text.strip()
    while len(rest) > LIMIT:
        at = max(rest.rfind("\n", TARGET, LIMIT), rest.rfind(" ", TARGET, LIMIT))
        at = at if at > 0 else LIMIT
        yield replace(passage, text=rest[:at].rstrip())
        rest = rest[at:].lstrip()
    if rest:
        yield replace(passage, text=rest)
