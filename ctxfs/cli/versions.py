"""The commands log, show, diff, blame, restore, undo, redo, snapshot, commit, forget and gc: versions."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ctxfs.cli import completion_values
from ctxfs.cli.erasure_output import print_certificates, print_remaining_copies, remotes_notice
from ctxfs.cli.options import aliased_option, json_option, limit_option, principal_option, reason_option, yes_option
from ctxfs.cli.output import count_noun, print_json, print_line, warn, write_bytes, write_content
from ctxfs.cli.paths import tree_path
from ctxfs.daemon.session import StoreSession, session
from ctxfs.model.errors import EXIT_NOTHING_FOUND, CommandError
from ctxfs.model.path import lines_of, printable
from ctxfs.store.layout import find_store

_json_option = json_option()
_reason_option = reason_option()
_dry_run = aliased_option("--dry-run", hidden_aliases=["-n"], is_flag=True, help="Show the changes and make none")
_principal_option = principal_option("Limit to changes of a principal, such as agent:alice")
_session_option = click.option("--session", "session_name", metavar="ID", help="Limit to changes of a session")
_path_argument = click.argument("path", shell_complete=completion_values.tree_paths)
_optional_path_argument = click.argument("path", default="", shell_complete=completion_values.tree_paths)
_at_option = click.option(
    "--at",
    default="latest",
    show_default=True,
    metavar="WHEN",
    shell_complete=completion_values.revisions,
    help="Revision, snapshot or time",
)
_SHORT_REVISION_CHARS = 8
_WATCH_SECONDS = 0.5


def _spinner(task: str) -> contextlib.AbstractContextManager[None]:
    from ctxfs.cli.progress import spinner  # the import of rich takes 50 ms

    return spinner(task)


@contextlib.contextmanager
def _joined_session(store: str | None, reason: str = "") -> Iterator[StoreSession]:
    with session(store) as opened:
        opened.call("join", session=os.environ.get("CTXFS_SESSION", ""), tool="cli", reason=reason)
        yield opened
        if reason := opened.call("unrecorded"):
            warn(f"the newest changes have no version yet: {reason}")


@click.command()
@_optional_path_argument
@limit_option("versions", default=50, hidden_aliases=["--number"])
@_principal_option
@_session_option
@click.option("--since", metavar="TIME", help="Earliest time: 2h, yesterday, 2026-11-20T10:00")
@click.option("--until", metavar="TIME", help="Latest time: 2h, yesterday, 2026-11-20T10:00")
@click.option(
    "--at", metavar="WHEN", shell_complete=completion_values.revisions, help="List versions up to this one only"
)
@click.option("--stat", is_flag=True, help="Show the changed paths of each version")
@click.option("--watch", is_flag=True, help="Print new versions as they are made, the newest last")
@_json_option
@click.pass_obj
def log(
    store: str | None,
    path: str,
    limit: int,
    principal: str | None,
    session_name: str | None,
    since: str | None,
    until: str | None,
    at: str | None,
    stat: bool,
    watch: bool,
    as_json: bool,
) -> None:
    """List the versions of a path

    The newest come first, through renames. A directory counts with all below it.
    With --watch, the newest ones are last; --json prints one object a line. Ctrl-C ends it.
    """
    filters = {"principal": principal, "session": session_name, "since": since, "until": until, "at": at}
    with _joined_session(store) as opened:
        chosen = {"path": tree_path(opened, path), "limit": limit, "changes": stat, **filters}
        versions = opened.call("log", **chosen)
        if watch:
            with contextlib.suppress(KeyboardInterrupt):
                for version in _follow_versions(opened, chosen, versions):
                    if as_json:
                        click.echo(printable(json.dumps(version, ensure_ascii=False)))
                    else:
                        _print_listed(version)
            return
    if as_json:
        print_json(versions)
    else:
        for version in versions:
            _print_listed(version)
    if not versions:
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)


def _follow_versions(
    opened: StoreSession, chosen: Mapping[str, Any], versions: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield the versions, the oldest first, and new ones as they are made; of very many at once, the newest ones."""
    seen: set[str] = set()
    while True:
        yield from (version for version in reversed(versions) if version["revision"] not in seen)
        sys.stdout.flush()
        seen = {version["revision"] for version in versions}
        time.sleep(_WATCH_SECONDS)
        versions = opened.call("log", **chosen)


def _print_listed(version: dict[str, Any]) -> None:
    _print_version(version)
    for change in version.get("changes", ()):
        print_line(f"    {change['what']:<7}{change['path']}")


def _print_version(version: dict[str, Any]) -> None:
    click.secho(version["revision"][:_SHORT_REVISION_CHARS], fg="yellow", nl=False)
    click.secho(f"  {version['time']}  ", nl=False)
    click.secho(f"{version['principal']:<16}", fg="cyan", nl=False)
    reason = f"  ({version['reason']})" if version["reason"] else ""
    session_name = f"  [{version['session']}]" if version["session"] else ""
    print_line(f"  {version['subject']}{reason}{session_name}")


@click.command()
@_path_argument
@_at_option
@click.pass_obj
def show(store: str | None, path: str, at: str) -> None:
    """Print a file from a version

    The bytes are printed unchanged; on a terminal, a text in any charset is readable.
    """
    with _joined_session(store) as opened:
        write_content(opened.call("show", path=tree_path(opened, path), at=at))


@click.command()
@_optional_path_argument
@click.option(
    "--from",
    "old",
    default="1d-ago",
    show_default=True,
    metavar="WHEN",
    shell_complete=completion_values.revisions,
    help="Revision, snapshot, time, or prev",
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
    with _joined_session(store) as opened:
        _print_diff(opened.call("diff", path=tree_path(opened, path), old=old, new=new))


def _print_diff(data: bytes) -> None:
    if not sys.stdout.isatty():
        write_bytes(data)
        return
    from ctxfs.index.extract.text_decoding import decode

    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in decode(data).splitlines():
        head = line.startswith(("+++", "---", "diff ", "index "))
        print_line(line, fg=None if head else colours.get(line[:1]), bold=head)


@click.command()
@_path_argument
@_at_option
@_json_option
@click.pass_obj
def blame(store: str | None, path: str, at: str, as_json: bool) -> None:
    """Show the author and version of each line"""
    with _joined_session(store) as opened:
        lines = opened.call("blame", path=tree_path(opened, path), at=at)
    if as_json:
        print_json(lines)
        return
    from ctxfs.index.extract.text_decoding import decode

    width = max((len(line["principal"]) for line in lines), default=0)
    for line in lines:
        click.secho(line["revision"][:_SHORT_REVISION_CHARS], fg="yellow", nl=False)
        click.secho(f" {line['principal']:<{width}} ", fg="cyan", nl=False)
        print_line(f"{line['line']:>5}  {decode(line['text'])}")


@click.command()
@_optional_path_argument
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
@_dry_run
@_reason_option
@_json_option
@click.pass_obj
def restore(store: str | None, path: str, to: str, source: str, dry_run: bool, reason: str, as_json: bool) -> None:
    """Restore a path from a version

    PATH is a file, a directory, or everything. The result is a new version, which can be undone.

    With --by-origin each file from that source (its user.ctx.source) goes back to its last version from elsewhere, or
    is removed.
    """
    if bool(to) == bool(source):
        raise click.UsageError("name a version with --to, or a source with --by-origin")
    with _joined_session(store, reason) as opened:
        tree_location = tree_path(opened, path)
        if source:
            outcome = opened.call("restore_from", path=tree_location, source=source, dry_run=dry_run)
        else:
            outcome = opened.call("restore", path=tree_location, to=to, dry_run=dry_run)
    _print_outcome(outcome, dry_run, as_json, "restored")


@click.command()
@_optional_path_argument
@_principal_option
@_session_option
@_dry_run
@_reason_option
@_json_option
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
    with _joined_session(store, reason) as opened:
        filters = {"principal": principal, "session": session_name, "dry_run": dry_run}
        outcome = opened.call("undo", path=tree_path(opened, path), **filters)
    _print_outcome(outcome, dry_run, as_json, "undone")


@click.command()
@_optional_path_argument
@_dry_run
@_reason_option
@_json_option
@click.pass_obj
def redo(store: str | None, path: str, dry_run: bool, reason: str, as_json: bool) -> None:
    """Redo the last undo of a path"""
    with _joined_session(store, reason) as opened:
        outcome = opened.call("redo", path=tree_path(opened, path), dry_run=dry_run)
    _print_outcome(outcome, dry_run, as_json, "redone")


@click.command()
@_optional_path_argument
@principal_option("Erase all files of a principal, instead of a path")
@yes_option()
@_dry_run
@_reason_option
@click.option("--certificate", is_flag=True, help="Show what each node of a shared store has erased")
@_json_option
@click.pass_obj
def forget(
    store: str | None,
    path: str,
    principal: str | None,
    yes: bool,
    dry_run: bool,
    reason: str,
    certificate: bool,
    as_json: bool,
) -> None:
    """Erase content from all versions

    Erases PATH, or all files of a principal, from every version, index and cache. It cannot be undone.

    A link that leads nowhere stays at the path. Remotes with a copy still have it.
    """
    if certificate:
        print_certificates(store, as_json)
        return
    if bool(path) == bool(principal):
        raise CommandError("name either a PATH or --principal", "ctxfs forget --help", 2)
    with _joined_session(store, reason) as opened:
        target = {"path": tree_path(opened, path), "principal": principal}
        erasure = opened.call("forget", dry_run=True, **target)
        if not dry_run:
            paths = "\n  ".join(change["path"] for change in erasure["changes"][:20])
            summary = f"{count_noun(erasure['blobs'], 'content')} at {count_noun(len(erasure['changes']), 'path')}:\n  {paths}"
            if not yes:
                remote_copies = remotes_notice(erasure)
                click.confirm(
                    lines_of(f"Erase from every version, for good, {summary}{remote_copies}\n?"), abort=True, err=True
                )
            with _spinner("writing history again"):
                erasure = opened.call("forget", **target)
    if as_json:
        print_json(erasure)
        return
    for change in erasure["changes"] if dry_run else ():
        print_line(change["path"])
    verb = "would be" if dry_run else "is" if erasure["blobs"] == 1 else "are"
    print_line(
        f"{count_noun(erasure['blobs'], 'content')} {verb} erased"
        + ("" if dry_run else f"; {count_noun(erasure['versions'], 'version')} written again")
    )
    for path_with_copy in erasure["elsewhere"]:
        warn(f"the same content is still kept at {path_with_copy}; forget it there too if it is meant")
    print_remaining_copies(erasure, dry_run)


def _print_outcome(outcome: dict[str, Any], dry_run: bool, as_json: bool, verb: str) -> None:
    if as_json:
        print_json(outcome)
    elif dry_run:
        _print_diff(outcome["diff"])
        print_line(f"{count_noun(len(outcome['changes']), 'path')} would change")
    elif outcome["version"] is None:
        print_line("nothing to do: it is like that already")
    else:
        version = outcome["version"]
        revision = version["revision"][:_SHORT_REVISION_CHARS]
        print_line(f"{verb} {count_noun(len(outcome['changes']), 'path')}: {version['subject']} ({revision})")
    for path, reason in zip(outcome["kept"], outcome["reasons"], strict=True):
        warn(f"left: '{path}': {reason}")


@click.command()
@click.argument("name", default="", shell_complete=completion_values.snapshots)
@click.option("--delete", is_flag=True, help="Delete the name; the version stays")
@_json_option
@click.pass_obj
def snapshot(store: str | None, name: str, delete: bool, as_json: bool) -> None:
    """Name the present version

    It is reachable as .snapshots/NAME. Without NAME the snapshots are listed.
    """
    with _joined_session(store) as opened:
        if not name:
            if delete:
                raise CommandError("which snapshot?", "ctxfs snapshot --delete NAME", 2)
            snapshots = opened.call("snapshots")
            if as_json:
                print_json(snapshots)
                return
            for version in snapshots:
                click.secho(f"{version['name']:<20}", bold=True, nl=False)
                _print_version(version)
        elif delete:
            opened.call("delete_snapshot", name=name)
            print_line(f"the name '{name}' is forgotten; its version stays")
        else:
            named = opened.call("snapshot", name=name)
            print_json(named) if as_json else print_line(
                f"{name} is {named['revision'][:_SHORT_REVISION_CHARS]}; see .snapshots/{name}/"
            )


@click.command()
@click.pass_obj
def gc(store: str | None) -> None:
    """Compress the repository

    Objects that no version needs are dropped. It runs weekly by itself.
    """
    layout = find_store(store)
    before = _disk_usage(layout.repo)
    with session(store) as opened, _spinner("packing"):
        opened.call("upkeep")
    print_line(f"{before / 1e6:.1f} MB before, {_disk_usage(layout.repo) / 1e6:.1f} MB now")


def _disk_usage(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@click.command()
@_json_option
@click.pass_obj
def commit(store: str | None, as_json: bool) -> None:
    """Make versions of all changes now

    The commit window is cut short.
    """
    with _joined_session(store) as opened:
        committed = opened.call("commit")
        head = opened.call("log", path="", limit=1)
    if as_json:
        print_json(committed or head)
        return
    for version in head:
        _print_version(version)
