"""RPC methods on the event log and the audit: add, show, verify, erase, pack. Plain values in, plain values out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxfs.app import App
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, method
from ctxfs.eventlog.record_schema import make_record_body, shell_session
from ctxfs.model.errors import CommandError, invalid
from ctxfs.threads import blocking, in_turn
from ctxfs.vfs.session import Session

if TYPE_CHECKING:
    from ctxfs.shared.anchor_check import NodeChains


@dataclass(frozen=True, slots=True)
class RecordParams:
    """Interactions, see `eventlog.record_schema`, and the session that they belong to.

    `session` defaults to that of the caller, or with `in_shell` to that of the caller's shell commands.
    """

    said: list[Any]
    session: str = ""
    in_shell: bool = False


@dataclass(frozen=True, slots=True)
class HistoryParams:
    """Filters of records, each empty for all, and the maximum number of records."""

    day: str = ""
    session: str = ""
    principal: str = ""
    kind: str = ""
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class VerifyHistoryParams:
    """The remote whose versions hold the anchors; empty for the versions of the store."""

    remote: str = ""


@dataclass(frozen=True, slots=True)
class AuditParams:
    """Filters of operations, each empty for all, and the maximum number of operations."""

    day: str = ""
    session: str = ""
    principal: str = ""
    op: str = ""
    path: str = ""
    outcome: str = ""
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class ForgetHistoryParams:
    """The session whose records are erased."""

    session: str


@dataclass(frozen=True, slots=True)
class PackHistoryParams:
    """The number of recent days that are not compressed."""

    days: int


@method("record", RecordParams, needs=Check.BY_METHOD, audit=AuditEvent("record", "session"))
async def _record(app: App, caller: Session, params: RecordParams) -> Any:
    """Append parse_records, and return their numbers."""
    default = shell_session(caller.principal) if params.in_shell else caller.actor.session
    parse_records, session = params.said, params.session or default
    if not all(isinstance(item, dict) for item in parse_records):
        raise invalid("said", "a list of objects is needed")
    if session != caller.actor.session:
        await blocking(app.records.check_session, caller.principal, session)
    bodies = [make_record_body(item, caller.actor.principal) for item in parse_records]
    return await blocking(lambda: app.history.append(session, bodies, durable=True))


@method("history", HistoryParams, needs=Check.BY_METHOD, audit=AuditEvent("history", "session"))
async def _records(app: App, caller: Session, params: HistoryParams) -> Any:
    """Return the newest `limit` records, oldest first."""
    await app.capture.collect()
    filters = [params.day, params.session, params.principal]
    if not app.policy.is_unrestricted(caller.principal):
        filters[2] = str(caller.principal)  # every principal may read its own events
    records = await blocking(lambda: app.history.records(*filters))
    matches = [record for record in records if params.kind in ("", record.get("kind"))]
    return matches[-max(1, params.limit) :]


@method("verify_history", VerifyHistoryParams, needs=Check.ADMINISTRATORS)
async def _verify(app: App, caller: Session, params: VerifyHistoryParams) -> Any:
    """Verify the hash chains of the event log and the audit, and their anchors.

    The anchors are those of the versions here, or in the remote `remote`; in a shared store also those of all nodes.
    """
    await app.capture.collect()
    # Anchors first: the chains then include all records that the anchors name.
    nodes, log_fault = await _read_node_chains(app) if not params.remote else ([], "")
    store, anchors = await blocking(app.archive.remotes.read_anchors, params.remote)
    events, operations = await blocking(app.history.verify), await blocking(app.audit.verify)
    faults = [(fault.where, fault.what) for fault in events.faults]
    faults += [(f"audit/{fault.where}", fault.what) for fault in operations.faults]
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
        "log_fault": log_fault,
        "nodes": await blocking(_compare_nodes, nodes, store, hashes),
    }


async def _read_node_chains(app: App) -> "tuple[list[NodeChains], str]":
    """Return the anchors of all nodes of a shared store, and the reason if they cannot be read."""
    if not app.sharing.is_on:
        return [], ""
    try:
        return await blocking(app.sharing.read_chains), ""
    except CommandError as error:
        return [], f"{error.message} → {error.remedy}" if error.remedy else error.message
    except OSError as error:
        return [], error.strerror or str(error)


def _compare_nodes(
    nodes: "Sequence[NodeChains]", store: str, hashes: Mapping[str, Mapping[int, str]]
) -> list[dict[str, Any]]:
    """Return the results by node, oldest first; the records of this store are compared with its anchors."""
    for chains in nodes:
        if chains.store == store:
            from ctxfs.shared.anchor_check import compare_records

            compare_records(chains, hashes)
    return [
        {
            "node": chains.node,
            "store": chains.store,
            "state": chains.state.value,
            "anchors": chains.anchors,
            "up_to": {name: link.seq for name, link in chains.last.items()},
            "faults": chains.faults,
        }
        for chains in nodes
    ]


@method("audit", AuditParams, needs=Check.ADMINISTRATORS, audit=AuditEvent("history"))
async def _audit(app: App, caller: Session, params: AuditParams) -> Any:
    """Return the newest `limit` audited operations, oldest first."""
    app.spool.flush()
    await blocking(app.audit.collect)
    filters = {name: getattr(params, name) for name in ("day", "session", "principal", "op", "path", "outcome")}
    return await blocking(lambda: app.audit.records(limit=max(1, params.limit), **filters))


@method(
    "forget_history",
    ForgetHistoryParams,
    needs=Check.ADMINISTRATORS,
    audit=AuditEvent("forget", "session"),
    effects=Effect.COMMITS_FIRST | Effect.ERASES,
)
async def _forget(app: App, caller: Session, params: ForgetHistoryParams) -> Any:
    """Erase the records of a session and the episodes in memory that were made of them; return the number of records.

    The episodes go first: after a kill the request can be repeated.
    """
    await app.capture.collect()
    await app.capture.end_session(params.session)
    for path in await app.derived_memory.episodes.paths_of(params.session):
        await in_turn(app.archive.erasure.erase, path, "", caller.actor)
    app.derived_memory.sessions.evict()
    return await app.erasure.erase_session(params.session, caller.actor.principal)


@method("pack_history", PackHistoryParams, needs=Check.ADMINISTRATORS, audit=AuditEvent("pack"))
async def _pack(app: App, caller: Session, params: PackHistoryParams) -> Any:
    return await blocking(app.records.pack, max(1, params.days))
