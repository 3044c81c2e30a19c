"""Numbers of the host where they enter: from here on they fit the signed 64 bits of SQLite and msgpack.

A file system keeps times of any year, and inode numbers of 64 unsigned bits. Nanoseconds since the epoch end in 2262: what lies
beyond either end is put at that end, so that a comparison still sees most changes, and none of them stops anything.
"""

import os
from typing import NamedTuple

MAX_INT64 = (1 << 63) - 1
MIN_INT64 = -(1 << 63)


class FileNumbers(NamedTuple):
    """What tells whether a file has changed."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int


def clamp_int64(number: int) -> int:
    """Return the nearest number that fits 64 signed bits."""
    return max(MIN_INT64, min(number, MAX_INT64))


def inode_of(found: os.stat_result) -> int:
    """Return an inode number as 64 signed bits; different ones stay different."""
    return found.st_ino if found.st_ino <= MAX_INT64 else found.st_ino - (1 << 64)


def mtime_ns_of(found: os.stat_result) -> int:
    """Return the time of the last modification in nanoseconds since the epoch."""
    return clamp_int64(found.st_mtime_ns)


def ctime_ns_of(found: os.stat_result) -> int:
    """Return the time of the last change of attributes in nanoseconds since the epoch."""
    return clamp_int64(found.st_ctime_ns)


def file_numbers(found: os.stat_result) -> FileNumbers:
    """Return the numbers that are kept of a file."""
    return FileNumbers(
        inode_of(found), clamp_int64(found.st_size), mtime_ns_of(found), ctime_ns_of(found), found.st_mode
    )
