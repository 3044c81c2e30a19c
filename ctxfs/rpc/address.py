"""The address of a store's socket.

A socket path is limited to 107 bytes; longer paths go through a descriptor of the folder.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as HostPath

_MAX_PATH_BYTES = 100


@contextmanager
def socket_path(run: HostPath, name: str = "socket") -> Iterator[str]:
    """Yield a path of `<store>/run/<name>` that fits into a socket address; valid while the context lasts."""
    path = str(run / name)
    if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        yield path
        return
    folder = os.open(run, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)


def listen_privately(run: HostPath, name: str, backlog: int) -> socket.socket:
    """Return a listening socket of mode 0600 at `<run>/<name>`.

    It replaces a socket file that an earlier process left there.
    """
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
