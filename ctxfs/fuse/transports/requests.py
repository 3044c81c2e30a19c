"""Decoders from request bodies to calls of `Operations`, and encoders of the results. Pure: no descriptor here."""

# ruff: noqa: D102 - each method decodes the request of its name, which `protocol` and the operations describe

import errno
import fcntl
import os
import time
from collections.abc import Callable, Sequence
from types import CoroutineType
from typing import Any

from ctxfs.fuse.attributes import RequestContext, SetattrRequest
from ctxfs.fuse.lock_owners import Range
from ctxfs.fuse.operations import Operations
from ctxfs.fuse.transports import protocol as fuse

Decode = Callable[["Requests", int, memoryview], Any]
Encode = Callable[[Any], bytes]


def _nothing(_: object) -> bytes:
    return b""


def _as_is(data: bytes) -> bytes:
    return data


class Requests:
    """One method for each opcode: (node number, body after the header) → result, or a coroutine that returns it.

    `uid`, `gid` and `pid` are those of the current request.
    """

    def __init__(self, operations: Operations, pack: fuse.PackEntries | None = None) -> None:
        self.operations = operations
        self._pack = pack
        self.uid = self.gid = self.pid = 0
        self.has_long_setxattr = False

    def _caller(self, umask: int = 0) -> RequestContext:
        return RequestContext(self.uid, self.gid, umask & 0o777)

    def lookup(self, number: int, body: memoryview) -> Any:
        return self.operations.lookup(number, _name(body))

    def getattr(self, number: int, body: memoryview) -> Any:
        return self.operations.getattr(number)

    def access(self, number: int, body: memoryview) -> Any:
        return self.operations.access(number, fuse.U32.unpack_from(body)[0])

    def setattr(self, number: int, body: memoryview) -> Any:
        asked = fuse.setattr_in(body)
        atime, mtime = asked.atime_ns, asked.mtime_ns
        both_now = asked.atime_now and asked.mtime_now
        if not both_now and (asked.atime_now or asked.mtime_now):
            now = time.time_ns()
            atime, mtime = now if asked.atime_now else atime, now if asked.mtime_now else mtime
        elif both_now:
            atime = mtime = None
        wanted = SetattrRequest(asked.mode, asked.uid, asked.gid, asked.size, atime, mtime, both_now, asked.kill)
        return self.operations.setattr(number, wanted, None if asked.fh is None else asked.fh & fuse.HANDLE)

    def readlink(self, number: int, body: memoryview) -> Any:
        return self.operations.readlink(number)

    def symlink(self, number: int, body: memoryview) -> Any:
        name, target = _two(body)
        return self.operations.symlink(number, _name(name + b"\0"), target, self._caller())

    def mknod(self, number: int, body: memoryview) -> Any:
        mode, rdev, umask, _ = fuse.FOUR_U32.unpack_from(body)
        device = os.makedev((rdev >> 8) & 0xFFF, (rdev & 0xFF) | ((rdev >> 12) & 0xFFF00))
        return self.operations.mknod(number, _name(body[16:]), mode, device, self._caller(umask))

    def mkdir(self, number: int, body: memoryview) -> Any:
        mode, umask = fuse.TWO_U32.unpack_from(body)
        return self.operations.mkdir(number, _name(body[8:]), mode, self._caller(umask))

    def unlink(self, number: int, body: memoryview) -> Any:
        return self.operations.unlink(number, _name(body))

    def rmdir(self, number: int, body: memoryview) -> Any:
        return self.operations.rmdir(number, _name(body))

    def rename(self, number: int, body: memoryview) -> Any:
        (to,) = fuse.U64.unpack_from(body)
        old, new = _two_names(body[8:])
        return self.operations.rename(number, old, to, new, 0)

    def rename2(self, number: int, body: memoryview) -> Any:
        to, flags, _ = fuse.RENAME2_IN.unpack_from(body)
        old, new = _two_names(body[16:])
        return self.operations.rename(number, old, to, new, flags)

    def link(self, number: int, body: memoryview) -> Any:
        (source,) = fuse.U64.unpack_from(body)
        return self.operations.link(source, number, _name(body[8:]))

    def open(self, number: int, body: memoryview) -> Any:
        flags, how = fuse.TWO_U32.unpack_from(body)
        return self.operations.open(number, flags, self.uid, drop_privileges=bool(how & fuse.OPEN_KILL_SUIDGID))

    def create(self, number: int, body: memoryview) -> Any:
        flags, mode, umask, _ = fuse.FOUR_U32.unpack_from(body)
        return self.operations.create(number, _name(body[16:]), mode, flags, self._caller(umask))

    def read(self, number: int, body: memoryview) -> Any:
        fh, offset, size, *_ = fuse.READ_IN.unpack_from(body)
        fh &= fuse.HANDLE
        return self.operations.read(fh, offset, size) if fh else self.operations.read_unopened(number, offset, size)

    def write(self, number: int, body: memoryview) -> Any:
        fh, offset, size, flags, *_ = fuse.READ_IN.unpack_from(body)
        fh &= fuse.HANDLE
        data = body[fuse.READ_IN.size : fuse.READ_IN.size + size]
        return self.operations.write(fh, offset, data, drop_privileges=bool(flags & fuse.WRITE_KILL_SUIDGID))

    def statfs(self, number: int, body: memoryview) -> Any:
        return self.operations.statfs()

    def release(self, number: int, body: memoryview) -> Any:
        (fh,) = fuse.U64.unpack_from(body)
        self.operations.end_locks(number, fh)
        return self.operations.release(fh & fuse.HANDLE)

    def flush(self, number: int, body: memoryview) -> Any:
        fh, _, _, owner = fuse.FLUSH_IN.unpack_from(body)
        return self.operations.flush(number, fh & fuse.HANDLE, owner)

    def getlk(self, number: int, body: memoryview) -> Any:
        fh, owner, start, end, kind, pid, _, _ = fuse.LK_IN.unpack_from(body)
        return self.operations.get_lock(number, fh & fuse.HANDLE, owner, Range(kind, start, end, pid))

    def setlk(self, number: int, body: memoryview) -> Any:
        return self._set_lock(number, body, waits=False)

    def setlkw(self, number: int, body: memoryview) -> Any:
        return self._set_lock(number, body, waits=True)

    def _set_lock(self, number: int, body: memoryview, *, waits: bool) -> Any:
        handle, owner, start, end, kind, pid, flags, _ = fuse.LK_IN.unpack_from(body)
        if kind not in _LOCKS:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        wanted, fh = Range(kind, start, end, pid), handle & fuse.HANDLE
        is_flock = bool(flags & fuse.LK_FLOCK)
        return self.operations.set_lock(number, fh, handle, owner, wanted, is_flock=is_flock, waits=waits)

    def fsync(self, number: int, body: memoryview) -> Any:
        fh, flags, _ = fuse.FSYNC_IN.unpack_from(body)
        return self.operations.fsync(fh & fuse.HANDLE, bool(flags & 1))

    def setxattr(self, number: int, body: memoryview) -> Any:
        size, flags = fuse.TWO_U32.unpack_from(body)
        more, head = 0, 8
        if self.has_long_setxattr:
            _, _, more, _ = fuse.FOUR_U32.unpack_from(body)
            head = fuse.FOUR_U32.size
        name, _, value = bytes(body[head:]).partition(b"\0")
        drops_setgid = bool(more & fuse.SETXATTR_ACL_KILL_SGID)
        return self.operations.setxattr(number, name, value[:size], flags, drops_setgid=drops_setgid)

    def getxattr(self, number: int, body: memoryview) -> Any:
        return self._sized(body, self.operations.getxattr(number, bytes(body[8:-1])))

    def listxattr(self, number: int, body: memoryview) -> Any:
        return self._sized(body, self.operations.listxattr(number, self.uid == 0), _joined)

    def removexattr(self, number: int, body: memoryview) -> Any:
        return self.operations.removexattr(number, bytes(body[:-1]))

    def readdirplus(self, number: int, body: memoryview) -> Any:
        _, place, size, *_ = fuse.READ_IN.unpack_from(body)
        names = fuse.Names(size, self._pack)
        later = self.operations.readdir_unopened(number, place, names)
        return _after(later, lambda _: names.packed()) if later is not None else names.packed()

    def fsyncdir(self, number: int, body: memoryview) -> Any:
        return self.operations.fsyncdir_unopened(number)

    def fallocate(self, number: int, body: memoryview) -> Any:
        fh, offset, length, mode, _ = fuse.FALLOCATE_IN.unpack_from(body)
        # These two requests have no flag for dropping set-user and set-group bits: root may keep them.
        return self.operations.allocate(fh & fuse.HANDLE, mode, offset, length, drop_privileges=self.uid != 0)

    def lseek(self, number: int, body: memoryview) -> Any:
        fh, offset, whence, _ = fuse.LSEEK_IN.unpack_from(body)
        return self.operations.seek(fh & fuse.HANDLE, offset, whence)

    def copy_file_range(self, number: int, body: memoryview) -> Any:
        source, offset, _, target, target_offset, length, _ = fuse.COPY_IN.unpack_from(body)
        source, target = source & fuse.HANDLE, target & fuse.HANDLE
        return self.operations.copy_range(source, offset, target, target_offset, length, drop_privileges=self.uid != 0)

    @staticmethod
    def _sized(body: memoryview, value: Any, make: Callable[[Any], bytes] = _as_is) -> Any:
        """Return the reply to GETXATTR or LISTXATTR for a value, or for a coroutine that returns it.

        If the caller's buffer has size 0 the reply is the size of the value, else the value. Raise ERANGE if it does
        not fit.
        """
        size: int = fuse.U32.unpack_from(body)[0]
        if type(value) is CoroutineType:
            return _after(value, lambda found: _fitting(size, make(found)))
        return _fitting(size, make(value))


def _fitting(size: int, value: bytes) -> bytes:
    if not size:
        return fuse.TWO_U32.pack(len(value), 0)
    if len(value) > size:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
    return value


def _joined(names: Sequence[bytes]) -> bytes:
    return b"".join(name + b"\0" for name in names)


async def _after(later: Any, make: Callable[[Any], bytes]) -> bytes:
    return make(await later)


def _name(body: memoryview | bytes) -> bytes:
    """Return a name without its NUL.

    Raise EINVAL for a slash, a NUL, `.` and `..`. The kernel never sends these, but the file system must not depend on
    that.
    """
    name = bytes(body[:-1])
    if b"/" in name or b"\0" in name or name in _NO_NAMES:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return name


_NO_NAMES = (b"", b".", b"..")
_LOCKS = (fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK)


def _two(body: memoryview) -> tuple[bytes, bytes]:
    texts = bytes(body).split(b"\0")
    if len(texts) != 3:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return texts[0], texts[1]


def _two_names(body: memoryview) -> tuple[bytes, bytes]:
    one, two = _two(body)
    return _name(one + b"\0"), _name(two + b"\0")


def _size(count: int) -> bytes:
    return fuse.TWO_U32.pack(count, 0)


# opcode → (name, decoder, encoder). OPENDIR is absent: directories are read by their node numbers.
TABLE: list[tuple[str, Decode, Encode] | None] = [None] * fuse.LAST
for _code, _decode, _encode in (
    (fuse.LOOKUP, Requests.lookup, fuse.entry),
    (fuse.GETATTR, Requests.getattr, fuse.attr),
    (fuse.ACCESS, Requests.access, _nothing),
    (fuse.SETATTR, Requests.setattr, fuse.attr),
    (fuse.READLINK, Requests.readlink, _as_is),
    (fuse.SYMLINK, Requests.symlink, fuse.entry),
    (fuse.MKNOD, Requests.mknod, fuse.entry),
    (fuse.MKDIR, Requests.mkdir, fuse.entry),
    (fuse.UNLINK, Requests.unlink, _nothing),
    (fuse.RMDIR, Requests.rmdir, _nothing),
    (fuse.RENAME, Requests.rename, _nothing),
    (fuse.RENAME2, Requests.rename2, _nothing),
    (fuse.LINK, Requests.link, fuse.entry),
    (fuse.OPEN, Requests.open, fuse.opened),
    (fuse.CREATE, Requests.create, fuse.created),
    (fuse.READ, Requests.read, _as_is),
    (fuse.WRITE, Requests.write, _size),
    (fuse.STATFS, Requests.statfs, fuse.statfs),
    (fuse.RELEASE, Requests.release, _nothing),
    (fuse.FSYNC, Requests.fsync, _nothing),
    (fuse.FLUSH, Requests.flush, _nothing),
    (fuse.GETLK, Requests.getlk, fuse.lock),
    (fuse.SETLK, Requests.setlk, _nothing),
    (fuse.SETLKW, Requests.setlkw, _nothing),
    (fuse.SETXATTR, Requests.setxattr, _nothing),
    (fuse.GETXATTR, Requests.getxattr, _as_is),
    (fuse.LISTXATTR, Requests.listxattr, _as_is),
    (fuse.REMOVEXATTR, Requests.removexattr, _nothing),
    (fuse.READDIRPLUS, Requests.readdirplus, _as_is),
    (fuse.FSYNCDIR, Requests.fsyncdir, _nothing),
    (fuse.FALLOCATE, Requests.fallocate, _nothing),
    (fuse.LSEEK, Requests.lseek, fuse.U64.pack),
    (fuse.COPY_FILE_RANGE, Requests.copy_file_range, _size),
):
    TABLE[_code] = (_decode.__name__, _decode, _encode)
