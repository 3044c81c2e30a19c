"""Connections of an HTTP server to the daemon, one for each principal or credential."""

import time
from collections import OrderedDict
from typing import Any

import trio

from ctxfs.http.access import Access
from ctxfs.model.errors import CommandError
from ctxfs.model.principal import Principal, parse_principal
from ctxfs.rpc.async_client import AsyncClient
from ctxfs.rpc.client import NoDaemon
from ctxfs.rpc.frames import ANSWERED
from ctxfs.store.layout import Layout

_VERIFIED_SECONDS = 5.0  # a revoked credential reads for this long at most
_MAX_CONNECTIONS = 32


class DaemonAway(CommandError):
    """Raised if no daemon answers, or if it ends before it has answered. `subject` is the missing part."""

    subject = "the daemon"

    def __init__(
        self,
        message: str = "the daemon of this store does not answer",
        remedy: str = "start it: ctxfs mount DIR, or call the command of this server again",
    ) -> None:
        super().__init__(message, remedy)


class StoreAway(DaemonAway):
    """Raised if the directory of the store is not there."""

    subject = "the store"

    def __init__(self) -> None:
        # Without its path: servers send this to clients of other machines.
        super().__init__(
            "the directory of this store is gone: it was moved or removed, or its disk is away",
            "bring it back, and if it has no mount point, then: ctxfs mount DIR",
        )


class AccessEnded(CommandError):
    """Raised if the credential of a session is not valid any more."""

    def __init__(self) -> None:
        super().__init__("the token of this session is not valid any more", "issue one: ctxfs token issue PRINCIPAL")


class _Connection:
    def __init__(self) -> None:
        self.client = AsyncClient(lambda topic, value: None)
        self.principal: Principal | None = None
        self.verified_at = 0.0


class DaemonSessions:
    """Calls of the daemon's methods on behalf of principals.

    A lost connection is opened again by the next call, so that the server survives the end of a daemon. `tool` names the server in
    versions and in the audit.
    """

    def __init__(self, layout: Layout, nursery: trio.Nursery, tool: str) -> None:
        self._layout = layout
        self._nursery = nursery
        self._tool = tool
        self._connections: OrderedDict[Access, _Connection] = OrderedDict()
        self._lock = trio.Lock()

    async def call(self, access: Access, method: str, **arguments: object) -> Any:
        """Return the response to one request. Raise the daemon's error, DaemonAway or AccessEnded."""
        connection = await self._connected(access)
        try:
            return await connection.client.call(method, **arguments)
        except OSError as error:
            if ANSWERED not in getattr(error, "__notes__", ()):
                raise self._away() from error
            raise

    def _away(self) -> DaemonAway:
        """Return the error for a daemon that does not answer."""
        return DaemonAway() if self._layout.config.exists() else StoreAway()

    async def principal_of(self, access: Access) -> Principal:
        """Return the principal that an access stands for."""
        principal = (await self._connected(access)).principal
        assert principal is not None
        return principal

    async def close(self) -> None:
        """Close all connections."""
        while self._connections:
            _, connection = self._connections.popitem()
            await connection.client.close()

    async def _connected(self, access: Access) -> _Connection:
        connection = self._connections.get(access)
        if connection is not None and self._is_current(access, connection):
            self._connections.move_to_end(access)
            return connection
        async with self._lock:
            connection = self._connections.get(access)
            if connection is None or not connection.client.connected:
                connection = await self._connect(access)
            if not self._is_current(access, connection):
                await self._join(access, connection)
            return connection

    def _is_current(self, access: Access, connection: _Connection) -> bool:
        is_verified = not access.token or time.monotonic() - connection.verified_at < _VERIFIED_SECONDS
        return connection.client.connected and connection.principal is not None and is_verified

    async def _connect(self, access: Access) -> _Connection:
        connection = _Connection()
        try:
            await connection.client.connect(self._layout.run)
        except NoDaemon as error:
            raise self._away() from error
        self._nursery.start_soon(connection.client.run)
        self._connections[access] = connection
        while len(self._connections) > _MAX_CONNECTIONS:
            _, oldest = self._connections.popitem(last=False)
            await oldest.client.close()
        return connection

    async def _join(self, access: Access, connection: _Connection) -> None:
        try:
            joined = await connection.client.call(
                "join", principal=access.principal, token=access.token, tool=self._tool
            )
        except BaseException as error:
            self._connections.pop(access, None)  # a connection that has not joined would act for the owner
            with trio.CancelScope(shield=True):
                await connection.client.close()
            if isinstance(error, OSError):
                is_answer = ANSWERED in getattr(error, "__notes__", ())
                raise (AccessEnded() if is_answer else self._away()) from error
            raise
        connection.principal = parse_principal(joined["principal"])
        connection.verified_at = time.monotonic()
