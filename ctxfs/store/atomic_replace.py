"""Atomic replacement and removal of files while their writers are blocked; replaced files stay open until checked.

Writers are blocked by a read lease, `fcntl(F_SETLEASE)`. The kernel grants one only while no open file description
writes to the file, in any process: a mount process, the kernel for it (FUSE passthrough), the daemon, a program on the
host folder. While the lease is in force, an open for writing waits. With O_NONBLOCK, as mount processes open, it fails
with EAGAIN and is tried again. The kernel ends a lease with the process that holds it, and after
`/proc/sys/fs/lease-break-time` in any case. If the file system has no leases, or the file is another user's, only the
check of the replaced file remains.
"""

import contextlib
import errno
import fcntl
import logging
import os
import signal
import stat as st
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ctxfs.store import rooted_fs

log = logging.getLogger(__name__)

_FILE_SECONDS = 0.5
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.0002, 0.002
_MAX_TRIES = 100
# EACCES: the file is another user's. EINVAL, ENOLCK, EOPNOTSUPP: the file system has no leases.
_NO_LEASES = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP)
# Signal of a lease break. SIGURG is ignored by default, whereas SIGIO would end the process.
_SILENT = signal.SIGURG
# Serialises swaps of the threads of the process that owns the store, so that each replaces the file that it checked.
_TURN = threading.Lock()


class KeptReason(Enum):
    """The reason why a path was left unchanged."""

    WRITTEN = "written meanwhile"
    OPEN = "open for writing"
    OCCUPIED = "something else is in it"


class Patience:
    """The time that one operation may wait for writers: half a second for each file, `seconds` for all of them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def tries(self) -> "Callable[[], bool]":
        """Return a function that pauses, and returns False once the file's time has passed."""
        end, pause = time.monotonic() + min(_FILE_SECONDS, self._seconds), _FIRST_PAUSE_SECONDS

        def wait() -> bool:
            nonlocal pause
            if time.monotonic() >= end:
                return False
            time.sleep(pause)
            self._seconds -= pause
            pause = min(pause * 1.5, _MAX_PAUSE_SECONDS)
            return True

        return wait


class WriterHold:
    """A read lease on the file of `fd`, opened for reading only; without lease support it is not firm."""

    def __init__(self, fd: int) -> None:
        """Take the lease; raise BlockingIOError if the file is open for writing."""
        self.fd = fd
        self.is_firm = True
        try:
            fcntl.fcntl(fd, fcntl.F_SETSIG, _SILENT)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            if error.errno not in _NO_LEASES:
                raise
            self.is_firm = False

    @property
    def is_wanted(self) -> bool:
        """Return True if an open for writing has broken the lease, and may be waiting for its end."""
        return not self.is_firm or fcntl.fcntl(self.fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK

    def release(self) -> None:
        """Release the lease, so that writers continue. The descriptor stays open."""
        if self.is_firm:
            with contextlib.suppress(OSError):  # the kernel has ended it
                fcntl.fcntl(self.fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            self.is_firm = False


@dataclass(slots=True)
class Orphan:
    """A file that was swapped out.

    `name` is its present name, empty once it is unlinked. `is_suspect`: it may have been written to since it was
    checked. A link has no descriptor (-1).
    """

    fd: int
    found: os.stat_result
    name: bytes = b""
    is_suspect: bool = False


@dataclass(frozen=True, slots=True)
class SwapResult:
    """The result of a swap: the reason if the path is unchanged (None: it was changed), and the replaced file."""

    left: KeptReason | None = None
    orphan: Orphan | None = None


def hold_file(parent: int, name: bytes, patience: Patience) -> WriterHold | None:
    """Take a lease on a regular file and open it; return None if the file is absent, not regular or not readable.

    Raise BlockingIOError if it stays open for writing.
    """
    wait = patience.tries()
    while True:
        try:
            fd = rooted_fs.open_quietly(name, dir_fd=parent)
        except OSError:
            return None  # a link, a fifo without a writer, or absent
        try:
            if st.S_ISREG(os.fstat(fd).st_mode):
                return WriterHold(fd)
        except BlockingIOError:
            os.close(fd)
            if not wait():
                raise
            continue
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None


def swap_file(
    parent: int,
    name: bytes,
    new: bytes | None,
    is_expected: Callable[[os.stat_result | None], bool],
    patience: Patience,
    hold: WriterHold | None = None,
) -> SwapResult:
    """Replace `name` by the file `new` of the directory `parent`, or with None remove it.

    `is_expected` checks the current file while writers are blocked. The name `new` is free afterwards, unless an orphan
    has it. A directory is not replaced (EISDIR). `hold` is a lease that the caller has taken on the file; it ends here.
    """
    for _ in range(_MAX_TRIES):
        if hold is None:
            try:
                hold = hold_file(parent, name, patience)
            except BlockingIOError:
                return SwapResult(KeptReason.OPEN)
        try:
            with _TURN:
                found = _look(parent, name)
                if hold is not None and (found is None or found.st_ino != os.fstat(hold.fd).st_ino):
                    continue  # it was replaced between the lease and the check
                if not is_expected(found):
                    return SwapResult(KeptReason.WRITTEN)
                swap = _carry_out(parent, name, new, found, hold)
            if swap is not None:
                if swap.orphan is not None and hold is not None and swap.orphan.fd == hold.fd:
                    hold.release()
                    hold = None  # its descriptor is the orphan's
                return swap
        finally:
            if hold is not None:
                os.close(hold.fd)  # closing the descriptor ends the lease
                hold = None
    return SwapResult(KeptReason.WRITTEN)


def wait_quiet(fd: int, patience: Patience) -> bool:
    """Wait until no writer has the file open; return False if one keeps it open."""
    wait = patience.tries()
    while fd >= 0:
        try:
            WriterHold(fd).release()
            return True
        except BlockingIOError:
            if not wait():
                return False
    return True


def compare_and_swap(
    parent: int, name: bytes, new: bytes, is_same: Callable[[int, int], bool] | None, patience: Patience
) -> KeptReason | None:
    """Replace `name` by the file `new` if `is_same` accepts the current file (descriptor, size).

    With None in place of `is_same`, replace it only if it does not exist. Return None on success. Data that a writer
    appends during the swap is appended to the new file, too. If a writer makes any other change, the old file is
    restored and the result is WRITTEN.
    """

    def is_expected(found: os.stat_result | None) -> bool:
        if found is None or is_same is None:
            return found is None and is_same is None
        return st.S_ISREG(found.st_mode) and _ask(parent, name, is_same)

    mine = os.stat(new, dir_fd=parent, follow_symlinks=False)
    swap = swap_file(parent, name, new, is_expected, patience)
    if swap.orphan is None or is_same is None or _drop(parent, swap.orphan, is_same, patience):
        return swap.left

    if _repeat(parent, name, swap.orphan, is_same):
        return None

    def is_mine(found: os.stat_result | None) -> bool:
        return found is not None and (found.st_ino, found.st_size) == (mine.st_ino, mine.st_size)

    os.close(swap.orphan.fd)
    back = swap_file(parent, name, swap.orphan.name, is_mine, patience)
    if back.left is not None:
        _show(parent, name, swap.orphan.name)
        return None
    if back.orphan is not None and not _drop(parent, back.orphan, lambda fd, size: is_mine(os.fstat(fd)), patience):
        _show(parent, name, back.orphan.name)
    return KeptReason.WRITTEN


def free_name(parent: int, name: bytes, suffix: bytes) -> bytes:
    """Return a free name beside `name`."""
    number = 1
    while True:
        end = suffix + (b"-%d" % number if number > 1 else b"")
        free = name[: 255 - len(end)] + end
        if _look(parent, free) is None:
            return free
        number += 1


def _drop(parent: int, orphan: Orphan, is_same: Callable[[int, int], bool], patience: Patience) -> bool:
    """Close and unlink an orphan; return False if its content has changed."""
    if orphan.is_suspect and orphan.fd >= 0:
        wait_quiet(orphan.fd, patience)
        if not is_same(orphan.fd, os.fstat(orphan.fd).st_size):
            return False
    if orphan.fd >= 0:
        os.close(orphan.fd)
    if orphan.name:
        os.unlink(orphan.name, dir_fd=parent)
    return True


def _repeat(parent: int, name: bytes, orphan: Orphan, is_same: Callable[[int, int], bool]) -> bool:
    """Append to `name` the data that was appended to the orphan, and drop it; return False for any other change."""
    size = orphan.found.st_size
    if os.fstat(orphan.fd).st_ino != orphan.found.st_ino or not is_same(orphan.fd, size):
        return False
    added = os.pread(orphan.fd, os.fstat(orphan.fd).st_size - size, size)
    try:
        append(parent, name, added)
    except OSError:
        return False
    os.close(orphan.fd)
    os.unlink(orphan.name, dir_fd=parent)
    return True


def append(parent: int, name: bytes, data: bytes) -> None:
    """Append to a file, as a writer does."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(name, flags, dir_fd=parent), "ab", buffering=0) as file:
        while data:
            data = data[file.write(data) :]


def _show(parent: int, name: bytes, orphan: bytes) -> None:
    shown = free_name(parent, name, b".written")
    rooted_fs.rename_new(parent, orphan, shown)
    log.warning("'%s' was written to while it was replaced: that is in '%s'", os.fsdecode(name), os.fsdecode(shown))


def _ask(parent: int, name: bytes, is_same: Callable[[int, int], bool]) -> bool:
    fd = rooted_fs.open_quietly(name, dir_fd=parent)
    try:
        return is_same(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def _carry_out(
    parent: int, name: bytes, new: bytes | None, found: os.stat_result | None, hold: WriterHold | None
) -> SwapResult | None:
    """Swap the files; return None without effect if the name was created or deleted in this moment."""
    if found is None:
        return _put_first(parent, name, new)
    if st.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), os.fsdecode(name))
    labels = rooted_fs.read_xattrs(hold.fd) if hold is not None else {}
    out = new if new is not None else rooted_fs.orphan_name()
    try:
        if new is not None:
            rooted_fs.exchange(parent, new, name)
        else:
            rooted_fs.rename_new(parent, name, out)
    except FileNotFoundError:
        return None
    return SwapResult(None, _orphan(parent, out, found, hold, labels))


def _put_first(parent: int, name: bytes, new: bytes | None) -> SwapResult | None:
    if new is None:
        return SwapResult()
    try:
        rooted_fs.rename_new(parent, new, name)
    except FileExistsError:
        return None
    return SwapResult()


def _orphan(
    parent: int, out: bytes, found: os.stat_result, hold: WriterHold | None, labels: dict[str, bytes]
) -> Orphan | None:
    """Check the swapped-out file again, and unlink it if it is unchanged."""
    now = _look(parent, out)
    if now is None:
        return None  # the file system has no exchange: the file was replaced, and is gone
    if now.st_ino == found.st_ino and hold is not None:
        is_other = (now.st_size, now.st_mtime_ns, now.st_mode) != (found.st_size, found.st_mtime_ns, found.st_mode)
        # The lease is checked last: any open that found the name before the swap has met the lease by then.
        orphan = Orphan(hold.fd, found, out, is_other or rooted_fs.read_xattrs(hold.fd) != labels or hold.is_wanted)
    elif st.S_ISREG(now.st_mode):
        try:
            orphan = Orphan(rooted_fs.open_quietly(out, dir_fd=parent), found, out, is_suspect=True)
        except OSError:
            orphan = Orphan(-1, found, out, is_suspect=True)
    else:
        orphan = Orphan(-1, found, out, is_suspect=now.st_ino != found.st_ino)
    if not orphan.is_suspect:
        os.unlink(out, dir_fd=parent)
        orphan.name = b""
    return orphan


def _look(parent: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
