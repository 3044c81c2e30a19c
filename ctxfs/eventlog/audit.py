"""The audit: a chain of records of all audited operations, at `<store>/history/audit/<date>/audit.jsonl`.

Processes write events to spools (`spool`). The audit collects them, one record for each event, exactly once: a record
contains the id of its spool and the event's sequence number. So a collection that was killed resumes after the last
event in the chain.

Reads of files in one directory that follow each other are one record: `path` is the directory, `names` are the files,
`at` and `until` the times of the first and the last read, and the sequence number is that of the last. A `grep -r` over
10,000 files would otherwise be 10,000 records. `records` returns a record for each file again.
"""

import contextlib
import errno
import fcntl
import heapq
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path as HostPath
from typing import Any

from ctxfs.eventlog.appended_lines import blocks_from_end
from ctxfs.eventlog.chain import Link, Verified, body_of, parse_record
from ctxfs.eventlog.log import EventLog, encode_member, encode_text, lines_with
from ctxfs.eventlog.spool import Spool, query_digest, redact_query
from ctxfs.store.lock import exclusive_folder

log = logging.getLogger(__name__)

SESSION = "audit"
_SPOOL_FOLDER = "spool"
_BATCH_RECORDS = 100
_MAX_JOINED_READS = 200
_MAX_OPEN_DIRECTORIES = 8  # programs such as rg read several directories at once
_RARE_MEMBERS = ("session", "op", "outcome", "principal", "tool")  # the first one of a filter selects lines
_ACTOR_MEMBERS = ("principal", "session", "tool", "outcome")
_FROM_MEMBER = re.compile(rb'"from": "([0-9a-f]{16}):(\d+)"')  # unambiguous, because JSON escapes quotes inside texts
_PAUSE_SECONDS = 0.02  # between two batches, so that other threads of this process can run


@dataclass(slots=True)
class _SpoolPosition:
    """The read position in a spool file."""

    offset: int = 0
    read_size: int = 0  # the file's size at the last complete read; the rest after `offset` is less than a line
    spool: str = ""
    actors: dict[int, Mapping[str, str]] = field(default_factory=dict)


class Audit:
    """The audit of a store. Methods block.

    One thread at a time may use an object; several processes may use the folder.
    """

    def __init__(self, folder: HostPath, *, enabled: bool = True) -> None:
        """Open the audit in `folder`, which is `<store>/history/audit`."""
        self.log = EventLog(folder)
        self.spools = folder / _SPOOL_FOLDER if enabled else None
        self._positions: dict[str, _SpoolPosition] = {}
        self._last_link: Link | None = None
        self._scanned_days: set[str] = set()  # days whose records are in `_collected`
        self._collected: dict[str, int] = {}  # spool id → number of its last event in the chain

    def spool(self) -> Spool:
        """Return a spool for the events of this process."""
        return Spool(self.spools)

    def collect(self, max_records: int = 1 << 62) -> int:
        """Append the spooled events to the chain; return the number of new records, in which reads are joined.

        It stops after the batch that reaches `max_records` records.
        """
        if self.spools is None or not self.spools.is_dir():
            return 0
        with exclusive_folder(self.spools):
            if self.log.head() != self._last_link:  # another process has collected meanwhile
                self._positions.clear()
                self._collected.clear()
                self._scanned_days.clear()
            count, batch = 0, list[dict[str, Any]]()
            names = sorted(name for name in os.listdir(self.spools) if name.endswith(".jsonl"))
            for body in chain.from_iterable(map(self._read_events, names)):
                if _join_read(batch, body):
                    continue
                batch.append(body)
                if len(batch) >= _BATCH_RECORDS:
                    count += len(self.log.append(SESSION, batch, durable=True))
                    batch = []
                    if count >= max_records:
                        break
                    time.sleep(_PAUSE_SECONDS)
            count += len(self.log.append(SESSION, batch, durable=True)) if batch else 0
            if count:
                self._last_link = self.log.head()
            for name in names:
                self._remove_finished(name)
        return count

    def records(self, *, day: str = "", limit: int = 1000, **members: str) -> list[dict[str, Any]]:
        """Return the newest `limit` records, oldest first, whose members equal `members`.

        `path` also matches paths below it, and the digest of a query with this text. Days are read from their ends, and
        only as far as needed.
        """
        path = members.pop("path", "")
        wanted = _Wanted({name: value for name, value in members.items() if value}, path)
        days = [day] if day else self.log.days()
        newest = (record for name in reversed(days) for record in self._newest_first(name, wanted))
        matches = list(islice(newest, limit))
        matches.reverse()  # the parts of a joined read have one number
        return sorted(matches, key=itemgetter("seq"))

    def newest(self, max_bytes: int, after: int = -1) -> list[dict[str, Any]]:
        """Return the records behind `after` that are in about the last `max_bytes` of the last two days, oldest first.

        The time does not depend on the size of the audit.
        """
        records, size = list[dict[str, Any]](), 0
        for day in self.log.days()[:-3:-1]:
            for block in blocks_from_end(self.log, day, SESSION):
                for record in _parse_lines(reversed(block.splitlines())):
                    if record["seq"] <= after:
                        return records[::-1]
                    records.append(_body(record))
                size += len(block)
                if size >= max_bytes:
                    return records[::-1]
        return records[::-1]

    def _newest_first(self, day: str, wanted: "_Wanted") -> Iterator[dict[str, Any]]:
        """Yield the matching records of a day, the newest first."""
        sessions = self.log.sessions(day)
        if sessions == [SESSION]:
            return self._newest_of(day, SESSION, wanted)
        return heapq.merge(
            *(self._newest_of(day, name, wanted) for name in sessions), key=itemgetter("seq"), reverse=True
        )

    def _newest_of(self, day: str, session: str, wanted: "_Wanted") -> Iterator[dict[str, Any]]:
        for block in blocks_from_end(self.log, day, session):
            records = map(_body, _parse_lines(lines_with(block, *wanted.parts)))
            parts = [part for record in records for part in split_read(record) if wanted.matches(part)]
            yield from reversed(parts)

    def verify(self) -> Verified:
        """Verify the chain."""
        return self.log.verify()

    def _read_events(self, name: str) -> Iterator[dict[str, Any]]:
        assert self.spools is not None
        state = self._positions.setdefault(name, _SpoolPosition())
        try:
            with open(self.spools / name, "rb") as file:
                file.seek(state.offset)
                data = file.read()
        except OSError as error:
            log.warning("cannot read the spooled audit '%s': %s", name, error)
            return
        size = state.offset + len(data)
        for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
            state.offset += len(line)
            try:
                body = self._parse_line(state, json.loads(line), name)
            except (ValueError, KeyError, TypeError):
                log.warning("a line of the spooled audit '%s' cannot be read", name)  # a power cut may leave any bytes
                continue
            if body is not None:
                yield body
        state.read_size = size  # last, because a caller that stops early reads the rest at the next collection

    def _parse_line(self, state: _SpoolPosition, line: Any, name: str) -> dict[str, Any] | None:
        """Return the body of the record for a spooled line.

        Return None for a line that defines an actor or names the spool, and for an event that is in the chain already.
        """
        if isinstance(line, dict):
            if "spool" in line:
                state.spool = str(line["spool"])
                if state.spool not in self._collected:
                    self._find_collected(int(name.split("-")[0]))
                    self._collected.setdefault(state.spool, 0)
            else:
                state.actors[int(line["actor"])] = {key: str(line[key]) for key in ("principal", "session", "tool")}
            return None
        number, time_ns, actor, op, path, to, outcome, times = line
        if number <= self._collected[state.spool]:
            return None
        self._collected[state.spool] = number
        recorded_at = datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds")
        body: dict[str, Any] = {"at": recorded_at, **state.actors.get(actor, {"session": ""}), "op": op}
        body |= {key: value for key, value in (("path", path), ("to", to)) if value}
        body |= {"outcome": outcome, **({"times": times} if times > 1 else {})}
        return {**body, "from": f"{state.spool}:{number}"}

    def _find_collected(self, begun_ns: int) -> None:
        """Find the last event in the chain of each spool.

        Events of a spool that was begun at `begun_ns` can only be in the records of that day and later ones.
        """
        since = datetime.fromtimestamp(begun_ns / 1e9, UTC).date().isoformat()
        for day in self.log.days():
            if day < since or day in self._scanned_days:
                continue
            self._scanned_days.add(day)
            for spool, number in _FROM_MEMBER.findall(self.log.read(day, SESSION)):
                previous = self._collected.get(spool.decode(), 0)
                self._collected[spool.decode()] = max(previous, int(number))

    def _remove_finished(self, name: str) -> None:
        """Delete a spool file that is in the chain completely and has no writer any more."""
        assert self.spools is not None
        state = self._positions.get(name)
        if state is None:
            return  # not read yet, because the collection stopped before it
        with contextlib.suppress(OSError):
            fd = os.open(self.spools / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                # The writer holds a shared lock, which the kernel releases when the process ends.
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_size == state.read_size:
                    os.unlink(self.spools / name)
                    del self._positions[name]
            finally:
                os.close(fd)


class _Wanted:
    """The records that a request selects: equal members, and a path or a query."""

    def __init__(self, members: Mapping[str, str], path: str) -> None:
        self._members = members
        self._base, self._digest = redact_query(path.strip("/")), query_digest(path)
        self.parts = self._line_parts()

    def matches(self, record: Mapping[str, Any]) -> bool:
        """Return True for a record that is selected; reads are split."""
        if not all(record.get(name) == value for name, value in self._members.items()):
            return False
        return not self._base or any(
            _is_below(str(record.get(name, "")), self._base, self._digest) for name in ("path", "to")
        )

    def _line_parts(self) -> tuple[bytes, ...]:
        """Return texts of which a line with a selected record has at least one; an empty one for any line."""
        for name in _RARE_MEMBERS:
            if name in self._members:
                return (encode_member((name, self._members[name])),)
        if not self._base:
            return (b"",)
        above = self._base.rpartition("/")[0] or self._base  # joined reads have the directory and the names
        return tuple(encode_text(text) for text in (above, self._digest))


def _parse_lines(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the records of lines. Invalid lines are omitted (`verify` reports them)."""
    for line in lines:
        with contextlib.suppress(ValueError):
            yield parse_record(line)


def _body(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"seq": record["seq"], **body_of(record)}


def _join_read(batch: list[dict[str, Any]], body: dict[str, Any]) -> bool:
    """Add a read to the record of the same directory among the last reads of a batch; return False if there is none."""
    folder, separator, name = str(body.get("path", "")).rpartition("/")
    if body["op"] != "read" or not separator or "times" in body:
        return False
    for other in reversed(batch[-_MAX_OPEN_DIRECTORIES:]):
        if other["op"] != "read" or "times" in other:
            return False  # the order of reads and other operations stays
        is_joined = "names" in other
        path = other["path"] if is_joined else str(other.get("path", "")).rpartition("/")[0]
        if path != folder or any(other.get(key) != body.get(key) for key in _ACTOR_MEMBERS):
            continue
        if str(other["from"]).partition(":")[0] != str(body["from"]).partition(":")[0]:
            continue
        names = other["names"] if is_joined else [str(other["path"]).rpartition("/")[2]]
        if len(names) >= _MAX_JOINED_READS:
            return False
        other |= {"path": folder, "names": [*names, name], "until": body["at"], "from": body["from"]}
        return True
    return False


def split_read(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a record for each file of a joined read; another record as it is."""
    names = record.get("names")
    if not isinstance(names, list):
        yield dict(record)
        return
    common = {key: value for key, value in record.items() if key != "names"}
    yield from ({**common, "path": f"{record['path']}/{name}"} for name in names)


def _is_below(path: str, base: str, digest: str) -> bool:
    return path == base or path.startswith(base + "/") or digest in path.split("/")


def errno_name(error: OSError) -> str:
    """Return the symbolic name of the error's errno, `EIO` without one."""
    return errno.errorcode.get(error.errno or errno.EIO, "EIO")
