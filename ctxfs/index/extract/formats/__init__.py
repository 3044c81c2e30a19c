"""File formats whose text must be extracted (HTML, mail, PDF), and the decoding of bytes to text.

The reader of a format yields passages in order; this module joins and splits them into chunks. Lines are those of the
file (pages for a PDF), so that a reader of a hit can find it in the file. This code runs in the worker of an
`Extractor`: no other process parses untrusted files.
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
    """A file that is listed but cannot be searched. The message is the reason that `ctxfs status` shows."""


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def is_extracted(name: str) -> bool:
    """Return True if the text of the file's chunks differs from its lines."""
    return _suffix(name) in _HTML | _MAIL | {_PDF}


def is_slow(name: str) -> bool:
    """Return True for a format that takes long to extract even from a small file."""
    return _suffix(name) == _PDF


def format_of(name: str) -> str:
    """Return the name of the file's format for an error message."""
    suffix = _suffix(name)
    return "PDF" if suffix == _PDF else "mail" if suffix in _MAIL else "HTML" if suffix in _HTML else "text"


def size_limit(name: str, max_file_bytes: int) -> int:
    """Return the maximum size in bytes that is read: ten times as much of a PDF, because little of it is text."""
    return max_file_bytes * _PDF_FACTOR if _suffix(name) == _PDF else max_file_bytes


def decode(data: bytes) -> str:
    """Decode bytes by their byte order mark, else as UTF-8; lines that are not valid UTF-8 as Windows-1252."""
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
    """Return True for a NUL byte in the first 8192 bytes, as in git, unless a UTF-16 byte order mark precedes it."""
    return b"\0" in data[:8192] and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def chunks_of(name: str, data: bytes) -> list[Chunk]:
    """Return the chunks of a file, all of valid Unicode.

    Raise `UnreadableFile` if the file has no searchable text, or more than `MAX_CHUNKS` chunks or `MAX_CHARACTERS`
    characters. This function does not limit its time and memory: `Extractor` does.
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
    """Replace lone surrogates by U+FFFD: JSON and some charsets may contain them, but UTF-8 cannot encode them."""
    if chunk.text.isascii() and chunk.heading.isascii() and chunk.author.isascii():
        return chunk
    texts = (_LONE_SURROGATE.sub("\ufffd", text) for text in (chunk.text, chunk.heading, chunk.author))
    text, heading, author = texts
    return replace(chunk, text=text, heading=heading, author=author)


def gather(passages: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield passages as chunks: join neighbours of equal heading, author and day up to TARGET, and split at LIMIT."""
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
    """Yield parts of a passage of at most LIMIT characters, cut at line ends or spaces where there are any."""
    rest = passage.text.strip()
    while len(rest) > LIMIT:
        at = max(rest.rfind("\n", TARGET, LIMIT), rest.rfind(" ", TARGET, LIMIT))
        at = at if at > 0 else LIMIT
        yield replace(passage, text=rest[:at].rstrip())
        rest = rest[at:].lstrip()
    if rest:
        yield replace(passage, text=rest)
