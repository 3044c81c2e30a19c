"""Retries of system calls that met a lease.

While a daemon replaces a file, it blocks the file's writers by a lease (`store/atomic_replace.py`). Files are opened
with O_NONBLOCK, so that an open of a leased file fails with EAGAIN and does not block the other requests.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import trio

from ctxfs.fuse.interfaces import Loop

Result = TypeVar("Result")

_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.0005, 0.02
# Longer than the kernel lets a process keep a lease: /proc/sys/fs/lease-break-time is 45.
_MAX_SECONDS = 60.0


async def retry(loop: Loop, attempt: Callable[[], Result]) -> Result:
    """Call `attempt` after growing pauses until it does not raise BlockingIOError, and return its result.

    Raise the last BlockingIOError after `_MAX_SECONDS` seconds.
    """
    end, pause = time.monotonic() + _MAX_SECONDS, _FIRST_PAUSE_SECONDS
    while True:
        await loop.call(trio.sleep, pause)
        try:
            return attempt()
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        pause = min(pause * 1.5, _MAX_PAUSE_SECONDS)
