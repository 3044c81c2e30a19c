"""RPC methods on versions: plain values in, plain values out."""

import contextlib
import errno
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ctxfs.app import App
from ctxfs.model.errors import CommandError, invalid, not_found, path_error
from ctxfs.model.path import Path, printable
from ctxfs.policy.owners import NEVER
from ctxfs.store.layout import is_versioned
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.history import parse_moment
from ctxfs.versions.objects.commits import Actor, Commit
from ctxfs.versions.objects.name_encoding import path_text
from ctxfs.versions.recording.pathindex import CommitFilter, PathChange
from ctxfs.versions.rollback import Outcome
from ctxfs.vfs.access_control import WITHHELD
from ctxfs.vfs.session import Session

_MAX_LOG_ENTRIES = 1_000_000
_MAX_LARGE_ROUNDS = 3


def commit_record(commit: Commit, reader: str = "") -> dict[str, Any]:
    """Return a version as plain values.

    `reader` is a restricted principal, or empty. Reason and subject of other principals' versions are blank for it,
    because they may name paths that it cannot see.
    """
    is_visible = reader in ("", commit.actor.principal)
    return {
        "revision": commit.oid,
        "time": commit.time_text,
        "time_ns": commit.time_ns,
        "principal": commit.actor.principal,
        "session": commit.actor.session,
        "tool": commit.actor.tool,
        "reason": commit.actor.reason if is_visible else "",
        "op": commit.op,
        "subject": printable(commit.subject) if is_visible else "",
    }


def _change_record(change: PathChange) -> dict[str, Any]:
    return {"path": path_text(change.path), "what": change.op, "size": change.size}


def _outcome_record(outcome: Outcome, diff: bytes) -> dict[str, Any]:
    return {
        "version": commit_record(outcome.commit) if outcome.commit else None,
        "changes": [_change_record(change) for change in outcome.changes],
        "kept": [path_text(path) for path in outcome.kept],
        "reasons": [reason.value for reason in outcome.left.values()],
        "diff": diff,
    }


def _path(args: Mapping[str, Any]) -> str:
    """Return the path of a request. Raise OSError EINVAL for one without versions."""
    path = Path.parse(str(args.get("path", "")))
    if not path.is_root and not is_versioned(path):
        raise invalid(path, "only memory, pad, context and search are versioned")
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


def _filter(args: Mapping[str, Any]) -> CommitFilter:
    now = datetime.now(UTC)
    times = {}
    for name in ("since", "until"):
        if args.get(name):
            moment = parse_moment(str(args[name]), now)
            if moment is None:
                raise CommandError(f"'{args[name]}' is not a time", "write 2h, yesterday or 2026-11-20T10:00", 2)
            times[f"{name}_ns"] = moment
    return CommitFilter(str(args.get("principal") or ""), str(args.get("session") or ""), **times)


def _actor(caller: Session, args: Mapping[str, Any]) -> Actor:
    """Return the caller as the actor of a version, with the reason of this request."""
    actor = caller.actor
    return Actor(actor.principal, actor.session, actor.tool, str(args.get("reason") or actor.reason))


async def _commit(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    return [commit_record(commit) for commit in await _commit_everything(app)]


async def _commit_everything(app: App) -> list[Commit]:
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


async def _log(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    limit = max(1, min(int(args.get("limit", 100)), _MAX_LOG_ENTRIES))
    path, filters = _path(args), _filter(args)
    filters = replace(filters, since_ns=max(filters.since_ns, await _visible_since(app, path)))
    steps = await in_turn(app.archive.reader.log, path, filters, limit)
    records = [commit_record(step.commit, app.scope.restricted_principal()) for step in steps]
    if args.get("changes"):
        changes: Sequence[Sequence[PathChange]] = await in_turn(
            app.archive.reader.changes_of, [step.seq for step in steps], path
        )
        for record, part in zip(records, changes, strict=True):
            record["changes"] = [_change_record(change) for change in part]
    return records


async def _show(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    path, revision = _path(args), str(args["at"])
    await _visible_since(app, path, revision)
    data = await in_turn(app.archive.reader.show, path, revision)
    await _check_withheld(app, path, data)
    return data


async def _diff(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    path, old, new = _path(args), str(args["old"]), str(args["new"])
    await _visible_since(app, path, old, new)
    await _check_withheld(app, path)
    for revision in (old, new) if app.scope.restricted_principal() else ():
        with contextlib.suppress(OSError):  # a directory, or absent in that version
            data = await in_turn(app.archive.reader.show, path, revision)
            await _check_withheld(app, path, data)
    diff = await in_turn(app.archive.reader.diff, path, old, new)
    await _check_withheld(app, path, diff)
    return diff


async def _blame(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    path, revision = _path(args), str(args.get("at", "latest"))
    since = await _visible_since(app, path, revision)
    lines = await in_turn(app.archive.reader.blame, path, revision)
    await _check_withheld(app, path, b"\n".join(line.text for line in lines))
    # Lines from before the caller could read the path are attributed to the time since when it can.
    attributed = [(line, line.time_ns >= since) for line in lines]
    return [
        {
            "revision": line.commit if is_visible else "",
            "principal": line.principal if is_visible else "",
            "time_ns": line.time_ns if is_visible else since,
            "line": line.number,
            "text": line.text,
        }
        for line, is_visible in attributed
    ]


async def _check_withheld(app: App, path: str, *texts: bytes) -> None:
    """Raise OSError EACCES for an agent if a text, or its path, is in quarantine."""
    tree_path = Path.parse(path)
    if await blocking(lambda: app.scope.is_withheld(tree_path, *texts)):
        raise path_error(errno.EACCES, path, WITHHELD)


async def _rollback_record(app: App, path: str, outcome: Outcome, diff: bytes) -> dict[str, Any]:
    """Return the outcome of a rollback. A diff that contains quarantined text is replaced by a notice."""
    tree_path, text = Path.parse(path), diff
    is_withheld: bool = await blocking(lambda: app.scope.is_withheld(tree_path, text))
    if diff and is_withheld:
        diff = f"{WITHHELD}\n".encode()
    return _outcome_record(outcome, diff)


async def _restore(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    await _commit_everything(app)
    is_dry_run, path, actor = bool(args.get("dry_run")), _path(args), _actor(caller, args)
    if str(args["to"]) == "prev":
        await _check_all_visible(app, path)
    else:
        await _visible_since(app, path, str(args["to"]))
    result = await in_turn(lambda: app.archive.rollbacks.restore(path, str(args["to"]), actor, dry_run=is_dry_run))
    return await _rollback_record(app, path, *result)


async def _restore_from(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Roll back all content from a source (`user.ctx.source`).

    Each file gets its last version from elsewhere, or is deleted.
    """
    await _commit_everything(app)
    is_dry_run, path, actor, source = bool(args.get("dry_run")), _path(args), _actor(caller, args), str(args["source"])
    await _check_all_visible(app, path)
    result = await in_turn(lambda: app.archive.rollbacks.restore_from(path, source, actor, dry_run=is_dry_run))
    return await _rollback_record(app, path, *result)


async def _undo(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    await _commit_everything(app)
    is_dry_run, path, actor, filters = bool(args.get("dry_run")), _path(args), _actor(caller, args), _filter(args)
    await _check_all_visible(app, path)
    return await _rollback_record(
        app, path, *await in_turn(lambda: app.archive.rollbacks.undo(path, actor, filters, dry_run=is_dry_run))
    )


async def _redo(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    await _commit_everything(app)
    is_dry_run, path, actor = bool(args.get("dry_run")), _path(args), _actor(caller, args)
    await _check_all_visible(app, path)
    return await _rollback_record(
        app, path, *await in_turn(lambda: app.archive.rollbacks.redo(path, actor, dry_run=is_dry_run))
    )


async def _forget(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    await _commit_everything(app)
    named = args.get("principal")
    path = None if named else _path(args)
    if path is not None and len(Path.parse(path).parts) < 2:
        raise invalid(path or "/", "a whole area cannot be forgotten: name what is in it")
    is_dry_run, actor = bool(args.get("dry_run")), _actor(caller, args)
    phrases = await in_turn(app.archive.erasure.phrases_of, path, str(named or ""))
    derived = Counter[str]()
    if not is_dry_run:  # before the versions, which contain the phrases: after a kill the request can be repeated
        derived += Counter(await app.erasure.erase(phrases, str(caller.principal)))
    erased = await in_turn(lambda: app.archive.erasure.erase(path, str(named or ""), actor, dry_run=is_dry_run))
    if not is_dry_run:  # again, for texts that were derived meanwhile
        derived += Counter(await app.erasure.erase(phrases, str(caller.principal)))
    return {
        "versions": erased.versions,
        "blobs": erased.blobs,
        "changes": [{"path": path_text(path)} for path in erased.paths],
        "elsewhere": [path_text(path) for path in erased.elsewhere],
        "copies": [path_text(path) for path in erased.copies],
        "derived": {kind: derived[kind] for kind in ("deliveries", "records", "calls")} if not is_dry_run else {},
        "remotes": sorted(await in_turn(app.archive.remotes.urls)),
    }


async def _snapshot(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    await _commit_everything(app)
    return commit_record(await in_turn(app.archive.snapshots.create, str(args["name"])))


async def _delete_snapshot(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    await in_turn(app.archive.snapshots.delete, str(args["name"]))


async def _snapshots(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    snapshots = await in_turn(app.archive.snapshots.commit_ids)
    records = []
    for name in sorted(snapshots):
        step = await in_turn(app.archive.reader.resolve, name)
        records.append({"name": name, **commit_record(step.commit)})
    return records


async def _remotes(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    return await in_turn(app.archive.remotes.urls)


async def _add_remote(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    is_trusted = bool(args.get("trusted"))
    await in_turn(lambda: app.archive.remotes.add(str(args["name"]), str(args["url"]), is_trusted=is_trusted))


async def _trusted_remotes(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    return await in_turn(app.archive.remotes.trusted_names)


async def _trust_remote(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    await in_turn(lambda: app.archive.remotes.set_trust(str(args["name"]), is_trusted=bool(args["trusted"])))


async def _remove_remote(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    await in_turn(app.archive.remotes.remove, str(args["name"]))


async def _push(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    await _commit_everything(app)
    return await blocking(lambda: app.archive.remotes.push(str(args["name"]), replace=bool(args.get("replace"))))


async def _pull(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    await _commit_everything(app)
    pulled, changes = await blocking(app.archive.remotes.pull, str(args["name"]), _actor(caller, args))
    return {
        "state": pulled.state,
        "versions": pulled.commits,
        "conflicts": [path_text(path) for path in pulled.conflicts],
        "changes": [_change_record(change) for change in changes],
    }


async def _unrecorded(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Return why the newest changes have no version yet; empty if nothing prevents it."""
    return app.archive.unrecorded


async def _upkeep(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    await blocking(lambda: app.archive.pack(full=True))


VERSION_METHODS: Mapping[str, Callable[[App, Session, Mapping[str, Any]], Awaitable[Any]]] = {
    "commit": _commit,
    "log": _log,
    "show": _show,
    "diff": _diff,
    "blame": _blame,
    "restore": _restore,
    "restore_from": _restore_from,
    "undo": _undo,
    "redo": _redo,
    "forget": _forget,
    "snapshot": _snapshot,
    "delete_snapshot": _delete_snapshot,
    "snapshots": _snapshots,
    "remotes": _remotes,
    "add_remote": _add_remote,
    "trusted_remotes": _trusted_remotes,
    "trust_remote": _trust_remote,
    "remove_remote": _remove_remote,
    "push": _push,
    "pull": _pull,
    "upkeep": _upkeep,
    "unrecorded": _unrecorded,
}
# The responses of these cover all earlier writes, so pending journal records are committed first.
AFTER_SYNC = frozenset(VERSION_METHODS) - {"unrecorded"}
# These change the work tree: the kernel's caches are invalidated before the response is sent.
ROLLBACKS = frozenset(("restore", "restore_from", "undo", "redo", "forget", "pull"))
