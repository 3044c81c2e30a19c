"""The days of the messages in the files of sessions: a derived database, so that one day is read alone.

Most messages are in a file of their own day. Imported ones, and those of a clock that jumped, may be in
a file of any day. A file of today is read from its last known end on; a folder of another day is read again if a file in
it was created, replaced or removed.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path as HostPath

from ctxfs.eventlog.session_files import SessionFile, SessionFiles, lines_of_file
from ctxfs.store.derived_db import DerivedDatabase, open_derived

DATABASE_NAME = "days.db"
_VERSION = 1
_SCHEMA = """
CREATE TABLE folders (day TEXT PRIMARY KEY, mtime_ns INTEGER) WITHOUT ROWID;
CREATE TABLE files (number INTEGER PRIMARY KEY, day TEXT, session TEXT, inode INTEGER, offset INTEGER, UNIQUE (day, session));
CREATE TABLE said (day TEXT, file INTEGER, PRIMARY KEY (day, file)) WITHOUT ROWID
"""
_RECORDED_AT = re.compile(rb'\{"seq": \d+, "at": "([^"\\]{10,40})"')
_SAID_AT = b'"said_at": "'
_MAX_TIME_BYTES = 40
_RECENT_DAYS = 2  # whose files may grow: a record of midnight is appended a moment later


class SaidDays(DerivedDatabase):
    """The database of one store. Methods block; one thread at a time, but several processes may use the store."""

    def __init__(self, files: SessionFiles, derived: HostPath) -> None:
        """Open the database in the folder `derived`, for the files of a log."""
        self._files = files
        self._db = open_derived(derived / DATABASE_NAME, _SCHEMA, _VERSION)

    def files_of(self, day: str) -> list[SessionFile]:
        """Return the files with records of a day in UTC, those of the log's oldest day first."""
        with self.transaction():
            self._follow_log()
            query = "SELECT files.day, session FROM said JOIN files ON file = number WHERE said.day = ? ORDER BY 1, 2"
            names = [(str(row[0]), str(row[1])) for row in self._db.execute(query, (day,))]
        files = (self._files.of_session_day(session, log_day) for log_day, session in names)
        return [file for file in files if file is not None]

    def _follow_log(self) -> None:
        folders: dict[str, int] = dict(self._db.execute("SELECT day, mtime_ns FROM folders"))
        recent = (datetime.now(UTC) - timedelta(days=_RECENT_DAYS)).date().isoformat()
        for day in self._files.days():
            mtime_ns = self._files.day_mtime_ns(day)
            if folders.pop(day, None) != mtime_ns or day >= recent:
                self._follow_day(day)
                self._db.execute("INSERT OR REPLACE INTO folders VALUES (?, ?)", (day, mtime_ns))
        for day in folders:
            self._remove_files(day, {})
            self._db.execute("DELETE FROM folders WHERE day = ?", (day,))

    def _follow_day(self, day: str) -> None:
        files = {file.session: file for file in self._files.of_day(day)}
        self._remove_files(day, files)
        rows = self._db.execute("SELECT session, number, offset FROM files WHERE day = ?", (day,))
        known = {row[0]: (row[1], row[2]) for row in rows}
        for session, file in files.items():
            number, offset = known.get(session, (0, 0))
            if not number:
                query = "INSERT INTO files (day, session, inode, offset) VALUES (?, ?, ?, 0) RETURNING number"
                number = self._db.execute(query, (day, session, file.inode)).fetchone()[0]
            if not offset or (not file.is_compressed and offset < file.size):
                self._read_file(file, number, offset)

    def _remove_files(self, day: str, files: Mapping[str, SessionFile]) -> None:
        """Remove the files of a day that are gone, were replaced, or are shorter than before."""
        rows = self._db.execute("SELECT session, number, inode, offset FROM files WHERE day = ?", (day,)).fetchall()
        for session, number, inode, offset in rows:
            file = files.get(session)
            if file is None or file.inode != inode or (not file.is_compressed and offset > file.size):
                self._db.execute("DELETE FROM said WHERE file = ?", (number,))
                self._db.execute("DELETE FROM files WHERE number = ?", (number,))

    def _read_file(self, file: SessionFile, number: int, offset: int) -> None:
        times = set[bytes]()
        days = set[str]()
        for _, next_offset, line in lines_of_file(file, offset):
            offset = next_offset
            times.update(_times_in(line.data))
            if len(times) > 10_000:
                days |= _days_of(times)
                times.clear()
        days |= _days_of(times)
        self._db.executemany("INSERT OR IGNORE INTO said VALUES (?, ?)", ((day, number) for day in days))
        self._db.execute("UPDATE files SET offset = ? WHERE number = ?", (offset, number))


def _times_in(line: bytes) -> Iterator[bytes]:
    """Yield the time of a record's line, and that of its message, which its text cannot contain in this form."""
    if match := _RECORDED_AT.match(line):
        yield match[1]
    position = line.find(_SAID_AT)
    while position >= 0:
        start = position + len(_SAID_AT)
        end = line.find(b'"', start, start + _MAX_TIME_BYTES)
        if end >= 0:
            yield line[start:end]
        position = line.find(_SAID_AT, start)


def _days_of(times: set[bytes]) -> set[str]:
    """Return the days in UTC."""
    days = set()
    for text in times:
        with contextlib.suppress(ValueError, OverflowError):
            moment = datetime.fromisoformat(text.decode("ascii"))
            days.add((moment.astimezone(UTC) if moment.tzinfo else moment).date().isoformat())
    return days
