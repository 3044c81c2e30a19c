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


def _pack_nothing(_: object) -> bytes:
    return b""


def _pack_bytes(data: bytes) -> bytes:
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
        return self.operations.lookup(number, _parse_name(body))

    def getattr(self, number: int, body: memoryview) -> Any:
        return self.operations.getattr(number)

    def access(self, number: int, body: memoryview) -> Any:
        return self.operations.access(number, fuse.U32.unpack_from(body)[0])

    def setattr(self, number: int, body: memoryview) -> Any:
        request = fuse.unpack_setattr(body)
        atime, mtime = request.atime_ns, request.mtime_ns
        is_now = request.atime_now and request.mtime_now
        if not is_now and (request.atime_now or request.mtime_now):
            now = time.time_ns()
            atime, mtime = now if request.atime_now else atime, now if request.mtime_now else mtime
        elif is_now:
            atime = mtime = None
        changes = SetattrRequest(
            request.mode, request.uid, request.gid, request.size, atime, mtime, is_now, request.kill
        )
        return self.operations.setattr(
            number, changes, None if request.fh is None else request.fh & fuse.DESCRIPTOR_MASK
        )

    def readlink(self, number: int, body: memoryview) -> Any:
        return self.operations.readlink(number)

    def symlink(self, number: int, body: memoryview) -> Any:
        name, target = _split_two(body)
        return self.operations.symlink(number, _parse_name(name + b"\0"), target, self._caller())

    def mknod(self, number: int, body: memoryview) -> Any:
        mode, rdev, umask, _ = fuse.FOUR_U32.unpack_from(body)
        device = os.makedev((rdev >> 8) & 0xFFF, (rdev & 0xFF) | ((rdev >> 12) & 0xFFF00))
        return self.operations.mknod(number, _parse_name(body[16:]), mode, device, self._caller(umask))

    def mkdir(self, number: int, body: memoryview) -> Any:
        mode, umask = fuse.TWO_U32.unpack_from(body)
        return self.operations.mkdir(number, _parse_name(body[8:]), mode, self._caller(umask))

    def unlink(self, number: int, body: memoryview) -> Any:
        return self.operations.unlink(number, _parse_name(body))

    def rmdir(self, number: int, body: memoryview) -> Any:
        return self.operations.rmdir(number, _parse_name(body))

    def rename(self, number: int, body: memoryview) -> Any:
        (target,) = fuse.U64.unpack_from(body)
        old, new = _parse_two_names(body[8:])
        return self.operations.rename(number, old, target, new, 0)

    def rename2(self, number: int, body: memoryview) -> Any:
        target, flags, _ = fuse.RENAME2_IN.unpack_from(body)
        old, new = _parse_two_names(body[16:])
        return self.operations.rename(number, old, target, new, flags)

    def link(self, number: int, body: memoryview) -> Any:
        (source,) = fuse.U64.unpack_from(body)
        return self.operations.link(source, number, _parse_name(body[8:]))

    def open(self, number: int, body: memoryview) -> Any:
        flags, open_flags = fuse.TWO_U32.unpack_from(body)
        return self.operations.open(number, flags, self.uid, drop_privileges=bool(open_flags & fuse.OPEN_KILL_SUIDGID))

    def create(self, number: int, body: memoryview) -> Any:
        flags, mode, umask, _ = fuse.FOUR_U32.unpack_from(body)
        return self.operations.create(number, _parse_name(body[16:]), mode, flags, self._caller(umask))

    def read(self, number: int, body: memoryview) -> Any:
        fh, offset, size, *_ = fuse.READ_IN.unpack_from(body)
        fh &= fuse.DESCRIPTOR_MASK
        return self.operations.read(fh, offset, size) if fh else self.operations.read_unopened(number, offset, size)

    def write(self, number: int, body: memoryview) -> Any:
        fh, offset, size, flags, *_ = fuse.READ_IN.unpack_from(body)
        fh &= fuse.DESCRIPTOR_MASK
        data = body[fuse.READ_IN.size : fuse.READ_IN.size + size]
        return self.operations.write(fh, offset, data, drop_privileges=bool(flags & fuse.WRITE_KILL_SUIDGID))

    def statfs(self, number: int, body: memoryview) -> Any:
        return self.operations.statfs()

    def release(self, number: int, body: memoryview) -> Any:
        (fh,) = fuse.U64.unpack_from(body)
        self.operations.release_locks(number, fh)
        return self.operations.release(fh & fuse.DESCRIPTOR_MASK)

    def flush(self, number: int, body: memoryview) -> Any:
        fh, _, _, owner = fuse.FLUSH_IN.unpack_from(body)
        return self.operations.flush(number, fh & fuse.DESCRIPTOR_MASK, owner)

    def getlk(self, number: int, body: memoryview) -> Any:
        fh, owner, start, end, kind, pid, _, _ = fuse.LK_IN.unpack_from(body)
        return self.operations.get_lock(number, fh & fuse.DESCRIPTOR_MASK, owner, Range(kind, start, end, pid))

    def setlk(self, number: int, body: memoryview) -> Any:
        return self._set_lock(number, body, waits=False)

    def setlkw(self, number: int, body: memoryview) -> Any:
        return self._set_lock(number, body, waits=True)

    def _set_lock(self, number: int, body: memoryview, *, waits: bool) -> Any:
        handle, owner, start, end, kind, pid, flags, _ = fuse.LK_IN.unpack_from(body)
        if kind not in _LOCK_TYPES:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        lock, fh = Range(kind, start, end, pid), handle & fuse.DESCRIPTOR_MASK
        is_flock = bool(flags & fuse.LK_FLOCK)
        return self.operations.set_lock(number, fh, handle, owner, lock, is_flock=is_flock, waits=waits)

    def fsync(self, number: int, body: memoryview) -> Any:
        fh, flags, _ = fuse.FSYNC_IN.unpack_from(body)
        return self.operations.fsync(fh & fuse.DESCRIPTOR_MASK, bool(flags & 1))

    def setxattr(self, number: int, body: memoryview) -> Any:
        size, flags = fuse.TWO_U32.unpack_from(body)
        extra_flags, header_size = 0, 8
        if self.has_long_setxattr:
            _, _, extra_flags, _ = fuse.FOUR_U32.unpack_from(body)
            header_size = fuse.FOUR_U32.size
        name, _, value = bytes(body[header_size:]).partition(b"\0")
        drops_setgid = bool(extra_flags & fuse.SETXATTR_ACL_KILL_SGID)
        return self.operations.setxattr(number, name, value[:size], flags, drops_setgid=drops_setgid)

    def getxattr(self, number: int, body: memoryview) -> Any:
        return self._reply_sized(body, self.operations.getxattr(number, bytes(body[8:-1])))

    def listxattr(self, number: int, body: memoryview) -> Any:
        return self._reply_sized(body, self.operations.listxattr(number, self.uid == 0), _join_names)

    def removexattr(self, number: int, body: memoryview) -> Any:
        return self.operations.removexattr(number, bytes(body[:-1]))

    def readdirplus(self, number: int, body: memoryview) -> Any:
        _, cookie, size, *_ = fuse.READ_IN.unpack_from(body)
        entries = fuse.PackedEntries(size, self._pack)
        coroutine = self.operations.readdir_unopened(number, cookie, entries)
        return _convert_result(coroutine, lambda _: entries.packed()) if coroutine is not None else entries.packed()

    def fsyncdir(self, number: int, body: memoryview) -> Any:
        return self.operations.fsyncdir_unopened(number)

    def fallocate(self, number: int, body: memoryview) -> Any:
        fh, offset, length, mode, _ = fuse.FALLOCATE_IN.unpack_from(body)
        # These two requests have no flag for dropping set-user and set-group bits: root may keep them.
        return self.operations.allocate(fh & fuse.DESCRIPTOR_MASK, mode, offset, length, drop_privileges=self.uid != 0)

    def lseek(self, number: int, body: memoryview) -> Any:
        fh, offset, whence, _ = fuse.LSEEK_IN.unpack_from(body)
        return self.operations.seek(fh & fuse.DESCRIPTOR_MASK, offset, whence)

    def copy_file_range(self, number: int, body: memoryview) -> Any:
        source, offset, _, target, target_offset, length, _ = fuse.COPY_IN.unpack_from(body)
        source, target = source & fuse.DESCRIPTOR_MASK, target & fuse.DESCRIPTOR_MASK
        return self.operations.copy_range(source, offset, target, target_offset, length, drop_privileges=self.uid != 0)

    @staticmethod
    def _reply_sized(body: memoryview, value: Any, convert: Callable[[Any], bytes] = _pack_bytes) -> Any:
        """Return the reply to GETXATTR or LISTXATTR for a value, or for a coroutine that returns it.

        If the caller's buffer has size 0 the reply is the size of the value, else the value. Raise ERANGE if it does
        not fit.
        """
        size: int = fuse.U32.unpack_from(body)[0]
        if type(value) is CoroutineType:
            return _convert_result(value, lambda result: _check_fit(size, convert(result)))
        return _check_fit(size, convert(value))


def _check_fit(size: int, value: bytes) -> bytes:
    if not size:
        return fuse.TWO_U32.pack(len(value), 0)
    if len(value) > size:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
    return value


def _join_names(names: Sequence[bytes]) -> bytes:
    return b"".join(name + b"\0" for name in names)


async def _convert_result(coroutine: Any, convert: Callable[[Any], bytes]) -> bytes:
    return convert(await coroutine)


def _parse_name(body: memoryview | bytes) -> bytes:
    """Return a name without its NUL.

    Raise EINVAL for a slash, a NUL, `.` and `..`. The kernel never sends these, but the file system must not depend on
    that.
    """
    name = bytes(body[:-1])
    if b"/" in name or b"\0" in name or name in _INVALID_NAMES:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return name


_INVALID_NAMES = (b"", b".", b"..")
_LOCK_TYPES = (fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK)


def _split_two(body: memoryview) -> tuple[bytes, bytes]:
    texts = bytes(body).split(b"\0")
    if len(texts) != 3:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return texts[0], texts[1]


def _parse_two_names(body: memoryview) -> tuple[bytes, bytes]:
    old, new = _split_two(body)
    return _parse_name(old + b"\0"), _parse_name(new + b"\0")


def _pack_size(count: int) -> bytes:
    return fuse.TWO_U32.pack(count, 0)


# opcode → (name, decoder, encoder). OPENDIR is absent: directories are read by their node numbers.
TABLE: list[tuple[str, Decode, Encode] | None] = [None] * fuse.OPCODE_COUNT
for _code, _decode, _encode in (
    (fuse.LOOKUP, Requests.lookup, fuse.pack_entry),
    (fuse.GETATTR, Requests.getattr, fuse.pack_attr),
    (fuse.ACCESS, Requests.access, _pack_nothing),
    (fuse.SETATTR, Requests.setattr, fuse.pack_attr),
    (fuse.READLINK, Requests.readlink, _pack_bytes),
    (fuse.SYMLINK, Requests.symlink, fuse.pack_entry),
    (fuse.MKNOD, Requests.mknod, fuse.pack_entry),
    (fuse.MKDIR, Requests.mkdir, fuse.pack_entry),
    (fuse.UNLINK, Requests.unlink, _pack_nothing),
    (fuse.RMDIR, Requests.rmdir, _pack_nothing),
    (fuse.RENAME, Requests.rename, _pack_nothing),
    (fuse.RENAME2, Requests.rename2, _pack_nothing),
    (fuse.LINK, Requests.link, fuse.pack_entry),
    (fuse.OPEN, Requests.open, fuse.pack_open),
    (fuse.CREATE, Requests.create, fuse.pack_create),
    (fuse.READ, Requests.read, _pack_bytes),
    (fuse.WRITE, Requests.write, _pack_size),
    (fuse.STATFS, Requests.statfs, fuse.pack_statfs),
    (fuse.RELEASE, Requests.release, _pack_nothing),
    (fuse.FSYNC, Requests.fsync, _pack_nothing),
    (fuse.FLUSH, Requests.flush, _pack_nothing),
    (fuse.GETLK, Requests.getlk, fuse.pack_lock),
    (fuse.SETLK, Requests.setlk, _pack_nothing),
    (fuse.SETLKW, Requests.setlkw, _pack_nothing),
    (fuse.SETXATTR, Requests.setxattr, _pack_nothing),
    (fuse.GETXATTR, Requests.getxattr, _pack_bytes),
    (fuse.LISTXATTR, Requests.listxattr, _pack_bytes),
    (fuse.REMOVEXATTR, Requests.removexattr, _pack_nothing),
    (fuse.READDIRPLUS, Requests.readdirplus, _pack_bytes),
    (fuse.FSYNCDIR, Requests.fsyncdir, _pack_nothing),
    (fuse.FALLOCATE, Requests.fallocate, _pack_nothing),
    (fuse.LSEEK, Requests.lseek, fuse.U64.pack),
    (fuse.COPY_FILE_RANGE, Requests.copy_file_range, _pack_size),
):
    TABLE[_code] = (_decode.__name__, _decode, _encode)
