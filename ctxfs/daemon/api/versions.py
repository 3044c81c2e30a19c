"""RPC methods on versions: plain values in, plain values out."""

import contextlib
import errno
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ctxfs.app import App
from ctxfs.daemon.api.params import NameParams, NoParams
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, RightsBelow, method
from ctxfs.daemon.api.results import (
    BlamedLine,
    ChangedPath,
    ErasedPath,
    Erasure,
    LogEntry,
    Rollback,
    Snapshot,
    Version,
)
from ctxfs.model.errors import CommandError, invalid, not_found, path_error
from ctxfs.model.path import ROOT, Path
from ctxfs.policy import operations
from ctxfs.policy.owners import NEVER
from ctxfs.policy.rules import Verb
from ctxfs.store.layout import is_versioned
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.history import parse_moment
from ctxfs.versions.objects.commits import Actor, Commit
from ctxfs.versions.objects.name_encoding import path_text
from ctxfs.versions.recording.pathindex import CommitFilter
from ctxfs.versions.rollback import Outcome
from ctxfs.vfs.access_control import WITHHELD
from ctxfs.vfs.session import Session

_MAX_LOG_ENTRIES = 1_000_000
_MAX_LARGE_ROUNDS = 3
_PREVIOUS = "prev"
_COMMIT = RightsBelow(Verb(0))
_READ = RightsBelow(Verb.LIST | Verb.READ)
_CHANGE = RightsBelow(Verb.LIST | Verb.READ | operations.CHANGE)
_READ_EVENT = AuditEvent("past", "path")
_CHANGE_EVENT = AuditEvent("rollback", "path")
ROLLBACK_EFFECTS = Effect.COMMITS_FIRST | Effect.CHANGES_WORK_TREE


@dataclass(frozen=True, slots=True)
class LogParams:
    """The versions of a path, newest first, with their changes if requested.

    `since` and `until` are times as a person writes them. With `at` the newest is that version.
    """

    path: Path = ROOT
    limit: int = 100
    principal: str = ""
    session: str = ""
    since: str = ""
    until: str = ""
    changes: bool = False
    at: str = ""


@dataclass(frozen=True, slots=True)
class ShowParams:
    """A path and a revision, a snapshot or another selector."""

    at: str
    path: Path = ROOT


@dataclass(frozen=True, slots=True)
class DiffParams:
    """A path and two revisions. The old one may be `prev`: the diff is the newest change of the path up to `new`."""

    old: str
    new: str
    path: Path = ROOT


@dataclass(frozen=True, slots=True)
class BlameParams:
    """A path and a revision."""

    path: Path = ROOT
    at: str = "latest"


@dataclass(frozen=True, slots=True)
class RestoreParams:
    """A path and the revision to restore. `reason` replaces that of the session."""

    to: str
    path: Path = ROOT
    dry_run: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RestoreFromParams:
    """A path and the source (`user.ctx.source`) whose content is rolled back."""

    source: str
    path: Path = ROOT
    dry_run: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UndoParams:
    """A path, and the principal or the session whose changes are undone; without both the newest change."""

    path: Path = ROOT
    principal: str = ""
    session: str = ""
    since: str = ""
    until: str = ""
    dry_run: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RedoParams:
    """A path whose last undo is taken back."""

    path: Path = ROOT
    dry_run: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ForgetParams:
    """A path to erase, or the principal whose files are erased instead."""

    path: Path = ROOT
    principal: str = ""
    dry_run: bool = False
    reason: str = ""


def _check_versioned(path: Path) -> str:
    """Return a path as a text. Raise OSError EINVAL for one without versions."""
    if not path.is_root and not is_versioned(path):
        raise invalid(path, "only memory, pad, context and search are versioned here; a source may have git of its own")
    return str(path)


async def _visible_since(app: App, path: str, *named: str) -> int:
    """Return the time since when the caller may see the versions of a path and everything below it, in nanoseconds.

    Raise OSError ENOENT if a named version is older.
    """
    since = await in_turn(lambda: app.scope.readable_since(Path.parse(path), below=True))
    if since >= NEVER:
        raise not_found(path)
    for revision in named if since else ():
        step = await in_turn(app.archive.reader.resolve, revision)
        if step.commit.time_ns < since:
            raise not_found(path)
    return since


async def _check_all_visible(app: App, path: str) -> None:
    """Raise OSError EACCES for a caller that may not see all versions of a path.

    Such a caller could restore hidden content.
    """
    if await _visible_since(app, path):
        raise path_error(
            errno.EACCES, path, "a part of its past is kept from you: restore one of the versions that log shows"
        )


def _filter(params: LogParams | UndoParams) -> CommitFilter:
    now = datetime.now(UTC)
    times = {}
    for name, text in (("since", params.since), ("until", params.until)):
        if text:
            moment = parse_moment(text, now)
            if moment is None:
                raise CommandError(f"'{text}' is not a time", "write 2h, yesterday or 2026-11-20T10:00", 2)
            times[f"{name}_ns"] = moment
    return CommitFilter(params.principal, params.session, **times)


def actor_for(caller: Session, reason: str) -> Actor:
    """Return the caller as the actor of a version, with the reason of this request."""
    actor = caller.actor
    return Actor(actor.principal, actor.session, actor.tool, reason or actor.reason)


@method("commit", NoParams, needs=_COMMIT, effects=Effect.COMMITS_FIRST)
async def _commit(app: App, caller: Session, params: NoParams) -> list[Version]:
    return [Version.of(commit) for commit in await commit_everything(app)]


async def commit_everything(app: App) -> list[Commit]:
    """Commit all changes.

    Large files are read in a worker thread, so that other requests on versions are served meanwhile.
    """
    commits = await in_turn(app.archive.commit_nowait)
    for _ in range(_MAX_LARGE_ROUNDS):
        if app.archive.large_delay > 0:
            break
        await blocking(app.archive.prepare_large)
        commits += await in_turn(app.archive.commit_nowait)
    return commits


@method("log", LogParams, needs=_READ, audit=_READ_EVENT, effects=Effect.COMMITS_FIRST)
async def _log(app: App, caller: Session, params: LogParams) -> list[LogEntry]:
    limit = max(1, min(params.limit, _MAX_LOG_ENTRIES))
    path, filters = _check_versioned(params.path), _filter(params)
    named = [params.at] if params.at else []
    filters = replace(filters, since_ns=max(filters.since_ns, await _visible_since(app, path, *named)))
    steps = await in_turn(app.archive.reader.log, path, filters, limit, params.at)
    versions = [Version.of(step.commit, app.scope.restricted_principal()) for step in steps]
    if not params.changes:
        return [LogEntry(version, None) for version in versions]
    changes = await in_turn(app.archive.reader.changes_of, [step.seq for step in steps], path)
    return [
        LogEntry(version, [ChangedPath.of(change) for change in part])
        for version, part in zip(versions, changes, strict=True)
    ]


@method("show", ShowParams, needs=_READ, audit=_READ_EVENT, effects=Effect.COMMITS_FIRST)
async def _show(app: App, caller: Session, params: ShowParams) -> bytes:
    path = _check_versioned(params.path)
    await _visible_since(app, path, params.at)
    data: bytes = await in_turn(app.archive.reader.show, path, params.at)
    await _check_withheld(app, path, data)
    return data


@method("diff", DiffParams, needs=_READ, audit=_READ_EVENT, effects=Effect.COMMITS_FIRST)
async def _diff(app: App, caller: Session, params: DiffParams) -> bytes:
    path, old, new = _check_versioned(params.path), params.old, params.new
    if old == _PREVIOUS:
        since = await _visible_since(app, path, new)
        old, new = await in_turn(app.archive.reader.change_at, path, new, since)
    else:
        await _visible_since(app, path, old, new)
    await _check_withheld(app, path)
    for revision in (old, new) if app.scope.restricted_principal() else ():
        with contextlib.suppress(OSError):  # a directory, or absent in that version
            data = await in_turn(app.archive.reader.show, path, revision)
            await _check_withheld(app, path, data)
    diff: bytes = await in_turn(app.archive.reader.diff, path, old, new)
    await _check_withheld(app, path, diff)
    return diff


@method("blame", BlameParams, needs=_READ, audit=_READ_EVENT, effects=Effect.COMMITS_FIRST)
async def _blame(app: App, caller: Session, params: BlameParams) -> list[BlamedLine]:
    path = _check_versioned(params.path)
    since = await _visible_since(app, path, params.at)
    lines = await in_turn(app.archive.reader.blame, path, params.at)
    await _check_withheld(app, path, b"\n".join(line.text for line in lines))
    # Lines from before the caller could read the path are attributed to the time since when it can.
    return [
        BlamedLine(line.commit, line.principal, line.time_ns, line.number, line.text)
        if line.time_ns >= since
        else BlamedLine("", "", since, line.number, line.text)
        for line in lines
    ]


async def _check_withheld(app: App, path: str, *texts: bytes) -> None:
    """Raise OSError EACCES for an agent if a text, or its path, is in quarantine."""
    tree_path = Path.parse(path)
    if await blocking(lambda: app.scope.is_withheld(tree_path, *texts)):
        raise path_error(errno.EACCES, path, WITHHELD)


async def _rollback(app: App, path: str, outcome: Outcome, diff: bytes) -> Rollback:
    """Return the outcome of a rollback. A diff that contains quarantined text is replaced by a notice."""
    tree_path, text = Path.parse(path), diff
    is_withheld: bool = await blocking(lambda: app.scope.is_withheld(tree_path, text))
    return Rollback(
        version=Version.of(outcome.commit) if outcome.commit else None,
        changes=[ChangedPath.of(change) for change in outcome.changes],
        kept=[path_text(kept) for kept in outcome.kept],
        reasons=[reason.value for reason in outcome.left.values()],
        diff=f"{WITHHELD}\n".encode() if diff and is_withheld else diff,
    )


@method("restore", RestoreParams, needs=_CHANGE, audit=_CHANGE_EVENT, effects=ROLLBACK_EFFECTS)
async def _restore(app: App, caller: Session, params: RestoreParams) -> Rollback:
    await commit_everything(app)
    path, actor = _check_versioned(params.path), actor_for(caller, params.reason)
    if params.to == _PREVIOUS:
        await _check_all_visible(app, path)
    else:
        await _visible_since(app, path, params.to)
    result = await in_turn(lambda: app.archive.rollbacks.restore(path, params.to, actor, dry_run=params.dry_run))
    return await _rollback(app, path, *result)


@method("restore_from", RestoreFromParams, needs=_CHANGE, audit=_CHANGE_EVENT, effects=ROLLBACK_EFFECTS)
async def _restore_from(app: App, caller: Session, params: RestoreFromParams) -> Rollback:
    """Roll back all content from a source (`user.ctx.source`).

    Each file gets its last version from elsewhere, or is deleted.
    """
    await commit_everything(app)
    path, actor = _check_versioned(params.path), actor_for(caller, params.reason)
    await _check_all_visible(app, path)
    result = await in_turn(
        lambda: app.archive.rollbacks.restore_from(path, params.source, actor, dry_run=params.dry_run)
    )
    return await _rollback(app, path, *result)


@method("undo", UndoParams, needs=_CHANGE, audit=_CHANGE_EVENT, effects=ROLLBACK_EFFECTS)
async def _undo(app: App, caller: Session, params: UndoParams) -> Rollback:
    await commit_everything(app)
    path, actor, filters = _check_versioned(params.path), actor_for(caller, params.reason), _filter(params)
    await _check_all_visible(app, path)
    result = await in_turn(lambda: app.archive.rollbacks.undo(path, actor, filters, dry_run=params.dry_run))
    return await _rollback(app, path, *result)


@method("redo", RedoParams, needs=_CHANGE, audit=_CHANGE_EVENT, effects=ROLLBACK_EFFECTS)
async def _redo(app: App, caller: Session, params: RedoParams) -> Rollback:
    await commit_everything(app)
    path, actor = _check_versioned(params.path), actor_for(caller, params.reason)
    await _check_all_visible(app, path)
    return await _rollback(
        app, path, *await in_turn(lambda: app.archive.rollbacks.redo(path, actor, dry_run=params.dry_run))
    )


@method(
    "forget", ForgetParams, needs=Check.ADMINISTRATORS, audit=_CHANGE_EVENT, effects=ROLLBACK_EFFECTS | Effect.ERASES
)
async def _forget(app: App, caller: Session, params: ForgetParams) -> Erasure:
    await commit_everything(app)
    named, is_dry_run = params.principal, params.dry_run
    path = None if named else _check_versioned(params.path)
    if path is not None and len(params.path.parts) < 2:
        raise invalid(path or "/", "a whole area cannot be forgotten: name what is in it")
    actor = actor_for(caller, params.reason)
    if app.sharing.is_on and not is_dry_run:
        return await _forget_on_all_nodes(app, path, named, actor)
    phrases = await in_turn(app.archive.erasure.phrases_of, path, named)
    derived = Counter[str]()
    if not is_dry_run:  # before the versions, which contain the phrases: after a kill the request can be repeated
        derived += Counter(await app.erasure.erase(phrases, str(caller.principal)))
    erased = await in_turn(lambda: app.archive.erasure.erase(path, named, actor, dry_run=is_dry_run))
    if not is_dry_run:  # again, for texts that were derived meanwhile
        derived += Counter(await app.erasure.erase(phrases, str(caller.principal)))
    return Erasure(
        versions=erased.versions,
        blobs=erased.blobs,
        changes=[ErasedPath(path_text(erased_path)) for erased_path in erased.paths],
        elsewhere=[path_text(other) for other in erased.elsewhere],
        copies=[path_text(copy) for copy in erased.copies],
        derived={kind: derived[kind] for kind in ("deliveries", "records", "calls")} if not is_dry_run else {},
        remotes=sorted(await in_turn(app.archive.remotes.urls)),
    )


async def _forget_on_all_nodes(app: App, path: str | None, principal: str, actor: Actor) -> Erasure:
    erasure = await blocking(lambda: app.sharing.erase(path, principal, actor))
    erased, derived = erasure.erased, erasure.erased.derived
    return Erasure(
        versions=erased.result.versions,
        blobs=erased.result.blobs,
        changes=[ErasedPath(path_text(erased_path)) for erased_path in erasure.paths],
        elsewhere=[path_text(other) for other in erased.result.elsewhere],
        copies=[path_text(copy) for copy in erasure.copies if copy not in erased.result.elsewhere],
        derived={kind: derived.get(kind, 0) for kind in ("deliveries", "records", "calls")},
        remotes=sorted(await in_turn(app.archive.remotes.urls)),
    )


@method(
    "redact_version",
    ShowParams,
    needs=Check.ADMINISTRATORS,
    audit=_CHANGE_EVENT,
    effects=Effect.COMMITS_FIRST | Effect.ERASES,
)
async def _redact_version(app: App, caller: Session, params: ShowParams) -> Erasure:
    """Erase the content of a file in one version, which must not be the current one. Texts derived from it stay."""
    app.sharing.check_may_erase()
    await commit_everything(app)
    path, actor = _check_versioned(params.path), actor_for(caller, "")
    erased = await in_turn(lambda: app.archive.erasure.erase_version(path, params.at, actor))
    return Erasure(
        versions=erased.versions,
        blobs=erased.blobs,
        changes=[],
        elsewhere=[path_text(other) for other in erased.elsewhere],
        copies=[],
        derived={},
        remotes=sorted(await in_turn(app.archive.remotes.urls)),
    )


@method("snapshot", NameParams, needs=Check.ADMINISTRATORS, effects=Effect.COMMITS_FIRST)
async def _snapshot(app: App, caller: Session, params: NameParams) -> Version:
    await commit_everything(app)
    return Version.of(await in_turn(app.archive.snapshots.create, params.name))


@method("delete_snapshot", NameParams, needs=Check.ADMINISTRATORS, effects=Effect.COMMITS_FIRST)
async def _delete_snapshot(app: App, caller: Session, params: NameParams) -> None:
    await in_turn(app.archive.snapshots.delete, params.name)


@method("snapshots", NoParams, needs=Check.ADMINISTRATORS, effects=Effect.COMMITS_FIRST)
async def _snapshots(app: App, caller: Session, params: NoParams) -> list[Snapshot]:
    snapshots = []
    for name in sorted(await in_turn(app.archive.snapshots.commit_ids)):
        step = await in_turn(app.archive.reader.resolve, name)
        snapshots.append(Snapshot(name, Version.of(step.commit)))
    return snapshots


@method("unrecorded", NoParams, needs=Check.BY_METHOD)
async def _unrecorded(app: App, caller: Session, params: NoParams) -> str:
    """Return why the newest changes have no version yet; empty if nothing prevents it."""
    return app.archive.unrecorded


@method("upkeep", NoParams, needs=Check.ADMINISTRATORS, effects=Effect.COMMITS_FIRST)
async def _upkeep(app: App, caller: Session, params: NoParams) -> None:
    await blocking(lambda: app.archive.pack(full=True))
