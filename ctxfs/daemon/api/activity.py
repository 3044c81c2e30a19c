"""RPC methods on present activity: new operations of the audit as they happen, and the work of each principal."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import trio

from ctxfs.app import App
from ctxfs.daemon.api.params import NoParams
from ctxfs.daemon.api.registry import Check, Effect, method
from ctxfs.eventlog.audit import split_read
from ctxfs.eventlog.spool import OK
from ctxfs.model.errors import invalid
from ctxfs.threads import blocking
from ctxfs.vfs.session import Session

_MAX_WAIT_SECONDS = 60.0
_MAX_RECORDS = 1000
_POLL_SECONDS = 0.15
_FOLLOWED_BYTES = 256 * 1024
_ACTIVITY_BYTES = 4 << 20
_HOUR_SECONDS = 3600.0
_MAX_COLLECTED_RECORDS = 2000
_READS = frozenset(("read", "past"))
_QUESTIONS = frozenset(("search", "context"))


@dataclass(frozen=True, slots=True)
class FollowParams:
    """The sequence number of the last record that the caller has, and the time to wait for later ones.

    A negative number stands for the present end: then the newest `limit` operations are returned at once. `principal`,
    `op` and `outcome` filter operations, each empty for all.
    """

    after: int = -1
    wait: float = 0.0
    limit: int = 200
    principal: str = ""
    op: str = ""
    outcome: str = ""


@dataclass(slots=True)
class PrincipalActivity:
    """The number of operations of a principal, and the time of the last one."""

    principal: str
    reads: int = 0
    writes: int = 0
    questions: int = 0
    refused: int = 0
    last: str = ""


@method("follow_audit", FollowParams, needs=Check.ADMINISTRATORS, effects=Effect.CANCELLABLE)
async def _follow(app: App, caller: Session, params: FollowParams) -> Any:
    """Return {records, last}: the operations after a record, oldest first, as soon as there are any.

    A caller that falls far behind gets the newest ones only. The method itself is not audited: each of its calls would
    be followed by another.
    """
    if not 0 <= params.wait <= _MAX_WAIT_SECONDS:
        raise invalid("wait", f"from 0 to {_MAX_WAIT_SECONDS:.0f} seconds are needed")
    limit = max(1, min(params.limit, _MAX_RECORDS))
    deadline, after = trio.current_time() + params.wait, params.after
    while True:
        app.spool.flush()
        await blocking(app.audit.collect, _MAX_COLLECTED_RECORDS)
        head = await blocking(app.audit.log.head_nowait)
        if after < 0 or (head is not None and head.seq > after):
            newest, _ = await blocking(app.audit.newest, _FOLLOWED_BYTES)
            operations = [part for record in newest if record["seq"] > after for part in split_read(record)]
            matches = [part for part in operations if _matches(part, params)][-limit:]
            is_from_end, after = after < 0, max([after, 0, *(record["seq"] for record in newest)])
            if matches or is_from_end:
                return {"records": matches, "last": after}
        if trio.current_time() >= deadline:
            return {"records": [], "last": after}
        await trio.sleep(_POLL_SECONDS)


def _matches(operation: Mapping[str, Any], params: FollowParams) -> bool:
    wanted = {"principal": params.principal, "op": params.op, "outcome": params.outcome}
    return all(operation.get(name) == value for name, value in wanted.items() if value)


@method("activity", NoParams, needs=Check.ADMINISTRATORS)
async def _activity(app: App, caller: Session, params: NoParams) -> Any:
    """Return {principals, complete}: the operations of each principal in the last hour, the most recent first.

    `complete` is False if the hour has more operations than are counted.
    """
    app.spool.flush()
    await blocking(app.audit.collect, _MAX_COLLECTED_RECORDS)
    since = datetime.fromtimestamp(time.time() - _HOUR_SECONDS, UTC).isoformat(timespec="milliseconds")
    records, is_all = await blocking(app.audit.newest, _ACTIVITY_BYTES)
    principals: dict[str, PrincipalActivity] = {}
    for record in records:
        if str(record.get("at", "")) >= since and (name := str(record.get("principal", ""))):
            _count(principals.setdefault(name, PrincipalActivity(name)), record)
    is_complete = is_all or bool(records and str(records[0].get("at", "")) < since)
    rows = sorted(principals.values(), key=lambda row: row.last, reverse=True)
    return {"principals": [asdict(row) for row in rows], "complete": is_complete}


def _count(row: PrincipalActivity, record: Mapping[str, Any]) -> None:
    names, op = record.get("names"), record.get("op")
    times = len(names) if isinstance(names, list) else int(record.get("times", 1))
    row.last = max(row.last, str(record.get("until", record["at"])))
    if record.get("outcome", OK) in ("EACCES", "EPERM"):
        row.refused += times
    elif op in _READS:
        row.reads += times
    elif op in _QUESTIONS:
        row.questions += times
    elif op in ("write", "create", "delete", "rename", "meta", "record"):
        row.writes += times
