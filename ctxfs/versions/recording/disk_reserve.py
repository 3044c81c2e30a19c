"""A file of a megabyte that is given up when the disk is full: going back needs a little room to make more.

Only where there is plenty of room is it made again.
"""

import errno
import logging
import os
from pathlib import Path as HostPath

log = logging.getLogger(__name__)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_RESERVE_BYTES = 1 << 20
_PLENTY_BYTES = 16 << 20


class DiskReserve:
    """The reserve of one store; `file` is where it lies."""

    def __init__(self, file: HostPath) -> None:
        self._file = file

    def make(self) -> None:
        """Take the room, if there is plenty."""
        try:
            if self._file.exists():
                return
            room = os.statvfs(self._file.parent)
            if room.f_bavail * room.f_frsize < _PLENTY_BYTES:
                return
            with open(self._file, "xb") as file:
                os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)
        except OSError as error:
            log.info("no room is kept in reserve: %s", error.strerror)

    def give_up(self) -> bool:
        """Free the room; False if there is none."""
        try:
            self._file.unlink()
        except OSError:
            return False
        return True
