"""What a handler has raised, as the kernel is told: an OSError's errno, EINVAL for a number that does not fit, EIO for anything
unexpected, with a traceback in the log.

No exception ends a mount.
"""

import errno
import logging

from ctxfs.fuse.operations import Operations

log = logging.getLogger(__name__)

_REFUSALS = (errno.EACCES, errno.EPERM)


def errno_of(error: Exception, request: str, operations: Operations) -> int:
    """The errno to answer a request with; what was refused is noted."""
    if isinstance(error, OSError):
        if error.errno in _REFUSALS:
            operations.refused(request, error)
        return error.errno or errno.EIO
    if isinstance(error, OverflowError):
        return errno.EINVAL  # a number that no system call takes
    log.error("%s failed", request, exc_info=error)
    return errno.EIO
