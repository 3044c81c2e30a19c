"""Frozen files of the host: files that only a person may change, after lifting their state.

The attribute of the file itself decides, and not a list, so that every process finds the same answer at once. It belongs
to the inode, and so to all hard links of the file.
"""

import errno
import os
import stat
from contextlib import suppress

from ctxfs.memory.states import (
    FROZEN_ATTRIBUTE,
    IS_FROZEN,
    RETIRED,
    STATE_ATTRIBUTE,
    STATE_ATTRIBUTES,
    attributes_after,
)
from ctxfs.memory.states import is_frozen as is_frozen_by
from ctxfs.model.errors import path_error
from ctxfs.store import rooted_fs
from ctxfs.store.atomic_replace import WriteLease

# attribute → its value on a frozen file
_MARKS = ((STATE_ATTRIBUTE, b"frozen"), (FROZEN_ATTRIBUTE, b"true"))


class FrozenFile(PermissionError):
    """The error EPERM of a change to a frozen file, with the path in the tree and the remedy."""

    def __init__(self, path: object) -> None:
        super().__init__(errno.EPERM, IS_FROZEN, str(path))


def is_frozen(target: str | bytes | int, *, follows: bool = False) -> bool:
    """Return True for a frozen file at a path or of a descriptor; False if it is absent.

    A path is followed only with `follows`. Each write calls this: a file without attributes costs one system call.
    """
    follows = follows or isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follows)
    except OSError:
        return False  # it is absent, or its file system has no attributes
    return bool(names) and any(name in names and _has_value(target, name, value, follows) for name, value in _MARKS)


def _has_value(target: str | bytes | int, name: str, value: bytes, follows: bool) -> bool:
    try:
        return os.getxattr(target, name, follow_symlinks=follows) == value
    except OSError as error:
        return error.errno == errno.EACCES  # the file cannot be read, so that its state is unknown


def check_changeable(target: str | bytes | int, path: object, *, follows: bool = False) -> None:
    """Raise OSError EPERM for a frozen file; `path` is its path in the tree."""
    if is_frozen(target, follows=follows):
        raise FrozenFile(path)


def check_movable(parent: int, name: str | bytes, path: object) -> None:
    """Raise OSError EPERM for a frozen file, and for a directory with one below it, at any depth.

    `parent` is a descriptor of the directory. Blocks for some microseconds a file.
    """
    if find_frozen(parent, name, limit=0) is not False:
        raise FrozenFile(path)


def find_frozen(parent: int, name: str | bytes, limit: int) -> bool | None:
    """Return True for a frozen file, and for a directory with one below it.

    Return None after `limit` entries without a frozen file; 0 is no limit.
    """
    text = os.fsdecode(name)
    if is_frozen(rooted_fs.magic_path(parent, text)):
        return True
    try:
        top = os.open(text, rooted_fs.DIRECTORY_FLAGS, dir_fd=parent)
    except OSError:
        return False  # a file, or absent
    return _find_below(top, limit)


def _find_below(top: int, limit: int) -> bool | None:
    """Search depth first, with one open descriptor a level: a chain of directories may be longer than PATH_MAX."""
    count, stack = 0, [(top, _entries(top))]
    try:
        while stack:
            fd, entries = stack[-1]
            if not entries:
                os.close(stack.pop()[0])
                continue
            name, is_directory = entries.pop()
            count += 1
            if limit and count > limit:
                return None
            if is_frozen(rooted_fs.magic_path(fd, name)):
                return True
            if is_directory:
                try:
                    deeper = os.open(name, rooted_fs.DIRECTORY_FLAGS, dir_fd=fd)
                except OSError:
                    continue  # removed meanwhile
                stack.append((deeper, _entries(deeper)))
        return False
    finally:
        for fd, _ in stack:
            os.close(fd)


def _entries(directory: int) -> list[tuple[str, bool]]:
    """Return (name, is a directory) of the entries that may be frozen: files and directories."""
    try:
        with os.scandir(f"/proc/self/fd/{directory}/") as entries:
            return [
                (entry.name, is_directory)
                for entry in entries
                if (is_directory := entry.is_dir(follow_symlinks=False)) or entry.is_file(follow_symlinks=False)
            ]
    except OSError:
        return []


def set_state(
    target: str | bytes,
    path: object,
    name: str,
    value: bytes | None,
    *,
    follows: bool = False,
    flags: int = 0,
    is_guarded: bool = True,
) -> None:
    """Set one of the attributes of the state of a file, or remove it (None), and keep the two spellings equal.

    `is_guarded` is False for files that the kernel may write to without a request (FUSE passthrough): such a file is
    frozen only while no writer has it open. Raise EBUSY otherwise, EISDIR for a directory.
    """
    if stat.S_ISDIR(os.stat(target, follow_symlinks=follows).st_mode):
        raise path_error(errno.EISDIR, path, "a state belongs to a file")
    before = read_state(target, follows=follows)
    after = attributes_after(before, name, value)
    if is_frozen_by(after) and not is_frozen_by(before) and not is_guarded:
        _check_unwritten(target, path, follows)
    if value is None:
        os.removexattr(target, name, follow_symlinks=follows)
    else:
        os.setxattr(target, name, value, flags, follow_symlinks=follows)
    for other in before.keys() - after.keys() - {name}:
        os.removexattr(target, other, follow_symlinks=follows)


def read_state(target: str | bytes, *, follows: bool = False) -> dict[str, bytes]:
    """Return the attributes of the state of a file, of those that it has."""
    state = {}
    for name in STATE_ATTRIBUTES:
        with suppress(OSError):
            state[name] = os.getxattr(target, name, follow_symlinks=follows)
    return state


def keep_retired_state(replaced: str | bytes, source: str | bytes) -> None:
    """Give a file the state of the merged or archived one that it is renamed over, unless it has a state of its own.

    Editors save by such a rename, and a save is no transition.
    """
    try:
        names = os.listxattr(replaced, follow_symlinks=False)
        state = os.getxattr(replaced, STATE_ATTRIBUTE, follow_symlinks=False) if names else b""
    except OSError:
        return  # nothing is replaced, or an active file
    if state.decode("ascii", "replace") in RETIRED and not read_state(source):
        with suppress(OSError):  # a link has no attributes
            os.setxattr(source, STATE_ATTRIBUTE, state, follow_symlinks=False)


def _check_unwritten(target: str | bytes, path: object, follows: bool) -> None:
    try:
        fd = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follows else os.O_NOFOLLOW))
    except OSError as error:
        raise path_error(error.errno or errno.EIO, path) from error
    try:
        WriteLease(fd).release()
    except BlockingIOError as error:
        raise path_error(
            errno.EBUSY, path, "it is open for writing: freeze it when its writer has closed it"
        ) from error
    finally:
        os.close(fd)
