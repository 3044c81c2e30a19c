"""The journal: who touched which path, written by whoever made the change, read by whoever commits it.

One file a session below `<store>/journal/`, append only, one JSON line a record. The first line is
`{"principal": …, "session": …, "tool": …, "reason": …}`, the others are `[time_ns, op, path]` or `[time_ns, "move", path, to]`,
paths below the work tree with surrogateescape. Ops: `write` (made or changed, a directory without what is in it),
`tree` (with what is in it), `remove`, `move`, `sync` (do not wait for the commit window), `end` (nothing follows).
The writer holds a shared flock for as long as it lives. Nothing depends on the journal but who is named as author:
what a line does not say is still found in the work tree.
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

log = logging.getLogger(__name__)

_SEGMENT_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """One line: paths are bytes below the work tree."""

    time_ns: int
    actor: Actor
    op: str
    path: bytes = b""
    to: bytes = b""


def new_session(prefix: str) -> str:
    """A name for a session, unlike any other."""
    return f"{prefix}-{secrets.token_hex(4)}"


class JournalWriter:
    """The lines of one session. The file is made at the first record; a write is one system call."""

    def __init__(self, folder: HostPath, actor: Actor) -> None:
        self._folder = folder
        self.actor = actor
        self._fd = -1
        self._size = 0

    def record(self, op: str, path: str = "", to: str | None = None) -> None:
        """Append a line. A journal that cannot be written costs the author's name, not the change: it is logged."""
        target = f", {quoted(to)}" if to is not None else ""
        data = f"[{time.time_ns()}, {quoted(op)}, {quoted(path)}{target}]\n".encode()
        try:
            if self._fd < 0 or self._size > _SEGMENT_BYTES:
                self._open()
            os.write(self._fd, data)
        except OSError as error:
            log.warning("cannot write the journal: %s", error)
        self._size += len(data)

    def close(self) -> None:
        """End the session."""
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
class _File:
    offset: int = 0
    actor: Actor | None = None
    ended: bool = False
    pending: bytes = field(default=b"", repr=False)


class JournalReader:
    """Reads what was appended since the last time; `settle` drops files whose records are all committed."""

    def __init__(self, folder: HostPath) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}
        self._again: list[Record] = []

    def give_back(self, records: list[Record]) -> None:
        """These could not be committed: they come again with the next `take`."""
        self._again = records

    def is_urgent(self) -> bool:
        """Look at what is new without taking it: True if a record says not to wait."""
        self._again = self.take()
        return any(record.op in ("sync", "end") for record in self._again)

    def take(self) -> list[Record]:
        """New records of all sessions, oldest first."""
        try:
            names = sorted(name for name in os.listdir(self._folder) if name.endswith(".jsonl"))
        except FileNotFoundError:
            return []
        found, self._again = self._again, []
        for name in names:
            found.extend(self._read(name, self._files.setdefault(name, _File())))
        return sorted(found, key=lambda record: record.time_ns)

    def settle(self) -> None:
        """Everything taken so far is committed: delete the files that nobody appends to any more."""
        for name, state in list(self._files.items()):
            path = self._folder / name
            with contextlib.suppress(OSError):
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    # Whoever writes it holds a shared lock; the kernel lets go of it with the process.
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.fstat(fd).st_size == state.offset + len(state.pending):
                        os.unlink(path)
                        del self._files[name]
                finally:
                    os.close(fd)

    def _read(self, name: str, state: _File) -> Iterator[Record]:
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
                    at, op, path, *to = value
                    yield Record(int(at), state.actor, str(op), path_bytes(path), path_bytes(to[0]) if to else b"")
            except (ValueError, KeyError, TypeError):
                # A power cut may leave anything here; the work tree still has the change.
                log.warning("a line of the journal '%s' cannot be read", name)
