"""MCP server over streamable HTTP: many clients at once, each under its own principal.

Over TCP every request carries a credential (`ctxfs token issue`) and acts for its principal. The server is an OAuth
resource server whose credentials are issued by the store, not by an authorisation server. A unix socket belongs to the
user who created it.
"""

import hashlib
import logging
import signal
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path as HostPath
from typing import Any

import hypercorn.config
import hypercorn.trio
import trio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_REQUEST
from pydantic import AnyHttpUrl

from ctxfs.model.errors import EXIT_BUSY, EXIT_USAGE, CommandError
from ctxfs.store.layout import Layout
from mcp_server.http_limits import HttpLimits, Limits
from mcp_server.resources import ResourceNotifications
from mcp_server.server import NOTHING_MORE, Additions, Context, TreeServer, run_alone
from mcp_server.sessions import TreeSession

log = logging.getLogger(__name__)

PATH = "/mcp"
_LARGEST_BODY = 64 * 1024 * 1024
_MOST_SESSIONS = 1000
_MOST_DOORS = 256
_VERIFIED_SECONDS = 1.0  # validity of a verified credential until it is verified again
_LOCAL = ("127.0.0.1", "localhost", "::1")
_OWNER = ""


@dataclass(frozen=True, slots=True)
class Address:
    """A listening address: a unix socket, or a host and a port."""

    socket: str = ""
    host: str = ""
    port: int = 0

    @property
    def bind(self) -> str:
        """The address in hypercorn's notation."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.socket}" if self.socket else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"unix:{self.socket}" if self.socket else f"http://{self.bind}{PATH}"


def parse_address(said: str) -> Address:
    """Parse `unix:PATH`, `HOST:PORT`, or `:PORT` and `PORT` for the loopback address. Raises CommandError."""
    if said.startswith("unix:"):
        path = HostPath(said.removeprefix("unix:")).expanduser()
        if not path.parent.is_dir():
            raise CommandError(f"'{path.parent}' is not a directory", "give the path of a socket in one", EXIT_USAGE)
        return Address(socket=str(path.resolve()))
    host, _, port = said.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise CommandError(f"'{said}' is not an address", "write HOST:PORT or unix:PATH", EXIT_USAGE)
    return Address(host=host.strip("[]") or "127.0.0.1", port=int(port))


@dataclass(slots=True)
class _Known:
    door: TreeSession
    news: ResourceNotifications
    principal: str
    verified: float


class TokenSessions:
    """A session for each credential, or one session for all clients where none is needed.

    Also the verifier of credentials.
    """

    def __init__(self, layout: Layout, nursery: trio.Nursery, *, needs_token: bool, principal: str = "") -> None:
        self._layout = layout
        self._nursery = nursery
        self._needs_token = needs_token
        self._principal = principal
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._turn = trio.Lock()

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the access token with its principal; None for an invalid one."""
        try:
            known = await self._through(token)
        except (OSError, CommandError) as error:
            log.info("a token was refused: %s", error)
            return None
        # SDK sessions belong to a credential, not to a principal.
        digest = hashlib.sha256(token.encode()).hexdigest()[:32]
        return AccessToken(token=token, client_id=digest, scopes=[], subject=known.principal)

    async def of(self, context: Context) -> tuple[TreeSession, ResourceNotifications]:
        """Return the session and the notifications for the sender of the request.

        Raises MCPError for a missing or invalid credential.
        """
        token = _OWNER
        if self._needs_token:
            request: Any = context.request
            user = request.scope.get("user") if request is not None else None
            if not isinstance(user, AuthenticatedUser):
                raise MCPError(INVALID_REQUEST, "a token is needed")
            token = user.access_token.token
        try:
            known = await self._through(token)
        except PermissionError as error:
            raise MCPError(INVALID_REQUEST, str(error.strerror)) from error
        return known.door, known.news

    async def close(self) -> None:
        """Close every session."""
        while self._known:
            _, known = self._known.popitem()
            await known.door.close()

    async def _through(self, token: str) -> _Known:
        known = self._known.get(token)
        if known is not None and (token == _OWNER or time.monotonic() - known.verified < _VERIFIED_SECONDS):
            return known
        async with self._turn:
            known = self._known.get(token)
            if known is None:
                named = self._principal if token == _OWNER else ""
                door = TreeSession(self._layout, self._nursery, principal=named, token=token)
                known = _Known(door, ResourceNotifications(door, self._nursery), "", 0.0)
            elif time.monotonic() - known.verified < _VERIFIED_SECONDS:
                return known
            try:
                known.principal = await known.door.join()
            except BaseException:
                self._known.pop(token, None)
                with trio.CancelScope(shield=True):
                    await known.door.close()
                raise
            known.verified = time.monotonic()
            self._known[token] = known
            self._known.move_to_end(token)
            if len(self._known) > _MOST_DOORS:
                _, oldest = self._known.popitem(last=False)
                await oldest.door.close()
            return known


def serve_http(layout: Layout, said: str, principal: str = "") -> None:
    """Serve until a signal arrives.

    `principal` acts on a unix socket; over TCP the credential determines the principal.
    """
    at = parse_address(said)
    if not at.socket and principal:
        raise CommandError(
            "over TCP everybody shows a token, which says who they are",
            f"ctxfs token issue {principal}, or use unix:PATH",
            EXIT_USAGE,
        )
    run_alone(lambda: serve(layout, at, principal=principal, needs_token=not at.socket))


async def serve(
    layout: Layout, at: Address, *, principal: str = "", needs_token: bool = True, more: Additions = NOTHING_MORE
) -> None:
    """Serve until a signal arrives; requires trio.

    Without credentials every client acts for `principal`, or for the store's owner.
    """
    async with trio.open_nursery() as nursery:
        doors = TokenSessions(layout, nursery, needs_token=needs_token, principal=principal)
        app = (
            TreeServer(doors, more)
            .made()
            .streamable_http_app(
                streamable_http_path=PATH,
                max_request_body_size=_LARGEST_BODY,
                max_sessions=_MOST_SESSIONS,
                session_idle_timeout=HttpLimits().session_idle_seconds,
                transport_security=_security(at),
                host=at.host or "127.0.0.1",
                auth=_settings(at) if needs_token else None,
                token_verifier=doors if needs_token else None,
            )
        )
        config = hypercorn.config.Config()
        config.bind = [at.bind]
        config.umask = 0o177
        config.accesslog = config.errorlog = None
        config.h11_max_incomplete_size = 64 * 1024
        if at.socket:
            _make_way(HostPath(at.socket))
        try:
            limited = Limits(app, needs_token=needs_token)
            await hypercorn.trio.serve(limited, config, shutdown_trigger=_told_to_stop)  # type: ignore[arg-type]  # ASGI by another name
        finally:
            with trio.CancelScope(shield=True):
                await doors.close()
            if at.socket:
                HostPath(at.socket).unlink(missing_ok=True)
            nursery.cancel_scope.cancel()


def _make_way(place: HostPath) -> None:
    """Remove the socket of a server that has ended.

    Raises CommandError if the path is another kind of file, or a server still listens there.
    """
    if not place.exists():
        return
    if not place.is_socket():
        raise CommandError(f"'{place}' is there, and no socket", "choose another path", EXIT_USAGE)
    with socket.socket(socket.AF_UNIX) as other:
        try:
            other.connect(str(place))
        except OSError:
            place.unlink()
            return
    raise CommandError(f"another server listens at '{place}'", "use that one, or stop it", EXIT_BUSY)


def _settings(at: Address) -> AuthSettings:
    # Credentials have no audience: one is valid for the store that issued it.
    return AuthSettings(
        issuer_url=AnyHttpUrl(f"http://{at.bind}"),
        resource_server_url=AnyHttpUrl(at.url),
        validate_token_resource=False,
    )


def _security(at: Address) -> TransportSecuritySettings | None:
    """Return the DNS rebinding protection: a page in a browser must not reach the server by a name of its own."""
    if at.socket or at.host in _LOCAL:
        hosts = [f"{name}:*" for name in ("127.0.0.1", "localhost", "[::1]")] + (["*"] if at.socket else [])
    else:
        hosts = [at.bind]
    origins = [f"http://{host}" for host in hosts if host != "*"]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=not at.socket, allowed_hosts=hosts, allowed_origins=origins
    )


async def _told_to_stop() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return
