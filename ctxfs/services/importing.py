"""Imports of transcripts into the event log: known messages, erased sessions, and records that are added once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctxfs.eventlog.capture_spool import CAPTURE_ORIGIN
from ctxfs.eventlog.client_sessions import matched_text
from ctxfs.eventlog.imported import DATABASE_NAME, IMPORT_ID, ImportedMessages
from ctxfs.eventlog.log import EventLog
from ctxfs.eventlog.record_schema import make_record_body
from ctxfs.model.errors import invalid
from ctxfs.model.principal import Principal
from ctxfs.services.records import Records
from ctxfs.store.derived_db import DerivedFile
from ctxfs.store.layout import Layout

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
        self._records = records
        self._database = DerivedFile(
            layout.index / DATABASE_NAME, lambda: ImportedMessages(events, layout.history, layout.index)
        )

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

        return self._database.use(read)

    def append(self, principal: Principal, session: str, records: Sequence[Mapping[str, Any]]) -> list[int]:
        """Append messages that the log does not have yet; return the numbers of their records.

        Raise EPERM as `state` does, and EINVAL for a record without `import_id`.
        """
        self._records.check_session(principal, session)
        bodies = [_check_body(record, str(principal)) for record in records]
        return self._database.use(lambda database: database.append(session, str(principal), bodies))

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _check_body(record: Mapping[str, Any], principal: str) -> dict[str, Any]:
    name = record.get(IMPORT_ID)
    if not isinstance(name, str) or len(name) != _ID_LENGTH or not _ID_CHARACTERS.issuperset(name):
        raise invalid(IMPORT_ID, "32 hexadecimal digits are needed")
    return make_record_body(record, principal)
