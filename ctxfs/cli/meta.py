"""The command meta: attributes of files, as `getfattr` and `setfattr` have them, with and without a mount."""

import os

import click

from ctxfs.cli import completion_values
from ctxfs.cli.groups import CommandGroup
from ctxfs.cli.options import below_option, json_option, limit_option, reason_option
from ctxfs.cli.output import print_json, print_line
from ctxfs.cli.paths import tree_path
from ctxfs.daemon.session import session
from ctxfs.model.change import SetMeta
from ctxfs.model.errors import EXIT_NOTHING_FOUND, CommandError
from ctxfs.model.metadata import COMPUTED, PREFIX, SETTABLE
from ctxfs.model.path import Path, one_line
from ctxfs.rpc.wire import change_to_wire

_NAMES = f"""Settable by writers of the file: {", ".join(SETTABLE)}.

Computed: {", ".join(COMPUTED)}."""


@click.group(cls=CommandGroup)
def meta() -> None:
    """Manage attributes of files (user.ctx.*)"""


@meta.command(epilog=_NAMES)
@click.argument("path", shell_complete=completion_values.tree_paths)
@click.argument("name", default="")
@json_option()
@click.pass_obj
def get(store: str | None, path: str, name: str, as_json: bool) -> None:
    """Show the attributes of a file

    With NAME only the value of that attribute.
    """
    with session(store) as opened:
        attributes: dict[str, bytes] = opened.call("metadata", path=tree_path(opened, path))
    shown = {key.removeprefix(PREFIX): value.decode("utf-8", "replace") for key, value in sorted(attributes.items())}
    if name:
        if name not in shown:
            raise CommandError(f"'{path}' has no attribute '{name}'", "", EXIT_NOTHING_FOUND)
        print_json(shown[name]) if as_json else print_line(shown[name])
    elif as_json:
        print_json(shown)
    else:
        for key, value in shown.items():
            click.secho(one_line(key), fg="cyan", nl=False)
            print_line(f" = {value}")


@meta.command("set", epilog=_NAMES)
@click.argument("path", shell_complete=completion_values.tree_paths)
@click.argument("assignments", metavar="NAME=VALUE…", nargs=-1, required=True)
@reason_option()
@click.pass_obj
def set_(store: str | None, path: str, assignments: tuple[str, ...], reason: str) -> None:
    """Set attributes of a file

    An empty VALUE removes one. A name with a dot (user.mine) is used as it is.
    """
    with session(store) as opened:
        opened.call("join", session=os.environ.get("CTXFS_SESSION", ""), tool="cli", reason=reason)
        target = Path.parse(tree_path(opened, path))
        for text in assignments:
            name, equals, value = text.partition("=")
            if not equals or not name:
                raise CommandError(f"'{text}' is not NAME=VALUE", "such as: kind=fact", 2)
            full = name if name.startswith("user.") else PREFIX + name
            opened.call("apply", change=change_to_wire(SetMeta(target, full, value.encode() if value else None)))
            print_line(f"{target}: {name} = {value}" if value else f"{target}: {name} removed")


@meta.command()
@click.argument("filters", nargs=-1, required=True)
@below_option()
@limit_option("files", default=1000, hidden_aliases=["--number"])
@json_option()
@click.pass_obj
def find(store: str | None, filters: tuple[str, ...], below: str, limit: int, as_json: bool) -> None:
    """Find files by their attributes

    Filters: kind:fact tag:deploy 'confidence:>0.8' pinned:true. The newest files come first.
    """
    with session(store) as opened:
        paths = opened.call("find", filters=" ".join(filters), below=tree_path(opened, below), limit=limit)
    if as_json:
        print_json(paths)
    else:
        for path in paths:
            print_line(path)
    if not paths:
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)
