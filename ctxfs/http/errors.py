"""Errors of methods as HTTP statuses."""

import errno
from collections.abc import Mapping

STATUSES: Mapping[int, int] = {
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EROFS: 403,
    errno.EINVAL: 400,
    errno.ENAMETOOLONG: 400,
    errno.EISDIR: 400,
    errno.EOPNOTSUPP: 400,
    errno.EBUSY: 409,
    errno.EEXIST: 409,
    errno.ENOTEMPTY: 409,
    errno.ESTALE: 409,
    errno.EFBIG: 413,
    errno.EAGAIN: 429,
    errno.EHOSTUNREACH: 503,
    errno.ENOSPC: 507,
    errno.EDQUOT: 507,
}


def status_of(error: OSError) -> int:
    """Return the HTTP status of an error of the tree; 500 for one that is no fault of the client."""
    return STATUSES.get(error.errno or 0, 500)


def name_of(error: OSError) -> str:
    """Return the name of the errno, such as `ENOENT`."""
    return errno.errorcode.get(error.errno or 0, "EIO")
