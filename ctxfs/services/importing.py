"""Imports of transcripts into the event log: known messages, erased sessions, and records that are added once."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ctxfs.eventlog.capture_spool import CAPTURE_ORIGIN
from ctxfs.eventlog.client_sessions import matched_text
from ctxfs.eventlog.imported import DATABASE_NAME, IMPORT_ID, ImportedMessages
from ctxfs.eventlog.log import EventLog
from ctxfs.eventlog.record_schema import make_record_body
from ctxfs.model.errors import EXIT_BUSY, CommandError, invalid
from ctxfs.model.principal import Principal
from ctxfs.services.records import Records
from ctxfs.store.derived_db import damage_message, is_database_failure
from ctxfs.store.layout import Layout

Result = TypeVar("Result")
_ID_CHARACTERS = frozenset("0123456789abcdef")
_ID_LENGTH = 32


@dataclass(frozen=True, slots=True)
class SessionState:
    """A session of the event log as an import needs it.

    For each of the given identities whether the log has its message, the time of the last erasure in the session, and
    the (kind, text) of the messages that hooks of the client recorded.
    """

    known: list[bool]
    erased_at: str
    captured: list[tuple[str, str]]


class Imports:
    """The imports of one store. Methods block; any thread."""

    def __init__(self, layout: Layout, events: EventLog, records: Records) -> None:
        self._layout = layout
        self._events = events
        self._records = records
        self._lock = threading.Lock()
        self._database: ImportedMessages | None = None

    def state(
        self, principal: Principal, session: str, ids: Sequence[bytes], *, with_captured: bool, with_inputs: bool
    ) -> SessionState:
        """Return the state of a session; `with_inputs` lists all messages of kind `input` with those of hooks.

        Raise EPERM for an agent if the session is of another principal.
        """
        self._records.check_session(principal, session)
        name = str(principal)

        def read(database: ImportedMessages) -> SessionState:
            records: Iterable[Mapping[str, Any]] = ()
            if with_inputs:
                records = database.find_records(session, "kind", "input", includes_imported=True)
            elif with_captured:
                records = database.find_records(session, "origin", CAPTURE_ORIGIN, includes_imported=False)
            captured = [
                (str(record.get("kind", "")), matched_text(record))
                for record in records
                if principal.is_person or record.get("principal") == name
            ]
            return SessionState(database.find_known(name, ids), database.erased_at(session), captured)

        return self._use(read)

    def append(self, principal: Principal, session: str, records: Sequence[Mapping[str, Any]]) -> list[int]:
        """Append messages that the log does not have yet; return the numbers of their records.

        Raise EPERM as `state` does, and EINVAL for a record without `import_id`.
        """
        self._records.check_session(principal, session)
        bodies = [_check_body(record, str(principal)) for record in records]
        return self._use(lambda database: database.append(session, str(principal), bodies))

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _use(self, action: Callable[[ImportedMessages], Result]) -> Result:
        """Run an action on the database; make a damaged one again, because all of it is derived."""
        with self._lock:
            try:
                return action(self._open())
            except Exception as error:
                if not damage_message(error):
                    if is_database_failure(error):
                        raise CommandError(
                            f"the list of imported messages is in use: {error}", "try again", EXIT_BUSY
                        ) from error
                    raise
            self._discard()
            return action(self._open())

    def _open(self) -> ImportedMessages:
        if self._database is None:
            self._database = ImportedMessages(self._events, self._layout.history, self._layout.index)
        return self._database

    def _discard(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        for suffix in ("", "-wal", "-shm"):
            (self._layout.index / f"{DATABASE_NAME}{suffix}").unlink(missing_ok=True)


def _check_body(record: Mapping[str, Any], principal: str) -> dict[str, Any]:
    name = record.get(IMPORT_ID)
    if not isinstance(name, str) or len(name) != _ID_LENGTH or not _ID_CHARACTERS.issuperset(name):
        raise invalid(IMPORT_ID, "32 hexadecimal digits are needed")
    return make_record_body(record, principal)
