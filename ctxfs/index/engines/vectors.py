"""Nearest-neighbour search over vectors. No other file imports hnswlib.

The catalog is the source of truth. A table consists of two parts:
a matrix of the vectors that the graph does not contain, searched exactly;
above a size, an HNSW graph, saved as disposable files: the graph, its vector numbers, and its vectors.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path as HostPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ctxfs.index.engines.sign_hashes import SignHashes

Numbers = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
Found = tuple[Numbers, npt.NDArray[np.float64]]  # numbers and their cosines, best first

_M = 16
_EF_CONSTRUCTION = 100
_EF_SEARCH = 96
_GROW = 1024
_COPIED = 16_384
_TOUCHED = 4000
_RESIDENT = 200_000  # vectors of a graph that may stay resident: 300 MB
# Without the graph, up to this many vectors are compared, at 0.4 ms a thousand.
# Beyond it, signs are compared first, at 0.02 ms a thousand, and then the vectors with the nearest signs.
_COMPARED = 8192
_NEAR_LEAST = 4096
_NEAR_TIMES = 4  # multiple of the limit
_STORED = np.dtype("<f2")
_MAPPED = np.dtype("<f4")
_NUMBER = np.dtype("<i8")
_SIDE_CAR = "graph.json"

Rows = Callable[
    [int, int], Sequence[tuple[int, bytes]]
]  # (number, limit) → (number, vector) pairs above that number, sorted


def pack_vector(vector: Vectors) -> bytes:
    """Return the stored form of one vector: little-endian float16."""
    return vector.astype(_STORED).tobytes()


def unpack_vectors(rows: Sequence[bytes]) -> Vectors:
    """Return stored vectors as float32 [n, dimensions]."""
    return np.frombuffer(b"".join(rows), dtype=_STORED).reshape(len(rows), -1).astype(np.float32)


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

    about: GraphFiles
    index: Any
    numbers: Numbers
    matrix: npt.NDArray[np.float32]
    mapped: mmap.mmap
    sketches: SignHashes


class VectorTable:
    """The vectors of one model, sorted by number. `load` and `search` may run in different threads."""

    def __init__(self, model: int, dimensions: int) -> None:
        self.model = model
        self._dimensions = dimensions
        self._lock = threading.Lock()
        self._graph: Graph | None = None
        self._numbers = np.empty(_GROW, dtype=np.int64)
        self._matrix = np.empty((_GROW, dimensions), dtype=np.float32)
        self._sketches = SignHashes.of(self._matrix[:0])
        self._rows = 0
        self._touched = 0
        self._placed: tuple[Numbers, int, Numbers] | None = None

    @property
    def last(self) -> int:
        """The highest number that has been loaded; 0 if there is none."""
        return int(self._numbers[self._rows - 1]) if self._rows else self._graph.about.last if self._graph else 0

    @property
    def count(self) -> int:
        """The number of loaded vectors."""
        return (self._graph.about.count if self._graph else 0) + self._rows

    def load(self, rows: Rows) -> int:
        """Load the vectors after `last`, and return their number."""
        added = 0
        while found := rows(self.last, 4096):
            block = unpack_vectors([vector for _, vector in found])
            with self._lock:
                self._reserve(len(found))
                self._numbers[self._rows : self._rows + len(found)] = [number for number, _ in found]
                self._matrix[self._rows : self._rows + len(found)] = block
                self._sketches = self._sketches.and_of(block)
                self._rows += len(found)
            added += len(found)
        return added

    def wants(self, about: GraphFiles | None) -> bool:
        """Return True for a graph of this model that contains more vectors than the current one."""
        held = self._graph.about.last if self._graph else 0
        return about is not None and about.model == self.model and about.last > held

    def use(self, graph: Graph) -> None:
        """Replace the current graph, and drop the rows that the new graph contains."""
        with self._lock:
            keep = self._numbers[: self._rows] > graph.about.last
            numbers, matrix = self._numbers[: self._rows][keep], self._matrix[: self._rows][keep]
            self._sketches = self._sketches.of_rows(keep)
            self._placed = None
            self._graph = graph
            self._rows = len(numbers)
            self._numbers = np.empty(self._rows + _GROW, dtype=np.int64)
            self._matrix = np.empty((self._rows + _GROW, self._dimensions), dtype=np.float32)
            self._numbers[: self._rows], self._matrix[: self._rows] = numbers, matrix

    def search(self, vector: Vectors, limit: int) -> Found:
        """Return the nearest `limit` vectors: approximately from the graph, exactly from the rest."""
        with self._lock:
            numbers, scores = self._numbers[: self._rows], self._matrix[: self._rows] @ vector
            if self._graph is not None:
                wanted = min(limit, self._graph.about.count)
                self._graph.index.set_ef(max(_EF_SEARCH, wanted))
                labels, distances = self._graph.index.knn_query(vector, k=wanted, num_threads=1)
                numbers = np.concatenate([numbers, labels[0].astype(np.int64)])
                scores = np.concatenate([scores, 1.0 - distances[0]])
        return _best(numbers, scores.astype(np.float64), limit)

    def search_among(self, vector: Vectors, numbers: Numbers, limit: int) -> Found:
        """Return the nearest `limit` vectors among `numbers` (sorted, distinct), without the graph.

        Every table that contains these vectors returns the same result.
        Of more than 8,192 numbers, only those with the nearest signs are compared: at least four times `limit`.
        """
        if len(numbers) > _COMPARED:
            numbers = self._near(vector, numbers, max(_NEAR_LEAST, _NEAR_TIMES * limit))
        cosines = self.cosines(vector, numbers)
        known = ~np.isnan(cosines)
        return _best(numbers[known], cosines[known], limit)

    def _near(self, vector: Vectors, numbers: Numbers, least: int) -> Numbers:
        """Return at least `least` of `numbers`, those that differ from `vector` in the fewest signs, with all ties."""
        with self._lock:
            graph = self._graph
            places = self._places(numbers)
            parts = (
                [self._sketches.differing(vector)]
                if graph is None
                else [graph.sketches.differing(vector), self._sketches.differing(vector)]
            )
        known = places >= 0
        differing = np.concatenate(parts)[places[known]]
        most = np.searchsorted(np.cumsum(np.bincount(differing)), least)
        near: Numbers = numbers[known][differing <= most]
        return near

    def _places(self, numbers: Numbers) -> Numbers:
        """Return the row of each number, counting the rows of the graph first; -1 if it is not loaded.

        The last result is cached, because most calls pass all living vectors.
        """
        if self._placed is None or self._placed[0] is not numbers or self._placed[1] != self._rows:
            mine = self._numbers[: self._rows]
            if self._graph is not None:
                mine = np.concatenate([self._graph.numbers, mine])
            at = np.minimum(np.searchsorted(mine, numbers), max(len(mine) - 1, 0))
            places = np.where(mine[at] == numbers, at, -1) if len(mine) else np.full(len(numbers), -1)
            self._placed = (numbers, self._rows, places)
        return self._placed[2]

    def cosines(self, vector: Vectors, numbers: Numbers) -> npt.NDArray[np.float64]:
        """Return float64 [len(numbers)]: the cosine of each of `numbers` (any order), NaN for those not loaded."""
        out = np.full(len(numbers), np.nan)
        with self._lock:
            held: list[tuple[Numbers, Any]] = [(self._numbers[: self._rows], self._matrix)]
            if self._graph is not None:
                held.append((self._graph.numbers, self._graph.matrix))
                self._touched += len(numbers)
                if self._touched > _TOUCHED and self._graph.about.count > _RESIDENT:
                    # The kernel counts read pages, and much around them, as resident memory until memory is short.
                    self._graph.mapped.madvise(mmap.MADV_DONTNEED)
                    self._touched = 0
            for mine, matrix in held:
                if len(mine):
                    places = np.minimum(np.searchsorted(mine, numbers), len(mine) - 1)
                    inside = mine[places] == numbers
                    out[inside] = _products(matrix, places[inside], vector)
        return out

    def _reserve(self, more: int) -> None:
        needed = self._rows + more
        if needed <= len(self._numbers):
            return
        size = max(needed, int(len(self._numbers) * 1.5))
        numbers, matrix = np.empty(size, dtype=np.int64), np.empty((size, self._dimensions), dtype=np.float32)
        numbers[: self._rows], matrix[: self._rows] = self._numbers[: self._rows], self._matrix[: self._rows]
        self._numbers, self._matrix = numbers, matrix


def _products(matrix: Any, rows: Any, vector: Vectors) -> Any:
    """Return the dot products of some rows with a vector; in parts, because `take` copies the rows."""
    parts = [rows[at : at + _COPIED] for at in range(0, len(rows), _COPIED)]
    found = [np.take(matrix, part, axis=0).astype(np.float32, copy=False) @ vector for part in parts]
    return np.concatenate(found) if found else np.empty(0)


def _best(numbers: Numbers, scores: npt.NDArray[np.float64], limit: int) -> Found:
    if len(scores) > limit:
        top = np.argpartition(scores, -limit)[-limit:]
        numbers, scores = numbers[top], scores[top]
    order = np.lexsort((numbers, -scores))
    return numbers[order], scores[order]


def read_side_car(folder: HostPath) -> GraphFiles | None:
    """Return the metadata of the graph files; None if there are none, or if they are invalid."""
    try:
        said = json.loads((folder / _SIDE_CAR).read_text(encoding="utf-8"))
        if said["numbers_as"] != _MAPPED.str:
            return None  # written by another version of ctxfs
        about = GraphFiles(
            int(said["model"]), int(said["dimensions"]), int(said["count"]), int(said["last"]), dict(said["sha256"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return about if about.count > 0 and about.last > 0 and about.dimensions > 0 else None


def drop_graph(folder: HostPath) -> None:
    """Delete the graph files. The graph is rebuilt when it is worthwhile."""
    for file in (folder / _SIDE_CAR, *folder.glob("graph-*")):
        file.unlink(missing_ok=True)


def is_graph_sound(folder: HostPath) -> bool:
    """Return True if the graph files match their checksums. Takes a second a gigabyte."""
    about = read_side_car(folder)
    if about is None:
        return False
    try:
        return all(_sha256(about.file(folder, suffix)) == digest for suffix, digest in about.sha256.items())
    except OSError:
        return False


def read_graph(folder: HostPath, about: GraphFiles, room: int = 0) -> Graph | None:
    """Return the graph with capacity for `room` more vectors; None if a file is missing or damaged.

    Checksums are compared first: a flipped bit would crash hnswlib, and a truncated file would load as garbage.
    """
    import hnswlib

    if not is_graph_sound(folder):
        return None
    try:
        index = hnswlib.Index(space="ip", dim=about.dimensions)
        index.load_index(str(about.file(folder, "hnsw")), max_elements=about.count + room)
        numbers = np.fromfile(about.file(folder, "numbers"), dtype=_NUMBER).astype(np.int64)
        shape = (about.count, about.dimensions)
        with open(about.file(folder, "vectors"), "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        matrix = np.frombuffer(mapped, dtype=_MAPPED).reshape(shape)
    except (OSError, RuntimeError, ValueError):
        return None
    sound = index.get_current_count() == about.count and len(numbers) == about.count
    return Graph(about, index, numbers, matrix, mapped, SignHashes.of(matrix)) if sound else None


def build_graph(folder: HostPath, model: int, dimensions: int, rows: Rows, total: int, threads: int) -> None:
    """Build a graph of every stored vector of a model and replace the old one; extend the old one if it is sound.

    Takes minutes for a million vectors, so it should run in its own process.
    """
    import hnswlib

    about = read_side_car(folder)
    old = None
    if about is not None and about.model == model and about.dimensions == dimensions:
        old = read_graph(folder, about, max(total - about.count, 0) + _GROW)
    if old is not None:
        index = old.index
    else:
        index = hnswlib.Index(space="ip", dim=dimensions)
        index.init_index(max_elements=max(total, 1), M=_M, ef_construction=_EF_CONSTRUCTION, random_seed=7)
    new = {suffix: folder / f".graph.{suffix}" for suffix in ("hnsw", "numbers", "vectors")}
    for suffix in ("numbers", "vectors"):
        new[suffix].write_bytes(b"")
        if old is not None:
            shutil.copyfile(old.about.file(folder, suffix), new[suffix])
    last, count = (old.about.last, old.about.count) if old is not None else (0, 0)
    with open(new["numbers"], "ab") as numbers_file, open(new["vectors"], "ab") as vectors_file:
        for numbers, block in _blocks(rows, last):
            if count + len(numbers) > index.get_max_elements():
                index.resize_index(count + len(numbers) + _GROW)
            index.add_items(block, numbers, num_threads=threads)
            numbers_file.write(numbers.astype(_NUMBER).tobytes())
            vectors_file.write(block.astype(_MAPPED).tobytes())
            last, count = int(numbers[-1]), count + len(numbers)
    if not count or (old is not None and count == old.about.count):
        return
    index.save_index(str(new["hnsw"]))
    for made in new.values():
        with open(made, "rb") as written:
            os.fsync(written.fileno())
    made_of = GraphFiles(model, dimensions, count, last, {suffix: _sha256(file) for suffix, file in new.items()})
    for suffix, file in new.items():
        os.replace(file, made_of.file(folder, suffix))
    side_car = folder / ".graph.json.new"
    side_car.write_text(
        json.dumps(
            {"numbers_as": _MAPPED.str}
            | {name: getattr(made_of, name) for name in ("model", "dimensions", "count", "last", "sha256")}
        )
    )
    os.replace(side_car, folder / _SIDE_CAR)
    for stale in folder.glob("graph-*"):
        if not stale.name.startswith(f"graph-{last}."):
            stale.unlink(missing_ok=True)


def _blocks(rows: Rows, last: int) -> Iterator[tuple[Numbers, Vectors]]:
    while found := rows(last, 8192):
        block = unpack_vectors([vector for _, vector in found])
        sound = np.isfinite(block).all(axis=1)  # hnswlib accepts NaN silently and then never finds the vector
        numbers = np.array([number for number, _ in found], dtype=np.int64)
        last = int(numbers[-1])
        if sound.any():
            yield numbers[sound], block[sound]


def _sha256(file: HostPath) -> str:
    with open(file, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
