"""The command consolidate: proposals that merge, archive or create memories, to be decided by ctxfs review."""

import os
import shlex
import sys
from datetime import UTC, datetime
from typing import Any

import click

from ctxfs.cli import completion_values
from ctxfs.cli.options import json_option
from ctxfs.cli.output import count_noun, print_json, print_line, warn
from ctxfs.daemon.session import session
from ctxfs.model.errors import EXIT_NOTHING_FOUND, EXIT_USAGE, CommandError

_MAX_LISTED = 20


@click.command()
@click.option(
    "--below",
    default="memory",
    metavar="PATH",
    shell_complete=completion_values.tree_paths,
    help="Directory in memory [default: memory]",
)
@click.option("--since", default="", metavar="TIME", help="Oldest change: an age such as 7d, or a date")
@click.option("--with", "command", default="", metavar="COMMAND", help="Command that proposes: JSON in and out")
@click.option("--dry-run", is_flag=True, help="Show the proposals, and store none")
@json_option()
@click.pass_obj
def consolidate(store: str | None, below: str, since: str, command: str, dry_run: bool, as_json: bool) -> None:
    """Propose merges and archiving of memories

    Proposals are branches, shown under human/review/. They change nothing until a person accepts them (ctxfs review).
    Exit code 3 without any.

    \b
    ctxfs consolidate --below memory/alice --dry-run
    ctxfs review accept 3f9a0c7d12ab
    """
    options = {"since_ns": _parse_since(since), "command": _absolute_words(command), "dry_run": dry_run}
    results = _run_all(store, below, options)
    if as_json:
        print_json(results)
    else:
        _print_results(results, dry_run)
    if not results["proposals"]:
        sys.exit(EXIT_NOTHING_FOUND)


def _run_all(store: str | None, below: str, options: dict[str, object]) -> dict[str, Any]:
    from ctxfs.cli.progress import counted

    results: dict[str, Any] = {"dry_run": options["dry_run"], "memories": 0, "waiting": 0}
    lists = ("proposals", "withdrawn", "refused", "remarks")
    results.update({name: [] for name in lists})
    with session(store) as opened:
        opened.call("join", tool="cli")
        for group in counted(opened.call("memory_groups", path=below.strip("/")), "consolidate"):
            report = opened.call("consolidate", path=group, **options)
            for name in lists:
                results[name] += report[name]
            results["memories"] += report["memories"]
            results["waiting"] += report["waiting"]
    return results


def _parse_since(text: str) -> int:
    from ctxfs.index.query import parse_time

    if not text:
        return 0
    nanoseconds = parse_time(text, datetime.now(UTC))
    if nanoseconds is None:
        raise CommandError(f"'{text}' is no time", "give an age such as 7d, or a date such as 2026-11-01", EXIT_USAGE)
    return nanoseconds


def _absolute_words(command: str) -> str:
    """Return a command line with absolute paths of the files that it names, because the daemon has another folder."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CommandError(f"'{command}' is not a command: {error}", "quote it as a shell would", EXIT_USAGE) from error
    return shlex.join(os.path.abspath(word) if os.sep in word and os.path.isfile(word) else word for word in words)


def _print_results(results: dict[str, Any], dry_run: bool) -> None:
    for proposal in results["proposals"]:
        print_line(f"{proposal['id']}  ", nl=False, fg="cyan")
        print_line(f"{proposal['rule']:<13} {proposal['title']}")
    for item in results["refused"][:_MAX_LISTED]:
        warn(f"refused: {item['proposal']}: {item['reason']}")
    for item in results["remarks"][:_MAX_LISTED]:
        warn(f"{item['path']}: {item['remark']}")
    noun = count_noun(len(results["proposals"]), "proposal")
    memories = f"{results['memories']} {'memory' if results['memories'] == 1 else 'memories'}"
    print_line(f"{noun} from {memories}" + ("; nothing is stored" if dry_run else ""))
    if results["waiting"]:
        print_line(f"{results['waiting']} more wait: decide these, then run it again")
    elif results["proposals"] and not dry_run:
        print_line("decide them: ctxfs review")
