"""Locks of callers, as locks on the backing file.

So they conflict with locks of other mount points and of host programs. Each lock owner has a separate open file
description on the backing file. OFD locks on it represent POSIX and OFD locks, and flock represents flock. The host's
kernel stores the ranges. This table stores only the description of each owner.

The thread of the handlers uses the table. Only the attempts of waiting requests run under trio.

Not supported: detection of deadlocks over several mount points, and locks of directories, which the kernel handles
itself.
"""

import errno
import fcntl
import itertools
import os
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import trio

from ctxfs.fuse.inodes import Node

OFFSET_MAX = (1 << 63) - 1
_FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, process: struct flock of 64 bits
_OPERATIONS = {fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_UNLCK: fcntl.LOCK_UN}
_KINDS = {"READ": fcntl.F_RDLCK, "WRITE": fcntl.F_WRLCK}
# A lock of another mount or program is polled. A lock of this mount wakes its waiters, so that it is seldom polled.
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS, INSIDE_RETRY_SECONDS = 0.001, 0.025, 0.5
_RETRY_GROWTH = 1.4
# All waiting requests together make about 1,000 attempts a second. A release wakes the first ones; the others poll.
SECONDS_PER_WAITER = 0.001
MAX_WOKEN = 64
# Limits of the search for conflicting owners and for deadlocks, so that the reply is fast for any number of locks.
MAX_HOLDERS, MAX_RANGES, MAX_DEADLOCK_STEPS = 32, 256, 16


class Range(NamedTuple):
    """A requested or granted lock: F_RDLCK, F_WRLCK or F_UNLCK from byte `start` to byte `end`, both included."""

    kind: int
    start: int
    end: int
    pid: int

    @property
    def packed(self) -> bytes:
        """Return the `struct flock`, in which a length of 0 extends to the end of any file."""
        length = 0 if self.end >= OFFSET_MAX else self.end - self.start + 1
        return _FLOCK.pack(self.kind, os.SEEK_SET, self.start, length, 0)

    def conflicts(self, other: "Range") -> bool:
        """Return True if two owners cannot have both locks at once."""
        overlaps = self.start <= other.end and other.start <= self.end
        return overlaps and fcntl.F_WRLCK in (self.kind, other.kind)


class _Owner:
    """The locks of one owner on one file.

    `fd` is their open file description. `handles` are the handles through which they were taken.
    """

    __slots__ = ("fd", "handles", "identity", "is_flock", "is_writable", "node", "pid", "waiter_count")

    def __init__(self, node: Node, identity: int, fd: int, *, is_flock: bool, is_writable: bool) -> None:
        self.node = node
        self.identity = identity
        self.fd = fd
        self.is_flock = is_flock
        self.is_writable = is_writable
        self.handles: set[int] = set()
        self.pid = 0
        self.waiter_count = 0  # the count of requests that wait for a lock: `fd` stays open until it is 0

    def try_set(self, lock: Range) -> bool:
        """Set or clear a lock without waiting; return False if another owner's lock conflicts."""
        try:
            if self.is_flock:
                fcntl.flock(self.fd, _OPERATIONS[lock.kind] | fcntl.LOCK_NB)
            else:
                fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, lock.packed)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def ranges(self) -> Iterator[Range]:
        """Yield the ranges of this owner's locks, as the host's kernel lists them."""
        with open(f"/proc/self/fdinfo/{self.fd}", encoding="ascii") as file:
            for line in itertools.islice(file, MAX_RANGES):
                if line.startswith("lock:"):
                    *_, kind, _, _, start, end = line.split()
                    last = OFFSET_MAX if end == "EOF" else int(end)
                    yield Range(_KINDS.get(kind, fcntl.F_WRLCK), int(start), last, self.pid)


class _Waiter:
    """A request that waits for a lock."""

    __slots__ = ("lock", "owner", "released", "token")

    def __init__(self, owner: _Owner, lock: Range) -> None:
        self.owner = owner
        self.lock = lock
        self.released = trio.Event()
        self.token: trio.lowlevel.TrioToken | None = None

    def wake(self) -> None:
        """Retry at once. Called from the thread of the handlers."""
        if self.token is not None:
            self.token.run_sync_soon(lambda: self.released.set())

    async def wait(self, first_delay: float, count: Callable[[], int]) -> None:
        """Retry until the lock is granted. Runs under trio, which may cancel it.

        `count` returns the number of waiting requests.
        """
        delay = first_delay
        self.token = trio.lowlevel.current_trio_token()
        while True:
            self.released = trio.Event()  # before the attempt, so that any later release sets this event
            if self.owner.try_set(self.lock):
                return
            with trio.move_on_after(delay):
                await self.released.wait()
            max_delay = max(first_delay, MAX_RETRY_SECONDS, count() * SECONDS_PER_WAITER)
            delay = min(delay * _RETRY_GROWTH, max_delay)


class LockOwners:
    """The locks of one mount."""

    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        """Create an empty table; `call` runs an async function under trio, from a handler."""
        self._call = call
        self._owners: dict[Node, dict[tuple[int, bool], _Owner]] = {}
        self._memfds: dict[Node, int] = {}  # node of a synthetic file → the memfd that its locks are on
        self._waiters: dict[Node, list[_Waiter]] = {}
        self._waiter_count = 0

    def __bool__(self) -> bool:
        """Return True while any lock may be set."""
        return bool(self._owners)

    def find_conflict(self, node: Node, identity: int, fd: int | None, lock: Range) -> Range:
        """Return a lock that conflicts with `lock`, or one of type F_UNLCK.

        `pid` is 0 if the owner is unknown.
        """
        owner = self._owners.get(node, {}).get((identity, False))
        base_fd = owner.fd if owner is not None else self._base_fd(node, fd)
        kind, _, start, length, pid = _FLOCK.unpack(fcntl.fcntl(base_fd, fcntl.F_OFD_GETLK, lock.packed))
        if kind == fcntl.F_UNLCK:
            return Range(kind, lock.start, lock.end, 0)
        conflict = Range(kind, start, OFFSET_MAX if not length else start + length - 1, pid)
        if pid <= 0:
            holders = self._conflicting_owners(node, identity, lock)
            return conflict._replace(pid=holders[0].pid if holders else 0)
        return conflict

    def set_nowait(
        self, node: Node, identity: int, handle: int, fd: int | None, lock: Range, *, is_flock: bool
    ) -> bool:
        """Set a lock without waiting; return False if another owner's lock conflicts.

        `fd` is the descriptor of the handle, or None for a synthetic file. Raise OSError ENOLCK if the descriptors are
        exhausted.
        """
        return self._get_owner(node, identity, handle, fd, lock, is_flock=is_flock).try_set(lock)

    async def set_wait(
        self, node: Node, identity: int, handle: int, fd: int | None, lock: Range, *, is_flock: bool
    ) -> None:
        """Set a lock after waiting for conflicting locks.

        Raise OSError EDEADLK for a deadlock, or EINTR if the caller receives a signal.
        """
        owner = self._get_owner(node, identity, handle, fd, lock, is_flock=is_flock)
        if owner.try_set(lock):
            return
        self._check_deadlock(owner, lock)
        waiter = _Waiter(owner, lock)
        self._waiters.setdefault(node, []).append(waiter)
        owner.waiter_count += 1
        self._waiter_count += 1
        is_inside = not is_flock and bool(self._conflicting_owners(node, identity, lock))
        try:
            first_delay = INSIDE_RETRY_SECONDS if is_inside else FIRST_RETRY_SECONDS
            await self._call(waiter.wait, first_delay, lambda: self._waiter_count)
        finally:
            owner.waiter_count -= 1
            self._waiter_count -= 1
            self._waiters[node].remove(waiter)
            if not self._waiters[node]:
                del self._waiters[node]

    def unlock(self, node: Node, identity: int, lock: Range, *, is_flock: bool) -> None:
        """Release a range, or the flock, of an owner."""
        owner = self._owners.get(node, {}).get((identity, is_flock))
        if owner is not None:
            owner.try_set(lock)
            self._wake(node)

    def flush(self, node: Node, identity: int) -> None:
        """Release an owner's POSIX locks on a file, because a process has closed a descriptor of it."""
        owner = self._owners.get(node, {}).get((identity, False))
        if owner is not None:
            self._release_owner(owner)

    def release(self, node: Node, handle: int) -> None:
        """Release the locks that were taken through a handle, because its open file description is closed."""
        for owner in list(self._owners.get(node, {}).values()):
            if handle in owner.handles:
                owner.handles.discard(handle)
                self._release_owner(owner)

    # internal

    def _get_owner(
        self, node: Node, identity: int, handle: int, fd: int | None, lock: Range, *, is_flock: bool
    ) -> _Owner:
        owners = self._owners.get(node, {})
        owner = owners.get((identity, is_flock))
        if owner is None:
            owner = self._open(node, identity, fd, is_flock=is_flock)
            self._owners.setdefault(node, {})[identity, is_flock] = owner
        elif lock.kind == fcntl.F_WRLCK and not owner.is_writable and not is_flock and not owner.waiter_count:
            self._make_writable(owner, fd)
        owner.handles.add(handle)
        owner.pid = lock.pid or owner.pid
        return owner

    def _open(self, node: Node, identity: int, fd: int | None, *, is_flock: bool) -> _Owner:
        base_fd = self._base_fd(node, fd)
        mode = os.O_RDONLY if is_flock else fcntl.fcntl(base_fd, fcntl.F_GETFL) & os.O_ACCMODE
        path, flags = f"/proc/self/fd/{base_fd}", os.O_CLOEXEC | os.O_NONBLOCK
        access_modes = [mode] if mode == os.O_RDONLY else [os.O_RDWR, mode]
        if is_flock:
            access_modes.append(fcntl.fcntl(base_fd, fcntl.F_GETFL) & os.O_ACCMODE)
        for position, access in enumerate(access_modes):
            try:
                new_fd = os.open(path, access | flags)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)) from error
                if position == len(access_modes) - 1:
                    raise
            else:
                return _Owner(node, identity, new_fd, is_flock=is_flock, is_writable=access != os.O_RDONLY)
        raise AssertionError("the last attempt opens or raises")

    def _make_writable(self, owner: _Owner, fd: int | None) -> None:
        """Replace an owner's read-only open file description by a writable one, for a write lock.

        The new description has the read locks before the old one is closed.
        """
        new = self._open(owner.node, owner.identity, fd, is_flock=False)
        for lock in owner.ranges():
            new.try_set(lock)
        os.close(owner.fd)
        owner.fd, owner.is_writable = new.fd, new.is_writable

    def _base_fd(self, node: Node, fd: int | None) -> int:
        if fd is not None:
            return fd
        if node not in self._memfds:
            self._memfds[node] = os.memfd_create("locks", os.MFD_CLOEXEC)
        return self._memfds[node]

    def _conflicting_owners(self, node: Node, identity: int, lock: Range) -> list[_Owner]:
        """Return other owners of this mount with conflicting locks."""
        owners = self._owners.get(node, {}).values()
        others = (owner for owner in owners if not owner.is_flock and owner.identity != identity)
        return [
            owner
            for owner in itertools.islice(others, MAX_HOLDERS)
            if any(existing.conflicts(lock) for existing in owner.ranges())
        ]

    def _check_deadlock(self, requester: _Owner, lock: Range) -> None:
        """Raise OSError EDEADLK if a process would wait for itself through other waiting owners.

        The check applies only to POSIX locks, as natively: all those of a process have one owner. Two owners with the
        same process are open file descriptions, which another thread may unlock.
        """
        if requester.is_flock:
            return
        pending, seen = self._conflicting_owners(requester.node, requester.identity, lock), set[int]()
        while pending and len(seen) < MAX_DEADLOCK_STEPS:
            holder = pending.pop()
            if holder.identity == requester.identity:
                raise OSError(errno.EDEADLK, os.strerror(errno.EDEADLK))
            if holder.identity in seen or holder.pid == requester.pid:
                continue
            seen.add(holder.identity)
            for waiter in (waiter for waiters in self._waiters.values() for waiter in waiters):
                if waiter.owner.identity == holder.identity and not waiter.owner.is_flock:
                    pending += self._conflicting_owners(waiter.owner.node, holder.identity, waiter.lock)

    def _release_owner(self, owner: _Owner) -> None:
        node = owner.node
        if owner.waiter_count:  # a thread of the same process still waits for the lock
            owner.try_set(Range(fcntl.F_UNLCK, 0, OFFSET_MAX, 0))
        else:
            owners = self._owners[node]
            if owners.pop((owner.identity, owner.is_flock), None) is not None:
                os.close(owner.fd)
            if not owners:
                del self._owners[node]
                if (memfd := self._memfds.pop(node, None)) is not None:
                    os.close(memfd)
        self._wake(node)

    def _wake(self, node: Node) -> None:
        for waiter in self._waiters.get(node, ())[:MAX_WOKEN]:
            waiter.wake()


class CacheClaims:
    """Files that a mount process serves from its own page cache while a caller may have mapped them for writing.

    Another mount process must not map the same file. One byte of a shared lock file represents each file. The kernel
    releases the claims of a killed process.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._files: dict[Node, set[int]] = {}

    def add(self, node: Node, handle: int) -> None:
        """Claim the file of a handle."""
        handles = self._files.setdefault(node, set())
        if not handles:
            self._set(node, fcntl.F_RDLCK)
        handles.add(handle)

    def release(self, node: Node, handle: int) -> None:
        """Release the claim of a closed handle."""
        handles = self._files.get(node)
        if handles is not None:
            handles.discard(handle)
            if not handles:
                del self._files[node]
                self._set(node, fcntl.F_UNLCK)

    def is_claimed(self, node: Node) -> bool:
        """Return True if another mount process has claimed the file."""
        reply = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, self._range(node, fcntl.F_WRLCK).packed)
        return bool(_FLOCK.unpack(reply)[0] != fcntl.F_UNLCK)

    def _set(self, node: Node, kind: int) -> None:
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, self._range(node, kind).packed)

    @staticmethod
    def _range(node: Node, kind: int) -> Range:
        key = node.disk_key
        offset = (key.device * 0x9E3779B97F4A7C15 + key.inode) & (OFFSET_MAX >> 1)
        return Range(kind, offset, offset, 0)
