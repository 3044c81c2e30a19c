"""The commit service: it makes versions from the journal and from direct changes to the work tree.

Journal records are committed soon after they appear, or at once on request. Changes of the work tree without a journal
record are committed for the store's owner.
"""

import functools
import itertools
import logging
from collections.abc import Callable
from typing import TypeVar

import trio

from ctxfs.app import App
from ctxfs.daemon.mountpoints import Mountpoints
from ctxfs.daemon.watch import Parts, Places, Watcher
from ctxfs.model.path import encode_name
from ctxfs.rpc.server import Peer
from ctxfs.store.layout import AREAS
from ctxfs.threads import blocking, in_turn

log = logging.getLogger(__name__)
Result = TypeVar("Result")

_SYNC_SECONDS = 3.0
_QUIET_SECONDS = 2.0
_PATIENT_SECONDS = 20.0  # upper bound for a work tree that never becomes quiet
_RETRY_SECONDS = 2.0
_CHECKPOINT_SECONDS = 5.0
_CHECKPOINT_SHARE = 20
_UPKEEP_SECONDS = 10.0
_OPEN_AFTER_SECONDS = 0.2


class CommitService:
    """The daemon's committer."""

    def __init__(self, app: App, mountpoints: Mountpoints) -> None:
        self._app = app
        self._mountpoints = mountpoints
        self._wanted = trio.Event()
        self._unsaid: dict[bytes, None] = {}
        self._unsaid_wanted = trio.Event()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[trio.Event, set[Peer], list[str]]] = {}
        self._areas = {str(app.layout.tree / area): area for area in AREAS}
        self._failing = False

    async def run(self) -> None:
        """Commit until cancelled."""
        await trio.sleep(_OPEN_AFTER_SECONDS)  # the first `ls` is served before the repository is opened
        await self.sync()
        await self._attempt(self._app.archive.open)
        watcher = Watcher(self._noted)
        await watcher.set_roots([str(self._app.layout.journal)], ())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.run)
            nursery.start_soon(self._commit_loop)
            nursery.start_soon(self._unsaid_loop)
            nursery.start_soon(self._checkpoint_loop)
            if self._app.settings.versions.upkeep:
                nursery.start_soon(self._upkeep_loop)
            self._wanted.set()

    # synchronisation with the mount processes

    async def sync(self, *, record: bool = True, but: Peer | None = None) -> list[str]:
        """Wait until each mount process has journaled its writes and passed received changes on to the kernel.

        Return the paths that have an open writer. `but` is left out. The wait ends after `_SYNC_SECONDS`, so that a
        mount process that does not answer delays nothing for long.
        """
        peers = set(self._mountpoints.peers) - {but}
        if not peers:
            return []
        number, event, writing = next(self._numbers), trio.Event(), list[str]()
        self._waiting[number] = (event, peers, writing)
        for peer in peers:
            peer.push("sync", [number, record])
        with trio.move_on_after(_SYNC_SECONDS):
            await event.wait()
        del self._waiting[number]
        return writing

    def synced(self, peer: Peer, number: int, writing: list[str]) -> None:
        """Record a mount process's answer to `sync`."""
        if number in self._waiting:
            event, peers, found = self._waiting[number]
            found.extend(writing)
            peers.discard(peer)
            if not peers:
                event.set()

    def left(self, peer: Peer) -> None:
        """Complete the pending `sync` requests of a mount process whose connection has ended."""
        for number in list(self._waiting):
            self.synced(peer, number, [])

    # background work

    def changed(self, root: str, inside: set[Parts]) -> None:
        """Record changes below a watched folder as candidates for a commit; most of them are in the journal already."""
        area = self._areas.get(root)
        if area is None:
            return
        for parts in inside:
            self._unsaid[b"/".join((area.encode(), *(encode_name(part) for part in parts)))] = None
        self._unsaid_wanted.set()

    def look_at_everything(self) -> None:
        """Mark every area as changed, because nothing was watched before."""
        for root in self._areas:
            self.changed(root, {()})

    def _noted(self, places: Places) -> None:
        self._wanted.set()

    async def _commit_loop(self) -> None:
        window = self._app.settings.versions.window_ms / 1000
        while True:
            with trio.move_on_after(self._app.archive.large_delay):
                await self._wanted.wait()
            end = trio.current_time() + window
            while trio.current_time() < end:
                self._wanted = trio.Event()
                looked, urgent = await self._attempt(self._app.archive.is_urgent)
                if urgent or not looked:
                    break
                with trio.move_on_at(end):
                    await self._wanted.wait()
            self._wanted = trio.Event()
            done, _ = await self._attempt(self._app.archive.commit_nowait)
            if done and self._app.archive.large_delay <= 0:
                await self._attempt(self._app.archive.prepare_large, apart=True)
                done, _ = await self._attempt(self._app.archive.commit_nowait)
            if not done:
                await trio.sleep(_RETRY_SECONDS)
                self._wanted.set()

    async def _unsaid_loop(self) -> None:
        """Commit direct edits of the work tree for the store's owner, as soon as the tree is quiet."""
        while True:
            await self._unsaid_wanted.wait()
            with trio.move_on_after(_PATIENT_SECONDS):
                await self._wait_quiet()
            self._unsaid_wanted = trio.Event()
            paths, self._unsaid = self._unsaid, {}
            writing = {encode_name(path) for path in await self.sync(record=False)}
            unsaid = [path for path in paths if path not in writing]
            await self._attempt(functools.partial(self._app.archive.commit_nowait, unsaid))

    async def _wait_quiet(self) -> None:
        quiet = False
        while not quiet:
            self._unsaid_wanted = trio.Event()
            with trio.move_on_after(_QUIET_SECONDS) as waiting:
                await self._unsaid_wanted.wait()
            quiet = waiting.cancelled_caught

    async def _checkpoint_loop(self) -> None:
        pause = _CHECKPOINT_SECONDS
        while True:
            await trio.sleep(pause)
            started = trio.current_time()
            await self._attempt(self._app.archive.checkpoint, apart=True)
            # A checkpoint flushes the disk, including writes of other programs: run it less often where it is slow.
            pause = max(_CHECKPOINT_SECONDS, _CHECKPOINT_SHARE * (trio.current_time() - started))

    async def _upkeep_loop(self) -> None:
        while True:
            await trio.sleep(_UPKEEP_SECONDS)
            await self._attempt(self._app.archive.upkeep, apart=True)

    async def _attempt(self, call: Callable[[], Result], *, apart: bool = False) -> tuple[bool, Result | None]:
        """Return (True, the result), or (False, None) after a failure. A failure is logged once until a call succeeds.

        With `apart` the call runs in a worker thread of its own and does not block the archive; it is meant for long
        calls.
        """
        try:
            result = await (blocking(call) if apart else in_turn(call))
        except OSError as error:
            if not self._failing:
                log.error(
                    "versions cannot be made: %s: %s; tried again, nothing is lost", error.filename, error.strerror
                )
            self._failing = True
            return False, None
        except Exception:
            if not self._failing:
                log.exception("versions cannot be made; tried again, nothing is lost")
            self._failing = True
            return False, None
        self._failing = False
        return True, result
