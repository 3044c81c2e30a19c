"""Collection of captured events: from the capture spool into the event log, each exactly once.

A collection renames the spool to a batch, appends the records of the batch to the sessions of the clients, and deletes
the batch. A record contains the id of its event (`from`). So after a kill, the next collection leaves out the events of
an old batch that are in the log already.
"""

import contextlib
import errno
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path as HostPath
from typing import Any, NamedTuple

from ctxfs.eventlog.capture_spool import (
    CAPTURE_ORIGIN,
    DROPPED,
    FOLDER,
    SPOOL,
    SUFFIX,
    is_linked,
    lock_nowait,
    parse_dropped,
)
from ctxfs.eventlog.client_sessions import client_name, session_of_client
from ctxfs.eventlog.event_reports import EventReports, Report, event_key
from ctxfs.eventlog.log import EventLog
from ctxfs.eventlog.private_text import map_texts
from ctxfs.eventlog.record_schema import make_record_body
from ctxfs.eventlog.record_text import TOOL_KINDS
from ctxfs.model.errors import CommandError
from ctxfs.model.principal import parse_principal
from ctxfs.store.lock import exclusive_folder

log = logging.getLogger(__name__)

_BATCH_PREFIX = "batch-"
_OWN_PREFIX = "own-"
_FROM_PREFIX = "capture:"
_NO_SESSION = "unnamed"
_CLIENT = "capture"  # of notes about the capture itself
_WINDOW_ENDS = {"compaction": "", "session_start": "clear"}  # kind → the reason with which it empties the window
_MAX_BATCH_BYTES = 256_000_000
_BLOCK_BYTES = 1 << 20
_MAX_SLICE_CHARS, _MAX_SLICE_EVENTS = 8_000_000, 1000

Withhold = Callable[[str], tuple[str, tuple[str, ...]]]


class CaptureEvent(NamedTuple):
    """A captured event. The `key` is the same for all reports of the event."""

    key: bytes
    report: Report
    session: str
    body: dict[str, Any]


class EndedWindow(NamedTuple):
    """A window of a client's model that was emptied, by compaction or on request."""

    session: str
    principal: str


class Collected(NamedTuple):
    """The number of new records, and the windows that ended."""

    records: int = 0
    ended: tuple[EndedWindow, ...] = ()


class WaitingEvents(NamedTuple):
    """The events in the spool: those that wait for their collection, and those that did not fit into the spool."""

    waiting: int = 0
    dropped: int = 0


class CaptureCollector:
    """The collector of a store's capture spool. Methods block; several processes may collect at once."""

    def __init__(self, events: EventLog, folder: HostPath, owner: str, withhold: Withhold) -> None:
        """Collect into `events` from `<folder>/capture`.

        `owner` is the principal of events without a valid one. `withhold` removes secrets from calls of tools and their results.
        """
        self._events = events
        self._folder = folder / FOLDER
        self._owner = owner
        self._withhold = withhold
        self._reports = EventReports()

    def collect(self) -> Collected:
        """Append the spooled events to the event log. Raise OSError if the log cannot be written; nothing is lost then."""
        if not self.has_events():
            return Collected()
        with exclusive_folder(self._folder):
            results = [self._append_batch(name, is_old=True) for name in self._names(_BATCH_PREFIX)]
            results += [self._append_batch(name, is_old=False) for name in self._take()]
        return Collected(sum(r.records for r in results), tuple(window for r in results for window in r.ended))

    def has_events(self) -> bool:
        """Return True if there are events to collect. Takes microseconds, so that an idle daemon may call it often."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return False
        return any(name.endswith(SUFFIX) or name == DROPPED for name in names)

    def count_waiting(self) -> WaitingEvents:
        """Return the numbers of events in the spool, which at most has some ten megabytes."""
        waiting = dropped = 0
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._folder):
                # The collector may delete a file at this moment.
                with contextlib.suppress(FileNotFoundError):
                    if name == DROPPED:
                        dropped = parse_dropped((self._folder / name).read_bytes())[0]
                    elif name.endswith(SUFFIX) and not name.startswith("."):
                        waiting += _count_lines(self._folder / name)
        return WaitingEvents(waiting, dropped)

    def _names(self, prefix: str) -> list[str]:
        return sorted(name for name in os.listdir(self._folder) if name.startswith(prefix) and name.endswith(SUFFIX))

    def _take(self) -> Iterator[str]:
        """Rename the spool, and the files of writers that did not get its lock, to batches; yield their names."""
        batch = f"{_BATCH_PREFIX}{os.urandom(8).hex()}{SUFFIX}"
        path = self._folder / SPOOL
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                # A writer holds the lock for a fraction of a millisecond. One that is stopped delays its own events only.
                if lock_nowait(fd) and is_linked(fd, str(path)):
                    self._take_dropped(fd)
                    os.rename(path, self._folder / batch)
                    yield batch
            finally:
                os.close(fd)
        for name in self._names(_OWN_PREFIX):
            batch = f"{_BATCH_PREFIX}{os.urandom(8).hex()}{SUFFIX}"
            os.rename(self._folder / name, self._folder / batch)
            yield batch

    def _take_dropped(self, fd: int) -> None:
        """Move the count of dropped events into the spool, as an event of its own."""
        try:
            count, first, last = parse_dropped((self._folder / DROPPED).read_bytes())
        except FileNotFoundError:
            return
        since, until = (datetime.fromtimestamp(time / 1e9, UTC).isoformat(timespec="seconds") for time in (first, last))
        text = f"{count} events were not recorded between {since} and {until}, because the spool was full"
        record = {"kind": "note", "text": text, "client": _CLIENT, "origin": CAPTURE_ORIGIN}
        event = {"id": os.urandom(8).hex(), "time": last, "sum": 0, "client": _CLIENT, "record": record}
        os.write(fd, b"\n" + json.dumps(event).encode() + b"\n")
        (self._folder / DROPPED).unlink()

    def _append_batch(self, name: str, *, is_old: bool) -> Collected:
        path = self._folder / name
        count, ended = 0, list[EndedWindow]()
        for events in _slices(self._read_events(path)):
            present = self._find_present(events) if is_old else set()
            # Each report is remembered, also that of an event which is in the log already.
            repeated = {event.report.id for event in events if self._reports.add(event.key, event.report)}
            new = [event for event in events if event.report.id not in present | repeated]
            by_session: dict[str, list[dict[str, Any]]] = {}
            for event in new:
                by_session.setdefault(event.session, []).append(event.body)
            for session, bodies in by_session.items():
                self._append_records(session, bodies)
            count += len(new)
            ended += [EndedWindow(e.session, str(e.body["principal"])) for e in new if _ends_window(e.body)]
        path.unlink()
        return Collected(count, tuple(dict.fromkeys(ended)))

    def _append_records(self, session: str, bodies: list[dict[str, Any]]) -> None:
        """Append records; leave out those that the log refuses, each with a warning. Raise OSError for a full disk."""
        try:
            self._events.append(session, bodies, durable=True)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            if len(bodies) == 1:
                log.warning("a captured event of the session '%s' is no record: %s", session, error)
                return
            for body in bodies:
                self._append_records(session, [body])

    def _read_events(self, path: HostPath) -> Iterator[CaptureEvent]:
        if path.stat().st_size > _MAX_BATCH_BYTES:  # more than hooks ever write
            log.warning("the captured events in '%s' are too many, and are left there", path)
            path.rename(path.with_suffix(".too-large"))
            return
        with open(path, "rb") as file:
            for line in file:
                if not line.strip():
                    continue
                try:
                    yield self._parse_event(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
                    log.warning("a captured event in '%s' cannot be read", path.name)  # a power cut may leave any bytes

    def _parse_event(self, line: Mapping[str, Any]) -> CaptureEvent:
        client = client_name(str(line["client"]))
        record = {**line["record"], "client": client}
        if record.get("kind") in TOOL_KINDS:
            record = self._without_secrets(record)
        body = make_record_body(record, self._principal_of(str(line.get("principal", ""))))
        session = session_of_client(client, str(record.get("client_session", "")) or _NO_SESSION)
        hook = client_name(str(line.get("hook") or client))
        call, turn = str(record.get("call", "")), str(record.get("turn", "")) if record.get("text") else ""
        report = Report(str(line["id"]), int(line["time"]), int(line["sum"]), hook, turn, call)
        body = {**body, "from": f"{_FROM_PREFIX}{report.id}"}
        return CaptureEvent(event_key(client, record), report, session, body)

    def _principal_of(self, name: str) -> str:
        if not name:
            return self._owner
        try:
            return str(parse_principal(name))
        except CommandError:
            log.warning("captured events name the principal '%s', which is none", name[:80])
            return self._owner

    def _without_secrets(self, record: dict[str, Any]) -> dict[str, Any]:
        withheld: list[str] = []

        def clean(text: str) -> str:
            visible, kinds = self._withhold(text)
            withheld.extend(kinds)
            return visible

        cleaned = {
            name: map_texts(value, clean) if name in ("text", "data") else value for name, value in record.items()
        }
        return {**cleaned, "withheld": sorted(set(withheld))} if withheld else cleaned

    def _find_present(self, events: list[CaptureEvent]) -> set[str]:
        """Return the ids of events of an old batch that are in the log, on any day, because clocks jump."""
        sessions = {event.session for event in events}
        return {
            str(record.get("from", "")).removeprefix(_FROM_PREFIX)
            for day in self._events.days()
            for session in sessions.intersection(self._events.sessions(day))
            for record in self._events.records(day, session)
        }


def _count_lines(path: HostPath) -> int:
    count = 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            count += block.count(b"\n")
    return count


def _slices(events: Iterator[CaptureEvent]) -> Iterator[list[CaptureEvent]]:
    """Yield the events in lists of bounded size."""
    part, characters = list[CaptureEvent](), 0
    for event in events:
        part.append(event)
        characters += len(str(event.body.get("text", ""))) + len(str(event.body.get("data", "")))
        if characters > _MAX_SLICE_CHARS or len(part) >= _MAX_SLICE_EVENTS:
            yield part
            part, characters = [], 0
    if part:
        yield part


def _ends_window(body: Mapping[str, Any]) -> bool:
    reason = _WINDOW_ENDS.get(str(body["kind"]))
    return reason == "" or (reason is not None and body.get("reason") == reason)
