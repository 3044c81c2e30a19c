"""RPC methods on the sessions of the event log: lists, the records of one, a day, and episodes in memory."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.params import NoParams
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, method
from ctxfs.index.query import parse_time
from ctxfs.model.errors import invalid, not_found
from ctxfs.threads import blocking
from ctxfs.vfs.session import Session

_MAX_RECORDS = 10_000
_MAX_RESPONSE_CHARS = 8_000_000
_CITE = re.compile(r"history/(\d{4}-\d\d-\d\d)/[^/]+:(\d{1,18})")


@dataclass(frozen=True, slots=True)
class SessionsParams:
    """Filters of sessions, each empty for all, and the maximum number of sessions."""

    since: str = ""
    client: str = ""
    principal: str = ""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class SessionRecordsParams:
    """A session, the citation of the last record that the caller has, and the maximum number of records."""

    session: str
    after: str = ""
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class DayParams:
    """A day (UTC), empty for today, and the maximum number of messages."""

    day: str = ""
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class WriteEpisodesParams:
    """The session; empty for all that ended today or yesterday."""

    session: str = ""


@method("session_names", NoParams, needs=Check.BY_METHOD, effects=Effect.CANCELLABLE)
async def _names(app: App, caller: Session, params: NoParams) -> list[str]:
    await app.capture.collect()
    return await blocking(app.derived_memory.session_records.names)


@method("sessions", SessionsParams, needs=Check.BY_METHOD, audit=AuditEvent("history"), effects=Effect.CANCELLABLE)
async def _sessions(app: App, caller: Session, params: SessionsParams) -> Any:
    """Return the sessions with the newest changes, newest first."""
    since_ns = parse_time(params.since, datetime.now(UTC)) if params.since else 0
    if since_ns is None:
        raise invalid("since", f"'{params.since[:80]}': an age such as 7d, or a date, is needed")
    limit = max(1, min(params.limit, _MAX_RECORDS))
    await app.capture.collect()
    return await blocking(
        app.derived_memory.session_records.overviews, since_ns, params.client, params.principal, limit
    )


@method(
    "session_records",
    SessionRecordsParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("history", "session"),
    effects=Effect.CANCELLABLE,
)
async def _records(app: App, caller: Session, params: SessionRecordsParams) -> Any:
    """Return the next records of a session, in order: at most `limit`, and 8 MB. Raise ENOENT without any record."""
    position = _CITE.fullmatch(params.after)
    after = (position[1], int(position[2])) if position else ("", 0)

    def read() -> list[dict[str, Any]]:
        records, size = [], 0
        for record in islice(
            app.derived_memory.session_records.records(params.session, after), max(1, min(params.limit, _MAX_RECORDS))
        ):
            records.append(record)
            size += sum(len(value) for value in record.values() if isinstance(value, str))
            if size > _MAX_RESPONSE_CHARS:
                break
        return records

    await app.capture.collect()
    records = await blocking(read)
    if not records and not params.after:
        raise not_found(params.session)
    return records


@method("session_day", DayParams, needs=Check.BY_METHOD, audit=AuditEvent("history"), effects=Effect.CANCELLABLE)
async def _day(app: App, caller: Session, params: DayParams) -> Any:
    """Return the messages of all sessions on a day, in the order of their times."""
    day = params.day or datetime.now(UTC).date().isoformat()
    try:
        day = date.fromisoformat(day).isoformat()
    except ValueError as error:
        raise invalid("day", f"'{params.day[:80]}': a date such as 2026-11-29 is needed") from error
    await app.capture.collect()
    messages = await blocking(app.derived_memory.session_records.day, day, max(1, min(params.limit, _MAX_RECORDS)))
    return {"day": day, "messages": messages}


@method("write_episodes", WriteEpisodesParams, needs=Check.ADMINISTRATORS, effects=Effect.CHANGES_FILES)
async def _write_episodes(app: App, caller: Session, params: WriteEpisodesParams) -> Any:
    """Write the episodes of a session, or of all that have ended recently, to memory; return the written paths."""
    if params.session:
        return await app.derived_memory.episodes.write(params.session)
    return await app.derived_memory.episodes.write_ended()
