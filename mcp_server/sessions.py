"""Sessions of principals with the tree: over the daemon's socket, or with the store opened in this process."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import trio

from ctxfs.daemon.session import LocalSession
from ctxfs.model.path import Path
from ctxfs.rpc.async_client import AsyncClient
from ctxfs.rpc.client import NoDaemon
from ctxfs.rpc.tree_changes import TreeChanges
from ctxfs.store.layout import Layout
from ctxfs.threads import blocking
from ctxfs.vfs.path_locks import PathLocks

log = logging.getLogger(__name__)

_IDLE_SECONDS = 0.3

ChangeListener = Callable[[Sequence[Path]], None]


class TreeSession:
    """Calls of the methods of `daemon.api.methods` under one principal.

    Each call checks the connection, so that a daemon may start, end or be replaced between calls.
    """

    def __init__(self, layout: Layout, nursery: trio.Nursery, *, principal: str = "", token: str = "") -> None:
        self._layout = layout
        self._nursery = nursery
        self._join_arguments = {"principal": principal, "token": token, "tool": "mcp"}
        self._client: AsyncClient | None = None
        self._local: LocalSession | None = None
        self._is_releasing = False
        self._lock = trio.Lock()
        self.path_locks = PathLocks()  # for read-modify-write: models send calls concurrently
        self._changes = TreeChanges()
        self._on_change: ChangeListener | None = None

    async def call(self, method: str, **arguments: object) -> Any:
        """Return the result of one request. Raises OSError and CommandError, as the method raises them."""
        client = await self._connected()
        if client is not None:
            return await client.call(method, **arguments)
        async with self._lock:
            local = self._local
            if local is not None:
                try:
                    return await blocking(lambda: local.call(method, **arguments))
                finally:
                    self._release_soon(local)
        return await self.call(method, **arguments)  # a daemon has started in the meantime

    async def join(self) -> str:
        """Bind the session again and return its principal; fails for a credential that is no longer valid."""
        joined = await self.call("join", **self._join_arguments)
        return str(joined["principal"])

    async def watch(self, on_change: ChangeListener) -> None:
        """Call `changed` with changed paths from now on, regardless of permissions.

        Without a daemon there are no calls.
        """
        self._on_change = on_change
        client = await self._connected()
        if client is not None:
            self._changes.set_mount_table(await client.call("watch"))

    async def close(self) -> None:
        """End the session."""
        local, self._local = self._local, None
        if local is not None:
            await blocking(local.close)
        if self._client is not None:
            await self._client.close()

    async def _connected(self) -> AsyncClient | None:
        """Return the connection to the daemon, opened if absent; None if the store is open in this process."""
        if self._client is not None and self._client.connected:
            return self._client
        async with self._lock:
            if self._client is not None and self._client.connected:
                return self._client
            client = AsyncClient(self._on_push)
            try:
                await client.connect(self._layout.run)
            except NoDaemon:
                await self._open_store()
                return None
            self._nursery.start_soon(client.run)
            try:
                await client.call("join", **self._join_arguments)
                if self._on_change is not None:
                    self._changes.set_mount_table(await client.call("watch"))
            except BaseException as error:
                is_lost = isinstance(error, OSError) and not client.connected
                with trio.CancelScope(shield=True):
                    await client.close()  # an invalid credential leaves no connection open
                if is_lost:  # the daemon died before it responded
                    await self._open_store()
                    return None
                raise
            self._client = client
            if self._local is not None:
                local, self._local = self._local, None
                await blocking(local.close)
            return client

    async def _open_store(self) -> None:
        if self._local is None:
            self._local = await blocking(LocalSession, self._layout)
            local = self._local
            try:
                await blocking(lambda: local.call("join", **self._join_arguments))
            except BaseException:
                self._local = None
                with trio.CancelScope(shield=True):
                    await blocking(local.close)
                raise

    def _release_soon(self, local: LocalSession) -> None:
        """Release the store shortly after a call that needed it, because a daemon cannot start while it is held."""
        if local.holds_store and not self._is_releasing:
            self._is_releasing = True
            self._nursery.start_soon(self._release)

    async def _release(self) -> None:
        await trio.sleep(_IDLE_SECONDS)
        async with self._lock:
            self._is_releasing = False
            if self._local is not None:
                try:
                    await blocking(self._local.release_store)
                except Exception:  # the next call opens the versions again and raises
                    log.exception("cannot close the versions")

    def _on_push(self, topic: str, value: Any) -> None:
        paths = self._changes.paths_of(topic, value)
        if topic == "changed" and self._on_change is not None:
            self._on_change(paths)
