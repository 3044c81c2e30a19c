"""The commands cite and check: lines of sources that files rest on, and whether these still hold."""

import os
import sys
from typing import Any

import click

from ctxfs.cli import completion_values
from ctxfs.cli.options import json_option, reason_option
from ctxfs.cli.output import count_noun, print_json, print_line, warn
from ctxfs.cli.paths import tree_path
from ctxfs.daemon.session import session
from ctxfs.memory.citations import State, is_url, parse_span
from ctxfs.model.errors import EXIT_UNHEALTHY, CommandError

_COLOURS = {State.HOLDS: "green", State.MOVED: "cyan", State.CHANGED: "red", State.GONE: "red", State.UNSEEN: "yellow"}


@click.command()
@click.argument("path", shell_complete=completion_values.tree_paths)
@click.argument("sources", nargs=-1, metavar="SOURCE:LINES…", shell_complete=completion_values.tree_paths)
@click.option("--replace", is_flag=True, help="Drop the citations that the file has")
@reason_option()
@click.pass_obj
def cite(store: str | None, path: str, sources: tuple[str, ...], replace: bool, reason: str) -> None:
    """Cite lines of sources as evidence of a file

    The present text of the lines is recorded in user.ctx.cites. Later reads of user.ctx.holds, and ctxfs check, compare
    it with the source. With --replace and no source all citations are removed.

    \b
    ctxfs cite memory/alice/fact/keys.md knowledge/handbook/keys.md:12-14
    """
    if not sources and not replace:
        raise CommandError("no source is named", "as: ctxfs cite FACT knowledge/handbook/keys.md:12-14", 2)
    with session(store) as opened:
        opened.call("join", session=os.environ.get("CTXFS_SESSION", ""), tool="cli", reason=reason)
        spans = [_tree_source(opened, source) for source in sources]
        cited = opened.call("cite", path=tree_path(opened, path), sources=spans, replace=replace)
    for span in cited["citations"]:
        print_line(span)


def _tree_source(opened: Any, text: str) -> str:
    """Return a source with its path in the tree, for one that is named on a mount point."""
    span = None if is_url(text) else parse_span(text)
    if span is None:
        return text
    return str(span._replace(path=tree_path(opened, f"/{span.path}" if text.startswith("/") else span.path)))


@click.command()
@click.argument("path", default="", shell_complete=completion_values.tree_paths)
@json_option()
@click.pass_obj
def check(store: str | None, path: str, as_json: bool) -> None:
    """Check facts against the lines they cite

    Each file below PATH with citations (user.ctx.cites) is compared with its sources: its lines hold, moved, changed,
    are gone, or are unseen. Exit code 6 when something no longer holds.
    """
    with session(store) as opened:
        files = opened.call("check", path=tree_path(opened, path))
    broken = [file for file in files if State(file["holds"]).is_broken]
    if as_json:
        print_json(files)
    else:
        for file in files:
            _print_file(file)
        warn(f"{count_noun(len(files), 'file')} with citations, {len(broken)} no longer hold")
    if broken:
        sys.exit(EXIT_UNHEALTHY)


def _print_file(file: dict[str, Any]) -> None:
    state = State(file["holds"])
    print_line(f"{state.value:<8}", nl=False, fg=_COLOURS[state])
    print_line(file["path"])
    for citation in file["citations"] if state is not State.HOLDS else ():
        is_elsewhere = "at" in citation and citation["at"] != citation["cites"]
        arrow = f" → {citation['at']}" if is_elsewhere else ""
        print_line(f"         {citation['holds']:<8}{citation['cites']}{arrow}")
