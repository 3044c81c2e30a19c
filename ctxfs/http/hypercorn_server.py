"""Hypercorn on trio: one application until a signal arrives. No other module imports it."""

import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import hypercorn.config
import hypercorn.trio
import trio


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


async def serve_until_signal(app: Callable[..., Awaitable[Any]], bind: str, settings: ServerSettings) -> None:
    """Serve an ASGI application at `fd://N`, `HOST:PORT` or `unix:PATH` until SIGINT or SIGTERM."""
    config = hypercorn.config.Config()
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
