"""The table of operations on files and names, and the permissions that each requires.

The daemon's tree (`vfs/access_control.py`) and the mount processes (`fuse/access.py`, `fuse/backed*.py`) look operations up
here, so that an operation requires the same permissions through each adapter.
"""

import os
from typing import NamedTuple

from ctxfs.policy.rules import Verb

# On an existing file or directory
READ = Verb.READ  # read, readlink, lseek, getxattr, listxattr; the source of copy_file_range
WRITE = Verb.WRITE  # write, append, truncate, fallocate, utimensat; the target of copy_file_range
SET_METADATA = Verb.META  # chmod, chown, setxattr, removexattr
LINK = Verb.READ | Verb.WRITE  # the new name of a hard link may have other rights than the old one

# On a name in a directory
CREATE = Verb.CREATE  # open with O_CREAT, mkdir, mknod, symlink, the new name of link
REMOVE = Verb.DELETE  # unlink, rmdir

CHANGE = Verb.WRITE | Verb.CREATE | Verb.DELETE | Verb.META  # any of them shows a directory as writable


class MovePermissions(NamedTuple):
    """The permissions that a move requires at its two paths, and for directories everywhere below them."""

    source: Verb
    target: Verb


def open_permissions(flags: int) -> Verb:
    """Return the permissions for an open with `flags` as of open(2)."""
    access = flags & os.O_ACCMODE
    verbs = READ if access == os.O_RDONLY else WRITE if access == os.O_WRONLY else READ | WRITE
    return verbs | WRITE if flags & os.O_TRUNC else verbs


def setattr_permissions(*, resizes: bool, changes_metadata: bool) -> Verb:
    """Return the permissions for a change of size, or of mode and owner, or of times only."""
    return SET_METADATA if changes_metadata and not resizes else WRITE


def put_permissions(*, exists: bool, compares: bool, sets_metadata: bool) -> Verb:
    """Return the permissions to replace or create a file as a whole.

    A put that compares the present content first requires READ: otherwise the content could be guessed by its hash.
    """
    verbs = WRITE if exists else CREATE
    if exists and compares:
        verbs |= READ
    return verbs | SET_METADATA if sets_metadata else verbs


def move_permissions(*, replaces: bool) -> MovePermissions:
    """Return the permissions for a rename.

    The source must be readable, because the file may get other rights at its new path.
    """
    return MovePermissions(READ | REMOVE, CREATE | WRITE | REMOVE if replaces else CREATE)
