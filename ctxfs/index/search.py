"""Answer a question: words and meaning side by side, one score, living chunks only."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as HostPath
from typing import TYPE_CHECKING

from ctxfs.index.catalog import Catalog, ChunkRow, Counts
from ctxfs.index.fuse_ranks import Scored, fuse
from ctxfs.index.model_files import DIMENSIONS
from ctxfs.index.query import Query
from ctxfs.model.errors import CommandError, invalid
from ctxfs.model.path import Path

if TYPE_CHECKING:
    # The engines take a tenth of a second to import: a daemon mounts first and loads them at the first look.
    from ctxfs.index.embed import Embedder
    from ctxfs.index.vectors import VectorTable
    from ctxfs.index.words import Words

POOL = 200
_FILTER_EXACT = 20_000
_FEW = 50
_MATCHING = 1_000_000


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that answers, with the score of every signal that found it."""

    path: str
    first: int
    last: int
    heading: str
    text: str
    kind: str
    mtime_ns: int
    sha256: str
    score: float
    signals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """Hits, best first; `notes` say what could not be looked at and why (empty: everything could)."""

    query: Query
    hits: Sequence[Hit]
    notes: Sequence[str] = ()


class Searcher:
    """Reads the index while the indexer writes it. Methods block; they may be called from several threads."""

    def __init__(self, folder: HostPath, model: HostPath | None) -> None:
        self._folder = folder
        self._model = model
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None
        self._words: Words | None = None
        self._table: VectorTable | None = None
        self._embedder: Embedder | None = None
        self._embedder_fault = ""
        self._vector_model = ""
        self._behind = ""
        self._opened_inode = 0
        self.generation = 0

    def refresh(self, graph: bool = False) -> None:
        """See what the indexer has committed since."""
        with self._lock:
            if self._catalog is not None and self._opened_inode != self._catalog_inode():
                # The indexer had to make it again; the old one is a deleted file that this process still holds.
                self._catalog.close()
                self._catalog = self._words = None
                self._table = None
            catalog = self._opened()
            if catalog is None or self._words is None:
                return
            self._words.refresh()
            model = catalog.fact("model")
            if model != self._vector_model:
                self._table = None
                self._vector_model = model
                graph = True
            if graph:
                self._vectors.load_graph()
            self._vectors.load(catalog.vectors_after)
            self._behind = _behind(catalog)
            self.generation += 1

    def forget(self) -> None:
        """Drop what is in memory: something was erased."""
        with self._lock:
            self._table = None
            self.generation += 1

    def search(self, query: Query, below: Path, limit: int) -> Answer:
        """The best `limit` chunks below a directory. "Nothing found" has no notes; "could not look" has."""
        notes = []
        with self._lock:
            catalog = self._opened()
            if catalog is None or self._words is None:
                return Answer(query, (), ("the index is empty: nothing has been indexed yet",))
            if not query.has_words:
                chunks = catalog.first_chunks(self._words.matching(query, below, _MATCHING), limit)
                passing = [Scored(chunk, 1.0, {"filter": 1.0}) for chunk in chunks]
                return Answer(query, self._hits(catalog, passing))
            rankings: dict[str, Sequence[tuple[int, float]]] = {}
            if query.mode != "meaning":
                rankings["words"] = self._words.search(query, below, POOL)
            if query.mode != "words":
                found, note = self._by_meaning(catalog, query, below)
                rankings["meaning"] = found
                if note:
                    notes.append(note)
            if self._behind and rankings.get("meaning"):
                notes.append(self._behind)
            scored = fuse(rankings, partial=("meaning",) if self._behind else ())
            if query.must or query.phrases or query.must_not:
                # Operators are about words: what the word index did not return does not satisfy them.
                satisfying = {chunk for chunk, _ in self._words.search(query, below, 5000)}
                scored = [item for item in scored if item.chunk in satisfying]
            return Answer(query, self._hits(catalog, scored[:limit]), tuple(notes))

    def find(self, query: Query, below: Path, limit: int) -> list[str]:
        """Paths of the files that pass the filters of a question, newest first; EINVAL if it has none."""
        if query.has_words or not query.has_filters:
            wanted = "kind:fact, tag:deploy, confidence:>0.8, pinned:true, trust:trusted, path:, since:"
            raise invalid(query.text[:80], f"only filters can be asked for here: {wanted}")
        return [hit.path for hit in self.search(query, below, limit).hits]

    def counts(self) -> tuple[Counts | None, dict[str, int], int]:
        """(catalog totals or None without an index, why files are skipped, vectors loaded)."""
        with self._lock:
            catalog = self._opened()
            if catalog is None:
                return None, {}, 0
            return catalog.counts(), catalog.skipped(), self._vectors.count

    def seen(self, path: str) -> tuple[str, str]:
        """(hexadecimal sha256 of the content that words are found in, why the file is not indexed); both may be empty."""
        with self._lock:
            catalog = self._opened()
            row = catalog.file(path) if catalog is not None else None
            if row is None or catalog is None:
                return "", ""
            if row.state == "skipped":
                return "", f"skipped: {catalog.note(row.id)}"
            return (row.sha256.hex() if row.sha256 and row.state == "words" else ""), ""

    def meaning_fault(self) -> str:
        """Why meaning cannot be searched; empty if it can."""
        if self._model is None:
            return "search by meaning is switched off (index.meaning = false)"
        with self._lock:
            self._loaded()
        return self._embedder_fault

    @property
    def _vectors(self) -> VectorTable:
        if self._table is None:
            from ctxfs.index.vectors import VectorTable

            self._table = VectorTable(self._folder, DIMENSIONS)
        return self._table

    def _catalog_inode(self) -> int:
        try:
            return (self._folder / "catalog.db").stat().st_ino
        except FileNotFoundError:
            return 0

    def _opened(self) -> Catalog | None:
        """The catalog, once the indexer has made it."""
        if self._catalog is None and Catalog.exists(self._folder):
            from ctxfs.index.words import Words

            self._opened_inode = self._catalog_inode()
            self._catalog = Catalog(self._folder, read_only=True)
            self._words = Words(self._folder / "words")
            self._words.refresh()
            self._vector_model = self._catalog.fact("model")
            self._vectors.load_graph()
            self._vectors.load(self._catalog.vectors_after)
            self._behind = _behind(self._catalog)
        return self._catalog

    def _loaded(self) -> Embedder | None:
        if self._embedder is None and not self._embedder_fault and self._model is not None:
            from ctxfs.index.embed import OnnxEmbedder

            try:
                self._embedder = OnnxEmbedder(self._model, 1)
            except CommandError as error:
                self._embedder_fault = f"{error.message}: words only. {error.remedy}"
        return self._embedder

    def _by_meaning(self, catalog: Catalog, query: Query, below: Path) -> tuple[list[tuple[int, float]], str]:
        if self._model is None:
            return [], "" if query.mode == "hybrid" else "search by meaning is switched off (index.meaning = false)"
        embedder = self._loaded()
        if embedder is None:
            return [], self._embedder_fault
        if not self._vectors.count:
            return [], "nothing has been embedded yet: words only for now"
        if not query.plain:
            return [], ""
        vector = embedder.embed([query.plain])[0]
        filtered = query.has_filters or bool(below.parts)
        allowed = self._words.allowed(query, below, _FILTER_EXACT) if filtered and self._words is not None else None
        if allowed is not None:
            pairs = catalog.vectors_of(allowed)
            nearest = dict(self._vectors.search_among(vector, [number for _, number in pairs], POOL))
            scored = [(chunk, nearest[number]) for chunk, number in pairs if number in nearest]
            return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:POOL], ""
        nearest = dict(self._vectors.search(vector, POOL * (4 if filtered else 1)))
        scored = [(chunk, nearest[number]) for number, chunk in catalog.chunks_with(list(nearest))]
        if filtered:
            rows = catalog.chunk_rows([chunk for chunk, _ in scored])
            scored = [pair for pair in scored if pair[0] in rows and _passes(rows[pair[0]], query, below)]
            if query.attributes or query.confidence:
                passing = set(self._words.matching(query, below, _MATCHING)) if self._words is not None else set()
                scored = [pair for pair in scored if pair[0] in passing]
        return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:POOL], ""

    def _hits(self, catalog: Catalog, scored: Sequence[Scored]) -> list[Hit]:
        rows = catalog.chunk_rows([item.chunk for item in scored])
        return [
            Hit(
                row.path,
                row.first,
                row.last,
                row.heading,
                row.text,
                row.kind,
                row.mtime_ns,
                row.sha256,
                item.score,
                item.signals,
            )
            for item in scored
            if (row := rows.get(item.chunk)) is not None
        ]


def _behind(catalog: Catalog) -> str:
    """What to say while meaning has not caught up; empty when all but a few chunks are embedded."""
    waiting, total = catalog.count_waiting()
    if waiting <= max(_FEW, total // 10):
        return ""
    return f"meaning covers {total - waiting} of {total} chunks so far; words cover all"


def _passes(row: ChunkRow, query: Query, below: Path) -> bool:
    """The filters again, for a broad filter that was not resolved to a list of chunks."""
    path = Path(tuple(row.path.split("/")))
    if not path.is_below(below):
        return False
    if query.kinds and row.kind not in query.kinds:
        return False
    if query.paths and not any(wanted.lower() in row.path.lower() for wanted in query.paths):
        return False
    if query.since is not None and row.mtime_ns < query.since:
        return False
    return query.until is None or row.mtime_ns <= query.until
