"""Workers end with the process that has started them, however that ends and whatever they are at.

A lifeline is a pipe whose writing end is the parent's alone. The kernel sends SIGKILL to the worker when that closes (F_SETSIG of
fcntl(2)). PR_SET_PDEATHSIG does not serve where a worker is started by a thread of a pool: it is sent when that thread ends.
"""

import ctypes
import fcntl
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAME = "CTXFS_LIFELINE"
_SETSIG = 10  # F_SETSIG, which the fcntl module does not name
_PR_SET_PDEATHSIG = 1


@contextmanager
def lifeline() -> Iterator[dict[str, Any]]:
    """Options for starting a worker, which is to call `hold_lifeline`; what still runs at the end of the context is killed."""
    reading, writing = os.pipe()
    try:
        yield {"pass_fds": (reading,), "env": {**os.environ, _NAME: str(reading)}}
    finally:
        os.close(writing)
        os.close(reading)


def hold_lifeline() -> None:
    """From now on this process is killed when its parent's end closes. Without a lifeline nothing happens."""
    number = os.environ.pop(_NAME, "")
    if not number:
        return
    reading = int(number)
    os.set_inheritable(reading, False)
    fcntl.fcntl(reading, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(reading, _SETSIG, signal.SIGKILL)
    fcntl.fcntl(reading, fcntl.F_SETFL, fcntl.fcntl(reading, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(reading, 0)
    if poll.poll(0):  # it was closed before
        os.kill(os.getpid(), signal.SIGKILL)


def end_with_waiting_parent(parent: int) -> None:
    """The same for a worker that the thread that has started it waits for; `parent`: that process."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
