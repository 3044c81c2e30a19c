"""Errors: those of the tree are OSErrors with an errno and a path; those of a command have a remedy."""

import errno
import os


def path_error(code: int, path: object, why: str | None = None) -> OSError:
    """Return an OSError for `path`; `why` replaces the system's text where it is more specific."""
    return OSError(code, why or os.strerror(code), str(path))


def not_found(path: object) -> OSError:
    """Return ENOENT: the path does not exist (never for a failed lookup)."""
    return path_error(errno.ENOENT, path)


def read_only(path: object) -> OSError:
    """Return EROFS: this mount is read-only."""
    return path_error(errno.EROFS, path)


def not_permitted(path: object, why: str | None = None) -> OSError:
    """Return EPERM: this object does not accept this change from any principal."""
    return path_error(errno.EPERM, path, why)


def invalid(path: object, why: str) -> OSError:
    """Return EINVAL: the request itself is malformed; `why` describes how."""
    return path_error(errno.EINVAL, path, why)


class CommandError(Exception):
    """An error for the user of a command: the cause, and a command that remedies it.

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
EXIT_NOT_KNOWN = 7  # no result, and the search was incomplete
