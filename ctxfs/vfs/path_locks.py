"""Locks by path: changes of one path are serialised, in FIFO order."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from ctxfs.model.path import Path


class PathLocks:
    """A lock for each path in use; unused paths take no memory."""

    def __init__(self) -> None:
        self._locks: dict[Path, tuple[trio.Lock, int]] = {}

    @asynccontextmanager
    async def at(self, path: Path) -> AsyncIterator[None]:
        """Acquire the lock of a path, and hold it while the context lasts."""
        lock, users = self._locks.get(path) or (trio.Lock(), 0)
        self._locks[path] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[path]
            if users > 1:
                self._locks[path] = lock, users - 1
            else:
                del self._locks[path]
