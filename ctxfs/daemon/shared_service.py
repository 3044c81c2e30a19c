"""The shared service: it exchanges versions with a shared store after each commit, and when another node publishes."""

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio

from ctxfs.model.errors import CommandError
from ctxfs.services.conflict_desk import ConflictDesk
from ctxfs.services.sharing import Sharing
from ctxfs.supervise import Backoff, Restarts
from ctxfs.threads import blocking
from ctxfs.versions.objects.name_encoding import display_path, path_text

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_VECTORS_SECONDS = 30.0
_BACKOFF = Backoff(first_seconds=0.2, max_seconds=1.0)  # an engine that answers again is used within a second


class SharedService:
    """The daemon's exchange with a shared store. `push` receives the paths that others changed.

    `purge` is called when an erasure has removed contents, which the index still has.

    A store that is not shared costs nothing: the service sleeps until `request`. Reviews of conflicts are opened and
    withdrawn at the start, and at the node that has merged.
    """

    def __init__(
        self,
        sharing: Sharing,
        conflicts: ConflictDesk,
        push: Callable[[Sequence[str]], Awaitable[None]],
        purge: Callable[[], Awaitable[None]],
    ) -> None:
        self._conflicts = conflicts
        self._has_conflicts = True  # not known yet
        self._sharing = sharing
        self._purge = purge
        self._push = push
        self._request = trio.Event()
        self._taken = trio.Event()
        self._has_entry = False
        self._restarts = Restarts(_BACKOFF)
        self._fault = ""

    def request(self) -> None:
        """Look for news soon: there may be a new version here, or the store has become a node."""
        self._request.set()

    async def run(self) -> None:
        """Exchange until cancelled."""
        while True:
            if self._sharing.is_on:
                await self._exchange_while_on()
            await self._request.wait()
            self._request = trio.Event()

    async def _exchange_while_on(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_entries)
            nursery.start_soon(self._exchange_vectors)
            while self._sharing.is_on:
                if self._has_entry or self._sharing.has_news():
                    self._has_entry = False
                    await self._exchange()
                with trio.move_on_after(_LOOK_SECONDS):
                    await self._request.wait()
                self._request = trio.Event()
            nursery.cancel_scope.cancel()

    async def _wait_for_entries(self) -> None:
        while True:
            if await trio.to_thread.run_sync(self._sharing.wait, abandon_on_cancel=True):
                self._has_entry = True
                self._request.set()

    async def _exchange_vectors(self) -> None:
        """Fetch the vectors of other nodes after their entries, and publish those of this node. Faults are harmless."""
        while True:
            try:
                await blocking(self._sharing.exchange_vectors)
            except (OSError, CommandError) as error:
                log.info("vectors are not shared now: %s; tried again", error)
            except Exception:
                log.exception("vectors are not shared now; tried again")
            with trio.move_on_after(_VECTORS_SECONDS):
                await self._taken.wait()
            self._taken = trio.Event()

    async def _exchange(self) -> None:
        """Exchange versions. A fault is logged once, and the service tries again."""
        try:
            result = await blocking(self._sharing.exchange)
        except (OSError, CommandError) as error:
            fault = error.message if isinstance(error, CommandError) else error.strerror or str(error)
            if fault != self._fault:
                log.warning("versions are not shared now: %s; tried again, nothing is lost", fault)
            await self._pause(fault)
            return
        except Exception:
            log.exception("versions are not shared now; tried again, nothing is lost")
            await self._pause("internal error")
            return
        if self._fault:
            log.warning("versions are shared again")
        self._fault = ""
        self._restarts.reset()
        if result.taken:
            self._taken.set()
        for path in result.conflicts:
            log.warning("'%s' was changed here and at another node: both contents stay", display_path(path))
        if result.changes:
            await self._push([path_text(change.path) for change in result.changes])
        if self._sharing.pop_purge():
            await self._purge()
        if (result.conflicts or self._has_conflicts) and not self._sharing.read_only_reason():
            await self._refresh_reviews()

    async def _refresh_reviews(self) -> None:
        try:
            await self._conflicts.refresh()
            self._has_conflicts = bool(await blocking(self._sharing.conflicts.list))
        except Exception:
            log.exception("the reviews of conflicts are not up to date; tried again at the next exchange")

    async def _pause(self, fault: str) -> None:
        self._fault = fault
        self._has_entry = True
        await trio.sleep(self._restarts.record_end())
