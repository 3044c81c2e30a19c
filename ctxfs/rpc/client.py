"""The blocking client of the socket, for commands. It imports few modules, so that commands start fast."""

from __future__ import annotations

import _socket as socket  # the part in C: `socket` also imports enumerations and selectors
import itertools
import os
import struct
import time

from ctxfs.model.errors import CommandError
from ctxfs.rpc.address import socket_path
from ctxfs.rpc.frames import FrameReader, error_from_wire, pack_frame

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds
if TYPE_CHECKING:
    from typing import Any


class NoDaemon(CommandError):
    """Raised if no daemon serves a store."""

    def __init__(self, run: str | os.PathLike[str]) -> None:
        super().__init__(f"no ctxfs daemon serves '{os.path.dirname(run)}'", "start one: ctxfs mount DIR")


class DaemonGone(CommandError):
    """Raised if the daemon closes the connection before it responds."""


class Client:
    """A blocking client, for one thread and one request at a time."""

    def __init__(self, run: str | os.PathLike[str], timeout: float | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._numbers = itertools.count(1)
        self._reader = FrameReader()
        try:
            self._connect(run, timeout)
            self._confirm(run)
        except BaseException:
            self._socket.close()
            raise

    def _connect(self, run: str | os.PathLike[str], timeout: float | None) -> None:
        """Connect, and wait for space in the daemon's backlog.

        The time limit is set on the socket itself: with `settimeout`, connect would fail at once on a full backlog.
        """
        if timeout is not None:
            limit = struct.pack("ll", int(timeout), int(timeout % 1 * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        try:
            with socket_path(run) as path:
                self._socket.connect(path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoDaemon(run) from error
        except OSError as error:
            raise CommandError(
                f"the daemon is too busy to answer ({error.strerror})", "try again in a moment"
            ) from error
        self._socket.settimeout(timeout)

    def _confirm(self, run: str | os.PathLike[str]) -> None:
        """Wait for a first response. Raise NoDaemon if the connection ends before it.

        The kernel accepts connections until the process has closed its descriptors, so also for a killed daemon.
        """
        try:
            self.call("whoami")
        except DaemonGone as error:
            raise NoDaemon(run) from error

    def call(self, method: str, **arguments: object) -> Any:
        """Send a request and return the response. Raise the daemon's error, or DaemonGone."""
        number = next(self._numbers)
        try:
            self._socket.sendall(pack_frame([number, method, arguments]))
            while data := self._socket.recv(1 << 20):
                for message in self._reader.feed(data):
                    if message[0] == number:
                        if message[1] is not None:
                            raise error_from_wire(message[1])
                        return message[2]
        except TimeoutError as error:
            raise CommandError(f"the daemon stopped answering ({error})", "see <store>/run/daemon.log") from error
        except ConnectionError as error:
            raise DaemonGone(f"the daemon stopped answering ({error})", "see <store>/run/daemon.log") from error
        raise DaemonGone("the daemon went away", "see <store>/run/daemon.log; ctxfs mount starts it again")

    def wait_for_pushes(self, timeout: float | None) -> list[tuple[str, Any]]:
        """Return the (topic, value) of the next pushes, at least one; none after `timeout` seconds. Raise DaemonGone."""
        import select

        deadline = None if timeout is None else time.monotonic() + timeout
        data = b""
        while True:
            pushes = [(topic, value) for number, topic, value in self._reader.feed(data) if number == 0]
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            if pushes or not select.select([self._socket], [], [], remaining)[0]:
                return pushes
            try:
                data = self._socket.recv(1 << 20)
            except OSError as error:
                raise DaemonGone(f"the daemon stopped answering ({error})", "see <store>/run/daemon.log") from error
            if not data:
                raise DaemonGone("the daemon went away", "see <store>/run/daemon.log; ctxfs mount starts it again")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
