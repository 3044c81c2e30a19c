"""Try again what met a lease: a daemon that replaces a file holds off its writers for that moment (`store/atomic_replace.py`).

Files are opened with O_NONBLOCK, so that one that is held fails with EAGAIN instead of keeping everything else waiting.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import trio

from ctxfs.fuse.interfaces import Loop

Result = TypeVar("Result")

_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.0005, 0.02
# Longer than the kernel lets anyone hold a lease: /proc/sys/fs/lease-break-time is 45.
_MAX_SECONDS = 60.0


async def retry(loop: Loop, attempt: Callable[[], Result]) -> Result:
    """Pause, and attempt, until it does not fail with BlockingIOError."""
    end, pause = time.monotonic() + _MAX_SECONDS, _FIRST_PAUSE_SECONDS
    while True:
        await loop.call(trio.sleep, pause)
        try:
            return attempt()
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        pause = min(pause * 1.5, _MAX_PAUSE_SECONDS)
