"""Embedding: compute vectors of new chunks, re-embed all chunks for a new model, and keep the vector graph current."""

import contextlib
import hashlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from ctxfs import heap
from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.embedders import Embedder, Stage, model_name, open_embedder
from ctxfs.index.engines.embedding_requests import SHARED_VECTORS, EmbeddingRequests
from ctxfs.index.engines.embeddings import (
    DEVICE_FACT,
    RATE_FACT,
    EmbeddingModel,
    Embeddings,
    UnfinishedVector,
    WaitingChunk,
)
from ctxfs.index.engines.vectors import (
    drop_graph,
    has_graph_library,
    is_graph_sound,
    pack_vector,
    read_side_car,
    unpack_vectors,
)
from ctxfs.index.events import Event, Notify
from ctxfs.index.extract.text_features import build_embedding_text
from ctxfs.index.options import EmbedderSpec, IndexerOptions
from ctxfs.model.errors import CommandError

log = logging.getLogger(__name__)

EMBED_BATCH_CHUNKS = 128
_RATE_WEIGHT = 0.2  # of the last batch in the mean
_MAX_FRONT_CHUNKS = 2000
_MAX_LOCAL_CHUNKS = 64
_LOCAL_SECONDS = 1.0
_MIN_GRAPH_GROWTH = 0.05
_MIN_GRAPH_VECTORS = 2000
_MAX_UNUSED_SHARE = 0.3

Assign = Callable[[Iterable[tuple[int, int]]], None]


class EmbeddingQueue:
    """The queue of chunks without a vector, in the order of `Embeddings.queue`.

    Chunks that queries requested come first, then chunks that were indexed later.
    Sorting half a million chunks takes a second, so it is done again only if more than `_MAX_FRONT_CHUNKS` are new.
    """

    def __init__(self, embeddings: Embeddings, requests: EmbeddingRequests) -> None:
        self._embeddings = embeddings
        self._requests = requests
        self._numbers: deque[int] = deque()
        self._last_chunk = 0  # the highest chunk number seen

    def take(self, limit: int) -> list[WaitingChunk]:
        """Return the next chunks, at most `limit`; none when every chunk has a vector."""
        newer = self._embeddings.queue_after(self._last_chunk) if self._numbers else []
        if not self._numbers or len(newer) > _MAX_FRONT_CHUNKS:
            # A new source has arrived, not a change: it must not displace smaller ones.
            newer = self._embeddings.queue()
            self._numbers.clear()
        self._numbers.extendleft(reversed(newer))
        self._last_chunk = max([self._last_chunk, *newer])
        self._numbers.extendleft(reversed(self._requests.take_chunks()))
        while self._numbers:
            numbers = [self._numbers.popleft() for _ in range(min(limit, len(self._numbers)))]
            if waiting := self._embeddings.waiting_chunks(numbers):
                return waiting
        return []


class EmbeddingRate:
    """The measured speed of embedding, in the catalog, so that any process can estimate the remaining time."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._chunks_per_second = 0.0

    @contextlib.contextmanager
    def measured(self, chunks: int) -> Iterator[None]:
        """Measure the time of a block that embeds this number of chunks."""
        start = time.monotonic()
        yield
        rate = chunks / max(time.monotonic() - start, 1e-6)
        previous = self._chunks_per_second or rate
        self._chunks_per_second = previous + _RATE_WEIGHT * (rate - previous)

    def store(self) -> None:
        """Store the rate in the catalog, within the transaction of the caller."""
        if self._chunks_per_second:
            self._catalog.set_fact(RATE_FACT, f"{self._chunks_per_second:.1f}")


class EmbedWorker:
    """The worker that embeds chunks. Only one thread may use it; `stop` may be set from any thread.

    The *serving* model answers searches. A *coming* model embeds all chunks in the background and then replaces it.
    """

    def __init__(self, options: IndexerOptions, notify: Notify) -> None:
        self._options = options
        self._notify = notify
        self._catalog = Catalog(options.folder)
        self._embeddings = self._catalog.embeddings
        self._requests = EmbeddingRequests(options.folder)
        self._shared = EmbeddingRequests(options.folder, SHARED_VECTORS)
        self._queue = EmbeddingQueue(self._embeddings, self._requests)
        self._rate = EmbeddingRate(self._catalog)
        self._embedders: dict[EmbedderSpec, Embedder] = {}
        self._is_graph_checked = False
        self.stop = threading.Event()

    def close(self) -> None:
        """Close the catalog and release the models."""
        self._catalog.close()
        self._requests.close()
        self._shared.close()
        self._embedders.clear()

    def count_waiting(self) -> int:
        """Return the number of chunks that wait for a vector."""
        return self._catalog.count_waiting()[0]

    def run_pending(self, yield_to: Callable[[], bool] = lambda: False) -> None:
        """Embed every chunk without a vector. Return early when `stop` is set or `yield_to()` returns True.

        Raise `CommandError` if a model cannot be opened or a server does not respond. Earlier vectors are stored.
        """
        spec = self._options.embedder
        if spec is None:
            return
        try:
            name = model_name(spec)
            serving = self._embeddings.serving
            if serving is not None and serving.name != name and not self._embeddings.count(serving.id)[0]:
                self._switch_model(self._register_model(name, spec))  # safe: the serving model has no vectors
                serving = self._embeddings.serving
            if serving is None or serving.name == name:
                if self._embeddings.count_next():
                    self._embeddings.cancel_switch()
                self._embed_new(self._register_model(name, spec) if self._has_work(serving) else None, yield_to)
            else:
                self._embed_new(serving, yield_to)
                self._reembed(name, spec, yield_to)
        finally:
            self._release_models()

    def _has_work(self, serving: EmbeddingModel | None) -> bool:
        return self._embeddings.has_waiting or (serving is not None and bool(self._next_unfinished(serving)))

    def _register_model(self, name: str, spec: EmbedderSpec) -> EmbeddingModel:
        serving = self._embeddings.serving
        if serving is not None and serving.name == name and serving.spec == spec:
            return serving
        return self._embeddings.register(name, self._open_embedder(spec).dimensions, spec)

    def _embed_new(self, model: EmbeddingModel | None, yield_to: Callable[[], bool]) -> None:
        """Embed the chunks without a vector with the serving model."""
        while model is not None and not self.stop.is_set() and not yield_to():
            waiting = self._queue.take(EMBED_BATCH_CHUNKS)
            unfinished = () if waiting else self._next_unfinished(model)
            if not waiting and not unfinished:
                return
            try:
                embedder = self._open_embedder(model.spec)
            except CommandError:
                if model.spec == self._options.embedder:
                    raise
                return  # the serving model is no longer available: these chunks get vectors from its successor
            if waiting:
                self._embed_batch(model, embedder, waiting, Stage.BEGINNING, self._embeddings.assign)
            else:
                self._refine_batch(model, embedder, unfinished)
            self._notify(Event("meaning"))

    def _next_unfinished(self, model: EmbeddingModel) -> Sequence[UnfinishedVector]:
        """Return the next vectors to refine: all first windows come before the first of the rests."""
        for stage in (Stage.WINDOW, Stage.WHOLE):
            if vectors := self._embeddings.unfinished_vectors(model.id, stage, EMBED_BATCH_CHUNKS):
                return vectors
        return ()

    def _refine_batch(self, model: EmbeddingModel, embedder: Embedder, vectors: Sequence[UnfinishedVector]) -> None:
        """Add the next part of their texts to vectors of the same stage."""
        stage = Stage(vectors[0].next_stage)
        texts = [_embedding_text(vector.chunk) for vector in vectors]
        rows, has_more = embedder.embed_stage(texts, stage, unpack_vectors([vector.vector for vector in vectors]))
        with self._catalog.transaction():
            for vector, row, more in zip(vectors, rows, has_more, strict=True):
                self._embeddings.refine(model.id, vector, pack_vector(row), _next_stage(stage, more))

    def _reembed(self, name: str, spec: EmbedderSpec, yield_to: Callable[[], bool]) -> None:
        """Embed all chunks with the coming model while the serving one answers searches, then replace that one."""
        model, last_chunk = self._register_model(name, spec), 0
        while not self.stop.is_set() and not yield_to():
            waiting = self._embeddings.chunks_for_next_model(last_chunk, EMBED_BATCH_CHUNKS)
            if not waiting:
                if last_chunk == 0:
                    self._switch_model(model)
                    return
                last_chunk = 0  # another pass for chunks that were indexed during this one
                continue
            self._embed_batch(model, self._open_embedder(spec), waiting, Stage.WINDOW, self._embeddings.assign_next)
            last_chunk = waiting[-1].number
            self._notify(Event("anew", f"{self._embeddings.count_next()}/{self._catalog.count_waiting()[1]}"))

    def _switch_model(self, model: EmbeddingModel) -> None:
        with self._catalog.transaction():
            self._embeddings.switch_model(model.id)
        drop_graph(self._options.folder)
        self._notify(Event("anew"))
        self._notify(Event("graph"))

    def _embed_batch(
        self, model: EmbeddingModel, embedder: Embedder, waiting: Sequence[WaitingChunk], stage: Stage, assign: Assign
    ) -> None:
        texts = [_embedding_text(chunk) for chunk in waiting]
        digests = [hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in texts]
        vector_ids = self._embeddings.stored_vectors(model.id, dict.fromkeys(digests))
        new_texts = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in vector_ids}
        requested = self._requests.vectors(model.name, list(new_texts)) if new_texts else {}
        shared = self._shared.vectors(model.name, list(new_texts)) if new_texts and self._shared.exists else {}
        vectors = requested | shared
        if missing := {digest: text for digest, text in new_texts.items() if digest not in vectors}:
            with self._rate.measured(len(missing)):
                rows, has_more = embedder.embed_stage(list(missing.values()), stage)
            vectors |= {
                digest: (pack_vector(row), _next_stage(stage, more))
                for digest, row, more in zip(missing, rows, has_more, strict=True)
            }
        with self._catalog.transaction():
            for digest in new_texts:
                vector_ids[digest] = self._embeddings.add(model.id, digest, *vectors[digest])
            assign((vector_ids[digest], chunk.number) for digest, chunk in zip(digests, waiting, strict=True))
            self._rate.store()
            self._catalog.set_fact(DEVICE_FACT, embedder.device)
        if requested:
            self._requests.remove_vectors(model.name, requested)
        if shared:
            self._shared.remove_vectors(model.name, shared)

    def refresh_graph(self) -> None:
        """Rebuild the vector graph in a separate process if enough vectors are missing from it or are no longer used.

        Rebuild if at least 2000 vectors, and 5 % of the graph's, are missing. Drop unused vectors if they exceed 30 %.
        """
        model = self._embeddings.serving
        if model is None:
            return
        total, used = self._embeddings.count(model.id)
        if not self._is_graph_checked:
            # If the graph's files fail their check, searches compare with every vector instead.
            if not is_graph_sound(self._options.folder):
                drop_graph(self._options.folder)
            self._is_graph_checked = True
        side_car = read_side_car(self._options.folder)
        graph_count = side_car.count if side_car is not None and side_car.model == model.id else 0
        if side_car is not None and graph_count:
            # The numbers of vectors that were refined since are in the graph, but in no chunk.
            living = self._embeddings.count_until(model.id, side_car.last)
            if living < (1 - _MAX_UNUSED_SHARE) * graph_count:
                drop_graph(self._options.folder)
                graph_count = 0
        if total - used > _MAX_UNUSED_SHARE * total and total > 1000:
            self._embeddings.drop_unused()
            drop_graph(self._options.folder)
            total, graph_count = used, 0
        if not has_graph_library():
            return
        if total < self._options.exact_below or total - graph_count < max(
            _MIN_GRAPH_VECTORS, int(_MIN_GRAPH_GROWTH * graph_count)
        ):
            return
        # In a separate process, because this one would not return the memory of a build to the system.
        command = [sys.executable, "-m", "ctxfs.index.ingest.graph_process", str(self._options.folder)]
        numbers = map(str, (model.id, model.dimensions, total, self._options.threads, os.getpid()))
        result = subprocess.run([*command, *numbers], capture_output=True, text=True)
        if result.returncode:
            self._notify(Event("error", f"vector graph: {result.stderr.strip()[-500:]}"))
        else:
            self._notify(Event("graph"))

    def _open_embedder(self, spec: EmbedderSpec) -> Embedder:
        if spec not in self._embedders:
            self._embedders[spec] = open_embedder(spec, self._options.threads)
        return self._embedders[spec]

    def _release_models(self) -> None:
        """Release the models and their memory while idle. Loading a model again takes a fifth of a second."""
        if self._embedders:
            self._embedders.clear()
            heap.give_back()


def embed_few(options: IndexerOptions) -> None:
    """Embed the chunks that wait, if they are few and a local model embeds, in a second or two.

    For a process without an indexer. Errors are left to the next search, which reports them.
    """
    if options.embedder is None or options.embedder.url:
        return
    worker = EmbedWorker(options, lambda _: None)
    try:
        if 0 < worker.count_waiting() <= _MAX_LOCAL_CHUNKS:
            deadline = time.monotonic() + _LOCAL_SECONDS
            worker.run_pending(yield_to=lambda: time.monotonic() > deadline)
    except CommandError as error:
        log.debug("the chunks that wait are not embedded: %s", error.message)
    finally:
        worker.close()


def _embedding_text(chunk: WaitingChunk) -> str:
    return build_embedding_text(chunk.text, chunk.heading, chunk.author, chunk.path)


def _next_stage(stage: Stage, has_more: bool) -> int:
    """Return the next stage of a vector of `stage`; 0 if its text has no more tokens."""
    return stage + 1 if has_more else 0
