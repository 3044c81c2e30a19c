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

_MAX_FILE_SECONDS = 0.5
_MIN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.0002, 0.002
_MAX_TRIES = 100
# EACCES: the file is another user's. EINVAL, ENOLCK, EOPNOTSUPP: the file system has no leases.
_NO_LEASE_ERRNOS = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP)
# Signal of a lease break. SIGURG is ignored by default, whereas SIGIO would end the process.
_LEASE_BREAK_SIGNAL = signal.SIGURG
# Serialises swaps of the threads of the process that owns the store, so that each replaces the file that it checked.
_SWAP_LOCK = threading.Lock()


class UnchangedReason(Enum):
    """The reason why a path was left unchanged."""

    WRITTEN = "written meanwhile"
    OPEN = "open for writing"
    OCCUPIED = "something else is in it"
    FROZEN = "frozen: a person lifts that first, with ctxfs state PATH active"
    STATE = "memory.toml refuses this change of its state"


class WriterTimeout:
    """The time that one operation may wait for writers: half a second for each file, `seconds` for all of them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def tries(self) -> "Callable[[], bool]":
        """Return a function that pauses, and returns False once the file's time has passed."""
        end, pause = time.monotonic() + min(_MAX_FILE_SECONDS, self._seconds), _MIN_PAUSE_SECONDS

        def wait() -> bool:
            nonlocal pause
            if time.monotonic() >= end:
                return False
            time.sleep(pause)
            self._seconds -= pause
            pause = min(pause * 1.5, _MAX_PAUSE_SECONDS)
            return True

        return wait


class WriteLease:
    """A read lease on the file of `fd`, opened for reading only; without lease support it is not firm."""

    def __init__(self, fd: int) -> None:
        """Take the lease; raise BlockingIOError if the file is open for writing."""
        self.fd = fd
        self.is_firm = True
        try:
            fcntl.fcntl(fd, fcntl.F_SETSIG, _LEASE_BREAK_SIGNAL)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            if error.errno not in _NO_LEASE_ERRNOS:
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
    stat: os.stat_result
    name: bytes = b""
    is_suspect: bool = False


@dataclass(frozen=True, slots=True)
class SwapResult:
    """The result of a swap: the reason if the path is unchanged (None: it was changed), and the replaced file."""

    reason: UnchangedReason | None = None
    orphan: Orphan | None = None


def lease_file(parent: int, name: bytes, patience: WriterTimeout) -> WriteLease | None:
    """Take a lease on a regular file and open it; return None if the file is absent, not regular or not readable.

    Raise BlockingIOError if it stays open for writing.
    """
    wait = patience.tries()
    while True:
        try:
            fd = rooted_fs.open_nofollow(name, dir_fd=parent)
        except OSError:
            return None  # a link, a fifo without a writer, or absent
        try:
            if st.S_ISREG(os.fstat(fd).st_mode):
                return WriteLease(fd)
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
    patience: WriterTimeout,
    hold: WriteLease | None = None,
) -> SwapResult:
    """Replace `name` by the file `new` of the directory `parent`, or with None remove it.

    `is_expected` checks the current file while writers are blocked. The name `new` is free afterwards, unless an orphan
    has it. A directory is not replaced (EISDIR). `hold` is a lease that the caller has taken on the file; it ends here.
    """
    for _ in range(_MAX_TRIES):
        if hold is None:
            try:
                hold = lease_file(parent, name, patience)
            except BlockingIOError:
                return SwapResult(UnchangedReason.OPEN)
        try:
            with _SWAP_LOCK:
                current = _stat_entry(parent, name)
                if hold is not None and (current is None or current.st_ino != os.fstat(hold.fd).st_ino):
                    continue  # it was replaced between the lease and the check
                if not is_expected(current):
                    return SwapResult(UnchangedReason.WRITTEN)
                swap = _swap_names(parent, name, new, current, hold)
            if swap is not None:
                if swap.orphan is not None and hold is not None and swap.orphan.fd == hold.fd:
                    hold.release()
                    hold = None  # its descriptor is the orphan's
                return swap
        finally:
            if hold is not None:
                os.close(hold.fd)  # closing the descriptor ends the lease
                hold = None
    return SwapResult(UnchangedReason.WRITTEN)


def wait_unwritten(fd: int, patience: WriterTimeout) -> bool:
    """Wait until no writer has the file open; return False if one keeps it open."""
    wait = patience.tries()
    while fd >= 0:
        try:
            WriteLease(fd).release()
            return True
        except BlockingIOError:
            if not wait():
                return False
    return True


def compare_and_swap(
    parent: int, name: bytes, new: bytes, is_same: Callable[[int, int], bool] | None, patience: WriterTimeout
) -> UnchangedReason | None:
    """Replace `name` by the file `new` if `is_same` accepts the current file (descriptor, size).

    With None in place of `is_same`, replace it only if it does not exist. Return None on success. Data that a writer
    appends during the swap is appended to the new file, too. If a writer makes any other change, the old file is
    restored and the result is WRITTEN.
    """

    def is_expected(current: os.stat_result | None) -> bool:
        if current is None or is_same is None:
            return current is None and is_same is None
        return st.S_ISREG(current.st_mode) and _check_content(parent, name, is_same)

    new_stat = os.stat(new, dir_fd=parent, follow_symlinks=False)
    swap = swap_file(parent, name, new, is_expected, patience)
    if swap.orphan is None or is_same is None or _drop_orphan(parent, swap.orphan, is_same, patience):
        return swap.reason

    if _replay_append(parent, name, swap.orphan, is_same):
        return None

    def is_new_file(current: os.stat_result | None) -> bool:
        return current is not None and (current.st_ino, current.st_size) == (new_stat.st_ino, new_stat.st_size)

    os.close(swap.orphan.fd)
    back = swap_file(parent, name, swap.orphan.name, is_new_file, patience)
    if back.reason is not None:
        _publish_orphan(parent, name, swap.orphan.name)
        return None
    if back.orphan is not None and not _drop_orphan(
        parent, back.orphan, lambda fd, size: is_new_file(os.fstat(fd)), patience
    ):
        _publish_orphan(parent, name, back.orphan.name)
    return UnchangedReason.WRITTEN


def free_name(parent: int, name: bytes, suffix: bytes) -> bytes:
    """Return a free name beside `name`."""
    number = 1
    while True:
        end = suffix + (b"-%d" % number if number > 1 else b"")
        free = name[: 255 - len(end)] + end
        if _stat_entry(parent, free) is None:
            return free
        number += 1


def _drop_orphan(parent: int, orphan: Orphan, is_same: Callable[[int, int], bool], patience: WriterTimeout) -> bool:
    """Close and unlink an orphan; return False if its content has changed."""
    if orphan.is_suspect and orphan.fd >= 0:
        wait_unwritten(orphan.fd, patience)
        if not is_same(orphan.fd, os.fstat(orphan.fd).st_size):
            return False
    if orphan.fd >= 0:
        os.close(orphan.fd)
    if orphan.name:
        os.unlink(orphan.name, dir_fd=parent)
    return True


def _replay_append(parent: int, name: bytes, orphan: Orphan, is_same: Callable[[int, int], bool]) -> bool:
    """Append to `name` the data that was appended to the orphan, and drop it; return False for any other change."""
    size = orphan.stat.st_size
    if os.fstat(orphan.fd).st_ino != orphan.stat.st_ino or not is_same(orphan.fd, size):
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


def _publish_orphan(parent: int, name: bytes, orphan: bytes) -> None:
    free = free_name(parent, name, b".written")
    rooted_fs.rename_new(parent, orphan, free)
    log.warning(
        "'%s' was written to while it was replaced; that content is in '%s'", os.fsdecode(name), os.fsdecode(free)
    )


def _check_content(parent: int, name: bytes, is_same: Callable[[int, int], bool]) -> bool:
    fd = rooted_fs.open_nofollow(name, dir_fd=parent)
    try:
        return is_same(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def _swap_names(
    parent: int, name: bytes, new: bytes | None, current: os.stat_result | None, hold: WriteLease | None
) -> SwapResult | None:
    """Swap the files; return None without effect if the name was created or deleted in this moment."""
    if current is None:
        return _create_entry(parent, name, new)
    if st.S_ISDIR(current.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), os.fsdecode(name))
    labels = rooted_fs.read_xattrs(hold.fd) if hold is not None else {}
    out_name = new if new is not None else rooted_fs.orphan_name()
    try:
        if new is not None:
            rooted_fs.exchange(parent, new, name)
        else:
            rooted_fs.rename_new(parent, name, out_name)
    except FileNotFoundError:
        return None
    return SwapResult(None, _check_orphan(parent, out_name, current, hold, labels))


def _create_entry(parent: int, name: bytes, new: bytes | None) -> SwapResult | None:
    if new is None:
        return SwapResult()
    try:
        rooted_fs.rename_new(parent, new, name)
    except FileExistsError:
        return None
    return SwapResult()


def _check_orphan(
    parent: int, out_name: bytes, before: os.stat_result, hold: WriteLease | None, labels: dict[str, bytes]
) -> Orphan | None:
    """Check the swapped-out file again, and unlink it if it is unchanged."""
    after = _stat_entry(parent, out_name)
    if after is None:
        return None  # the file system has no exchange: the file was replaced, and is gone
    if after.st_ino == before.st_ino and hold is not None:
        is_other = (after.st_size, after.st_mtime_ns, after.st_mode) != (
            before.st_size,
            before.st_mtime_ns,
            before.st_mode,
        )
        # The lease is checked last: any open that found the name before the swap has met the lease by then.
        orphan = Orphan(
            hold.fd, before, out_name, is_other or rooted_fs.read_xattrs(hold.fd) != labels or hold.is_wanted
        )
    elif st.S_ISREG(after.st_mode):
        try:
            orphan = Orphan(rooted_fs.open_nofollow(out_name, dir_fd=parent), before, out_name, is_suspect=True)
        except OSError:
            orphan = Orphan(-1, before, out_name, is_suspect=True)
    else:
        orphan = Orphan(-1, before, out_name, is_suspect=after.st_ino != before.st_ino)
    if not orphan.is_suspect:
        os.unlink(out_name, dir_fd=parent)
        orphan.name = b""
    return orphan


def _stat_entry(parent: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
