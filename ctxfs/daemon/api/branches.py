"""RPC methods on branches: plain values in, plain values out."""

from dataclasses import dataclass

from ctxfs.app import App
from ctxfs.daemon.api.params import NoParams
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, method
from ctxfs.daemon.api.results import BranchMerge, BranchRecord, ChangedPath, Version
from ctxfs.daemon.api.versions import actor_for, commit_everything
from ctxfs.services.branches import BranchState
from ctxfs.vfs.session import Session

_EVENT = AuditEvent("branch", "name")


@dataclass(frozen=True, slots=True)
class BranchParams:
    """The name of a branch, and the reason for a change."""

    name: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DropBranchParams:
    """The name of a branch. With `dry_run` it stays."""

    name: str
    dry_run: bool = False


def _record(state: BranchState) -> BranchRecord:
    branch = state.branch
    return BranchRecord(
        name=branch.name,
        by=branch.start.actor.principal,
        created_at=branch.start.time_text,
        revision=branch.head.oid,
        changed_at=branch.head.time_text,
        versions=branch.versions,
        changes=[ChangedPath.of(change) for change in state.changes],
    )


@method("branches", NoParams, needs=Check.BY_METHOD, effects=Effect.CANCELLABLE)
async def _branches(app: App, caller: Session, params: NoParams) -> list[BranchRecord]:
    """Return all branches, each with its changes that the caller may read."""
    return [_record(state) for state in await app.branches.listing()]


@method("create_branch", BranchParams, needs=Check.BY_METHOD, audit=_EVENT, effects=Effect.COMMITS_FIRST)
async def _create(app: App, caller: Session, params: BranchParams) -> BranchRecord:
    await commit_everything(app)
    return _record(await app.branches.create(params.name, actor_for(caller, params.reason)))


@method("branch_diff", BranchParams, needs=Check.BY_METHOD, audit=_EVENT, effects=Effect.CANCELLABLE)
async def _diff(app: App, caller: Session, params: BranchParams) -> bytes:
    """Return the changes of a branch that main lacks, of the files that the caller may read."""
    return await app.branches.diff(params.name)


@method("branch_log", BranchParams, needs=Check.BY_METHOD, audit=_EVENT, effects=Effect.CANCELLABLE)
async def _log(app: App, caller: Session, params: BranchParams) -> list[Version]:
    """Return the versions of a branch, newest first. Subjects and reasons by others are for unrestricted callers."""
    versions = await app.branches.versions(params.name)
    return [Version.of(commit, app.scope.restricted_principal()) for commit in versions]


@method("merge_branch", BranchParams, needs=Check.BY_METHOD, audit=_EVENT, effects=Effect.COMMITS_FIRST)
async def _merge(app: App, caller: Session, params: BranchParams) -> BranchMerge:
    """Propose the merge of a branch, for a person to review."""
    name = await app.branches.check(params.name)
    state = await app.branches.state(name)
    review, _ = await app.memory.branch_reviews.propose(name, actor_for(caller, params.reason))
    return BranchMerge(review, [ChangedPath.of(change) for change in state.changes])


@method("drop_branch", DropBranchParams, needs=Check.BY_METHOD, audit=_EVENT, effects=Effect.COMMITS_FIRST)
async def _drop(app: App, caller: Session, params: DropBranchParams) -> BranchRecord:
    """Delete a branch, with all that only it has, and return its last state."""
    state = await app.branches.drop(params.name, dry_run=params.dry_run)
    if not params.dry_run:
        await app.memory.branch_reviews.withdraw(params.name)
        app.search_view.evict()
    return _record(state)
