"""The store lock: an flock that permits one daemon a store, and ends with its process."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as HostPath

from ctxfs.model.errors import EXIT_BUSY, CommandError
from ctxfs.store import store_format

_POLL_SECONDS = 0.01


class StoreLock:
    """The lock `<store>/run/lock`, held for the life of the process; its text is the holder's pid."""

    def __init__(self, run: HostPath) -> None:
        self._file = run / "lock"
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock, and migrate a store of an older format.

        Raise CommandError, with the pid of the holder if another process has it.
        """
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
        os.pwrite(fd, text, 0)  # before the truncation, so that a reader never finds it empty
        os.ftruncate(fd, len(text))
        self._fd = fd
        if store_format.read_format(self._file.parent.parent) < store_format.FORMAT:
            self._migrate()

    def _migrate(self) -> None:
        from ctxfs.store.migration import migrate  # here, because it is rarely needed

        try:
            migrate(self._file.parent.parent)
        except CommandError:
            self.release()
            raise

    def release(self) -> None:
        """Release the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def wait_released(run: HostPath, seconds: float) -> bool:
    """Wait until no process holds the lock of a store; return False if the time has passed.

    This does not wait for the end of a process, because its parent may reap it late.
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
                time.sleep(_POLL_SECONDS)
    finally:
        os.close(fd)


@contextmanager
def exclusive_folder(folder: HostPath) -> Iterator[None]:
    """Hold an exclusive flock on a folder for the context; blocks until it is free."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
