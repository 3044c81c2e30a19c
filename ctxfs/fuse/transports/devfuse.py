"""The `direct` transport: reads and answers FUSE requests on /dev/fuse without a library.

One thread reads a request, answers it and reads the next; a handler that must wait is parked. `protocol` has the
layouts, `coroutine_loop` the loop. With Linux 6.9 and as root, open files use FUSE passthrough. If the compiled loop
has been built, it reads the requests and caches files that were opened for reading.
"""

import errno
import fcntl
import logging
import os
import resource
import select
import struct
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ctxfs.fuse.attributes import NAMESPACE, OpenReply
from ctxfs.fuse.interfaces import BackingFiles, OpenCacheBackend
from ctxfs.fuse.mounting import KernelMount
from ctxfs.fuse.operations import Operations
from ctxfs.fuse.transports import load_fastpath
from ctxfs.fuse.transports import protocol as fuse
from ctxfs.fuse.transports.coroutine_loop import CoroutineLoop, Task
from ctxfs.fuse.transports.errors import errno_of
from ctxfs.fuse.transports.requests import TABLE, Encode, Requests
from ctxfs.fuse.transports.transport import Background
from ctxfs.model.errors import CommandError

if TYPE_CHECKING:
    from ctxfs.fuse.transports import fastpath
else:
    fastpath, _ = load_fastpath()  # None: Python answers all requests

log = logging.getLogger(__name__)

# Larger writes leave the processor's cache between two copies: 1 GB takes 2.4 × native, with 1 MB writes 3.4 ×.
_MAX_WRITE_BYTES = 512 * 1024
_BUFFER_BYTES = _MAX_WRITE_BYTES + 4096
_MAX_CACHED_FILES = 16_384
_WANTED_FLAGS = (
    fuse.ASYNC_READ
    | fuse.ATOMIC_O_TRUNC
    | fuse.BIG_WRITES
    | fuse.DONT_MASK
    | fuse.AUTO_INVAL_DATA
    | fuse.DO_READDIRPLUS
    | fuse.ASYNC_DIO
    | fuse.PARALLEL_DIROPS
    | fuse.MAX_PAGES
    | fuse.HANDLE_KILLPRIV_V2
    | fuse.HAS_EXPIRE_ONLY
    | fuse.PASSTHROUGH
)
# With these the kernel enforces ACLs. It then compares modes, too, which costs one more request before every change.
_ACL_FLAGS = fuse.POSIX_ACL | fuse.SETXATTR_EXT
_LOCK_FLAGS = fuse.POSIX_LOCKS | fuse.FLOCK_LOCKS
# No request to answer: another thread has read it, or its caller has gone.
_RETRY_ERRNOS = (errno.EAGAIN, errno.EINTR, errno.ENOENT)
_SIGKILL_PENDING = 1 << 8

# Requests that end earlier operations: their headers have no caller's uid, so they are not checked against `users`.
_UNCHECKED_OPCODES = (fuse.FORGET, fuse.BATCH_FORGET, fuse.INTERRUPT, fuse.DESTROY, fuse.RELEASE, fuse.FLUSH)
_LOOKUP_OPCODES = (fuse.LOOKUP, fuse.SYMLINK, fuse.MKNOD, fuse.MKDIR, fuse.LINK, fuse.CREATE)


class DevFuseTransport(CoroutineLoop):
    """One mount point with all requests on one descriptor. `run` must be called in the main thread."""

    reads_by_number = True
    checks_acls = False

    def __init__(self) -> None:
        super().__init__()
        self.backing_files: BackingFiles | None = None
        self.open_cache_backend: OpenCacheBackend | None = None
        self.can_expire = False
        self._loop: fastpath.Loop | None = None
        self._mounted: KernelMount | None = None
        self._fd = -1
        self._buffer = bytearray(_BUFFER_BYTES)
        self._buffers = [self._buffer]
        self._view = memoryview(self._buffer)
        self._requests: Requests | None = None
        self._parked: dict[int, tuple[Task, int, int]] = {}  # unique → (coroutine, caller's pid, opcode)
        self._is_stopped = False
        self._users: frozenset[int] | None = None

    # for a mount process

    def run(self, background: Background, start: Callable[[], None]) -> None:
        """Implement `Transport.run`."""
        with self.running(background, self.stop):
            start()
            while not self._is_stopped:
                while self.ready:
                    self.step(*self.ready.popleft())
                if self._loop is None:
                    if self.wait_for_events():
                        self.serve_next()
                elif size := self._read_request():
                    self._serve_request(size)
                else:
                    self.handle_own_events(self.poll.poll(0))

    def attach(self, operations: Operations, mounted: KernelMount) -> None:
        """Implement `Transport.attach`."""
        self._mounted = mounted
        try:
            self.start_connection(mounted.fd, operations)
        except (OSError, ValueError) as error:
            self.unmount()
            raise CommandError(
                f"cannot mount at '{mounted.mountpoint}': {error}", 'set loop = "trio" in ctxfs.toml'
            ) from error

    def start_connection(self, fd: int, operations: Operations) -> None:
        """Read INIT from `fd`, reply to it, and serve requests from there on.

        Raise ValueError if the kernel is too old.
        """
        self._fd = fd
        agreed = self._negotiate(
            _WANTED_FLAGS
            | (_LOCK_FLAGS if operations.forwards_locks else 0)
            | (_ACL_FLAGS if operations.checks_modes else 0)
        )
        os.set_blocking(fd, False)
        self.poll.register(fd, select.POLLIN)
        if fastpath is not None:
            max_files = min(_MAX_CACHED_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4)
            self._loop = self.open_cache_backend = fastpath.Loop(
                fd=fd,
                wake=self.wake_fd,
                buffer=self._buffer,
                most=max_files,
                notes_reads=operations.audits_reads,
                attributes=NAMESPACE,
                flushes=operations.forwards_locks,
            )
            if operations.users is not None:
                self._loop.admit(sorted(operations.users))
        self._users = operations.users
        self._requests = Requests(operations, None if self._loop is None else self._loop.entries)
        self._requests.has_long_setxattr = bool(agreed & fuse.SETXATTR_EXT)
        if agreed & fuse.POSIX_ACL:
            self.checks_acls = True

    def wake(self) -> None:
        """Extend `CoroutineLoop.wake` to the compiled loop."""
        super().wake()
        if self._loop is not None:
            self._loop.wake()

    def stop(self) -> None:
        """Implement `Transport.stop`."""
        self._is_stopped = True

    def unmount(self) -> None:
        """Implement `Transport.unmount`."""
        self._fd = -1  # a late invalidation must not write to the next file that gets this number
        if self._mounted is not None:
            self._mounted.close()
            self._mounted = None

    def invalidate_inode(self, number: int) -> None:
        """Implement `Caches.invalidate_inode`."""
        os.write(self._fd, fuse.pack_inval_inode(number))

    def invalidate_attributes(self, number: int) -> None:
        """Implement `Caches.invalidate_attributes`."""
        os.write(self._fd, fuse.pack_inval_inode(number, attributes_only=True))

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Implement `Caches.invalidate_entry`."""
        os.write(self._fd, fuse.pack_inval_entry(parent, name))

    def expire_entry(self, parent: int, name: bytes) -> None:
        """Implement `Caches.expire_entry`."""
        os.write(self._fd, fuse.pack_inval_entry(parent, name, expire=True))

    def open_backing(self, fd: int) -> int:
        """Implement `BackingFiles.open_backing`."""
        if self.backing_files is None:  # EPERM before: this process lacks the capability
            return 0
        try:
            backing_id: int = fcntl.ioctl(self._fd, fuse.BACKING_OPEN, bytearray(fuse.BACKING_MAP.pack(fd, 0, 0)))
        except OSError as error:
            if error.errno == errno.EPERM:
                self.backing_files = None
            return 0
        return backing_id

    def close_backing(self, backing: int) -> None:
        """Implement `BackingFiles.close_backing`."""
        fcntl.ioctl(self._fd, fuse.BACKING_CLOSE, bytearray(fuse.U32.pack(backing)))

    # private

    def _negotiate(self, supported: int) -> int:
        """Negotiate INIT, which must be the kernel's first request. Return the agreed flags."""
        size = os.readv(self._fd, [self._buffer])
        _, opcode, unique, *_ = fuse.IN.unpack_from(self._buffer)
        if opcode != fuse.INIT:
            raise ValueError(f"the kernel's first request is {opcode}, not INIT")
        agreed, reply = fuse.negotiate_init(bytes(self._view[fuse.IN.size : size]), supported, _MAX_WRITE_BYTES)
        if agreed.flags & fuse.PASSTHROUGH and os.geteuid() == 0:
            self.backing_files = self
        self.can_expire = bool(agreed.flags & fuse.HAS_EXPIRE_ONLY)
        self._reply(unique, reply)
        return agreed.flags

    def serve_next(self) -> None:
        """Read and answer one request, if there is one."""
        if size := self._read_request(once=True):
            self._serve_request(size)

    def _read_request(self, *, once: bool = False) -> int:
        """Return the size of the request in the buffer, 0 if there is none.

        The compiled loop waits for a request, except with `once`.
        """
        try:
            if self._loop is None:
                return os.readv(self._fd, self._buffers)
            size = self._loop.next(once)
            if self._loop.has_opened:
                self._register_opened(self._loop)
            return size
        except OSError as error:
            if error.errno == errno.ENODEV:
                self._is_stopped = True  # unmounted
            elif error.errno not in _RETRY_ERRNOS:
                raise
            return 0

    def _serve_request(self, size: int) -> None:
        requests = self._requests
        assert requests is not None
        _, opcode, unique, number, requests.uid, requests.gid, requests.pid, _, _ = fuse.IN.unpack_from(self._buffer)
        if self._users is not None and requests.uid not in self._users and opcode not in _UNCHECKED_OPCODES:
            self._reply_error(unique, errno.EACCES)
            return
        handler = TABLE[opcode] if opcode < fuse.OPCODE_COUNT else None
        if handler is None:
            self._serve_other(opcode, unique, number, size)
            return
        name, decode, encode = handler
        try:
            result = decode(requests, number, self._view[fuse.IN.size : size])
            if type(result) is CoroutineType:
                self._park(unique, opcode, name, result, encode)
                return
            packed = encode(result)
        except struct.error:
            self._reply_error(unique, errno.EINVAL)
            return
        except Exception as error:
            self._reply_error(unique, errno_of(error, name, requests.operations))
            return
        if not self._reply(unique, packed):
            self._release_reply(opcode, result)
        elif self._loop is not None and opcode == fuse.OPEN:
            self._cache_handle(self._loop, number, result)

    def _register_opened(self, loop: "fastpath.Loop") -> None:
        """Register the files that the compiled loop has opened and closed.

        This must precede any other work, because the next request may use their handles.
        """
        assert self._requests is not None
        operations = self._requests.operations
        for number, handle in loop.take_closed():
            operations.release_locks(number, handle)
        for number, fd, version, closes in loop.take_opened():
            operations.add_opened(number, fd, version)
            if closes is not None:
                self._start_coroutine(operations.release(closes))

    def _cache_handle(self, loop: "fastpath.Loop", number: int, opened: OpenReply) -> None:
        """Offer a handle to the open file cache, if its file may stay open, and close the evicted one."""
        if opened.reusable_version is None:
            return
        closes = loop.keep(number, opened.fh, opened.reusable_version)
        if closes is not None:
            assert self._requests is not None
            self._start_coroutine(self._requests.operations.release(closes))

    def _serve_other(self, opcode: int, unique: int, number: int, size: int) -> None:
        requests, body = self._requests, self._view[fuse.IN.size : size]
        assert requests is not None
        if opcode == fuse.FORGET:
            requests.operations.forget([(number, fuse.U64.unpack_from(body)[0])])
        elif opcode == fuse.BATCH_FORGET:
            count, _ = fuse.TWO_U32.unpack_from(body)
            requests.operations.forget(fuse.TWO_U64.unpack_from(body, 8 + 16 * index) for index in range(count))
        elif opcode == fuse.INTERRUPT:
            self._interrupt(fuse.U64.unpack_from(body)[0])
        elif opcode == fuse.DESTROY:
            self._reply(unique, b"")
        else:
            # After ENOSYS the kernel does not send such a request again. For OPENDIR this saves a request a listing.
            self._reply_error(unique, errno.ENOSYS)

    def _park(self, unique: int, opcode: int, name: str, coroutine: Task, encode: Encode) -> None:
        requests = self._requests
        assert requests is not None
        operations = requests.operations

        async def answer() -> None:
            try:
                result = await coroutine
                packed = encode(result)
            except Exception as error:
                self._parked.pop(unique, None)
                self._reply_error(unique, errno_of(error, name, operations))
                return
            self._parked.pop(unique, None)
            if not self._reply(unique, packed):
                self._release_reply(opcode, result)

        task = answer()
        self._parked[unique] = task, requests.pid, opcode
        if self.step(task, None, None) is None:
            self._parked.pop(unique, None)

    def _interrupt(self, unique: int) -> None:
        """Handle INTERRUPT: the caller of a parked request has a signal.

        Only a fatal signal ends the wait, because few programs expect EINTR from a file. For a lock any signal ends it.
        """
        request = self._parked.get(unique)
        if request is not None and (request[2] == fuse.SETLKW or _is_dying(request[1])):
            self.cancel(request[0])

    def _reply(self, unique: int, packed: bytes) -> bool:
        """Write a reply. Return False if the kernel does not accept it, as when the caller has gone."""
        size = fuse.OUT.size + len(packed)
        header = fuse.OUT.pack(size, 0, unique)
        try:
            if size > 4096:
                os.writev(self._fd, (header, packed))
            else:
                os.write(self._fd, header + packed)
        except OSError as error:
            if error.errno != errno.ENOENT and error.errno != errno.ENODEV:
                log.error("the kernel rejected a reply: %s", error)
                self._reply_error(unique, errno.EIO)
            return False
        return True

    def _reply_error(self, unique: int, code: int) -> None:
        try:
            os.write(self._fd, fuse.OUT.pack(fuse.OUT.size, -code, unique))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
                log.error("the kernel rejected an error reply: %s", error)

    def _release_reply(self, opcode: int, result: Any) -> None:
        """Release the references and handles in a reply that the kernel did not accept."""
        requests = self._requests
        assert requests is not None
        operations = requests.operations
        if opcode == fuse.CREATE:
            opened, result = result
            self._start_coroutine(operations.release(opened.fh))
        if opcode in _LOOKUP_OPCODES and result.number:
            operations.forget([(result.number, 1)])
        elif opcode == fuse.READDIRPLUS:
            operations.forget((number, 1) for number in fuse.referenced_numbers(result))
        elif opcode == fuse.OPEN:
            self._start_coroutine(operations.release(result.fh))

    def _start_coroutine(self, result: Any) -> None:
        if type(result) is CoroutineType:
            self.step(result, None, None)


def _is_dying(pid: int) -> bool:
    """Return True if SIGKILL is pending for a process."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            pending = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd:", "ShdPnd:"))]
    except (OSError, ValueError, IndexError):
        return False
    return any(mask & _SIGKILL_PENDING for mask in pending)
