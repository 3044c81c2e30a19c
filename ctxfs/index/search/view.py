"""The index as one process has it open, and what has been written since: catalog, words, columns, vectors and overlay."""

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
    """Somebody who may not see everything; `key` changes when the answers may."""

    key: Hashable

    def may_read(self, path: str) -> bool:
        """True for a file whose content they may see."""
        ...

    @property
    def sees_quarantined(self) -> bool:
        """True for people."""
        ...


@dataclass(slots=True)
class _Sight:
    """What of the index a reader does not see, and what the rest is like: no score may depend on what is not seen."""

    unseen: frozenset[int]
    makeup: CorpusCounts
    having: dict[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FilteredChunks:
    """What passes the filters of a question: how many chunks, which of some, and all of them unless they are very many."""

    count: int
    among: Callable[[Collection[int]], set[int]]
    listed: npt.NDArray[np.int64] | None = None


Binds = Callable[[str, str], bool]  # (a file, the file that it says it supersedes) → whether that holds


class IndexView:
    """An index that is there (`Catalog.exists`). One thread at a time uses it, but for `newer_graph`."""

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
        self._at_hand: dict[int, ChunkRow] = {}  # read for the question that is being answered
        self._weigher = Bm25(dict(FIELDS), self.words.terms)
        self.take_up(None)

    def close(self) -> None:
        """Let go of the catalog."""
        self.catalog.close()

    @property
    def is_current(self) -> bool:
        """False once the indexer had to make the catalog again: what is open here is a deleted file."""
        return self._inode == inode_of(self._folder)

    def newer_graph(self) -> Graph | None:
        """A graph on disk that is worth using, read and checked; seconds for a large one."""
        about, vectors = read_side_car(self._folder), self.vectors
        return (
            read_graph(self._folder, about)
            if about is not None and vectors is not None and vectors.wants(about)
            else None
        )

    def take_up(self, graph: Graph | None) -> None:
        """See what has been committed, and search a newer graph."""
        # Asked first: a file is settled after its words are committed, so what is settled now is in what is opened next.
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
        """Something was written or deleted at these places: the overlay says what is there, before the index does.

        Of `more`, and of those that come before as many as the overlay holds, only what is gone is looked at. Returns the
        paths of what can only be found with the index.
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
                    self.overlay.gone(path)  # a folder has taken its place
                else:
                    self.overlay.drop(path)
                    if _is_file(root.root, parts):
                        left.append(path)
                continue
            # If a folder was here it is gone, or a file has taken its place.
            self.overlay.gone_below({path}, self.catalog.paths_below(path))
            looked_at.append(path)
        if any(self._settled_stat(path) == self.overlay.stat(path) for path in looked_at):
            self.take_up(None)  # the index has it, but what is open here may be older
        else:
            self._take_note()
        return left

    def keep_sources(self, prefixes: AbstractSet[str]) -> None:
        """What the index has not taken in yet of others than these is not searched any more."""
        self.overlay.keep_sources(prefixes)
        self._take_note()

    def seen_through(self, overlay: Overlay) -> IndexView:
        """The same index under another overlay: that of another time."""
        view = copy.copy(self)
        view.overlay = overlay
        view._take_note()
        return view

    def seen_by(self, reader: Reader | None) -> IndexView:
        """The same index as somebody may see it; what they may not see is as if it were not there."""
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
        """The inverse document frequency of a term among what is seen."""
        if self._sight is None:
            return self.words.rarity(term)
        return rarity_of(self._sight.makeup.units, self._having_seen("text", term))

    def _take_note(self) -> None:
        """What the index still says of the overlay's files is no longer so, and who speaks in them may be asked for."""
        rows = [self.catalog.file(path) for path in self.overlay.paths]
        self.hidden = frozenset(row.id for row in rows if row is not None)
        self.names = known_names([*self._authors, *self.overlay.authors()])

    def _settled_stat(self, path: str) -> FileStat | None:
        """How the index knows a file whose words are committed; an impossible value while they are not."""
        row = self.catalog.file(path)
        return None if row is None else row.stat if row.state != "pending" else (-1, -1, -1, -1)

    def passing(self, query: Query, below: Path) -> FilteredChunks | None:
        """The indexed chunks that pass the filters; None if all do. Kept until the next commit: many questions share filters."""
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
        """Return the share (0 to 1) of the chunks that a question looks at that have a vector, of those that the reader sees."""
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
        """The vectors of what is seen, in order and each once. Kept until the next commit."""
        if self.hidden not in self._living:
            self._living[self.hidden] = self.facts.living_vectors(self.hidden)
            if len(self._living) > _READERS_KEPT:
                self._living.popitem(last=False)
        return self._living[self.hidden]

    def weigh(
        self, own: Collection[int], near: Collection[int], terms: Sequence[str]
    ) -> tuple[dict[int, float], dict[int, float]]:
        """Chunk → score by its own words, and with its neighbours', as any index of the same files would have it."""
        around = {chunk + step for chunk in near for step in range(-NEIGHBOURS, NEIGHBOURS + 1)}
        living = self.facts.candidates({*own, *around}, self.hidden)
        self._at_hand = self.catalog.chunk_rows(living.chunks.tolist())
        there = np.array([chunk in self._at_hand for chunk in living.chunks.tolist()], dtype=np.bool_)
        rows = [self._at_hand[chunk] for chunk in living.chunks[there].tolist()]
        units = Units(rows, living.files[there], living.words[there].astype(np.float64))
        return self._weigher.weigh(units, own, near, terms, self._statistics())

    def rows(self, chunks: Collection[int]) -> dict[int, ChunkRow]:
        """What a hit has to say of these chunks, as far as they are still there."""
        known, self._at_hand = self._at_hand, {}
        rows = {chunk: known[chunk] for chunk in chunks if chunk in known}
        rows |= self.catalog.chunk_rows([chunk for chunk in chunks if chunk > 0 and chunk not in rows])
        return {**rows, **self.overlay.rows()} if self.overlay else rows

    def standing(self, paths: Collection[str], binds: Binds = lambda new, old: True) -> dict[str, FileStatus]:
        """What sets files apart, of those that something sets apart. `binds`: whether one file takes the place of another."""
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
    """Those of the places below a host folder where nothing is. A directory is read rather than looked at for many names: whoever
    looks for one that is not there holds up whoever changes it.
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
    """Which file the catalog in a folder is; 0 if there is none."""
    try:
        return (folder / "catalog.db").stat().st_ino
    except FileNotFoundError:
        return 0


def _behind(waiting: int, total: int) -> str:
    """What to say while meaning has not caught up; empty when all but a few chunks are embedded."""
    if waiting <= max(_FEW, total // 10):
        return ""
    return f"meaning covers {total - waiting} of {total} chunks so far; words cover all"


def _mode_of(root: str, parts: tuple[str, ...]) -> int | None:
    """What is at a place below a host folder, no link followed; None if nothing is."""
    try:
        with rooted_fs.directory_of(root, parts) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError:
        return None


def _is_file(root: str, parts: tuple[str, ...]) -> bool:
    return S_ISREG(_mode_of(root, parts) or 0)
