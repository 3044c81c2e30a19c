"""Errno values for exceptions of handlers.

An OSError has its own errno, a number that does not fit is EINVAL, and anything unexpected is EIO with a traceback in
the log. No exception ends a mount.
"""

import errno
import logging

from ctxfs.fuse.operations import Operations

log = logging.getLogger(__name__)

_REFUSALS = (errno.EACCES, errno.EPERM)


def errno_of(error: Exception, request: str, operations: Operations) -> int:
    """Return the errno of the reply for a handler's exception. EACCES and EPERM are recorded in the audit."""
    if isinstance(error, OSError):
        if error.errno in _REFUSALS:
            operations.audit_refusal(request, error)
        return error.errno or errno.EIO
    if isinstance(error, OverflowError):
        return errno.EINVAL  # a number that no system call accepts
    log.error("%s failed", request, exc_info=error)
    return errno.EIO
