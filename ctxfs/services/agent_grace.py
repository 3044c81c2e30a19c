"""The grace period of a node of a shared store: without news from the engine for longer, it serves people only.

Rules, groups and credentials are entries of the log, so a node that is cut off decides by outdated ones. The time of the
last news outlives the daemon as the mtime of `<repository>/ctxfs-shared-contact`. Nothing is read or written unless
`[shared] grace_seconds` is set.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path as HostPath

from ctxfs.model.clocks import now_seconds
from ctxfs.store.settings import SharedSettings

_NAME = "ctxfs-shared-contact"
_STORES_PER_PERIOD = 20  # of the time, so that a restart of the daemon costs at most a twentieth of the period
_MAX_CLOCK_STEP_SECONDS = 60.0  # a later time than now is no news


class AgentGrace:
    """Whether agents are served. Used by all threads: each call reads or replaces one number."""

    def __init__(self, repo: HostPath, settings: Callable[[], SharedSettings]) -> None:
        self._file = repo / _NAME
        self._settings = settings
        self._heard: float | None = None  # None: the file is not read yet
        self._stored = 0.0

    def record(self, heard: float) -> None:
        """Record the time of `now_seconds` at which this node had the newest entry."""
        grace = self._settings().grace_seconds
        self._heard = max(heard, self._heard or 0.0)
        if grace and self._heard - self._stored >= grace / _STORES_PER_PERIOD:
            self._store()

    def refusal(self) -> str:
        """Return why agents are refused; empty if they are served. The text stays the same during an interruption."""
        settings = self._settings()
        if not settings.url or not settings.grace_seconds or settings.at:
            return ""
        if self._heard is None:
            self._heard = self._read()
        if now_seconds() - self._heard <= settings.grace_seconds:
            return ""
        return (
            f"this node of the shared store '{settings.store}' has had no answer from the engine for more than"
            f" {settings.grace_seconds} seconds, so it serves people only, because its rules may be outdated"
            " → agents are admitted again when the engine answers: ctxfs sync --wait"
        )

    def forget(self) -> None:
        """Forget the time: this store is no longer a node."""
        self._heard, self._stored = None, 0.0
        self._file.unlink(missing_ok=True)

    def _store(self) -> None:
        assert self._heard is not None
        with contextlib.suppress(OSError):  # a full disk: a restart then refuses agents until the first exchange
            self._file.touch()
            wall = time.time() - (now_seconds() - self._heard)
            os.utime(self._file, (wall, wall))
            self._stored = self._heard

    def _read(self) -> float:
        try:
            age = time.time() - self._file.stat().st_mtime
        except OSError:
            return float("-inf")
        return now_seconds() - max(age, 0.0) if age > -_MAX_CLOCK_STEP_SECONDS else float("-inf")
