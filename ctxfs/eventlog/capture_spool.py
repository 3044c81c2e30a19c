"""The capture spool: events of clients between their hooks and the event log that collects them.

A hook appends one line of JSON to `<store>/history/capture/spool.jsonl`: `{"id", "time", "sum", "client", "hook",
"principal", "record"}`. `time` is in nanoseconds, `sum` is a checksum of the event, `hook` is the client that the hook
was installed for: by these, an event that two hooks report is recognised. A writer holds an flock on the file, and the
collector renames the file under it. A writer that does not get the lock in time writes a file of its own.

Hooks hold up their client, so this module imports few modules of the standard library, and none of ctxfs.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

CAPTURE_ORIGIN = "capture"  # `origin` of captured records
FOLDER = "capture"  # in `history/` of the store
SPOOL = "spool.jsonl"
DROPPED = "dropped"  # (number of dropped events, time of the first, time of the last)
SUFFIX = ".jsonl"
MAX_SPOOL_BYTES = 64_000_000
_MAX_LOCK_SECONDS = 0.015
_LOCK_PAUSE_SECONDS = 0.001
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def append_event(folder: str, event: Mapping[str, Any]) -> bool:
    """Append an event to the spool in `folder`, which is created; return False if the spool is full.

    Raise OSError if the event cannot be written, as on a full disk. No part of a line remains then.
    """
    body = {"id": os.urandom(8).hex(), "time": time.time_ns(), **event}
    line = json.dumps(body, separators=(",", ":")).encode("ascii") + b"\n"
    with contextlib.suppress(FileExistsError):
        os.makedirs(folder, mode=0o700)
    with _open_locked(folder) as fd:
        if fd < 0:
            _write_own_file(folder, line)
            return True
        size = os.fstat(fd).st_size
        if size + len(line) > MAX_SPOOL_BYTES:
            _count_dropped(folder)
            return False
        try:
            _write_line(fd, size, line)
        except OSError:
            _count_dropped(folder)
            raise
    return True


@contextlib.contextmanager
def _open_locked(folder: str) -> Iterator[int]:
    """Yield a descriptor of the spool with an exclusive lock, or -1 if another process holds it for long."""
    path = f"{folder}/{SPOOL}"
    end = time.monotonic() + _MAX_LOCK_SECONDS
    while True:
        fd = os.open(path, _APPEND, 0o600)
        try:
            if lock_nowait(fd) and is_linked(fd, path):
                yield fd
                return
        finally:
            os.close(fd)
        if time.monotonic() > end:
            yield -1
            return
        time.sleep(_LOCK_PAUSE_SECONDS)


def lock_nowait(fd: int) -> bool:
    """Take an exclusive flock; return False if another process holds one."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_linked(fd: int, path: str) -> bool:
    """Return True if a descriptor and a path are the same file: the collector has not renamed it."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _write_line(fd: int, size: int, line: bytes) -> None:
    """Write a line at the end of a file of this size, on a line of its own, or nothing."""
    if size and os.pread(fd, 1, size - 1) != b"\n":  # a writer was killed within its line
        line = b"\n" + line
    done = 0
    try:
        while done < len(line):
            done += os.write(fd, line[done:])
    except OSError:
        os.ftruncate(fd, size)
        raise


def _write_own_file(folder: str, line: bytes) -> None:
    name = f"{time.time_ns():020}-{os.getpid()}"
    temporary = f"{folder}/.{name}"
    fd = os.open(temporary, _APPEND | os.O_EXCL, 0o600)
    try:
        _write_line(fd, 0, line)
        os.rename(temporary, f"{folder}/own-{name}{SUFFIX}")
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)


def _count_dropped(folder: str) -> None:
    """Count one more dropped event, for the holder of the lock. The size of the file is constant, for a full disk."""
    with contextlib.suppress(OSError):
        fd = os.open(f"{folder}/{DROPPED}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            count, first, _ = parse_dropped(os.pread(fd, 100, 0))
            now = time.time_ns()
            os.pwrite(fd, f"{count + 1:020} {first or now:020} {now:020}\n".encode(), 0)
        finally:
            os.close(fd)


def parse_dropped(data: bytes) -> tuple[int, int, int]:
    """Return (number of dropped events, times of the first and the last in nanoseconds) of a file's content."""
    try:
        count, first, last = map(int, data.split())
    except ValueError:
        return 0, 0, 0
    return count, first, last
