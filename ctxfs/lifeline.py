"""Lifelines: child processes end with the process that started them, however it ends.

A lifeline is a pipe whose writing end only the parent holds. The kernel sends SIGKILL to the child when that end closes
(F_SETSIG of fcntl(2)). PR_SET_PDEATHSIG does not serve where a thread of a pool starts the child: it is sent when that
thread ends.
"""

import ctypes
import fcntl
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self

_VARIABLE = "CTXFS_LIFELINE"
_F_SETSIG = 10  # F_SETSIG, which the fcntl module does not name
_PR_SET_PDEATHSIG = 1


@contextmanager
def lifeline() -> Iterator[dict[str, Any]]:
    """Return options for starting a worker, which must call `hold_lifeline`.

    A worker that outlives the context is killed.
    """
    reading, writing = os.pipe()
    try:
        yield {"pass_fds": (reading,), "env": {**os.environ, _VARIABLE: str(reading)}}
    finally:
        os.close(writing)
        os.close(reading)


def hold_lifeline() -> None:
    """Have the kernel kill this process when its parent's end of the lifeline closes.

    Does nothing without a lifeline.
    """
    number = os.environ.pop(_VARIABLE, "")
    if not number:
        return
    reading = int(number)
    os.set_inheritable(reading, False)
    _kill_at_end_of(reading, os.getpid())
    poll = select.poll()
    poll.register(reading, 0)
    if poll.poll(0):  # it was closed before
        os.kill(os.getpid(), signal.SIGKILL)


class Lifeline:
    """A lifeline for a program that does not cooperate: start it with `fd` among its `pass_fds`, then call `tie`."""

    def __init__(self) -> None:
        self.fd, writing = os.pipe()
        self._writing = [writing]  # the thread that pops the descriptor closes it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def tie(self, pid: int) -> None:
        """Kill a process when this one ends; a negative number is a process group.

        The process must hold `fd` open. The parent's copy of it is closed here.
        """
        _kill_at_end_of(self.fd, pid)
        self._close_reading()

    def cut(self) -> None:
        """Kill the tied processes that still hold `fd`. Idempotent and thread-safe."""
        self._close_reading()
        with suppress(IndexError):
            os.close(self._writing.pop())

    def _close_reading(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class TiedProcess(subprocess.Popen[bytes]):
    """A child on a lifeline. Call `release` once it has ended."""

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        self._lifeline = Lifeline()
        try:
            super().__init__(command, pass_fds=(self._lifeline.fd,), **options)
            self._lifeline.tie(self.pid)
        except BaseException:
            self._lifeline.cut()
            raise

    def release(self) -> None:
        """Close the lifeline."""
        self._lifeline.cut()


def _kill_at_end_of(reading: int, pid: int) -> None:
    """Have the kernel kill `pid` (negative: a group) when the writing end of the pipe is closed."""
    fcntl.fcntl(reading, fcntl.F_SETOWN, pid)
    fcntl.fcntl(reading, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(reading, fcntl.F_SETFL, fcntl.fcntl(reading, fcntl.F_GETFL) | os.O_ASYNC)


def end_with_waiting_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends. `parent` is the pid of its process.

    This suits only a worker for which that thread waits.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
