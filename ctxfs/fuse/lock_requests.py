"""Requests for locks of callers: FLUSH, GETLK, SETLK and SETLKW."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Coroutine
from typing import Any

from ctxfs.fuse.backed_io import BackedIO
from ctxfs.fuse.inodes import Node
from ctxfs.fuse.interfaces import Answer
from ctxfs.fuse.lock_owners import Range
from ctxfs.fuse.state import FIRST_SYNTHETIC_HANDLE, State


class LockRequests:
    """Sets the locks of callers on the backing files, and keeps the pages of the lock owners current."""

    def __init__(self, state: State, io: BackedIO) -> None:
        self._io = io
        self._nodes = state.nodes
        self._files = state.files
        self._open_file_cache = state.open_file_cache
        self._locks = state.locks
        self._options = state.options

    def release_locks(self, number: int, handle: int) -> None:
        """Release the locks of an open file description that is closed.

        `handle` is the complete handle, with its count.
        """
        if self._locks:
            with contextlib.suppress(OSError):  # the kernel never sends such a number
                self._locks.release(self._nodes[number], handle)
            self._open_file_cache.watch_closes(bool(self._locks))

    def flush(self, number: int, fh: int, owner: int) -> None:
        """Release a process's POSIX locks on a file, because it has closed a descriptor of it.

        Raise OSError ENOSYS if the kernel keeps the locks.
        """
        if self._options.reads_without_open:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        if self._locks:
            self._locks.flush(self._nodes[number], owner)
            self._open_file_cache.watch_closes(bool(self._locks))

    def get_lock(self, number: int, fh: int, owner: int, lock: Range) -> Range:
        """Return the lock that conflicts with `lock`, for F_GETLK."""
        node = self._nodes[number]
        return self._locks.find_conflict(node, owner, self._lock_fd(fh), lock)

    def set_lock(
        self, number: int, fh: int, handle: int, owner: int, lock: Range, *, is_flock: bool, waits: bool
    ) -> Answer[None]:
        """Set or release a lock, for F_SETLK, F_SETLKW and flock(2).

        `fh` is the handle without its count, `handle` the one with it. Raise OSError EAGAIN if another owner's lock
        conflicts and `waits` is False.
        """
        node, locks = self._nodes[number], self._locks
        if lock.kind == fcntl.F_UNLCK:
            if node.area is not None and fh in self._files:
                self._io.store_unlocked_version(node, fh)
            locks.unlock(node, owner, lock, is_flock=is_flock)
            return None
        fd = self._lock_fd(fh)
        if not node.is_locked:
            node.is_locked = True
            self._open_file_cache.evict(node)
        self._open_file_cache.watch_closes(True)
        if not locks.set_nowait(node, owner, handle, fd, lock, is_flock=is_flock):
            if not waits:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return self._wait_lock(node, fh, locks.set_wait(node, owner, handle, fd, lock, is_flock=is_flock))
        if fd is not None and self._io.is_stale(node, fh):
            return self._io.invalidate_pages(node)
        return None

    async def _wait_lock(self, node: Node, fh: int, granted: Coroutine[Any, Any, None]) -> None:
        await granted
        if fh < FIRST_SYNTHETIC_HANDLE and self._io.is_stale(node, fh):
            await self._io.invalidate_pages(node)

    def _lock_fd(self, fh: int) -> int | None:
        if fh >= FIRST_SYNTHETIC_HANDLE:
            return None
        self._files[fh]  # raises EBADF if it is not open
        return fh
