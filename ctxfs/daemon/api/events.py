"""RPC methods on the event log and the audit: add, show, verify, erase, pack. Plain values in, plain values out."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ctxfs.app import App
from ctxfs.eventlog.record_schema import make_record_body, shell_session
from ctxfs.model.errors import invalid
from ctxfs.threads import blocking
from ctxfs.vfs.session import Session


async def _record(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Append interactions.

    `said` is the list of interactions. `session` defaults to the caller's session, or with `in_shell` to the session of
    the caller's shell commands.
    """
    default = shell_session(caller.principal) if args.get("in_shell") else caller.actor.session
    interactions, session = args["said"], str(args.get("session") or default)
    if not isinstance(interactions, list) or not all(isinstance(item, dict) for item in interactions):
        raise invalid("said", "a list of objects is needed")
    if session != caller.actor.session:
        await blocking(app.records.check_session, caller.principal, session)
    bodies = [make_record_body(item, caller.actor.principal) for item in interactions]
    return await blocking(lambda: app.history.append(session, bodies, durable=True))


async def _records(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Return the newest `limit` records, oldest first."""
    filters = [str(args.get(name) or "") for name in ("day", "session", "principal")]
    if not app.policy.is_unrestricted(caller.principal):
        filters[2] = str(caller.principal)  # every principal may read its own events
    records = await blocking(lambda: app.history.records(*filters))
    kind = args.get("kind")
    matches = [record for record in records if not kind or record.get("kind") == kind]
    return matches[-max(1, int(args.get("limit", 1000))) :]


async def _verify(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Verify the hash chains of the event log and the audit, and their anchors.

    The anchors are those of the versions here, or in the remote `remote`.
    """
    events, operations = await blocking(app.history.verify), await blocking(app.audit.verify)
    faults = [(fault.where, fault.what) for fault in events.faults]
    faults += [(f"audit/{fault.where}", fault.what) for fault in operations.faults]
    store, anchors = await blocking(app.archive.remotes.read_anchors, str(args.get("remote") or ""))
    hashes = {"events": events.hashes, "audit": operations.hashes}
    anchored = await blocking(app.anchors.compare, store, anchors, hashes)
    faults += [(fault.where, fault.what) for fault in anchored.faults]
    return {
        "records": events.records,
        "audited": operations.records,
        "forgotten": events.forgotten,
        "faults": [{"where": where, "what": problem} for where, problem in faults],
        "anchors": {
            "versions": anchored.versions,
            "since": anchored.since,
            "newest": anchored.newest,
            "up_to": anchored.up_to,
            "unanchored": {name: max(0, max(hashes[name], default=0) - anchored.up_to[name]) for name in hashes},
            "has_key": app.anchors.key is not None,
            "sealed": anchored.sealed,
            "sealed_since": anchored.sealed_since,
            "of_other_stores": anchored.others,
        },
    }


async def _audit(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Return the newest `limit` audited operations, oldest first."""
    app.spool.flush()
    await blocking(app.audit.collect)
    filters = {name: str(args.get(name) or "") for name in ("day", "session", "principal", "op", "path", "outcome")}
    limit = max(1, int(args.get("limit", 1000)))
    return await blocking(lambda: app.audit.records(limit=limit, **filters))


async def _forget(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    return await blocking(app.history.erase_session, str(args["session"]), caller.actor.principal)


async def _pack(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    return await blocking(app.records.pack, max(1, int(args["days"])))


HISTORY_METHODS: Mapping[str, Callable[[App, Session, Mapping[str, Any]], Awaitable[Any]]] = {
    "record": _record,
    "history": _records,
    "verify_history": _verify,
    "audit": _audit,
    "forget_history": _forget,
    "pack_history": _pack,
}
