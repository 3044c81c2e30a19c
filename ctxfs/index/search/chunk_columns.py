"""In-memory columns of every chunk for ranking, so that a query needs no database. About 50 bytes a chunk.

Rows are sorted by chunk number. Numbers are never reused, so that new rows are appended.
Deleted rows stay, marked as not alive, until enough of them have accumulated.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.catalog_schema import NOT_EMBEDDED, RankingRow, folder_of
from ctxfs.index.extract.file_reader import ranks_with_neighbours
from ctxfs.index.search.features import Candidates, Numbers, Texts
from ctxfs.index.search.file_roles import role_of
from ctxfs.index.search.rank_fusion import Flags

_cached_role = lru_cache(maxsize=1024)(role_of)  # cached, because the chunks of a file follow each other
_BATCH_ROWS = 50_000
_MIN_ROWS = 1024
_WAITING = -1  # in the place of a vector
_COLUMNS: dict[str, type[np.signedinteger[Any]]] = {
    "chunk": np.int64, "file": np.int64, "folder": np.int32, "kind": np.int32, "author": np.int32, "day": np.int32,
    "traits": np.int32, "words": np.int32, "vector": np.int64, "role": np.int8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CorpusCounts:
    """Statistics of the living chunks.

    `units` is their number, `waiting` the number of those that wait for a vector, `embeddable` the number of those that
    have or await one, `mean_words` their mean length in words.
    `kinds` is the number of chunks of each kind.
    `code_share` is the share (0 to 1) of code, `neighbour_share` the share of chunks that rank with their neighbours.
    """

    units: int
    waiting: int
    embeddable: int
    mean_words: float
    code_share: float
    neighbour_share: float
    authors: list[str]
    kinds: Mapping[str, int] = field(default_factory=dict)


class ColumnState(NamedTuple):
    """All rows of the columns, and the last change of the catalog in them; `texts` are folders, kinds and authors."""

    last_change: int
    columns: Mapping[str, Numbers]
    alive: Flags
    texts: list[list[str]]


class _Interner:
    """An interning table of texts as small numbers."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.texts: list[str] = list(texts)
        self._numbers: dict[str, int] = {text: number for number, text in enumerate(self.texts)}
        self._array: Texts = np.empty(0, dtype=np.object_)

    def __call__(self, text: str) -> int:
        number = self._numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
        return number

    def texts_of(self, numbers: Numbers) -> Texts:
        """Return the texts of numbers."""
        if len(self._array) != len(self.texts):  # texts are only appended
            self._array = np.empty(len(self.texts), dtype=np.object_)
            self._array[:] = self.texts
        texts: Texts = self._array[numbers]
        return texts


class ChunkColumns:
    """The columns, and the number of the last catalog change that they contain. One thread at a time uses it."""

    def __init__(self) -> None:
        self.loaded_rows = 0  # rows that were read from the catalog so far
        self._reset()

    def state(self) -> ColumnState:
        """Return the current rows, without a copy: the caller uses them before the next load."""
        columns = {name: self._get_column(name) for name in self._columns}
        interners = (self._folder_numbers, self._kind_numbers, self._author_numbers)
        return ColumnState(
            self._last_change, columns, self._alive[: self._rows], [interner.texts for interner in interners]
        )

    def _reset(self) -> None:
        self._last_change = 0
        self._rows = self._dead = 0
        self._columns: dict[str, Numbers] = {name: np.empty(_MIN_ROWS, dtype=kind) for name, kind in _COLUMNS.items()}
        self._alive = np.zeros(_MIN_ROWS, dtype=np.bool_)
        self._folder_numbers, self._kind_numbers, self._author_numbers = _Interner(), _Interner(), _Interner()
        # Rows sorted by their vectors, except for those in `_unsorted`.
        self._by_vector = self._sorted_vectors = np.empty(0, dtype=np.int64)
        self._unsorted: list[Numbers] = []

    def restore(self, state: ColumnState) -> None:
        """Take the rows of an earlier state of the same catalog; `load` adds the changes since. Raise ValueError."""
        self._reset()
        rows = len(state.alive)
        wrong = [
            name for name, kind in _COLUMNS.items() if name not in state.columns or state.columns[name].dtype != kind
        ]
        if wrong or any(column.shape != (rows,) for column in state.columns.values()) or state.alive.dtype != np.bool_:
            raise ValueError("the columns have other names or types")
        self._last_change = state.last_change
        self._rows, self._dead = rows, int((~state.alive).sum())
        self._columns, self._alive = {name: state.columns[name] for name in _COLUMNS}, state.alive
        self._folder_numbers, self._kind_numbers, self._author_numbers = map(_Interner, state.texts)
        self._unsorted = [np.flatnonzero(self._get_column("vector") >= 0)]

    def __len__(self) -> int:
        return self._rows - self._dead

    @property
    def waiting(self) -> int:
        """The number of living chunks that wait for a vector."""
        return int((self._alive[: self._rows] & (self._get_column("vector") == _WAITING)).sum())

    @property
    def embeddable(self) -> int:
        """The number of living chunks that have a vector, or wait for one."""
        return int((self._alive[: self._rows] & (self._get_column("vector") != NOT_EMBEDDED)).sum())

    def share_embedded(self, chunks: Numbers) -> float:
        """Return the share (0 to 1) of the embeddable living chunks among `chunks` that have a vector; 1 without any."""
        vectors = self._columns["vector"][self._find_living_rows(chunks)]
        vectors = vectors[vectors != NOT_EMBEDDED]
        return float((vectors >= 0).mean()) if len(vectors) else 1.0

    def corpus_counts(self, hidden: frozenset[int] = frozenset()) -> CorpusCounts:
        """Return the statistics of the living chunks, without those of the files `unseen`."""
        seen = self._alive[: self._rows].copy()
        if hidden:
            seen &= ~np.isin(self._get_column("file"), np.fromiter(hidden, dtype=np.int64))
        units = int(seen.sum())
        counts = np.bincount(self._get_column("kind")[seen], minlength=len(self._kind_numbers.texts)).tolist()
        kinds = dict(zip(self._kind_numbers.texts, counts, strict=True))
        neighbour_count = sum(count for kind, count in kinds.items() if ranks_with_neighbours(kind, ()))
        authors = [
            self._author_numbers.texts[number] for number in np.unique(self._get_column("author")[seen]).tolist()
        ]
        words = float(self._get_column("words")[seen].sum())
        return CorpusCounts(
            units,
            int((seen & (self._get_column("vector") == _WAITING)).sum()),
            int((seen & (self._get_column("vector") != NOT_EMBEDDED)).sum()),
            words / max(units, 1),
            kinds.get("code", 0) / max(units, 1),
            neighbour_count / max(units, 1),
            [name for name in authors if name],
            {kind: count for kind, count in kinds.items() if count},
        )

    def load(self, catalog: Catalog) -> None:
        """Load the changes in the catalog since the last call."""
        with catalog.read_transaction():
            last_change, files = catalog.changes_after(self._last_change)
            if files is None:
                self._reset()
            elif files:
                self._mark_dead(files)
            if files is None or files:
                rows = catalog.ranking_rows(files)
                while part := list(islice(rows, _BATCH_ROWS)):
                    self._load_rows(part)
            self._last_change = last_change
        if self._dead > max(_MIN_ROWS, self._rows // 2):
            self._compact()

    def _mark_dead(self, files: Iterable[int]) -> None:
        """Mark all rows of these files as dead; rows that still exist are loaded again."""
        is_affected = np.isin(self._get_column("file"), np.fromiter(files, dtype=np.int64))
        is_affected &= self._alive[: self._rows]
        self._alive[: self._rows][is_affected] = False
        self._dead += int(is_affected.sum())

    def _load_rows(self, part: Sequence[RankingRow]) -> None:
        """Load rows that are sorted by number: overwrite the existing ones, append the others."""
        self.loaded_rows += len(part)
        values = list(zip(*part, strict=True))
        new: dict[str, Numbers] = {
            "chunk": np.array(values[0], dtype=np.int64),
            "file": np.array(values[1], dtype=np.int64),
            "folder": np.array([self._folder_numbers(folder_of(path)) for path in values[2]], dtype=np.int32),
            "kind": np.array([self._kind_numbers(text) for text in values[3]], dtype=np.int32),
            "author": np.array([self._author_numbers(text) for text in values[4]], dtype=np.int32),
            "day": np.array([day or 0 for day in values[5]], dtype=np.int32),
            "traits": np.array(values[6], dtype=np.int32),
            "words": np.array(values[7], dtype=np.int32),
            "vector": np.array([_WAITING if vector is None else vector for vector in values[8]], dtype=np.int64),
            "role": np.array([_cached_role(*pair) for pair in zip(*values[2:4], strict=True)], dtype=np.int8),
        }
        rows, is_present = self._find_rows(new["chunk"])
        self._dead -= int(is_present.sum() - self._alive[rows[is_present]].sum())
        added = int((~is_present).sum())
        self._reserve(added)
        rows[~is_present] = np.arange(self._rows, self._rows + added)
        for name, column in self._columns.items():
            column[rows] = new[name]
        self._alive[rows] = True
        self._rows += added
        if len(embedded := rows[new["vector"] >= 0]):
            self._unsorted.append(embedded)

    def _find_rows(self, chunks: Numbers) -> tuple[Numbers, Flags]:
        """Return (row of each chunk, True where the chunk exists)."""
        if not self._rows:
            return np.zeros(len(chunks), dtype=np.int64), np.zeros(len(chunks), dtype=np.bool_)
        numbers = self._get_column("chunk")
        rows = np.minimum(np.searchsorted(numbers, chunks), self._rows - 1)
        return rows, numbers[rows] == chunks

    def _get_column(self, name: str) -> Numbers:
        return self._columns[name][: self._rows]

    def _reserve(self, count: int) -> None:
        needed = self._rows + count
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
            self._columns[name] = self._get_column(name)[alive]
        self._rows, self._dead = int(alive.sum()), 0
        self._alive = np.ones(self._rows, dtype=np.bool_)
        self._by_vector, self._unsorted = (
            np.empty(0, dtype=np.int64),
            [np.flatnonzero(self._get_column("vector") >= 0)],
        )

    # queries

    def _find_living_rows(self, chunks: Numbers) -> Numbers:
        rows, is_present = self._find_rows(chunks)
        rows = rows[is_present]
        living: Numbers = rows[self._alive[rows]]
        return living

    def candidates(self, chunks: Iterable[int], hidden: Container[int] = ()) -> Candidates:
        """Return those of `chunks` that are alive and not in `hidden` files, sorted by number."""
        numbers = np.fromiter(chunks, dtype=np.int64)
        rows = self._find_living_rows(np.sort(numbers) if isinstance(chunks, AbstractSet) else np.unique(numbers))
        if hidden:
            rows = rows[[file not in hidden for file in self._columns["file"][rows].tolist()]]
        columns = {name: column[rows] for name, column in self._columns.items()}
        return Candidates(
            columns["chunk"],
            columns["file"],
            columns["folder"],
            self._kind_numbers.texts_of(columns["kind"]),
            self._author_numbers.texts_of(columns["author"]),
            columns["day"],
            columns["traits"],
            columns["words"],
            columns["vector"],
            columns["role"],
        )

    def folder_number(self, folder: str) -> int:
        """Return the number of a folder in `Candidates.folders`."""
        return self._folder_numbers(folder)

    def vectors_of(self, chunks: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Return (chunk, file, vector) columns of those of `chunks` that have a vector, in their order."""
        rows = self._find_living_rows(chunks)
        rows = rows[self._columns["vector"][rows] >= 0]
        return self._columns["chunk"][rows], self._columns["file"][rows], self._columns["vector"][rows]

    def living_vectors(self, hidden: frozenset[int] = frozenset()) -> Numbers:
        """Return the sorted, distinct vectors of the living chunks that are not in `hidden` files."""
        rows = self._alive[: self._rows] & (self._get_column("vector") >= 0)
        if hidden:
            rows &= ~np.isin(self._get_column("file"), np.fromiter(hidden, dtype=np.int64))
        living: Numbers = np.unique(self._get_column("vector")[rows])
        return living

    def chunks_with(self, vectors: Numbers) -> tuple[Numbers, Numbers]:
        """Return the living chunks that have one of `vectors`, and the index of each one's vector in `vectors`.

        Sort them by that index, then by chunk. The `vectors` are distinct.
        """
        self._sort_by_vector()
        sorted_indices = np.argsort(vectors, kind="stable")
        first = np.searchsorted(self._sorted_vectors, vectors[sorted_indices], "left")
        counts = np.searchsorted(self._sorted_vectors, vectors[sorted_indices], "right") - first
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = self._by_vector[np.repeat(first, counts) + offsets]
        indices = np.repeat(sorted_indices, counts)
        alive = self._alive[rows]
        chunks, indices = self._columns["chunk"][rows[alive]], indices[alive]
        output_order = np.lexsort((chunks, indices))
        return chunks[output_order], indices[output_order]

    def _sort_by_vector(self) -> None:
        """Merge the rows that were loaded since the last call into the rows sorted by vector."""
        if not self._unsorted:
            return
        added = np.unique(np.concatenate(self._unsorted))
        self._unsorted = []
        is_added = np.zeros(self._rows, dtype=np.bool_)
        is_added[added] = True
        existing = self._by_vector[~is_added[self._by_vector]]
        added = added[np.argsort(self._columns["vector"][added], kind="stable")]
        positions = np.searchsorted(self._columns["vector"][existing], self._columns["vector"][added])
        self._by_vector = np.insert(existing, positions, added)
        self._sorted_vectors = self._columns["vector"][self._by_vector]
