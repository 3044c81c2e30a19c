"""Locks of callers, handed to locks of the backing file, so that other mount points and the folder itself meet them.

Each lock owner has an open file description of its own on the backing file: OFD locks on it stand for POSIX and OFD locks, flock for
flock. The host's kernel keeps the ranges; this table keeps only who holds which description. Used by the thread of the handlers; only
attempts of waiting requests run under trio.

Not known here: deadlocks over several mount points, locks of directories (the kernel keeps those to itself).
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
# A lock that is held outside of this mount is tried again and again; one that is held inside is waited for, and seldom tried.
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS, INSIDE_RETRY_SECONDS = 0.001, 0.025, 0.5
_RETRY_GROWTH = 1.4
# All waiting requests together try about a thousand times a second; a release wakes the first of them, the others find it by trying.
SECONDS_PER_WAITER = 0.001
MAX_WOKEN = 64
# As far as holders are looked for, to name one and to notice a deadlock: the answer must not take long, whatever is locked.
MAX_HOLDERS, MAX_RANGES, MAX_DEADLOCK_STEPS = 32, 256, 16


class Range(NamedTuple):
    """A lock, wanted or held: F_RDLCK, F_WRLCK or F_UNLCK from byte `start` to byte `end`, both included."""

    kind: int
    start: int
    end: int
    pid: int

    @property
    def packed(self) -> bytes:
        """The `struct flock`; a length of 0 reaches to the end of any file."""
        length = 0 if self.end >= OFFSET_MAX else self.end - self.start + 1
        return _FLOCK.pack(self.kind, os.SEEK_SET, self.start, length, 0)

    def conflicts(self, other: "Range") -> bool:
        """True if both cannot be held by two owners."""
        overlaps = self.start <= other.end and other.start <= self.end
        return overlaps and fcntl.F_WRLCK in (self.kind, other.kind)


class _Owner:
    """The locks of one owner on one file: `fd` is their open file description, `handles` those that they were taken through."""

    __slots__ = ("fd", "handles", "identity", "is_flock", "node", "pid", "waits", "writes")

    def __init__(self, node: Node, identity: int, fd: int, *, is_flock: bool, writes: bool) -> None:
        self.node = node
        self.identity = identity
        self.fd = fd
        self.is_flock = is_flock
        self.writes = writes
        self.handles: set[int] = set()
        self.pid = 0
        self.waits = 0  # requests that wait for a lock: as long as there are any, `fd` stays open

    def attempt(self, wanted: Range) -> bool:
        """Set or clear a lock at once; False if another owner is in the way."""
        try:
            if self.is_flock:
                fcntl.flock(self.fd, _OPERATIONS[wanted.kind] | fcntl.LOCK_NB)
            else:
                fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, wanted.packed)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def held(self) -> Iterator[Range]:
        """The ranges that it holds, as the host's kernel has them."""
        with open(f"/proc/self/fdinfo/{self.fd}", encoding="ascii") as file:
            for line in itertools.islice(file, MAX_RANGES):
                if line.startswith("lock:"):
                    *_, kind, _, _, start, end = line.split()
                    last = OFFSET_MAX if end == "EOF" else int(end)
                    yield Range(_KINDS.get(kind, fcntl.F_WRLCK), int(start), last, self.pid)


class _Waiter:
    """A request that waits for a lock."""

    __slots__ = ("owner", "released", "token", "wanted")

    def __init__(self, owner: _Owner, wanted: Range) -> None:
        self.owner = owner
        self.wanted = wanted
        self.released = trio.Event()
        self.token: trio.lowlevel.TrioToken | None = None

    def wake(self) -> None:
        """Try again at once. From the thread of the handlers."""
        if self.token is not None:
            self.token.run_sync_soon(lambda: self.released.set())

    async def wait(self, first_delay: float, count: Callable[[], int]) -> None:
        """Try until it is granted. Under trio, which may cancel it. `count`: how many requests wait."""
        delay = first_delay
        self.token = trio.lowlevel.current_trio_token()
        while True:
            self.released = trio.Event()  # before the attempt: what is released after it sets this one
            if self.owner.attempt(self.wanted):
                return
            with trio.move_on_after(delay):
                await self.released.wait()
            longest = max(first_delay, MAX_RETRY_SECONDS, count() * SECONDS_PER_WAITER)
            delay = min(delay * _RETRY_GROWTH, longest)


class LockOwners:
    """All locks of one mount."""

    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        """`call`: run an async function under trio, from a handler."""
        self._call = call
        self._owners: dict[Node, dict[tuple[int, bool], _Owner]] = {}
        self._made: dict[Node, int] = {}  # what stands for a synthetic file
        self._waiters: dict[Node, list[_Waiter]] = {}
        self._waiting = 0

    def __bool__(self) -> bool:
        """True while any lock may be held."""
        return bool(self._owners)

    def find_conflict(self, node: Node, identity: int, fd: int | None, wanted: Range) -> Range:
        """Return the lock that is in the way of `wanted`, or one of type F_UNLCK. `pid` is 0 for a holder that is not known."""
        owner = self._owners.get(node, {}).get((identity, False))
        place = owner.fd if owner is not None else self._base(node, fd)
        kind, _, start, length, pid = _FLOCK.unpack(fcntl.fcntl(place, fcntl.F_OFD_GETLK, wanted.packed))
        if kind == fcntl.F_UNLCK:
            return Range(kind, wanted.start, wanted.end, 0)
        found = Range(kind, start, OFFSET_MAX if not length else start + length - 1, pid)
        if pid <= 0:
            holders = self._holders(node, identity, wanted)
            return found._replace(pid=holders[0].pid if holders else 0)
        return found

    def set_nowait(
        self, node: Node, identity: int, handle: int, fd: int | None, wanted: Range, *, is_flock: bool
    ) -> bool:
        """Take a lock, through a handle whose descriptor is `fd` (None: of a synthetic file); False if another owner is in the way.

        OSError ENOLCK if there is no descriptor left for it.
        """
        return self._owner(node, identity, handle, fd, wanted, is_flock=is_flock).attempt(wanted)

    async def set_wait(
        self, node: Node, identity: int, handle: int, fd: int | None, wanted: Range, *, is_flock: bool
    ) -> None:
        """Take a lock, after whatever is in the way. OSError EDEADLK, or EINTR if the caller has a signal."""
        owner = self._owner(node, identity, handle, fd, wanted, is_flock=is_flock)
        if owner.attempt(wanted):
            return
        self._check_deadlock(owner, wanted)
        waiter = _Waiter(owner, wanted)
        self._waiters.setdefault(node, []).append(waiter)
        owner.waits += 1
        self._waiting += 1
        is_inside = not is_flock and bool(self._holders(node, identity, wanted))
        try:
            first_delay = INSIDE_RETRY_SECONDS if is_inside else FIRST_RETRY_SECONDS
            await self._call(waiter.wait, first_delay, lambda: self._waiting)
        finally:
            owner.waits -= 1
            self._waiting -= 1
            self._waiters[node].remove(waiter)
            if not self._waiters[node]:
                del self._waiters[node]

    def unlock(self, node: Node, identity: int, wanted: Range, *, is_flock: bool) -> None:
        """Release a range, or the flock, of an owner."""
        owner = self._owners.get(node, {}).get((identity, is_flock))
        if owner is not None:
            owner.attempt(wanted)
            self._wake(node)

    def flush(self, node: Node, identity: int) -> None:
        """A process has closed a descriptor of a file: all its POSIX locks on that file end."""
        owner = self._owners.get(node, {}).get((identity, False))
        if owner is not None:
            self._drop(owner)

    def release(self, node: Node, handle: int) -> None:
        """An open file description is closed for good: the locks that were taken through it end."""
        for owner in list(self._owners.get(node, {}).values()):
            if handle in owner.handles:
                owner.handles.discard(handle)
                self._drop(owner)

    # inside

    def _owner(
        self, node: Node, identity: int, handle: int, fd: int | None, wanted: Range, *, is_flock: bool
    ) -> _Owner:
        owners = self._owners.get(node, {})
        owner = owners.get((identity, is_flock))
        if owner is None:
            owner = self._open(node, identity, fd, is_flock=is_flock)
            self._owners.setdefault(node, {})[identity, is_flock] = owner
        elif wanted.kind == fcntl.F_WRLCK and not owner.writes and not is_flock and not owner.waits:
            self._make_writable(owner, fd)
        owner.handles.add(handle)
        owner.pid = wanted.pid or owner.pid
        return owner

    def _open(self, node: Node, identity: int, fd: int | None, *, is_flock: bool) -> _Owner:
        base = self._base(node, fd)
        mode = os.O_RDONLY if is_flock else fcntl.fcntl(base, fcntl.F_GETFL) & os.O_ACCMODE
        place, flags = f"/proc/self/fd/{base}", os.O_CLOEXEC | os.O_NONBLOCK
        tries = [mode] if mode == os.O_RDONLY else [os.O_RDWR, mode]
        if is_flock:
            tries.append(fcntl.fcntl(base, fcntl.F_GETFL) & os.O_ACCMODE)
        for position, access in enumerate(tries):
            try:
                opened = os.open(place, access | flags)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)) from error
                if position == len(tries) - 1:
                    raise
            else:
                return _Owner(node, identity, opened, is_flock=is_flock, writes=access != os.O_RDONLY)
        raise AssertionError("the last try opens or raises")

    def _make_writable(self, owner: _Owner, fd: int | None) -> None:
        """A reader wants to write: another open file description, which has taken over the read locks before the old one is closed."""
        new = self._open(owner.node, owner.identity, fd, is_flock=False)
        for held in owner.held():
            new.attempt(held)
        os.close(owner.fd)
        owner.fd, owner.writes = new.fd, new.writes

    def _base(self, node: Node, fd: int | None) -> int:
        if fd is not None:
            return fd
        if node not in self._made:
            self._made[node] = os.memfd_create("locks", os.MFD_CLOEXEC)
        return self._made[node]

    def _holders(self, node: Node, identity: int, wanted: Range) -> list[_Owner]:
        """Other owners of this mount that are in the way."""
        owners = self._owners.get(node, {}).values()
        others = (owner for owner in owners if not owner.is_flock and owner.identity != identity)
        return [
            owner
            for owner in itertools.islice(others, MAX_HOLDERS)
            if any(held.conflicts(wanted) for held in owner.held())
        ]

    def _check_deadlock(self, asks: _Owner, wanted: Range) -> None:
        """EDEADLK if a process would wait for itself over others that wait. Only for POSIX locks, as natively: those of one process
        have one owner, while two owners with the same process are open file descriptions, which another thread may unlock.
        """
        if asks.is_flock:
            return
        ahead, seen = self._holders(asks.node, asks.identity, wanted), set[int]()
        while ahead and len(seen) < MAX_DEADLOCK_STEPS:
            holder = ahead.pop()
            if holder.identity == asks.identity:
                raise OSError(errno.EDEADLK, os.strerror(errno.EDEADLK))
            if holder.identity in seen or holder.pid == asks.pid:
                continue
            seen.add(holder.identity)
            for waiter in (waiter for waiters in self._waiters.values() for waiter in waiters):
                if waiter.owner.identity == holder.identity and not waiter.owner.is_flock:
                    ahead += self._holders(waiter.owner.node, holder.identity, waiter.wanted)

    def _drop(self, owner: _Owner) -> None:
        node = owner.node
        if owner.waits:  # a thread of the same process is still about to lock it
            owner.attempt(Range(fcntl.F_UNLCK, 0, OFFSET_MAX, 0))
        else:
            owners = self._owners[node]
            if owners.pop((owner.identity, owner.is_flock), None) is not None:
                os.close(owner.fd)
            if not owners:
                del self._owners[node]
                if (made := self._made.pop(node, None)) is not None:
                    os.close(made)
        self._wake(node)

    def _wake(self, node: Node) -> None:
        for waiter in self._waiters.get(node, ())[:MAX_WOKEN]:
            waiter.wake()


class CacheClaims:
    """Files that a mount process serves from a page cache of its own while a caller may have mapped them for writing.

    Another mount process must not map the same file: a byte of one lock file stands for each. A kill ends the claims.
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
        """A handle is closed."""
        handles = self._files.get(node)
        if handles is not None:
            handles.discard(handle)
            if not handles:
                del self._files[node]
                self._set(node, fcntl.F_UNLCK)

    def is_claimed(self, node: Node) -> bool:
        """True if another mount process has claimed it."""
        answer = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, self._range(node, fcntl.F_WRLCK).packed)
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def _set(self, node: Node, kind: int) -> None:
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, self._range(node, kind).packed)

    @staticmethod
    def _range(node: Node, kind: int) -> Range:
        device, inode = node.key[1:3]  # type: ignore[index]  # keys of disk nodes are (area, device, inode, kind)
        at = (device * 0x9E3779B97F4A7C15 + inode) & (OFFSET_MAX >> 1)
        return Range(kind, at, at, 0)
