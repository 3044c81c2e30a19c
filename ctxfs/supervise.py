"""Supervision: processes and connections that are restarted whenever they end, and tasks that are repeated."""

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Never, TypeVar

import trio

Result = TypeVar("Result")

_MAX_EXPONENT = 64  # a float overflows at 1024


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pauses before restarts.

    The first pause is `first_seconds`, each further one is `factor` times as long, up to `max_seconds`. A run of more
    than `healthy_seconds` starts again with the first pause.
    """

    first_seconds: float
    max_seconds: float
    factor: float = 2.0
    healthy_seconds: float = math.inf

    def count_after(self, ends: int, run_seconds: float) -> int:
        """Return the number of consecutive ends, this one included, when a run ends after `ends` earlier ones."""
        return 1 if run_seconds > self.healthy_seconds else ends + 1

    def pause_after(self, ends: int) -> float:
        """Return the pause in seconds after a number of consecutive ends, at least 1."""
        return min(self.max_seconds, self.first_seconds * self.factor ** min(ends - 1, _MAX_EXPONENT))


class Restarts:
    """The consecutive ends of one supervised process."""

    def __init__(self, backoff: Backoff, ends: int = 0) -> None:
        """Start with a number of `ends`: with 1, the first end pauses as long as a second one."""
        self._backoff = backoff
        self._ends = ends

    @property
    def ends(self) -> int:
        """Return the number of consecutive ends without progress."""
        return self._ends

    def reset(self) -> None:
        """Set the number of ends to zero, because the process has made progress."""
        self._ends = 0

    def record_end(self, run_seconds: float = 0.0) -> float:
        """Count an end, and return the seconds until the restart."""
        self._ends = self._backoff.count_after(self._ends, run_seconds)
        return self._backoff.pause_after(self._ends)


async def supervise(
    start: Callable[[], Awaitable[Result]],
    restarts: Restarts,
    on_end: Callable[[Result, float], None],
    pause: Callable[[float], Awaitable[object]] = trio.sleep,
) -> Never:
    """Run `start` forever, with a pause after each end. An exception of `start` ends the supervision.

    `on_end` receives the result of `start` and the seconds of the pause, before the pause. `pause` may return earlier.
    """
    while True:
        started = trio.current_time()
        result = await start()
        seconds = restarts.record_end(trio.current_time() - started)
        on_end(result, seconds)
        await pause(seconds)


async def repeat(
    act: Callable[[], Awaitable[object]], seconds: float, log: logging.Logger, failure: str, first_seconds: float
) -> Never:
    """Call `act` after `first_seconds`, and then every `seconds`, forever.

    An exception is logged as `failure`, and does not end the repetition: the daemon must survive any fault of a task.
    """
    await trio.sleep(first_seconds)
    while True:
        try:
            await act()
        except Exception:
            log.exception(failure)
        await trio.sleep(seconds)
