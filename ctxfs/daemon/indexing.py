"""Keeps an indexer process alive and passes on what it says."""

import contextlib
import logging
import subprocess
import sys

import trio

from ctxfs.app import App
from ctxfs.daemon.index_wire import options_to_wire, roots_to_wire
from ctxfs.rpc.wire import FrameReader, pack_frame
from ctxfs.threads import blocking

log = logging.getLogger(__name__)

_RESTART_SECONDS = 2.0
_MAX_RESTARTS = 5
_REFRESH_SECONDS = 0.05


class IndexingService:
    """The daemon's handle on the indexer: orders go in, `app.searcher` is refreshed as it commits."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._process: trio.Process | None = None
        self._wanted = trio.Event()
        self._graph = False
        self._state("starting")

    async def run(self) -> None:
        """Run the indexer; start it again, a few times, if it dies."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._refresh_loop)
            for _ in range(_MAX_RESTARTS):
                await self._run_once()
                log.error("the indexer process ended; it is started again")
                self._state("restarting")
                await trio.sleep(_RESTART_SECONDS)
            log.error("the indexer process keeps ending: nothing new is indexed; see run/daemon.log")
            self._state("down: the indexer keeps ending, see run/daemon.log")

    async def send(self, order: str, value: object = None) -> None:
        """Give an order; lost orders are made up for by the scan at the indexer's start."""
        process = self._process
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await process.stdin.send_all(pack_frame([order, value]))

    async def send_roots(self) -> None:
        """Tell the indexer which sources there are now."""
        self._state("scanning")
        await self.send("roots", roots_to_wire(self._app.indexed_roots()))

    async def _run_once(self) -> None:
        self._process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "ctxfs.daemon.index_process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            await self.send("start", options_to_wire(self._app.indexer_options()))
            await self.send_roots()
            reader = FrameReader()
            assert self._process.stdout is not None
            async for data in self._process.stdout:
                for kind, detail in reader.feed(data):
                    self._take(kind, detail)
        finally:
            process, self._process = self._process, None
            with trio.CancelScope(shield=True):
                await _end(process)

    def _take(self, kind: str, detail: str) -> None:
        if kind in ("error", "failed"):
            log.error("indexer: %s", detail)
            self._state(f"error: {detail.strip().splitlines()[-1]}")
            return
        if kind == "words-idle":
            self._state("embedding")
        elif kind == "idle":
            self._state("idle")
        elif kind == "words" and detail:
            self._state("indexing words")
            self._app.progress["words"] = detail
        self._graph |= kind == "graph"
        self._wanted.set()

    async def _refresh_loop(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            graph, self._graph = self._graph, False
            try:
                await blocking(self._app.searcher.refresh, graph)
            except Exception:
                log.exception("search could not take in what was indexed")
            await trio.sleep(_REFRESH_SECONDS)

    def _state(self, state: str) -> None:
        self._app.progress["state"] = state


async def _end(process: trio.Process) -> None:
    """Close its orders so that it finishes its batch; be firm after five seconds."""
    if process.stdin is not None:
        await process.stdin.aclose()
    with trio.move_on_after(5):
        await process.wait()
        return
    process.kill()
    await process.wait()
