"""The open index of one process, with its unindexed changes: catalog, full text, columns, vectors and overlay."""

from __future__ import annotations

import copy
import os
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path as HostPath
from stat import S_ISREG
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ctxfs.index.engines.catalog import Catalog, ChunkRow, FileStat
from ctxfs.index.engines.corruption import CorruptIndex
from ctxfs.index.engines.embeddings import EmbeddingModel
from ctxfs.index.engines.fulltext import FIELDS, FullText, author_terms, break_up, rarity_of
from ctxfs.index.engines.vectors import Graph, VectorTable, read_graph, read_side_car
from ctxfs.index.extract.chunks import NEIGHBOURS
from ctxfs.index.extract.extractor import Extractor
from ctxfs.index.options import IndexedRoot
from ctxfs.index.query import Query
from ctxfs.index.search.bm25 import Bm25, Statistics, Units
from ctxfs.index.search.chunk_columns import ChunkColumns, CorpusCounts
from ctxfs.index.search.file_status import FileStatus, standing_of, superseded
from ctxfs.index.search.overlay import MOST, Overlay
from ctxfs.index.search.query_hints import known_names
from ctxfs.model.path import Path
from ctxfs.store import rooted_fs

_FEW = 50
_MOST_LISTED = 100_000
_MANY_NAMES = 20
_FILTERS_KEPT = 32
_READERS_KEPT = 16
_BEHIND = "meaning has not caught up with everything yet; words have"


class Reader(Protocol):
    """A principal with limited read permission. `key` changes whenever its results may change."""

    key: Hashable

    def may_read(self, path: str) -> bool:
        """Return True if the principal may read the content of the file at `path`."""
        ...

    @property
    def sees_quarantined(self) -> bool:
        """True for people, who find quarantined files."""
        ...


@dataclass(slots=True)
class _Sight:
    """The files that a reader may not see, and the statistics of the rest.

    Invariant: no score may depend on content that the reader cannot see.
    """

    unseen: frozenset[int]
    makeup: CorpusCounts
    having: dict[tuple[str, str], int] = field(default_factory=dict)


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
        self._inode = inode_of(folder)
        self.catalog = Catalog(folder, read_only=True)
        self.words = FullText(folder / "words")
        self.facts = ChunkColumns()
        self.model: EmbeddingModel | None = None
        self.vectors: VectorTable | None = None
        self.overlay = Overlay(self.words.terms, break_up, author_terms, extractor)
        self.hidden: frozenset[int] = frozenset()
        self.names: dict[str, list[str]] = {}
        self.behind = ""
        self._waiting = 0
        self._authors: list[str] = []
        self._passing: OrderedDict[Hashable, FilteredChunks | None] = OrderedDict()
        self.reader: Reader | None = None
        self._sights: OrderedDict[Hashable, _Sight] = OrderedDict()
        self._sight: _Sight | None = None
        self._makeup: CorpusCounts | None = None
        self._living: OrderedDict[frozenset[int], npt.NDArray[np.int64]] = OrderedDict()
        self._at_hand: dict[int, ChunkRow] = {}  # rows read for the current query
        self._weigher = Bm25(dict(FIELDS), self.words.terms)
        self.take_up(None)

    def close(self) -> None:
        """Close the catalog."""
        self.catalog.close()

    @property
    def is_current(self) -> bool:
        """False once the indexer has recreated the catalog, so that the open file is a deleted one."""
        return self._inode == inode_of(self._folder)

    def newer_graph(self) -> Graph | None:
        """Read and check a graph on disk that is newer than the current one. Takes seconds for a large graph."""
        about, vectors = read_side_car(self._folder), self.vectors
        return (
            read_graph(self._folder, about)
            if about is not None and vectors is not None and vectors.wants(about)
            else None
        )

    def take_up(self, graph: Graph | None) -> None:
        """Load the newest commits of the engines, and use a newer graph."""
        # Read before the refresh: a file is settled after its words are committed,
        # so that the refresh contains all settled files.
        settled = {path: self._settled_stat(path) for path in self.overlay.paths}
        self.words.refresh()
        if self.words.count == 0 and self.catalog.has_words():
            raise CorruptIndex("words: they are gone")
        self._passing.clear()
        self._sights.clear()
        self._living.clear()
        self._makeup = None
        self.facts.load(self.catalog)
        self.model = self.catalog.embeddings.serving
        if self.model is None:
            self.vectors = None
        elif self.vectors is None or self.vectors.model != self.model.id:
            self.vectors = VectorTable(self.model.id, self.model.dimensions)
            graph = self.newer_graph()
        if self.vectors is not None:
            if graph is not None and self.vectors.wants(graph.about):
                self.vectors.use(graph)
            self.vectors.load(partial(self.catalog.embeddings.after, self.vectors.model))
        self._waiting = self.facts.waiting
        self.behind = _behind(self._waiting, len(self.facts))
        self._authors = self.catalog.authors()
        if self.overlay:
            self.overlay.caught_up(settled.__getitem__)
        self._take_note()

    def changed(
        self, root: IndexedRoot, places: Sequence[tuple[str, ...]], more: Sequence[tuple[str, ...]] = ()
    ) -> list[str]:
        """Update the overlay for written or deleted paths, so that search sees them before the index does.

        For the paths `more`, and for the paths beyond the limit of the overlay, only deletions are applied.
        Return the paths that can only be found with the index.
        """
        places, more = places[-MOST:], [*places[:-MOST], *more]
        gone = {"/".join((root.prefix, *parts)) for parts in _gone(root.root, more)}
        if gone:
            self.overlay.gone_below(gone, [known for path in gone for known in (path, *self.catalog.paths_below(path))])
        left = [path for parts in more if (path := "/".join((root.prefix, *parts))) not in gone]
        within: list[tuple[str, ...]] = []
        for parts in places:
            inside = self.overlay.inside(root, parts)
            if inside is None:
                left.append("/".join((root.prefix, *parts)))
            within += inside or ()
        looked_at = list(gone)
        for parts in dict.fromkeys((*places, *within)):
            path = "/".join((root.prefix, *parts))
            if not self.overlay.take_in(root, parts):
                if self.catalog.file(path) is not None and not _is_file(root.root, parts):
                    self.overlay.gone(path)  # a folder has replaced it
                else:
                    self.overlay.drop(path)
                    if _is_file(root.root, parts):
                        left.append(path)
                continue
            # A folder at this path is deleted, or replaced by a file.
            self.overlay.gone_below({path}, self.catalog.paths_below(path))
            looked_at.append(path)
        if any(self._settled_stat(path) == self.overlay.stat(path) for path in looked_at):
            self.take_up(None)  # the index contains it, but the open view may be older
        else:
            self._take_note()
        return left

    def keep_sources(self, prefixes: AbstractSet[str]) -> None:
        """Remove the unindexed changes of all sources except these."""
        self.overlay.keep_sources(prefixes)
        self._take_note()

    def seen_through(self, overlay: Overlay) -> IndexView:
        """Return this index with another overlay, such as one of another time."""
        view = copy.copy(self)
        view.overlay = overlay
        view._take_note()
        return view

    def seen_by(self, reader: Reader | None) -> IndexView:
        """Return this index as `reader` may see it. Files that it may not see do not exist in that view."""
        if reader is None:
            return self
        sight = self._sights.get(reader.key)
        if sight is None:
            unseen = {number for number, path in self.catalog.all_paths() if not reader.may_read(path)}
            if not reader.sees_quarantined:
                unseen |= self.catalog.quarantined()
            sight = self._sights[reader.key] = _Sight(frozenset(unseen), self.facts.makeup(frozenset(unseen)))
            if len(self._sights) > _READERS_KEPT:
                self._sights.popitem(last=False)

        def may_see(path: str, attributes: Sequence[tuple[str, str]]) -> bool:
            return reader.may_read(path) and (reader.sees_quarantined or ("quarantined", "true") not in attributes)

        view = copy.copy(self)
        view.reader, view._sight = reader, sight
        view.overlay = self.overlay.seen_by(may_see)
        view.hidden = self.hidden | sight.unseen
        view.names = known_names([*sight.makeup.authors, *view.overlay.authors()])
        view.behind = _BEHIND if self.behind else ""
        return view

    def _statistics(self) -> Statistics:
        sight = self._sight
        if sight is None:
            if self._makeup is None:
                self._makeup = self.facts.makeup()
            return Statistics(self._makeup, self.words.having)
        return Statistics(sight.makeup, self._having_seen)

    def _having_seen(self, name: str, term: str) -> int:
        assert self._sight is not None
        having = self._sight.having
        if (name, term) not in having:
            files = self.words.files_having(name, term)
            having[name, term] = sum(file not in self._sight.unseen for file in files)
        return having[name, term]

    def rarity(self, term: str) -> float:
        """Return the inverse document frequency of a term among the visible chunks."""
        if self._sight is None:
            return self.words.rarity(term)
        return rarity_of(self._sight.makeup.units, self._having_seen("text", term))

    def _take_note(self) -> None:
        """Hide the indexed chunks of files in the overlay, and collect the names of all authors."""
        rows = [self.catalog.file(path) for path in self.overlay.paths]
        self.hidden = frozenset(row.id for row in rows if row is not None)
        self.names = known_names([*self._authors, *self.overlay.authors()])

    def _settled_stat(self, path: str) -> FileStat | None:
        """Return the indexed stat values of a file; None if it is not indexed.

        Return an impossible value while its words are not committed.
        """
        row = self.catalog.file(path)
        return None if row is None else row.stat if row.state != "pending" else (-1, -1, -1, -1)

    def passing(self, query: Query, below: Path) -> FilteredChunks | None:
        """Return the indexed chunks that pass the filters; None if all do.

        Cached until the next commit, because many queries share filters.
        """
        asked = (query.filters, below)
        if asked not in self._passing:
            self._passing[asked] = self._passed(query, below)
            if len(self._passing) > _FILTERS_KEPT:
                self._passing.popitem(last=False)
        self._passing.move_to_end(asked)
        return self._passing[asked]

    def _passed(self, query: Query, below: Path) -> FilteredChunks | None:
        count = self.words.count_passing(query, below)
        if count is None or count == self.words.count:
            return None
        if count > _MOST_LISTED:
            return FilteredChunks(count, lambda chunks: self.words.those_passing(query, below, chunks))
        listed = self.words.matching(query, below, _MOST_LISTED)
        known = set(listed)
        return FilteredChunks(count, known.intersection, np.array(sorted(listed), dtype=np.int64))

    def share_embedded(self, query: Query, below: Path) -> float:
        """Return the share (0 to 1) of the searched chunks that have a vector, of those that the reader sees."""
        if not self._waiting:
            return 1.0
        passing = self.passing(query, below)
        if passing is not None and passing.listed is not None and self._sight is None:
            return self.facts.share_embedded(passing.listed)
        units, waiting = len(self.facts), self._waiting
        if self._sight is not None:
            units, waiting = self._sight.makeup.units, self._sight.makeup.waiting
        return 1 - waiting / units if units else 1.0

    def living_vectors(self) -> npt.NDArray[np.int64]:
        """Return the sorted, distinct vectors of the visible chunks. Cached until the next commit."""
        if self.hidden not in self._living:
            self._living[self.hidden] = self.facts.living_vectors(self.hidden)
            if len(self._living) > _READERS_KEPT:
                self._living.popitem(last=False)
        return self._living[self.hidden]

    def weigh(
        self, own: Collection[int], near: Collection[int], terms: Sequence[str]
    ) -> tuple[dict[int, float], dict[int, float]]:
        """Return two maps from chunk to score, by its own words, and with its neighbours.

        Any index of the same files gives the same scores.
        """
        around = {chunk + step for chunk in near for step in range(-NEIGHBOURS, NEIGHBOURS + 1)}
        living = self.facts.candidates({*own, *around}, self.hidden)
        self._at_hand = self.catalog.chunk_rows(living.chunks.tolist())
        there = np.array([chunk in self._at_hand for chunk in living.chunks.tolist()], dtype=np.bool_)
        rows = [self._at_hand[chunk] for chunk in living.chunks[there].tolist()]
        units = Units(rows, living.files[there], living.words[there].astype(np.float64))
        return self._weigher.weigh(units, own, near, terms, self._statistics())

    def rows(self, chunks: Collection[int]) -> dict[int, ChunkRow]:
        """Return the rows of these chunks for hits, as far as they still exist."""
        known, self._at_hand = self._at_hand, {}
        rows = {chunk: known[chunk] for chunk in chunks if chunk in known}
        rows |= self.catalog.chunk_rows([chunk for chunk in chunks if chunk > 0 and chunk not in rows])
        return {**rows, **self.overlay.rows()} if self.overlay else rows

    def standing(self, paths: Collection[str], binds: Binds = lambda new, old: True) -> dict[str, FileStatus]:
        """Return the status of those files that have one.

        `binds(new, old)` returns True if the file `new` may supersede the file `old`.
        """
        fresh = {path: said for path in self.overlay.paths if (said := self.overlay.attributes(path)) is not None}
        known = self.catalog.attributes_among(path for path in paths if path not in fresh)
        reader = self.reader
        pairs = [
            pair
            for pair in self.catalog.superseding()
            if pair[0] not in fresh and (reader is None or reader.may_read(pair[0]))
        ]
        pairs += [(path, value) for path, said in fresh.items() for name, value in said if name == "supersedes"]
        wanted = set(paths)
        near = [(new, value.strip().strip("/")) for new, value in pairs]
        near = [(new, old) for new, old in near if new in wanted or old in wanted]
        bound = {pair: binds(*pair) for pair in near if pair[0] != pair[1]}
        by = superseded([pair for pair, holds in bound.items() if holds])
        claims = {new: old for (new, old), holds in bound.items() if not holds}
        found = {
            path: standing_of(fresh.get(path, known.get(path, ())), by.get(path, ""), claims.get(path, ""))
            for path in paths
        }
        return {path: standing for path, standing in found.items() if standing is not None}


def _gone(root: str, places: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Yield those of the paths below a host folder at which no file exists.

    For many names the directory is listed instead of looked up,
    because a failing lookup delays writers in that directory.
    """
    together: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for parts in places:
        together.setdefault(parts[:-1], []).append(parts)
    for above, inside in together.items():
        if len(inside) < _MANY_NAMES:
            yield from (parts for parts in inside if _mode_of(root, parts) is None)
            continue
        try:
            with rooted_fs.listed_directory(root, above) as listed:
                names = {"", *os.listdir(listed)}
        except OSError:
            names = set()
        yield from (parts for parts in inside if (parts[-1] if parts else "") not in names)


def inode_of(folder: HostPath) -> int:
    """Return the inode of the catalog in a folder; 0 if there is none."""
    try:
        return (folder / "catalog.db").stat().st_ino
    except FileNotFoundError:
        return 0


def _behind(waiting: int, total: int) -> str:
    """Return a note that semantic search is behind; empty if all but a few chunks are embedded."""
    if waiting <= max(_FEW, total // 10):
        return ""
    return f"meaning covers {total - waiting} of {total} chunks so far; words cover all"


def _mode_of(root: str, parts: tuple[str, ...]) -> int | None:
    """Return the mode of a path below a host folder, without following links; None if it does not exist."""
    try:
        with rooted_fs.directory_of(root, parts) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError:
        return None


def _is_file(root: str, parts: tuple[str, ...]) -> bool:
    return S_ISREG(_mode_of(root, parts) or 0)
