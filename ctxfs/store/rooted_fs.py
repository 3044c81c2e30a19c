"""Safe access to host files that others can write: below a root, through no link, nonblocking, regular, bounded.

`tests/trust/test_opens.py` refuses every other open of such a file.
"""

import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import AnyStr

_C = ctypes.CDLL(None, use_errno=True)
_RENAMEAT2 = getattr(_C, "renameat2", None)
# `fallocate` itself takes 32-bit offsets on some machines; some C libraries have only that one.
_FALLOCATE = getattr(_C, "fallocate64", getattr(_C, "fallocate", None))
_NO_ATIME = getattr(os, "O_NOATIME", 0)  # only Linux has it
_PIECE_BYTES = 1 << 20
_ZEROS = memoryview(bytes(_PIECE_BYTES))
# Above any descriptor that the kernel returns.
MAX_DESCRIPTOR = 1 << 30
_INVALID_NAMES = frozenset(("", ".", ".."))
MAX_READ_BYTES = 256 * 2**20  # the limit of a frame of the socket
_EXTRA_READ_BYTES = 4096  # read beyond the reported size of a file
_SYS_OPENAT2 = 437  # on every architecture
_RESOLVE = 0x08 | 0x04 | 0x02  # BENEATH, NO_SYMLINKS, NO_MAGICLINKS
DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(root: str, names: Sequence[str]) -> int:
    """Open an O_PATH descriptor of the directory `names` below `root`; the caller closes it.

    The root itself may be a link (the user named it); no component below it may. Raise OSError: ENOENT, ENOTDIR (also
    for a link as a component).
    """
    _check_names(names)
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in names:
        try:
            deeper = os.open(name, DIRECTORY_FLAGS, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def _check_names(names: Sequence[str]) -> None:
    """Raise EINVAL for an invalid entry name: `..` leads outside."""
    if not _INVALID_NAMES.isdisjoint(names) or any("/" in name for name in names):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


@contextmanager
def listed_directory(root: str, names: Sequence[str]) -> Iterator[int]:
    """Yield a readable descriptor of the directory `names` below `root`; no component of the path may be a link."""
    parent = open_directory(root, names)
    try:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def directory_of(root: str, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the descriptor of the parent directory of `names[-1]`, and that name; `.` for the root itself."""
    _check_names(names)
    fd = open_directory(root, names[:-1])
    try:
        yield fd, names[-1] if names else "."
    finally:
        os.close(fd)


def open_file(root: str, names: Sequence[str]) -> int:
    """Open the regular file `names` below `root` for reading; the caller closes it.

    Raise OSError: ENOENT, ENOTDIR, ELOOP for a link as the last component, EISDIR, ENXIO for a fifo, socket or device.
    """
    if not names:
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    fd = _open_resolved(root, names)
    if fd is not None:
        return _check_regular(fd)
    with directory_of(root, names) as (parent, name):
        return open_regular(name, dir_fd=parent)


def read_file(root: str, names: Sequence[str], limit: int = MAX_READ_BYTES) -> bytes:
    """Return the content of a regular file, as `open_file` opens it; raise EFBIG for more than `limit` bytes."""
    return read_descriptor(open_file(root, names), limit)


def read_head(root: str, names: Sequence[str], limit: int) -> bytes:
    """Return the first `limit` bytes of a regular file, as `open_file` opens it."""
    with open(open_file(root, names), "rb") as file:
        return file.read(limit)


def read_path(file: str | os.PathLike[str], limit: int = MAX_READ_BYTES) -> bytes:
    """Return the content of a regular file in a directory that only its owner writes; otherwise as `read_file`."""
    return read_descriptor(open_regular(file), limit)


def read_descriptor(fd: int, limit: int = MAX_READ_BYTES) -> bytes:
    """Return the content of an open file from its position, and close it; raise EFBIG for more than `limit` bytes."""
    try:
        size = os.fstat(fd).st_size
        pieces, count = list[bytes](), 0
        # A hole costs its creator nothing: no memory is allocated for a file over the limit.
        while size <= limit and (piece := os.read(fd, max(size - count, 0) + _EXTRA_READ_BYTES)):
            pieces.append(piece)
            count += len(piece)
            size = max(size, count)  # it may grow meanwhile
    finally:
        os.close(fd)
    if size > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def open_regular(name: str | bytes | os.PathLike[str], *, dir_fd: int | None = None) -> int:
    """Open a regular file as `open_nofollow` does; raise EISDIR for a directory, ENXIO for a fifo, socket or device."""
    return _check_regular(open_nofollow(name, dir_fd=dir_fd))


def open_nofollow(name: str | bytes | os.PathLike[str], *, dir_fd: int | None = None) -> int:
    """Open a file for reading, with O_NOFOLLOW, O_NONBLOCK and if possible O_NOATIME.

    No link is followed, no fifo is waited for, and the owner's access time stays.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(name, flags | _NO_ATIME, dir_fd=dir_fd)
    except PermissionError:  # another user's file
        return os.open(name, flags, dir_fd=dir_fd)


def _check_regular(fd: int) -> int:
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    code = errno.EISDIR if stat.S_ISDIR(mode) else errno.ENXIO
    raise OSError(code, os.strerror(code))


class _OpenHow(ctypes.Structure):
    """The struct open_how of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _open_resolved(root: str, names: Sequence[str]) -> int | None:
    """Open the file by openat2(2).

    Return None if the kernel lacks the call, or on any error, for which the walk name by name has the more precise
    errno.
    """
    if not _has_openat2:
        return None
    how = _OpenHow(os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | _NO_ATIME, 0, _RESOLVE)
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd: int = _C.syscall(_SYS_OPENAT2, root_fd, os.fsencode("/".join(names)), ctypes.byref(how), ctypes.sizeof(how))
    finally:
        os.close(root_fd)
    return fd if fd >= 0 else None


def _probe_openat2() -> bool:
    """Return True if the kernel has openat2(2), and no seccomp filter forbids it."""
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE)
    with suppress(OSError):
        root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        fd = _C.syscall(_SYS_OPENAT2, root_fd, b".", ctypes.byref(how), ctypes.sizeof(how))
        os.close(root_fd)
        if fd >= 0:
            os.close(fd)
            return True
    return False


def walk(root: AnyStr) -> Iterator[tuple[AnyStr, list[AnyStr], list[AnyStr]]]:
    """Yield (folder, its folders, its other names) as `os.walk` does, without recursion: folders may nest deeply."""
    pending = [root]
    while pending:
        folder = pending.pop()
        folders, names = list[AnyStr](), list[AnyStr]()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    (folders if entry.is_dir(follow_symlinks=False) else names).append(entry.name)
        except OSError:
            continue
        yield folder, folders, names
        pending += [os.path.join(folder, name) for name in folders]


def walk_files(root: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (path below `root`, stat) of all regular files that are not being written, with one system call for each."""
    pending = [("", root)]
    while pending:
        above, folder = pending.pop()
        try:
            with os.scandir(folder) as scanned:
                entries = list(scanned)
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                pending.append((f"{above}{entry.name}/", entry.path))
            elif entry.is_file(follow_symlinks=False) and not is_temporary(os.fsencode(entry.name)):
                with suppress(OSError):  # removed meanwhile
                    yield f"{above}{entry.name}", entry.stat(follow_symlinks=False)


def magic_path(directory: int, name: str) -> str:
    """Return a path for calls that take no directory descriptor; l-calls do not follow the last component."""
    return f"/proc/self/fd/{directory}/{name}"


def temporary_name() -> bytes:
    """Return a new name for a file that is being written, to be renamed over another one."""
    return b".ctxfs-" + secrets.token_hex(16).encode() + b".tmp"


def orphan_name() -> bytes:
    """Return a new name for a complete file before an exchange: after a kill its content may have no version."""
    return b".ctxfs-" + secrets.token_hex(16).encode() + b".out.tmp"


def is_temporary(name: bytes) -> bool:
    """Return True for a name of `temporary_name` or `orphan_name`."""
    return name.startswith(b".ctxfs-") and name.endswith(b".tmp")


def is_orphan(name: bytes) -> bool:
    """Return True for a name of `orphan_name`."""
    return is_temporary(name) and name.endswith(b".out.tmp")


def read_xattrs(target: str | bytes | int) -> dict[str, bytes]:
    """Return the `user.*` attributes of a path (not followed) or a descriptor; none for a link."""
    follow = isinstance(target, int)
    try:
        names = [name for name in os.listxattr(target, follow_symlinks=follow) if name.startswith("user.")]
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP):
            return {}
        raise
    attributes = {}
    for name in names:
        with suppress(OSError):  # removed meanwhile
            attributes[name] = os.getxattr(target, name, follow_symlinks=follow)
    return attributes


RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
# EINVAL: the file system does not support the flag.
_NO_FLAG_ERRNOS = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def rename_at(source: int, name: bytes, target: int, new: bytes, flags: int) -> None:
    """Call renameat2(2), which Python lacks: NOREPLACE fails with EEXIST, EXCHANGE swaps two files."""
    if not flags:
        os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
        return
    if _RENAMEAT2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _RENAMEAT2(source, name, target, new, flags):
        raise _last_error()


def exchange(parent: int, new: bytes, name: bytes) -> None:
    """Exchange two names of a directory; without support of the file system `new` replaces `name`.

    Raise FileNotFoundError if either is absent.
    """
    try:
        rename_at(parent, new, parent, name, RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in _NO_FLAG_ERRNOS:
            raise
        os.stat(name, dir_fd=parent, follow_symlinks=False)
        os.rename(new, name, src_dir_fd=parent, dst_dir_fd=parent)


def rename_new(parent: int, name: bytes, new: bytes) -> None:
    """Rename within a directory to a free name; raise FileExistsError if it exists."""
    try:
        rename_at(parent, name, parent, new, RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in _NO_FLAG_ERRNOS:
            raise
        os.link(name, new, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
        os.unlink(name, dir_fd=parent)


def allocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Call fallocate(2), of which Python has mode 0 only; raise EOPNOTSUPP without support."""
    if _FALLOCATE is None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    if _FALLOCATE(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)):
        raise _last_error()


def read_extents(fd: int) -> Iterator[tuple[int, bytes | int]]:
    """Yield the content of an open file: (offset, at most a megabyte of data), or (offset, the length of a hole).

    The position of `fd` moves. If the file is truncated meanwhile, the content ends there.
    """
    offset, end = 0, os.fstat(fd).st_size
    while offset < end:
        data = _seek(fd, offset, os.SEEK_DATA, end)
        if data > offset:
            yield offset, data - offset
        offset, stop = data, _seek(fd, data, os.SEEK_HOLE, end)
        while offset < stop:
            piece = os.pread(fd, min(_PIECE_BYTES, stop - offset), offset)
            if not piece:
                return
            yield offset, piece
            offset += len(piece)


def _seek(fd: int, offset: int, whence: int, end: int) -> int:
    """Return the offset of the next data or hole; `end` if there is none."""
    try:
        return min(os.lseek(fd, offset, whence), end)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return end


def copy_content(source: int, target: int | None, see: Callable[[bytes | memoryview], object]) -> int:
    """Copy the content of `source` into an empty file, if there is one, holes as holes; return its size.

    `see` receives all content in order, zeros for holes.
    """
    size = 0
    for offset, piece in read_extents(source):
        if isinstance(piece, int):
            for remaining in range(piece, 0, -_PIECE_BYTES):
                see(_ZEROS[: min(remaining, _PIECE_BYTES)])
            size = offset + piece
            continue
        see(piece)
        size = offset
        while target is not None and size < offset + len(piece):
            size += os.pwrite(target, piece[size - offset :], size)
        size = offset + len(piece)
    if target is not None:
        os.ftruncate(target, size)
    return size


def change_owner(fd: int, uid: int, gid: int) -> None:
    """Change the owner of a descriptor's file, also if it was opened with O_PATH."""
    os.chown(f"/proc/self/fd/{fd}", uid, gid)


def _last_error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))


_has_openat2 = _probe_openat2()
