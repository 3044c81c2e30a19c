"""The sessions of the event log as lists for people: overviews, the records of one, the messages of a day.

For the calling principal: the records in files that it may read, and its own records. Methods block. Files are read as
streams, so that memory is bounded by the results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path as HostPath
from typing import Any, Protocol

from ctxfs.context.episodes.builder import SESSION_KINDS, first_question
from ctxfs.eventlog.chain import FORGOTTEN, body_of
from ctxfs.eventlog.record_text import message_of, parse_line, said_at_of
from ctxfs.eventlog.said_days import DATABASE_NAME, SaidDays
from ctxfs.eventlog.session_files import SessionFile, SessionFiles, count_lines, lines_of_file, read_tail
from ctxfs.model.path import Path
from ctxfs.store.derived_db import DerivedFile
from ctxfs.vfs.caller_context import acting_principal

_HEAD_RECORDS = 60  # of a session, for its overview
_TAIL_BYTES = 65_536
_MAX_TITLE_CHARS = 200
_MAX_TEXT_CHARS = 2_000  # of a message in a day
_TALK_KINDS = frozenset(("input", "output", "note"))


class RecordScope(Protocol):
    """The files that the calling principal may read."""

    def may_read(self, path: Path) -> bool:
        """Return True if the calling principal may read a file."""
        ...


@dataclass(slots=True)
class SessionOverview:
    """A session: times of its messages, number of records, names, and the first question. Names may be incomplete.

    Of a long session only the beginning and the end are examined.
    """

    session: str
    records: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    principals: set[str] = field(default_factory=set)
    clients: set[str] = field(default_factory=set)
    title: str = ""

    def add(self, record: Mapping[str, Any]) -> None:
        """Take the names, the time and the question of a record."""
        self.principals |= {str(record["principal"])} if record.get("principal") else set()
        self.clients |= {str(record["client"])} if record.get("client") else set()
        moment = said_at_of(record)
        if moment is not None:
            self.first_at, self.last_at = min(self.first_at or moment, moment), max(self.last_at or moment, moment)
        if not self.title and record.get("kind") == "input":
            message = message_of(record)
            self.title = first_question(message.text)[:_MAX_TITLE_CHARS] if message is not None else ""

    def as_record(self) -> dict[str, Any]:
        """Return plain values."""
        first, last = (moment.isoformat() if moment else "" for moment in (self.first_at, self.last_at))
        return {
            "session": self.session,
            "records": self.records,
            "first_at": first,
            "last_at": last,
            "principals": sorted(self.principals),
            "clients": sorted(self.clients),
            "title": self.title,
        }


class SessionRecords:
    """The records of sessions that the calling principal may see."""

    def __init__(self, files: SessionFiles, scope: RecordScope, derived: HostPath) -> None:
        """Serve these files; `derived` is the folder of derived databases."""
        self._files = files
        self._scope = scope
        self._said_days = DerivedFile(derived / DATABASE_NAME, lambda: SaidDays(files, derived))

    def names(self) -> list[str]:
        """Return the visible sessions, sorted."""
        files = [file for day in self._files.days() for file in self._files.of_day(day)]
        readable = {file.session for file in files if self._may_read(file)}
        others = {file.session: file for file in files if file.session not in readable}
        return sorted(readable | {name for name in others if any(True for _ in self.records(name))})

    def overviews(self, since_ns: int, client: str, principal: str, limit: int) -> list[dict[str, Any]]:
        """Return the sessions with the newest changes, newest first; empty texts match everything."""
        by_session: dict[str, list[SessionFile]] = {}
        for day in self._files.days():
            for file in self._files.of_day(day):
                by_session.setdefault(file.session, []).append(file)
        ordered = sorted(by_session.items(), key=lambda item: (-max(f.mtime_ns for f in item[1]), item[0]))
        overviews = (self._overview(session, files) for session, files in ordered)
        visible = (overview for overview in overviews if overview is not None)
        matches = (overview for overview in visible if _is_match(overview, since_ns, client, principal))
        return [overview.as_record() for overview in islice(matches, limit)]

    def records(self, session: str, after: tuple[str, int] = ("", 0)) -> Iterator[dict[str, Any]]:
        """Yield the records of a session after a position (day, line), in order, with their citation as `cite`.

        A record of more than a megabyte is cut, and has `cut`.
        """
        for file in self._files.of_session(session):
            if file.day >= after[0]:
                first = after[1] if file.day == after[0] else 0
                for number, record in self._visible(file):
                    if number > first:
                        cut = {} if "hash" in record else {"cut": True}
                        yield {"cite": f"{file.name}:{number}", "seq": record.get("seq", 0), **body_of(record), **cut}

    def day(self, day: str, limit: int) -> list[dict[str, Any]]:
        """Return the last `limit` messages of a day (UTC, by their own times), and counts of the other records.

        Records that were imported later are found, too. Each entry has session, cite, at, kind, speaker, text and
        `tools`, the number of records of tools since the last message of the session.
        """
        entries: list[tuple[str, int, dict[str, Any]]] = []
        for file in self._said_days.use(lambda days: days.files_of(day)):
            entries += self._messages(file, day)
        entries.sort(key=lambda entry: entry[:2])
        return [entry for *_, entry in entries[-limit:]]

    def _messages(self, file: SessionFile, day: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
        tools = 0
        for number, record in self._visible(file):
            moment, message = said_at_of(record), message_of(record)
            if moment is None or moment.date().isoformat() != day or record.get("kind") in SESSION_KINDS:
                continue
            if message is None or message.kind not in _TALK_KINDS:
                tools += 1
                continue
            at, seq = moment.isoformat(timespec="seconds"), record.get("seq")
            entry = {
                "session": file.session,
                "cite": f"{file.name}:{number}",
                "at": at,
                "kind": message.kind,
                "speaker": message.speaker,
                "text": message.text[:_MAX_TEXT_CHARS],
                "tools": tools,
            }
            yield at, seq if isinstance(seq, int) else 0, entry
            tools = 0

    def _may_read(self, file: SessionFile) -> bool:
        return self._scope.may_read(Path.parse(file.name))

    def _visible(self, file: SessionFile) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (line, record) of the records of a file that the calling principal may see, without erased ones."""
        own = "" if self._may_read(file) else str(acting_principal())
        for number, _, line in lines_of_file(file):
            record = parse_line(line.data, is_head=line.is_head)
            if record is not None and FORGOTTEN not in record and own in ("", record.get("principal")):
                yield number, record

    def _overview(self, session: str, files: Sequence[SessionFile]) -> SessionOverview | None:
        """Return the overview of a session; None if the calling principal sees no record of it."""
        overview = SessionOverview(session)
        for file in files:
            if not self._may_read(file):
                for _, record in self._visible(file):
                    overview.add(record)
                    overview.records += 1
                continue
            for _, record in islice(self._visible(file), _HEAD_RECORDS):
                overview.add(record)
            for record in _tail_of(file):
                overview.add(record)
            overview.records += count_lines(file)
        return overview if overview.principals else None


def _is_match(overview: SessionOverview, since_ns: int, client: str, principal: str) -> bool:
    last_ns = overview.last_at.timestamp() * 1e9 if overview.last_at is not None else 0
    is_named = not principal or principal in overview.principals
    is_recent = not since_ns or last_ns >= since_ns  # messages may be older than 1970
    return is_recent and is_named and (not client or client in overview.clients)


def _tail_of(file: SessionFile) -> list[dict[str, Any]]:
    """Return the last records of a file, without erased ones."""
    if file.is_compressed:
        lines = list(deque((line.data for _, _, line in lines_of_file(file)), maxlen=_HEAD_RECORDS))
    else:
        lines = read_tail(file, _TAIL_BYTES)
    records = (parse_line(line) for line in lines)
    return [record for record in records if record is not None and FORGOTTEN not in record]
