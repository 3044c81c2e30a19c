"""RPC methods of impact: all that was built on a path, an origin or a session, and its quarantine. Plain values in and out."""

from dataclasses import asdict, dataclass
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, method
from ctxfs.daemon.api.results import ChangedPath, Result, Version
from ctxfs.daemon.api.versions import actor_for
from ctxfs.model.errors import invalid, not_permitted
from ctxfs.model.path import ROOT, Path
from ctxfs.services.impact import ImpactReport
from ctxfs.vfs.session import Session


@dataclass(frozen=True, slots=True)
class ImpactParams:
    """A path, an origin (`user.ctx.source`) or a session: one of them."""

    path: Path = ROOT
    origin: str = ""
    session: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Quarantined(Result):
    """A version of files in quarantine (None if they were already), its changes, and the report."""

    version: Version | None
    changes: list[ChangedPath]
    report: dict[str, Any]


@method(
    "impact", ImpactParams, needs=Check.ADMINISTRATORS, audit=AuditEvent("impact", "path"), effects=Effect.COMMITS_FIRST
)
async def _impact(app: App, caller: Session, params: ImpactParams) -> Any:
    return _record(await _find(app, params))


@method(
    "quarantine_impact",
    ImpactParams,
    needs=Check.ADMINISTRATORS,
    audit=AuditEvent("quarantine", "path"),
    effects=Effect.COMMITS_FIRST | Effect.CHANGES_WORK_TREE,
)
async def _quarantine(app: App, caller: Session, params: ImpactParams) -> Quarantined:
    """Quarantine everything that a report names, in one version. EPERM for agents."""
    if not caller.principal.is_person:
        raise not_permitted("quarantine", "only people quarantine")
    report = await _find(app, params)
    outcome = await app.derived_memory.impact.quarantine(report, actor_for(caller, params.reason))
    return Quarantined(
        version=Version.of(outcome.commit) if outcome.commit else None,
        changes=[ChangedPath.of(change) for change in outcome.changes],
        report=_record(report),
    )


async def _find(app: App, params: ImpactParams) -> ImpactReport:
    if sum(map(bool, (params.path.parts, params.origin, params.session))) != 1:
        raise invalid("impact", "name a path, an origin or a session")
    app.spool.flush()
    if params.origin:
        return await app.derived_memory.impact.of_origin(params.origin)
    if params.session:
        return await app.derived_memory.impact.of_session(params.session)
    return await app.derived_memory.impact.of_path(params.path)


def _record(report: ImpactReport) -> dict[str, Any]:
    return {
        "seeds": list(report.seeds),
        "files": [asdict(item) for item in report.files],
        "contexts": [asdict(item) for item in report.contexts],
        "answers": [asdict(item) for item in report.answers],
        "exports": [dict(record) for record in report.exports],
    }
