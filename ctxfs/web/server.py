"""The process of the page: a socket of this machine, Hypercorn on trio, and one instance a store."""

import logging
import secrets
import socket
from collections.abc import Callable

import trio

from ctxfs.http.access import Access
from ctxfs.http.daemon_sessions import DaemonSessions
from ctxfs.http.hypercorn_server import ServerSettings, serve_until_signal
from ctxfs.model.errors import EXIT_BUSY, CommandError
from ctxfs.store.layout import Layout
from ctxfs.web.application import build_application
from ctxfs.web.guard import OPEN, Address, Guard
from ctxfs.web.instance import AddressSocket, InstanceLock
from ctxfs.web.page import Parts
from ctxfs.web.renderer import Renderer
from ctxfs.web.screens import SCREENS
from ctxfs.web.sessions import BrowserSessions
from ctxfs.web.templates import Templates

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
_BACKLOG = 128
_PREFIX_BYTES = 12
_MAX_STREAMS = 16
_SERVER = ServerSettings(max_incomplete_bytes=16 * 1024, shutdown_seconds=1.0)


def serve_web(layout: Layout, port: int, access: Access, announce: Callable[[str], None]) -> bool:
    """Serve the page of a store until a signal arrives; `announce` gets the address of a first session.

    Return False at once if another process serves it. Raise CommandError for a port in use.
    """
    lock = InstanceLock(layout)
    if not lock.try_acquire():
        return False
    try:
        listener = _listen(port)
        address = Address(listener.getsockname()[1], secrets.token_urlsafe(_PREFIX_BYTES))
        trio.run(_serve, layout, listener, address, access, announce)
    finally:
        lock.release()
    return True


def _listen(port: int) -> socket.socket:
    """Return a listening socket of the loopback interface; port 0 is a free one."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise CommandError(
            f"port {port} cannot be used: {error.strerror}", "choose another one, or leave --port out", EXIT_BUSY
        ) from error
    listener.listen(_BACKLOG)
    return listener


async def _serve(
    layout: Layout, listener: socket.socket, address: Address, access: Access, announce: Callable[[str], None]
) -> None:
    sessions = BrowserSessions()

    def issue(access: Access) -> str:
        return f"{address.url}{OPEN}?secret={sessions.issue_secret(access)}"

    async with trio.open_nursery() as nursery:
        daemon, renderer = DaemonSessions(layout, nursery, "web"), Renderer()
        navigation = [(screen.name, screen.title) for screen in SCREENS if screen.title]
        parts = Parts(address, daemon, Templates(), renderer, navigation, trio.Semaphore(_MAX_STREAMS))
        app = Guard(build_application(parts, sessions, SCREENS), sessions, address)
        nursery.start_soon(AddressSocket(layout, issue).serve)
        announce(issue(access))
        try:
            await serve_until_signal(app, f"fd://{listener.fileno()}", _SERVER)
        finally:
            with trio.CancelScope(shield=True):
                await renderer.close()
                await daemon.close()
            nursery.cancel_scope.cancel()
