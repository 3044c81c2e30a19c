"""Hypercorn, imported without HTTP/2 and WebSocket: their parsers are not loaded, and no client reaches them.

The limits of the servers are those of HTTP/1.1, and no application here has a WebSocket. The parsers are 3 MB of each
server's memory. A client that begins with HTTP/2 is disconnected, a WebSocket handshake is answered as a plain request.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_HTTP2, _WEBSOCKET = "hypercorn.protocol.h2", "hypercorn.protocol.ws_stream"
_PARSERS = ("h2", "h2.events")  # Hypercorn has their names in annotations


class _Http2Module(ModuleType):
    """The substitute for the module of HTTP/2."""

    def __getattr__(self, name: str) -> Any:
        if name != "H2Protocol":
            raise AttributeError(name)
        return ClosingProtocol


class _WebSocketModule(ModuleType):
    """The substitute for the module of WebSocket streams: handshakes are requests as others."""

    def __getattr__(self, name: str) -> Any:
        if name != "WSStream":
            raise AttributeError(name)
        from hypercorn.protocol.http_stream import HTTPStream  # its package imports this module

        return HTTPStream


class ClosingProtocol:
    """The substitute for the protocol of HTTP/2: it ends the connection."""

    def __init__(self, *parts: Any) -> None:
        self._send = parts[-1]

    async def initiate(self, *_: object) -> None:
        """End the connection."""
        await self._send(hypercorn.events.Closed())

    async def handle(self, event: object) -> None:
        """Ignore all later events."""


@contextmanager
def _substitutes() -> Iterator[None]:
    """Have substitutes in the places of modules; those of the parsers only meanwhile, since others may use them later."""
    parsers = [name for name in _PARSERS if name not in sys.modules]
    sys.modules.setdefault(_HTTP2, _Http2Module(_HTTP2))
    sys.modules.setdefault(_WEBSOCKET, _WebSocketModule(_WEBSOCKET))
    sys.modules.update({name: ModuleType(name) for name in parsers})
    try:
        yield
    finally:
        for name in parsers:
            del sys.modules[name]


with _substitutes():
    import hypercorn.config
    import hypercorn.events
    import hypercorn.trio

__all__ = ["hypercorn"]
