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
_SEGMENT_BYTES = 4_000_000
_FLUSH_AT = 1000
_MOST_HELD = 100_000
_NOTHING = '""'


class AuditActor(NamedTuple):
    """The principal, session and tool on whose behalf an operation runs."""

    principal: str
    session: str
    tool: str


# (time in nanoseconds, actor, event as returned by `said`, repetitions). A plain tuple for speed, because a reader of
# many files records an event for each.
_Event = tuple[int, AuditActor, str, int]


class Spool:
    """The events of one process. For one thread."""

    def __init__(self, folder: HostPath | None) -> None:
        """Create a spool below `folder`; without a folder, discard all events."""
        self._folder = folder
        self._held: list[_Event] = []
        self._id = secrets.token_hex(8)
        self._actors: dict[AuditActor, int] = {}
        self._written = 0
        self._lost = 0
        self._fd = -1
        self._size = 0

    @property
    def has_news(self) -> bool:
        """True while events are buffered."""
        return bool(self._held)

    def note(self, doer: AuditActor, op: str, path: str, to: str = "", outcome: str = OK) -> None:
        """Record an operation that was just carried out or refused."""
        if self._folder is None:
            return
        self.note_said(doer, [(time.time_ns(), said(op, path, to, outcome))])

    def note_said(self, doer: AuditActor, events: Iterable[tuple[int, str]]) -> None:
        """Record several operations as (time in nanoseconds, event as returned by `said`).

        Equal consecutive events become one event with a count.
        """
        if self._folder is None:
            return
        held = self._held
        last = held[-1][2] if held and held[-1][1] == doer else ""
        for time_ns, what in events:
            if what == last:
                held[-1] = (*held[-1][:3], held[-1][3] + 1)
            else:
                held.append((time_ns, doer, what, 1))
                last = what
        if len(held) >= _FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Write the buffered events to the file, so that they survive the end of this process.

        After a failed write the events stay buffered. Beyond a limit they are discarded, and their number is recorded
        as an event `lost`.
        """
        if not self._held or self._folder is None:
            return
        try:
            if self._fd < 0 or self._size > _SEGMENT_BYTES:
                self._open(self._folder)
            data, written = self._lines()
            done = 0
            while done < len(data):
                done += os.write(self._fd, data[done:])
        except OSError as error:
            log.warning("cannot write the audit: %s", error)
            if len(self._held) > _MOST_HELD:
                self._lost += sum(times for *_, times in self._held)
                self._held.clear()
            self._drop_file()
            return
        self._size += len(data)
        self._written, self._lost = written, 0
        self._held.clear()

    def close(self) -> None:
        """Write the buffered events and close the file."""
        self.flush()
        self._drop_file()

    def _lines(self) -> tuple[bytes, int]:
        """Return (lines of the buffered events, number of the last event)."""
        lines: list[str] = []
        number, actor, named = self._written, 0, None
        if self._lost:
            number += 1
            lines.append(f"{json.dumps([number, time.time_ns(), 0, 'lost', '', '', str(self._lost), 1])}\n")
        for time_ns, doer, what, times in self._held:
            if doer is not named:
                named, actor = doer, self._actors.get(doer, 0)
                if not actor:
                    actor = self._actors[doer] = len(self._actors) + 1
                    lines.append(f"{json.dumps({'actor': actor, **doer._asdict()})}\n")
            number += 1
            lines.append(f"[{number}, {time_ns}, {actor}, {what}, {times}]\n")
        return "".join(lines).encode(), number

    def _open(self, folder: HostPath) -> None:
        self._drop_file()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = folder / f"{time.time_ns():020}-{self._id}.jsonl"
        self._fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        self._actors.clear()
        self._size = os.write(self._fd, json.dumps({"spool": self._id}).encode() + b"\n")

    def _drop_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def said(op: str, path: str, to: str = "", outcome: str = OK) -> str:
    """Return an event as in its line, without time and actor."""
    # Operations and outcomes are constants of ctxfs, without characters to escape.
    return f'"{op}", {quoted(without_words(path))}, {quoted(without_words(to)) if to else _NOTHING}, "{outcome}"'


def question_digest(text: str) -> str:
    """Return the digest by which the audit stores a query: it can be matched, but not read."""
    return f"question:{hashlib.sha256(text.replace('%2F', '/').encode('utf-8', 'replace')).hexdigest()[:16]}"


def without_words(path: str) -> str:
    """Return a path with the query in it replaced by its digest: `search/<query>/…`, `…/.search/<query>/…`."""
    if "search/" not in path:
        return path
    parts = path.split("/")
    at = 0 if parts[0] == "search" else parts.index(".search") if ".search" in parts else len(parts)
    if at + 1 < len(parts) and not parts[at + 1].startswith("question:"):
        parts[at + 1] = question_digest(parts[at + 1])
    return "/".join(parts)
