"""The vectors of an index in a shared store: a node publishes those that it has computed, and the others fetch them.

A vector follows from the name of the model and the digest of the text. Only vectors of files that all nodes have are
published, never those of knowledge or of the event log. Vectors of other nodes wait in the index's folder, by digest,
until the indexer needs them: it looks there before it embeds a text.
"""

import contextlib
import hashlib
import io
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path as HostPath

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.embedders import model_name
from ctxfs.index.engines.embedding_requests import SHARED_VECTORS, EmbeddingRequests
from ctxfs.index.engines.embeddings import EmbeddingModel
from ctxfs.index.options import EmbedderSpec
from ctxfs.model.errors import CommandError
from ctxfs.shared.generation import Generation, decode_generation, encode_generation
from ctxfs.shared.log import Entry, LogRefused, SharedLog, TurnLost
from ctxfs.store.layout import AREAS
from ctxfs.store.rooted_fs import read_path

log = logging.getLogger(__name__)

BUILD, FETCH = "build", "fetch"
LEASE = "index"
MIN_VECTORS = 200  # of a generation: fewer are embedded in seconds
_LEASE_SECONDS = 600.0
_MIN_GROWTH = 1.25  # of a generation: all vectors are published again, so each is about five times
_FILE_NAME = "ctxfs-generation.json"
_FETCHED_NAME = "shared_vectors.fetched"  # holds the SHA-256 of the data of the generation
_MAX_GENERATION_BYTES = 1_000_000

Connect = Callable[[], SharedLog]


class SharedIndex:
    """The vectors that a node publishes and fetches. A `Topic` of the log.

    The node calls `pending` and `take` within an exchange; one other thread at a time calls the other methods.
    """

    def __init__(
        self,
        folder: HostPath,
        repo: HostPath,
        embedder: Callable[[], EmbedderSpec | None],
        mode: Callable[[], str],
        connect: Connect,
    ) -> None:
        """Take the folders of the index and of the repository. `mode` returns `BUILD` or `FETCH`."""
        self._folder = folder
        self._file = repo / _FILE_NAME
        self._embedder = embedder
        self._mode = mode
        self._connect = connect
        self.fault = ""
        self._waiting: bytes | None = None
        self._checked_vector = 0

    # the topic

    def has_news(self) -> bool:
        """Return True if a generation waits to be appended."""
        return self._waiting is not None

    def pending(self) -> bytes | None:
        """Return the generation that waits to be appended."""
        return self._waiting

    def take(self, entry: Entry) -> None:
        """Remember the generation of an entry, to be fetched later. Raise `LogRefused` for other data."""
        try:
            decode_generation(entry.data)
        except ValueError as error:
            raise LogRefused(
                f"entry {entry.number} of node '{entry.node}' is refused: {error}", "mend it there"
            ) from error
        if entry.data == self._waiting:
            self._waiting = None
        temporary = self._file.with_suffix(".new")
        temporary.write_bytes(entry.data)
        os.replace(temporary, self._file)

    # fetching

    def fetch(self) -> int:
        """Fetch the vectors of the newest generation, unless this index has them, and return their number.

        A generation that an erasure has removed from the engine is forgotten: then this node may publish the next one.

        A generation of another model is left. Raise OSError as the engine does, `LogRefused` for damaged packs.
        """
        generation = self._newest()
        if generation is None or self._mode() != FETCH or generation.model != self._model_name():
            return 0
        with contextlib.suppress(OSError):
            if read_path(self._folder / _FETCHED_NAME) == _mark(generation):
                return 0
        with closing(EmbeddingRequests(self._folder, SHARED_VECTORS)) as stored, closing(self._connect()) as engine:
            stored.clear()
            try:
                count = sum(_fetch_pack(engine, pack, generation, stored) for pack in generation.packs)
            except FileNotFoundError:
                self._file.unlink(missing_ok=True)
                return 0
        self._mark_fetched(generation)
        return count

    def _mark_fetched(self, generation: Generation) -> None:
        (self._folder / _FETCHED_NAME).write_bytes(_mark(generation))

    def _newest(self) -> Generation | None:
        with contextlib.suppress(OSError, ValueError):
            return decode_generation(read_path(self._file, _MAX_GENERATION_BYTES))
        return None

    def _model_name(self) -> str:
        spec = self._embedder()
        try:
            return model_name(spec) if spec is not None else ""
        except CommandError:
            return ""  # the status of the index reports it

    def erase(self) -> None:
        """Forget the newest generation: an erasure has removed its vectors. The index is purged of fetched ones."""
        self._waiting = None
        self._file.unlink(missing_ok=True)
        (self._folder / _FETCHED_NAME).unlink(missing_ok=True)

    # publishing

    def publish(self) -> int:
        """Put the vectors of this index into the engine, if enough are new.

        The next exchange appends the entry. Return the number of vectors; 0 if there is nothing to publish, or another
        node holds the lease.
        """
        if not Catalog.exists(self._folder) or self._waiting is not None:
            return 0
        with closing(Catalog(self._folder, read_only=True)) as catalog:
            model, newest = catalog.embeddings.serving, catalog.embeddings.newest_number
            if model is None or newest == self._checked_vector or model.name != self._model_name():
                return 0
            self._checked_vector = newest
            if not self._is_due(model, catalog.embeddings.count_complete(model.id, AREAS)):
                return 0
            vectors = catalog.embeddings.complete_vectors(model.id, AREAS)
        try:
            with (
                closing(self._connect()) as turn,
                turn.lease(LEASE, _LEASE_SECONDS),
                closing(self._connect()) as engine,
            ):
                if not self._is_due(model, len(vectors)):
                    return 0
                generation = self._put(engine, model, vectors)
                self._mark_fetched(generation)
                self._waiting = encode_generation(generation)
        except TurnLost as error:
            log.debug("another node publishes its vectors: %s", error.strerror)
            return 0
        return len(vectors)

    def _is_due(self, model: EmbeddingModel, count: int) -> bool:
        last = self._newest()
        known = last.vectors if last is not None and last.model == model.name else 0
        return count >= max(MIN_VECTORS, _MIN_GROWTH * known)

    def _put(self, engine: SharedLog, model: EmbeddingModel, vectors: Sequence[tuple[bytes, bytes]]) -> Generation:
        from ctxfs.shared.vector_pack import encode_packs

        packs = []
        for pack in encode_packs(vectors, model.dimensions):
            packs.append(hashlib.sha256(pack).hexdigest())
            engine.put(packs[-1], io.BytesIO(pack))
        return Generation(model.name, model.dimensions, len(vectors), tuple(packs))


def forget_generation(repo: HostPath) -> None:
    """Forget the newest generation: the store is no node any more."""
    (repo / _FILE_NAME).unlink(missing_ok=True)


def _mark(generation: Generation) -> bytes:
    return hashlib.sha256(encode_generation(generation)).hexdigest().encode()


def _fetch_pack(engine: SharedLog, name: str, generation: Generation, stored: EmbeddingRequests) -> int:
    from ctxfs.shared.vector_pack import MAX_PACK_BYTES, decode_pack

    target = io.BytesIO()
    engine.get(name, target, MAX_PACK_BYTES)
    try:
        vectors = decode_pack(target.getvalue(), generation.dimensions)
    except ValueError as error:
        raise LogRefused(
            f"vectors of the shared store are refused: {error}", "index = 'build' in [shared] of ctxfs.toml"
        ) from error
    stored.add_vectors(generation.model, {digest: (vector, 0) for digest, vector in vectors.items()})
    return len(vectors)
