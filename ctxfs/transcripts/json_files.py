"""JSON objects of files, one a line or in one document, read in bounded memory. The reader owns no file."""

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ctxfs.transcripts.long_strings import MAX_TEXT_CHARS, JsonReader
from ctxfs.transcripts.message import Json

_MAX_DIRECT_BYTES = 1 << 20  # longer lines are read in pieces
_CHUNK_BYTES = 1 << 18
UNFINISHED = "its last line is not complete yet"


class ByteFile(Protocol):
    """A binary file that is read in order."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes."""
        ...

    def readline(self, size: int, /) -> bytes:
        """Read a line of at most `size` bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Item:
    """A JSON object with its line or element number, or the reason for which there is none."""

    number: int
    value: Json | None
    problem: str = ""


def read_lines(file: ByteFile) -> Iterator[Item]:
    """Yield the objects of JSON lines. A last line without a line feed that is no JSON is UNFINISHED."""
    number = 0
    while line := file.readline(_MAX_DIRECT_BYTES):
        number += 1
        is_complete = line.endswith(b"\n")
        if is_complete or len(line) < _MAX_DIRECT_BYTES:
            text: str | None = line.decode("utf-8-sig" if number == 1 else "utf-8", "replace")
        else:
            text, is_complete = _read_long_line(file, line)
        if text is None or text.strip():
            item = _parse_item(number, text, "line")
            if item.value is None and not is_complete and text is not None:
                item = Item(number, None, UNFINISHED)
            yield item


def _read_long_line(file: ByteFile, begin: bytes) -> tuple[str | None, bool]:
    """Return a line with its long strings shortened, None if it is too long, and True if it has a line feed."""
    reader, decoder = JsonReader(), codecs.getincrementaldecoder("utf-8")("replace")
    piece = begin
    while piece:
        if not reader.is_too_long:
            reader.feed(decoder.decode(piece))
        if piece.endswith(b"\n"):
            break
        piece = file.readline(_CHUNK_BYTES)
    return reader.finish(), piece.endswith(b"\n")


def read_elements(file: ByteFile) -> Iterator[Item]:
    """Yield the objects of a document: the elements of an array, or the one object of another document."""
    reader, decoder = JsonReader(splits=True), codecs.getincrementaldecoder("utf-8-sig")("replace")
    number = 0
    while chunk := file.read(_CHUNK_BYTES):
        for text in reader.feed(decoder.decode(chunk)):
            number += 1
            yield _parse_item(number, text, "element")
    is_open = reader.is_open
    rest = reader.finish()
    if rest is None or rest:
        item = _parse_item(number + 1, rest, "element")
        if item.value is not None or not is_open:
            yield item
    if is_open:
        yield Item(number + 1, None, "it ends in the middle")


def _parse_item(number: int, text: str | None, noun: str) -> Item:
    if text is None:
        return Item(number, None, f"{noun} {number} has more than {MAX_TEXT_CHARS >> 20} MiB beside long strings")
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else "is not JSON"
        return Item(number, None, f"{noun} {number} {reason}")
    if not isinstance(value, dict):
        return Item(number, None, f"{noun} {number} is no JSON object")
    return Item(number, value)
