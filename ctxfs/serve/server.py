"""The process of `ctxfs serve`: a socket, Hypercorn on trio, limits and the gate."""

import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import hypercorn.config
import hypercorn.trio
import trio

from ctxfs.http.address import LOOPBACK_HOSTS, TcpAddress, listen_on
from ctxfs.http.daemon_sessions import DaemonSessions
from ctxfs.http.gate import Gate, with_bearer
from ctxfs.http.limits import HttpLimits, Limits
from ctxfs.serve.afs.route import afs_route
from ctxfs.serve.afs.settings import AfsSettings
from ctxfs.serve.application import DESCRIPTION, build_application, refuse_request
from ctxfs.serve.memory_stores.routes import memory_store_routes
from ctxfs.store.layout import Layout

_GRACEFUL_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 30.0
_MAX_INCOMPLETE_BYTES = 64 * 1024
_TOOL = "http"
# A body is in memory while it is read: at most 64 × 16 MiB for an address, and only of clients with a valid token.
_LIMITS = HttpLimits(requests_of_address=64, requests_of_token=64)


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """The address, and the settings of the interfaces."""

    address: TcpAddress
    afs: AfsSettings = field(default_factory=AfsSettings)


def serve_http(layout: Layout, settings: ServeSettings, announce: Callable[[str], None]) -> None:
    """Serve a store until a signal arrives; `announce` gets the URL. Raise CommandError for an unusable address."""
    trio.run(_serve, layout, settings, listen_on(settings.address), announce)  # Hypercorn closes the socket


async def _serve(
    layout: Layout, settings: ServeSettings, listener: socket.socket, announce: Callable[[str], None]
) -> None:
    address = settings.address
    port = listener.getsockname()[1]
    hosts = [TcpAddress(host, port).authority for host in LOOPBACK_HOSTS] if address.is_loopback else []
    async with trio.open_nursery() as nursery:
        daemon = DaemonSessions(layout, nursery, _TOOL)
        interfaces = [afs_route(daemon, settings.afs), *memory_store_routes(daemon)]
        routes = build_application(daemon, interfaces)
        app = Gate(routes, daemon, hosts, [DESCRIPTION], refuse_request)
        limited = with_bearer(Limits(app, needs_token=True, limits=_LIMITS))
        announce(f"http://{TcpAddress(address.host, port).authority}")
        try:
            await hypercorn.trio.serve(limited, _config(listener), shutdown_trigger=_wait_for_signal)  # type: ignore[arg-type]  # ASGI by another name
        finally:
            with trio.CancelScope(shield=True):
                await daemon.close()
            nursery.cancel_scope.cancel()


def _config(listener: socket.socket) -> hypercorn.config.Config:
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.accesslog = config.errorlog = None
    config.h11_max_incomplete_size = _MAX_INCOMPLETE_BYTES
    config.keep_alive_timeout = _KEEP_ALIVE_SECONDS
    config.graceful_timeout = config.shutdown_timeout = _GRACEFUL_SECONDS
    config.include_server_header = False
    return config


async def _wait_for_signal() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return
