"""The FUSE connection of a mount process that has died, while its replacement mounts.

Requests wait in it instead of failing, and nothing is unmounted. Once the replacement is in place they are answered
with ESTALE. The kernel then walks the path again from the start and reaches the new mount: a client sees a pause and no
error. Requests through a handle, and requests that may have been executed already, get ENOTCONN.
"""

import contextlib
import errno
import os
import select
import stat as st
import struct
import threading
import time

from ctxfs.fuse.attributes import Attributes, SyntheticStat, SyntheticStatfs
from ctxfs.fuse.transports import protocol as fuse

_BUFFER_BYTES = (1 << 20) + 4096
_POLL_MS = 100
_LINGER_SECONDS = 2.0  # a path walk that began before the mounts change reaches the old mount within microseconds

_UNANSWERED_OPCODES = frozenset((fuse.FORGET, fuse.BATCH_FORGET, fuse.INTERRUPT))
_CHANGE_OPCODES = frozenset(
    (
        *(fuse.MKNOD, fuse.MKDIR, fuse.SYMLINK, fuse.LINK, fuse.UNLINK, fuse.RMDIR, fuse.RENAME, fuse.RENAME2),
        *(fuse.SETATTR, fuse.SETXATTR, fuse.REMOVEXATTR, fuse.CREATE, fuse.TMPFILE),
    )
)
_PATH_OPCODES = frozenset((fuse.LOOKUP, fuse.GETATTR, fuse.READLINK, fuse.OPEN, fuse.ACCESS, fuse.STATFS)) | frozenset(
    (fuse.OPENDIR, fuse.GETXATTR, fuse.LISTXATTR)
)


class DeadConnection:
    """A connection that queues the requests of clients until `release`. It owns `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closing = threading.Lock()  # protects the number of the descriptor: the thread closes it
        self._queue: list[tuple[int, int]] = []  # unique, errno
        self._deadline: float | None = None  # monotonic seconds; set once, by `release`

    def start(self) -> None:
        """Start to queue requests, in a thread that ends shortly after `release` or with the process."""
        os.set_inheritable(self._fd, False)
        os.set_blocking(self._fd, False)
        threading.Thread(target=self._serve, name="dead connection", daemon=True).start()

    def release(self) -> None:
        """Refuse the queued requests, so that clients retry in the replacement, which is now mounted."""
        self._deadline = time.monotonic() + _LINGER_SECONDS
        with self._closing:
            if self._wake_fd >= 0:  # the connection of an unused mount ends with the old mount, before this call
                os.eventfd_write(self._wake_fd, 1)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake_fd, select.POLLIN)
        try:
            self._request_resend()  # first: later it would duplicate the queued requests
            while self._deadline is None or time.monotonic() < self._deadline:
                for fd, _ in poll.poll(_POLL_MS):
                    if fd == self._wake_fd:
                        poll.unregister(self._wake_fd)
                if not self._read_requests():
                    break
                while self._deadline is not None and self._queue:
                    self._reply_error(*self._queue.pop(0))
        finally:
            os.close(self._fd)  # from now on processes with open files there get ENOTCONN
            with self._closing:
                os.close(self._wake_fd)
                self._wake_fd = -1

    def _request_resend(self) -> None:
        """Make the kernel resend the requests that the dead process had read and not answered.

        This needs Linux 6.9; earlier kernels end these requests when the descriptor is closed.
        """
        with contextlib.suppress(OSError):
            os.write(self._fd, fuse.OUT.pack(fuse.OUT.size, fuse.NOTIFY_RESEND, 0))

    def _read_requests(self) -> bool:
        """Queue all requests that are ready. Return False if the connection has ended."""
        while True:
            try:
                request = os.read(self._fd, _BUFFER_BYTES)
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                return False
            self._handle_request(request)

    def _handle_request(self, request: bytes) -> None:
        try:
            _, opcode, unique, number, *_ = fuse.IN.unpack_from(request)
        except struct.error:
            return
        if opcode in _UNANSWERED_OPCODES:
            return
        reply = self._root_reply(opcode) if number == 1 and self._deadline is None else None
        if reply is not None:
            with contextlib.suppress(OSError):
                os.write(self._fd, fuse.OUT.pack(fuse.OUT.size + len(reply), 0, unique) + reply)
            return
        self._queue.append((unique, refusal_errno(opcode, request[fuse.IN.size :], bool(unique & fuse.UNIQUE_RESEND))))

    @staticmethod
    def _root_reply(opcode: int) -> bytes | None:
        """Return a reply for the root directory that fusermount3 needs before it mounts over a directory."""
        if opcode == fuse.GETATTR:
            return fuse.pack_attr(Attributes(1, SyntheticStat(st.S_IFDIR | 0o700, 2), st.S_IFDIR | 0o700, 0.0))
        if opcode == fuse.STATFS:
            return fuse.pack_statfs(SyntheticStatfs(4096, 4096, 0, 0, 0, 0, 0, 255))
        return b"" if opcode == fuse.ACCESS else None

    def _reply_error(self, unique: int, code: int) -> None:
        with contextlib.suppress(OSError):
            os.write(self._fd, fuse.OUT.pack(fuse.OUT.size, -code, unique))


def refusal_errno(opcode: int, body: bytes, is_resent: bool) -> int:
    """Return ESTALE if the kernel may retry the request by its path, else ENOTCONN.

    `is_resent`: the dead process may have executed it already.
    """
    if opcode in _PATH_OPCODES:
        return errno.ESTALE
    if opcode not in _CHANGE_OPCODES:
        return errno.ENOTCONN
    is_open = opcode == fuse.CREATE and not fuse.U32.unpack_from(body)[0] & os.O_EXCL
    return errno.ESTALE if is_open or not is_resent else errno.ENOTCONN
