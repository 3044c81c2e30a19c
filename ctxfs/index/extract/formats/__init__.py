"""File formats whose text must be extracted: HTML, mail, PDF, office documents, books.

The reader of a format yields passages in order; this module joins and splits them into chunks. Lines are those of the
file (pages for a PDF, slides, rows …), so that a reader of a hit can find it in the file. This code runs in the worker of an
`Extractor`: no other process parses untrusted files.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ctxfs.index.extract.blocks import MAX_CHUNK_CHARACTERS, TARGET_CHARACTERS, is_title
from ctxfs.index.extract.chunks import Chunk, split_into_chunks
from ctxfs.index.extract.formats.mail_detection import is_mail, is_mailbox, may_be_mail
from ctxfs.index.extract.pieces import split_text
from ctxfs.index.extract.text_cleaning import clean
from ctxfs.index.extract.text_decoding import read_text

_FORMATS = {
    ".html": "HTML", ".htm": "HTML", ".xhtml": "HTML", ".eml": "mail", ".mbox": "mail", ".pdf": "PDF", ".json": "JSON",
    ".geojson": "JSON", ".har": "JSON", ".webmanifest": "JSON", ".jsonl": "JSON lines", ".ndjson": "JSON lines",
    ".ipynb": "notebook",
    ".docx": "Word", ".docm": "Word", ".dotx": "Word", ".xlsx": "Excel", ".xlsm": "Excel", ".xltx": "Excel",
    ".pptx": "PowerPoint", ".pptm": "PowerPoint", ".ppsx": "PowerPoint", ".potx": "PowerPoint", ".epub": "EPUB",
    ".odt": "OpenDocument", ".ods": "OpenDocument", ".odp": "OpenDocument", ".odg": "OpenDocument", ".ott": "OpenDocument",
    ".fodt": "OpenDocument", ".fods": "OpenDocument", ".fodp": "OpenDocument",
}  # fmt: skip
_SLOW_FORMATS = frozenset(("PDF", "Word", "Excel", "PowerPoint", "OpenDocument", "EPUB"))
_SLOW_SIZE_FACTOR = 10
MAX_CHUNKS = 20_000
MAX_CHARACTERS = 16_000_000
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class UnreadableFile(Exception):
    """A file that is listed but cannot be searched. The message is the reason that `ctxfs status` shows."""


def _suffix_of(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def is_extracted(name: str) -> bool:
    """Return True if the text of the file's chunks differs from its lines."""
    return _suffix_of(name) in _FORMATS


def is_slow(name: str) -> bool:
    """Return True for a format that takes long to extract even from a small file."""
    return format_of(name) in _SLOW_FORMATS


def format_of(name: str) -> str:
    """Return the name of the file's format for an error message."""
    return _FORMATS.get(_suffix_of(name), "text")


def size_limit(name: str, max_file_bytes: int) -> int:
    """Return the maximum size in bytes that is read: ten times as much of a PDF or office file, because it has pictures."""
    return max_file_bytes * _SLOW_SIZE_FACTOR if is_slow(name) else max_file_bytes


def extract_chunks(name: str, data: bytes) -> list[Chunk]:
    """Return the chunks of a file, all of valid Unicode.

    Raise `UnreadableFile` if the file has no searchable text, or more than `MAX_CHUNKS` chunks or `MAX_CHARACTERS`
    characters. This function does not limit its time and memory: `Extractor` does.
    """
    chunks: list[Chunk] = []
    remaining = MAX_CHARACTERS
    for chunk in _read_format(name, data):
        remaining -= len(chunk.text) + len(chunk.heading) + len(chunk.author)
        if len(chunks) == MAX_CHUNKS or remaining < 0:
            raise UnreadableFile(f"{format_of(name)}: falls into too many pieces")
        chunks.append(_replace_surrogates(chunk))
    return chunks


def _read_format(name: str, data: bytes) -> Iterable[Chunk]:
    file_format = format_of(name)
    if file_format == "PDF":
        from ctxfs.index.extract.formats.pdf import read_pdf

        return join_passages(read_pdf(data))
    if file_format in _SLOW_FORMATS:
        return join_passages(_read_archive(file_format, data))
    text = read_text(data)
    if text is None:
        raise UnreadableFile("binary")
    if file_format == "HTML":
        from ctxfs.index.extract.formats.html import read_html

        return join_passages(read_html(text))
    if file_format == "mail" or (may_be_mail(name) and is_mail(data)):
        from ctxfs.index.extract.formats.mail import read_mail

        return join_passages(read_mail(data, is_mbox=_suffix_of(name) == ".mbox" or is_mailbox(data)))
    if file_format in ("JSON", "JSON lines", "notebook"):
        return _read_json_format(name, file_format, text)
    return split_into_chunks(name, text)


def _read_json_format(name: str, file_format: str, text: str) -> Iterable[Chunk]:
    """Return the chunks of a text in JSON: of a notebook, a chat, JSON lines, or else its lines."""
    from ctxfs.index.extract.formats.json_text import read_json, read_json_lines

    passages: Iterable[Chunk] | None = None
    if file_format == "JSON lines":
        return read_json_lines(text)
    if file_format == "notebook":
        from ctxfs.index.extract.formats.notebook import read_notebook

        passages = read_notebook(text)
        passages = join_passages(passages) if passages is not None else None
    else:
        from ctxfs.index.extract.formats.chat_exports import read_chat_export
        from ctxfs.index.extract.formats.slack_users import USERS_NAME, label_users, read_users

        if name == USERS_NAME and (users := read_users(text)):
            return label_users(read_json(name, text), users)
        passages = read_chat_export(text)
    return passages if passages is not None else read_json(name, text)


def _read_archive(file_format: str, data: bytes) -> Iterator[Chunk]:
    """Yield the passages of an office document or a book. Raise `UnreadableFile` without any."""
    from ctxfs.index.extract.formats.epub import read_epub
    from ctxfs.index.extract.formats.office import read_slides, read_word
    from ctxfs.index.extract.formats.opendocument import read_opendocument
    from ctxfs.index.extract.formats.workbook import read_workbook

    readers: dict[str, Callable[[bytes], Iterator[Chunk]]] = {
        "Word": read_word, "Excel": read_workbook, "PowerPoint": read_slides, "OpenDocument": read_opendocument,
        "EPUB": read_epub,
    }  # fmt: skip
    is_empty = True
    try:
        for passage in readers[file_format](data):
            is_empty = False
            yield replace(passage, text=clean(passage.text))
    except UnreadableFile as reason:
        raise UnreadableFile(f"{file_format}: cannot be read ({reason})") from reason
    if is_empty:
        raise UnreadableFile(f"{file_format}: no text in it")


def _replace_surrogates(chunk: Chunk) -> Chunk:
    """Replace lone surrogates by U+FFFD: JSON and some charsets may contain them, but UTF-8 cannot encode them."""
    if chunk.text.isascii() and chunk.heading.isascii() and chunk.author.isascii() and not chunk.labels:
        return chunk
    texts = (_LONE_SURROGATE.sub("\ufffd", text) for text in (chunk.text, chunk.heading, chunk.author))
    text, heading, author = texts
    labels = tuple((name, _LONE_SURROGATE.sub("\ufffd", value)) for name, value in chunk.labels)
    return replace(chunk, text=text, heading=heading, author=author, labels=labels)


def join_passages(passages: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield passages as chunks.

    Join neighbours of equal heading, author and day up to TARGET_CHARACTERS, and a heading to the passage below it.
    Split passages over MAX_CHUNK_CHARACTERS into even parts.
    """
    pending: Chunk | None = None
    for long_passage in passages:
        for passage in _split_passage(long_passage):
            if pending is not None and _can_join(pending, passage):
                text = f"{pending.text}\n{passage.text}"
                pending = replace(pending, text=text, last=passage.last, heading=passage.heading)
                continue
            if pending is not None:
                yield pending
            pending = passage
    if pending is not None:
        yield pending


def _can_join(one: Chunk, other: Chunk) -> bool:
    if (one.author, one.day) != (other.author, other.day) or len(one.text) + len(other.text) >= MAX_CHUNK_CHARACTERS:
        return False
    is_small = one.heading == other.heading and len(one.text) + len(other.text) < TARGET_CHARACTERS
    return is_small or is_title(one.text, one.heading)


def _split_passage(passage: Chunk) -> Iterator[Chunk]:
    """Yield even parts of a passage of at most MAX_CHUNK_CHARACTERS, cut at line ends or spaces where there are any."""
    for text in split_text(passage.text):
        yield replace(passage, text=text)
