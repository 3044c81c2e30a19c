"""Settings files of other programs: read and replace them without a loss.

A file is replaced atomically, and only if it has not changed since it was read. It keeps its mode, owner and extended
attributes. A symbolic link is followed to a regular file of the same user only, and stays.
"""

import contextlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path as HostPath

from ctxfs.model.errors import CommandError
from ctxfs.store.durable_file import sync_folder

_MAX_BYTES = 10_000_000
_NEW_MODE = 0o644


@dataclass(frozen=True, slots=True)
class ForeignSettings:
    """A settings file as it was read. `path` is free of links; `text` is None if there is no file."""

    path: HostPath
    text: str | None

    @property
    def exists(self) -> bool:
        """True if there was a file."""
        return self.text is not None


def read_settings(file: HostPath) -> ForeignSettings:
    """Read a settings file. Raise CommandError for a file that is not a regular one of this user, or not text."""
    path = HostPath(os.path.realpath(file))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        if os.path.lexists(file):
            raise _refusal(file, "it is a link to a file that does not exist", "make that file, or remove it") from None
        return ForeignSettings(path, None)
    except OSError as error:
        raise _refusal(file, error.strerror or str(error), "check its permissions") from error
    try:
        _check_file(file, os.fstat(fd))
        with open(fd, "rb", closefd=False) as stream:
            data = stream.read(_MAX_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > _MAX_BYTES:
        raise _refusal(file, f"it has more than {_MAX_BYTES} bytes", "look at it")
    try:
        return ForeignSettings(path, data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _refusal(file, f"it is not UTF-8 ({error.reason})", "save it as UTF-8") from error


def _check_file(file: HostPath, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refusal(file, "it is no regular file", "look at it")
    if status.st_uid != os.geteuid():
        raise _refusal(file, f"it belongs to user {status.st_uid}", "run this as its owner")


def check_writable(file: HostPath, settings: ForeignSettings) -> None:
    """Raise CommandError for a file that its owner has made read-only, or that has other names."""
    if not settings.exists:
        return
    status = os.stat(settings.path)
    if not status.st_mode & stat.S_IWUSR or not os.access(settings.path, os.W_OK):
        raise _refusal(file, "it is read-only", f"permit it first: chmod u+w '{settings.path}'")
    if status.st_nlink > 1:
        raise _refusal(file, f"it has {status.st_nlink} hard links", "make a copy of it first")


def replace_settings(file: HostPath, settings: ForeignSettings, text: str) -> None:
    """Replace the file that was read as `settings` by `text`, or make it. Raise CommandError if it cannot be written."""
    check_writable(file, settings)
    path = settings.path
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with open(fd, "wb") as stream:
                stream.write(text.encode("utf-8"))
                _copy_attributes(fd, path, exists=settings.exists)
                stream.flush()
                os.fsync(fd)
            if read_settings(path) != settings:
                raise _refusal(file, "it was changed meanwhile", "run this again")
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise _refusal(file, error.strerror or str(error), "check its permissions") from error


def remove_settings(file: HostPath, settings: ForeignSettings) -> None:
    """Remove the file that was read as `settings`. Raise CommandError if it cannot be removed."""
    check_writable(file, settings)
    if read_settings(settings.path) != settings:
        raise _refusal(file, "it was changed meanwhile", "run this again")
    try:
        settings.path.unlink()
    except OSError as error:
        raise _refusal(file, error.strerror or str(error), "check its permissions") from error


def _copy_attributes(fd: int, path: HostPath, *, exists: bool) -> None:
    """Give a new file the mode, the owner and the extended attributes of the file that it replaces."""
    if not exists:
        umask = os.umask(0o077)
        os.umask(umask)
        os.fchmod(fd, _NEW_MODE & ~umask)
        return
    status = os.stat(path)
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        with contextlib.suppress(PermissionError):
            os.fchown(fd, status.st_uid, status.st_gid)
    with contextlib.suppress(OSError):  # a file system without extended attributes
        for name in os.listxattr(path):
            os.setxattr(fd, name, os.getxattr(path, name))
    os.fchmod(fd, stat.S_IMODE(status.st_mode))


def _refusal(file: HostPath, problem: str, remedy: str) -> CommandError:
    return CommandError(f"'{file}' was not changed: {problem}", remedy)
