"""Nearest-neighbour search over vectors. No other file imports hnswlib.

The catalog is the source of truth. A table consists of two parts:
a matrix of the vectors that the graph does not contain, searched exactly;
above a size, and if hnswlib is installed, an HNSW graph, saved as disposable files: the graph, its vector numbers, and its vectors.
The vectors are memory-mapped, not read, because hnswlib returns its own copies only one by one.
A side-car contains the metadata of the files and their checksums.

A graph search is approximate, and two graphs miss different vectors.
A caller that needs the same result from every index searches the living vectors without the graph (`search_among`).
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as HostPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ctxfs.index.engines.sign_hashes import SignHashes
from ctxfs.model.installation import missing_modules

Numbers = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
Neighbours = tuple[Numbers, npt.NDArray[np.float64]]  # numbers and their cosines, best first

_GRAPH_DEGREE = 16
_EF_CONSTRUCTION = 100
_EF_SEARCH = 96
_SPARE_ROWS = 1024
_BLOCK_ROWS = 16_384
_MAX_TOUCHED_ROWS = 4000
_MAX_RESIDENT_ROWS = 200_000  # vectors of a graph that may stay resident: 300 MB
# Without the graph, up to this many vectors are compared, at 0.4 ms a thousand.
# Beyond it, signs are compared first, at 0.02 ms a thousand, and then the vectors with the nearest signs.
_MAX_COMPARED = 8192
_MIN_SIGN_MATCHES = 4096
_SIGN_MATCH_FACTOR = 4  # multiple of the limit
_STORED_DTYPE = np.dtype("<f2")
_MAPPED_DTYPE = np.dtype("<f4")
_NUMBER_DTYPE = np.dtype("<i8")
_SIDE_CAR = "graph.json"

Rows = Callable[
    [int, int], Sequence[tuple[int, bytes]]
]  # (number, limit) → (number, vector) pairs above that number, sorted


def pack_vector(vector: Vectors) -> bytes:
    """Return the stored form of one vector: little-endian float16."""
    return vector.astype(_STORED_DTYPE).tobytes()


def unpack_vectors(rows: Sequence[bytes]) -> Vectors:
    """Return stored vectors as float32 [n, dimensions]."""
    return np.frombuffer(b"".join(rows), dtype=_STORED_DTYPE).reshape(len(rows), -1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class GraphFiles:
    """The metadata of a graph's files: its model, the number of its vectors, and the highest vector number (`last`)."""

    model: int
    dimensions: int
    count: int
    last: int
    sha256: dict[str, str]  # by suffix

    def file(self, folder: HostPath, suffix: str) -> HostPath:
        """Return the path of the graph file with this suffix."""
        return folder / f"graph-{self.last}.{suffix}"


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph in memory, with its sorted vector numbers [count], its vectors [count, dimensions] and their sign hashes.

    `matrix` is a view of the memory map `mapped`.
    """

    metadata: GraphFiles
    index: Any
    numbers: Numbers
    matrix: npt.NDArray[np.float32]
    mapped: mmap.mmap
    sign_hashes: SignHashes


class VectorTable:
    """The vectors of one model, sorted by number. `load` and `search` may run in different threads."""

    def __init__(self, model: int, dimensions: int) -> None:
        self.model = model
        self.dimensions = self._dimensions = dimensions
        self._lock = threading.Lock()
        self._graph: Graph | None = None
        self._numbers = np.empty(_SPARE_ROWS, dtype=np.int64)
        self._matrix = np.empty((_SPARE_ROWS, dimensions), dtype=np.float32)
        self._sign_hashes = SignHashes.from_matrix(self._matrix[:0])
        self._rows = 0
        self._touched_rows = 0
        self._positions_cache: tuple[Numbers, int, Numbers] | None = None
        # The vector of the last search without a graph, and its cosines to the loaded rows.
        self._cosine_cache: tuple[Vectors, npt.NDArray[np.float32]] | None = None

    @property
    def last(self) -> int:
        """The highest number that has been loaded; 0 if there is none."""
        return int(self._numbers[self._rows - 1]) if self._rows else self._graph.metadata.last if self._graph else 0

    @property
    def count(self) -> int:
        """The number of loaded vectors."""
        return (self._graph.metadata.count if self._graph else 0) + self._rows

    def load(self, rows: Rows) -> int:
        """Load the vectors after `last`, and return their number."""
        added = 0
        while batch := rows(self.last, 4096):
            block = unpack_vectors([vector for _, vector in batch])
            with self._lock:
                self._reserve(len(batch))
                self._numbers[self._rows : self._rows + len(batch)] = [number for number, _ in batch]
                self._matrix[self._rows : self._rows + len(batch)] = block
                self._sign_hashes = self._sign_hashes.appended(block)
                self._rows += len(batch)
            added += len(batch)
        return added

    def is_newer(self, metadata: GraphFiles | None) -> bool:
        """Return True for a graph of this model that contains more vectors than the current one."""
        current_last = self._graph.metadata.last if self._graph else 0
        return metadata is not None and metadata.model == self.model and metadata.last > current_last

    def use_graph(self, graph: Graph) -> None:
        """Replace the current graph, and drop the rows that the new graph contains."""
        with self._lock:
            is_kept = self._numbers[: self._rows] > graph.metadata.last
            numbers, matrix = self._numbers[: self._rows][is_kept], self._matrix[: self._rows][is_kept]
            self._sign_hashes = self._sign_hashes.select(is_kept)
            self._positions_cache = self._cosine_cache = None
            self._graph = graph
            self._rows = len(numbers)
            self._numbers = np.empty(self._rows + _SPARE_ROWS, dtype=np.int64)
            self._matrix = np.empty((self._rows + _SPARE_ROWS, self._dimensions), dtype=np.float32)
            self._numbers[: self._rows], self._matrix[: self._rows] = numbers, matrix

    def search(self, vector: Vectors, limit: int) -> Neighbours:
        """Return the nearest `limit` vectors: approximately from the graph, exactly from the rest."""
        with self._lock:
            numbers, scores = self._numbers[: self._rows], np.vecdot(self._matrix[: self._rows], vector)
            self._cosine_cache = (vector, scores) if self._graph is None else None
            if self._graph is not None:
                graph_limit = min(limit, self._graph.metadata.count)
                self._graph.index.set_ef(max(_EF_SEARCH, graph_limit))
                labels, distances = self._graph.index.knn_query(vector, k=graph_limit, num_threads=1)
                numbers = np.concatenate([numbers, labels[0].astype(np.int64)])
                scores = np.concatenate([scores, 1.0 - distances[0]])
        return _select_best(numbers, scores.astype(np.float64), limit)

    def search_among(self, vector: Vectors, numbers: Numbers, limit: int) -> Neighbours:
        """Return the nearest `limit` vectors among `numbers` (sorted, distinct), without the graph.

        Every table that contains these vectors returns the same result.
        Of more than 8,192 numbers, only those with the nearest signs are compared: at least four times `limit`.
        """
        if len(numbers) > _MAX_COMPARED:
            numbers = self._select_by_signs(vector, numbers, max(_MIN_SIGN_MATCHES, _SIGN_MATCH_FACTOR * limit))
        cosines = self.cosines(vector, numbers)
        is_loaded = ~np.isnan(cosines)
        return _select_best(numbers[is_loaded], cosines[is_loaded], limit)

    def _select_by_signs(self, vector: Vectors, numbers: Numbers, min_count: int) -> Numbers:
        """Return at least `least` of `numbers`, those that differ from `vector` in the fewest signs, with all ties."""
        with self._lock:
            graph = self._graph
            positions = self._find_positions(numbers)
            parts = (
                [self._sign_hashes.count_differing(vector)]
                if graph is None
                else [graph.sign_hashes.count_differing(vector), self._sign_hashes.count_differing(vector)]
            )
        is_loaded = positions >= 0
        differing = np.concatenate(parts)[positions[is_loaded]]
        max_difference = np.searchsorted(np.cumsum(np.bincount(differing)), min_count)
        nearest: Numbers = numbers[is_loaded][differing <= max_difference]
        return nearest

    def _find_positions(self, numbers: Numbers) -> Numbers:
        """Return the row of each number, counting the rows of the graph first; -1 if it is not loaded.

        The last result is cached, because most calls pass all living vectors.
        """
        if (
            self._positions_cache is None
            or self._positions_cache[0] is not numbers
            or self._positions_cache[1] != self._rows
        ):
            loaded = self._numbers[: self._rows]
            if self._graph is not None:
                loaded = np.concatenate([self._graph.numbers, loaded])
            indices = np.minimum(np.searchsorted(loaded, numbers), max(len(loaded) - 1, 0))
            positions = np.where(loaded[indices] == numbers, indices, -1) if len(loaded) else np.full(len(numbers), -1)
            self._positions_cache = (numbers, self._rows, positions)
        return self._positions_cache[2]

    def cosines(self, vector: Vectors, numbers: Numbers) -> npt.NDArray[np.float64]:
        """Return float64 [len(numbers)]: the cosine of each of `numbers` (any order), NaN for those not loaded."""
        out = np.full(len(numbers), np.nan)
        with self._lock:
            parts: list[tuple[Numbers, Any]] = [(self._numbers[: self._rows], self._matrix)]
            if self._graph is not None:
                parts.append((self._graph.numbers, self._graph.matrix))
                self._touched_rows += len(numbers)
                if self._touched_rows > _MAX_TOUCHED_ROWS and self._graph.metadata.count > _MAX_RESIDENT_ROWS:
                    # The kernel counts read pages, and much around them, as resident memory until memory is short.
                    self._graph.mapped.madvise(mmap.MADV_DONTNEED)
                    self._touched_rows = 0
            for part_numbers, matrix in parts:
                if len(part_numbers):
                    indices = np.minimum(np.searchsorted(part_numbers, numbers), len(part_numbers) - 1)
                    is_match = part_numbers[indices] == numbers
                    cached = self._cosine_cache if matrix is self._matrix else None
                    if cached is not None and cached[0] is vector and len(cached[1]) == self._rows:
                        out[is_match] = cached[1][indices[is_match]]
                    else:
                        out[is_match] = _multiply_rows(matrix, indices[is_match], vector)
        return out

    def rows(self, numbers: Numbers) -> list[Vectors | None]:
        """Return the vector of each of `numbers`, None for those not loaded."""
        out: list[Vectors | None] = [None] * len(numbers)
        with self._lock:
            parts: list[tuple[Numbers, Any]] = [(self._numbers[: self._rows], self._matrix)]
            if self._graph is not None:
                parts.append((self._graph.numbers, self._graph.matrix))
            for part_numbers, matrix in parts:
                for index, number in enumerate(numbers.tolist()):
                    row = int(np.searchsorted(part_numbers, number))
                    if row < len(part_numbers) and part_numbers[row] == number:
                        out[index] = np.array(matrix[row], dtype=np.float32)
        return out

    def _reserve(self, count: int) -> None:
        needed = self._rows + count
        if needed <= len(self._numbers):
            return
        size = max(needed, int(len(self._numbers) * 1.5))
        numbers, matrix = np.empty(size, dtype=np.int64), np.empty((size, self._dimensions), dtype=np.float32)
        numbers[: self._rows], matrix[: self._rows] = self._numbers[: self._rows], self._matrix[: self._rows]
        self._numbers, self._matrix = numbers, matrix


def _multiply_rows(matrix: Any, rows: Any, vector: Vectors) -> Any:
    """Return the dot products of some rows with a vector; in parts, because `take` copies the rows.

    Not a product of matrix and vector: in that, the last bits of a row depend on the number of rows beside it, so that
    the scores of visible files would reveal the presence of hidden ones.
    """
    parts = [rows[start : start + _BLOCK_ROWS] for start in range(0, len(rows), _BLOCK_ROWS)]
    products = [np.vecdot(np.take(matrix, part, axis=0).astype(np.float32, copy=False), vector) for part in parts]
    return np.concatenate(products) if products else np.empty(0)


def _select_best(numbers: Numbers, scores: npt.NDArray[np.float64], limit: int) -> Neighbours:
    if len(scores) > limit:
        top = np.argpartition(scores, -limit)[-limit:]
        numbers, scores = numbers[top], scores[top]
    order = np.lexsort((numbers, -scores))
    return numbers[order], scores[order]


def read_side_car(folder: HostPath) -> GraphFiles | None:
    """Return the metadata of the graph files; None if there are none, or if they are invalid."""
    try:
        fields = json.loads((folder / _SIDE_CAR).read_text(encoding="utf-8"))
        if fields["numbers_as"] != _MAPPED_DTYPE.str:
            return None  # written by another version of ctxfs
        metadata = GraphFiles(
            int(fields["model"]),
            int(fields["dimensions"]),
            int(fields["count"]),
            int(fields["last"]),
            dict(fields["sha256"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return metadata if metadata.count > 0 and metadata.last > 0 and metadata.dimensions > 0 else None


def has_graph_library() -> bool:
    """Return True if hnswlib is installed. Without it, vectors are searched exactly."""
    return not missing_modules("graph")


def drop_graph(folder: HostPath) -> None:
    """Delete the graph files. The graph is rebuilt when it is worthwhile."""
    for file in (folder / _SIDE_CAR, *folder.glob("graph-*")):
        file.unlink(missing_ok=True)


def is_graph_sound(folder: HostPath) -> bool:
    """Return True if the graph files match their checksums. Takes a second a gigabyte."""
    metadata = read_side_car(folder)
    if metadata is None:
        return False
    try:
        return all(_hash_file(metadata.file(folder, suffix)) == digest for suffix, digest in metadata.sha256.items())
    except OSError:
        return False


def read_graph(folder: HostPath, metadata: GraphFiles, room: int = 0) -> Graph | None:
    """Return the graph with capacity for `room` more vectors; None if a file is missing or damaged, or hnswlib is.

    Checksums are compared first: a flipped bit would crash hnswlib, and a truncated file would load as garbage.
    """
    if not has_graph_library() or not is_graph_sound(folder):
        return None
    import hnswlib

    try:
        index = hnswlib.Index(space="ip", dim=metadata.dimensions)
        index.load_index(str(metadata.file(folder, "hnsw")), max_elements=metadata.count + room)
        numbers = np.fromfile(metadata.file(folder, "numbers"), dtype=_NUMBER_DTYPE).astype(np.int64)
        shape = (metadata.count, metadata.dimensions)
        with open(metadata.file(folder, "vectors"), "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        matrix = np.frombuffer(mapped, dtype=_MAPPED_DTYPE).reshape(shape)
    except (OSError, RuntimeError, ValueError):
        return None
    sound = index.get_current_count() == metadata.count and len(numbers) == metadata.count
    return Graph(metadata, index, numbers, matrix, mapped, SignHashes.from_matrix(matrix)) if sound else None


def build_graph(folder: HostPath, model: int, dimensions: int, rows: Rows, total: int, threads: int) -> None:
    """Build a graph of every stored vector of a model and replace the old one; extend the old one if it is sound.

    Takes minutes for a million vectors, so it should run in its own process.
    """
    import hnswlib

    metadata = read_side_car(folder)
    old = None
    if metadata is not None and metadata.model == model and metadata.dimensions == dimensions:
        old = read_graph(folder, metadata, max(total - metadata.count, 0) + _SPARE_ROWS)
    if old is not None:
        index = old.index
    else:
        index = hnswlib.Index(space="ip", dim=dimensions)
        index.init_index(max_elements=max(total, 1), M=_GRAPH_DEGREE, ef_construction=_EF_CONSTRUCTION, random_seed=7)
    new = {suffix: folder / f".graph.{suffix}" for suffix in ("hnsw", "numbers", "vectors")}
    for suffix in ("numbers", "vectors"):
        new[suffix].write_bytes(b"")
        if old is not None:
            shutil.copyfile(old.metadata.file(folder, suffix), new[suffix])
    last, count = (old.metadata.last, old.metadata.count) if old is not None else (0, 0)
    with open(new["numbers"], "ab") as numbers_file, open(new["vectors"], "ab") as vectors_file:
        for numbers, block in _read_blocks(rows, last):
            if count + len(numbers) > index.get_max_elements():
                index.resize_index(count + len(numbers) + _SPARE_ROWS)
            index.add_items(block, numbers, num_threads=threads)
            numbers_file.write(numbers.astype(_NUMBER_DTYPE).tobytes())
            vectors_file.write(block.astype(_MAPPED_DTYPE).tobytes())
            last, count = int(numbers[-1]), count + len(numbers)
    if not count or (old is not None and count == old.metadata.count):
        return
    index.save_index(str(new["hnsw"]))
    checksums = {suffix: _hash_file(file) for suffix, file in new.items()}
    _publish_graph(folder, GraphFiles(model, dimensions, count, last, checksums), new)


def _publish_graph(folder: HostPath, metadata: GraphFiles, new: Mapping[str, HostPath]) -> None:
    """Move the files `new` (by suffix) and their side-car into place, and delete the files of older graphs."""
    for path in new.values():
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
    for suffix, file in new.items():
        os.replace(file, metadata.file(folder, suffix))
    side_car = folder / ".graph.json.new"
    side_car.write_text(
        json.dumps(
            {"numbers_as": _MAPPED_DTYPE.str}
            | {name: getattr(metadata, name) for name in ("model", "dimensions", "count", "last", "sha256")}
        )
    )
    os.replace(side_car, folder / _SIDE_CAR)
    for stale in folder.glob("graph-*"):
        if not stale.name.startswith(f"graph-{metadata.last}."):
            stale.unlink(missing_ok=True)


def _read_blocks(rows: Rows, last: int) -> Iterator[tuple[Numbers, Vectors]]:
    while batch := rows(last, 8192):
        block = unpack_vectors([vector for _, vector in batch])
        is_finite = np.isfinite(block).all(axis=1)  # hnswlib accepts NaN silently and then never finds the vector
        numbers = np.array([number for number, _ in batch], dtype=np.int64)
        last = int(numbers[-1])
        if is_finite.any():
            yield numbers[is_finite], block[is_finite]


def _hash_file(file: HostPath) -> str:
    with open(file, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
