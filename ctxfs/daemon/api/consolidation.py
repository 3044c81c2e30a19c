"""RPC methods of consolidation: the groups of memories, and a run over one group. Plain values in, plain values out."""

from dataclasses import dataclass
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, method
from ctxfs.model.errors import invalid, not_permitted
from ctxfs.model.path import Path
from ctxfs.services.consolidation import ConsolidationRequest, GroupReport
from ctxfs.vfs.session import Session


@dataclass(frozen=True, slots=True)
class MemoryGroupsParams:
    """A path in memory."""

    path: Path


@dataclass(frozen=True, slots=True)
class ConsolidateParams:
    """A group, and the options of a run. An empty `command` is the configured one."""

    path: Path
    since_ns: int = 0
    command: str = ""
    dry_run: bool = False


@method("memory_groups", MemoryGroupsParams, needs=Check.BY_METHOD, effects=Effect.COMMITS_FIRST)
async def _groups(app: App, caller: Session, params: MemoryGroupsParams) -> list[str]:
    """Return the groups of memories at or below a path that the caller may read and write."""
    if params.path.parts[:1] != ("memory",):
        raise invalid(params.path, "name a path in memory")
    return [str(group) for group in await app.derived_memory.consolidation.groups(caller.principal, params.path)]


@method(
    "consolidate",
    ConsolidateParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("consolidate", "path"),
    effects=Effect.CHANGES_FILES,
)
async def _consolidate(app: App, caller: Session, params: ConsolidateParams) -> dict[str, Any]:
    """Make the proposals of one group."""
    if params.command and not caller.principal.is_person:
        raise not_permitted(params.path, "only people name a command; agents use the one of ctxfs.toml")
    command = params.command or app.settings.memory.consolidator
    request = ConsolidationRequest(params.path, params.since_ns, command, params.dry_run)
    return _as_plain(await app.derived_memory.consolidation.run(caller.principal, caller.actor, request))


def _as_plain(report: GroupReport) -> dict[str, Any]:
    return {
        "memories": report.memories,
        "proposals": [
            {"id": item.id, "rule": item.rule, "title": item.title, "paths": list(item.paths), "new": item.is_new}
            for item in report.proposals
        ],
        "withdrawn": report.withdrawn,
        "refused": [{"proposal": subject, "reason": reason} for subject, reason in report.refused],
        "remarks": [{"path": subject, "remark": reason} for subject, reason in report.remarks],
        "waiting": report.waiting,
    }
