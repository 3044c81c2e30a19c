"""The files of one session of the event log, read as a stream: bounded memory, from any offset on.

`EventLog.read` returns a whole file; this module serves readers of long sessions. It reads the same folder and changes
nothing.
"""

import contextlib
import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as HostPath
from typing import BinaryIO, cast

from ctxfs.eventlog.log import COMPRESSED_SUFFIX, SUFFIX, EventLog, is_day, is_session
from ctxfs.eventlog.record_text import MAX_WHOLE_RECORD_BYTES
from ctxfs.model.host_numbers import inode_of, mtime_ns_of

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SessionFile:
    """A file of a session: its day, its host path, and the attributes that change with its content."""

    day: str
    session: str
    host: HostPath
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
        return self.host.name.endswith(COMPRESSED_SUFFIX)


class SessionFiles:
    """The files of sessions in the folder of an event log. Methods block."""

    def __init__(self, folder: HostPath) -> None:
        self._folder = folder
        self._log = EventLog(folder)

    def days(self) -> list[str]:
        """Return the dates that have records, in order."""
        return self._log.days()

    def of_session(self, session: str) -> list[SessionFile]:
        """Return the files of a session, oldest first; none for an unknown session."""
        files = (self._find(day, session) for day in self._log.days_of(session))
        return [file for file in files if file is not None]

    def of_day(self, day: str) -> list[SessionFile]:
        """Return the files of a day, by session."""
        sessions = self._log.sessions(day) if is_day(day) else []
        files = (self._find(day, session) for session in sessions if is_session(session))
        return [file for file in files if file is not None]

    def _find(self, day: str, session: str) -> SessionFile | None:
        for suffix in (SUFFIX, SUFFIX + COMPRESSED_SUFFIX):
            host = self._folder / day / f"{session}{suffix}"
            try:
                stat = os.stat(host)
            except OSError:
                continue
            return SessionFile(day, session, host, inode_of(stat), stat.st_size, mtime_ns_of(stat))
        return None


def lines_of_file(file: SessionFile, offset: int = 0, number: int = 1) -> Iterator[tuple[int, int, bytes, bool]]:
    """Yield (number, offset of the next line, line, is a head) of the complete lines from an offset on.

    Of a line longer than MAX_WHOLE_RECORD_BYTES only the head is given. A last line without its end is being written,
    and is left out. Yield nothing if the file is gone.
    """
    with contextlib.suppress(FileNotFoundError), _open(file) as stream:
        stream.seek(offset)
        while line := stream.readline(MAX_WHOLE_RECORD_BYTES):
            offset += len(line)
            is_head = not line.endswith(b"\n")
            rest = line
            while is_head and rest and not rest.endswith(b"\n"):
                rest = stream.readline(_BLOCK_BYTES)
                offset += len(rest)
            if not rest:
                return
            yield number, offset, line, is_head
            number += 1


def read_tail(file: SessionFile, max_bytes: int) -> list[bytes]:
    """Return the complete lines within the last bytes of a file that is not compressed; none if it cannot be read."""
    try:
        with open(file.host, "rb") as stream:
            stream.seek(max(0, file.size - max_bytes))
            return stream.read().split(b"\n")[1 if file.size > max_bytes else 0 : -1]
    except OSError:
        return []


def _open(file: SessionFile) -> BinaryIO:
    return cast("BinaryIO", gzip.open(file.host)) if file.is_compressed else open(file.host, "rb", _BLOCK_BYTES)
