"""One daemon a store: an flock that dies with its holder."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as HostPath

from ctxfs.model.errors import EXIT_BUSY, CommandError

_LOOK_SECONDS = 0.01


class StoreLock:
    """Holds `<store>/run/lock` for as long as the process lives; its text is the holder's pid."""

    def __init__(self, run: HostPath) -> None:
        self._file = run / "lock"
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock or raise CommandError naming the process that holds it."""
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(fd, 32).decode().strip() or "unknown"
            os.close(fd)
            raise CommandError(
                f"the store '{self._file.parent.parent}' belongs to another ctxfs daemon (pid {holder})",
                "use that one, or stop it: ctxfs unmount --all",
                EXIT_BUSY,
            ) from error
        text = f"{os.getpid()}\n".encode()
        os.pwrite(fd, text, 0)  # before the cut, so that a reader never finds it empty
        os.ftruncate(fd, len(text))
        self._fd = fd

    def release(self) -> None:
        """Give the lock back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def wait_released(run: HostPath, seconds: float) -> bool:
    """Wait until nobody holds the lock of a store; False if somebody still does after so long.

    Not for the end of a process: of one that has ended, whoever should collect it may take his time.
    """
    end = time.monotonic() + seconds
    fd = os.open(run / "lock", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > end:
                    return False
                time.sleep(_LOOK_SECONDS)
    finally:
        os.close(fd)


@contextmanager
def held(folder: HostPath) -> Iterator[None]:
    """While the context lasts no other process that asks for it holds this folder; waits for its turn."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
