"""Child processes end with the process that has started them, however that ends and whatever they are at.

A lifeline is a pipe whose writing end is the parent's alone. The kernel sends SIGKILL to the child when that closes (F_SETSIG of
fcntl(2)). PR_SET_PDEATHSIG does not serve where a child is started by a thread of a pool: it is sent when that thread ends.
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
    _kill_at_end_of(reading, os.getpid())
    poll = select.poll()
    poll.register(reading, 0)
    if poll.poll(0):  # it was closed before
        os.kill(os.getpid(), signal.SIGKILL)


class Lifeline:
    """A lifeline for a program that knows nothing of it: it is started with `fd` among its `pass_fds`, then `tie` names it."""

    def __init__(self) -> None:
        self.fd, writing = os.pipe()
        self._writing = [writing]  # the thread that takes it out closes it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def tie(self, pid: int) -> None:
        """Kill this process when ours ends; a negative number is a process group. It must hold `fd` open, which is closed here."""
        _kill_at_end_of(self.fd, pid)
        self._close_reading()

    def cut(self) -> None:
        """Kill what was tied and still holds `fd`. Safe to call again, and from several threads."""
        self._close_reading()
        with suppress(IndexError):
            os.close(self._writing.pop())

    def _close_reading(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class TiedProcess(subprocess.Popen[bytes]):
    """A child on a lifeline; `release` once it has ended."""

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
    fcntl.fcntl(reading, _SETSIG, signal.SIGKILL)
    fcntl.fcntl(reading, fcntl.F_SETFL, fcntl.fcntl(reading, fcntl.F_GETFL) | os.O_ASYNC)


def end_with_waiting_parent(parent: int) -> None:
    """The same for a worker that the thread that has started it waits for; `parent`: that process."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
