"""Embedding: compute vectors of new chunks, re-embed all chunks for a new model, and keep the vector graph current."""

import hashlib
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from ctxfs import heap
from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.embedders import Embedder, name_of, open_embedder
from ctxfs.index.engines.embeddings import EmbeddingModel, Embeddings, Waiting
from ctxfs.index.engines.vectors import drop_graph, is_graph_sound, pack_vector, read_side_car
from ctxfs.index.events import Event, Notify
from ctxfs.index.extract.text_features import essence
from ctxfs.index.options import EmbedderSpec, IndexerOptions
from ctxfs.model.errors import CommandError

EMBED_BATCH = 128
_GRAPH_GROWTH = 0.05
_GRAPH_LEAST = 2000
_WASTE = 0.3

Assign = Callable[[Iterable[tuple[int, int]]], None]


class EmbeddingQueue:
    """The queue of chunks without a vector, in the order of `Embeddings.queue`. Newer chunks enter at the front.

    Sorting half a million chunks takes a second, so it is done once and not for every batch.
    """

    def __init__(self, stored: Embeddings) -> None:
        self._stored = stored
        self._numbers: deque[int] = deque()
        self._last = 0  # the highest chunk number seen

    def take(self, limit: int) -> list[Waiting]:
        """Return the next chunks, at most `limit`; none when every chunk has a vector."""
        if not self._numbers:
            self._last = 0
        newer = self._stored.queue(self._last)
        self._numbers.extendleft(reversed(newer))
        self._last = max([self._last, *newer])
        while self._numbers:
            numbers = [self._numbers.popleft() for _ in range(min(limit, len(self._numbers)))]
            if waiting := self._stored.waiting(numbers):
                return waiting
        return []


class EmbedWorker:
    """The worker that embeds chunks. Only one thread may use it; `stop` may be set from any thread.

    The *serving* model answers searches. A *coming* model embeds all chunks in the background and then replaces it.
    """

    def __init__(self, options: IndexerOptions, notify: Notify) -> None:
        self._options = options
        self._notify = notify
        self._catalog = Catalog(options.folder)
        self._stored = self._catalog.embeddings
        self._queue = EmbeddingQueue(self._stored)
        self._opened: dict[EmbedderSpec, Embedder] = {}
        self._checked = False
        self.stop = threading.Event()

    def close(self) -> None:
        """Close the catalog and release the models."""
        self._catalog.close()
        self._opened.clear()

    def run_pending(self, yield_to: Callable[[], bool] = lambda: False) -> None:
        """Embed every chunk without a vector. Return early when `stop` is set or `yield_to()` returns True.

        Raise `CommandError` if a model cannot be opened or a server does not respond. Earlier vectors are stored.
        """
        wanted = self._options.embedder
        if wanted is None:
            return
        try:
            name = name_of(wanted)
            serving = self._stored.serving
            if serving is not None and serving.name != name and not self._stored.count(serving.id)[0]:
                self._change_over(self._registered(name, wanted))  # safe: the serving model has no vectors
                serving = self._stored.serving
            if serving is None or serving.name == name:
                if self._stored.count_coming():
                    self._stored.drop_coming()
                self._keep_up(self._registered(name, wanted) if self._stored.has_waiting else None, yield_to)
            else:
                self._keep_up(serving, yield_to)
                self._embed_anew(name, wanted, yield_to)
        finally:
            self._release_models()

    def _registered(self, name: str, spec: EmbedderSpec) -> EmbeddingModel:
        known = self._stored.serving
        if known is not None and known.name == name and known.spec == spec:
            return known
        return self._stored.register(name, self._open(spec).dimensions, spec)

    def _keep_up(self, model: EmbeddingModel | None, yield_to: Callable[[], bool]) -> None:
        """Embed the chunks without a vector with the serving model."""
        while model is not None and not self.stop.is_set() and not yield_to():
            waiting = self._queue.take(EMBED_BATCH)
            if not waiting:
                return
            try:
                embedder = self._open(model.spec)
            except CommandError:
                if model.spec == self._options.embedder:
                    raise
                return  # the serving model is no longer available: these chunks get vectors from its successor
            self._embed(model, embedder, waiting, self._stored.assign)
            self._notify(Event("meaning"))

    def _embed_anew(self, name: str, spec: EmbedderSpec, yield_to: Callable[[], bool]) -> None:
        """Embed all chunks with the coming model while the serving one answers searches, then replace that one."""
        model, last = self._registered(name, spec), 0
        while not self.stop.is_set() and not yield_to():
            waiting = self._stored.waiting_for(last, EMBED_BATCH)
            if not waiting:
                if last == 0:
                    self._change_over(model)
                    return
                last = 0  # another pass for chunks that were indexed during this one
                continue
            self._embed(model, self._open(spec), waiting, self._stored.assign_coming)
            last = waiting[-1][0]
            self._notify(Event("anew", f"{self._stored.count_coming()}/{self._catalog.count_waiting()[1]}"))

    def _change_over(self, model: EmbeddingModel) -> None:
        with self._catalog.transaction():
            self._stored.change_over(model.id)
        drop_graph(self._options.folder)
        self._notify(Event("anew"))
        self._notify(Event("graph"))

    def _embed(self, model: EmbeddingModel, embedder: Embedder, waiting: Sequence[Waiting], assign: Assign) -> None:
        texts = [essence(text, heading, author) for _, heading, text, author in waiting]
        digests = [hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in texts]
        known = self._stored.known(model.id, dict.fromkeys(digests))
        new = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in known}
        found = embedder.embed(list(new.values())) if new else ()
        with self._catalog.transaction():
            for digest, vector in zip(new, found, strict=True):
                known[digest] = self._stored.add(model.id, digest, pack_vector(vector))
            assign((known[digest], chunk) for digest, (chunk, *_) in zip(digests, waiting, strict=True))

    def refresh_graph(self) -> None:
        """Rebuild the vector graph in a separate process if enough vectors are missing from it or are no longer used.

        Rebuild if at least 2000 vectors, and 5 % of the graph's, are missing. Drop unused vectors if they exceed 30 %.
        """
        model = self._stored.serving
        if model is None:
            return
        total, used = self._stored.count(model.id)
        if not self._checked:
            # If the graph's files fail their check, searches compare with every vector instead.
            if not is_graph_sound(self._options.folder):
                drop_graph(self._options.folder)
            self._checked = True
        about = read_side_car(self._options.folder)
        covered = about.count if about is not None and about.model == model.id else 0
        if total - used > _WASTE * total and total > 1000:
            self._stored.drop_unused()
            drop_graph(self._options.folder)
            total, covered = used, 0
        if total < self._options.exact_below or total - covered < max(_GRAPH_LEAST, int(_GRAPH_GROWTH * covered)):
            return
        # In a separate process, because this one would not return the memory of a build to the system.
        command = [sys.executable, "-m", "ctxfs.index.ingest.graph_process", str(self._options.folder)]
        numbers = map(str, (model.id, model.dimensions, total, self._options.threads, os.getpid()))
        done = subprocess.run([*command, *numbers], capture_output=True, text=True)
        if done.returncode:
            self._notify(Event("error", f"vector graph: {done.stderr.strip()[-500:]}"))
        else:
            self._notify(Event("graph"))

    def _open(self, spec: EmbedderSpec) -> Embedder:
        if spec not in self._opened:
            self._opened[spec] = open_embedder(spec, self._options.threads)
        return self._opened[spec]

    def _release_models(self) -> None:
        """Release the models and their memory while idle. Loading a model again takes a fifth of a second."""
        if self._opened:
            self._opened.clear()
            heap.give_back()
