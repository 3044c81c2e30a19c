"""Reader of JSON and JSON lines: strings without their escapes, and messages with their authors."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ctxfs.index.extract.chunks import Chunk, split_into_chunks
from ctxfs.index.extract.formats.json_messages import (
    Message,
    find_author,
    find_day,
    has_messages,
    iterate_messages,
)
from ctxfs.index.extract.pieces import shorten_opaque_runs, split_text

_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_SIMPLE_ESCAPES = {"b": " ", "f": " ", "n": "\n", "r": " ", "t": "\t"}
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LINE_END = "\x0b"  # stands for the escape of a line end while the lines of the file are counted
_MAX_WHOLE_RECORDS = 5_000
_MAX_MESSAGES = 15_000
_MAX_SAMPLE_RECORDS = 20
_MAX_RECORD_CHARACTERS = 20_000_000
_MAX_PIECE = 1_000  # the name of its author comes on top


def decode_escapes(text: str, line_end: str = "\n") -> str:
    """Return JSON with the escapes in its strings decoded; a lone half of a surrogate pair stays one."""
    if "\\" not in text:
        return text

    def decode(match: re.Match[str]) -> str:
        if match[1]:
            char = chr(int(match[1], 16))
            return line_end if char == "\n" else char
        return line_end if match[2] == "n" else _SIMPLE_ESCAPES.get(match[2], match[2])

    return _SURROGATE_PAIR.sub(_join_pair, _ESCAPE.sub(decode, text))


def _join_pair(match: re.Match[str]) -> str:
    high, low = match[0][0], match[0][1]
    return chr(0x10000 + ((ord(high) - 0xD800) << 10) + (ord(low) - 0xDC00))


def parse_json(text: str) -> Any:
    """Return the value of a JSON text; None if it is malformed, nested too deeply or too long."""
    if len(text) > _MAX_RECORD_CHARACTERS:
        return None
    for parse_int in (None, str):  # Python parses no integer of more than 4,300 digits
        try:
            return json.loads(text, parse_int=parse_int)
        except (ValueError, RecursionError, MemoryError):
            continue
    return None


def read_json_lines(text: str) -> Iterator[Chunk]:
    """Yield the records of JSON lines, a message or a piece of one each. Only line feeds end a record."""
    lines = [line.strip("\r\ufeff") for line in text.split("\n")]
    if sum(map(bool, lines)) <= _MAX_WHOLE_RECORDS or _has_messages_in_sample(lines):
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield from _read_record(line, number)
        return
    # Records of a long log share chunks: one vector for each of a hundred thousand lines would take hours.
    for chunk in split_into_chunks("log.txt", decode_escapes(text, _LINE_END)):
        yield replace(chunk, text=chunk.text.replace(_LINE_END, "\n"))


def _has_messages_in_sample(lines: list[str]) -> bool:
    """Return True for a long conversation, of which each message keeps its author."""
    count = sum(map(bool, lines))
    sample = [line for line in lines[:200] if line.strip()][:_MAX_SAMPLE_RECORDS]
    return count <= _MAX_MESSAGES and sum(has_messages(parse_json(line)) for line in sample) * 2 > len(sample)


def _read_record(line: str, number: int) -> Iterator[Chunk]:
    record = parse_json(line)
    if isinstance(record, dict | list) and has_messages(record):
        messages = join_envelope(list(iterate_messages(record)))
        yield from fit_messages(((message, number, number) for message in messages), "")
        return
    author, day = (find_author(record), find_day(record)) if isinstance(record, dict) else ("", None)
    for piece in split_text(shorten_opaque_runs(decode_escapes(line))):
        yield Chunk(piece, number, number, "", author, day)


def join_envelope(messages: list[Message]) -> list[Message]:
    """Return the messages of a record; the fields around them belong to the first one that has an author."""
    index = next((index for index, message in enumerate(messages) if message.author), None)
    around = [message.text for message in messages[: index or 0]]
    if not around or index is None:
        return messages
    first = messages[index]
    return [replace(first, text="\n".join((first.text, *around))), *messages[index + 1 :]]


def read_json(name: str, text: str) -> Iterator[Chunk]:
    """Yield the chunks of a JSON text by its lines, with the escapes in its strings decoded."""
    for chunk in split_into_chunks(name, decode_escapes(text, _LINE_END)):
        yield replace(chunk, text=chunk.text.replace(_LINE_END, "\n"))


def fit_messages(messages: Iterable[tuple[Message, int, int]], heading: str) -> Iterator[Chunk]:
    """Yield (message, first line, last line) as chunks; each piece of a long message begins with its author."""
    for message, first, last in messages:
        for piece in split_text(message.text, _MAX_PIECE):
            shown = f"{message.author}: {piece}" if message.author else piece
            yield Chunk(shown, first, last, heading, message.author, message.day)
