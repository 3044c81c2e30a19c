"""An engine that calls back around each request, so that faults and the work of others happen between any two of them."""

import contextlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from ctxfs.shared.folder_log import FolderLog
from ctxfs.shared.log import TURN_SECONDS, Entry, Head, SharedLog

_FOLDER_TURN_SECONDS = 0.5  # the turn of a killed node of a folder lasts for so long
Hook = Callable[[str], None]  # receives the name of the request, and `append:done` after an append


class FaultyLog:
    """A shared log whose requests run through a hook, which may raise."""

    def __init__(self, log: SharedLog, hook: Hook) -> None:
        self._log = log
        self._hook = hook
        self.acknowledged: list[Head] = []

    def head(self) -> Head:
        self._hook("head")
        return self._log.head()

    def append(self, entry: Entry) -> int:
        self._hook("append")
        time_ns = self._log.append(entry)
        self._hook("append:done")
        self.acknowledged.append(Head(entry.number, entry.head))
        return time_ns

    def entries(self, after: int, limit: int) -> list[Entry]:
        self._hook("entries")
        return self._log.entries(after, limit)

    def wait(self, after: int, seconds: float) -> bool:
        return self._log.wait(after, seconds)

    def put(self, sha256: str, source: BinaryIO) -> None:
        self._hook("put")
        self._log.put(sha256, source)

    def get(self, sha256: str, target: BinaryIO, max_bytes: int) -> None:
        self._hook("get")
        self._log.get(sha256, target, max_bytes)

    @contextlib.contextmanager
    def lease(self, name: str, seconds: float = TURN_SECONDS) -> Iterator[None]:
        self._hook("lease")
        with self._log.lease(name, _FOLDER_TURN_SECONDS if isinstance(self._log, FolderLog) else seconds):
            self._hook("lease:held")
            try:
                yield
            finally:
                self._hook("lease:ends")

    def now(self) -> int:
        self._hook("now")
        return self._log.now()

    def close(self) -> None:
        self._log.close()
