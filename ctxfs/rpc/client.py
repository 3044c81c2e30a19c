"""The blocking client of the socket, for commands; imports little, so that they start fast."""

import itertools
import socket
import struct
from pathlib import Path as HostPath
from typing import Any

from ctxfs.model.errors import CommandError
from ctxfs.rpc.address import socket_path
from ctxfs.rpc.wire import FrameReader, error_from_wire, pack_frame


class NoDaemon(CommandError):
    """Nobody serves this store."""

    def __init__(self, run: HostPath) -> None:
        super().__init__(f"no ctxfs daemon serves '{run.parent}'", "start one: ctxfs mount DIR")


class Client:
    """Blocking; one request at a time; used by one thread."""

    def __init__(self, run: HostPath, timeout: float | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._numbers = itertools.count(1)
        self._reader = FrameReader()
        try:
            self._connect(run, timeout)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self._socket.close()
            raise NoDaemon(run) from error
        except OSError as error:
            self._socket.close()
            raise CommandError(
                f"the daemon is too busy to answer ({error.strerror})", "try again in a moment"
            ) from error

    def _connect(self, run: HostPath, timeout: float | None) -> None:
        """Wait for a place in the daemon's backlog; a socket with a time limit of Python's would not wait, but fail."""
        if timeout is not None:
            limit = struct.pack("ll", int(timeout), int(timeout % 1 * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        with socket_path(run) as path:
            self._socket.connect(path)
        self._socket.settimeout(timeout)

    def call(self, method: str, **arguments: object) -> Any:
        """The answer; raises what the daemon raised, or CommandError if it went away."""
        number = next(self._numbers)
        try:
            self._socket.sendall(pack_frame([number, method, arguments]))
            while data := self._socket.recv(1 << 20):
                for message in self._reader.feed(data):
                    if message[0] == number:
                        if message[1] is not None:
                            raise error_from_wire(message[1])
                        return message[2]
        except (ConnectionError, TimeoutError) as error:
            raise CommandError(f"the daemon stopped answering ({error})", "see <store>/run/daemon.log") from error
        raise CommandError("the daemon went away", "see <store>/run/daemon.log; ctxfs mount starts it again")

    def close(self) -> None:
        """End the connection."""
        self._socket.close()
