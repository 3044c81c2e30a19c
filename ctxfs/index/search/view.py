"""The open index of one process, with its unindexed changes: catalog, full text, columns, vectors and overlay."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path as HostPath

import numpy as np
import numpy.typing as npt

from ctxfs.index.engines.analyzers import analyse_split
from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.catalog_schema import BORN_FACT, ChunkRow, FileStat
from ctxfs.index.engines.corruption import CorruptIndex
from ctxfs.index.engines.embeddings import EmbeddingModel
from ctxfs.index.engines.fulltext import FIELDS, FullText
from ctxfs.index.engines.term_statistics import inverse_document_frequency
from ctxfs.index.engines.vectors import Graph, VectorTable, read_graph, read_side_car
from ctxfs.index.engines.word_split import author_terms, split_words
from ctxfs.index.extract.chunks import NEIGHBOUR_CHUNKS
from ctxfs.index.extract.extractor import Extractor
from ctxfs.index.extract.file_reader import filter_values
from ctxfs.index.indexer_status import format_behind_note
from ctxfs.index.normal_form import fold_name
from ctxfs.index.options import IndexedRoot
from ctxfs.index.query import KindFolders, Query
from ctxfs.index.search.bm25 import Alternatives, Bm25, Statistics, Units
from ctxfs.index.search.chunk_columns import CorpusCounts
from ctxfs.index.search.column_checkpoint import ColumnCheckpoint
from ctxfs.index.search.cosine_background import MeasuredBackground
from ctxfs.index.search.file_status import FileStatus, cyclic_paths, status_of, superseded_paths
from ctxfs.index.search.host_lookup import find_catalog_inode, find_missing, is_file
from ctxfs.index.search.overlay import MAX_FILES, Overlay
from ctxfs.index.search.session_overlay import hide_outdated, update_sessions
from ctxfs.index.search.user_names import UserLists
from ctxfs.index.search.visibility import Reader, Visibility, find_visibility, may_see
from ctxfs.memory.validity import UNTIL
from ctxfs.model.path import Path, printable

_MIN_REPLACED = 4096
_MAX_LISTED_CHUNKS = 100_000
_MAX_CACHED_FILTERS = 32
_MAX_CACHED_READERS = 16
_BEHIND_NOTE = "meaning has not caught up with everything yet; words have"


@dataclass(frozen=True, slots=True)
class FilteredChunks:
    """The chunks that pass the filters of a query.

    `count` is their number, `among` returns those of some chunks, `listed` is all of them,
    or None if there are too many.
    """

    count: int
    among: Callable[[Collection[int]], set[int]]
    listed: npt.NDArray[np.int64] | None = None


Binds = Callable[[str, str], bool]  # (new, old) → True if the file `new` may supersede `old`, as it claims


class IndexView:
    """An open index (`Catalog.exists`). One thread at a time uses it, except for `newer_graph`."""

    def __init__(self, folder: HostPath, extractor: Extractor) -> None:
        self._folder = folder
        self._inode = find_catalog_inode(folder)
        self.catalog = Catalog(folder, read_only=True)
        self.full_text = FullText(folder / "words")
        self._checkpoint = ColumnCheckpoint(folder)
        self.columns = self._checkpoint.restore(self.catalog.fact(BORN_FACT))
        self.model: EmbeddingModel | None = None
        self.vectors: VectorTable | None = None
        self.overlay = Overlay(self.full_text.terms, analyse_split, split_words, author_terms, extractor)
        self.hidden: frozenset[int] = frozenset()
        self.names: dict[str, list[str]] = {}
        self._user_lists = UserLists()
        self.behind = ""
        self._waiting = 0
        self._authors: list[str] = []
        self._filter_cache: OrderedDict[Hashable, FilteredChunks | None] = OrderedDict()
        self.reader: Reader | None = None
        self._visibilities: OrderedDict[Hashable, Visibility] = OrderedDict()
        self._visibility: Visibility | None = None
        self._corpus: CorpusCounts | None = None
        self._living_cache: OrderedDict[frozenset[int], npt.NDArray[np.int64]] = OrderedDict()
        self.measured_background: MeasuredBackground | None = None
        self._row_cache: dict[int, ChunkRow] = {}  # rows read for the current query
        self._scorer = Bm25(dict(FIELDS), analyse_split, split_words)
        self.load_commits(None)

    def close(self) -> None:
        """Close the catalog."""
        self.catalog.close()

    @property
    def is_current(self) -> bool:
        """False once the indexer has recreated the catalog, so that the open file is a deleted one."""
        return self._inode == find_catalog_inode(self._folder)

    @property
    def has_unembedded(self) -> bool:
        """True if chunks of the index or the overlay may have no vector."""
        return bool(self._waiting) or bool(self.overlay)

    def newer_graph(self) -> Graph | None:
        """Read and check a graph on disk that is newer than the current one. Takes seconds for a large graph."""
        metadata, vectors = read_side_car(self._folder), self.vectors
        return (
            read_graph(self._folder, metadata)
            if metadata is not None and vectors is not None and vectors.is_newer(metadata)
            else None
        )

    def load_commits(self, graph: Graph | None) -> None:
        """Load the newest commits of the engines, and use a newer graph."""
        # Read before the refresh: a file is settled after its words are committed,
        # so that the refresh contains all settled files.
        settled_stats = {path: self._read_settled_stat(path) for path in self.overlay.paths}
        self.full_text.refresh()
        if self.full_text.count == 0 and self.catalog.has_words():
            raise CorruptIndex("words: they are gone")
        self._filter_cache.clear()
        self._visibilities.clear()
        self._living_cache.clear()
        self._corpus = None
        self.columns.load(self.catalog)
        self._checkpoint.save_if_due(self.columns.loaded_rows, self.columns.state(), self.catalog.fact(BORN_FACT))
        self.model = self.catalog.embeddings.serving
        if self.model is None:
            self.vectors = None
        elif self.vectors is None or self.vectors.model != self.model.id:
            self.vectors = VectorTable(self.model.id, self.model.dimensions)
            graph = self.newer_graph()
        self._load_vectors(graph)
        self._waiting, self._embeddable = self.columns.waiting, self.columns.embeddable
        self._drop_replaced_vectors()
        rate = self.catalog.embeddings.chunks_per_second if self._waiting else 0.0
        self.behind = format_behind_note(self._waiting, self._embeddable, rate)
        self._authors = self.catalog.authors()
        self._has_ends = self.full_text.has_ended(None)  # most trees have no end of a validity
        if self.overlay:
            self.overlay.drop_indexed(settled_stats.__getitem__)
        self._refresh_derived()

    def _drop_replaced_vectors(self) -> None:
        """Load the vectors again if most of them have been replaced by refined ones, which have other numbers."""
        used = self._embeddable - self._waiting
        if self.vectors is not None and self.vectors.count > _MIN_REPLACED + 1.5 * used:
            graph = self.newer_graph()
            self.vectors = VectorTable(self.vectors.model, self.vectors.dimensions)
            self._load_vectors(graph)

    def _load_vectors(self, graph: Graph | None) -> None:
        if self.vectors is not None:
            if graph is not None and self.vectors.is_newer(graph.metadata):
                self.vectors.use_graph(graph)
            self.vectors.load(partial(self.catalog.embeddings.vectors_after, self.vectors.model))

    @property
    def vectors_per_chunk(self) -> float:
        """The number of loaded vectors for each embedded chunk, at least 1: more while vectors are refined."""
        used = self._embeddable - self._waiting
        return max(1.0, self.vectors.count / used) if self.vectors is not None and used else 1.0

    def apply_changes(
        self, root: IndexedRoot, paths: Sequence[tuple[str, ...]], maybe_deleted: Sequence[tuple[str, ...]] = ()
    ) -> list[str]:
        """Update the overlay for written or deleted paths, so that search sees them before the index does.

        For the paths `maybe_deleted`, and for the paths beyond the limit of the overlay, only deletions are applied.
        Return the paths that can only be found with the index.
        """
        if root.holds_records:
            updated, remaining = update_sessions(self.overlay, self.catalog, root, [*maybe_deleted, *paths])
        else:
            updated, remaining = self._update_files(root, paths, maybe_deleted)
        if any(self._read_settled_stat(path) == self.overlay.stat(path) for path in updated):
            self.load_commits(None)  # the index contains it, but the open view may be older
        else:
            self._refresh_derived()
        return remaining

    def _update_files(
        self, root: IndexedRoot, paths: Sequence[tuple[str, ...]], maybe_deleted: Sequence[tuple[str, ...]]
    ) -> tuple[list[str], list[str]]:
        """Return (paths that the overlay has, paths that have to wait for the index)."""
        paths, maybe_deleted = paths[-MAX_FILES:], [*paths[:-MAX_FILES], *maybe_deleted]
        deleted = {"/".join((root.prefix, *parts)) for parts in find_missing(root.root, maybe_deleted)}
        if deleted:
            indexed = [inner for path in deleted for inner in (path, *self.catalog.paths_below(path))]
            self.overlay.record_folder_deletions(deleted, indexed)
        remaining = [path for parts in maybe_deleted if (path := "/".join((root.prefix, *parts))) not in deleted]
        folder_files: list[tuple[str, ...]] = []
        for parts in paths:
            new_files = self.overlay.files_in_folder(root, parts)
            if new_files is None:
                remaining.append("/".join((root.prefix, *parts)))
            folder_files += new_files or ()
        updated = list(deleted)
        for parts in dict.fromkeys((*paths, *folder_files)):
            path = "/".join((root.prefix, *parts))
            if not self.overlay.update(root, parts):
                if self.catalog.file(path) is not None and not is_file(root.root, parts):
                    self.overlay.record_deletion(path)  # a folder has replaced it
                else:
                    self.overlay.drop(path)
                    if is_file(root.root, parts):
                        remaining.append(path)
                continue
            # A folder at this path is deleted, or replaced by a file.
            self.overlay.record_folder_deletions({path}, self.catalog.paths_below(path))
            updated.append(path)
        return updated, remaining

    def hide_outdated(self, roots: Iterable[IndexedRoot]) -> None:
        """Hide the indexed parts of event logs that were written again, so that no erased record is found."""
        for root in roots:
            if root.holds_records:
                hide_outdated(self.overlay, self.catalog, root)
        self._refresh_derived()

    def keep_sources(self, prefixes: AbstractSet[str]) -> None:
        """Remove the unindexed changes of all sources except these."""
        self.overlay.keep_sources(prefixes)
        self._refresh_derived()

    def with_overlay(self, overlay: Overlay) -> IndexView:
        """Return this index with another overlay, such as one of another time."""
        view = copy.copy(self)
        view.overlay = overlay.over(self.overlay)
        view._refresh_derived()
        return view

    def for_reader(self, reader: Reader | None) -> IndexView:
        """Return this index as `reader` may see it. Files that it may not see do not exist in that view."""
        if reader is None:
            return self
        visibility = self._visibilities.get(reader.key)
        if visibility is None:
            visibility = self._visibilities[reader.key] = find_visibility(self.catalog, self.columns, reader)
            if len(self._visibilities) > _MAX_CACHED_READERS:
                self._visibilities.popitem(last=False)
        view = copy.copy(self)
        view.reader, view._visibility = reader, visibility
        view.overlay = self.overlay.filtered(partial(may_see, reader))
        view.hidden = self.hidden | visibility.hidden_files
        lists = {path for path, file in self._list_files.items() if file not in view.hidden}
        view.users = self.users.among(lists.union(path for path, _ in view.overlay.user_lists()))
        view.names = view.users.map_names([*visibility.corpus.authors, *view.overlay.authors()])
        view.behind = _BEHIND_NOTE if self.behind else ""
        return view

    def _build_statistics(self) -> Statistics:
        visibility = self._visibility
        if visibility is None:
            if self._corpus is None:
                self._corpus = self.columns.corpus_counts()
            return Statistics(self._corpus, self.full_text.document_frequency)
        return Statistics(visibility.corpus, self._count_visible)

    def _count_visible(self, name: str, term: str) -> int:
        assert self._visibility is not None
        frequencies = self._visibility.document_frequencies
        if (name, term) not in frequencies:
            files = self.full_text.files_with_term(name, term)
            frequencies[name, term] = sum(file not in self._visibility.hidden_files for file in files)
        return frequencies[name, term]

    def idf(self, term: str) -> float:
        """Return the inverse document frequency of a term among the visible chunks."""
        if self._visibility is None:
            return self.full_text.idf(term)
        return inverse_document_frequency(self._visibility.corpus.units, self._count_visible("text", term))

    def count_chunks_with(self, term: str, exact: bool, field: str = "text") -> tuple[int, int]:
        """Return (number of visible chunks with a term in a field, number of visible chunks).

        With `exact` deleted chunks do not count, so that any index of the same files gives the same numbers.
        """
        if exact or self._visibility is not None:
            statistics = self._build_statistics()
            return statistics.document_frequency(field, term), statistics.corpus.units
        return self.full_text.count_chunks_with(term, field)

    def find_terms(self, rows: Sequence[ChunkRow], groups: Sequence[Alternatives]) -> npt.NDArray[np.bool_]:
        """Return True for each chunk that contains a term of a group in its text, heading or path [chunk, group]."""
        texts = [f"{row.text}\n{row.heading}\n{printable(row.path)}" for row in rows]
        return self._scorer.find_terms(texts, groups)

    def has_kind(self, kind: str, folders: Collection[str] = ()) -> bool:
        """Return True if a visible file is of a kind, is in one of its folders, or has it as the type in front matter."""
        searched = Query("", kinds=(kind,), kind_folders=KindFolders(tuple(folders)))
        if self.overlay and self.overlay.has_kind_of(searched):
            return True
        terms = [("attribute", f"kind={fold_name(kind)}"), *(("under", folder) for folder in folders)]
        if self._visibility is not None:
            return kind in self._visibility.corpus.kinds or any(self._count_visible(*term) > 0 for term in terms)
        return any(self.full_text.document_frequency(*term) > 0 for term in (("kind", kind), *terms))

    def count_hidden(self, *, of_history: bool) -> int:
        """Return the number of hidden files that are parts of sessions' files, or of the other ones."""
        parts = self._visibility.hidden_parts if self._visibility is not None else 0
        return parts if of_history else len(self.hidden) - parts

    def _refresh_derived(self) -> None:
        """Hide the indexed chunks of files in the overlay, and collect the names of all authors."""
        rows = [self.catalog.file(path) for path in self.overlay.paths]
        self.hidden = frozenset(row.id for row in rows if row is not None)
        lists = [row for row in self.catalog.user_lists() if row[0] not in self.hidden]
        self._list_files = {path: file for file, path, _ in lists}
        self.users = self._user_lists.read([*(row[1:] for row in lists), *self.overlay.user_lists()])
        self.names = self.users.map_names([*self._authors, *self.overlay.authors()])

    def _read_settled_stat(self, path: str) -> FileStat | None:
        """Return the indexed stat values of a file; None if it is not indexed.

        Return an impossible value while its words are not committed.
        """
        row = self.catalog.file(path)
        return None if row is None else row.stat if row.state != "pending" else (-1, -1, -1, -1)

    def filtered_chunks(self, query: Query, below: Path) -> FilteredChunks | None:
        """Return the indexed chunks that pass the filters; None if all do.

        Cached until the next commit, because many queries share filters.
        """
        key = (query.filter_key, below)
        if key not in self._filter_cache:
            self._filter_cache[key] = self._filter_chunks(query, below)
            if len(self._filter_cache) > _MAX_CACHED_FILTERS:
                self._filter_cache.popitem(last=False)
        self._filter_cache.move_to_end(key)
        return self._filter_cache[key]

    def _filter_chunks(self, query: Query, below: Path) -> FilteredChunks | None:
        count = self.full_text.count_passing(query, below)
        if count is None or count == self.full_text.count:
            return None
        if count > _MAX_LISTED_CHUNKS:
            return FilteredChunks(count, lambda chunks: self.full_text.filter_chunks(query, below, chunks))
        listed = self.full_text.chunks_passing(query, below, _MAX_LISTED_CHUNKS)
        listed_set = set(listed)
        return FilteredChunks(count, listed_set.intersection, np.array(sorted(listed), dtype=np.int64))

    def share_embedded(self, query: Query, below: Path) -> float:
        """Return the share (0 to 1) of the searched chunks that have a vector, of those that the reader sees."""
        if not self._waiting:
            return 1.0
        filtered = self.filtered_chunks(query, below)
        if filtered is not None and filtered.listed is not None and self._visibility is None:
            return self.columns.share_embedded(filtered.listed)
        embeddable, waiting = self._embeddable, self._waiting
        if self._visibility is not None:
            embeddable, waiting = self._visibility.corpus.embeddable, self._visibility.corpus.waiting
        return 1 - waiting / embeddable if embeddable else 1.0

    def living_vectors(self) -> npt.NDArray[np.int64]:
        """Return the sorted, distinct vectors of the visible chunks. Cached until the next commit."""
        if self.hidden not in self._living_cache:
            self._living_cache[self.hidden] = self.columns.living_vectors(self.hidden)
            if len(self._living_cache) > _MAX_CACHED_READERS:
                self._living_cache.popitem(last=False)
        return self._living_cache[self.hidden]

    def score_candidates(
        self,
        own_chunks: Collection[int],
        near_chunks: Collection[int],
        terms: Sequence[Sequence[str]],
        weights: Mapping[str, float],
    ) -> tuple[dict[int, float], dict[int, float]]:
        """Return two maps from chunk to score, by its own words, and with its neighbours.

        `weights` are those of repeated terms. Any index of the same files gives the same scores.
        """
        around = {chunk + step for chunk in near_chunks for step in range(-NEIGHBOUR_CHUNKS, NEIGHBOUR_CHUNKS + 1)}
        living = self.columns.candidates({*own_chunks, *around}, self.hidden)
        self._row_cache = self.catalog.chunk_rows(living.chunks.tolist())
        exists = np.array([chunk in self._row_cache for chunk in living.chunks.tolist()], dtype=np.bool_)
        rows = [self._row_cache[chunk] for chunk in living.chunks[exists].tolist()]
        units = Units(rows, living.files[exists], living.words[exists].astype(np.float64))
        statistics = replace(self._build_statistics(), weights=weights)
        return self._scorer.score(units, own_chunks, near_chunks, terms, statistics)

    def rows(self, chunks: Collection[int], *, has_names: bool = True, keep: bool = False) -> dict[int, ChunkRow]:
        """Return the existing rows of chunks for hits, with the names of users if `has_names`.

        With `keep`, the next call does not read them again.
        """
        cached = self._row_cache
        rows = {chunk: cached[chunk] for chunk in chunks if chunk in cached}
        rows |= self.catalog.chunk_rows([chunk for chunk in chunks if chunk > 0 and chunk not in rows])
        self._row_cache = rows if keep else {}
        rows = {**rows, **self.overlay.rows()} if self.overlay else rows
        return {chunk: self.users.name_row(row) for chunk, row in rows.items()} if has_names and self.users else rows

    def may_have_ended(self, now: float) -> bool:
        """Return True if the validity of a file has ended, or if one in the overlay has an end."""
        in_overlay = (name == UNTIL for path in self.overlay.paths for name, _ in self.overlay.attributes(path) or ())
        return any(in_overlay) or (self._has_ends and self.full_text.has_ended(now))

    def attributes_of(self, paths: Collection[str]) -> dict[str, dict[str, str]]:
        """Return the attributes of those of these files that have any, by name; one value for each name."""
        indexed = self.catalog.attributes_among(path for path in paths if self.overlay.attributes(path) is None)
        unindexed = {path: attributes for path in paths if (attributes := self.overlay.attributes(path)) is not None}
        return {path: dict(filter_values(pairs)) for path, pairs in {**indexed, **unindexed}.items()}

    def statuses(self, paths: Collection[str], binds: Binds = lambda new, old: True) -> dict[str, FileStatus]:
        """Return the status of those files that have one.

        `binds(new, old)` returns True if the file `new` may supersede the file `old`.
        """
        overlay_attributes = {
            path: attributes for path in self.overlay.paths if (attributes := self.overlay.attributes(path)) is not None
        }
        catalog_attributes = self.catalog.attributes_among(path for path in paths if path not in overlay_attributes)
        reader = self.reader
        claimed = [
            pair
            for pair in self.catalog.supersedes_attributes()
            if pair[0] not in overlay_attributes and (reader is None or reader.may_read(pair[0]))
        ]
        claimed += [
            (path, value)
            for path, attributes in overlay_attributes.items()
            for name, value in attributes
            if name == "supersedes"
        ]
        path_set = set(paths)
        pairs = [(new, value.strip().strip("/")) for new, value in claimed]
        # Of a cycle all pairs are judged, because its files stay valid only if each may supersede the next.
        linked = path_set | cyclic_paths(pairs)
        relevant = [(new, old) for new, old in pairs if new in path_set or old in path_set or {new, old} <= linked]
        is_bound = {pair: binds(*pair) for pair in relevant if pair[0] != pair[1]}
        superseded_by = superseded_paths([pair for pair, holds in is_bound.items() if holds])
        claims = {new: old for (new, old), holds in is_bound.items() if not holds}
        indexed_attributes = {path: filter_values(attributes) for path, attributes in catalog_attributes.items()}
        attributes_of = {**indexed_attributes, **overlay_attributes}
        statuses = {
            path: status_of(attributes_of.get(path, ()), superseded_by.get(path, ""), claims.get(path, ""))
            for path in paths
        }
        return {path: status for path, status in statuses.items() if status is not None}
