"""Readers of the audit's files in bounded blocks: from the end, or of the lines that are new since the last reading.

An audit of a year is gigabytes, of which a request needs the newest records, or those after the ones it has read before.
"""

import contextlib
import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ctxfs.eventlog.log import EventLog
from ctxfs.model.host_numbers import inode_of

_FIRST_BLOCK_BYTES = 128 * 1024
_MAX_BLOCK_BYTES = 4 << 20


def blocks_from_end(log: EventLog, day: str, session: str) -> Iterator[bytes]:
    """Yield the content of a session's file of a day in blocks of whole lines, the last block first.

    A compressed file is one block. Without a file there is none.
    """
    with contextlib.suppress(FileNotFoundError), log.open(day, session) as file:
        if isinstance(file, gzip.GzipFile):
            yield file.read()
            return
        end, size = os.fstat(file.fileno()).st_size, _FIRST_BLOCK_BYTES
        rest = b""  # the begin of a line whose other part was in the block before
        while end:
            start = max(0, end - size)
            file.seek(start)
            data = file.read(end - start) + rest
            cut = data.find(b"\n") + 1 if start else 0
            if start and not cut:
                rest = data
            else:
                rest = data[:cut]
                yield data[cut : data.rfind(b"\n") + 1]
            end, size = start, min(2 * size, _MAX_BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class _Position:
    """The inode of a file, its size at the last reading, and the offset of the first line that was not read."""

    inode: int
    size: int
    offset: int


class AppendedLines:
    """The lines of the days' files of a session that are new at each reading. One thread at a time may use it."""

    def __init__(self, log: EventLog, session: str, newest_bytes: int = 0) -> None:
        """Read the files from their begin, or only the last `newest_bytes` of those that were not read before."""
        self._log = log
        self._session = session
        self._newest_bytes = newest_bytes
        self._positions: dict[str, _Position] = {}
        self.has_skipped = False  # lines before the last `newest_bytes`

    def is_replaced(self, day: str) -> bool:
        """Return True if a file is another one than at its last reading: erased in part, compressed, or gone."""
        known = self._positions.get(day)
        if known is None:
            return False
        try:
            with self._log.open(day, self._session) as file:
                stat = os.fstat(file.fileno())
        except FileNotFoundError:
            return True
        return inode_of(stat) != known.inode or stat.st_size < known.offset

    def forget(self, day: str) -> None:
        """Read a file anew at the next reading."""
        self._positions.pop(day, None)

    def read(self, day: str) -> Iterator[bytes]:
        """Yield the new lines of a day in blocks of whole lines, oldest first. They count as read once all are taken."""
        with contextlib.suppress(FileNotFoundError), self._log.open(day, self._session) as file:
            stat, known = os.fstat(file.fileno()), self._positions.get(day)
            if known is not None and known.size == stat.st_size:
                return
            offset = known.offset if known is not None else self._skip(file, stat.st_size)
            file.seek(offset)
            rest = b""
            while data := file.read(_MAX_BLOCK_BYTES):
                data = rest + data
                end = data.rfind(b"\n") + 1
                rest = data[end:]
                offset += end
                yield data[:end]
            is_packed = isinstance(file, gzip.GzipFile)
            self._positions[day] = _Position(inode_of(stat), stat.st_size, 0 if is_packed else offset)

    def _skip(self, file: BinaryIO | gzip.GzipFile, size: int) -> int:
        """Return the offset of the first line to read of a file that was not read before."""
        if not self._newest_bytes or size <= self._newest_bytes or isinstance(file, gzip.GzipFile):
            return 0
        self.has_skipped = True
        file.seek(size - self._newest_bytes)
        return size - self._newest_bytes + len(file.readline())
