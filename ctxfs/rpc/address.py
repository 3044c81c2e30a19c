"""Where a store's socket is. Socket paths hold 107 bytes; longer ones go through a descriptor of the folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as HostPath

_LONGEST = 100


@contextmanager
def socket_path(run: HostPath, name: str = "socket") -> Iterator[str]:
    """A path of `<store>/run/<name>` that fits into a socket address while the context lasts."""
    plain = str(run / name)
    if len(os.fsencode(plain)) <= _LONGEST:
        yield plain
        return
    folder = os.open(run, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)
