"""The shared log in PostgreSQL: the only module that uses psycopg.

Three tables: `ctxfs_stores` names the stores, `ctxfs_entries` holds the entries in order, `ctxfs_contents` contents in
pieces. A lease is an advisory lock of a transaction, so it ends with its connection. A notification only wakes waiting
nodes up.
"""

import contextlib
import errno
import hashlib
import math
import os
import socket
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

import psycopg
from psycopg import conninfo, errors

from ctxfs.model.credentials import without_passwords
from ctxfs.model.errors import path_error
from ctxfs.shared.entries import FORMAT, MAX_ENTRY_BYTES, decode_entry, encode_entry
from ctxfs.shared.log import (
    ANSWER_SECONDS,
    LEASE_WAIT_SECONDS,
    TURN_SECONDS,
    Entry,
    Head,
    LogRefused,
    TurnLost,
    damaged,
    missing_content,
    turn_lost,
    unreachable,
)
from ctxfs.shared.stripping import erase_entries

_CONNECT_OPTIONS = {
    "connect_timeout": 3,
    "tcp_user_timeout": 3000,
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    "target_session_attrs": "read-write",
}
_LOCK_WAIT_SECONDS = 2.0  # less than ANSWER_SECONDS: then the wait for a turn is begun again
_LOOK_SECONDS = 1.0
_BATCH_ENTRIES = 100
_PIECE_BYTES = 1_000_000
_MAX_BATCH_BYTES = 16_000_000
_CHANNEL = "ctxfs_shared"
_SCHEMA_LOCK = 0x63747866
_SCHEMA = (
    "create table if not exists ctxfs_stores (store text primary key, format integer not null)",
    "create table if not exists ctxfs_entries (store text not null, number bigint not null, head text not null,"
    " time timestamptz not null default clock_timestamp(), data bytea not null, primary key (store, number))",
    "create table if not exists ctxfs_contents (store text not null, sha256 text not null, piece integer not null,"
    " data bytea not null, primary key (store, sha256, piece))",
)
_TIME_US = "(extract(epoch from time) * 1000000)::bigint"
_READ_ENTRIES = (
    f"select number, case when length(data) <= %(max)s then data end, {_TIME_US} from ("
    " select number, data, time, sum(length(data)) over (order by number) - length(data) as before from ("
    "  select number, data, time from ctxfs_entries where store = %(store)s and number > %(after)s"
    "  order by number limit %(limit)s) as page) as batch where before < %(batch)s order by number"
)
# One statement, since each one is a trip to the engine, in a turn that others wait for.
_APPEND = (
    "with appended as (insert into ctxfs_entries (store, number, head, data)"
    " select %(store)s, %(number)s, %(head)s, %(data)s where (%(number)s, %(previous)s) ="
    " (coalesce((select max(number) from ctxfs_entries where store = %(store)s), 0) + 1,"
    "  coalesce((select head from ctxfs_entries where store = %(store)s order by number desc limit 1), ''))"
    f" returning {_TIME_US} as time_us) select time_us, pg_notify(%(channel)s, %(number)s::text) from appended"
)
_REFUSALS = ("authentication failed", "no password supplied", "no pg_hba.conf entry", "does not exist", "permission")
_TIME_UNIT_NS = 1000


class PostgresLog:
    """The log of one store in a PostgreSQL database."""

    def __init__(self, url: str, store: str, password: str = "", *, create: bool = False) -> None:
        self._store = store
        self._session = _Session(url, password)
        self._listener = _Session(url, password)
        self._is_leasing = False
        try:
            with self._session.answering() as connection:
                if create:
                    self._create(connection)
                self._check_format(connection)
        except BaseException:
            self.close()
            raise

    def _create(self, connection: Any) -> None:
        with connection.transaction():
            connection.execute("select pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("insert into ctxfs_stores values (%s, %s) on conflict do nothing", (self._store, FORMAT))

    def _check_format(self, connection: Any) -> None:
        row = None
        with contextlib.suppress(errors.UndefinedTable):
            row = connection.execute("select format from ctxfs_stores where store = %s", (self._store,)).fetchone()
        if row is None:
            cause = f"the database holds no shared store '{self._store}'"
            raise LogRefused(cause, f"begin one on the first machine: ctxfs share {self._session.url}")
        if row[0] != FORMAT:
            cause = f"the shared store '{self._store}' has format {row[0]}, and this ctxfs reads {FORMAT}"
            raise LogRefused(cause, "use the newer ctxfs")

    def head(self) -> Head:
        """Return the newest entry's number and commit."""
        with self._session.answering() as connection:
            return self._read_head(connection)

    def _read_head(self, connection: Any) -> Head:
        query = "select number, head from ctxfs_entries where store = %s order by number desc limit 1"
        row = connection.execute(query, (self._store,)).fetchone()
        return Head(row[0], row[1]) if row else Head(0, "")

    def append(self, entry: Entry) -> int:
        """Append an entry, and end the lease. See `SharedLog.append`."""
        values = {
            "store": self._store,
            "number": entry.number,
            "head": entry.head,
            "previous": entry.previous,
            "data": encode_entry(entry),
            "channel": _CHANNEL,
        }
        try:
            with self._session.answering() as connection:
                with connection.pipeline() if self._is_leasing else contextlib.nullcontext():
                    cursor = connection.execute(_APPEND, values)
                    if self._is_leasing:
                        connection.execute("commit")  # of nothing, if the entry does not continue the log
                row = cursor.fetchone()
                self._is_leasing = False
                if row is None:
                    raise turn_lost(f"entry {entry.number - 1} is not the newest, or has another commit")
        except errors.UniqueViolation as error:
            raise turn_lost(f"entry {entry.number} exists") from error
        return int(row[0]) * _TIME_UNIT_NS

    def entries(self, after: int, limit: int) -> list[Entry]:
        """Return entries with higher numbers. See `SharedLog.entries`."""
        values = {
            "store": self._store,
            "after": after,
            "limit": limit,
            "max": MAX_ENTRY_BYTES,
            "batch": _MAX_BATCH_BYTES,
        }
        with self._session.answering() as connection:
            rows = connection.execute(_READ_ENTRIES, values, binary=True).fetchall()
        batch = []
        for expected, (number, data, time_us) in enumerate(rows, after + 1):
            if number != expected:
                raise damaged(expected, "it is missing")
            if data is None:
                raise damaged(number, f"it has more than {MAX_ENTRY_BYTES} bytes")
            batch.append(decode_entry(bytes(data), number, time_us * _TIME_UNIT_NS))
        return batch

    def wait(self, after: int, seconds: float) -> bool:
        """Return True as soon as an entry with a higher number exists, False after `seconds`.

        It looks every second, since notifications may be lost.
        """
        end = time.monotonic() + seconds
        while True:
            with self._listener.answering() as connection:
                if self._listener.is_new:
                    connection.execute(f"listen {_CHANNEL}")
                    self._listener.is_new = False
                if self._read_head(connection).number > after:
                    return True
                left = end - time.monotonic()
                if left <= 0:
                    return False
                for _ in connection.notifies(timeout=min(left, _LOOK_SECONDS), stop_after=1):
                    pass

    def put(self, sha256: str, source: BinaryIO) -> None:
        """Store a content under its hash, unless the engine has it."""
        with self._session.answering() as connection:
            if self._has_content(connection, sha256):
                return
            if not self._is_leasing:
                connection.execute("begin")
        # A statement a piece, each with its own deadline, in one transaction.
        statement = "insert into ctxfs_contents values (%s, %s, %s, %s) on conflict do nothing"
        try:
            piece = 0
            while (data := source.read(_PIECE_BYTES)) or not piece:
                with self._session.answering() as connection:
                    connection.execute(statement, (self._store, sha256, piece, data))
                piece += 1
            if not self._is_leasing:
                with self._session.answering() as connection:
                    connection.execute("commit")
        except BaseException:
            self._session.close()  # rolls back
            raise

    def _has_content(self, connection: Any, sha256: str) -> bool:
        query = "select 1 from ctxfs_contents where store = %s and sha256 = %s and piece = 0"
        return connection.execute(query, (self._store, sha256)).fetchone() is not None

    def get(self, sha256: str, target: BinaryIO, max_bytes: int) -> None:
        """Write a content to `target`. See `SharedLog.get`."""
        query = (
            "select case when length(data) <= %s then data end from ctxfs_contents"
            " where store = %s and sha256 = %s and piece = %s"
        )
        digest, size, piece = hashlib.sha256(), 0, 0
        while True:
            with self._session.answering() as connection:
                row = connection.execute(query, (_PIECE_BYTES, self._store, sha256, piece), binary=True).fetchone()
            if row is None and not piece:
                raise missing_content(sha256)
            if row is None or row[0] is None:
                break
            size += len(row[0])
            if size > max_bytes:
                raise path_error(errno.EFBIG, sha256, f"a content of more than {max_bytes} bytes is refused")
            digest.update(row[0])
            target.write(row[0])
            piece += 1
        if digest.hexdigest() != sha256:
            raise path_error(errno.EIO, sha256, "a content of the shared store is damaged")

    def erase(self, before: int, contents: Collection[str]) -> None:
        """Remove objects from the log, and contents. See `SharedLog.erase`."""
        erase_entries(lambda after: self.entries(after, _BATCH_ENTRIES), before, self._replace, self._delete)
        for sha256 in contents:
            self._delete(sha256)

    def _replace(self, entry: Entry) -> None:
        statement = "update ctxfs_entries set data = %s where store = %s and number = %s"
        with self._session.answering() as connection:
            connection.execute(statement, (encode_entry(entry), self._store, entry.number))

    def _delete(self, sha256: str) -> None:
        statement = "delete from ctxfs_contents where store = %s and sha256 = %s"
        with self._session.answering() as connection:
            connection.execute(statement, (self._store, sha256))

    @contextlib.contextmanager
    def lease(self, name: str, seconds: float = TURN_SECONDS) -> Iterator[None]:
        """Hold a lease. See `SharedLog.lease`. PostgreSQL ends the transaction of a silent holder."""
        key = _lock_key(self._store, name)
        end = time.monotonic() + LEASE_WAIT_SECONDS
        while not self._take_lock(key, seconds):
            if time.monotonic() > end:
                raise turn_lost(f"others have held the lease '{name}' for {LEASE_WAIT_SECONDS:.0f} s")
        self._is_leasing = True
        try:
            yield
        finally:
            if self._is_leasing:
                self._is_leasing = False
                with contextlib.suppress(OSError), self._session.answering() as connection:
                    connection.execute("rollback")

    def _take_lock(self, key: int, seconds: float) -> bool:
        """Begin a transaction and take its lock; return False if others hold it."""
        try:
            with self._session.answering() as connection:
                connection.execute(
                    "begin isolation level read committed;"
                    f" set local idle_in_transaction_session_timeout = {int(seconds * 1000)};"
                    f" set local lock_timeout = {int(_LOCK_WAIT_SECONDS * 1000)};"
                    f" select pg_advisory_xact_lock({key})"
                )
        except errors.LockNotAvailable:
            with self._session.answering() as connection:
                connection.execute("rollback")
            return False
        return True

    def now(self) -> int:
        """Return the engine's time in nanoseconds."""
        with self._session.answering() as connection:
            query = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint"
            return int(connection.execute(query).fetchone()[0]) * _TIME_UNIT_NS

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
        self._listener.close()


class _Session:
    """A connection that is made again after an error, and that never waits for longer than `ANSWER_SECONDS`.

    A watchdog shuts the socket of a silent engine down. `statement_timeout` would not suffice: a stopped engine obeys
    none, nor does a COMMIT that waits for a standby.
    """

    def __init__(self, url: str, password: str) -> None:
        self.url = without_passwords(url)
        self._address = url
        self._password = password
        self._connection: Any = None
        self._watchdog = _Watchdog()
        self.is_new = True

    @contextlib.contextmanager
    def answering(self) -> Iterator[Any]:
        """Yield the connection for calls that together take less than `ANSWER_SECONDS`. Translate errors."""
        try:
            connection = self._connected()
            with self._watchdog.watching(connection):
                yield connection
        except (errors.UniqueViolation, errors.LockNotAvailable):
            raise
        except TurnLost:
            raise
        except psycopg.Error as error:
            self.close()
            raise self._translate(error) from error

    def _connected(self) -> Any:
        if self._connection is None or self._connection.closed:
            self.close()
            password = {"password": self._password} if self._password else {}
            address = conninfo.make_conninfo(self._address, **_CONNECT_OPTIONS, **password)
            self._connection = psycopg.connect(address, autocommit=True, application_name="ctxfs")
            self.is_new = True
        return self._connection

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                self._connection.close()
            self._connection = None

    def _translate(self, error: Any) -> Exception:
        text = without_passwords(" ".join(str(error).split()))
        state = error.sqlstate or ""
        if state in ("53100", "53200"):
            return path_error(errno.ENOSPC, self.url, f"the engine's disk is full: {text}")
        if state == "25P03":  # idle_in_transaction_session_timeout
            return turn_lost("the engine has ended this node's turn, in which it was silent for too long")
        is_refusal = isinstance(error, psycopg.ProgrammingError) or any(cause in text for cause in _REFUSALS)
        if is_refusal:
            return LogRefused(f"the engine '{self.url}' refuses: {text}", "check the URL, and the password's variable")
        return unreachable(self.url, text)


class _Watchdog:
    """Shuts the socket of a connection down if a block takes longer than `ANSWER_SECONDS`.

    One thread serves the blocks of a session: a thread for each would cost more than a request to the engine. It ends
    when no block has begun for a while.
    """

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._watched: socket.socket | None = None
        self._deadline = math.inf  # of the block that runs
        self._is_running = False
        self._is_used = False  # since the thread looked

    @contextlib.contextmanager
    def watching(self, connection: Any) -> Iterator[None]:
        """Watch a block with the connection. One block at a time is watched."""
        with socket.socket(fileno=os.dup(connection.fileno())) as watched:
            with self._lock:
                self._watched, self._deadline = watched, time.monotonic() + ANSWER_SECONDS
                self._is_used = True
                if not self._is_running:
                    threading.Thread(target=self._run, name="shared-watchdog", daemon=True).start()
                    self._is_running = True
            try:
                yield
            finally:
                with self._lock:
                    self._watched, self._deadline = None, math.inf

    def _run(self) -> None:
        with self._lock:
            while self._is_used or self._watched is not None:
                self._is_used = False
                # A block that begins during the wait has its deadline after the wait.
                self._lock.wait(max(0.0, min(self._deadline - time.monotonic(), ANSWER_SECONDS)))
                if self._watched is not None and time.monotonic() >= self._deadline:
                    self._deadline = math.inf
                    with contextlib.suppress(OSError):
                        self._watched.shutdown(socket.SHUT_RDWR)
            self._is_running = False


def _lock_key(store: str, name: str) -> int:
    """Return the number of an advisory lock."""
    digest = hashlib.sha256(f"ctxfs {store} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
