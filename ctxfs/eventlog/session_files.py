"""The files of sessions in the folder of an event log, read as streams: bounded memory, from any offset on.

`EventLog.read` returns a whole file; this module serves all other readers. It reads the same folder and changes nothing.
No link is followed. A file of an old day may be compressed; its content is the same. A line without its end is being
written, and is no record yet.
"""

import contextlib
import errno
import gzip
import hashlib
import logging
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as HostPath
from typing import IO, NamedTuple, cast

from ctxfs.eventlog.log import COMPRESSED_SUFFIX, SUFFIX, EventLog, is_day, is_session
from ctxfs.eventlog.record_text import MAX_WHOLE_RECORD_BYTES, RECORD_HEAD_BYTES
from ctxfs.model.host_numbers import inode_of, mtime_ns_of
from ctxfs.store import rooted_fs

log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20
_TRAILER_BYTES = 4  # of a gzip file: the size of its content


@dataclass(frozen=True, slots=True)
class ContentState:
    """The inode of a session's file, and the size of its uncompressed content."""

    inode: int
    size: int


class SessionLine(NamedTuple):
    """A line with its end. Of one over MAX_WHOLE_RECORD_BYTES, `data` is the head, and `sha256` the digest of all of it."""

    data: bytes
    size: int
    sha256: bytes = b""

    @property
    def is_head(self) -> bool:
        """True if `data` is the head of a longer line."""
        return bool(self.sha256)


@dataclass(frozen=True, slots=True)
class SessionFile:
    """A file of a session: its log, its day, its name on the host, and the attributes that change with its content."""

    root: str
    day: str
    session: str
    host_name: str
    inode: int
    size: int
    mtime_ns: int

    @property
    def name(self) -> str:
        """The path of the file in the tree, as records are cited."""
        return f"history/{self.day}/{self.session}{SUFFIX}"

    @property
    def is_compressed(self) -> bool:
        """True for a file of an old day, whose size is that of the compressed data."""
        return self.host_name.endswith(COMPRESSED_SUFFIX)


class SessionFiles:
    """The files of sessions in the folder of an event log. Methods block."""

    def __init__(self, folder: HostPath) -> None:
        self.folder = folder
        self._log = EventLog(folder)

    def days(self) -> list[str]:
        """Return the dates that have records, in order."""
        return self._log.days()

    def of_session(self, session: str) -> list[SessionFile]:
        """Return the files of a session, oldest first; none for an unknown session."""
        files = (self._find(day, session) for day in self._log.days_of(session))
        return [file for file in files if file is not None]

    def of_session_day(self, session: str, day: str) -> SessionFile | None:
        """Return the file of a session on a day; None without one."""
        return self._find(day, session) if is_day(day) and is_session(session) else None

    def of_day(self, day: str) -> list[SessionFile]:
        """Return the files of a day, by session."""
        sessions = self._log.sessions(day) if is_day(day) else []
        files = (self._find(day, session) for session in sessions if is_session(session))
        return [file for file in files if file is not None]

    def day_mtime_ns(self, day: str) -> int:
        """Return the time at which a file of a day was last created, replaced or removed; 0 without the day."""
        return self._log.last_created_ns(day)

    def _find(self, day: str, session: str) -> SessionFile | None:
        for suffix in (SUFFIX, SUFFIX + COMPRESSED_SUFFIX):
            name = f"{session}{suffix}"
            try:
                stat = os.stat(f"{self.folder}/{day}/{name}", follow_symlinks=False)
            except OSError:
                continue
            return SessionFile(str(self.folder), day, session, name, inode_of(stat), stat.st_size, mtime_ns_of(stat))
        return None


def stat_content(root: str, day: str, name: str) -> ContentState:
    """Return the state of a session's file `<session>.jsonl`, compressed or not. Raise OSError ENOENT."""
    with contextlib.suppress(FileNotFoundError), rooted_fs.directory_of(root, (day, name)) as (folder, last_name):
        stat = os.stat(last_name, dir_fd=folder, follow_symlinks=False)
        return ContentState(inode_of(stat), stat.st_size)
    with _open_compressed(root, day, name) as file:
        return _stat_compressed(file)


@contextlib.contextmanager
def open_content(root: str, day: str, name: str) -> Iterator[tuple[IO[bytes], ContentState]]:
    """Yield the uncompressed content of a session's file `<session>.jsonl`, and its state. Raise OSError ENOENT.

    Raise OSError EIO in the block for a damaged compressed file.
    """
    try:
        fd = rooted_fs.open_file(root, (day, name))
    except FileNotFoundError:
        with _open_compressed(root, day, name) as packed:
            stat = _stat_compressed(packed)
            try:
                with gzip.GzipFile(fileobj=packed) as content:
                    yield cast(IO[bytes], content), stat
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise OSError(errno.EIO, "this compressed file is damaged") from error
        return
    with open(fd, "rb", buffering=_BLOCK_BYTES) as plain:
        status = os.fstat(fd)
        yield plain, ContentState(inode_of(status), status.st_size)


def _open_compressed(root: str, day: str, name: str) -> IO[bytes]:
    return open(rooted_fs.open_file(root, (day, name + COMPRESSED_SUFFIX)), "rb", buffering=_BLOCK_BYTES)


def _stat_compressed(file: IO[bytes]) -> ContentState:
    status = os.fstat(file.fileno())
    trailer = os.pread(file.fileno(), _TRAILER_BYTES, max(0, status.st_size - _TRAILER_BYTES))
    return ContentState(inode_of(status), int.from_bytes(trailer, "little"))


def read_lines(content: IO[bytes], remaining: int | None = None) -> Iterator[SessionLine]:
    """Yield the complete lines from the position of a content on, within a number of bytes [default: all].

    Memory is bounded by MAX_WHOLE_RECORD_BYTES.
    """
    rest = float("inf") if remaining is None else remaining
    while line := content.readline(int(min(MAX_WHOLE_RECORD_BYTES + 1, rest))):
        if line.endswith(b"\n"):
            rest -= len(line)
            yield SessionLine(line, len(line))
            continue
        size, digest, piece = len(line), hashlib.sha256(line), line
        while not piece.endswith(b"\n"):
            piece = content.readline(int(min(_BLOCK_BYTES, rest - size)))
            if not piece:
                return
            size += len(piece)
            digest.update(piece)
        rest -= size
        yield SessionLine(line[:RECORD_HEAD_BYTES], size, digest.digest())


def lines_of_file(file: SessionFile, offset: int = 0, number: int = 1) -> Iterator[tuple[int, int, SessionLine]]:
    """Yield (number, offset of the next line, line) of the complete lines from an offset on.

    Yield nothing if the file is gone, and the lines before the damage of a damaged one, which is logged.
    """
    try:
        with open_content(file.root, file.day, f"{file.session}{SUFFIX}") as (content, _):
            content.seek(offset)
            for line in read_lines(content):
                offset += line.size
                yield number, offset, line
                number += 1
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("cannot read '%s': %s", file.name, error.strerror)  # `ctxfs history verify` reports it, too


def count_lines(file: SessionFile) -> int:
    """Return the number of line ends in a file; 0 if it cannot be read."""
    count = 0
    with contextlib.suppress(OSError), open_content(file.root, file.day, f"{file.session}{SUFFIX}") as (content, _):
        while block := content.read(_BLOCK_BYTES):
            count += block.count(b"\n")
    return count


def read_tail(file: SessionFile, max_bytes: int) -> list[bytes]:
    """Return the complete lines within the last bytes of a file that is not compressed; none if it cannot be read."""
    try:
        with open(rooted_fs.open_file(file.root, (file.day, file.host_name)), "rb") as stream:
            stream.seek(max(0, file.size - max_bytes))
            return stream.read().split(b"\n")[1 if file.size > max_bytes else 0 : -1]
    except OSError:
        return []
