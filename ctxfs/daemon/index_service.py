"""The index service: it supervises the indexer process, forwards its events and reports how far search lags behind."""

import contextlib
import logging
import time
from collections.abc import Collection, Sequence

import trio

from ctxfs.app import App
from ctxfs.daemon.index_orders import options_to_wire, roots_to_wire
from ctxfs.daemon.source_marks import SourceMarks
from ctxfs.daemon.worker_process import worker
from ctxfs.index.engines.corruption import CorruptIndex, mark_damaged
from ctxfs.index.indexer_status import IndexerState, IndexerStatus, render_indexer_status
from ctxfs.index.options import IndexedRoot
from ctxfs.rpc.frames import FrameReader, WireError, pack_frame
from ctxfs.supervise import Backoff, Restarts, supervise
from ctxfs.threads import blocking

log = logging.getLogger(__name__)

_BACKOFF = Backoff(first_seconds=1.0, max_seconds=60.0, healthy_seconds=60.0)
_END_SECONDS = 5.0
_ENDS_UNTIL_DOWN = 3  # occasional ends are followed by a restart without a report
_REFRESH_SECONDS = 0.05
_REPAIR_SECONDS = 10.0
_MAX_PATHS = 50
_CALM_SECONDS = 0.1
_MAX_CALM_SECONDS = 1.0
_INDEXED_WITHIN_SECONDS = 5.0

Parts = tuple[str, ...]


class IndexService:
    """The daemon's interface to the indexer, which sends orders and refreshes `app.searcher` after each commit.

    Implements `index.search.index_monitor.IndexMonitor`.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._process: trio.Process | None = None
        self._refresh_requested = trio.Event()
        self._has_new_graph = False
        self._sent = 0
        self._changed = trio.Event()
        self._unsent: dict[tuple[str, Parts], None] = {}  # changes that have not been sent to the indexer
        self._oldest_unsent = 0.0  # time of the first unsent change
        self._status = IndexerStatus(IndexerState.STARTING)
        self._pending_state: IndexerState | None = None  # reached by the indexer, but not yet by search
        self._write_lock = trio.Lock()
        self._roots_lock = trio.Lock()
        self._repair_until = 0.0
        self._restarts = Restarts(_BACKOFF)  # an event that shows progress resets it
        self._fault = ""
        self._has_scanned = False
        self._source_marks = SourceMarks(app)
        app.searcher.connect(self)
        self._set_status(self._status)

    async def run(self) -> None:
        """Run the indexer and restart it whenever it ends, with exponential backoff while it makes no progress."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._refresh_loop)
            nursery.start_soon(self._calm_loop)
            await supervise(self._run_process, self._restarts, self._report_end)

    async def _run_process(self) -> str:
        """Run the process until it ends, and return its last fault."""
        self._fault = ""
        try:
            await self._run_once()
        except (OSError, WireError) as error:  # no process could be started, such as for lack of memory
            self._fault = self._fault or str(error)
        return self._fault

    def _report_end(self, fault: str, pause: float) -> None:
        """Log the end of the process, and update the state."""
        log.error("the indexer process ended; restarting it in %.0f s: %s", pause, fault or "no reason given")
        if self._restarts.ends < _ENDS_UNTIL_DOWN:
            self._set_status(IndexerStatus(IndexerState.RESTARTING))
        else:
            reason = f" ({fault})" if fault else ""
            message = f"the indexer keeps ending{reason}; it is tried again by itself, see run/daemon.log"
            self._set_status(IndexerStatus(IndexerState.DOWN, message))

    def behind(self) -> str:
        """Return why full-text search may miss files; empty if it covers all of them."""
        match self._status.state:
            case IndexerState.DOWN:
                return f"the index is {render_indexer_status(self._status)}. Files that changed since may be missing"
            case IndexerState.ERROR:
                return f"the index has an {render_indexer_status(self._status)}. Files may be missing"
        if not self._has_scanned:
            progress = self._app.daemon.progress.get("words", "")
            return f"files are still being indexed by words{f' ({progress})' if progress else ''}: some may be missing"
        return ""

    async def send(self, order: str, value: object = None) -> None:
        """Send an order. The scan at the indexer's start makes up for orders that are lost."""
        process = self._process
        if process is None:
            return
        self._sent += 1
        await self._write(process, order, value)

    async def changed(self, places: Sequence[tuple[IndexedRoot, Collection[Parts]]]) -> None:
        """Make changed paths visible to search at once, and send them to the indexer after a quiet period.

        Of each root, search looks at the first `_MAX_PATHS` paths and only drops the deleted ones of the rest. New
        content among the rest is found once the index contains it.
        """
        if not self._unsent:
            self._oldest_unsent = trio.current_time()
        self._unsent.update(((root.prefix, parts), None) for root, inside in places for parts in inside)
        if self._status.has_caught_up:
            self._set_status(IndexerStatus(IndexerState.INDEXING_WORDS))
        for root, inside in places:
            paths = list(inside)
            await blocking(self._app.searcher.report_changes, root, paths[:_MAX_PATHS], paths[_MAX_PATHS:])
        self._changed.set()

    async def _calm_loop(self) -> None:
        """Apply changes to search, and send them to the indexer, after a quiet period.

        Thus bulk writers are not disturbed. Search is brought up to date after `_MAX_CALM_SECONDS` at the latest,
        because a query may never come. The indexer starts after `_INDEXED_WITHIN_SECONDS` at the latest.
        """
        while True:
            await self._changed.wait()
            end = trio.current_time() + _MAX_CALM_SECONDS
            while self._changed.is_set() and trio.current_time() < end:
                self._changed = trio.Event()
                await trio.sleep(_CALM_SECONDS)
            if not self._changed.is_set() or trio.current_time() > self._oldest_unsent + _INDEXED_WITHIN_SECONDS:
                await self._send_changes()
            try:
                await blocking(self._app.searcher.apply_changes)
            except Exception:
                log.exception("search could not look at a change; the index will contain it")

    async def _send_changes(self) -> None:
        places, self._unsent = self._unsent, {}
        if places:
            await self.send("changed", [[prefix, list(parts)] for prefix, parts in places])

    async def _write(self, process: trio.Process, order: str, value: object) -> None:
        assert process.stdin is not None
        async with self._write_lock:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await process.stdin.send_all(pack_frame([order, value]))

    async def send_roots(self, *, rebuild: bool = False) -> None:
        """Send the current roots to the indexer, which scans them for changes, or with `rebuild` reads them again."""
        async with self._roots_lock:  # otherwise an older list of roots could be sent last
            roots = self._app.sources.indexed_roots()
            self._set_status(IndexerStatus(IndexerState.SCANNING))
            await blocking(self._app.searcher.set_roots, roots)
            await self.send("rebuild" if rebuild else "roots", roots_to_wire(roots))

    async def _run_once(self) -> None:
        async with worker("ctxfs.daemon.index_process", _END_SECONDS) as process:
            try:
                await self._write(process, "start", options_to_wire(self._app.sources.indexer_options()))
                self._process, self._sent = process, 0
                await self.send_roots()
                reader = FrameReader()
                assert process.stdout is not None
                async for data in process.stdout:
                    for kind, detail in reader.feed(data):
                        self._handle_event(kind, detail)
            finally:
                self._process = None

    def repair(self, reason: str) -> None:
        """Mark the index as damaged and restart the indexer, which repairs it first.

        Called by search from any thread.
        """
        if time.monotonic() < self._repair_until:
            return
        self._repair_until = time.monotonic() + _REPAIR_SECONDS
        log.error("the index is damaged (%s): it is repaired", reason)
        mark_damaged(self._app.layout.index, reason)
        if self._process is not None:
            self._process.kill()

    def _handle_event(self, kind: str, detail: str) -> None:
        if kind in ("error", "failed"):
            log.error("indexer: %s", detail)
            self._fault = (detail.strip().splitlines() or [""])[-1][:300]
            if kind == "error":
                self._set_status(IndexerStatus(IndexerState.ERROR, self._fault))
            return
        if kind == "repaired":
            log.warning("the index was repaired (%s): everything is indexed again", detail)
        if kind in ("anew", "waits"):
            self._set_progress(kind, detail)
        if kind == "purged":
            self._app.searcher.drop_memory()
            self._app.sharing.record_purge()
        if kind in ("words-idle", "idle"):
            self._restarts.reset()
            if detail == str(self._sent) and not self._unsent:  # otherwise the event is older than the last order
                self._has_scanned = True
                self._pending_state = IndexerState.IDLE if kind == "idle" else IndexerState.EMBEDDING
        elif kind == "words" and detail:
            self._restarts.reset()
            self._set_status(IndexerStatus(IndexerState.INDEXING_WORDS))
            self._pending_state = None
            self._app.daemon.progress["words"] = detail
        self._has_new_graph |= kind == "graph"
        self._refresh_requested.set()

    async def _refresh_loop(self) -> None:
        while True:
            await self._refresh_requested.wait()
            self._refresh_requested = trio.Event()
            graph, self._has_new_graph = self._has_new_graph, False
            reached, self._pending_state = self._pending_state, None
            sent = self._sent
            started = trio.current_time()
            try:
                await blocking(self._app.searcher.refresh, graph)
                if await blocking(self._source_marks.update):
                    self._refresh_requested.set()
            except CorruptIndex:
                pass  # search has reported it, and the indexer repairs it
            except Exception:
                log.exception("search could not refresh its index")
            if reached is not None and sent == self._sent and not self._unsent:
                self._app.searcher.mark_caught_up()
                self._set_status(IndexerStatus(reached))  # only after the refresh does search use the new index
            # A tenth of the time at most: a bulk load commits all the time, small changes are found without a refresh.
            await trio.sleep(max(_REFRESH_SECONDS, 10 * (trio.current_time() - started)))

    def _set_progress(self, name: str, detail: str) -> None:
        if detail:
            self._app.daemon.progress[name] = detail
        else:
            self._app.daemon.progress.pop(name, None)

    def _set_status(self, status: IndexerStatus) -> None:
        before = self.behind()
        self._status = status
        self._app.daemon.progress["state"] = render_indexer_status(status)
        if self.behind() != before:
            self._app.searcher.invalidate_results()
