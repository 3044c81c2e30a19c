"""The journal: records of which session changed which path, from each writer to the committer.

There is one file a session below `<store>/journal/`: append only, one JSON line a record. The first line is
`{"principal": …, "session": …, "tool": …, "reason": …}`. The others are `[time_ns, op, path]` or
`[time_ns, "move", path, to]`, with paths below the work tree in surrogateescape. Ops:

- `write`: created or changed; a directory without its contents
- `tree`: created or changed, with its contents
- `remove`, `move`
- `sync`: do not wait for the commit window
- `end`: the last record

The writer holds a shared flock while it runs. Only the author's name depends on the
journal: a change without a record is still captured from the work tree.
"""

import contextlib
import fcntl
import json
import logging
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from json.encoder import encode_basestring_ascii as quoted  # a string as JSON, at a fraction of `dumps`
from pathlib import Path as HostPath

from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.objects.name_encoding import path_bytes
from ctxfs.versions.recording.changes_in_progress import ChangesInProgress

log = logging.getLogger(__name__)

_MAX_SEGMENT_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a journal. Paths are bytes below the work tree."""

    time_ns: int
    actor: Actor
    op: str
    path: bytes = b""
    to: bytes = b""


def new_session_name(prefix: str) -> str:
    """Return a unique name for a session."""
    return f"{prefix}-{secrets.token_hex(4)}"


class JournalWriter:
    """The writer of one session's journal. It creates the file at the first record; a record is one system call."""

    def __init__(self, folder: HostPath, actor: Actor, changes: ChangesInProgress | None = None) -> None:
        """Begin a journal. `changes` are those in progress in the process that commits (None: it is another process)."""
        self._folder = folder
        self.actor = actor
        self.changes = changes or ChangesInProgress()
        self._fd = -1
        self._size = 0

    def record(self, op: str, path: str = "", to: str | None = None) -> None:
        """Append a record. A failure is only logged: it costs the author's name, not the change."""
        target = f", {quoted(to)}" if to is not None else ""
        data = f"[{time.time_ns()}, {quoted(op)}, {quoted(path)}{target}]\n".encode()
        try:
            if self._fd < 0 or self._size > _MAX_SEGMENT_BYTES:
                self._open()
            os.write(self._fd, data)
        except OSError as error:
            log.warning("cannot write the journal: %s", error)
        self._size += len(data)

    def close(self) -> None:
        """Append `end` and close the file."""
        if self._fd >= 0:
            self.record("end")
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        name = self._folder / f"{time.time_ns():020}-{secrets.token_hex(4)}.jsonl"
        self._fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.write(self._fd, json.dumps(asdict(self.actor)).encode() + b"\n")
        self._size = 0


@dataclass(slots=True)
class _FileState:
    offset: int = 0
    actor: Actor | None = None
    ended: bool = False
    pending: bytes = field(default=b"", repr=False)


class JournalReader:
    """The reader of all sessions' new records. `delete_committed` deletes files whose records are all committed."""

    def __init__(self, folder: HostPath) -> None:
        self._folder = folder
        self._states: dict[str, _FileState] = {}
        self._returned: list[Record] = []

    def return_records(self, records: list[Record]) -> None:
        """Return records that could not be committed; the next `read_new_records` contains them."""
        self._returned = records

    def has_urgent_record(self) -> bool:
        """Return True if a new record requests a commit without delay. The next `read_new_records` still contains all of them."""
        self._returned = self.read_new_records()
        return any(record.op in ("sync", "end") for record in self._returned)

    def read_new_records(self) -> list[Record]:
        """Return the new records of all sessions, oldest first."""
        try:
            names = sorted(name for name in os.listdir(self._folder) if name.endswith(".jsonl"))
        except FileNotFoundError:
            return []
        records, self._returned = self._returned, []
        for name in names:
            records.extend(self._read(name, self._states.setdefault(name, _FileState())))
        return sorted(records, key=lambda record: record.time_ns)

    def delete_committed(self) -> None:
        """Delete the files that have no writer any more, once everything taken is committed."""
        for name, state in list(self._states.items()):
            path = self._folder / name
            with contextlib.suppress(OSError):
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    # A writer holds a shared lock, which the kernel releases with the process.
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.fstat(fd).st_size == state.offset + len(state.pending):
                        os.unlink(path)
                        del self._states[name]
                finally:
                    os.close(fd)

    def _read(self, name: str, state: _FileState) -> Iterator[Record]:
        try:
            with open(self._folder / name, "rb") as file:
                file.seek(state.offset + len(state.pending))
                data = state.pending + file.read()
        except OSError as error:
            log.warning("cannot read the journal '%s': %s", name, error)
            return
        *lines, state.pending = data.split(b"\n")
        for line in lines:
            state.offset += len(line) + 1
            try:
                value = json.loads(line)
                if isinstance(value, dict):
                    state.actor = Actor(**value)
                elif state.actor is not None:
                    time_ns, op, path, *to = value
                    yield Record(int(time_ns), state.actor, str(op), path_bytes(path), path_bytes(to[0]) if to else b"")
            except (ValueError, KeyError, TypeError):
                # A power cut may leave any bytes here; the work tree still has the change.
                log.warning("a line of the journal '%s' cannot be read", name)
