"""The clock for times between two events on one machine."""

import time


def now_seconds() -> float:
    """Return the time since the machine has started; it goes on while the machine sleeps, and cannot be set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
