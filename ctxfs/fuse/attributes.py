"""Attributes as the kernel wants them."""

import os
import stat

import pyfuse3

from ctxfs.fuse.inodes import Node, Version
from ctxfs.model.entry import Entry

_TYPES = {"dir": stat.S_IFDIR, "file": stat.S_IFREG, "link": stat.S_IFLNK, "other": stat.S_IFREG}
_UID, _GID = os.getuid(), os.getgid()


def version_of(found: os.stat_result) -> Version:
    """What changes when a file does."""
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_mode


def on_disk(node: Node, found: os.stat_result, keep_seconds: float) -> pyfuse3.EntryAttributes:
    """The host's attributes under the node's number; remembers what the kernel is told."""
    node.told = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_mode)
    out = pyfuse3.EntryAttributes()
    out.st_ino = pyfuse3.InodeT(node.number)
    out.entry_timeout = keep_seconds
    out.attr_timeout = keep_seconds
    out.st_mode = pyfuse3.ModeT(found.st_mode)
    out.st_nlink = found.st_nlink
    out.st_uid = found.st_uid
    out.st_gid = found.st_gid
    out.st_rdev = found.st_rdev
    out.st_size = found.st_size
    out.st_blksize = found.st_blksize
    out.st_blocks = found.st_blocks
    out.st_atime_ns = found.st_atime_ns
    out.st_ctime_ns = found.st_ctime_ns
    out.st_mtime_ns = found.st_mtime_ns
    return out


def synthetic(node: Node, entry: Entry, keep_seconds: float) -> pyfuse3.EntryAttributes:
    """Attributes of a file that is made when it is read."""
    out = pyfuse3.EntryAttributes()
    out.st_ino = pyfuse3.InodeT(node.number)
    out.entry_timeout = keep_seconds
    out.attr_timeout = keep_seconds
    out.st_mode = pyfuse3.ModeT(_TYPES[entry.kind] | entry.mode)
    out.st_nlink = 2 if entry.is_dir else 1
    out.st_uid, out.st_gid = _UID, _GID
    # An unknown size is only ever part of a listing, which the kernel is told to keep for no time at all:
    # it asks again before anybody sees it.
    out.st_size = entry.size or 0
    out.st_blksize = 4096
    out.st_blocks = (out.st_size + 511) // 512
    out.st_atime_ns = out.st_ctime_ns = out.st_mtime_ns = entry.mtime_ns
    return out


def absent(keep_seconds: float) -> pyfuse3.EntryAttributes:
    """A negative entry: the kernel need not ask again for this long."""
    out = pyfuse3.EntryAttributes()
    out.st_ino = pyfuse3.InodeT(0)
    out.entry_timeout = keep_seconds
    return out
