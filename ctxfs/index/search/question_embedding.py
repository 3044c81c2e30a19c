"""Embedding of queries: the embedder of the serving model, opened on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ctxfs.index.engines.catalog_schema import ChunkRow
from ctxfs.index.options import EmbedderSpec
from ctxfs.index.query import Query
from ctxfs.index.search.candidate_embedding import EMBED_THREADS, CandidateEmbedder
from ctxfs.index.search.query_hints import QueryHints, read_hints
from ctxfs.model.errors import CommandError

if TYPE_CHECKING:
    # Imported for the first query: see `searcher`.
    from ctxfs.index.engines.embedders import Embedder, Vectors
    from ctxfs.index.engines.embeddings import EmbeddingModel
    from ctxfs.index.search.view import IndexView

_RETRY_SECONDS = 10.0
_NOTHING_NOTE = "nothing has been embedded yet: words only for now"
_OFF_NOTE = "search by meaning is switched off (index.meaning = false)"


@dataclass(frozen=True, slots=True)
class EmbeddedQuery:
    """A query with its hints and its vector, or the reason why it has none (`note`).

    `model` is the model whose vectors it may be compared with.
    The model is 0 while the catalog has none: then only `candidate_vectors` can be compared.
    `candidate_vectors` are vectors of chunks that have none in the index, by number.
    `trust` is the factor of the weights of vectors, from the share of the query that the model's vocabulary covers.
    `exact`: compare it with all vectors instead of the graph, so that every index gives the same result.
    `has_feedback`: search dialogues a second time, by the subjects of the best hits (`relevance_feedback`).
    """

    hints: QueryHints
    vector: Vectors | None = None
    model: int = 0
    note: str = ""
    exact: bool = False
    candidate_vectors: Mapping[int, Vectors] = field(default_factory=dict)
    trust: float = 1.0
    has_feedback: bool = False


@dataclass(frozen=True, slots=True)
class HintedQuery:
    """A query with its hints, and the model to embed it with; None if the catalog has none yet.

    `has_vectors` is False if no chunk is embedded yet. `waiting` are the best chunks by words that have no vector.
    """

    query: Query
    hints: QueryHints
    model: EmbeddingModel | None
    has_vectors: bool
    waiting: Sequence[ChunkRow] = ()


def read_query(view: IndexView | None, query: Query) -> HintedQuery:
    """Read the hints of a query and the serving model from the open view, as the reader sees it."""
    if view is None:
        return HintedQuery(query, read_hints(query, {}), None, False)
    query = view.users.add_authors(query)
    hints = read_hints(query, view.names)
    hints = replace(hints, query=view.users.add_aliases(hints.query))
    return HintedQuery(query, hints, view.model, bool(view.vectors is not None and view.vectors.count))


class QuestionEmbedder:
    """The embedder of queries. Methods block; they may be called from several threads, without the view's lock."""

    def __init__(self, spec: EmbedderSpec | None, candidates: CandidateEmbedder) -> None:
        """Take the configured embedder, None if semantic search is switched off, and the embedder of candidates."""
        self._spec = spec
        self._candidates = candidates
        self._lock = threading.Lock()
        self._embedder: Embedder | None = None
        self._opened_spec: EmbedderSpec | None = None
        self._fault = ""
        self._fault_until = 0.0
        self._name = ""

    @property
    def is_enabled(self) -> bool:
        """True if semantic search is switched on."""
        return self._spec is not None

    def can_embed(self, query: Query) -> bool:
        """Return True if a query is compared by meaning with chunks that wait for their vector."""
        return self.is_enabled and query.mode == "hybrid" and query.has_words

    def correct_typos(self, view: IndexView, hinted: HintedQuery, exact: bool) -> HintedQuery:
        """Return a query with likely corrections of the words that no chunk of `view` contains.

        Loads the model for the first typo, because a word of its vocabulary is none.
        """
        from ctxfs.index.search.spelling import correct_query, find_corrections  # imports an engine

        query = hinted.hints.query
        if not (corrections := find_corrections(view, query, exact)):
            return hinted
        spec = None if query.mode == "words" else self.spec_for(view)
        embedder = self.open(spec) if self._spec is not None and spec is not None else None
        query = correct_query(query, corrections, embedder.has_word if embedder is not None else lambda word: None)
        return replace(hinted, hints=replace(hinted.hints, query=view.users.add_aliases(query)))

    def spec_for(self, view: IndexView | None) -> EmbedderSpec | None:
        """Return the spec of the view's serving model, or else the configured one."""
        return view.model.spec if view is not None and view.model is not None else self._spec

    def fault(self, spec: EmbedderSpec | None) -> str:
        """Return why semantic search with the model of `spec` is unavailable; empty if it is available."""
        if self._spec is None or spec is None:
            return _OFF_NOTE
        return "" if self.open(spec) else self._fault

    def embed_query(self, hinted: HintedQuery) -> EmbeddedQuery:
        """Embed a query with the serving model, or return the reason why it has no vector."""
        query, hints, model = hinted.query, hinted.hints, hinted.model
        if query.mode in ("words", "exact") or not query.has_words:
            return EmbeddedQuery(hints)
        if self._spec is None:
            return EmbeddedQuery(hints, note="" if query.mode == "hybrid" else _OFF_NOTE)
        embedder = self.open(model.spec if model is not None else self._spec)
        if embedder is None:
            return EmbeddedQuery(hints, note=self._fault)
        if not hinted.has_vectors and not hinted.waiting:
            return EmbeddedQuery(hints, note=_NOTHING_NOTE)
        if not hints.query.plain_text:
            return EmbeddedQuery(hints)
        try:
            vector = embedder.embed_query(hints.query.plain_text)
            name = model.name if model is not None else self._configured_name(self._spec)
        except CommandError as error:
            return EmbeddedQuery(hints, note=f"{error.message}: words only. {error.remedy}")
        # The time of a server on the network cannot be bounded.
        is_local = not (model.spec if model is not None else self._spec).url
        vectors = self._candidates.embed(hinted.waiting, name, embedder) if hinted.waiting and is_local else {}
        if not hinted.has_vectors and not vectors:
            return EmbeddedQuery(hints, note=_NOTHING_NOTE)
        note = _format_waiting_note(len(hinted.waiting) - len(vectors))
        return EmbeddedQuery(
            hints,
            vector,
            model.id if model is not None else 0,
            note,
            candidate_vectors=vectors,
            trust=embedder.trust(hints.query.plain_text),
        )

    def _configured_name(self, spec: EmbedderSpec) -> str:
        if not self._name:
            from ctxfs.index.engines.embedders import model_name

            self._name = model_name(spec)
        return self._name

    def embed(self, texts: Sequence[str], spec: EmbedderSpec | None) -> Vectors:
        """Embed texts with the model of `spec`: float32 [len(texts), dimensions]. Raise CommandError on failure."""
        embedder = self.open(spec) if spec is not None else None
        if embedder is None:
            raise CommandError(self._fault or _OFF_NOTE, "")
        return embedder.embed(texts)

    def open(self, spec: EmbedderSpec) -> Embedder | None:
        """Return the embedder of a spec; None if it cannot be opened, with the reason in `_fault`.

        A failure is retried after `_RETRY_SECONDS`.
        """
        with self._lock:
            if self._opened_spec == spec and (self._embedder is not None or time.monotonic() < self._fault_until):
                return self._embedder
            from ctxfs.index.engines.embedders import open_embedder

            self._opened_spec, self._embedder, self._fault = spec, None, ""
            try:
                # On the CPU: a daemon must not hold the memory of a GPU for questions.
                self._embedder = open_embedder(replace(spec, device="cpu"), EMBED_THREADS)
            except CommandError as error:
                self._fault = f"{error.message}: words only. {error.remedy}"
                self._fault_until = time.monotonic() + _RETRY_SECONDS
            return self._embedder

    def close(self) -> None:
        """Release the model; the next query opens it again."""
        self._embedder = None


def _format_waiting_note(waiting: int) -> str:
    """Return a note that candidates of this query are ranked by words alone; empty if none is."""
    if not waiting:
        return ""
    return f"{waiting} passages that match by words are not embedded yet: they are ranked by words alone"
