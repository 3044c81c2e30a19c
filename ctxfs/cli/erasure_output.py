"""The output of erasures: remaining copies, and the certificates of the nodes of a shared store."""

from datetime import datetime
from typing import Any

from ctxfs.cli.output import print_json, print_line, warn
from ctxfs.daemon.session import session

_MAX_COPIES_SHOWN = 20


def remotes_notice(erasure: dict[str, Any]) -> str:
    """Return the part of the prompt that names the remotes with a possible copy, empty without remotes."""
    names = ", ".join(erasure["remotes"])
    return f"\nRemotes may hold it, and keep it until you replace what they have: {names}" if names else ""


def print_remaining_copies(erasure: dict[str, Any], dry_run: bool) -> None:
    """Print the erased derived texts, and the copies that stay: files of their own, and remotes."""
    words = {
        "deliveries": "contexts' deliveries",
        "records": "records of the event log",
        "calls": "kept calls of tools",
    }
    erased = [f"{count} {words[kind]}" for kind, count in erasure["derived"].items() if count]
    if erased:
        print_line(f"also erased: {', '.join(erased)}")
    for copy in erasure["copies"][:_MAX_COPIES_SHOWN]:
        warn(f"phrases of it are still in {copy}, which is a file of its own; forget that too if it is meant")
    if len(erasure["copies"]) > _MAX_COPIES_SHOWN:
        warn(f"and in {len(erasure['copies']) - _MAX_COPIES_SHOWN} more files: ctxfs forget --json names them")
    verb = "would still hold it" if dry_run else "may still hold it"
    for name in erasure["remotes"]:
        warn(f"the remote {name} {verb}: ctxfs remote push --replace {name}")


def print_certificates(store: str | None, as_json: bool) -> None:
    """Print the erasures of a shared store, and the answers of each node, part by part."""
    with session(store) as opened:
        reports = opened.call("erasures")
    if as_json:
        print_json(reports)
        return
    for report in reports:
        when = datetime.fromtimestamp(report["time_ns"] / 1e9).strftime("%Y-%m-%d %H:%M:%S")
        print_line(f"entry {report['entry']}, {when}, by node {report['ordered_by']}")
        for node, answers in report["nodes"].items():
            if answers is None:
                print_line(f"  {node}: not answered", fg="yellow")
                continue
            print_line(f"  {node}")
            for part, answer in answers.items():
                print_line(f"    {part}: {answer}")
    if not reports:
        print_line("nothing was erased in this shared store")
