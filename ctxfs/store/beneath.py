"""Host files reached only by descriptors below a root, so that no symlink leads out of it."""

import ctypes
import errno
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

_C = ctypes.CDLL(None, use_errno=True)
_RENAMEAT2 = getattr(_C, "renameat2", None)
# `fallocate` itself takes 32 bits on some machines; some libraries have only the one.
_FALLOCATE = getattr(_C, "fallocate64", getattr(_C, "fallocate", None))
_NO_ATIME = getattr(os, "O_NOATIME", 0)  # Linux alone has it
_PIECE = 1 << 20
_ZEROS = memoryview(bytes(_PIECE))
# Above any descriptor that the kernel hands out.
MAX_DESCRIPTOR = 1 << 30
DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(root: str, names: Sequence[str]) -> int:
    """An O_PATH descriptor of the directory `names` below `root`; the caller closes it.

    The root itself may be a link (the user named it); no component below it may. Raises OSError: ENOENT, ENOTDIR
    (also for a link in the way).
    """
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in names:
        try:
            deeper = os.open(name, DIRECTORY_FLAGS, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


@contextmanager
def directory_of(root: str, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The descriptor of the directory that holds `names[-1]`, and that name; `.` for the root itself."""
    fd = open_directory(root, names[:-1])
    try:
        yield fd, names[-1] if names else "."
    finally:
        os.close(fd)


def read_file(root: str, names: Sequence[str], limit: int | None = None) -> bytes:
    """The content of a regular file; OSError ELOOP for a link, EISDIR for a directory."""
    with directory_of(root, names) as (parent, name):
        fd = open_quietly(name, dir_fd=parent)
    with open(fd, "rb") as file:
        return file.read() if limit is None else file.read(limit)


def open_quietly(name: str | bytes | os.PathLike[str], *, dir_fd: int | None = None) -> int:
    """A descriptor to read a file on our own account: no link is followed, no fifo waited for, and it stays unread for its owner."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(name, flags | _NO_ATIME, dir_fd=dir_fd)
    except PermissionError:  # somebody else's
        return os.open(name, flags, dir_fd=dir_fd)


def magic_path(directory: int, name: str) -> str:
    """A path for calls that take no directory descriptor; the last component is not followed by l-calls."""
    return f"/proc/self/fd/{directory}/{name}"


def temporary_name() -> bytes:
    """A name for a file that is about to be renamed over another one."""
    return b".ctxfs-" + secrets.token_hex(16).encode() + b".tmp"


def is_temporary(name: bytes) -> bool:
    """True for a name that `temporary_name` made."""
    return name.startswith(b".ctxfs-") and name.endswith(b".tmp")


def read_xattrs(place: str | bytes | int) -> dict[str, bytes]:
    """The `user.*` attributes of a path (not followed) or a descriptor; none for a link."""
    follow = isinstance(place, int)
    try:
        names = [name for name in os.listxattr(place, follow_symlinks=follow) if name.startswith("user.")]
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP):
            return {}
        raise
    found = {}
    for name in names:
        with suppress(OSError):  # removed meanwhile
            found[name] = os.getxattr(place, name, follow_symlinks=follow)
    return found


RENAME_EXCHANGE = 2


def rename_at(source: int, name: bytes, target: int, new: bytes, flags: int) -> None:
    """renameat2(2), which Python lacks: NOREPLACE fails with EEXIST, EXCHANGE swaps two files."""
    if not flags:
        os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
        return
    if _RENAMEAT2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _RENAMEAT2(source, name, target, new, flags):
        raise _last_error()


def allocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2), of which Python has mode 0 only; EOPNOTSUPP for what this machine cannot."""
    if _FALLOCATE is None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    if _FALLOCATE(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)):
        raise _last_error()


def content(fd: int) -> Iterator[tuple[int, bytes | int]]:
    """What an open file holds, from its start: (offset, a megabyte of data at most), or (offset, the length of a hole).

    The position of `fd` moves. A file that is cut meanwhile ends where it was cut.
    """
    at, end = 0, os.fstat(fd).st_size
    while at < end:
        data = _sought(fd, at, os.SEEK_DATA, end)
        if data > at:
            yield at, data - at
        at, stop = data, _sought(fd, data, os.SEEK_HOLE, end)
        while at < stop:
            piece = os.pread(fd, min(_PIECE, stop - at), at)
            if not piece:
                return
            yield at, piece
            at += len(piece)


def _sought(fd: int, at: int, whence: int, end: int) -> int:
    """Where the next data or hole begins; `end` where none does."""
    try:
        return min(os.lseek(fd, at, whence), end)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return end


def copy_content(source: int, target: int | None, see: Callable[[bytes | memoryview], object]) -> int:
    """All that `source` holds into an empty file, if there is one, holes as holes; its size.

    `see` is shown everything in order, zeros for holes.
    """
    size = 0
    for at, piece in content(source):
        if isinstance(piece, int):
            for left in range(piece, 0, -_PIECE):
                see(_ZEROS[: min(left, _PIECE)])
            size = at + piece
            continue
        see(piece)
        size = at
        while target is not None and size < at + len(piece):
            size += os.pwrite(target, piece[size - at :], size)
        size = at + len(piece)
    if target is not None:
        os.ftruncate(target, size)
    return size


def change_owner(fd: int, uid: int, gid: int) -> None:
    """Of what a descriptor stands for, also one that was opened with O_PATH."""
    os.chown(f"/proc/self/fd/{fd}", uid, gid)


def _last_error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
