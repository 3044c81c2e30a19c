"""Memory that is free in this process goes back to the system, two seconds after requests.

The allocator of the C library, and cycles of objects, keep the memory of answers: 3 MB after a while, of 40.
"""

import ctypes
import gc
from contextlib import suppress

import trio

from ctxfs.http.asgi import Application, Receive, Scope, Send

_PAUSE_SECONDS = 2.0
_M_ARENA_MAX = -8  # of <malloc.h>


class FreeMemory:
    """An ASGI application around another one. `run` returns free memory after requests; an idle page costs nothing."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._requested = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            await self._app(scope, receive, send)
        finally:
            self._requested.set()

    async def run(self) -> None:
        """Return free memory after requests, until cancelled."""
        while True:
            await self._requested.wait()
            self._requested = trio.Event()
            await trio.sleep(_PAUSE_SECONDS)
            return_free_memory()


def use_one_heap() -> None:
    """Let all threads allocate from one heap; call it before the first one starts. Each heap keeps free memory of its own."""
    with suppress(OSError, AttributeError):  # another C library than that of GNU
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def freeze_objects() -> None:
    """Let later collections pass over the objects of the modules and templates, which stay to the end."""
    gc.collect()
    gc.freeze()


def return_free_memory() -> None:
    """Collect garbage, and return the free memory of the C library to the system, if the library can. Takes milliseconds."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than that of GNU
        ctypes.CDLL(None).malloc_trim(0)
