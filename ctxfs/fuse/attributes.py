"""What a file is said to be, whoever carries it to the kernel."""

import os
import stat
import struct
from dataclasses import dataclass
from typing import TypeAlias

from ctxfs.fuse.inodes import Node, Version
from ctxfs.model.entry import Entry

NAMESPACE = b"user."  # attributes that are versioned, and that the tree computes
ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
CAPABILITY = b"security.capability"
# Labels of security modules are those of the mount, not of the file: `ls` stops asking when it is refused one.
_LABELS = tuple(b"security." + name for name in (b"selinux", b"SMACK64", b"apparmor", b"ima", b"evm"))
_ACL_HEAD, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")  # version; tag, permissions, who
_ACL_VERSION, _ACL_NAMED_USER, _ACL_GROUP, _ACL_NAMED_GROUP, _ACL_MASK = 2, 2, 4, 8, 16

_TYPES = {"dir": stat.S_IFDIR, "file": stat.S_IFREG, "link": stat.S_IFLNK, "other": stat.S_IFREG}
_UID, _GID = os.getuid(), os.getgid()


@dataclass(slots=True)
class SyntheticStat:
    """An `os.stat_result` of what no host file stands for: times in nanoseconds, sizes in bytes, blocks of 512 bytes."""

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
    """An answer about one file: its number (0: there is none of that name), what it is, its mode as whoever mounted may see it,
    and for how many seconds the kernel may keep name and attributes.
    """

    __slots__ = ("found", "mode", "number", "seconds")

    def __init__(self, number: int, found: Stat, mode: int, seconds: float) -> None:
        self.number = number
        self.found = found
        self.mode = mode
        self.seconds = seconds


class OpenReply:
    """An answer to open: the handle, whether the kernel keeps what it has read, asks for every byte, or reads `backing` itself.

    `keeps`: what the file was then, if its handle, a descriptor, may stay open for whoever opens it next.
    `flushes`: the kernel sends FLUSH at each close, which releases POSIX locks; otherwise only RELEASE at the last close.
    """

    __slots__ = ("backing", "direct_io", "fh", "flushes", "keep_cache", "keeps")

    def __init__(
        self,
        fh: int,
        *,
        keep_cache: bool = False,
        direct_io: bool = False,
        backing: int = 0,
        keeps: Version | None = None,
        flushes: bool = False,
    ) -> None:
        self.fh = fh
        self.keeps = keeps
        self.flushes = flushes
        self.keep_cache = keep_cache
        self.direct_io = direct_io
        self.backing = backing


@dataclass(slots=True)
class SetattrRequest:
    """What a setattr asks for; None leaves a thing as it is. `now` for both times: the host's clock says when."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    now: bool = False
    drop_privileges: bool = False  # set-user and set-group bits go: somebody else has changed the file


@dataclass(slots=True)
class SyntheticStatfs:
    """How full a file system is; sizes in bytes, blocks of `frsize`."""

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
    """The calling process. `umask` is not yet applied to the modes that it gives: 0 where the kernel has done so."""

    uid: int
    gid: int
    umask: int = 0


_NOTHING = SyntheticStat(0)
_TIMES = 1 << 63  # nanoseconds


def is_handed_on(name: bytes) -> bool:
    """True for an attribute outside of `user.*` that the host's file system keeps: ACLs, capabilities, `trusted.*`."""
    return name in ACLS or (name.startswith((b"security.", b"trusted.")) and not name.startswith(_LABELS))


def mask_acl(acl: bytes, mode: int) -> bytes:
    """An ACL without the permissions that no bit of `mode` gives: it opens no more than the mode that is shown."""
    if _ACL_HEAD.unpack_from(acl)[0] != _ACL_VERSION:
        raise ValueError("an ACL of another version")
    allowed = (mode >> 6 | mode >> 3 | mode) & 7
    entries = [(tag, permissions & allowed, who) for tag, permissions, who in _ACL_ENTRY.iter_unpack(acl[4:])]
    return acl[:4] + b"".join(_ACL_ENTRY.pack(*entry) for entry in entries)


def narrow_mode(acl: bytes, mode: int) -> int:
    """The bits of `mode` for the group and for others without those that the ACL denies to some of them.

    For a kernel that judges by the mode alone: there the bits of the group are the ACL's mask, and named users and groups count for
    nothing. A group member or any other may be one whom the ACL names and gives less.
    """
    group, mask, least = 7, 7, 7
    for tag, permissions, _ in _ACL_ENTRY.iter_unpack(acl[4:]):
        if tag == _ACL_GROUP:
            group = permissions
        elif tag == _ACL_MASK:
            mask = permissions
        elif tag in (_ACL_NAMED_USER, _ACL_NAMED_GROUP):
            least &= permissions
    return (group & mask & least) << 3 & mode | (mode & 7 & (least & mask if least != 7 else 7))


def version_of(found: Stat) -> Version:
    """What changes when a file does. Times are in 64 bits, as in C: those after 2262 and before 1678 wrap around."""
    mtime, ctime = found.st_mtime_ns, found.st_ctime_ns
    if not (-_TIMES <= mtime < _TIMES and -_TIMES <= ctime < _TIMES):
        mtime, ctime = ((time + _TIMES) % (2 * _TIMES) - _TIMES for time in (mtime, ctime))
    return mtime, ctime, found.st_size, found.st_mode


def on_disk(node: Node, found: os.stat_result, keep_seconds: float) -> Attributes:
    """The host's attributes under the node's number; remembers what the kernel is told."""
    mode = found.st_mode
    node.told = version_of(found)
    return Attributes(node.number, found, mode, keep_seconds)


def synthetic(node: Node, entry: Entry, keep_seconds: float, when: int) -> Attributes:
    """Attributes of a file that is made when it is read; `when` it has changed last, in nanoseconds."""
    mode = _TYPES[entry.kind] | entry.mode
    # An unknown size is only ever part of a listing, which the kernel is told to keep for no time at all:
    # it asks again before anybody sees it.
    size = entry.size or 0
    found = SyntheticStat(
        mode,
        2 if entry.is_dir else 1,
        st_size=size,
        st_blocks=(size + 511) // 512,
        st_atime_ns=when,
        st_mtime_ns=when,
        st_ctime_ns=when,
    )
    return Attributes(node.number, found, mode, keep_seconds)


def absent(keep_seconds: float) -> Attributes:
    """A negative entry: the kernel need not ask again for this long."""
    return Attributes(0, _NOTHING, 0, keep_seconds)
