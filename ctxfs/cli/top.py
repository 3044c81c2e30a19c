"""The command top: agents, sources, waiting work and the audit, as they are and as they change."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from ctxfs.cli.options import json_option
from ctxfs.cli.output import print_json, print_line
from ctxfs.daemon.session import StoreSession, session
from ctxfs.index.indexer_status import format_remaining
from ctxfs.model.path import one_line
from ctxfs.services.waiting_work import waiting_work

_MAX_PRINCIPALS = 8
_MAX_WAITING = 6
_MAX_OPERATIONS = 200
_MIN_SECONDS, _MAX_SECONDS = 0.2, 30.0

Line = tuple[str, str]  # text, and style: empty, or a name that both click and rich have
Report = Mapping[str, Any]


@click.command()
@click.option("--once", is_flag=True, help="Print the present state and end, as in a pipe")
@click.option(
    "--interval",
    default=2.0,
    show_default=True,
    type=click.FloatRange(_MIN_SECONDS, _MAX_SECONDS),
    help="Maximum seconds between two looks; operations are shown at once",
)
@json_option()
@click.pass_obj
def top(store: str | None, once: bool, interval: float, as_json: bool) -> None:
    """Show agents, sources and waiting work, live

    Ctrl-C ends it. It is for people, not for agents.
    """
    with session(store) as opened:
        if as_json:
            report = _look(opened)
            print_json({**report, "waiting": [row._asdict() for row in waiting_work(report["status"])]})
        elif once or not sys.stdout.isatty():
            for text, style in _lines(_look(opened)):
                print_line(text, fg=style or None)
        else:
            _watch(opened, interval)


def _look(opened: StoreSession) -> dict[str, Any]:
    """Return the state of the store, the operations of the last hour by principal, and the newest operations."""
    return {
        "status": opened.call("status"),
        "activity": opened.call("activity"),
        "reviews": [review for review in opened.call("reviews") if not review["decision"]],
        "operations": opened.call("follow_audit", limit=_MAX_OPERATIONS),
    }


def _watch(opened: StoreSession, interval: float) -> None:
    """Show operations as they happen, and look at all else every `interval` seconds: that costs the daemon more."""
    from ctxfs.cli.progress import live_screen

    with contextlib.suppress(KeyboardInterrupt), live_screen() as show:
        while True:
            report, until = _look(opened), time.monotonic() + interval
            show(list(_lines(report)))
            while (wait := until - time.monotonic()) > 0:
                more = opened.call("follow_audit", after=report["operations"]["last"], wait=wait)
                records = [*report["operations"]["records"], *more["records"]][-_MAX_OPERATIONS:]
                report["operations"] = {"records": records, "last": more["last"]}
                show(list(_lines(report)))


def _lines(report: Report) -> Iterator[Line]:
    """Yield the lines of the screen, the most important first, because the terminal may be small."""
    status, index = report["status"], report["status"]["index"]
    yield f"{one_line(status['store'])}  {one_line(status['principal'])}", "cyan"
    embedded = index["embeddable"] - index["waiting_for_meaning"]
    remaining = format_remaining(index["waiting_for_meaning"], index.get("chunks_per_second", 0.0))
    state = one_line(index.get("state", "no daemon: as of the last run"))
    yield f"index      {state}: words {index['searchable']} of {index['files']} files", ""
    yield f"           meaning {embedded} of {index['embeddable']} chunks{remaining}", ""
    for source in status["sources"]:
        if source["state"] != "ok":
            yield f"source     {one_line(source['at'])}: {one_line(source['state'])}", "red"
    if count := len(report["reviews"]):
        yield f"review     {count} to decide: ctxfs review", "yellow"
    waiting = waiting_work(status)
    for row in waiting[:_MAX_WAITING]:
        yield f"waiting    {one_line(row.text)} -> {row.command}", "yellow"
    if len(waiting) > _MAX_WAITING:
        yield f"           and {len(waiting) - _MAX_WAITING} more: ctxfs status", "yellow"
    yield "", ""
    yield f"{'last hour':<28}{'reads':>8}{'writes':>8}{'questions':>11}{'refused':>9}", "cyan"
    for row in report["activity"]["principals"][:_MAX_PRINCIPALS]:
        counts = f"{row['reads']:>8}{row['writes']:>8}{row['questions']:>11}{row['refused']:>9}"
        yield f"{one_line(row['principal']):<28.28}{counts}", "red" if row["refused"] else ""
    yield "", ""
    yield "operations, the newest first", "cyan"
    for operation in reversed(report["operations"]["records"]):
        yield _operation_line(operation), "red" if operation["outcome"] != "ok" else ""


def _operation_line(operation: Report) -> str:
    target = f" -> {operation['to']}" if operation.get("to") else ""
    times = f" x {operation['times']}" if operation.get("times") else ""
    outcome = f"  {operation['outcome']}" if operation["outcome"] != "ok" else ""
    path = f"{operation.get('path', '')}{target}{times}{outcome}"
    time = str(operation["at"])[11:19]
    return one_line(f"{time}  {operation.get('principal', '-'):<20} {operation['op']:<8} {path}")
