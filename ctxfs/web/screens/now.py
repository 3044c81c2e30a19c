"""The screen *Now*: sources and their coverage, waiting work with its commands, agents of the last hour, the audit live."""

from collections.abc import AsyncIterator, Mapping

import trio
from starlette.responses import Response, StreamingResponse

from ctxfs.http.daemon_sessions import DaemonAway
from ctxfs.index.indexer_status import format_remaining, index_fault
from ctxfs.model.errors import CommandError
from ctxfs.services.waiting_work import waiting_work
from ctxfs.web.bars import stack
from ctxfs.web.page import Page, Screen

_SHOWN_OPERATIONS = 100
_SHOWN_WAITING = 20
_WAIT_SECONDS = 20.0
_RETRY_SECONDS = 1.0
_MAX_DIGITS = 19
_OUTCOMES = {"refused": "EACCES"}


async def _now(page: Page) -> Response:
    report, activity, listed, newest = await page.call_all(
        ("status", {}),
        ("activity", {}),
        ("reviews", {}),
        ("follow_audit", {"limit": _SHOWN_OPERATIONS, **_filters(page)}),
    )
    reviews = [review for review in listed if not review["decision"]]
    index = report["index"]
    embedded = index["embeddable"] - index["waiting_for_meaning"]
    return page.render(
        "now.html",
        report=report,
        index=index,
        fault=index_fault(index),
        embedded=embedded,
        remaining=format_remaining(index["waiting_for_meaning"], index.get("chunks_per_second", 0.0)),
        words_bar=stack([("searchable files", index["searchable"], "part0")], max(1, index["files"])),
        meaning_bar=stack([("embedded chunks", embedded, "part2")], max(1, index["embeddable"])),
        waiting=waiting_work(report)[:_SHOWN_WAITING],
        reviews=reviews[:_SHOWN_WAITING],
        review_count=len(reviews),
        activity=activity,
        operations=newest["records"][::-1],
        last=newest["last"],
    )


async def _doctor(page: Page) -> Response:
    """Show the failed checks of `ctxfs doctor`: as a part of the screen, which is loaded after it, or on a page of their own."""
    age = {"max_age": 0.0} if page.query.get("again", "") == "1" else {}
    report = await page.call("doctor", **age)
    return page.render("now_doctor_part.html" if page.is_fragment else "now_doctor.html", report=report)


def _filters(page: Page) -> Mapping[str, str]:
    outcome = page.query.get("outcome", "")
    filters = {name: page.query.get(name, "") for name in ("principal", "op")}
    return filters | {"outcome": _OUTCOMES.get(outcome, outcome)}


async def _live(page: Page) -> Response:
    """Send new operations of the audit as they happen (server-sent events)."""
    filters = _filters(page)
    first = await page.call("follow_audit", limit=1, **filters)  # refuses agents before the stream begins
    if not page.streams.value:
        raise CommandError("too many windows follow the audit already", "close one of them")
    return StreamingResponse(
        _events(page, filters, _start_after(page, int(first["last"]))), media_type="text/event-stream"
    )


def _start_after(page: Page, newest: int) -> int:
    """Return the number of the record that the stream begins after, so that none is lost or shown twice.

    That is the last one that the browser had before it connected again, else the last one in the list of the page.
    """
    for text in (page.last_event_id, page.query.get("after", "")):
        if text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS:
            return min(int(text), newest)
    return newest


async def _events(page: Page, filters: Mapping[str, str], last: int) -> AsyncIterator[str]:
    away = ""
    async with page.streams:
        yield "retry: 2000\n\n"
        while True:
            try:
                answer = await page.call("follow_audit", after=last, wait=_WAIT_SECONDS, **filters)
            except DaemonAway as error:
                if away != error.subject:
                    yield f"event: away\ndata: {error.subject} is away\n\n"
                away = error.subject
                await trio.sleep(_RETRY_SECONDS)
                continue
            except (CommandError, OSError):
                return  # the session has ended, or its rights have changed: the browser connects again
            if away:
                yield "event: back\ndata: .\n\n"
            away, last = "", int(answer["last"])
            rows = [page.fragment("now_operation.html", operation=operation) for operation in answer["records"]]
            for number, row in enumerate(rows, 1):
                identifier = f"id: {last}\n" if number == len(rows) else ""
                yield f"event: row\n{identifier}data: {' '.join(row.split())}\n\n"
            if not answer["records"]:
                yield ": idle\n\n"


SCREENS = (Screen("now", _now, "Now"), Screen("now/doctor", _doctor), Screen("now/live", _live))
