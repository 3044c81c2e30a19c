"""The trio client of the socket, for long-lived processes, and the daemon's tree as a Mount."""

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as HostPath
from typing import Any

import trio

from ctxfs.model.change import Change
from ctxfs.model.entry import Entry
from ctxfs.model.errors import path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.rpc.address import socket_path
from ctxfs.rpc.client import NoDaemon
from ctxfs.rpc.frames import CANCEL, FrameReader, error_from_wire, pack_frame
from ctxfs.rpc.wire import change_to_wire, entry_from_wire

log = logging.getLogger(__name__)

_CANCEL_SECONDS = 1.0  # time limit for sending a cancellation


class AsyncClient:
    """A client with many concurrent requests under trio.

    `pushed` is called for each push; `run` returns when the daemon ends the connection.
    """

    def __init__(self, pushed: Callable[[str, Any], None]) -> None:
        self._pushed = pushed
        self._stream: trio.SocketStream | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[trio.Event, list[Any]]] = {}
        self._sending = trio.Lock()

    @property
    def connected(self) -> bool:
        """True between `connect` and the loss of the connection."""
        return self._stream is not None

    async def connect(self, run: HostPath) -> None:
        """Connect to the daemon. Raise NoDaemon if none listens."""
        try:
            with socket_path(run) as path:
                self._stream = await trio.open_unix_socket(path)
        except OSError as error:
            raise NoDaemon(run) from error

    async def run(self) -> None:
        """Receive until the connection ends. Requests that still wait fail with EIO."""
        stream = self._stream
        assert stream is not None
        reader = FrameReader()
        try:
            async for data in stream:
                for number, error, value in reader.feed(data):
                    if number == 0:
                        self._handle_push(error, value)
                    elif number in self._waiting:
                        event, slot = self._waiting.pop(number)
                        slot.extend((error, value))
                        event.set()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._stream = None
            for event, _ in self._waiting.values():
                event.set()
            self._waiting.clear()
            await trio.aclose_forcefully(stream)

    async def _send(self, stream: trio.SocketStream, message: list[object]) -> None:
        async with self._sending:
            try:
                await stream.send_all(pack_frame(message))
            except trio.Cancelled:
                # A part of the frame may be sent: the daemon could parse nothing after it.
                with trio.CancelScope(shield=True):
                    await stream.aclose()
                raise

    def _handle_push(self, topic: str, value: Any) -> None:
        try:
            self._pushed(topic, value)
        except Exception:  # a failed push must not end the connection
            log.exception("a push '%s' of the daemon could not be handled", topic)

    async def close(self) -> None:
        """Close the connection."""
        if self._stream is not None:
            await self._stream.aclose()

    async def call(self, method: str, **arguments: object) -> Any:
        """Send a request and return the response. Raise the daemon's error, or EIO if the daemon is gone."""
        stream = self._stream
        if stream is None:
            raise path_error(5, arguments.get("path", ""), "the ctxfs daemon is not running")
        number = next(self._numbers)
        event, slot = trio.Event(), list[Any]()
        self._waiting[number] = (event, slot)
        try:
            await self._send(stream, [number, method, arguments])
            try:
                await event.wait()
            except trio.Cancelled:
                with trio.move_on_after(_CANCEL_SECONDS, shield=True):
                    await self._send(stream, [0, CANCEL, number])
                raise
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            slot.clear()
        finally:
            self._waiting.pop(number, None)
        if not slot:
            raise path_error(5, arguments.get("path", ""), "the ctxfs daemon went away")
        if slot[0] is not None:
            raise error_from_wire(slot[0])
        return slot[1]


class RemoteTree(Mount):
    """The daemon's tree as a Mount."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    async def stat(self, path: Path) -> Entry:
        """Return the daemon's entry of a path."""
        return entry_from_wire(await self._call("stat", path=str(path)))

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return the daemon's entries of a directory."""
        return [entry_from_wire(value) for value in await self._call("list", path=str(path))]

    async def read(self, path: Path) -> bytes:
        """Return the content of a file from the daemon."""
        data: bytes = await self._call("read", path=str(path))
        return data

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Return the extended attributes of a path from the daemon."""
        attributes: Mapping[str, bytes] = await self._call("metadata", path=str(path))
        return attributes

    async def apply(self, change: Change) -> None:
        """Send the change to the daemon."""
        await self._call("apply", change=change_to_wire(change))
