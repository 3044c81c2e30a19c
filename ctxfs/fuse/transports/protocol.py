"""The kernel's FUSE protocol, version 7: numbers, layouts and packing.

<linux/fuse.h> and the kernel's documentation define it. Pure: no descriptor, no kernel. Everything is in the
machine's byte order, aligned by hand as in the header.
"""

import functools
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ctxfs.fuse.attributes import Attributes, OpenReply, SyntheticStatfs
from ctxfs.fuse.directory_stream import DOT, DOTS
from ctxfs.fuse.interfaces import DirectoryEntries, PackedFiles
from ctxfs.fuse.lock_owners import Range

MAJOR, MINOR = 7, 40
MIN_MINOR = 31  # Linux 5.4

# opcodes
LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK = 1, 2, 3, 4, 5, 6
MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, OPEN, READ, WRITE = 8, 9, 10, 11, 12, 13, 14, 15, 16
STATFS, RELEASE, FSYNC, SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR = 17, 18, 20, 21, 22, 23, 24
FLUSH, INIT, FSYNCDIR, GETLK, SETLK, SETLKW, ACCESS, CREATE, INTERRUPT = 25, 26, 30, 31, 32, 33, 34, 35, 36
DESTROY, BATCH_FORGET, FALLOCATE, READDIRPLUS, RENAME2, LSEEK, COPY_FILE_RANGE = 38, 42, 43, 44, 45, 46, 47
OPENDIR, TMPFILE = 27, 51
OPCODE_COUNT = 64

# flags of INIT
ASYNC_READ = 1 << 0
POSIX_LOCKS = 1 << 1
ATOMIC_O_TRUNC = 1 << 3
BIG_WRITES = 1 << 5
DONT_MASK = 1 << 6
FLOCK_LOCKS = 1 << 10
AUTO_INVAL_DATA = 1 << 12
DO_READDIRPLUS = 1 << 13
ASYNC_DIO = 1 << 15
PARALLEL_DIROPS = 1 << 18
POSIX_ACL = 1 << 20
MAX_PAGES = 1 << 22
HANDLE_KILLPRIV_V2 = 1 << 28
SETXATTR_EXT = 1 << 29
INIT_EXT = 1 << 30
HAS_EXPIRE_ONLY = 1 << 35
PASSTHROUGH = 1 << 37

# flags of a reply to OPEN
DIRECT_IO, KEEP_CACHE, NOFLUSH, _PASSTHROUGH = 1 << 0, 1 << 1, 1 << 5, 1 << 7

# valid bits of SETATTR, and flags of other requests
_MODE, _UID, _GID, _SIZE, _ATIME, _MTIME, _FH = 1, 2, 4, 8, 16, 32, 64
_ATIME_NOW, _MTIME_NOW, _KILL_SUIDGID = 128, 256, 2048
WRITE_KILL_SUIDGID = 1 << 2
OPEN_KILL_SUIDGID = 1 << 0
SETXATTR_ACL_KILL_SGID = 1 << 0

# notices
INVAL_INODE, INVAL_ENTRY = 2, 3
_EXPIRE_ONLY = 1 << 0
_ATTRIBUTES_ONLY = -1  # an offset below 0 keeps the pages
NOTIFY_RESEND = 7  # Linux 6.9
UNIQUE_RESEND = 1 << 63  # set in the unique number of a request that is sent again

IN = struct.Struct("=IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid, extensions, padding
OUT = struct.Struct("=IiQ")  # length, errno, unique
_ATTR = "6Q10I"
_ENTRY = struct.Struct(f"=4Q2I{_ATTR}")
_ATTR_OUT = struct.Struct("=QII")  # followed by the attributes
_OPEN_OUT = struct.Struct("=QIi")
_DIRENT = struct.Struct("=QQII")
_STATFS = struct.Struct("=5Q4I24x")
_INIT_IN = struct.Struct("=4I")
_INIT_OUT = struct.Struct("=4IHHIIHHIIH22x")
_SETATTR_IN = struct.Struct("=II6Q8I")
_INVAL_INODE_OUT = struct.Struct("=Qqq")
_INVAL_ENTRY_OUT = struct.Struct("=QII")

U32 = struct.Struct("=I")
U64 = struct.Struct("=Q")
TWO_U32 = struct.Struct("=II")
TWO_U64 = struct.Struct("=QQ")
FOUR_U32 = struct.Struct("=4I")
READ_IN = struct.Struct(
    "=QQIIQII"
)  # handle, offset, size, flags, lock owner, open flags, padding; also for WRITE and READDIR
FSYNC_IN = struct.Struct("=QII")
RENAME2_IN = struct.Struct("=QII")
FALLOCATE_IN = struct.Struct("=QQQII")
LSEEK_IN = struct.Struct("=QqII")  # the offset is signed
COPY_IN = struct.Struct("=7Q")
FLUSH_IN = struct.Struct("=QIIQ")  # handle, unused, padding, lock owner
LK_IN = struct.Struct("=QQQQIIII")  # handle, owner, first byte, last byte, type, process, flags, padding
_LK_OUT = struct.Struct("=QQII")
LK_FLOCK = 1 << 0

# The bits of a handle that are the descriptor. A file in the open file cache has one descriptor, but a handle for each
# open file description: the higher bits are a count.
DESCRIPTOR_MASK = (1 << 42) - 1

# ioctl(2) on /dev/fuse: _IOW(229, 1, struct fuse_backing_map), _IOW(229, 2, uint32_t)
BACKING_OPEN, BACKING_CLOSE = 0x4010E501, 0x4004E502
BACKING_MAP = struct.Struct("=iIQ")

_NS_PER_SECOND = 1_000_000_000
_NO_ATTR = (0,) * 16
_ATTR_OFFSET = struct.calcsize("=4Q2I")
_NO_ENTRY = bytes(_ENTRY.size)
_DT_DIR = 4
_DOT_ENTRY_BYTES = _ENTRY.size + _DIRENT.size + 8


class InitReply(NamedTuple):
    """The minor protocol version of the kernel, and the flags that INIT has settled."""

    minor: int
    flags: int


def negotiate_init(body: bytes, supported: int, max_write: int) -> tuple[InitReply, bytes]:
    """Return the settings that both sides support, and the packed reply to the kernel's INIT `body`.

    Raise ValueError if the kernel is too old.
    """
    major, minor, readahead, flags = _INIT_IN.unpack_from(body)
    if major != MAJOR or minor < MIN_MINOR:
        raise ValueError(f"FUSE protocol {major}.{minor}: Linux 5.4 is the oldest that `direct` serves")
    if flags & INIT_EXT and len(body) >= _INIT_IN.size + 4:
        flags |= U32.unpack_from(body, _INIT_IN.size)[0] << 32
    flags &= supported | INIT_EXT
    low, high = flags & 0xFFFFFFFF, flags >> 32
    depth = int(bool(flags & PASSTHROUGH))
    reply = _INIT_OUT.pack(
        MAJOR, min(minor, MINOR), readahead, low, 64, 48, max_write, 1, max_write // 4096, 0, high, depth, 0
    )
    return InitReply(minor, flags), reply


_U64 = (1 << 64) - 1  # times before 1970 are negative


def _encode_device(number: int) -> int:
    """Return a device number in the kernel's encoding of 32 bits (`new_encode_dev`)."""
    major, minor = (number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


@functools.lru_cache(16)
def _split_seconds(seconds: float) -> tuple[int, int]:
    """Return (whole seconds, nanoseconds)."""
    whole_seconds = int(seconds)
    return whole_seconds, int((seconds - whole_seconds) * _NS_PER_SECOND)


def pack_entry(attributes: Attributes) -> bytes:
    """Pack a reply to LOOKUP and to requests that make a name.

    These are the hottest lines of a listing: a single call packs all fields.
    """
    number, stat = attributes.number, attributes.stat
    seconds, nanoseconds = _split_seconds(attributes.cache_seconds)
    if not number:
        return _ENTRY.pack(0, 0, seconds, seconds, nanoseconds, nanoseconds, *_NO_ATTR)
    atime, mtime, ctime = stat.st_atime_ns, stat.st_mtime_ns, stat.st_ctime_ns
    return _ENTRY.pack(
        number,
        0,
        seconds,
        seconds,
        nanoseconds,
        nanoseconds,
        number,
        stat.st_size,
        stat.st_blocks,
        atime // _NS_PER_SECOND & _U64,
        mtime // _NS_PER_SECOND & _U64,
        ctime // _NS_PER_SECOND & _U64,
        atime % _NS_PER_SECOND,
        mtime % _NS_PER_SECOND,
        ctime % _NS_PER_SECOND,
        attributes.mode,
        stat.st_nlink,
        stat.st_uid,
        stat.st_gid,
        _encode_device(stat.st_rdev) if stat.st_rdev else 0,
        stat.st_blksize,
        0,
    )


def pack_attr(attributes: Attributes) -> bytes:
    """Pack a reply to GETATTR and SETATTR: the validity of the attributes, and the attributes as in an entry."""
    return _ATTR_OUT.pack(*_split_seconds(attributes.cache_seconds), 0) + pack_entry(attributes)[_ATTR_OFFSET:]


def pack_open(reply: OpenReply) -> bytes:
    """Pack a reply to OPEN."""
    flags = (DIRECT_IO if reply.direct_io else 0) | (KEEP_CACHE if reply.keep_cache else 0)
    flags |= (0 if reply.sends_flush else NOFLUSH) | (_PASSTHROUGH if reply.backing else 0)
    return _OPEN_OUT.pack(reply.fh, flags, reply.backing)


def pack_create(reply: tuple[OpenReply, Attributes]) -> bytes:
    """Pack a reply to CREATE."""
    return pack_entry(reply[1]) + pack_open(reply[0])


# The function that packs many entries of a directory in one call: `fastpath.Loop.entries`.
PackEntries = Callable[[int, list[bytes], int, int, int, int, int, int], tuple[bytearray, PackedFiles]]


class PackedEntries(DirectoryEntries):
    """Directory entries with attributes, packed for READDIRPLUS up to a size in bytes."""

    def __init__(self, size: int, pack: PackEntries | None = None) -> None:
        self._size = size
        self._pack = pack
        self._parts: list[bytes | bytearray] = []
        self._used = 0

    @property
    def is_empty(self) -> bool:
        """Implement `DirectoryEntries.is_empty`."""
        return not self._used

    def add_dots(self, after: int, number: int, parent: int) -> None:
        """Implement `DirectoryEntries.add_dots`.

        The entries hold no references: the kernel has the inodes of both directories.
        """
        for cookie, name, inode in ((DOT, b".", number), (DOTS, b"..", parent)):
            if cookie > after and self._size - self._used >= _DOT_ENTRY_BYTES:
                self._parts += (
                    _NO_ENTRY,
                    _DIRENT.pack(inode, cookie, len(name), _DT_DIR),
                    name + b"\0\0\0\0\0\0\0"[: -len(name) % 8],
                )
                self._used += _DOT_ENTRY_BYTES

    def add(self, name: bytes, attributes: Attributes, cookie: int) -> bool:
        """Implement `DirectoryEntries.add`."""
        length = len(name)
        padding = -length % 8
        needed = _ENTRY.size + _DIRENT.size + length + padding
        if self._used + needed > self._size:
            return False
        self._used += needed
        kind = (attributes.mode >> 12) & 15
        self._parts += (
            pack_entry(attributes),
            _DIRENT.pack(attributes.number, cookie, length, kind),
            name + b"\0\0\0\0\0\0\0"[:padding],
        )
        return True

    def add_on_disk(
        self, directory: int, names: list[bytes], start: int, numbers: int, seconds: float, below: int
    ) -> PackedFiles | None:
        """Implement `DirectoryEntries.add_on_disk`."""
        if self._pack is None:
            return None
        packed, files = self._pack(
            directory, names, start, self._size - self._used, numbers, *_split_seconds(seconds), below
        )
        self._parts.append(packed)
        self._used += len(packed)
        return files

    def renumber(self, offset: int, number: int) -> None:
        """Implement `DirectoryEntries.renumber`."""
        packed = self._parts[-1]
        assert isinstance(packed, bytearray)
        for position in (offset, offset + _ATTR_OFFSET, offset + _ENTRY.size):
            U64.pack_into(packed, position, number)

    def packed(self) -> bytes:
        """Return the body of the reply to READDIRPLUS."""
        return b"".join(self._parts)


def referenced_numbers(entries: bytes) -> Iterator[int]:
    """Yield the numbers of the files that a packed reply to READDIRPLUS holds references to."""
    offset = 0
    while offset < len(entries):
        yield U64.unpack_from(entries, offset)[0]
        length = _DIRENT.unpack_from(entries, offset + _ENTRY.size)[2]
        offset += _ENTRY.size + _DIRENT.size + length + -length % 8


def pack_lock(lock: Range) -> bytes:
    """Pack a reply to GETLK: a conflicting lock, or one of type F_UNLCK."""
    return _LK_OUT.pack(lock.start, lock.end, lock.kind, max(lock.pid, 0))


def pack_statfs(stat: SyntheticStatfs) -> bytes:
    """Pack a reply to STATFS."""
    counts = stat.blocks, stat.free, stat.available, stat.files, stat.files_free
    return _STATFS.pack(*counts, stat.bsize, stat.name_max, stat.frsize, 0)


class SetattrIn(NamedTuple):
    """The changes in a SETATTR request. Times are in nanoseconds; None leaves a value unchanged."""

    fh: int | None
    size: int | None
    mode: int | None
    uid: int | None
    gid: int | None
    atime_ns: int | None
    mtime_ns: int | None
    atime_now: bool
    mtime_now: bool
    kill: bool


def unpack_setattr(body: memoryview) -> SetattrIn:
    """Unpack the body of a SETATTR request."""
    (valid, _, fh, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _) = _SETATTR_IN.unpack_from(
        body
    )
    return SetattrIn(
        fh if valid & _FH else None,
        size if valid & _SIZE else None,
        mode if valid & _MODE else None,
        uid if valid & _UID else None,
        gid if valid & _GID else None,
        _signed(atime) * _NS_PER_SECOND + atime_ns if valid & _ATIME else None,
        _signed(mtime) * _NS_PER_SECOND + mtime_ns if valid & _MTIME else None,
        bool(valid & _ATIME_NOW),
        bool(valid & _MTIME_NOW),
        bool(valid & _KILL_SUIDGID),
    )


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def pack_inval_inode(number: int, *, attributes_only: bool = False) -> bytes:
    """Return the notice that drops the attributes of a file and, unless `attributes_only`, all of its content."""
    offset = _ATTRIBUTES_ONLY if attributes_only else 0
    return OUT.pack(OUT.size + _INVAL_INODE_OUT.size, INVAL_INODE, 0) + _INVAL_INODE_OUT.pack(number, offset, 0)


def pack_inval_entry(parent: int, name: bytes, *, expire: bool = False) -> bytes:
    """Return the notice that drops one name.

    With `expire` the kernel keeps the dentry and looks it up before its next use.
    """
    length = OUT.size + _INVAL_ENTRY_OUT.size + len(name) + 1
    flags = _EXPIRE_ONLY if expire else 0
    return OUT.pack(length, INVAL_ENTRY, 0) + _INVAL_ENTRY_OUT.pack(parent, len(name), flags) + name + b"\0"
