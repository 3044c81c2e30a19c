"""The requests that the audit records, for the socket, commands without a daemon and MCP alike.

A mount process audits its operations on backed files itself (`fuse.state`). Its requests to the daemon are recorded
here like any other.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.registry import AuditEvent, ChangeEvent, Method
from ctxfs.eventlog.audit import errno_name
from ctxfs.eventlog.spool import OK, AuditActor, query_digest
from ctxfs.model.path import one_line
from ctxfs.vfs.session import Session

_CHANGES = {
    "put": "write",
    "append": "write",
    "mkdir": "create",
    "remove": "delete",
    "move": "rename",
    "meta": "meta",
}
_REFUSALS = (errno.EACCES, errno.EPERM)


@contextmanager
def audited(app: App, caller: Session, method: Method[Any, Any], args: Mapping[str, Any]) -> Iterator[None]:
    """Record a request, or its refusal.

    Refusals are recorded also for methods that the audit does not record otherwise.
    """
    try:
        yield
    except OSError as error:
        if method.audit is not None or error.errno in _REFUSALS:
            record_request(app, caller, method, args, errno_name(error))
        raise
    if method.audit is not None:
        record_request(app, caller, method, args)


def record_request(
    app: App, caller: Session, method: Method[Any, Any], args: Mapping[str, Any], outcome: str = OK
) -> None:
    """Record an operation on behalf of the caller."""
    actor = AuditActor(str(caller.principal), caller.actor.session, caller.actor.tool)
    op, subject, target = method.name, str(args.get("path", "")), ""
    match method.audit:
        case ChangeEvent():
            change = args.get("change")
            if isinstance(change, list | tuple) and len(change) > 1:
                kind, subject = str(change[0]), str(change[1])
                op = _CHANGES.get(kind, kind)
                target = str(change[2]) if kind == "move" and len(change) > 2 else ""
        case AuditEvent(op, key, is_query):
            subject = _subject(args.get(key, ""))
            if is_query:
                subject = query_digest(subject)
    app.spool.record_event(actor, op, one_line(str(subject))[:4096], one_line(target), outcome)


def _subject(value: object) -> str:
    """Return the text of an argument: a path, a name, a query, several queries, or a request that contains them."""
    query = value.get("query", "") if isinstance(value, dict) else value
    return "; ".join(map(str, query)) if isinstance(query, list | tuple) else str(query)
