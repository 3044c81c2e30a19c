"""SQLite files with derived data only: a damaged file, or one of another version, is created again."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path as HostPath
from typing import Generic, TypeVar

from ctxfs.model.errors import EXIT_BUSY, CommandError

BUSY_MS = 10_000
_RETRY_SECONDS = 0.01
_DAMAGE_SIGNS = ("no such table", "no such column", "malformed", "disk I/O error", "not a database", "unable to open")


class DerivedDatabase:
    """A connection to such a file, and its transactions. Methods block; one thread at a time."""

    _db: sqlite3.Connection

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def data_version(self) -> int:
        """Return a number that changes with each commit of another connection."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all writes of the block, or none if it raises. A nested transaction is part of the outer one."""
        if self._db.in_transaction:
            yield
        else:
            yield from self._run_block("BEGIN IMMEDIATE")

    @contextlib.contextmanager
    def read_transaction(self) -> Iterator[None]:
        """Read one consistent snapshot in the block; other connections may write meanwhile."""
        yield from self._run_block("BEGIN")

    def _run_block(self, begin: str) -> Iterator[None]:
        self._db.execute(begin)
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):  # a damaged file; the raised error is more precise
                    self._db.execute("ROLLBACK")
            raise


Database = TypeVar("Database", bound=DerivedDatabase)
Result = TypeVar("Result")


class DerivedFile(Generic[Database]):
    """A derived database that is opened at its first use, and made again if it is damaged. Any thread may use it."""

    def __init__(self, file: HostPath, open_database: Callable[[], Database]) -> None:
        self._file = file
        self._open_database = open_database
        self._lock = threading.Lock()
        self._database: Database | None = None

    def use(self, action: Callable[[Database], Result]) -> Result:
        """Run an action on the database; once more on a new one if it finds damage. Raise `CommandError` if it is in use."""
        with self._lock:
            try:
                return action(self._open())
            except Exception as error:
                if not damage_message(error):
                    if is_database_failure(error):
                        raise CommandError(f"'{self._file.name}' is in use: {error}", "try again", EXIT_BUSY) from error
                    raise
            self._close()
            for suffix in ("", "-wal", "-shm"):
                self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
            return action(self._open())

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._close()

    def _open(self) -> Database:
        if self._database is None:
            self._database = self._open_database()
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def damage_message(error: BaseException) -> str:
    """Return SQLite's description of a damaged file; empty for other errors, such as a full disk or a busy file."""
    if not isinstance(error, sqlite3.DatabaseError):
        return ""
    text = str(error)
    if isinstance(error, sqlite3.OperationalError) and not any(sign in text for sign in _DAMAGE_SIGNS):
        return ""
    return text


def is_database_failure(error: BaseException) -> bool:
    """Return True for an error of the file, its disk or its lock; False for an error of a value to be stored."""
    about_values = sqlite3.DataError | sqlite3.IntegrityError | sqlite3.InterfaceError | sqlite3.ProgrammingError
    return isinstance(error, sqlite3.Error) and not isinstance(error, about_values)


def is_sound(file: HostPath) -> bool:
    """Return True if SQLite's quick_check passes; takes seconds for a gigabyte."""
    if not file.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
            return bool(db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.DatabaseError:
        return False


class _OtherVersion(Exception):
    """The error for a file that another version of ctxfs wrote."""


def open_derived(file: HostPath, schema: str, version: int, **pragmas: str) -> sqlite3.Connection:
    """Open `file` for writing, with the tables of `schema`.

    Commits do not wait for the disk (synchronous=NORMAL); after a power cut the file is consistent, without the last
    commits.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            return _open(file, schema, version, pragmas)
        except sqlite3.OperationalError as error:
            # Two processes may create the file at once, and SQLite does not wait while it changes to a write-ahead log.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


def _open(file: HostPath, schema: str, version: int, pragmas: dict[str, str]) -> sqlite3.Connection:
    try:
        return _prepare(file, schema, version, pragmas)
    except sqlite3.OperationalError:
        raise  # busy, full disk, permissions: the file itself may be sound
    except (sqlite3.DatabaseError, _OtherVersion):
        for suffix in ("", "-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        return _prepare(file, schema, version, pragmas)


def _prepare(file: HostPath, schema: str, version: int, pragmas: dict[str, str]) -> sqlite3.Connection:
    db = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    try:
        for name, value in {"busy_timeout": BUSY_MS, "journal_mode": "WAL", "synchronous": "NORMAL", **pragmas}.items():
            db.execute(f"PRAGMA {name}={value}")
        db.execute("BEGIN IMMEDIATE")  # two threads may both find an empty file
        stored_version = db.execute("PRAGMA user_version").fetchone()[0]
        if stored_version == 0:
            for statement in schema.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={version}")
        db.execute("COMMIT")
        if stored_version not in (0, version):
            raise _OtherVersion(str(stored_version))
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.close()
        raise
    return db
