"""The commands log, show, diff, blame, restore, undo, redo, snapshot, commit, forget and gc: versions."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ctxfs.cli import completion_values
from ctxfs.cli.options import aliased_option, json_option, limit_option, principal_option, reason_option, yes_option
from ctxfs.cli.output import say, say_json, warn, write_bytes
from ctxfs.cli.paths import tree_path
from ctxfs.daemon.session import StoreSession, session
from ctxfs.model.errors import EXIT_NOTHING_FOUND, CommandError
from ctxfs.model.path import lines_of
from ctxfs.store.layout import find_store

_json = json_option()
_reason = reason_option()
_dry = aliased_option("--dry-run", hidden_aliases=["-n"], is_flag=True, help="Show the changes and make none")
_principal = principal_option("Limit to changes of a principal, such as agent:alice")
_session = click.option("--session", "session_name", metavar="ID", help="Limit to changes of a session")
_path = click.argument("path", shell_complete=completion_values.tree_paths)
_optional_path = click.argument("path", default="", shell_complete=completion_values.tree_paths)
_at = click.option(
    "--at",
    default="latest",
    show_default=True,
    metavar="WHEN",
    shell_complete=completion_values.revisions,
    help="Revision, snapshot or time",
)
_SHOWN_COPIES = 20
_SHORT = 8


def _working(what: str) -> contextlib.AbstractContextManager[None]:
    from ctxfs.cli.progress import working  # the import of rich takes 50 ms

    return working(what)


@contextlib.contextmanager
def _joined(store: str | None, reason: str = "") -> Iterator[StoreSession]:
    with session(store) as opened:
        opened.call("join", session=os.environ.get("CTXFS_SESSION", ""), tool="cli", reason=reason)
        yield opened
        if reason := opened.call("unrecorded"):
            warn(f"the newest changes have no version yet: {reason}")


@click.command()
@_optional_path
@limit_option("versions", default=50, hidden_aliases=["--number"])
@_principal
@_session
@click.option("--since", metavar="TIME", help="Earliest time: 2h, yesterday, 2026-11-20T10:00")
@click.option("--until", metavar="TIME", help="Latest time: 2h, yesterday, 2026-11-20T10:00")
@click.option("--stat", is_flag=True, help="Show the changed paths of each version")
@_json
@click.pass_obj
def log(
    store: str | None,
    path: str,
    limit: int,
    principal: str | None,
    session_name: str | None,
    since: str | None,
    until: str | None,
    stat: bool,
    as_json: bool,
) -> None:
    """List the versions of a path

    The newest come first, through renames. A directory counts with all below it.
    """
    with _joined(store) as opened:
        asked = {"principal": principal, "session": session_name, "since": since, "until": until}
        found = opened.call("log", path=tree_path(opened, path), limit=limit, changes=stat, **asked)
    if as_json:
        say_json(found)
    else:
        for version in found:
            _say_version(version)
            for change in version.get("changes", ()):
                say(f"    {change['what']:<7}{change['path']}")
    if not found:
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)


def _say_version(version: dict[str, Any]) -> None:
    click.secho(version["revision"][:_SHORT], fg="yellow", nl=False)
    click.secho(f"  {version['time']}  ", nl=False)
    click.secho(f"{version['principal']:<16}", fg="cyan", nl=False)
    reason = f"  ({version['reason']})" if version["reason"] else ""
    session_name = f"  [{version['session']}]" if version["session"] else ""
    say(f"  {version['subject']}{reason}{session_name}")


@click.command()
@_path
@_at
@click.pass_obj
def show(store: str | None, path: str, at: str) -> None:
    """Print a file from a version

    The bytes are printed unchanged.
    """
    with _joined(store) as opened:
        write_bytes(opened.call("show", path=tree_path(opened, path), at=at))


@click.command()
@_optional_path
@click.option(
    "--from",
    "old",
    default="1d-ago",
    show_default=True,
    metavar="WHEN",
    shell_complete=completion_values.revisions,
    help="Revision, snapshot or time of the old version",
)
@click.option(
    "--to",
    "new",
    default="latest",
    show_default=True,
    metavar="WHEN",
    shell_complete=completion_values.revisions,
    help="Revision, snapshot or time of the new version",
)
@click.pass_obj
def diff(store: str | None, path: str, old: str, new: str) -> None:
    """Compare two versions of a path

    The output is a unified diff, attributes included.
    """
    with _joined(store) as opened:
        _say_diff(opened.call("diff", path=tree_path(opened, path), old=old, new=new))


def _say_diff(data: bytes) -> None:
    if not sys.stdout.isatty():
        write_bytes(data)
        return
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in data.decode("utf-8", "replace").splitlines():
        head = line.startswith(("+++", "---", "diff ", "index "))
        say(line, fg=None if head else colours.get(line[:1]), bold=head)


@click.command()
@_path
@_at
@_json
@click.pass_obj
def blame(store: str | None, path: str, at: str, as_json: bool) -> None:
    """Show the author and version of each line"""
    with _joined(store) as opened:
        lines = opened.call("blame", path=tree_path(opened, path), at=at)
    if as_json:
        say_json(lines)
        return
    width = max((len(line["principal"]) for line in lines), default=0)
    for line in lines:
        click.secho(line["revision"][:_SHORT], fg="yellow", nl=False)
        click.secho(f" {line['principal']:<{width}} ", fg="cyan", nl=False)
        say(f"{line['line']:>5}  {line['text'].decode('utf-8', 'replace')}")


@click.command()
@_optional_path
@click.option(
    "--to",
    "to",
    default="",
    metavar="WHEN",
    shell_complete=completion_values.revisions,
    help="Revision, snapshot, time, or prev",
)
@click.option(
    "--by-origin",
    "source",
    default="",
    metavar="SOURCE",
    help="Take back the content from a source, its user.ctx.source",
)
@_dry
@_reason
@_json
@click.pass_obj
def restore(store: str | None, path: str, to: str, source: str, dry_run: bool, reason: str, as_json: bool) -> None:
    """Restore a path from a version

    PATH is a file, a directory, or everything. The result is a new version, which can be undone.

    With --by-origin each file from that source (its user.ctx.source) goes back to its last version from elsewhere, or is
    removed.
    """
    if bool(to) == bool(source):
        raise click.UsageError("name a version with --to, or a source with --by-origin")
    with _joined(store, reason) as opened:
        at = tree_path(opened, path)
        if source:
            done = opened.call("restore_from", path=at, source=source, dry_run=dry_run)
        else:
            done = opened.call("restore", path=at, to=to, dry_run=dry_run)
    _say_outcome(done, dry_run, as_json, "restored")


@click.command()
@_optional_path
@_principal
@_session
@_dry
@_reason
@_json
@click.pass_obj
def undo(
    store: str | None,
    path: str,
    principal: str | None,
    session_name: str | None,
    dry_run: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Undo the newest change of a path

    A second undo takes back the change before it. With --principal or --session: all changes of theirs.
    """
    with _joined(store, reason) as opened:
        asked = {"principal": principal, "session": session_name, "dry_run": dry_run}
        done = opened.call("undo", path=tree_path(opened, path), **asked)
    _say_outcome(done, dry_run, as_json, "undone")


@click.command()
@_optional_path
@_dry
@_reason
@_json
@click.pass_obj
def redo(store: str | None, path: str, dry_run: bool, reason: str, as_json: bool) -> None:
    """Redo the last undo of a path"""
    with _joined(store, reason) as opened:
        done = opened.call("redo", path=tree_path(opened, path), dry_run=dry_run)
    _say_outcome(done, dry_run, as_json, "redone")


@click.command()
@_optional_path
@principal_option("Erase all files of a principal, instead of a path")
@yes_option()
@_dry
@_reason
@_json
@click.pass_obj
def forget(
    store: str | None, path: str, principal: str | None, yes: bool, dry_run: bool, reason: str, as_json: bool
) -> None:
    """Erase content from all versions

    Erases PATH, or all files of a principal, from every version, index and cache. It cannot be undone.

    A link that leads nowhere stays at the path. Remotes with a copy still have it.
    """
    if bool(path) == bool(principal):
        raise CommandError("name either a PATH or --principal", "ctxfs forget --help", 2)
    with _joined(store, reason) as opened:
        asked = {"path": tree_path(opened, path), "principal": principal}
        found = opened.call("forget", dry_run=True, **asked)
        if not dry_run:
            places = "\n  ".join(change["path"] for change in found["changes"][:20])
            what = f"{found['blobs']} contents at {len(found['changes'])} paths:\n  {places}"
            if not yes:
                held = _held_elsewhere(found)
                click.confirm(lines_of(f"Erase from every version, for good, {what}{held}\n?"), abort=True, err=True)
            with _working("writing history again"):
                found = opened.call("forget", **asked)
    if as_json:
        say_json(found)
        return
    for change in found["changes"] if dry_run else ():
        say(change["path"])
    verb = "would be" if dry_run else "are"
    say(
        f"{found['blobs']} contents {verb} erased"
        + ("" if dry_run else f"; {found['versions']} versions written again")
    )
    for place in found["elsewhere"]:
        warn(f"the same content is still kept at {place}; forget it there too if it is meant")
    _say_left(found, dry_run)


def _held_elsewhere(found: dict[str, Any]) -> str:
    """Return the part of the prompt that names the remotes with a possible copy, empty without remotes."""
    names = ", ".join(found["remotes"])
    return f"\nRemotes may hold it, and keep it until you replace what they have: {names}" if names else ""


def _say_left(found: dict[str, Any], dry_run: bool) -> None:
    """Print the erased derived texts, and the copies that stay: files of their own, and remotes."""
    words = {
        "deliveries": "contexts' deliveries",
        "records": "records of the event log",
        "calls": "kept calls of tools",
    }
    gone = [f"{count} {words[kind]}" for kind, count in found["derived"].items() if count]
    if gone:
        say(f"also erased: {', '.join(gone)}")
    for place in found["copies"][:_SHOWN_COPIES]:
        warn(f"phrases of it are still in {place}, which is a file of its own; forget that too if it is meant")
    if len(found["copies"]) > _SHOWN_COPIES:
        warn(f"and in {len(found['copies']) - _SHOWN_COPIES} more files: ctxfs forget --json names them")
    verb = "would still hold it" if dry_run else "may still hold it"
    for name in found["remotes"]:
        warn(f"the remote {name} {verb}: ctxfs remote push --replace {name}")


def _say_outcome(done: dict[str, Any], dry_run: bool, as_json: bool, verb: str) -> None:
    if as_json:
        say_json(done)
    elif dry_run:
        _say_diff(done["diff"])
        say(f"{len(done['changes'])} paths would change")
    elif done["version"] is None:
        say("nothing to do: it is like that already")
    else:
        say(
            f"{verb} {len(done['changes'])} paths: {done['version']['subject']} ({done['version']['revision'][:_SHORT]})"
        )
    for path, reason in zip(done["kept"], done["reasons"], strict=True):
        warn(f"left: '{path}': {reason}")


@click.command()
@click.argument("name", default="", shell_complete=completion_values.snapshots)
@click.option("--delete", is_flag=True, help="Delete the name; the version stays")
@_json
@click.pass_obj
def snapshot(store: str | None, name: str, delete: bool, as_json: bool) -> None:
    """Name the present version

    It is reachable as .snapshots/NAME. Without NAME the snapshots are listed.
    """
    with _joined(store) as opened:
        if not name:
            if delete:
                raise CommandError("which snapshot?", "ctxfs snapshot --delete NAME", 2)
            found = opened.call("snapshots")
            if as_json:
                say_json(found)
                return
            for version in found:
                click.secho(f"{version['name']:<20}", bold=True, nl=False)
                _say_version(version)
        elif delete:
            opened.call("delete_snapshot", name=name)
            say(f"the name '{name}' is forgotten; its version stays")
        else:
            made = opened.call("snapshot", name=name)
            say_json(made) if as_json else say(f"{name} is {made['revision'][:_SHORT]}; see .snapshots/{name}/")


@click.command()
@click.pass_obj
def gc(store: str | None) -> None:
    """Compress the repository

    Objects that no version needs are dropped. It runs weekly by itself.
    """
    layout = find_store(store)
    before = _disk_use(layout.repo)
    with session(store) as opened, _working("packing"):
        opened.call("upkeep")
    say(f"{before / 1e6:.1f} MB before, {_disk_use(layout.repo) / 1e6:.1f} MB now")


def _disk_use(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@click.command()
@_json
@click.pass_obj
def commit(store: str | None, as_json: bool) -> None:
    """Make versions of all changes now

    The commit window is cut short.
    """
    with _joined(store) as opened:
        made = opened.call("commit")
        head = opened.call("log", path="", limit=1)
    if as_json:
        say_json(made or head)
        return
    for version in head:
        _say_version(version)
