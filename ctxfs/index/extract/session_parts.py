"""Sessions' files of the event log as parts of bounded size, and the records of a part as chunks.

A file only grows, and may be large. So it is indexed in parts of 64 KiB, cut at ends of lines by one rule from the
beginning of the file: only the last part changes when records are added. Each part is a file of the catalog, whose path
is a child of the session's file (`part_path`). A line without its end is not a record yet. A file with another inode
was written again: records were erased, or the file was compressed.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, NamedTuple

from ctxfs.eventlog.log import COMPRESSED_SUFFIX, SUFFIX, is_day, is_session
from ctxfs.eventlog.record_text import (
    Message,
    parse_line,
    recorded_at_of,
    searched_message_of,
)
from ctxfs.eventlog.session_files import ContentState, read_lines
from ctxfs.index.engines.catalog_schema import FileRow, FileStat, first_line_of, part_path
from ctxfs.index.extract.blocks import MAX_CHUNK_CHARACTERS
from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.pieces import CUT_MARK, shorten_opaque_runs, split_text
from ctxfs.index.extract.text_cleaning import clean
from ctxfs.store import rooted_fs

KIND = "history"
PART_BYTES = 65_536
SESSION_LABEL = "session"
PRINCIPAL_LABEL = "principal"
_LINES_LABEL = "principal.lines"  # of a part with records of several principals: `<principal> <line> <line> …`
# Of the chunks and labels of parts. Parts of another format are read again.
PARTS_FORMAT = "2"
_MAX_CLIENT_SESSIONS = 16
_MAX_PRINCIPALS = 64
Parts = tuple[str, ...]


class Part(NamedTuple):
    """A byte range of a session's file, and the number of its first line."""

    first_line: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class PartText:
    """The lines of a part, of which one over MAX_WHOLE_RECORD_BYTES is cut; `sha256` depends on all bytes."""

    part: Part
    lines: Sequence[bytes]
    sha256: bytes


@dataclass(frozen=True, slots=True)
class SplitPart:
    """The chunks of a part, the names by which a filter finds its session, and the time of its last record in ns."""

    chunks: Sequence[Chunk]
    labels: Sequence[tuple[str, str]]
    mtime_ns: int


def session_parts(parts: Parts) -> Parts | None:
    """Return (day, session's file) for a path below the event log, compressed or not; None for another path."""
    if len(parts) != 2 or not is_day(parts[0]):
        return None
    name = parts[1].removesuffix(COMPRESSED_SUFFIX)
    return (parts[0], name) if name.endswith(SUFFIX) and is_session(name.removesuffix(SUFFIX)) else None


def list_sessions(root: str, below: Parts = ()) -> list[Parts]:
    """Return the sessions' files below the folder of an event log, or of a day of it, in order."""
    days = [below[0]] if below else [name for name in _list_names(root, ()) if is_day(name)]
    pairs = (session_parts((day, name)) for day in days for name in _list_names(root, (day,)))
    return sorted({parts for parts in pairs if parts is not None})


def _list_names(root: str, parts: Parts) -> list[str]:
    try:
        with rooted_fs.listed_directory(root, parts) as listing:
            return sorted(os.listdir(listing))
    except OSError:
        return []


def is_current(stat: ContentState, rows: Iterable[FileRow]) -> bool:
    """Return True if the parts `rows`, in order, are those of a file in this state: no byte of it need be read."""
    end = 0
    for row in rows:
        if row.stat[2] != stat.inode or row.stat[3] != end:
            return False
        end += row.stat[0]
    return end == stat.size


def read_changes(file: IO[bytes], stat: ContentState, rows: Sequence[FileRow]) -> Iterator[PartText | str]:
    """Yield the paths of the parts `rows` that are unchanged without being read, then the other parts of the file.

    The last full part is read again: an append that was cut off, indexed and then rolled back has changed it. Then, and
    in a file that was written again, every part is read.
    """
    known_end = rows[-1].stat[0] + rows[-1].stat[3] if rows else 0
    if len(rows) > 1 and known_end <= stat.size and all(row.stat[2] == stat.inode for row in rows):
        last_full = rows[-2]
        parts = read_parts(file, Part(first_line_of(last_full.path), last_full.stat[3], 0), stat.size)
        if (part := next(parts, None)) is not None and part.sha256 == last_full.sha256:
            yield from (row.path for row in rows[:-1])
            yield from parts
            return
    yield from read_parts(file, Part(1, 0, 0), stat.size)


def read_parts(file: IO[bytes], start: Part, end: int) -> Iterator[PartText]:
    """Yield the parts of a file from the beginning of `start` up to the offset `end`. Memory is bounded by the lines.

    A part ends before the line that would exceed PART_BYTES; a longer line is a part of its own.
    """
    file.seek(start.offset)
    first_line, offset, length = start.first_line, start.offset, 0
    lines: list[bytes] = []
    digest = hashlib.sha256()
    for line, size, sha256 in read_lines(file, end - start.offset):
        if lines and length + size > PART_BYTES:
            yield PartText(Part(first_line, offset, length), lines, digest.digest())
            first_line, offset, length = first_line + len(lines), offset + length, 0
            lines, digest = [], hashlib.sha256()
        lines.append(line)
        length += size
        digest.update(sha256 or line)
    if lines:
        yield PartText(Part(first_line, offset, length), lines, digest.digest())


def stat_of(text: PartText, inode: int, mtime_ns: int) -> FileStat:
    """Return the values by which the catalog recognises a part: length, time of its last record, inode, offset."""
    return text.part.length, mtime_ns, inode, text.part.offset


def path_of(path: str, text: PartText) -> str:
    """Return the path of a part in the catalog; `path` is that of the session's file."""
    return part_path(path, text.part.first_line)


def split_part(name: str, text: PartText) -> SplitPart:
    """Return the records of a part of the session's file `name` as chunks.

    Lines that are no records, and records without a message, have none.
    """
    chunks: list[Chunk] = []
    sessions = {name.removesuffix(SUFFIX): None}
    lines_of: dict[str, list[int]] = {}
    mtime_ns = 0
    for number, line in enumerate(text.lines, text.part.first_line):
        record = parse_line(line, is_head=not line.endswith(b"\n"))
        if record is None:
            continue
        if (recorded_at := recorded_at_of(record)) is not None:
            mtime_ns = int(recorded_at.timestamp() * 1000) * 1_000_000
        client_session = record.get("client_session")
        if isinstance(client_session, str) and len(sessions) < _MAX_CLIENT_SESSIONS:
            sessions[client_session] = None
        if (message := searched_message_of(record)) is not None:
            chunks.extend(split_message(message, number))
            principal = str(record.get("principal", ""))
            if principal in lines_of or len(lines_of) < _MAX_PRINCIPALS:
                lines_of.setdefault(principal, []).append(number)
    labels = [(SESSION_LABEL, session) for session in sessions]
    return SplitPart(chunks, [*labels, *_label_principals(lines_of)], max(0, mtime_ns))


def _label_principals(lines_of: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, str]]:
    """Yield a label for each principal, and for its lines if there are several principals."""
    for principal, lines in lines_of.items():
        yield PRINCIPAL_LABEL, principal
        if len(lines_of) > 1:
            yield _LINES_LABEL, " ".join((principal, *map(str, lines)))


def labels_of_lines(labels: Iterable[tuple[str, str]]) -> Callable[[int], list[tuple[str, str]]]:
    """Return a function from a line of a part to its labels: those of the part, with the principal of the line alone."""
    common, principals = list[tuple[str, str]](), dict[int, str]()
    own = list[tuple[str, str]]()
    for name, value in labels:
        if name == _LINES_LABEL:
            principal, *lines = value.split(" ")
            principals |= dict.fromkeys(map(int, lines), principal)
        else:
            (own if name == PRINCIPAL_LABEL else common).append((name, value))
    if not principals:
        return lambda line: [*common, *own]
    return lambda line: [*common, *([(PRINCIPAL_LABEL, principals[line])] if line in principals else [])]


def split_message(message: Message, line: int) -> Iterator[Chunk]:
    """Yield the chunk of a message, or several of a long one; each begins with the name of the speaker.

    The messages of tools repeat files and pages, so that they are not embedded.
    """
    said_at = message.said_at
    day, said = (said_at.toordinal(), int(said_at.timestamp())) if said_at is not None else (None, None)
    text = shorten_opaque_runs(clean(message.text)) + (f" {CUT_MARK}" if message.is_cut else "")
    label = f"{message.speaker}: "
    for piece in _split_lines(text):
        yield Chunk(
            label + piece,
            line,
            line,
            author=message.speaker,
            day=day,
            said=said,
            embeddable=not message.is_from_tool,
        )


def _split_lines(text: str) -> Iterator[str]:
    """Yield pieces of whole lines, up to MAX_CHUNK_CHARACTERS. Of a longer line, pieces that CUT_MARK joins.

    So a line of a message is in one piece, or in pieces that exact search cannot rule out.
    """
    lines: list[str] = []
    size = 0
    for line in text.split("\n"):
        if lines and size + len(line) > MAX_CHUNK_CHARACTERS:
            yield "\n".join(lines).strip("\n")
            lines, size = [], 0
        if len(line) <= MAX_CHUNK_CHARACTERS:
            lines += [line] if lines or line.strip() else []
            size += len(line) + 1
            continue
        for number, piece in enumerate(split_text(line)):
            yield f"{CUT_MARK if number else ''}{piece}{CUT_MARK}"
    if any(line.strip() for line in lines):
        yield "\n".join(lines).strip("\n")


def message_lines(file: IO[bytes], size: int, principal: str = "") -> Iterator[tuple[int, str]]:
    """Yield (line of the file, line of a message) of all messages, or of those that a principal recorded.

    The first line of each begins with its speaker.
    """
    for number, (line, _, _) in enumerate(read_lines(file, size), 1):
        record = parse_line(line, is_head=not line.endswith(b"\n"))
        if record is None or (principal and record.get("principal") != principal):
            continue
        message = searched_message_of(record, is_whole=True)
        if message is not None:
            for text in f"{message.speaker}: {clean(message.text)}".split("\n"):
                yield number, text
