"""In-memory columns of every chunk for ranking, so that a query needs no database. About 50 bytes a chunk.

Rows are sorted by chunk number. Numbers are never reused, so that new rows are appended.
Deleted rows stay, marked as not alive, until enough of them have accumulated.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from ctxfs.index.engines.catalog import Catalog, Fact
from ctxfs.index.extract.file_reader import ranks_with_neighbours
from ctxfs.index.search.features import Candidates, Numbers, Texts
from ctxfs.index.search.rank_fusion import Flags

_PART = 50_000
_LEAST = 1024
_COLUMNS: dict[str, type[np.signedinteger[Any]]] = {
    "chunk": np.int64, "file": np.int64, "folder": np.int32, "kind": np.int32, "author": np.int32, "day": np.int32,
    "traits": np.int32, "words": np.int32, "vector": np.int64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CorpusCounts:
    """Statistics of the living chunks.

    `units` is their number, `waiting` the number of those without a vector, `mean_words` their mean length in words.
    `code` is the share (0 to 1) of code, `loose` the share of chunks that rank with their neighbours.
    """

    units: int
    waiting: int
    mean_words: float
    code: float
    loose: float
    authors: list[str]


class _Codes:
    """An interning table of texts as small numbers."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        number = self._numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
        return number

    def of(self, numbers: Numbers) -> Texts:
        """Return the texts of numbers."""
        out = np.empty(len(numbers), dtype=np.object_)
        out[:] = [self.texts[number] for number in numbers.tolist()]
        return out


class ChunkColumns:
    """The columns, and the number of the last catalog change that they contain. One thread at a time uses it."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._seen = 0
        self._rows = self._dead = 0
        self._columns: dict[str, Numbers] = {name: np.empty(_LEAST, dtype=kind) for name, kind in _COLUMNS.items()}
        self._alive = np.zeros(_LEAST, dtype=np.bool_)
        self._folders, self._kinds, self._authors = _Codes(), _Codes(), _Codes()
        # Rows sorted by their vectors, except for those in `_unsorted`.
        self._by_vector = self._sorted_vectors = np.empty(0, dtype=np.int64)
        self._unsorted: list[Numbers] = []

    def __len__(self) -> int:
        return self._rows - self._dead

    @property
    def waiting(self) -> int:
        """The number of living chunks without a vector."""
        return int((self._alive[: self._rows] & (self._column("vector") < 0)).sum())

    def share_embedded(self, chunks: Numbers) -> float:
        """Return the share (0 to 1) of the living chunks among `chunks` that have a vector; 1 if none is alive."""
        at = self._living(chunks)
        return float((self._columns["vector"][at] >= 0).mean()) if len(at) else 1.0

    def makeup(self, unseen: frozenset[int] = frozenset()) -> CorpusCounts:
        """Return the statistics of the living chunks, without those of the files `unseen`."""
        seen = self._alive[: self._rows].copy()
        if unseen:
            seen &= ~np.isin(self._column("file"), np.fromiter(unseen, dtype=np.int64))
        units = int(seen.sum())
        counts = np.bincount(self._column("kind")[seen], minlength=len(self._kinds.texts)).tolist()
        kinds = dict(zip(self._kinds.texts, counts, strict=True))
        loose = sum(count for kind, count in kinds.items() if ranks_with_neighbours(kind, ()))
        authors = [self._authors.texts[number] for number in np.unique(self._column("author")[seen]).tolist()]
        words = float(self._column("words")[seen].sum())
        return CorpusCounts(
            units,
            int((seen & (self._column("vector") < 0)).sum()),
            words / max(units, 1),
            kinds.get("code", 0) / max(units, 1),
            loose / max(units, 1),
            [name for name in authors if name],
        )

    def load(self, catalog: Catalog) -> None:
        """Load the changes in the catalog since the last call."""
        with catalog.one_state():
            seen, files = catalog.changes_after(self._seen)
            if files is None:
                self._reset()
            elif files:
                self._forget(files)
            if files is None or files:
                rows = catalog.facts(files)
                while part := list(islice(rows, _PART)):
                    self._take_in(part)
            self._seen = seen
        if self._dead > max(_LEAST, self._rows // 2):
            self._compact()

    def _forget(self, files: Iterable[int]) -> None:
        """Mark all rows of these files as dead; rows that still exist are loaded again."""
        mine = np.isin(self._column("file"), np.fromiter(files, dtype=np.int64))
        mine &= self._alive[: self._rows]
        self._alive[: self._rows][mine] = False
        self._dead += int(mine.sum())

    def _take_in(self, part: Sequence[Fact]) -> None:
        """Load rows that are sorted by number: overwrite the existing ones, append the others."""
        values = list(zip(*part, strict=True))
        new: dict[str, Numbers] = {
            "chunk": np.array(values[0], dtype=np.int64),
            "file": np.array(values[1], dtype=np.int64),
            "folder": np.array([self._folders(text) for text in values[2]], dtype=np.int32),
            "kind": np.array([self._kinds(text) for text in values[3]], dtype=np.int32),
            "author": np.array([self._authors(text) for text in values[4]], dtype=np.int32),
            "day": np.array([day or 0 for day in values[5]], dtype=np.int32),
            "traits": np.array(values[6], dtype=np.int32),
            "words": np.array(values[7], dtype=np.int32),
            "vector": np.array([-1 if vector is None else vector for vector in values[8]], dtype=np.int64),
        }
        at, known = self._find(new["chunk"])
        self._dead -= int(known.sum() - self._alive[at[known]].sum())
        added = int((~known).sum())
        self._reserve(added)
        at[~known] = np.arange(self._rows, self._rows + added)
        for name, column in self._columns.items():
            column[at] = new[name]
        self._alive[at] = True
        self._rows += added
        if len(embedded := at[new["vector"] >= 0]):
            self._unsorted.append(embedded)

    def _find(self, chunks: Numbers) -> tuple[Numbers, Flags]:
        """Return (row of each chunk, True where the chunk exists)."""
        if not self._rows:
            return np.zeros(len(chunks), dtype=np.int64), np.zeros(len(chunks), dtype=np.bool_)
        numbers = self._column("chunk")
        at = np.minimum(np.searchsorted(numbers, chunks), self._rows - 1)
        return at, numbers[at] == chunks

    def _column(self, name: str) -> Numbers:
        return self._columns[name][: self._rows]

    def _reserve(self, more: int) -> None:
        needed = self._rows + more
        if needed > len(self._columns["chunk"]):
            size = max(needed, int(len(self._columns["chunk"]) * 1.3))
            for name, column in self._columns.items():
                self._columns[name] = np.empty(size, dtype=column.dtype)
                self._columns[name][: self._rows] = column[: self._rows]
            alive, self._alive = self._alive, np.zeros(size, dtype=np.bool_)
            self._alive[: self._rows] = alive[: self._rows]

    def _compact(self) -> None:
        alive = self._alive[: self._rows]
        for name in self._columns:
            self._columns[name] = self._column(name)[alive]
        self._rows, self._dead = int(alive.sum()), 0
        self._alive = np.ones(self._rows, dtype=np.bool_)
        self._by_vector, self._unsorted = np.empty(0, dtype=np.int64), [np.flatnonzero(self._column("vector") >= 0)]

    # queries

    def _living(self, chunks: Numbers) -> Numbers:
        at, known = self._find(chunks)
        at = at[known]
        living: Numbers = at[self._alive[at]]
        return living

    def candidates(self, chunks: Iterable[int], hidden: Container[int] = ()) -> Candidates:
        """Return those of `chunks` that are alive and not in `hidden` files, sorted by number."""
        at = self._living(np.unique(np.fromiter(chunks, dtype=np.int64)))
        if hidden:
            at = at[[file not in hidden for file in self._columns["file"][at].tolist()]]
        picked = {name: column[at] for name, column in self._columns.items()}
        return Candidates(
            picked["chunk"],
            picked["file"],
            picked["folder"],
            self._kinds.of(picked["kind"]),
            self._authors.of(picked["author"]),
            picked["day"],
            picked["traits"],
            picked["words"],
            picked["vector"],
        )

    def folder_number(self, folder: str) -> int:
        """Return the number of a folder in `Candidates.folders`."""
        return self._folders(folder)

    def vectors_of(self, chunks: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Return (chunk, file, vector) columns of those of `chunks` that have a vector, in their order."""
        at = self._living(chunks)
        at = at[self._columns["vector"][at] >= 0]
        return self._columns["chunk"][at], self._columns["file"][at], self._columns["vector"][at]

    def living_vectors(self, hidden: frozenset[int] = frozenset()) -> Numbers:
        """Return the sorted, distinct vectors of the living chunks that are not in `hidden` files."""
        rows = self._alive[: self._rows] & (self._column("vector") >= 0)
        if hidden:
            rows &= ~np.isin(self._column("file"), np.fromiter(hidden, dtype=np.int64))
        living: Numbers = np.unique(self._column("vector")[rows])
        return living

    def chunks_with(self, vectors: Numbers) -> tuple[Numbers, Numbers]:
        """Return the living chunks that have one of `vectors`, and the index of each one's vector in `vectors`.

        Sort them by that index, then by chunk. The `vectors` are distinct.
        """
        self._sort()
        order = np.argsort(vectors, kind="stable")
        first = np.searchsorted(self._sorted_vectors, vectors[order], "left")
        many = np.searchsorted(self._sorted_vectors, vectors[order], "right") - first
        within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        at = self._by_vector[np.repeat(first, many) + within]
        place = np.repeat(order, many)
        alive = self._alive[at]
        chunks, place = self._columns["chunk"][at[alive]], place[alive]
        kept = np.lexsort((chunks, place))
        return chunks[kept], place[kept]

    def _sort(self) -> None:
        """Merge the rows that were loaded since the last call into the rows sorted by vector."""
        if not self._unsorted:
            return
        come = np.unique(np.concatenate(self._unsorted))
        self._unsorted = []
        again = np.zeros(self._rows, dtype=np.bool_)
        again[come] = True
        kept = self._by_vector[~again[self._by_vector]]
        come = come[np.argsort(self._columns["vector"][come], kind="stable")]
        places = np.searchsorted(self._columns["vector"][kept], self._columns["vector"][come])
        self._by_vector = np.insert(kept, places, come)
        self._sorted_vectors = self._columns["vector"][self._by_vector]
