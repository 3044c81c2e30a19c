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
from ctxfs.index.engines.corruption import damage, mark_damaged, repair
from ctxfs.index.engines.fulltext import FullText
from ctxfs.index.engines.vectors import drop_graph
from ctxfs.index.events import Event, Notify
from ctxfs.index.ingest.embed_worker import EmbedWorker
from ctxfs.index.ingest.ingester import Ingester
from ctxfs.index.options import IndexedRoot, IndexerOptions
from ctxfs.model.errors import CommandError

Order = tuple[str, object]

_FIRST_PAUSE = 5.0  # seconds until a failed embedder is tried again; the pause doubles after each failure
_LONGEST_PAUSE = 300.0


class Indexer:
    """An indexer with two threads: one updates the full-text index, one embeds. Any thread may enqueue orders."""

    def __init__(self, options: IndexerOptions, notify: Notify) -> None:
        self._options = options
        self._notify = notify
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._busy_with_words = threading.Event()
        self._done = 0
        self._follower: Ingester | None = None
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in (("words", self._follow_words), ("meaning", self._follow_meaning))
        ]

    def start(self) -> None:
        """Start both threads, after a repair of engines that are marked as damaged."""
        if reason := repair(self._options.folder):
            self._notify(Event("repaired", reason))
        self._busy_with_words.set()
        for thread in self._threads:
            thread.start()

    def set_roots(self, roots: list[IndexedRoot]) -> None:
        """Replace the list of sources and scan them."""
        self._orders.put(("roots", roots))

    def changed(self, places: list[tuple[str, tuple[str, ...]]]) -> None:
        """Update the index for paths, each (prefix, parts), that may have changed."""
        self._orders.put(("changed", places))

    def rebuild(self, roots: list[IndexedRoot]) -> None:
        """Replace the list of sources and read all of their files again."""
        self._orders.put(("rebuild", roots))

    def purge(self) -> None:
        """Remove every trace of deleted files from the index."""
        self._orders.put(("purge", None))

    def stop(self) -> None:
        """Finish the current batch and end both threads."""
        self._stopping.set()
        if self._follower is not None:
            self._follower.prepare_to_end()
        self._orders.put(("stop", None))
        self._wake.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except CommandError as error:
            self._notify(Event("error", f"{error.message}. {error.remedy}"))
        except BaseException as error:
            if reason := damage(error):
                mark_damaged(self._options.folder, reason)
            self._notify(Event("failed", traceback.format_exc()))

    def _follow_words(self) -> None:
        follower = Ingester(
            Catalog(self._options.folder),
            FullText(self._options.folder / "words", make=True),
            self._options.max_file_bytes,
            lambda detail: self._notify(Event("words", detail)),
        )
        follower.stop = self._stopping
        self._follower = follower
        try:
            follower.recover()
            while not self._stopping.is_set():
                self._next_orders(follower)
        finally:
            follower.close()

    def _next_orders(self, follower: Ingester) -> None:
        orders = [self._orders.get()]
        while not self._orders.empty():
            orders.append(self._orders.get())
        self._busy_with_words.set()
        for order, value in merge_changes(orders):
            self._carry_out(follower, order, value)
        self._done += len(orders)
        if self._orders.empty():
            self._busy_with_words.clear()
            self._wake.set()
            self._notify(Event("words-idle", str(self._done)))

    def _carry_out(self, follower: Ingester, order: str, value: object) -> None:
        if order == "purge":
            follower.purge()
            drop_graph(self._options.folder)
            self._notify(Event("purged"))
        elif order in ("roots", "rebuild") and isinstance(value, list):
            follower.set_roots(value)
            (follower.rebuild if order == "rebuild" else follower.scan_all)()
        elif order == "changed" and isinstance(value, list):
            follower.changed(value)

    def _follow_meaning(self) -> None:
        meaning = EmbedWorker(self._options, self._notify)
        meaning.stop = self._stopping
        pause: float | None = None
        try:
            while not self._stopping.is_set():
                self._wake.wait(pause)
                self._wake.clear()
                try:
                    # The full-text index comes first: both kinds of work at once would delay both.
                    meaning.run_pending(yield_to=self._busy_with_words.is_set)
                except CommandError as error:
                    # Retry: the server may respond later, or the model may be installed.
                    self._notify(Event("waits", f"{error.message}. {error.remedy}"))
                    pause = min(2 * pause, _LONGEST_PAUSE) if pause else _FIRST_PAUSE
                except Exception as error:
                    if damage(error):
                        raise
                    # A text that the model rejects, or a full disk, must not stop the full-text index.
                    traceback.print_exc()
                    self._notify(Event("waits", f"meaning cannot go on: {type(error).__name__}: {str(error)[:200]}"))
                    pause = min(2 * pause, _LONGEST_PAUSE) if pause else _FIRST_PAUSE
                else:
                    if pause:
                        self._notify(Event("waits"))
                    pause = None
                if not self._stopping.is_set() and not self._busy_with_words.is_set():
                    meaning.refresh_graph()
                    self._notify(Event("idle", str(self._done)))
        finally:
            meaning.close()


def merge_changes(orders: Iterable[Order]) -> list[Order]:
    """Return the orders with consecutive `changed` orders merged into one, without duplicate paths.

    The indexer reads a path in its current state when it processes the order. So a file that is written a hundred times
    while another file is read is itself read only once.
    """
    merged: list[Order] = []
    for order, value in orders:
        if order == "changed" and merged and merged[-1][0] == "changed":
            places = merged[-1][1]
            assert isinstance(places, list) and isinstance(value, list)
            merged[-1] = ("changed", list(dict.fromkeys([*places, *value])))
        else:
            merged.append((order, value))
    return merged


def lower_priority() -> None:
    """Raise the niceness of the process by 10, so that other processes run first."""
    with contextlib.suppress(OSError):
        os.nice(10)
