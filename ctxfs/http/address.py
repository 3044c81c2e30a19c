"""Listening addresses: their notation, and sockets for them."""

import socket
from dataclasses import dataclass

from ctxfs.model.errors import EXIT_BUSY, EXIT_USAGE, CommandError

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
_MAX_PORT = 65535
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port. Port 0 is a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """True if only programs of this machine can connect."""
        return self.host in LOOPBACK_HOSTS

    @property
    def authority(self) -> str:
        """The host and the port as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_tcp_address(text: str) -> TcpAddress:
    """Parse `HOST:PORT`, or `:PORT` and `PORT` for the loopback address. Raise CommandError."""
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdecimal() or int(port[:6]) > _MAX_PORT:
        raise CommandError(f"'{text}' is not an address", "write HOST:PORT, such as 127.0.0.1:8200", EXIT_USAGE)
    return TcpAddress(host.strip("[]") or "127.0.0.1", int(port))


def listen_on(address: TcpAddress, remedy: str = "choose another address or port") -> socket.socket:
    """Return a listening socket. Raise CommandError with the remedy for an address that cannot be used."""
    try:
        family, kind, _, _, target = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise _unusable(address, error, remedy) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(target)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _unusable(address, error, remedy) from error
    return listener


def _unusable(address: TcpAddress, error: OSError, remedy: str) -> CommandError:
    return CommandError(f"'{address.authority}' cannot be used: {error.strerror}", remedy, EXIT_BUSY)
