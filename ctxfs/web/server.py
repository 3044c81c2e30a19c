"""The process of the page: a socket, Hypercorn on trio, and one instance a store."""

import logging
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress

import trio

from ctxfs.http.access import Access
from ctxfs.http.address import listen_on
from ctxfs.http.daemon_sessions import DaemonSessions
from ctxfs.http.endpoint import Endpoint
from ctxfs.http.hypercorn_server import ServerSettings, serve_until_signal
from ctxfs.http.limits import HttpLimits, Limits
from ctxfs.model.errors import EXIT_USAGE, CommandError
from ctxfs.store.layout import Layout
from ctxfs.threads import blocking
from ctxfs.web.application import build_application
from ctxfs.web.free_memory import FreeMemory, freeze_objects, return_free_memory, use_one_heap
from ctxfs.web.guard import OPEN, Address, Guard
from ctxfs.web.instance import AddressSocket, InstanceLock
from ctxfs.web.page import Parts
from ctxfs.web.renderer import Renderer
from ctxfs.web.screens import SCREENS
from ctxfs.web.sessions import BrowserSessions
from ctxfs.web.templates import Templates

log = logging.getLogger(__name__)

_PREFIX_BYTES = 12
_MAX_STREAMS = 16
_LIMITS = HttpLimits(requests_of_address=64)
_SERVER = ServerSettings(max_incomplete_bytes=16 * 1024, shutdown_seconds=1.0)


def serve_web(layout: Layout, endpoint: Endpoint, access: Access, announce: Callable[[str], None]) -> bool:
    """Serve the page of a store until a signal arrives; `announce` gets the address of a first session.

    Return False at once if another process serves it. Raise CommandError for a port in use, and for a session without a
    token on an address of other machines.
    """
    check_access(endpoint, access)
    use_one_heap()
    lock = InstanceLock(layout)
    if not lock.try_acquire():
        return False
    try:
        listener = listen_on(endpoint.address, "choose another --port, or leave it out")
        address = Address(endpoint, listener.getsockname()[1], secrets.token_urlsafe(_PREFIX_BYTES))
        trio.run(_serve, layout, listener, address, access, announce)
    finally:
        lock.release()
    return True


def check_access(endpoint: Endpoint, access: Access) -> None:
    """Raise CommandError for a session without a token on an address of other machines."""
    if not endpoint.address.is_loopback and not access.token:
        raise CommandError(
            "a page for other machines needs a token, and acts for its principal",
            "ctxfs token issue PRINCIPAL, then --token TOKEN or $CTXFS_TOKEN",
            EXIT_USAGE,
        )


async def _serve(
    layout: Layout, listener: socket.socket, address: Address, access: Access, announce: Callable[[str], None]
) -> None:
    sessions = BrowserSessions()

    def issue(access: Access) -> str:
        check_access(address.endpoint, access)
        return f"{address.url}{OPEN}?secret={sessions.issue_secret(access)}"

    async with trio.open_nursery() as nursery:
        daemon, renderer = DaemonSessions(layout, nursery, "web"), Renderer()
        navigation = [(screen.name, screen.title) for screen in SCREENS if screen.title]
        parts = Parts(address, daemon, Templates(), renderer, navigation, trio.Semaphore(_MAX_STREAMS))
        app = FreeMemory(Guard(build_application(parts, sessions, SCREENS), sessions, address))
        limited = app if address.endpoint.address.is_loopback else Limits(app, needs_token=False, limits=_LIMITS)
        nursery.start_soon(AddressSocket(layout, issue).serve)
        announce(issue(access))
        nursery.start_soon(_prepare, daemon, access, parts.templates)
        nursery.start_soon(app.run)
        nursery.start_soon(renderer.end_if_idle)
        try:
            await serve_until_signal(limited, f"fd://{listener.fileno()}", _SERVER, address.endpoint.tls)
        finally:
            with trio.CancelScope(shield=True):
                await renderer.close()
                await daemon.close()
            nursery.cancel_scope.cancel()


async def _prepare(daemon: DaemonSessions, access: Access, templates: Templates) -> None:
    """Compile templates, and have the daemon read tables, before their first screen, which else waits for them."""
    await blocking(templates.prepare)
    freeze_objects()
    return_free_memory()
    with suppress(CommandError, OSError):
        await daemon.call(access, "prepare_tables")
