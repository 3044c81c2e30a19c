"""The daemon's side of the socket: mode 0600, one user only, many concurrent requests on a connection."""

import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path as HostPath
from typing import Any

import trio

from ctxfs.model.errors import CommandError
from ctxfs.rpc.address import listen_privately
from ctxfs.rpc.frames import CANCEL, FrameReader, WireError, error_to_wire, pack_frame, unknown_method

log = logging.getLogger(__name__)

# If it is full, a non-blocking connect fails with EAGAIN, which trio mistakes for a connection.
_BACKLOG = 4096
MAX_CONCURRENT_REQUESTS = 512  # concurrent requests of one client


class Peer:
    """One connection.

    `push` never waits: a peer that does not read is disconnected when its backlog is full.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._out, self._backlog = trio.open_memory_channel[bytes](1024)
        self.scope = trio.CancelScope()
        self.slots = trio.Semaphore(MAX_CONCURRENT_REQUESTS)
        self.requests: dict[int, trio.CancelScope] = {}  # the cancellable ones, by number

    def push(self, topic: str, value: object) -> None:
        """Queue a push."""
        self._queue(pack_frame([0, topic, value]))

    def respond(self, number: int, error: dict[str, Any] | None, value: object) -> None:
        """Queue a response."""
        self._queue(pack_frame([number, error, value]))

    def _queue(self, frame: bytes) -> None:
        try:
            self._out.send_nowait(frame)
        except trio.WouldBlock:
            log.warning("a client does not read its responses and is disconnected")
            self.scope.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has just disconnected, and `_connection` is about to end

    async def send_all(self) -> None:
        """Send queued frames until the connection ends."""
        async with self._backlog:
            async for frame in self._backlog:
                await self._stream.send_all(frame)


Handler = Callable[[Peer, Mapping[str, Any]], Awaitable[Any]]


class Server:
    """A server of `handlers` on `<store>/run/socket`. `on_disconnect` is called when a connection ends.

    `cancellable` names the read-only methods, whose requests a client may cancel.
    """

    def __init__(
        self,
        run: HostPath,
        handlers: Mapping[str, Handler],
        on_disconnect: Callable[[Peer], None],
        cancellable: Collection[str] = (),
    ) -> None:
        self._run = run
        self._handlers = handlers
        self._on_disconnect = on_disconnect
        self._cancellable = frozenset(cancellable)
        self.peers: set[Peer] = set()

    def listen(self) -> trio.SocketListener:
        """Bind the socket. The caller must hold the store's lock, so that an old socket file has no owner."""
        return trio.SocketListener(trio.socket.from_stdlib_socket(listen_privately(self._run, "socket", _BACKLOG)))

    async def serve(self, listener: trio.SocketListener) -> None:
        """Accept connections until cancelled."""
        await trio.serve_listeners(self._connection, [listener])

    async def _connection(self, stream: trio.SocketStream) -> None:
        if not _is_allowed(stream):
            log.warning("a connection of another user was refused")
            return
        peer = Peer(stream)
        self.peers.add(peer)
        try:
            with peer.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(peer.send_all)
                    await self._receive(peer, stream, nursery)
                    nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has disconnected
        except* WireError as group:
            log.warning("a client is disconnected: %s", group.exceptions[0])
        except* Exception as group:
            # A connection is a task of the daemon's nursery: an exception that escapes would end the daemon.
            log.error("a connection failed and is closed", exc_info=group)
        finally:
            self.peers.discard(peer)
            self._report_disconnect(peer)

    def _report_disconnect(self, peer: Peer) -> None:
        try:
            self._on_disconnect(peer)
        except Exception:
            log.exception("the end of a connection could not be handled")

    async def _receive(self, peer: Peer, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        reader = FrameReader()
        async for data in stream:
            for message in reader.feed(data):
                if not (
                    isinstance(message, list)
                    and [type(part) for part in message[:2]] == [int, str]
                    and len(message) == 3
                ):
                    raise WireError("not a request")
                number, method, arguments = message
                if number == 0 and method == CANCEL:
                    if isinstance(arguments, int) and arguments in peer.requests:
                        peer.requests[arguments].cancel()
                    continue
                await peer.slots.acquire()  # backpressure: above the limit the client is not read
                nursery.start_soon(self._run_request, peer, number, method, arguments)

    async def _run_request(self, peer: Peer, number: int, method: str, arguments: Mapping[str, Any]) -> None:
        with trio.CancelScope() as scope:
            if method in self._cancellable:
                peer.requests[number] = scope
            try:
                await self._call_handler(peer, number, method, arguments)
            finally:
                peer.requests.pop(number, None)
                peer.slots.release()

    async def _call_handler(self, peer: Peer, number: int, method: str, arguments: Mapping[str, Any]) -> None:
        try:
            handler = self._handlers.get(method)
            if handler is None:
                raise unknown_method(str(method))
            if not isinstance(arguments, dict):
                raise WireError("the arguments are no table")
            value = await handler(peer, arguments)
            peer.respond(number, None, value)
        except OSError as error:
            peer.respond(number, error_to_wire(error), None)
        except Exception as error:
            if not isinstance(error, CommandError):
                log.exception("request %s failed", method)
            peer.respond(number, error_to_wire(error), None)


def _is_allowed(stream: trio.SocketStream) -> bool:
    """Return True if the peer's user is root or the daemon's user.

    The file mode enforces that, too, but the kernel's credentials are more reliable.
    """
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return uid in (os.geteuid(), 0)
