"""Conversion of the host's numbers to signed 64 bits, the range of SQLite and msgpack.

A file system has times of any year, and inode numbers of 64 unsigned bits. Nanoseconds since the epoch end in 2262. A
time outside of the range becomes its nearest end, so that a comparison still detects most changes, and no time raises
an error.
"""

import os
from typing import NamedTuple

MAX_INT64 = (1 << 63) - 1
MIN_INT64 = -(1 << 63)


class FileNumbers(NamedTuple):
    """The numbers by which a change of a file is detected."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int


def clamp_int64(number: int) -> int:
    """Return the nearest number that fits 64 signed bits."""
    return max(MIN_INT64, min(number, MAX_INT64))


def inode_of(stat: os.stat_result) -> int:
    """Return an inode number as 64 signed bits; different numbers stay different."""
    return stat.st_ino if stat.st_ino <= MAX_INT64 else stat.st_ino - (1 << 64)


def mtime_ns_of(stat: os.stat_result) -> int:
    """Return the modification time in nanoseconds since the epoch."""
    return clamp_int64(stat.st_mtime_ns)


def ctime_ns_of(stat: os.stat_result) -> int:
    """Return the time of the last attribute change in nanoseconds since the epoch."""
    return clamp_int64(stat.st_ctime_ns)


def file_numbers(stat: os.stat_result) -> FileNumbers:
    """Return the recorded numbers of a file."""
    return FileNumbers(inode_of(stat), clamp_int64(stat.st_size), mtime_ns_of(stat), ctime_ns_of(stat), stat.st_mode)
