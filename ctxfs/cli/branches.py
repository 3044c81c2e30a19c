"""The command branch: other states of memory and pads, to try an idea in and keep or drop it."""

import os
import sys
from typing import Any

import click

from ctxfs.cli import completion_values
from ctxfs.cli.groups import CommandGroup
from ctxfs.cli.options import aliased_option, json_option, reason_option, yes_option
from ctxfs.cli.output import count_noun, print_json, print_line, write_content
from ctxfs.daemon.session import session
from ctxfs.model.errors import EXIT_NOTHING_FOUND
from ctxfs.model.path import lines_of, one_line

_MAX_SHOWN_PATHS = 20
_name = click.argument("name", shell_complete=completion_values.branches)


class _BranchGroup(CommandGroup):
    """A group in which a word that is no subcommand is the name of a branch to create."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the subcommand, or `create` for the name of a new branch."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            args = ["create", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_BranchGroup, invoke_without_command=True)
@json_option()
@click.pass_context
def branch(ctx: click.Context, as_json: bool) -> None:
    """Manage branches of memory and pads

    `ctxfs branch NAME` begins a branch of the present state, without a copy. Its files are in .branches/NAME/, and in a
    mount of it (ctxfs mount DIR --branch NAME). Without a command the branches are listed.
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.obj, as_json)


@branch.command()
@click.argument("name")
@reason_option()
@json_option()
@click.pass_obj
def create(store: str | None, name: str, reason: str, as_json: bool) -> None:
    """Create a branch of the present state

    The same as `ctxfs branch NAME`.
    """
    with session(store) as opened:
        opened.call("join", session=os.environ.get("CTXFS_SESSION", ""), tool="cli", reason=reason)
        created = opened.call("create_branch", name=name, reason=reason)
    if as_json:
        print_json(created)
        return
    print_line(f"branch {name} begins here; its files: .branches/{name}/, or: ctxfs mount DIR --branch {name}")


@branch.command(name="list")
@json_option()
@click.pass_obj
def list_branches(store: str | None, as_json: bool) -> None:
    """List branches

    Each with its author, its versions and the number of files that differ from main. Exit code 3 without any.
    """
    _list(store, as_json)


def _list(store: str | None, as_json: bool) -> None:
    with session(store) as opened:
        branches = opened.call("branches")
    if as_json:
        print_json(branches)
    for row in () if as_json else branches:
        print_line(f"{row['name']:<24}", nl=False, fg="cyan")
        changed = count_noun(len(row["changes"]), "path")
        print_line(
            f"{one_line(row['by'])}  {row['created_at']}  {count_noun(row['versions'], 'version')}, {changed} changed"
        )
    if not branches:
        sys.exit(EXIT_NOTHING_FOUND)


@branch.command()
@_name
@json_option()
@click.pass_obj
def log(store: str | None, name: str, as_json: bool) -> None:
    """List the versions of a branch

    The newest come first. Exit code 3 without any.
    """
    with session(store) as opened:
        versions = opened.call("branch_log", name=name)
    if as_json:
        print_json(versions)
    for version in () if as_json else versions:
        print_line(f"{version['revision'][:8]}  ", nl=False, fg="cyan")
        reason = f"  ({one_line(version['reason'])})" if version.get("reason") else ""
        print_line(f"{version['time']}  {one_line(version['principal'])}  {one_line(version['subject'])}{reason}")
    if not versions:
        sys.exit(EXIT_NOTHING_FOUND)


@branch.command()
@_name
@json_option()
@click.pass_obj
def diff(store: str | None, name: str, as_json: bool) -> None:
    """Show the changes that main lacks

    Attributes are included. Exit code 3 without changes.
    """
    with session(store) as opened:
        found = opened.call("branch_diff", name=name)
        rows = opened.call("branches")
    changes: list[Any] = next((row["changes"] for row in rows if row["name"] == name), [])
    if as_json:
        print_json({"name": name, "changes": changes, "diff": found.decode("utf-8", "replace")})
    elif found:
        write_content(found)
    if not found:
        sys.exit(EXIT_NOTHING_FOUND)


@branch.command()
@_name
@reason_option()
@json_option()
@click.pass_obj
def merge(store: str | None, name: str, reason: str, as_json: bool) -> None:
    """Propose the merge of a branch into main

    A person accepts it with `ctxfs review ID accept`. Where both sides changed a file, lines are merged if they do not
    touch; else both contents stay.
    """
    with session(store) as opened:
        opened.call("join", session=os.environ.get("CTXFS_SESSION", ""), tool="cli", reason=reason)
        proposed = opened.call("merge_branch", name=name, reason=reason)
    if as_json:
        print_json(proposed)
        return
    print_line(f"{count_noun(len(proposed['changes']), 'changed path')} proposed: human/review/{proposed['review']}/")
    print_line(f"next: ctxfs review {proposed['review']} accept")


@branch.command()
@_name
@yes_option()
@aliased_option("--dry-run", hidden_aliases=["-n"], is_flag=True, help="Show the changes and make none")
@json_option()
@click.pass_obj
def drop(store: str | None, name: str, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Remove a branch and all that only it has

    Its versions and contents are erased. Merged versions and decided proposals stay.
    """
    with session(store) as opened:
        dropped: dict[str, Any] = opened.call("drop_branch", name=name, dry_run=True)
        if not dry_run:
            if not yes and dropped["versions"]:
                click.confirm(
                    lines_of("Delete for good " + "\n".join(_describe(dropped)) + "\n?"), abort=True, err=True
                )
            dropped = opened.call("drop_branch", name=name)
    if as_json:
        print_json(dropped)
        return
    first, *paths = _describe(dropped)
    print_line(f"{'would delete' if dry_run else 'deleted'} {first}")
    for path in paths:
        print_line(path)


def _describe(dropped: dict[str, Any]) -> list[str]:
    """Return lines for people: the branch, and the first of its changed paths."""
    shown = [f"  {one_line(change['path'])}" for change in dropped["changes"][:_MAX_SHOWN_PATHS]]
    more = len(dropped["changes"]) - _MAX_SHOWN_PATHS
    rest = [f"  … and {more} more"] if more > 0 else []
    return [f"the branch {dropped['name']} with {count_noun(dropped['versions'], 'version')}", *shown, *rest]
