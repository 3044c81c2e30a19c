"""The commands status and version: the state of a store."""

import sys
from datetime import datetime
from typing import Any

import click

from ctxfs import __version__
from ctxfs.cli.options import json_option
from ctxfs.cli.output import count_noun, print_json, print_line
from ctxfs.cli.shared import print_shared
from ctxfs.daemon.session import session
from ctxfs.index.indexer_status import format_remaining, index_fault
from ctxfs.mcp_client.server_status import CONNECTING, READY, server_status_from_wire
from ctxfs.model.errors import EXIT_UNHEALTHY
from ctxfs.store.layout import find_store

_MAX_SHOWN = 5


@click.command()
@json_option()
@click.option(
    "--wait",
    is_flag=False,
    flag_value="words",
    type=click.Choice(["words", "meaning"]),
    help="Wait until all is searchable [default: words]",
)
@click.option(
    "--timeout", default=600.0, show_default=True, type=click.FloatRange(min=0), help="Maximum wait in seconds"
)
@click.pass_obj
def status(store: str | None, as_json: bool, wait: str | None, timeout: float) -> None:
    """Show mounts, index, versions and faults

    Exit code 6 when the index is down, 7 when --wait ends before it has caught up.
    """
    if wait:
        from ctxfs.cli.progress import follow_index

        follow_index(find_store(store), wait, timeout)
    with session(store) as opened:
        report = opened.call("status")
    if as_json:
        print_json(report)
    else:
        _print_status(report)
    if index_fault(report["index"]):
        sys.exit(EXIT_UNHEALTHY)


def _print_status(report: dict[str, Any]) -> None:
    index = report["index"]
    print_line(f"store      {report['store']}")
    print_line(f"you are    {report['principal']}")
    if report["version"] != __version__:
        print_line(
            f"version    the daemon is ctxfs {report['version']}, this command is ctxfs {__version__}", fg="yellow"
        )
        print_line("           → ctxfs unmount --all ends it; the next command starts this version", fg="yellow")
    _print_mounts(report)
    for source in report["sources"]:
        is_ok = source["state"] == "ok"
        print_line(
            f"source     {source['at']:<24} {source['path']}  {'' if is_ok else source['state']}",
            fg=None if is_ok else "red",
        )
    _print_index(index)
    _print_versions(report["versions"])
    for name, state in report["remotes"].items():
        _print_remote(name, state)
    print_shared(report["shared"])
    _print_rules(report)
    _print_capture(report["capture"])
    if report["review"]["waiting"]:
        print_line(f"review     {report['review']['waiting']} doubts wait for you: ctxfs review", fg="yellow")
    if report["citations"]["broken"]:
        print_line(_describe_broken(report["citations"]), fg="yellow")
    for name, value in report["tools"]["servers"].items():
        status = server_status_from_wire(value)
        print_line(f"server     tools/{name}: {status.text}", fg=None if status in (READY, CONNECTING) else "red")
    if not report["tools"]["shut_in"]:
        print_line(
            "tools      they see this machine as you do: bubblewrap is not there, does not work here, or walls are off",
            fg="yellow",
        )
    for path, lines in report["secrets"].items():
        print_line(f"secret?    {path}, {'; '.join(lines[:3])}", fg="yellow")


def _print_versions(versions: dict[str, Any]) -> None:
    if versions["state"] == "ok":
        count = versions["branches"]
        branches = f", {count} branch{'' if count == 1 else 'es'}" if count else ""
        print_line(
            f"versions   {versions['commits']}, the newest {versions['newest'][:8]} of {versions['at']}; "
            f"{count_noun(versions['snapshots'], 'snapshot')}{branches}"
        )
    elif versions["state"] != "closed":
        print_line(f"versions   {versions['state']}", fg="yellow")
    if versions.get("unrecorded"):
        print_line(f"           the newest changes have no version yet: {versions['unrecorded']}", fg="yellow")
    for reason, count in versions.get("scratch", {}).items():
        print_line(f"           {count} without versions: {reason}")
    for path, reason in versions.get("unversioned", {}).items():
        print_line(f"unversioned {path}: {reason}", fg="yellow")


def _print_remote(name: str, state: dict[str, Any]) -> None:
    """Print when a remote with `auto` was last reached, and why it is not reached now."""
    at = f"{datetime.fromtimestamp(state['at']):%Y-%m-%d %H:%M:%S}" if state["at"] else "never"
    if state["fault"]:
        print_line(f"remote     {name}: not reached since {at}: {state['fault']}", fg="yellow")
    else:
        print_line(f"remote     {name}: has every version, as of {at}")


def _describe_broken(citations: dict[str, Any]) -> str:
    count, example = citations["broken"], citations["examples"][0]
    return f"cites      the sources of {count_noun(count, 'file')} no longer hold, as of {example}: ctxfs check"


def _print_rules(report: dict[str, Any]) -> None:
    """Print the faults of the files of rules, and the memories that do not fit these."""
    _print_kinds(report["memory"])
    for name in ("policy", "memory"):
        if fault := report[name]["fault"]:
            stays = "" if name == "memory" else "the last good rules stay: "
            print_line(f"{name}     {stays}{fault}", fg="red")


def _print_kinds(memory: dict[str, Any]) -> None:
    """Print the memories that do not fit the rules of their kind. They are stored and searched all the same."""
    for path, remark in list(memory["remarks"].items())[:_MAX_SHOWN]:
        print_line(f"kind?      {path}, {remark}", fg="yellow")
    if memory["remarked"] > _MAX_SHOWN:
        print_line(f"           and {memory['remarked'] - _MAX_SHOWN} more: ctxfs status --json")


def _print_capture(capture: dict[str, int]) -> None:
    """Print the numbers of captured events that are not in the history; nothing if there are none."""
    if capture["waiting"]:
        print_line(
            f"capture    {count_noun(capture['waiting'], 'event')} of clients waiting: the daemon, or ctxfs history, records them"
        )
    if capture["dropped"]:
        print_line(
            f"capture    {count_noun(capture['dropped'], 'event')} lost: the spool or the disk was full", fg="red"
        )


def _print_mounts(report: dict[str, Any]) -> None:
    for mount in report["mounts"]:
        print_line(
            f"mounted    {mount['at']}  as {mount['principal']}{', read only' if mount['read_only'] else ''}"
            f"{', branch ' + mount['branch'] if mount['branch'] else ''}",
            fg="green",
        )
        if mount.get("fault"):
            print_line(f"           {mount['fault']}", fg="red")
    for stray in report["found"]:
        print_line(f"found      {stray}", fg="yellow")


def _print_index(index: dict[str, Any]) -> None:
    print_line(
        f"index      {index.get('state', 'no daemon: as of the last run')}", fg="red" if index_fault(index) else None
    )
    if index.get("behind") and not index_fault(index):
        print_line(f"           {index['behind']}", fg="yellow")
    embedded = index["embeddable"] - index["waiting_for_meaning"]
    print_line(
        f"words      {index['searchable']} of {count_noun(index['files'], 'file')}, {count_noun(index['chunks'], 'chunk')}"
    )
    remaining = format_remaining(index["waiting_for_meaning"], index.get("chunks_per_second", 0.0))
    print_line(
        f"meaning    {count_noun(embedded, 'chunk')} embedded, {index['waiting_for_meaning']} waiting{remaining}"
    )
    if index.get("model"):
        device = f", on {index['device']}" if index.get("device") else ""
        print_line(f"           by {index['model']}{device}")
    if index.get("anew"):
        print_line(
            f"           {index['anew']} chunks embedded anew, by the model of ctxfs.toml; until then that one answers"
        )
    for fault in dict.fromkeys((index["meaning"], index.get("waits", ""), index.get("graph", ""))):
        if fault not in ("ok", ""):
            print_line(f"           {fault}", fg="yellow")
    if index["damaged"]:
        print_line(f"damaged    {index['damaged']}", fg="red")
    _print_left_out(index)
    for root, fault in index.get("watch", {}).items():
        print_line(f"watch      {root}: {fault}", fg="yellow")


def _print_left_out(index: dict[str, Any]) -> None:
    """Print the numbers of files and folders that are not searched, or in part, or by words only."""
    for name, count in index["ignored_folders"].items():
        print_line(f"ignored    {count} {'folder' if count == 1 else 'folders'}: {name}")
    for reason, count in index["noise"].items():
        print_line(f"by words   {count} {'file' if count == 1 else 'files'}, never embedded: {reason}")
    for note, count in index["skipped"].items():
        print_line(f"skipped    {count} {'file' if count == 1 else 'files'}: {note}")
    if index.get("partial"):
        print_line(f"in part    {count_noun(index['partial'], 'file')}: larger than index.max_file_bytes")
    if index["skipped_files"]:
        print_line("           which: ctxfs cat .ctxfs/skipped.jsonl")


@click.command()
def version() -> None:
    """Print the version"""
    print_line(f"ctxfs {__version__}")
