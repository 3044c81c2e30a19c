"""The sessions of the event log for people: commands of `ctxfs history`, and the views of `history show` and `replay`."""

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from ctxfs.cli import completion_values
from ctxfs.cli.groups import suggestion
from ctxfs.cli.hit_output import show_hit
from ctxfs.cli.options import json_option, limit_option, principal_option
from ctxfs.cli.output import print_json, print_line, warn, write_bytes
from ctxfs.cli.pager import paged
from ctxfs.cli.search import read_question
from ctxfs.cli.session_output import show_day_message, show_overview, show_turn
from ctxfs.daemon.session import StoreSession
from ctxfs.daemon.session import session as opened_session
from ctxfs.eventlog.record_text import said_at_of
from ctxfs.model.errors import EXIT_NOT_KNOWN, EXIT_NOTHING_FOUND, CommandError

_PAGE_RECORDS = 500
_MAX_GAP_SECONDS = 10.0

no_pager_option = click.option("--no-pager", is_flag=True, help="Print to the terminal without $PAGER")


@click.command()
@click.option("--since", default="", metavar="TIME", help="Limit to sessions since 7d, or a date")
@click.option("--client", default="", metavar="NAME", help="Limit to a client, such as claude-code")
@principal_option("Limit to a principal, such as agent:alice", hidden_aliases=["--agent"], default="")
@limit_option("sessions", default=30)
@no_pager_option
@json_option()
@click.pass_obj
def sessions(
    store: str | None, since: str, client: str, principal: str, limit: int, no_pager: bool, as_json: bool
) -> None:
    """List sessions, newest first"""
    name = principal if not principal or ":" in principal else f"agent:{principal}"
    with opened_session(store) as opened:
        overviews = opened.call("sessions", since=since, client=client, principal=name, limit=limit)
    if as_json:
        print_json(overviews)
    else:
        with paged(not no_pager and bool(overviews)):
            for overview in overviews:
                show_overview(overview)
    if not overviews:
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)


@click.command()
@click.argument("date", default="")
@limit_option("messages, the last", default=1000)
@no_pager_option
@json_option()
@click.pass_obj
def day(store: str | None, date: str, limit: int, no_pager: bool, as_json: bool) -> None:
    """Print a day as a timeline of all sessions

    DATE is in UTC [default: today], and messages have the times of their clients.
    """
    with opened_session(store) as opened:
        result = opened.call("session_day", day=date, limit=limit)
    if as_json:
        print_json(result)
    elif result["messages"]:
        with paged(not no_pager):
            print_line(result["day"], bold=True)
            for message in result["messages"]:
                show_day_message(message)
    if not result["messages"]:
        warn(f"no message on {result['day']}")
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND)


@click.command(name="search")
@click.argument("words", nargs=-1, required=True)
@limit_option("hits", default=10, maximum=200)
@no_pager_option
@json_option("Print text, lines, score and signals as JSON")
@click.pass_obj
def search_records(store: str | None, words: tuple[str, ...], limit: int, no_pager: bool, as_json: bool) -> None:
    """Search the records of sessions

    The same as `ctxfs search --below history`: filters are session:, speaker:, `said:>2026-10-01`, and those of search.
    """
    question = read_question(words)
    with opened_session(store) as opened:
        answer = opened.call("search", question=question, below="history", limit=limit)
    for note in (*answer["notes"], *answer["remarks"]):
        warn(note)
    if as_json:
        print_json(answer)
    else:
        with paged(not no_pager and bool(answer["hits"])):
            for rank, hit in enumerate(answer["hits"], 1):
                show_hit(rank, hit, hit["path"], answer["terms"])
    if not answer["hits"] or answer["answer"]["verdict"] == "unknown":
        if not as_json:
            warn(
                "unknown: no record seems to answer this"
                if answer["complete"]
                else "not known: the search is incomplete"
            )
        raise click.exceptions.Exit(EXIT_NOTHING_FOUND if answer["complete"] else EXIT_NOT_KNOWN)


def show_session(
    store: str | None, name: str, limit: int | None, *, is_whole: bool, as_json: bool, no_pager: bool
) -> None:
    """Print the turns of a session, or its last `limit` records; raise CommandError for an unknown one."""
    with opened_session(store) as opened:
        records = _records_of(opened, _resolve_name(opened, name), limit)
        if as_json:
            for record in records:
                write_bytes((json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
            return
        with paged(not no_pager):
            day = ""
            for record in records:
                day = show_turn(record, day, is_whole=is_whole)


def replay_session(store: str | None, name: str, limit: int | None, *, speed: float, as_json: bool) -> None:
    """Print the records of a session in order; with a speed wait between them for the time that was between them, divided by it."""
    if not speed:
        show_session(store, name, limit, is_whole=True, as_json=as_json, no_pager=True)
        return
    with opened_session(store) as opened:
        day, last = "", None
        for record in _records_of(opened, _resolve_name(opened, name), limit):
            moment = said_at_of(record)
            time.sleep(_gap_seconds(last, moment) / speed)
            day, last = show_turn(record, day, is_whole=True), moment or last


def _gap_seconds(last: datetime | None, moment: datetime | None) -> float:
    """Return the time between two records, at most ten seconds; 0 if a clock went backwards or a time is unknown."""
    if last is None or moment is None:
        return 0.0
    return min(max(0.0, (moment - last).total_seconds()), _MAX_GAP_SECONDS)


def _records_of(opened: StoreSession, name: str, limit: int | None) -> Iterator[dict[str, Any]]:
    """Yield the records of a session, page by page, or its last `limit` ones."""
    from collections import deque

    def pages() -> Iterator[dict[str, Any]]:
        after = ""
        while page := opened.call("session_records", session=name, after=after, limit=_PAGE_RECORDS):
            yield from page
            after = page[-1]["cite"]

    return pages() if limit is None else iter(deque(pages(), maxlen=limit))


def _resolve_name(opened: StoreSession, name: str) -> str:
    """Return the session of a name, or the only one that begins with it. Raise CommandError, with the nearest names."""
    names: list[str] = opened.call("session_names")
    if name in names:
        return name
    matches = [candidate for candidate in names if candidate.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = ", ".join(f"'{match}'" for match in matches[:5])
        raise CommandError(
            f"{len(matches)} sessions begin with '{name}'", f"give more of it: {shown}", EXIT_NOTHING_FOUND
        )
    hint = suggestion(name, names).strip() or "see: ctxfs history sessions"
    raise CommandError(f"there is no session '{name}'", hint, EXIT_NOTHING_FOUND)


session_argument = click.argument(
    "name", metavar="[SESSION]", required=False, default="", shell_complete=completion_values.history_sessions
)
