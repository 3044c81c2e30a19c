"""The command memories: the memories of agents as a table, and their sizes."""

from typing import Any

import click

from ctxfs.cli import completion_values
from ctxfs.cli.options import json_option, limit_option
from ctxfs.cli.output import print_json, print_line, warn
from ctxfs.cli.paths import tree_path
from ctxfs.daemon.session import StoreSession, session
from ctxfs.memory.citations import HOLDS
from ctxfs.memory.table import TRUST_LEVELS
from ctxfs.model.errors import EXIT_NOTHING_FOUND
from ctxfs.model.metadata import STATES
from ctxfs.model.path import one_line

_PART_ROWS = 200
_MAX_TEXT_CHARACTERS = 100


@click.command()
@click.argument("path", default="memory", shell_complete=completion_values.tree_paths)
@click.option("--owner", "agent", default="", metavar="NAME", help="Folder of an agent, or shared")
@click.option("--kind", default="", metavar="KIND", help="Kind, such as fact")
@click.option("--state", default="", metavar="STATE", type=click.Choice(("", *STATES)), help="State, such as archived")
@click.option(
    "--trust", default="", metavar="TRUST", type=click.Choice(("", *TRUST_LEVELS)), help="Trust, such as untrusted"
)
@click.option(
    "--holds", default="", metavar="STATE", type=click.Choice(("", *HOLDS)), help="Cited lines: holds, broken, none …"
)
@click.option("--words", "pattern", default="", metavar="WORDS", help="Words in path, source or text")
@click.option("--sizes", is_flag=True, help="Sum tokens by agent, kind and folder")
@limit_option("memories", default=1000)
@json_option()
@click.pass_obj
def memories(store: str | None, /, path: str, sizes: bool, limit: int, as_json: bool, **filters: str) -> None:
    """List memories by agent and kind

    One line each: state, trust, whether the cited lines hold, path, and the first line of the text. Exit code 3 without
    any.

    \b
    ctxfs memories --owner alice --kind fact --holds broken
    ctxfs memories --sizes
    """
    with session(store) as opened:
        arguments = {"path": tree_path(opened, path), **filters}
        rows = opened.call("memory_sizes", **arguments) if sizes else _read_rows(opened, arguments, limit)
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            _print_sum(row) if sizes else _print_row(row)
    if not rows:
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)


def _read_rows(opened: StoreSession, arguments: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    rows = list[dict[str, Any]]()
    while len(rows) < limit:
        page = opened.call("memories", **arguments, offset=len(rows), limit=min(_PART_ROWS, limit - len(rows)))
        rows += page["rows"]
        if not page["rows"] or len(rows) >= page["total"]:
            break
    else:
        if len(rows) < page["total"]:
            warn(f"{page['total'] - len(rows)} more: --limit N")
    return rows


def _print_row(row: dict[str, Any]) -> None:
    marks = [
        row["state"],
        *(["pinned"] if row["pinned"] else []),
        *([row["trust"]] if row["trust"] != "normal" else []),
    ]
    print_line(f"{','.join(marks):<20} {row['holds'] or '-':<8} ", nl=False, fg="cyan")
    first = one_line(row["text"].split("\n")[0])[:_MAX_TEXT_CHARACTERS]
    print_line(f"{row['path']}  {first}")


def _print_sum(part: dict[str, Any]) -> None:
    print_line(f"{part['tokens']:>10} tokens {part['files']:>6} files  {part['kind'] or '-':<14} {part['folder']}")
