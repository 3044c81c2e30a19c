"""The command state: the state of a memory, and its transitions."""

import os

import click

from ctxfs.cli import completion_values
from ctxfs.cli.options import aliased_option, json_option
from ctxfs.cli.output import print_json, print_line
from ctxfs.cli.paths import tree_path
from ctxfs.daemon.session import session
from ctxfs.memory.states import STATE_ATTRIBUTE, state_of
from ctxfs.model.change import SetMeta
from ctxfs.model.metadata import STATES
from ctxfs.model.path import Path
from ctxfs.rpc.wire import change_to_wire


@click.command()
@click.argument("path", shell_complete=completion_values.tree_paths)
@click.argument("wanted", metavar="[STATE]", required=False, type=click.Choice(STATES))
@aliased_option(
    "-m",
    "--reason",
    "because",
    hidden_aliases=["--because"],
    default="",
    metavar="TEXT",
    help="Reason, recorded with the version",
)
@json_option()
@click.pass_obj
def state(store: str | None, path: str, wanted: str | None, because: str, as_json: bool) -> None:
    """Show or change the state of a memory

    States: generated, active, merged, archived, frozen. The rules of memory.toml decide who may change it, and `ctxfs
    log` lists the changes.
    """
    with session(store) as opened:
        opened.call("join", session=os.environ.get("CTXFS_SESSION", ""), tool="cli", reason=because)
        target = Path.parse(tree_path(opened, path))
        old = state_of(opened.call("metadata", path=str(target)))
        if wanted is not None and wanted != old:
            opened.call("apply", change=change_to_wire(SetMeta(target, STATE_ATTRIBUTE, wanted.encode())))
    if as_json:
        print_json({"path": str(target), "state": wanted or old, **({"was": old} if wanted else {})})
    elif wanted is None:
        print_line(old)
    else:
        print_line(f"{target}: {old} → {wanted}" if wanted != old else f"{target}: {old} already")
