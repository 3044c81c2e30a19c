"""The commit service: it makes versions from the journal and from direct changes to the work tree.

Journal records are committed soon after they appear, or at once on request. Changes of the work tree without a journal
record are committed for the store's owner.
"""

import functools
import itertools
import logging
import time
from collections.abc import Callable
from typing import TypeVar

import trio

from ctxfs.app import App
from ctxfs.daemon.mountpoints import Mountpoints
from ctxfs.daemon.watch import Changes, Parts, Watcher
from ctxfs.model.path import encode_name
from ctxfs.rpc.server import Peer
from ctxfs.store.layout import AREAS
from ctxfs.threads import blocking, in_turn

log = logging.getLogger(__name__)
Result = TypeVar("Result")

_SYNC_SECONDS = 3.0
_QUIET_SECONDS = 2.0
_MAX_QUIET_WAIT_SECONDS = 20.0  # upper bound for a work tree that never becomes quiet
_RETRY_SECONDS = 2.0
_CHECKPOINT_SECONDS = 5.0
_CHECKPOINT_SHARE = 20
_UPKEEP_SECONDS = 10.0
_OPEN_AFTER_SECONDS = 0.2
_FILE_CLOCK = 5  # CLOCK_REALTIME_COARSE, the clock of files' times


class CommitService:
    """The daemon's committer."""

    def __init__(self, app: App, mountpoints: Mountpoints, on_commit: Callable[[], None] = lambda: None) -> None:
        """`on_commit` is called when there may be a new version."""
        self._on_commit = on_commit
        self._app = app
        self._mountpoints = mountpoints
        self._commit_requested = trio.Event()
        self._unjournaled: dict[bytes, None] = {}
        self._unjournaled_event = trio.Event()
        self._sync_numbers = itertools.count(1)
        self._pending_syncs: dict[int, tuple[trio.Event, set[Peer], list[str]]] = {}
        self._areas = {str(app.layout.tree / area): area for area in AREAS}
        self._is_failing = False

    async def run(self) -> None:
        """Commit until cancelled."""
        await trio.sleep(_OPEN_AFTER_SECONDS)  # the first `ls` is served before the repository is opened
        await self.sync()
        await self._attempt(self._app.archive.open)
        watcher = Watcher(self._request_commit)
        await watcher.set_roots([str(self._app.layout.journal)], ())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.run)
            nursery.start_soon(self._commit_loop)
            nursery.start_soon(self._unjournaled_loop)
            nursery.start_soon(self._checkpoint_loop)
            if self._app.settings.versions.upkeep:
                nursery.start_soon(self._upkeep_loop)
            self._commit_requested.set()

    # synchronisation with the mount processes

    async def sync(self, *, record: bool = True, except_peer: Peer | None = None) -> list[str]:
        """Wait until each mount process has journaled its writes and passed received changes on to the kernel.

        Return the paths that have an open writer. `except_peer` is left out. The wait ends after `_SYNC_SECONDS`, so
        that a mount process that does not answer delays nothing for long.
        """
        peers = set(self._mountpoints.peers) - {except_peer}
        if not peers:
            return []
        number, event, writing = next(self._sync_numbers), trio.Event(), list[str]()
        self._pending_syncs[number] = (event, peers, writing)
        for peer in peers:
            peer.push("sync", [number, record])
        with trio.move_on_after(_SYNC_SECONDS):
            await event.wait()
        del self._pending_syncs[number]
        return writing

    def synced(self, peer: Peer, number: int, writing: list[str]) -> None:
        """Record a mount process's answer to `sync`."""
        if number in self._pending_syncs:
            event, peers, open_paths = self._pending_syncs[number]
            open_paths.extend(writing)
            peers.discard(peer)
            if not peers:
                event.set()

    def drop_peer(self, peer: Peer) -> None:
        """Complete the pending `sync` requests of a mount process whose connection has ended."""
        for number in list(self._pending_syncs):
            self.synced(peer, number, [])

    # background work

    def changed(self, root: str, inside: set[Parts]) -> None:
        """Record changes below a watched folder as candidates for a commit; most of them are in the journal already."""
        area = self._areas.get(root)
        if area is None:
            return
        for parts in inside:
            self._unjournaled[b"/".join((area.encode(), *(encode_name(part) for part in parts)))] = None
        self._unjournaled_event.set()

    def mark_all_changed(self) -> None:
        """Mark every area as changed, because nothing was watched before."""
        for root in self._areas:
            self.changed(root, {()})

    def _request_commit(self, changes: Changes) -> None:
        self._commit_requested.set()

    async def _commit_loop(self) -> None:
        window = self._app.settings.versions.window_ms / 1000
        while True:
            with trio.move_on_after(self._app.archive.large_delay):
                await self._commit_requested.wait()
            end = trio.current_time() + window
            while trio.current_time() < end:
                self._commit_requested = trio.Event()
                checked, urgent = await self._attempt(self._app.archive.is_urgent)
                if urgent or not checked:
                    break
                with trio.move_on_at(end):
                    await self._commit_requested.wait()
            self._commit_requested = trio.Event()
            committed, _ = await self._attempt(self._app.archive.commit_nowait)
            if committed and self._app.archive.large_delay <= 0:
                await self._attempt(self._app.archive.prepare_large, is_long=True)
                committed, _ = await self._attempt(self._app.archive.commit_nowait)
            if not committed:
                await trio.sleep(_RETRY_SECONDS)
                self._commit_requested.set()
            self._on_commit()

    async def _unjournaled_loop(self) -> None:
        """Commit direct edits of the work tree for the store's owner, as soon as the tree is quiet."""
        while True:
            await self._unjournaled_event.wait()
            with trio.move_on_after(_MAX_QUIET_WAIT_SECONDS):
                await self._wait_quiet()
            self._unjournaled_event = trio.Event()
            paths, self._unjournaled = self._unjournaled, {}
            # Changes that sessions and mounts begin from here on are left out; they are in the set of the next round.
            before_ns = time.clock_gettime_ns(_FILE_CLOCK)
            await blocking(self._app.archive.changes.wait, _SYNC_SECONDS)
            writing = {encode_name(path) for path in await self.sync(record=False)}
            unjournaled = [path for path in paths if path not in writing]
            await self._attempt(functools.partial(self._app.archive.commit_nowait, unjournaled, before_ns))
            self._on_commit()

    async def _wait_quiet(self) -> None:
        quiet = False
        while not quiet:
            self._unjournaled_event = trio.Event()
            with trio.move_on_after(_QUIET_SECONDS) as waiting:
                await self._unjournaled_event.wait()
            quiet = waiting.cancelled_caught

    async def _checkpoint_loop(self) -> None:
        pause = _CHECKPOINT_SECONDS
        while True:
            await trio.sleep(pause)
            started = trio.current_time()
            await self._attempt(self._app.archive.checkpoint, is_long=True)
            # A checkpoint flushes the disk, including writes of other programs: run it less often where it is slow.
            pause = max(_CHECKPOINT_SECONDS, _CHECKPOINT_SHARE * (trio.current_time() - started))

    async def _upkeep_loop(self) -> None:
        while True:
            await trio.sleep(_UPKEEP_SECONDS)
            await self._attempt(self._app.archive.pack, is_long=True)

    async def _attempt(self, call: Callable[[], Result], *, is_long: bool = False) -> tuple[bool, Result | None]:
        """Return (True, the result), or (False, None) after a failure. A failure is logged once until a call succeeds.

        With `is_long` the call runs in a worker thread of its own and does not block the archive; it is meant for long
        calls.
        """
        try:
            result = await (blocking(call) if is_long else in_turn(call))
        except OSError as error:
            if not self._is_failing:
                log.error(
                    "versions cannot be made: %s: %s; tried again, nothing is lost", error.filename, error.strerror
                )
            self._is_failing = True
            return False, None
        except Exception:
            if not self._is_failing:
                log.exception("versions cannot be made; tried again, nothing is lost")
            self._is_failing = True
            return False, None
        self._is_failing = False
        return True, result
