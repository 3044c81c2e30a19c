"""Indexer: update the full-text index first, then the vectors, then the vector graph.

It runs in a separate process or within a command.
"""

import contextlib
import os
import queue
import threading
import traceback
from collections.abc import Callable, Iterable

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.corruption import describe_damage, mark_damaged, repair
from ctxfs.index.engines.fulltext import FullText
from ctxfs.index.engines.vectors import drop_graph
from ctxfs.index.events import Event, Notify
from ctxfs.index.ingest.embed_worker import EmbedWorker
from ctxfs.index.ingest.ingester import Ingester
from ctxfs.index.options import IndexedRoot, IndexerOptions
from ctxfs.model.errors import CommandError

Order = tuple[str, object]

_MIN_RETRY_SECONDS = 5.0  # until a failed embedder is tried again; doubles after each failure
_MAX_RETRY_SECONDS = 300.0


class Indexer:
    """An indexer with two threads: one updates the full-text index, one embeds. Any thread may enqueue orders."""

    def __init__(self, options: IndexerOptions, notify: Notify) -> None:
        self._options = options
        self._notify = notify
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._full_text_busy = threading.Event()
        self._done_orders = 0
        self._ingester: Ingester | None = None
        self._threads = [
            threading.Thread(target=self._run_guarded, args=(work,), name=name, daemon=True)
            for name, work in (("words", self._update_full_text), ("meaning", self._update_vectors))
        ]

    def start(self) -> None:
        """Start both threads, after a repair of engines that are marked as damaged."""
        if reason := repair(self._options.folder):
            self._notify(Event("repaired", reason))
        self._full_text_busy.set()
        for thread in self._threads:
            thread.start()

    def set_roots(self, roots: list[IndexedRoot]) -> None:
        """Replace the list of sources and scan them."""
        self._orders.put(("roots", roots))

    def index_changes(self, paths: list[tuple[str, tuple[str, ...]]]) -> None:
        """Update the index for paths, each (prefix, parts), that may have changed."""
        self._orders.put(("changed", paths))

    def rebuild(self, roots: list[IndexedRoot]) -> None:
        """Replace the list of sources and read all of their files again."""
        self._orders.put(("rebuild", roots))

    def purge(self) -> None:
        """Remove every trace of deleted files from the index."""
        self._orders.put(("purge", None))

    def stop(self) -> None:
        """Finish the current batch and end both threads."""
        self._stopping.set()
        if self._ingester is not None:
            self._ingester.prepare_to_stop()
        self._orders.put(("stop", None))
        self._wake.set()
        for thread in self._threads:
            thread.join()

    def _run_guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except CommandError as error:
            self._notify(Event("error", f"{error.message}. {error.remedy}"))
        except BaseException as error:
            if reason := describe_damage(error):
                mark_damaged(self._options.folder, reason)
            self._notify(Event("failed", traceback.format_exc()))

    def _update_full_text(self) -> None:
        ingester = Ingester(
            Catalog(self._options.folder),
            FullText(self._options.folder / "words", make=True),
            self._options.max_file_bytes,
            lambda detail: self._notify(Event("words", detail)),
        )
        ingester.stop = self._stopping
        self._ingester = ingester
        try:
            ingester.recover()
            while not self._stopping.is_set():
                self._process_orders(ingester)
        finally:
            ingester.close()

    def _process_orders(self, ingester: Ingester) -> None:
        orders = [self._orders.get()]
        while not self._orders.empty():
            orders.append(self._orders.get())
        self._full_text_busy.set()
        for order, value in merge_changes(orders):
            self._process_order(ingester, order, value)
        self._done_orders += len(orders)
        if self._orders.empty():
            self._full_text_busy.clear()
            self._wake.set()
            self._notify(Event("words-idle", str(self._done_orders)))

    def _process_order(self, ingester: Ingester, order: str, value: object) -> None:
        if order == "purge":
            ingester.purge()
            drop_graph(self._options.folder)
            self._notify(Event("purged"))
        elif order in ("roots", "rebuild") and isinstance(value, list):
            ingester.set_roots(value)
            (ingester.rebuild if order == "rebuild" else ingester.scan_all)()
        elif order == "changed" and isinstance(value, list):
            ingester.index_changes(value)

    def _update_vectors(self) -> None:
        worker = EmbedWorker(self._options, self._notify)
        worker.stop = self._stopping
        retry_seconds: float | None = None
        try:
            while not self._stopping.is_set():
                self._wake.wait(retry_seconds)
                self._wake.clear()
                try:
                    # The full-text index comes first: both kinds of work at once would delay both.
                    worker.run_pending(yield_to=self._full_text_busy.is_set)
                except CommandError as error:
                    # Retry: the server may respond later, or the model may be installed.
                    self._notify(Event("waits", f"{error.message}. {error.remedy}"))
                    retry_seconds = min(2 * retry_seconds, _MAX_RETRY_SECONDS) if retry_seconds else _MIN_RETRY_SECONDS
                except Exception as error:
                    if describe_damage(error):
                        raise
                    # A text that the model rejects, or a full disk, must not stop the full-text index.
                    traceback.print_exc()
                    self._notify(Event("waits", f"meaning cannot go on: {type(error).__name__}: {str(error)[:200]}"))
                    retry_seconds = min(2 * retry_seconds, _MAX_RETRY_SECONDS) if retry_seconds else _MIN_RETRY_SECONDS
                else:
                    if retry_seconds:
                        self._notify(Event("waits"))
                    retry_seconds = None
                if not self._stopping.is_set() and not self._full_text_busy.is_set():
                    worker.refresh_graph()
                    self._notify(Event("idle", str(self._done_orders)))
        finally:
            worker.close()


def merge_changes(orders: Iterable[Order]) -> list[Order]:
    """Return the orders with consecutive `changed` orders merged into one, without duplicate paths.

    The indexer reads a path in its current state when it processes the order. So a file that is written a hundred times
    while another file is read is itself read only once.
    """
    merged: list[Order] = []
    for order, value in orders:
        if order == "changed" and merged and merged[-1][0] == "changed":
            paths = merged[-1][1]
            assert isinstance(paths, list) and isinstance(value, list)
            merged[-1] = ("changed", list(dict.fromkeys([*paths, *value])))
        else:
            merged.append((order, value))
    return merged


def lower_priority() -> None:
    """Raise the niceness of the process by 10, so that other processes run first."""
    with contextlib.suppress(OSError):
        os.nice(10)
