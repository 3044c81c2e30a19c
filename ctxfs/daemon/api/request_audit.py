"""The requests that the audit records, for the socket, commands without a daemon and MCP alike.

A mount process audits its operations on backed files itself (`fuse.state`). Its requests to the daemon are recorded
here like any other.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ctxfs.app import App
from ctxfs.eventlog.audit import errno_name
from ctxfs.eventlog.spool import OK, AuditActor, query_digest
from ctxfs.model.path import one_line
from ctxfs.vfs.session import Session

# method → (operation, argument that names its object). Of queries a digest is recorded: they may contain erased words.
_AUDITED_METHODS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("read", "read_labelled"), ("read", "path")),
    **dict.fromkeys(("show", "diff", "blame", "log"), ("past", "path")),
    **dict.fromkeys(("restore", "restore_from", "undo", "redo", "forget"), ("rollback", "path")),
    "search": ("search", "question"),
    "find": ("search", "filters"),
    "grep": ("search", "pattern"),
    "glob": ("search", "pattern"),
    "context": ("context", "request"),
    "evaluate_response": ("context", "task"),
    "verify_context": ("context", ""),
    "curate": ("context", "task"),
    "review": ("review", "name"),
    "record": ("record", "session"),
    "history": ("history", "session"),
    "audit": ("history", ""),
    "forget_history": ("forget", "session"),
    "pack_history": ("pack", ""),
    **dict.fromkeys(("call_tool", "begin_call"), ("exec", "name")),
    "approve_tool": ("approve", "name"),
    "issue_token": ("token", "principal"),
    "revoke_token": ("token", "named"),
    "mount": ("mount", "at"),
    "unmount": ("unmount", "at"),
    "add": ("source", "path"),
    "remove": ("source", "name"),
    **dict.fromkeys(("add_server", "remove_server"), ("server", "name")),
}
_CHANGES = {
    "put": "write",
    "append": "write",
    "mkdir": "create",
    "remove": "delete",
    "move": "rename",
    "meta": "meta",
}
_QUERY_ARGUMENTS = ("question", "filters", "pattern", "request")
_REFUSALS = (errno.EACCES, errno.EPERM)


@contextmanager
def audited(app: App, caller: Session, method: str, args: Mapping[str, Any]) -> Iterator[None]:
    """Record a request, or its refusal.

    Refusals are recorded also for methods that the audit does not record otherwise.
    """
    try:
        yield
    except OSError as error:
        if method in _AUDITED_METHODS or method == "apply" or error.errno in _REFUSALS:
            record_request(app, caller, method, args, errno_name(error))
        raise
    if method in _AUDITED_METHODS or method == "apply":
        record_request(app, caller, method, args)


def record_request(app: App, caller: Session, method: str, args: Mapping[str, Any], outcome: str = OK) -> None:
    """Record an operation on behalf of the caller."""
    actor = AuditActor(str(caller.principal), caller.actor.session, caller.actor.tool)
    op, subject, target = method, str(args.get("path", "")), ""
    if method == "apply":
        kind, subject, *rest = args["change"]
        op = _CHANGES.get(kind, kind)
        target = str(rest[0]) if kind == "move" else ""
    elif method in _AUDITED_METHODS:
        op, key = _AUDITED_METHODS[method]
        value = args.get(key, "")
        query = value.get("query", "") if isinstance(value, dict) else value
        subject = "; ".join(map(str, query)) if isinstance(query, list | tuple) else str(query)
        if key in _QUERY_ARGUMENTS:
            subject = query_digest(subject)
    app.spool.record_event(actor, op, one_line(str(subject))[:4096], one_line(target), outcome)
