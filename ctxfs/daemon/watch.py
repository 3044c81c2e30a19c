"""Changes behind the mount's back. The only room that knows watchdog (inotify).

Says only that something may have changed at a place: whoever cares looks for himself.
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable

import trio
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from ctxfs.threads import blocking

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 0.03
_CARED_FOR = frozenset(("created", "deleted", "modified", "moved", "closed"))

Places = dict[str, set[tuple[str, ...]]]


class _Collector(FileSystemEventHandler):
    """Runs in watchdog's thread; hands places over to trio."""

    def __init__(self, root: str, found: Callable[[str, str], None]) -> None:
        self._root = root
        self._found = found

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in _CARED_FOR:
            return
        for path in (event.src_path, event.dest_path):
            if path:
                self._found(self._root, os.fsdecode(path))


class Watcher:
    """Watches folders, recursively, and reports {root: {parts…}} soon after something happened."""

    def __init__(self, changed: Callable[[Places], None]) -> None:
        self._changed = changed
        self._observer: BaseObserver = Observer()
        self._watches: dict[str, ObservedWatch] = {}
        self._places: Places = {}
        self._wake = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self.faults: dict[str, str] = {}

    async def run(self) -> None:
        """Report until cancelled."""
        self._token = trio.lowlevel.current_trio_token()
        # A new folder is found both by its event and by the walk that follows; watchdog says so each time.
        warnings.filterwarnings("ignore", message="Callback with id .* already exists", category=RuntimeWarning)
        self._observer.start()
        try:
            while True:
                await self._wake.wait()
                await trio.sleep(_SETTLE_SECONDS)
                # atomic: nothing is lost between taking the places and the new event
                places, self._places, self._wake = self._places, {}, trio.Event()
                self._changed(places)
        finally:
            self._token = None
            with trio.CancelScope(shield=True):
                await blocking(self._stop)

    async def set_roots(self, roots: Iterable[str]) -> None:
        """Watch exactly these folders. One that cannot be watched is a fault, not an error."""
        wanted = {root for root in roots if os.path.isdir(root)}
        for root in set(self._watches) - wanted:
            await blocking(self._observer.unschedule, self._watches.pop(root))
        for root in wanted - set(self._watches):
            try:
                self._watches[root] = await blocking(self._schedule, root)
                self.faults.pop(root, None)
            except OSError as error:
                self.faults[root] = f"changes are not seen: {error.strerror}"
                log.warning("cannot watch '%s': %s; raise fs.inotify.max_user_watches", root, error)

    def _schedule(self, root: str) -> ObservedWatch:
        return self._observer.schedule(_Collector(root, self._found), root, recursive=True)

    def _found(self, root: str, path: str) -> None:
        inside = os.path.relpath(path, root)
        parts = () if inside == "." else tuple(inside.split("/"))
        token = self._token
        if token is not None and ".." not in parts:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(self._add, root, parts)

    def _add(self, root: str, parts: tuple[str, ...]) -> None:
        self._places.setdefault(root, set()).add(parts)
        self._wake.set()

    def _stop(self) -> None:
        self._observer.stop()
        self._observer.join()
