"""The indexer: words first, then meaning, then a graph over the vectors. Runs in a process of its own, or in a command."""

import contextlib
import ctypes
import gc
import hashlib
import os
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ctxfs.index.catalog import Catalog
from ctxfs.index.embed import Embedder, OnnxEmbedder, Vectors
from ctxfs.index.follow import Follower
from ctxfs.index.model_files import DIMENSIONS
from ctxfs.index.options import IndexedRoot, IndexerOptions
from ctxfs.index.traits import essence
from ctxfs.index.vectors import drop_graph, pack_vector, read_side_car
from ctxfs.index.words import Words
from ctxfs.model.errors import CommandError

EMBED_BATCH = 128
_GRAPH_GROWTH = 0.25


@dataclass(frozen=True, slots=True)
class Event:
    """Something the owner of the indexer may want to pass on: `words`, `meaning`, `graph`, `purged`, `error`, `failed`.

    `words-idle` and `idle` say that words, or everything, has caught up with the first `detail` orders.
    """

    kind: str
    detail: str = ""


Notify = Callable[[Event], None]
Order = tuple[str, object]


class MeaningIndexer:
    """Embeds what waits for it. One thread uses it."""

    def __init__(self, options: IndexerOptions, notify: Notify) -> None:
        self._options = options
        self._notify = notify
        self._catalog = Catalog(options.folder)
        self._embedder: Embedder | None = None
        self.stop = threading.Event()

    def close(self) -> None:
        """Let go of the catalog and the model."""
        self._catalog.close()
        self._embedder = None

    def run_pending(self, yield_to: Callable[[], bool] = lambda: False) -> None:
        """Embed every chunk without a vector; returns early when `stop` is set, or while `yield_to()` is true."""
        if self._options.model is None:
            return
        while not self.stop.is_set() and not yield_to():
            waiting = self._catalog.waiting(EMBED_BATCH)
            if not waiting:
                break
            self._embed(waiting)
            self._notify(Event("meaning"))
        self._release_model()

    def refresh_graph(self) -> None:
        """Build the graph anew, in a process of its own, when enough has been added or is no longer used."""
        total, used = self._catalog.count_vectors()
        about = read_side_car(self._options.folder, DIMENSIONS)
        covered = about["count"] if about else 0
        if total - used > 0.3 * total and total > 1000:
            self._catalog.drop_unused_vectors()
            total = used
        if total < self._options.exact_below or total - covered < max(2000, int(_GRAPH_GROWTH * covered)):
            return
        # Apart, because what a build allocates would otherwise stay with this process.
        command = [sys.executable, "-m", "ctxfs.index.graph_process", str(self._options.folder)]
        done = subprocess.run([*command, str(total), str(self._options.threads)], capture_output=True, text=True)
        if done.returncode:
            self._notify(Event("error", f"vector graph: {done.stderr.strip()[-500:]}"))
        else:
            self._notify(Event("graph"))

    def _embed(self, waiting: list[tuple[int, str, str, str]]) -> None:
        embedder = self._loaded()
        texts = [essence(text, heading, author) for _, heading, text, author in waiting]
        digests = [hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in texts]
        known = self._catalog.known_vectors(dict.fromkeys(digests))
        new = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in known}
        found: Iterable[Vectors] = embedder.embed(list(new.values())) if new else ()
        self._catalog.begin()
        try:
            for digest, vector in zip(new, found, strict=True):
                known[digest] = self._catalog.add_vector(digest, pack_vector(vector))
            self._catalog.assign((known[digest], chunk) for digest, (chunk, *_) in zip(digests, waiting, strict=True))
            self._catalog.end()
        except BaseException:
            self._catalog.abandon()
            raise

    def _loaded(self) -> Embedder:
        if self._embedder is None:
            assert self._options.model is not None
            self._embedder = OnnxEmbedder(self._options.model, self._options.threads)
            if self._catalog.fact("model") != self._embedder.name:
                self._catalog.begin()
                self._catalog.drop_vectors()
                self._catalog.set_fact("model", self._embedder.name)
                self._catalog.end()
        return self._embedder

    def _release_model(self) -> None:
        """Idle is idle: the model is loaded again in a fifth of a second when it is needed."""
        if self._embedder is not None:
            self._embedder = None
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)  # glibc keeps a batch's memory for the next one, which may never come


class Indexer:
    """Takes orders from any thread and carries them out in two: one for words, one for meaning."""

    def __init__(self, options: IndexerOptions, notify: Notify) -> None:
        self._options = options
        self._notify = notify
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._busy_with_words = threading.Event()
        self._done = 0
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in (("words", self._follow_words), ("meaning", self._follow_meaning))
        ]

    def start(self) -> None:
        """Start both threads."""
        self._busy_with_words.set()
        for thread in self._threads:
            thread.start()

    def set_roots(self, roots: list[IndexedRoot]) -> None:
        """These are the sources; scan them."""
        self._orders.put(("roots", roots))

    def changed(self, places: list[tuple[str, tuple[str, ...]]]) -> None:
        """(prefix, parts)… may have changed."""
        self._orders.put(("changed", places))

    def rebuild(self, roots: list[IndexedRoot]) -> None:
        """These are the sources; read everything in them again."""
        self._orders.put(("rebuild", roots))

    def purge(self) -> None:
        """Keep no trace of files that are gone."""
        self._orders.put(("purge", None))

    def stop(self) -> None:
        """Finish the current batch and end both threads."""
        self._stopping.set()
        self._orders.put(("stop", None))
        self._wake.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except CommandError as error:
            self._notify(Event("error", f"{error.message}. {error.remedy}"))
        except Exception:
            self._notify(Event("failed", traceback.format_exc()))

    def _follow_words(self) -> None:
        follower = Follower(
            Catalog(self._options.folder),
            Words(self._options.folder / "words"),
            self._options.max_file_bytes,
            lambda detail: self._notify(Event("words", detail)),
        )
        follower.stop = self._stopping
        try:
            follower.recover()
            while not self._stopping.is_set():
                self._next_orders(follower)
        finally:
            follower.close()

    def _next_orders(self, follower: Follower) -> None:
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

    def _carry_out(self, follower: Follower, order: str, value: object) -> None:
        if order == "purge":
            follower.purge()
            drop_graph(self._options.folder)
            self._notify(Event("purged"))
        elif order in ("roots", "rebuild") and isinstance(value, list):
            follower.set_roots(value)
            (follower.rebuild if order == "rebuild" else follower.scan_all)()
        elif order == "changed" and isinstance(value, list):
            for prefix, parts in value:
                try:
                    follower.changed(prefix, parts)
                except KeyError:
                    continue  # the source was removed meanwhile

    def _follow_meaning(self) -> None:
        meaning = MeaningIndexer(self._options, self._notify)
        meaning.stop = self._stopping
        try:
            while not self._stopping.is_set():
                self._wake.wait()
                self._wake.clear()
                # Words first: two kinds of work at once would only make both late.
                meaning.run_pending(yield_to=self._busy_with_words.is_set)
                if not self._stopping.is_set() and not self._busy_with_words.is_set():
                    meaning.refresh_graph()
                    self._notify(Event("idle", str(self._done)))
        finally:
            meaning.close()


def merge_changes(orders: Iterable[Order]) -> list[Order]:
    """The same orders with neighbouring `changed` ones as one, each place in it once.

    A place is looked at as it is when its turn comes, so a file that is written a hundred times while another is being
    read is read once.
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
    """Let everything else go first."""
    with contextlib.suppress(OSError):
        os.nice(10)
