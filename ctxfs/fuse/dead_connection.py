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
_LOOK_MS = 100
_ATTENDED_SECONDS = 2.0  # a path walk that began before the mounts change reaches the old mount within microseconds

_SILENT = frozenset((fuse.FORGET, fuse.BATCH_FORGET, fuse.INTERRUPT))
_CHANGES = frozenset(
    (
        *(fuse.MKNOD, fuse.MKDIR, fuse.SYMLINK, fuse.LINK, fuse.UNLINK, fuse.RMDIR, fuse.RENAME, fuse.RENAME2),
        *(fuse.SETATTR, fuse.SETXATTR, fuse.REMOVEXATTR, fuse.CREATE, fuse.TMPFILE),
    )
)
_PATH_WALKS = frozenset((fuse.LOOKUP, fuse.GETATTR, fuse.READLINK, fuse.OPEN, fuse.ACCESS, fuse.STATFS)) | frozenset(
    (fuse.OPENDIR, fuse.GETXATTR, fuse.LISTXATTR)
)


class DeadConnection:
    """A connection that queues the requests of clients until `release`. It owns `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiting: list[tuple[int, int]] = []  # unique, errno
        self._until: float | None = None  # monotonic seconds; set once, by `release`

    def attend(self) -> None:
        """Start to queue requests, in a thread that ends shortly after `release` or with the process."""
        os.set_inheritable(self._fd, False)
        os.set_blocking(self._fd, False)
        threading.Thread(target=self._serve, name="dead connection", daemon=True).start()

    def release(self) -> None:
        """Refuse the queued requests, so that clients retry in the replacement, which is now mounted."""
        self._until = time.monotonic() + _ATTENDED_SECONDS
        os.eventfd_write(self._wake, 1)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        try:
            self._resend()  # first: later it would duplicate the queued requests
            while self._until is None or time.monotonic() < self._until:
                for fd, _ in poll.poll(_LOOK_MS):
                    if fd == self._wake:
                        poll.unregister(self._wake)
                if not self._take_requests():
                    break
                while self._until is not None and self._waiting:
                    self._refuse(*self._waiting.pop(0))
        finally:
            os.close(self._fd)  # from now on processes with open files there get ENOTCONN
            os.close(self._wake)

    def _resend(self) -> None:
        """Make the kernel resend the requests that the dead process had read and not answered.

        This needs Linux 6.9; earlier kernels end these requests when the descriptor is closed.
        """
        with contextlib.suppress(OSError):
            os.write(self._fd, fuse.OUT.pack(fuse.OUT.size, fuse.NOTIFY_RESEND, 0))

    def _take_requests(self) -> bool:
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
            self._take(request)

    def _take(self, request: bytes) -> None:
        try:
            _, opcode, unique, number, *_ = fuse.IN.unpack_from(request)
        except struct.error:
            return
        if opcode in _SILENT:
            return
        answer = self._answer_of_root(opcode) if number == 1 and self._until is None else None
        if answer is not None:
            with contextlib.suppress(OSError):
                os.write(self._fd, fuse.OUT.pack(fuse.OUT.size + len(answer), 0, unique) + answer)
            return
        self._waiting.append((unique, refusal_of(opcode, request[fuse.IN.size :], bool(unique & fuse.UNIQUE_RESEND))))

    @staticmethod
    def _answer_of_root(opcode: int) -> bytes | None:
        """Return a reply for the root directory that fusermount3 needs before it mounts over a directory."""
        if opcode == fuse.GETATTR:
            return fuse.attr(Attributes(1, SyntheticStat(st.S_IFDIR | 0o700, 2), st.S_IFDIR | 0o700, 0.0))
        if opcode == fuse.STATFS:
            return fuse.statfs(SyntheticStatfs(4096, 4096, 0, 0, 0, 0, 0, 255))
        return b"" if opcode == fuse.ACCESS else None

    def _refuse(self, unique: int, code: int) -> None:
        with contextlib.suppress(OSError):
            os.write(self._fd, fuse.OUT.pack(fuse.OUT.size, -code, unique))


def refusal_of(opcode: int, body: bytes, resent: bool) -> int:
    """Return ESTALE if the kernel may retry the request by its path, else ENOTCONN.

    `resent`: the dead process may have executed it already.
    """
    if opcode in _PATH_WALKS:
        return errno.ESTALE
    if opcode not in _CHANGES:
        return errno.ENOTCONN
    opens_only = opcode == fuse.CREATE and not fuse.U32.unpack_from(body)[0] & os.O_EXCL
    return errno.ESTALE if opens_only or not resent else errno.ENOTCONN
