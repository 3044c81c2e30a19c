"""Orphans: files that a rollback or a pull swapped out, whose late writes become versions as well.

A writer may have opened the file just before the swap, and write to it just after. So each orphan is examined again at
the end of the swap, and for some seconds in which its descriptor stays open. Used under the archive's lock.
"""

import errno
import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ctxfs.store.atomic_replace import Orphan, WriterTimeout, wait_unwritten
from ctxfs.versions.objects.name_encoding import display_path
from ctxfs.versions.objects.trees import Parts
from ctxfs.versions.recording.capture import Capture
from ctxfs.versions.recording.ledger import Ledger, State

log = logging.getLogger(__name__)

_WATCH_SECONDS = 2.0
_MAX_WATCHED_FILES = 128
_UNREADABLE = State(None, "unreadable")
_MAX_WATCHED_BYTES = 64_000_000  # because the disk space of an open file is not freed


class Rescue(NamedTuple):
    """A swapped-out file with late writes: its recorded state, and its current one."""

    path: bytes
    old: State
    new: State
    is_merged: bool


@dataclass(slots=True)
class _Watched:
    """An orphan, its former path, and its recorded state.

    With `is_merged`, late writes belong to the file at the path, too.
    """

    parts: Parts
    orphan: Orphan
    state: State
    is_merged: bool
    stat_key: tuple[int, int] = (0, 0)
    watched_until: float = 0.0


class Orphans:
    """The swapped-out files of one store."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._suspects: list[_Watched] = []
        self._watched: deque[_Watched] = deque()
        self._watched_bytes = 0

    def add(self, parts: Parts, state: State, orphan: Orphan, *, is_merged: bool) -> None:
        """Add an orphan that had `state` at `parts` when it was swapped out."""
        entry = _Watched(parts, orphan, state, is_merged, (orphan.stat.st_size, orphan.stat.st_mtime_ns))
        if orphan.is_suspect:
            self._suspects.append(entry)
        else:
            self._watch(entry)

    def settle(self, patience: WriterTimeout) -> list[Rescue]:
        """Wait for the writers of the orphans that may have one; return the states without a version."""
        rescues: list[Rescue] = []
        suspects, self._suspects = self._suspects, []
        for entry in suspects:
            try:
                self._settle_suspect(entry, patience, rescues)
            except OSError as error:
                path = display_path(b"/".join(entry.parts))
                log.error("cannot record the replaced content of '%s': %s", path, error.strerror)
                self._make_visible(entry)
                _close(entry.orphan)
        return rescues

    def _settle_suspect(self, entry: _Watched, patience: WriterTimeout, rescues: list[Rescue]) -> None:
        orphan = entry.orphan
        if orphan.fd < 0 and _is_same(self._ledger.work.stat((*entry.parts[:-1], orphan.name)), orphan.stat):
            self._ledger.work.unlink_orphan(entry.parts, orphan)  # it cannot be read, and is unchanged
            return
        is_quiet = wait_unwritten(orphan.fd, patience)
        rescues.extend(self._find_rescue(entry))
        if not is_quiet:
            self._make_visible(entry)
        elif orphan.name:
            self._ledger.work.unlink_orphan(entry.parts, orphan)
        self._watch(entry)

    def collect_rescues(self) -> list[Rescue]:
        """Return the late writes since the last call, and release the orphans whose time is over."""
        rescues, watched, now = list[Rescue](), deque[_Watched](), time.monotonic()
        for entry in self._watched:
            if _stat_of(entry.orphan.fd) != entry.stat_key:
                try:
                    rescues.extend(self._find_rescue(entry))
                except OSError as error:
                    path = display_path(b"/".join(entry.parts))
                    log.error("cannot record the late writes to the replaced file of '%s': %s", path, error.strerror)
                entry.watched_until = now + _WATCH_SECONDS  # a writer is active
            if now < entry.watched_until:
                watched.append(entry)
            else:
                self._release(entry)
        self._watched = watched
        return rescues

    def _find_rescue(self, entry: _Watched) -> Iterator[Rescue]:
        entry.stat_key = _stat_of(entry.orphan.fd)
        old, entry.state = entry.state, self._read_state(entry.parts, entry.orphan)
        if entry.state != old:
            yield Rescue(b"/".join(entry.parts), old, entry.state, entry.is_merged)

    def close(self) -> None:
        """Release all orphans."""
        for entry in self._watched:
            self._release(entry)
        self._watched.clear()

    def _watch(self, entry: _Watched) -> None:
        if entry.orphan.fd < 0:
            return
        entry.watched_until = time.monotonic() + _WATCH_SECONDS
        self._watched.append(entry)
        self._watched_bytes += entry.orphan.stat.st_size
        while len(self._watched) > _MAX_WATCHED_FILES or self._watched_bytes > _MAX_WATCHED_BYTES:
            self._release(self._watched.popleft())

    def _release(self, entry: _Watched) -> None:
        self._watched_bytes -= entry.orphan.stat.st_size
        _close(entry.orphan)

    def _read_state(self, parts: Parts, orphan: Orphan) -> State:
        capture = Capture(self._ledger)
        if orphan.fd >= 0:
            return capture.capture_fd(b"/".join(parts), orphan.fd)
        path = (*parts[:-1], orphan.name)
        state = capture.capture_path(path, self._ledger.work.stat(path), _UNREADABLE, moved=False)
        if state == _UNREADABLE:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return state

    def _make_visible(self, entry: _Watched) -> None:
        if not entry.orphan.name:
            return
        path = display_path(b"/".join(entry.parts))
        try:
            shown = display_path(b"/".join(self._ledger.work.name_orphan(entry.parts, entry.orphan)))
            log.warning("the replaced file of '%s' still has a writer, and continues as '%s'", path, shown)
        except OSError:
            log.exception("the replaced content of '%s' stays in a temporary file", path)


def _is_same(stat: os.stat_result | None, before: os.stat_result) -> bool:
    stat_key = (before.st_ino, before.st_size, before.st_mtime_ns)
    return stat is not None and (stat.st_ino, stat.st_size, stat.st_mtime_ns) == stat_key


def _stat_of(fd: int) -> tuple[int, int]:
    """Return (size, mtime in nanoseconds) of an open file; zeros without a descriptor."""
    if fd < 0:
        return 0, 0
    stat = os.fstat(fd)
    return stat.st_size, stat.st_mtime_ns


def _close(orphan: Orphan) -> None:
    if orphan.fd >= 0:
        os.close(orphan.fd)
        orphan.fd = -1
