"""A reserve file of one megabyte, which is removed when the disk is full: a rollback needs a little space to free more.

It is created again only while the disk has plenty of space.
"""

import errno
import logging
import os
from pathlib import Path as HostPath

log = logging.getLogger(__name__)

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
_RESERVE_BYTES = 1 << 20
_MIN_FREE_BYTES = 16 << 20


class DiskReserve:
    """The reserve of one store, at the path `file`."""

    def __init__(self, file: HostPath) -> None:
        self._file = file

    def allocate(self) -> None:
        """Allocate the reserve if the disk has at least `_MIN_FREE_BYTES` free. Failures are logged."""
        try:
            if self._file.exists():
                return
            space = os.statvfs(self._file.parent)
            if space.f_bavail * space.f_frsize < _MIN_FREE_BYTES:
                return
            with open(self._file, "xb") as file:
                os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)
        except OSError as error:
            log.info("cannot allocate the disk reserve: %s", error.strerror)

    def release(self) -> bool:
        """Remove the reserve. Return False if there is none."""
        try:
            self._file.unlink()
        except OSError:
            return False
        return True
