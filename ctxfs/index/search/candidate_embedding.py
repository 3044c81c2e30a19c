"""Embedding within a query: vectors of the best candidates that the indexer has not embedded yet, in bounded time."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path as HostPath
from typing import TYPE_CHECKING

from ctxfs.index.engines.catalog_schema import ChunkRow
from ctxfs.index.engines.embedding_requests import EmbeddingRequests
from ctxfs.index.extract.text_features import build_embedding_text
from ctxfs.model.errors import CommandError

if TYPE_CHECKING:
    # Imported for the first query: see `searcher`.
    from ctxfs.index.engines.embedders import Embedder, Vectors

log = logging.getLogger(__name__)

DEFAULT_QUESTION_SECONDS = 0.06
EMBED_THREADS = 2
_MAX_CACHED_VECTORS = 4096  # 6 MB
_Key = tuple[str, bytes]  # name of the model, digest of the text


@dataclass(slots=True)
class _Job:
    """Texts to embed by digest, best first; `chunks` are their chunks."""

    model: str
    embedder: Embedder
    texts: Mapping[bytes, str]
    chunks: Mapping[int, bytes]
    done: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)


class CandidateEmbedder:
    """An embedder of candidates that keeps its vectors, and passes them and the rest of the work on to the indexer.

    Methods may be called from several threads, without the view's lock.
    """

    def __init__(self, folder: HostPath, budget_seconds: float) -> None:
        """Take the folder of the index, and the time that one call may take; 0 embeds nothing."""
        self._budget_seconds = budget_seconds
        self._requests = EmbeddingRequests(folder)  # used by the executor's thread only
        self._executor = ThreadPoolExecutor(1, "ctxfs-candidates")
        self._cache: OrderedDict[_Key, Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def embed(self, rows: Sequence[ChunkRow], model: str, embedder: Embedder) -> dict[int, Vectors]:
        """Return the vectors of as many of `rows`, best first, as the time allows, by the number of the chunk.

        The indexer embeds the others before all else.
        """
        texts: dict[bytes, str] = {}
        chunks: dict[int, bytes] = {}
        for row in rows:
            text = build_embedding_text(row.text, row.heading, row.author, row.path)
            digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
            chunks[row.id] = digest
            texts[digest] = text
        vectors = self._cached(model, texts)
        if len(vectors) < len(texts):
            deadline = time.monotonic() + self._budget_seconds
            missing = {digest: text for digest, text in texts.items() if digest not in vectors}
            job = _Job(
                model, embedder, missing, {chunk: digest for chunk, digest in chunks.items() if digest in missing}
            )
            if not self._budget_seconds:
                job.stop.set()
            self._executor.submit(self._run, job)
            job.done.wait(max(0.0, deadline - time.monotonic()))
            job.stop.set()
            vectors |= self._cached(model, missing)
        return {chunk: vectors[digest] for chunk, digest in chunks.items() if digest in vectors}

    def forget(self) -> None:
        """Forget all vectors, after an erasure."""
        with self._lock:
            self._cache.clear()

    def close(self) -> None:
        """Wait for the work in progress, and close the requests; another call opens them again."""
        self._executor.submit(self._requests.close).result()

    def _cached(self, model: str, digests: Mapping[bytes, str]) -> dict[bytes, Vectors]:
        with self._lock:
            return {digest: self._cache[model, digest] for digest in digests if (model, digest) in self._cache}

    def _run(self, job: _Job) -> None:
        """Embed the texts of a job, a few at a time, until its caller stops waiting."""
        from ctxfs.index.engines.embedders import Stage

        new: dict[bytes, tuple[Vectors, int]] = {}
        try:
            self._keep(job.model, self._load_requested(job))
            missing = [digest for digest in job.texts if (job.model, digest) not in self._cache]
            for start in range(0, len(missing), EMBED_THREADS):
                if job.stop.is_set():
                    break
                group = missing[start : start + EMBED_THREADS]
                rows, has_more = job.embedder.embed_stage([job.texts[digest] for digest in group], Stage.WINDOW)
                stages = [int(Stage.WHOLE) if more else 0 for more in has_more]
                new |= dict(zip(group, zip(rows, stages, strict=True), strict=True))
                self._keep(job.model, dict(zip(group, rows, strict=True)))
        except CommandError as error:
            log.debug("candidates are not embedded: %s", error.message)
        except Exception:
            log.exception("candidates of a question could not be embedded")
        finally:
            job.done.set()
        self._pass_on(job, new)

    def _load_requested(self, job: _Job) -> dict[bytes, Vectors]:
        """Return the vectors that earlier questions have computed, possibly in other processes."""
        from ctxfs.index.engines.vectors import unpack_vectors

        stored = self._requests.vectors(job.model, list(job.texts))
        rows = unpack_vectors([vector for vector, _ in stored.values()]) if stored else ()
        return dict(zip(stored, rows, strict=True))

    def _pass_on(self, job: _Job, new: Mapping[bytes, tuple[Vectors, int]]) -> None:
        """Store the new vectors for the indexer, and request the chunks, because some still have no vector."""
        from ctxfs.index.engines.vectors import pack_vector

        if new:
            packed = {digest: (pack_vector(vector), stage) for digest, (vector, stage) in new.items()}
            self._requests.add_vectors(job.model, packed)
        # Chunks of the overlay have negative numbers, which the catalog does not have.
        if indexed := [chunk for chunk in job.chunks if chunk > 0]:
            self._requests.request_chunks(indexed)

    def _keep(self, model: str, vectors: Mapping[bytes, Vectors]) -> None:
        with self._lock:
            self._cache.update(((model, digest), vector) for digest, vector in vectors.items())
            while len(self._cache) > _MAX_CACHED_VECTORS:
                self._cache.popitem(last=False)
