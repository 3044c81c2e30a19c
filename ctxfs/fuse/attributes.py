"""Attributes of files, and the replies to lookup, open and setattr, for any transport."""

import os
import stat
import struct
from dataclasses import dataclass
from typing import TypeAlias

from ctxfs.fuse.inodes import Node, Version
from ctxfs.model.entry import Entry

NAMESPACE = b"user."  # the namespace of attributes that are versioned or computed
ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
CAPABILITY = b"security.capability"
# Labels of security modules belong to the mount, not to the file: after one refusal `ls` requests no more of them.
_LABELS = tuple(b"security." + name for name in (b"selinux", b"SMACK64", b"apparmor", b"ima", b"evm"))
_ACL_HEAD, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")  # version; tag, permissions, user or group
_ACL_VERSION, _ACL_NAMED_USER, _ACL_GROUP, _ACL_NAMED_GROUP, _ACL_MASK = 2, 2, 4, 8, 16

_TYPES = {"dir": stat.S_IFDIR, "file": stat.S_IFREG, "link": stat.S_IFLNK, "other": stat.S_IFREG}
_UID, _GID = os.getuid(), os.getgid()


@dataclass(slots=True)
class SyntheticStat:
    """An `os.stat_result` for a file without a host file.

    Times are in nanoseconds, sizes in bytes, blocks of 512 bytes.
    """

    st_mode: int
    st_nlink: int = 1
    st_uid: int = _UID
    st_gid: int = _GID
    st_rdev: int = 0
    st_size: int = 0
    st_blksize: int = 4096
    st_blocks: int = 0
    st_atime_ns: int = 0
    st_mtime_ns: int = 0
    st_ctime_ns: int = 0


Stat: TypeAlias = os.stat_result | SyntheticStat


class Attributes:
    """The reply to a lookup, or to a request for attributes.

    `number` is the inode number; 0 is a negative entry. `stat` is the stat result. `mode` is masked by the rights of
    the mount's principal. `cache_seconds` is how long the kernel may cache the name and the attributes.
    """

    __slots__ = ("cache_seconds", "mode", "number", "stat")

    def __init__(self, number: int, stat_result: Stat, mode: int, cache_seconds: float) -> None:
        self.number = number
        self.stat = stat_result
        self.mode = mode
        self.cache_seconds = cache_seconds


class OpenReply:
    """The reply to an open: the handle and the FUSE open flags.

    `keep_cache` keeps the pages that the kernel has cached. `direct_io` makes the kernel bypass its page cache.
    `backing` is the identifier of a backing file that the kernel reads itself (passthrough); 0 is none.

    `reusable_version` is the file's version if its handle, a descriptor, may stay open for later opens; otherwise it is
    None.

    `sends_flush`: the kernel sends FLUSH at each close, which releases POSIX locks; otherwise only RELEASE at the last
    close.
    """

    __slots__ = ("backing", "direct_io", "fh", "keep_cache", "reusable_version", "sends_flush")

    def __init__(
        self,
        fh: int,
        *,
        keep_cache: bool = False,
        direct_io: bool = False,
        backing: int = 0,
        reusable_version: Version | None = None,
        sends_flush: bool = False,
    ) -> None:
        self.fh = fh
        self.reusable_version = reusable_version
        self.sends_flush = sends_flush
        self.keep_cache = keep_cache
        self.direct_io = direct_io
        self.backing = backing


@dataclass(slots=True)
class SetattrRequest:
    """The changes that a setattr requests; None leaves an attribute unchanged.

    With `sets_current_time` both times become the current time of the host's clock.
    """

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    sets_current_time: bool = False
    drop_privileges: bool = False  # clear set-user and set-group bits, because another user changes the file


@dataclass(slots=True)
class SyntheticStatfs:
    """The capacity of a file system, for statfs(2): sizes in bytes, blocks of `frsize` bytes."""

    bsize: int
    frsize: int
    blocks: int
    free: int
    available: int
    files: int
    files_free: int
    name_max: int


@dataclass(slots=True)
class RequestContext:
    """The process that sent a request.

    `umask` is not yet applied to the modes in the request. It is 0 if the kernel has applied it.
    """

    uid: int
    gid: int
    umask: int = 0


_NO_STAT = SyntheticStat(0)
_TIME_RANGE_NS = 1 << 63  # nanoseconds


def is_host_attribute(name: bytes) -> bool:
    """Return True for an attribute outside of `user.*` that the host's file system stores.

    These are ACLs, capabilities and `trusted.*`. Labels of security modules are excluded.
    """
    return name in ACLS or (name.startswith((b"security.", b"trusted.")) and not name.startswith(_LABELS))


def mask_acl(acl: bytes, mode: int) -> bytes:
    """Return an ACL without the permissions that no bit of `mode` grants: it grants no more than the shown mode.

    Raise ValueError for an ACL of another version.
    """
    if _ACL_HEAD.unpack_from(acl)[0] != _ACL_VERSION:
        raise ValueError("unsupported ACL version")
    allowed = (mode >> 6 | mode >> 3 | mode) & 7
    entries = [
        (tag, permissions & allowed, qualifier) for tag, permissions, qualifier in _ACL_ENTRY.iter_unpack(acl[4:])
    ]
    return acl[:4] + b"".join(_ACL_ENTRY.pack(*entry) for entry in entries)


def narrow_mode(acl: bytes, mode: int) -> int:
    """Return the group and other bits of `mode`, without those that the ACL denies to any principal that they apply to.

    It serves kernels that check permissions by the mode alone. For such a kernel the group bits are the mask of the
    ACL, and entries for named users and groups have no effect. The ACL may name any member of the group, or any other
    user, and give less.
    """
    group, mask, named = 7, 7, 7
    for tag, permissions, _ in _ACL_ENTRY.iter_unpack(acl[4:]):
        if tag == _ACL_GROUP:
            group = permissions
        elif tag == _ACL_MASK:
            mask = permissions
        elif tag in (_ACL_NAMED_USER, _ACL_NAMED_GROUP):
            named &= permissions
    return (group & mask & named) << 3 & mode | (mode & 7 & (named & mask if named != 7 else 7))


def version_of(stat_result: Stat) -> Version:
    """Return the version of a file: times, size and mode, of which at least one changes with the file.

    Times are in 64 bits, as in C: those after 2262 and before 1678 wrap around.
    """
    mtime, ctime = stat_result.st_mtime_ns, stat_result.st_ctime_ns
    if not (-_TIME_RANGE_NS <= mtime < _TIME_RANGE_NS and -_TIME_RANGE_NS <= ctime < _TIME_RANGE_NS):
        mtime, ctime = ((time + _TIME_RANGE_NS) % (2 * _TIME_RANGE_NS) - _TIME_RANGE_NS for time in (mtime, ctime))
    return mtime, ctime, stat_result.st_size, stat_result.st_mode


def host_attributes(node: Node, stat_result: os.stat_result, cache_seconds: float) -> Attributes:
    """Return the host's attributes with the number of the node, and store their version in `node.reported`."""
    mode = stat_result.st_mode
    node.reported = version_of(stat_result)
    return Attributes(node.number, stat_result, mode, cache_seconds)


def synthetic_attributes(node: Node, entry: Entry, cache_seconds: float, changed_ns: int) -> Attributes:
    """Return the attributes of a synthetic file that last changed at `changed_ns`, in nanoseconds."""
    mode = _TYPES[entry.kind] | entry.mode
    # An unknown size occurs only in listings, which the kernel may cache for 0 seconds: it requests the attributes
    # again before any process sees the size.
    size = entry.size or 0
    stat_result = SyntheticStat(
        mode,
        2 if entry.is_dir else 1,
        st_size=size,
        st_blocks=(size + 511) // 512,
        st_atime_ns=changed_ns,
        st_mtime_ns=changed_ns,
        st_ctime_ns=changed_ns,
    )
    return Attributes(node.number, stat_result, mode, cache_seconds)


def negative_entry(cache_seconds: float) -> Attributes:
    """Return a negative entry, which the kernel caches for `cache_seconds` seconds."""
    return Attributes(0, _NO_STAT, 0, cache_seconds)
