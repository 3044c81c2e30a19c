"""One page a store: the process that serves it holds `run/web.lock` and issues further addresses on `run/web.socket`.

A request on the socket is a frame [principal, token], the response is an address, or [message, remedy]. Only processes of the
same user, and root, can connect.
"""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable

import trio

from ctxfs.http.access import Access
from ctxfs.model.errors import EXIT_USAGE, CommandError
from ctxfs.rpc.address import listen_privately, socket_path
from ctxfs.rpc.frames import FrameReader, WireError, pack_frame
from ctxfs.store.layout import Layout

_LOCK = "web.lock"
_SOCKET = "web.socket"
_BACKLOG = 16
_ANSWER_SECONDS = 10.0
_START_SECONDS = 5.0
_RETRY_SECONDS = 0.05
_MAX_REQUEST_BYTES = 8192
_CHUNK_BYTES = 4096

Issue = Callable[[Access], str]


class InstanceLock:
    """The lock of the process that serves the page of a store; it ends with that process."""

    def __init__(self, layout: Layout) -> None:
        self._file = layout.run / _LOCK
        self._fd = -1

    def try_acquire(self) -> bool:
        """Take the lock; return False if another process has it."""
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def release(self) -> None:
        """Release the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def request_address(layout: Layout, access: Access) -> str:
    """Return a new address of the running page, which may have just begun. Raise CommandError if it does not answer."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return _request_address(layout, access)
        except OSError as error:
            if time.monotonic() > deadline:
                raise CommandError(
                    f"the page of this store does not answer: {error.strerror or error}",
                    "end its process, and try again",
                ) from error
        time.sleep(_RETRY_SECONDS)


def _request_address(layout: Layout, access: Access) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_ANSWER_SECONDS)
        with socket_path(layout.run, _SOCKET) as path:
            client.connect(path)
        client.sendall(pack_frame([access.principal, access.token]))
        reader = FrameReader()
        while data := client.recv(_CHUNK_BYTES):
            for answer in reader.feed(data):
                if isinstance(answer, list):
                    raise CommandError(str(answer[0]), str(answer[1]), EXIT_USAGE)
                return str(answer)
    raise ConnectionResetError


class AddressSocket:
    """The socket on which the page issues addresses, until the nursery ends."""

    def __init__(self, layout: Layout, issue: Issue) -> None:
        """Open the socket. The caller must hold the lock, so that an old socket file has no owner."""
        self._issue = issue
        self._file = layout.run / _SOCKET
        self._listener = trio.SocketListener(
            trio.socket.from_stdlib_socket(listen_privately(layout.run, _SOCKET, _BACKLOG))
        )

    async def serve(self) -> None:
        """Answer until cancelled."""
        try:
            await trio.serve_listeners(self._answer, [self._listener])
        finally:
            self._file.unlink(missing_ok=True)

    def _answer_request(self, access: Access) -> object:
        try:
            return self._issue(access)
        except CommandError as error:
            return [error.message, error.remedy]

    async def _answer(self, stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, WireError, ValueError):
            with trio.move_on_after(_ANSWER_SECONDS):
                request = await _receive_frame(stream)
                principal, token = request if isinstance(request, list) and len(request) == 2 else ("", None)
                if isinstance(principal, str) and isinstance(token, str):
                    await stream.send_all(pack_frame(self._answer_request(Access(principal, token))))
            await stream.aclose()


async def _receive_frame(stream: trio.SocketStream) -> object:
    reader, size = FrameReader(), 0
    async for data in stream:
        size += len(data)
        for request in reader.feed(data):
            return request
        if size > _MAX_REQUEST_BYTES:
            break
    return None
