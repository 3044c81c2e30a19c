"""The process of `ctxfs serve`: a socket, Hypercorn on trio, limits and the gate."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from ctxfs.http.address import listen_on
from ctxfs.http.daemon_sessions import DaemonSessions
from ctxfs.http.endpoint import Endpoint
from ctxfs.http.gate import Gate, with_bearer
from ctxfs.http.hypercorn_server import ServerSettings, serve_until_signal
from ctxfs.http.limits import HttpLimits, Limits
from ctxfs.serve.afs.route import afs_route
from ctxfs.serve.afs.settings import AfsSettings
from ctxfs.serve.application import DESCRIPTION, build_application, refuse_request
from ctxfs.serve.memory_stores.routes import memory_store_routes
from ctxfs.store.layout import Layout

_SERVER = ServerSettings(keep_alive_seconds=30.0, shutdown_seconds=1.0)
_TOOL = "http"
# A body is in memory while it is read: at most 64 × 16 MiB for an address, and only of clients with a valid token.
_LIMITS = HttpLimits(requests_of_address=64, requests_of_token=64)


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """The endpoint, and the settings of the interfaces."""

    endpoint: Endpoint
    afs: AfsSettings = field(default_factory=AfsSettings)


def serve_http(layout: Layout, settings: ServeSettings, announce: Callable[[str], None]) -> None:
    """Serve a store until a signal arrives; `announce` gets the URL. Raise CommandError for an unusable address."""
    trio.run(_serve, layout, settings, listen_on(settings.endpoint.address), announce)  # Hypercorn closes the socket


async def _serve(
    layout: Layout, settings: ServeSettings, listener: socket.socket, announce: Callable[[str], None]
) -> None:
    endpoint, port = settings.endpoint, listener.getsockname()[1]
    async with trio.open_nursery() as nursery:
        daemon = DaemonSessions(layout, nursery, _TOOL)
        interfaces = [afs_route(daemon, settings.afs), *memory_store_routes(daemon)]
        routes = build_application(daemon, interfaces)
        app = Gate(routes, daemon, endpoint.hosts(port), [DESCRIPTION], refuse_request, endpoint.headers)
        limited = with_bearer(Limits(app, needs_token=True, limits=_LIMITS))
        announce(endpoint.url(port))
        try:
            await serve_until_signal(limited, f"fd://{listener.fileno()}", _SERVER, endpoint.tls)
        finally:
            with trio.CancelScope(shield=True):
                await daemon.close()
            nursery.cancel_scope.cancel()
