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

from ctxfs.store.atomic_replace import Orphan, Patience, wait_quiet
from ctxfs.versions.objects.name_encoding import shown_path
from ctxfs.versions.objects.trees import Parts
from ctxfs.versions.recording.capture import Capture
from ctxfs.versions.recording.ledger import Ledger, State

log = logging.getLogger(__name__)

_KEPT_SECONDS = 2.0
_MAX_KEPT = 128
_UNREADABLE = State(None, "unreadable")
_MAX_KEPT_BYTES = 64_000_000  # because the disk space of an open file is not freed


class Rescue(NamedTuple):
    """A swapped-out file with late writes: its recorded state, and its current one."""

    path: bytes
    old: State
    new: State
    is_merged: bool


@dataclass(slots=True)
class _Kept:
    """An orphan, its former path, and its recorded state.

    With `is_merged`, late writes belong to the file at the path, too.
    """

    parts: Parts
    orphan: Orphan
    state: State
    is_merged: bool
    look: tuple[int, int] = (0, 0)
    until: float = 0.0


class Orphans:
    """The swapped-out files of one store."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._suspects: list[_Kept] = []
        self._kept: deque[_Kept] = deque()
        self._kept_bytes = 0

    def add(self, parts: Parts, state: State, orphan: Orphan, *, is_merged: bool) -> None:
        """Add an orphan that had `state` at `parts` when it was swapped out."""
        each = _Kept(parts, orphan, state, is_merged, (orphan.found.st_size, orphan.found.st_mtime_ns))
        if orphan.is_suspect:
            self._suspects.append(each)
        else:
            self._keep(each)

    def settle(self, patience: Patience) -> list[Rescue]:
        """Wait for the writers of the orphans that may have one; return the states without a version."""
        rescues: list[Rescue] = []
        suspects, self._suspects = self._suspects, []
        for each in suspects:
            try:
                self._settle(each, patience, rescues)
            except OSError as error:
                path = shown_path(b"/".join(each.parts))
                log.error("what '%s' held when it was replaced cannot be recorded: %s", path, error.strerror)
                self._show(each)
                _close(each.orphan)
        return rescues

    def _settle(self, each: _Kept, patience: Patience, rescues: list[Rescue]) -> None:
        orphan = each.orphan
        if orphan.fd < 0 and _is_same(self._ledger.work.look((*each.parts[:-1], orphan.name)), orphan.found):
            self._ledger.work.release(each.parts, orphan)  # it cannot be read, and is unchanged
            return
        is_quiet = wait_quiet(orphan.fd, patience)
        rescues.extend(self._rescue(each))
        if not is_quiet:
            self._show(each)
        elif orphan.name:
            self._ledger.work.release(each.parts, orphan)
        self._keep(each)

    def changed(self) -> list[Rescue]:
        """Return the late writes since the last call, and release the orphans whose time is over."""
        late, kept, now = list[Rescue](), deque[_Kept](), time.monotonic()
        for each in self._kept:
            if _look(each.orphan.fd) != each.look:
                try:
                    late.extend(self._rescue(each))
                except OSError as error:
                    path = shown_path(b"/".join(each.parts))
                    log.error(
                        "what was added to '%s' when it was replaced cannot be recorded: %s", path, error.strerror
                    )
                each.until = now + _KEPT_SECONDS  # a writer is active
            if now < each.until:
                kept.append(each)
            else:
                self._let_go(each)
        self._kept = kept
        return late

    def _rescue(self, each: _Kept) -> Iterator[Rescue]:
        each.look = _look(each.orphan.fd)
        old, each.state = each.state, self._state(each.parts, each.orphan)
        if each.state != old:
            yield Rescue(b"/".join(each.parts), old, each.state, each.is_merged)

    def close(self) -> None:
        """Release all orphans."""
        for each in self._kept:
            self._let_go(each)
        self._kept.clear()

    def _keep(self, each: _Kept) -> None:
        if each.orphan.fd < 0:
            return
        each.until = time.monotonic() + _KEPT_SECONDS
        self._kept.append(each)
        self._kept_bytes += each.orphan.found.st_size
        while len(self._kept) > _MAX_KEPT or self._kept_bytes > _MAX_KEPT_BYTES:
            self._let_go(self._kept.popleft())

    def _let_go(self, each: _Kept) -> None:
        self._kept_bytes -= each.orphan.found.st_size
        _close(each.orphan)

    def _state(self, parts: Parts, orphan: Orphan) -> State:
        capture = Capture(self._ledger)
        if orphan.fd >= 0:
            return capture.opened_state(b"/".join(parts), orphan.fd)
        place = (*parts[:-1], orphan.name)
        state = capture.state(place, self._ledger.work.look(place), _UNREADABLE, moved=False)
        if state == _UNREADABLE:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return state

    def _show(self, each: _Kept) -> None:
        if not each.orphan.name:
            return
        path = shown_path(b"/".join(each.parts))
        try:
            shown = shown_path(b"/".join(self._ledger.work.show(each.parts, each.orphan)))
            log.warning("'%s' is still written to: it goes on as '%s'", path, shown)
        except OSError:
            log.exception("what '%s' held stays as a temporary file", path)


def _is_same(found: os.stat_result | None, before: os.stat_result) -> bool:
    look = (before.st_ino, before.st_size, before.st_mtime_ns)
    return found is not None and (found.st_ino, found.st_size, found.st_mtime_ns) == look


def _look(fd: int) -> tuple[int, int]:
    """Return (size, mtime in nanoseconds) of an open file; zeros without a descriptor."""
    if fd < 0:
        return 0, 0
    found = os.fstat(fd)
    return found.st_size, found.st_mtime_ns


def _close(orphan: Orphan) -> None:
    if orphan.fd >= 0:
        os.close(orphan.fd)
        orphan.fd = -1
