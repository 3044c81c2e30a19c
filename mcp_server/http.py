"""MCP server over streamable HTTP: many clients at once, each under its own principal.

Over TCP every request carries a credential (`ctxfs token issue`) and acts for its principal. The server is an OAuth
resource server whose credentials are issued by the store, not by an authorisation server. A unix socket belongs to the
user who created it.
"""

import hashlib
import logging
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path as HostPath
from typing import Any

import trio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_REQUEST
from pydantic import AnyHttpUrl

from ctxfs.http.address import LOOPBACK_HOSTS, TcpAddress
from ctxfs.http.endpoint import Endpoint, TlsOptions, make_endpoint
from ctxfs.http.hypercorn_server import ServerSettings, serve_until_signal
from ctxfs.http.limits import HttpLimits, Limits
from ctxfs.mcp_server.resources import ResourceNotifications
from ctxfs.mcp_server.server import NO_ADDITIONS, Additions, Context, TreeServer, run_trio
from ctxfs.mcp_server.sessions import TreeSession
from ctxfs.model.errors import EXIT_BUSY, EXIT_USAGE, CommandError
from ctxfs.store.layout import Layout

log = logging.getLogger(__name__)

PATH = "/mcp"
_MAX_BODY_BYTES = 64 * 1024 * 1024
_MAX_SESSIONS = 1000
_MAX_CREDENTIALS = 256
_VERIFIED_SECONDS = 1.0  # validity of a verified credential until it is verified again
_SERVER = ServerSettings(umask=0o177, names_server=True)
_OWNER_KEY = ""


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


def parse_address(text: str) -> Address:
    """Parse `unix:PATH`, `HOST:PORT`, or `:PORT` and `PORT` for the loopback address. Raises CommandError."""
    if text.startswith("unix:"):
        path = HostPath(text.removeprefix("unix:")).expanduser()
        if not path.parent.is_dir():
            raise CommandError(f"'{path.parent}' is not a directory", "give the path of a socket in one", EXIT_USAGE)
        return Address(socket=str(path.resolve()))
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise CommandError(f"'{text}' is not an address", "write HOST:PORT or unix:PATH", EXIT_USAGE)
    return Address(host=host.strip("[]") or "127.0.0.1", port=int(port))


@dataclass(slots=True)
class _Client:
    tree: TreeSession
    notifications: ResourceNotifications
    principal: str
    verified_at: float


class TokenSessions:
    """A session for each credential, or one session for all clients where none is needed.

    Also the verifier of credentials.
    """

    def __init__(self, layout: Layout, nursery: trio.Nursery, *, needs_token: bool, principal: str = "") -> None:
        self._layout = layout
        self._nursery = nursery
        self._needs_token = needs_token
        self._principal = principal
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._lock = trio.Lock()

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the access token with its principal; None for an invalid one."""
        try:
            client = await self._verified_client(token)
        except (OSError, CommandError) as error:
            log.info("credential refused: %s", error)
            return None
        # SDK sessions belong to a credential, not to a principal.
        digest = hashlib.sha256(token.encode()).hexdigest()[:32]
        return AccessToken(token=token, client_id=digest, scopes=[], subject=client.principal)

    async def session_for(self, context: Context) -> tuple[TreeSession, ResourceNotifications]:
        """Return the session and the notifications for the sender of the request.

        Raises MCPError for a missing or invalid credential.
        """
        token = _OWNER_KEY
        if self._needs_token:
            request: Any = context.request
            user = request.scope.get("user") if request is not None else None
            if not isinstance(user, AuthenticatedUser):
                raise MCPError(INVALID_REQUEST, "a token is needed")
            token = user.access_token.token
        try:
            client = await self._verified_client(token)
        except PermissionError as error:
            raise MCPError(INVALID_REQUEST, str(error.strerror)) from error
        return client.tree, client.notifications

    async def close(self) -> None:
        """Close every session."""
        while self._clients:
            _, client = self._clients.popitem()
            await client.tree.close()

    async def _verified_client(self, token: str) -> _Client:
        client = self._clients.get(token)
        if client is not None and (token == _OWNER_KEY or time.monotonic() - client.verified_at < _VERIFIED_SECONDS):
            return client
        async with self._lock:
            client = self._clients.get(token)
            if client is None:
                principal = self._principal if token == _OWNER_KEY else ""
                tree = TreeSession(self._layout, self._nursery, principal=principal, token=token)
                client = _Client(tree, ResourceNotifications(tree, self._nursery), "", 0.0)
            elif time.monotonic() - client.verified_at < _VERIFIED_SECONDS:
                return client
            try:
                client.principal = await client.tree.join()
            except BaseException:
                self._clients.pop(token, None)
                with trio.CancelScope(shield=True):
                    await client.tree.close()
                raise
            client.verified_at = time.monotonic()
            self._clients[token] = client
            self._clients.move_to_end(token)
            if len(self._clients) > _MAX_CREDENTIALS:
                _, oldest = self._clients.popitem(last=False)
                await oldest.tree.close()
            return client


def endpoint_of(address: Address, options: TlsOptions) -> Endpoint | None:
    """Return the endpoint of a TCP address, None of a unix socket. Raise CommandError as `make_endpoint`."""
    if not address.socket:
        return make_endpoint(TcpAddress(address.host, address.port), options)
    if options.is_given:
        raise CommandError("a unix socket has no TLS", "leave the options of TLS out, or give HOST:PORT", EXIT_USAGE)
    return None


def serve_http(layout: Layout, address: Address, endpoint: Endpoint | None, principal: str = "") -> None:
    """Serve until a signal arrives.

    `principal` acts on a unix socket; over TCP the credential determines the principal.
    """
    if not address.socket and principal:
        raise CommandError(
            "over TCP the token determines the principal",
            f"ctxfs token issue {principal}, or use unix:PATH",
            EXIT_USAGE,
        )
    run_trio(lambda: serve(layout, address, endpoint, principal=principal, needs_token=not address.socket))


async def serve(
    layout: Layout,
    address: Address,
    endpoint: Endpoint | None = None,
    *,
    principal: str = "",
    needs_token: bool = True,
    additions: Additions = NO_ADDITIONS,
) -> None:
    """Serve until a signal arrives; requires trio.

    Without credentials every client acts for `principal`, or for the store's owner.
    """
    async with trio.open_nursery() as nursery:
        sessions = TokenSessions(layout, nursery, needs_token=needs_token, principal=principal)
        app = (
            TreeServer(sessions, additions)
            .build_server()
            .streamable_http_app(
                streamable_http_path=PATH,
                max_request_body_size=_MAX_BODY_BYTES,
                max_sessions=_MAX_SESSIONS,
                session_idle_timeout=HttpLimits().session_idle_seconds,
                transport_security=_transport_security(address, endpoint),
                host=address.host or "127.0.0.1",
                auth=_auth_settings(address, endpoint) if needs_token else None,
                token_verifier=sessions if needs_token else None,
            )
        )
        if address.socket:
            _remove_stale_socket(HostPath(address.socket))
        try:
            limited = Limits(app, needs_token=needs_token)
            await serve_until_signal(limited, address.bind, _SERVER, endpoint.tls if endpoint else None)
        finally:
            with trio.CancelScope(shield=True):
                await sessions.close()
            if address.socket:
                HostPath(address.socket).unlink(missing_ok=True)
            nursery.cancel_scope.cancel()


def _remove_stale_socket(path: HostPath) -> None:
    """Remove the socket of a server that has ended.

    Raises CommandError if the path is another kind of file, or a server still listens there.
    """
    if not path.exists():
        return
    if not path.is_socket():
        raise CommandError(f"'{path}' is there, and no socket", "choose another path", EXIT_USAGE)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise CommandError(f"another server listens at '{path}'", "use that one, or stop it", EXIT_BUSY)


def _auth_settings(address: Address, endpoint: Endpoint | None) -> AuthSettings:
    # Credentials have no audience: one is valid for the store that issued it.
    url = endpoint.url(address.port) if endpoint else f"http://{address.bind}"
    return AuthSettings(
        issuer_url=AnyHttpUrl(url),
        resource_server_url=AnyHttpUrl(f"{url}{PATH}"),
        validate_token_resource=False,
    )


def _transport_security(address: Address, endpoint: Endpoint | None) -> TransportSecuritySettings:
    """Return the DNS rebinding protection: a page in a browser must not reach the server by a name of its own."""
    if endpoint is not None and endpoint.tls is not None:
        named = [*endpoint.hosts(address.port)]
        return TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=named,
            allowed_origins=[f"{endpoint.scheme}://{host}" for host in named],
        )
    if address.socket or address.host in LOOPBACK_HOSTS:
        hosts = [f"{name}:*" for name in ("127.0.0.1", "localhost", "[::1]")] + (["*"] if address.socket else [])
    else:
        hosts = [address.bind]
    origins = [f"http://{host}" for host in hosts if host != "*"]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=not address.socket, allowed_hosts=hosts, allowed_origins=origins
    )
