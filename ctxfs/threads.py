"""Worker threads: all blocking calls of trio tasks go through this module."""

from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import trio

Result = TypeVar("Result")
Args = TypeVarTuple("Args")

_MAX_THREADS = 8  # bounded: a burst of slow reads queues instead of starting a thread each
_limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("ctxfs-threads")


def _run_limiter() -> trio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = trio.CapacityLimiter(_MAX_THREADS)
        _limiter.set(limiter)
        return limiter


_serial_limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("ctxfs-turns")


async def in_turn(function: Callable[[*Args], Result], *args: *Args) -> Result:
    """Run `function(*args)` as `blocking` does, but one call at a time, for functions that share a lock anyway.

    A call that waits for its turn occupies no thread of the others.
    """
    try:
        limiter = _serial_limiter.get()
    except LookupError:
        limiter = trio.CapacityLimiter(1)
        _serial_limiter.set(limiter)
    return await trio.to_thread.run_sync(function, *args, limiter=limiter)


async def blocking(function: Callable[[*Args], Result], *args: *Args) -> Result:
    """Run `function(*args)` in a worker thread and return its result; exceptions pass through."""
    return await trio.to_thread.run_sync(function, *args, limiter=_run_limiter())


def run_in_loop(function: Callable[[*Args], Awaitable[Result]], *args: *Args) -> Result:
    """Run an async function in the trio loop that started this worker thread, and return its result."""
    return trio.from_thread.run(function, *args)
