"""The presence of a store at its path, for the process that owns it."""

import os
from pathlib import Path as HostPath

import trio

_POLL_SECONDS = 0.5


class StorePresence:
    """The lock file of a store by its inode: while it is at its path, its owner owns the store there.

    A daemon that served a moved or removed store on would write to another place by open descriptors, and make a part
    of a new store at the old path. The directory alone shows no removal, because a write makes it again.
    """

    def __init__(self, lock: HostPath) -> None:
        """Record the lock file. Raise OSError if it is not there."""
        self._lock = lock
        self._identity = _identity(lock)

    def is_there(self) -> bool:
        """Return False if the path is free, or leads to another file."""
        try:
            return _identity(self._lock) == self._identity
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # the disk or the rights have a fault, which other requests report

    async def wait_gone(self) -> None:
        """Wait until the lock file is not there."""
        while self.is_there():
            await trio.sleep(_POLL_SECONDS)


def _identity(file: HostPath) -> tuple[int, int]:
    stat = os.stat(file)
    return stat.st_dev, stat.st_ino
