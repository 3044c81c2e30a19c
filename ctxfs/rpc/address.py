"""The address of a store's socket.

A socket path is limited to 107 bytes; longer paths go through a descriptor of the folder.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds
if TYPE_CHECKING:
    import socket
    from pathlib import Path as HostPath

_MAX_PATH_BYTES = 100


class socket_path:  # noqa: N801 - a context manager, without the import of contextlib
    """A context with a path of `<store>/run/<name>` that fits into a socket address; valid while the context lasts."""

    def __init__(self, run: str | os.PathLike[str], name: str = "socket") -> None:
        self._run, self._name = run, name
        self._folder = -1

    def __enter__(self) -> str:
        path = os.path.join(self._run, self._name)
        if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
            return path
        self._folder = os.open(self._run, os.O_PATH | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._folder}/{self._name}"

    def __exit__(self, *_: object) -> None:
        if self._folder >= 0:
            os.close(self._folder)


def listen_privately(run: HostPath, name: str, backlog: int) -> socket.socket:
    """Return a listening socket of mode 0600 at `<run>/<name>`.

    It replaces a socket file that an earlier process left there.
    """
    import socket

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    (run / name).unlink(missing_ok=True)
    with socket_path(run, name) as path:
        old_umask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(old_umask)
    listener.listen(backlog)
    return listener
