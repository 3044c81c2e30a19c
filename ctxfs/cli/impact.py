"""The command impact: all that was built on a file, an origin or a session."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from ctxfs.cli import completion_values
from ctxfs.cli.options import json_option, reason_option
from ctxfs.cli.output import count_noun, print_json, print_line
from ctxfs.cli.paths import tree_path
from ctxfs.daemon.session import session as opened_session

_MAX_LISTED = 20
_NOUNS = {"files": "file", "contexts": "context", "answers": "response"}


@click.command()
@click.argument("path", required=False, default="", shell_complete=completion_values.tree_paths)
@click.option("--origin", default="", metavar="SOURCE", help="Files with this user.ctx.source")
@click.option("--session", "session_name", default="", metavar="S", help="Files that a session changed")
@click.option("--quarantine", is_flag=True, help="Quarantine all of it in one version")
@reason_option()
@json_option()
@click.pass_obj
def impact(
    store: str | None, path: str, origin: str, session_name: str, quarantine: bool, reason: str, as_json: bool
) -> None:
    """List all that was built on a file

    These are the files that name it in source, cites or supersedes, the contexts and responses that contain its text,
    all that was built on these, and exports. --quarantine hides all of it, and the file itself, from agents.
    """
    if sum(map(bool, (path, origin, session_name))) != 1:
        raise click.UsageError("name a path, --origin or --session")
    with opened_session(store) as opened:
        opened.call("join", session=os.environ.get("CTXFS_SESSION", ""), tool="cli", reason=reason)
        location = tree_path(opened, path) if path else ""
        arguments = {"path": location, "origin": origin, "session": session_name}
        if quarantine:
            outcome = opened.call("quarantine_impact", **arguments, reason=reason)
            report = outcome["report"]
        else:
            outcome = report = opened.call("impact", **arguments)
    if as_json:
        print_json(outcome)
        return
    _print_report(report)
    if quarantine:
        version = outcome["version"]["revision"][:8] if outcome["version"] else "all of it was in quarantine"
        print_line(f"quarantined: {count_noun(len(outcome['changes']), 'file')} ({version})")


def _print_report(report: Mapping[str, Any]) -> None:
    print_line(f"of {count_noun(len(report['seeds']), 'file')}: {', '.join(report['seeds'][:3])}")
    for part, noun in _NOUNS.items():
        _print_items(report[part], noun)
    for record in report["exports"][:_MAX_LISTED]:
        print_line(f"  exported {record.get('at', '')} by {record.get('principal', '')}: {record.get('path', '')}")
    if not any(report[part] for part in (*_NOUNS, "exports")):
        print_line("nothing was built on it")


def _print_items(items: Sequence[Mapping[str, Any]], noun: str) -> None:
    if items:
        click.secho(count_noun(len(items), noun), bold=True)
    for item in items[:_MAX_LISTED]:
        mark = "  [quarantined]" if item["is_quarantined"] else ""
        print_line(f"  {item['path']}  {item['relation']} of {item['on']}{mark}")
    if len(items) > _MAX_LISTED:
        print_line(f"  and {len(items) - _MAX_LISTED} more (--json)")
