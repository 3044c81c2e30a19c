"""RPC methods on present activity: new operations of the audit as they happen, and the work of each principal."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import trio

from ctxfs.app import App
from ctxfs.daemon.api.params import NoParams
from ctxfs.daemon.api.registry import Check, Effect, method
from ctxfs.daemon.watch import FolderWatch
from ctxfs.eventlog.audit import split_read
from ctxfs.model.errors import invalid
from ctxfs.threads import blocking
from ctxfs.vfs.session import Session

_MAX_WAIT_SECONDS = 60.0
_MAX_RECORDS = 1000
_POLL_SECONDS = 0.15
_MAX_POLL_SECONDS = 1.0  # while the spools are watched: each write to one is noticed at once
_FOLLOWED_BYTES = 256 * 1024
_MAX_COLLECTED_RECORDS = 2000


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
    with closing(_watch_spools(app)) as watch:
        while True:
            app.spool.flush()
            await blocking(app.audit.collect, _MAX_COLLECTED_RECORDS)
            head = await blocking(app.audit.log.head_nowait)
            if after < 0 or (head is not None and head.seq > after):
                newest = await blocking(app.audit.newest, _FOLLOWED_BYTES, after)
                operations = [part for record in newest for part in split_read(record)]
                matches = [part for part in operations if _matches(part, params)][-limit:]
                is_from_end, after = after < 0, max([after, 0, *(record["seq"] for record in newest)])
                if matches or is_from_end:
                    return {"records": matches, "last": after}
            if trio.current_time() >= deadline:
                return {"records": [], "last": after}
            seconds = _MAX_POLL_SECONDS if watch.is_active else _POLL_SECONDS
            await watch.wait(min(seconds, max(0.0, deadline - trio.current_time())))


def _watch_spools(app: App) -> FolderWatch:
    """Return a watch of the spools, to which each process writes its operations; the first one of a store makes the folder."""
    folder = app.audit.spools
    return FolderWatch(str(folder if folder is not None and folder.is_dir() else app.layout.root))


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
    rows, is_complete = await blocking(app.derived_memory.activity.read)
    return {"principals": [asdict(row) for row in rows], "complete": is_complete}
