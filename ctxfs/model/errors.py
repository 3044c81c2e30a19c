"""The errors of the tree are OSErrors with an errno and a path; those of a command carry a remedy."""

import errno
import os


def path_error(code: int, path: object, why: str | None = None) -> OSError:
    """An OSError for `path`; `why` replaces the system's wording where it says more."""
    return OSError(code, why or os.strerror(code), str(path))


def not_found(path: object) -> OSError:
    """ENOENT: the path does not exist (never: it could not be looked up)."""
    return path_error(errno.ENOENT, path)


def read_only(path: object) -> OSError:
    """EROFS: nothing below this mount can be changed."""
    return path_error(errno.EROFS, path)


def not_permitted(path: object, why: str | None = None) -> OSError:
    """EPERM: this object does not take this change, whoever asks."""
    return path_error(errno.EPERM, path, why)


def invalid(path: object, why: str) -> OSError:
    """EINVAL: the request itself is malformed; `why` says how."""
    return path_error(errno.EINVAL, path, why)


class CommandError(Exception):
    """What a person or a script is told: what is wrong, and the command that mends it.

    `code` is the exit status, one of the EXIT_ values below.
    """

    def __init__(self, message: str, remedy: str = "", code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.code = code


EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_NOTHING_FOUND = 3
EXIT_NO_STORE = 4
EXIT_BUSY = 5
EXIT_UNHEALTHY = 6
EXIT_NOT_KNOWN = 7  # nothing found so far, and not everything could be looked at
