"""The audit spool: files of events between the processes that produce them and the audit that collects them.

Each process appends to a file below `<store>/history/audit/spool/`, in JSON lines. `{"spool": id}` is the first line. A
line `{"actor": number, "principal": …, "session": …, "tool": …}` precedes the first event of an actor. Events are `[n,
time_ns, actor, op, path, to, outcome, times]`, with `n` counting from 1 over all files of a spool.

Events are buffered for a tenth of a second at most (`flush`), or until an fsync; after that they survive a kill of the
process. The writer holds a shared flock until it ends.
"""

import fcntl
import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii as quoted  # a string as JSON, at a fraction of `dumps`
from pathlib import Path as HostPath
from typing import NamedTuple

log = logging.getLogger(__name__)

OK = "ok"
_MAX_SEGMENT_BYTES = 4_000_000
_MAX_UNFLUSHED_EVENTS = 1000
_MAX_BUFFERED_EVENTS = 100_000
_EMPTY_STRING = '""'


class AuditActor(NamedTuple):
    """The principal, session and tool on whose behalf an operation runs."""

    principal: str
    session: str
    tool: str


# (time in nanoseconds, actor, event as returned by `encode_event`, repetitions). A plain tuple for speed, because a reader of
# many files records an event for each.
_Event = tuple[int, AuditActor, str, int]


class Spool:
    """The events of one process. For one thread."""

    def __init__(self, folder: HostPath | None) -> None:
        """Create a spool below `folder`; without a folder, discard all events."""
        self._folder = folder
        self._buffer: list[_Event] = []
        self._id = secrets.token_hex(8)
        self._actors: dict[AuditActor, int] = {}
        self._last_number = 0
        self._lost_events = 0
        self._fd = -1
        self._size = 0

    @property
    def has_buffered(self) -> bool:
        """True while events are buffered."""
        return bool(self._buffer)

    def record_event(self, actor: AuditActor, op: str, path: str, to: str = "", outcome: str = OK) -> None:
        """Record an operation that was just carried out or refused."""
        if self._folder is None:
            return
        self.record_events(actor, [(time.time_ns(), encode_event(op, path, to, outcome))])

    def record_events(self, actor: AuditActor, events: Iterable[tuple[int, str]]) -> None:
        """Record several operations as (time in nanoseconds, event as returned by `encode_event`).

        Equal consecutive events become one event with a count.
        """
        if self._folder is None:
            return
        buffer = self._buffer
        last = buffer[-1][2] if buffer and buffer[-1][1] == actor else ""
        for time_ns, event in events:
            if event == last:
                buffer[-1] = (*buffer[-1][:3], buffer[-1][3] + 1)
            else:
                buffer.append((time_ns, actor, event, 1))
                last = event
        if len(buffer) >= _MAX_UNFLUSHED_EVENTS:
            self.flush()

    def flush(self) -> None:
        """Write the buffered events to the file, so that they survive the end of this process.

        After a failed write the events stay buffered. Beyond a limit they are discarded, and their number is recorded
        as an event `lost`.
        """
        if not self._buffer or self._folder is None:
            return
        try:
            if self._fd < 0 or self._size > _MAX_SEGMENT_BYTES:
                self._open_segment(self._folder)
            data, last_number = self._encode_buffer()
            done = 0
            while done < len(data):
                done += os.write(self._fd, data[done:])
        except OSError as error:
            log.warning("cannot write the audit: %s", error)
            if len(self._buffer) > _MAX_BUFFERED_EVENTS:
                self._lost_events += sum(times for *_, times in self._buffer)
                self._buffer.clear()
            self._close_file()
            return
        self._size += len(data)
        self._last_number, self._lost_events = last_number, 0
        self._buffer.clear()

    def close(self) -> None:
        """Write the buffered events and close the file."""
        self.flush()
        self._close_file()

    def _encode_buffer(self) -> tuple[bytes, int]:
        """Return (lines of the buffered events, number of the last event)."""
        lines: list[str] = []
        number, actor_number, last_actor = self._last_number, 0, None
        if self._lost_events:
            number += 1
            lines.append(f"{json.dumps([number, time.time_ns(), 0, 'lost', '', '', str(self._lost_events), 1])}\n")
        for time_ns, actor, event, times in self._buffer:
            if actor is not last_actor:
                last_actor, actor_number = actor, self._actors.get(actor, 0)
                if not actor_number:
                    actor_number = self._actors[actor] = len(self._actors) + 1
                    lines.append(f"{json.dumps({'actor': actor_number, **actor._asdict()})}\n")
            number += 1
            lines.append(f"[{number}, {time_ns}, {actor_number}, {event}, {times}]\n")
        return "".join(lines).encode(), number

    def _open_segment(self, folder: HostPath) -> None:
        self._close_file()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = folder / f"{time.time_ns():020}-{self._id}.jsonl"
        self._fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        self._actors.clear()
        self._size = os.write(self._fd, json.dumps({"spool": self._id}).encode() + b"\n")

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def encode_event(op: str, path: str, to: str = "", outcome: str = OK) -> str:
    """Return an event as in its line, without time and actor."""
    # Operations and outcomes are constants of ctxfs, without characters to escape.
    return f'"{op}", {quoted(redact_query(path))}, {quoted(redact_query(to)) if to else _EMPTY_STRING}, "{outcome}"'


def query_digest(text: str) -> str:
    """Return the digest by which the audit stores a query: it can be matched, but not read."""
    return f"question:{hashlib.sha256(text.replace('%2F', '/').encode('utf-8', 'replace')).hexdigest()[:16]}"


def redact_query(path: str) -> str:
    """Return a path with the query in it replaced by its digest: `search/<query>/…`, `…/.search/<query>/…`."""
    if "search/" not in path:
        return path
    parts = path.split("/")
    index = 0 if parts[0] == "search" else parts.index(".search") if ".search" in parts else len(parts)
    if index + 1 < len(parts) and not parts[index + 1].startswith("question:"):
        parts[index + 1] = query_digest(parts[index + 1])
    return "/".join(parts)
