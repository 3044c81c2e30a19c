"""The identities of imported messages in the event log: a derived database, so that a second import adds nothing.

A record of an import has the member `import_id` directly after `principal`, 32 hexadecimal digits. Before each use the
database is compared with the files of the log: it reads appended records, and a replaced file again. Identities are
those of one principal, so that no principal learns of the imports of another one.

A session with erased records has the time of the erasure: older messages are not imported again.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as HostPath
from typing import Any

from ctxfs.eventlog.chain import Link
from ctxfs.eventlog.log import EventLog
from ctxfs.eventlog.record_text import parse_line
from ctxfs.eventlog.session_files import SessionFile, SessionFiles, lines_of_file
from ctxfs.store import rooted_fs
from ctxfs.store.derived_db import DerivedDatabase, open_derived

IMPORT_ID = "import_id"
DATABASE_NAME = "imports.db"
_VERSION = 2
_BATCH_ROWS = 10_000
_SCHEMA = """
CREATE TABLE known (key BLOB PRIMARY KEY, file INTEGER) WITHOUT ROWID;
CREATE TABLE files (number INTEGER PRIMARY KEY, name TEXT UNIQUE, session TEXT, inode INTEGER, offset INTEGER, tail BLOB,
 others INTEGER DEFAULT 0);
CREATE INDEX session_files ON files (session);
CREATE TABLE erased (session TEXT PRIMARY KEY, at TEXT) WITHOUT ROWID
"""
# Anchored at the begin of the line: no member within the text or the data of a record can match.
_RECORD = re.compile(
    rb'\{"seq": \d+, "at": "[^"\\]*", "session": "[^"\\]*", "principal": "([^"\\]*)", "import_id": "([0-9a-f]{32})"'
)
_TOMBSTONE = re.compile(
    rb'\{"seq": \d+, "prev": "[0-9a-f]*", "body_sha256": "[0-9a-f]*", "hash": "[0-9a-f]*", "forgotten": \{"at": "([^"\\]*)"'
)
_KEY_BYTES = 16
_TAIL_BYTES = 80  # contains the hash of the last record


class ImportedMessages(DerivedDatabase):
    """The database of one store. Methods block; one thread at a time, but several processes may use the store."""

    def __init__(self, log: EventLog, history: HostPath, derived: HostPath) -> None:
        """Open the database in the folder `derived`, for the log in the folder `history`."""
        self._log = log
        self._files = SessionFiles(history)
        self._last_link: Link | None = None
        self._db = open_derived(derived / DATABASE_NAME, _SCHEMA, _VERSION)

    def find_known(self, principal: str, ids: Sequence[bytes]) -> list[bool]:
        """Return for each identity whether the log has a record of it by this principal."""
        with self.transaction():
            self._follow_log()
            return self._find_known(principal, ids)

    def erased_at(self, session: str) -> str:
        """Return the time of the last erasure of records of a session; empty for none."""
        with self.transaction():
            self._follow_log()
            row = self._db.execute("SELECT at FROM erased WHERE session = ?", (session,)).fetchone()
        return str(row[0]) if row else ""

    def find_records(
        self, session: str, member: str, value: str, *, includes_imported: bool
    ) -> Iterator[dict[str, Any]]:
        """Yield the records of a session in which a member has a value, by day.

        Without `includes_imported`, days with imported records alone are not read.
        """
        with self.transaction():
            self._follow_log()
            query = "SELECT name FROM files WHERE session = ? AND others >= ?"
            names = {str(row[0]) for row in self._db.execute(query, (session, 0 if includes_imported else 1))}
        # Quotes within a text are escaped, so that only members have this form.
        mark = f"{json.dumps(member)}: {json.dumps(value)}".encode()
        for file in self._files.of_session(session):
            for _, _, line in lines_of_file(file) if _key_of(file) in names else ():
                record = parse_line(line.data, is_head=line.is_head) if mark in line.data else None
                if record is not None and record.get(member) == value:
                    yield record

    def append(self, session: str, principal: str, bodies: Sequence[Mapping[str, Any]]) -> list[int]:
        """Append the records of an import by a principal that the log does not have yet; return their numbers.

        The transaction excludes other imports, so that two at once add each message once.
        """
        with self.transaction():
            self._follow_log()
            unique = {str(body[IMPORT_ID]): body for body in reversed(bodies)}
            ids = [bytes.fromhex(name) for name in unique]
            known = self._find_known(principal, ids)
            new = [body for body, is_known in zip(unique.values(), known, strict=True) if not is_known][::-1]
            if not new:
                return []
            lines = [
                {"principal": principal, IMPORT_ID: body[IMPORT_ID]}
                | {name: value for name, value in body.items() if name not in ("principal", IMPORT_ID)}
                for body in new
            ]
            numbers = self._log.append(session, lines, durable=True)
            self._follow_append(session, numbers)
        return numbers

    def _find_known(self, principal: str, ids: Sequence[bytes]) -> list[bool]:
        query = "SELECT 1 FROM known WHERE key = ?"
        return [self._db.execute(query, (_make_key(principal, name),)).fetchone() is not None for name in ids]

    def _follow_log(self) -> None:
        """Read the changes of the log since the last call, of any process."""
        link = self._log.head_nowait()
        if link is not None and link == self._last_link:
            return
        states = {row[0]: row[1:] for row in self._db.execute("SELECT name, number, inode, offset, tail FROM files")}
        for day in self._files.days():
            for file in self._files.of_day(day):
                self._follow_file(file, states.pop(_key_of(file), None))
        for number, *_ in states.values():
            self._remove_file(number)
        self._last_link = link

    def _follow_append(self, session: str, numbers: Sequence[int]) -> None:
        """Read the records that this object has appended, and no other file if no other process has appended."""
        link, last = self._log.head_nowait(), self._last_link or Link()
        if link is None or link.seq != numbers[-1] or numbers[0] != last.seq + 1:
            self._follow_log()
            return
        file = self._files.of_session(session)[-1]
        query = "SELECT number, inode, offset, tail FROM files WHERE name = ?"
        self._follow_file(file, self._db.execute(query, (_key_of(file),)).fetchone())
        self._last_link = link

    def _follow_file(self, file: SessionFile, state: Any) -> None:
        number, inode, offset, tail = state or (None, 0, 0, b"")
        if (inode, offset) == (file.inode, file.size):
            return
        if number is not None and (inode != file.inode or not _continues(file, offset, tail)):
            self._remove_file(number)
            number, offset, tail = None, 0, b""
        if number is None:
            query = "INSERT INTO files (name, session, inode, offset, tail) VALUES (?, ?, 0, 0, '')"
            self._db.execute(query, (_key_of(file), file.session))
            number = int(self._db.execute("SELECT number FROM files WHERE name = ?", (_key_of(file),)).fetchone()[0])
        self._read_records(file, number, offset)

    def _read_records(self, file: SessionFile, number: int, offset: int) -> None:
        rows, erased_at, others = list[tuple[bytes, int]](), "", 0
        for _, next_offset, line in lines_of_file(file, offset):
            offset = next_offset
            if match := _RECORD.match(line.data):
                principal, name = match[1].decode("utf-8", "replace"), match[2].decode()
                rows.append((_make_key(principal, bytes.fromhex(name)), number))
            elif match := _TOMBSTONE.match(line.data):
                erased_at = max(erased_at, match[1].decode("utf-8", "replace"))
            else:
                others += 1
            if len(rows) >= _BATCH_ROWS:
                self._insert(rows)
                rows = []
        self._insert(rows)
        if erased_at:
            query = "INSERT INTO erased VALUES (?, ?) ON CONFLICT DO UPDATE SET at = max(at, excluded.at)"
            self._db.execute(query, (file.session, erased_at))
        tail = _read_before(file, offset)
        state = (file.inode, file.size if file.is_compressed else offset, tail, others, number)
        query = "UPDATE files SET inode = ?, offset = ?, tail = ?, others = others + ? WHERE number = ?"
        self._db.execute(query, state)

    def _insert(self, rows: Sequence[tuple[bytes, int]]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO known VALUES (?, ?)", rows)

    def _remove_file(self, number: int) -> None:
        self._db.execute("DELETE FROM known WHERE file = ?", (number,))
        self._db.execute("DELETE FROM files WHERE number = ?", (number,))


def _make_key(principal: str, name: bytes) -> bytes:
    return hashlib.blake2b(name, key=hashlib.sha256(principal.encode()).digest(), digest_size=_KEY_BYTES).digest()


def _key_of(file: SessionFile) -> str:
    return f"{file.day}/{file.host_name}"


def _continues(file: SessionFile, offset: int, tail: bytes) -> bool:
    """Return True if the file is longer than before, and its earlier end is the same."""
    return offset <= file.size and not file.is_compressed and _read_before(file, offset) == tail


def _read_before(file: SessionFile, offset: int) -> bytes:
    """Return the end of the last record before an offset; empty for a compressed file, which never grows."""
    if file.is_compressed:
        return b""
    try:
        with open(rooted_fs.open_file(file.root, (file.day, file.host_name)), "rb") as opened:
            opened.seek(max(0, offset - _TAIL_BYTES))
            return opened.read(min(offset, _TAIL_BYTES))
    except OSError:
        return b""
