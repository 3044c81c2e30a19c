"""Hypercorn on trio: one application until a signal arrives."""

import signal
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from ctxfs.http.http1_only import hypercorn


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The limits of a server; those that are None are Hypercorn's own.

    `shutdown_seconds` is the time that requests in flight have at the end. `umask` is that of a unix socket.
    """

    max_incomplete_bytes: int = 64 * 1024
    keep_alive_seconds: float | None = None
    shutdown_seconds: float | None = None
    umask: int | None = None
    names_server: bool = False  # the header Server


class _Config(hypercorn.config.Config):
    """A configuration whose TLS is a context that has been checked."""

    ssl_handshake_timeout = 10.0
    tls: ssl.SSLContext | None = None

    @property
    def ssl_enabled(self) -> bool:
        return self.tls is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        return self.tls


async def serve_until_signal(
    app: Callable[..., Awaitable[Any]], bind: str, settings: ServerSettings, tls: ssl.SSLContext | None = None
) -> None:
    """Serve an ASGI application at `fd://N`, `HOST:PORT` or `unix:PATH` until SIGINT or SIGTERM."""
    config = _Config()
    config.tls = tls
    config.bind = [bind]
    config.accesslog = config.errorlog = None
    config.h11_max_incomplete_size = settings.max_incomplete_bytes
    config.include_server_header = settings.names_server
    if settings.umask is not None:
        config.umask = settings.umask
    if settings.keep_alive_seconds is not None:
        config.keep_alive_timeout = settings.keep_alive_seconds
    if settings.shutdown_seconds is not None:
        config.graceful_timeout = config.shutdown_timeout = settings.shutdown_seconds
    await hypercorn.trio.serve(app, config, shutdown_trigger=_wait_for_signal)


async def _wait_for_signal() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return
