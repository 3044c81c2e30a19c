"""Nearest vectors. The only room that knows hnswlib.

The truth is in the catalog. Here is a matrix of what the graph does not hold, searched exactly, and, above a size, an HNSW
graph saved as a disposable file with a side-car that says what is in it and its checksum.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path as HostPath
from typing import Any

import numpy as np

from ctxfs.index.embed import Vectors

_M = 16
_EF_CONSTRUCTION = 100
_EF_SEARCH = 96
_GROW = 1024

Rows = Callable[[int, int], Sequence[tuple[int, bytes]]]  # catalog.vectors_after


def pack_vector(vector: Vectors) -> bytes:
    """The stored form of one vector: little-endian float16."""
    return vector.astype("<f2").tobytes()


def unpack_vectors(rows: Sequence[bytes]) -> Vectors:
    """Stored vectors as float32 [n, dimensions]."""
    return np.frombuffer(b"".join(rows), dtype="<f2").reshape(len(rows), -1).astype(np.float32)


class VectorTable:
    """Vectors by number, in the order of their numbers. `load` and `search` may run in different threads."""

    def __init__(self, folder: HostPath, dimensions: int) -> None:
        self._folder = folder
        self._dimensions = dimensions
        self._lock = threading.Lock()
        self._graph: Any = None
        self._graph_last = 0
        self._graph_count = 0
        self._graph_numbers = np.empty(0, dtype=np.int64)
        self._numbers = np.empty(_GROW, dtype=np.int64)
        self._matrix = np.empty((_GROW, dimensions), dtype=np.float32)
        self._rows = 0

    @property
    def last(self) -> int:
        """The highest number that has been loaded."""
        return int(self._numbers[self._rows - 1]) if self._rows else self._graph_last

    @property
    def count(self) -> int:
        """Vectors loaded."""
        return self._graph_count + self._rows

    def load(self, rows: Rows) -> int:
        """Take in the vectors after `last`; returns how many there were."""
        added = 0
        while found := rows(self.last, 4096):
            block = unpack_vectors([vector for _, vector in found])
            with self._lock:
                self._reserve(len(found))
                self._numbers[self._rows : self._rows + len(found)] = [number for number, _ in found]
                self._matrix[self._rows : self._rows + len(found)] = block
                self._rows += len(found)
            added += len(found)
        return added

    def load_graph(self) -> bool:
        """Use the graph on disk if there is a sound one that is newer than what is held; drop the rows it covers."""
        about = read_side_car(self._folder, self._dimensions)
        if about is None or about["last"] <= self._graph_last:
            return False
        graph = _read_graph(self._folder, about, self._dimensions)
        if graph is None:
            return False
        with self._lock:
            keep = self._numbers[: self._rows] > about["last"]
            numbers, matrix = self._numbers[: self._rows][keep], self._matrix[: self._rows][keep]
            self._graph, self._graph_last, self._graph_count = graph, int(about["last"]), int(about["count"])
            self._graph_numbers = np.sort(np.asarray(graph.get_ids_list(), dtype=np.int64))
            self._rows = len(numbers)
            self._numbers = np.empty(self._rows + _GROW, dtype=np.int64)
            self._matrix = np.empty((self._rows + _GROW, self._dimensions), dtype=np.float32)
            self._numbers[: self._rows], self._matrix[: self._rows] = numbers, matrix
        return True

    def search(self, vector: Vectors, limit: int) -> list[tuple[int, float]]:
        """(number, cosine) of the nearest, best first: from the graph and, exactly, from the rest."""
        with self._lock:
            found: list[tuple[int, float]] = []
            if self._rows:
                found = _best(self._numbers[: self._rows], self._matrix[: self._rows] @ vector, limit)
            if self._graph is not None:
                wanted = min(limit, self._graph_count)
                self._graph.set_ef(max(_EF_SEARCH, wanted))
                labels, distances = self._graph.knn_query(vector, k=wanted, num_threads=1)
                found += [(int(n), 1.0 - float(d)) for n, d in zip(labels[0], distances[0], strict=True)]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:limit]

    def search_among(self, vector: Vectors, numbers: Sequence[int], limit: int) -> list[tuple[int, float]]:
        """Like `search`, but only `numbers`, exactly."""
        wanted = np.unique(np.asarray(numbers, dtype=np.int64))
        cosines = self.cosines(vector, wanted)
        known = ~np.isnan(cosines)
        return sorted(_best(wanted[known], cosines[known], limit), key=lambda pair: (-pair[1], pair[0]))

    def cosines(self, vector: Vectors, numbers: Any) -> Any:
        """float64 [len(numbers)]: the cosine of each of `numbers` (int64, any order); NaN for those not loaded."""
        out = np.full(len(numbers), np.nan)
        with self._lock:
            loaded = self._numbers[: self._rows]
            if self._rows:
                places = np.minimum(np.searchsorted(loaded, numbers), self._rows - 1)
                inside = loaded[places] == numbers
                out[inside] = self._matrix[places[inside]] @ vector
            if self._graph is not None:
                covered = np.flatnonzero(np.isnan(out) & (numbers <= self._graph_last))
                known = covered[np.isin(numbers[covered], self._graph_numbers)]
                if len(known):
                    rows = np.asarray(self._graph.get_items(numbers[known], return_type="numpy"), dtype=np.float32)
                    out[known] = rows @ vector
        return out

    def _reserve(self, more: int) -> None:
        needed = self._rows + more
        if needed <= len(self._numbers):
            return
        size = max(needed, int(len(self._numbers) * 1.5))
        numbers, matrix = np.empty(size, dtype=np.int64), np.empty((size, self._dimensions), dtype=np.float32)
        numbers[: self._rows], matrix[: self._rows] = self._numbers[: self._rows], self._matrix[: self._rows]
        self._numbers, self._matrix = numbers, matrix


def _best(numbers: Any, scores: Any, limit: int) -> list[tuple[int, float]]:
    if len(scores) > limit:
        top = np.argpartition(scores, -limit)[-limit:]
        numbers, scores = numbers[top], scores[top]
    return [(int(number), float(score)) for number, score in zip(numbers, scores, strict=True)]


def read_side_car(folder: HostPath, dimensions: int) -> dict[str, Any] | None:
    """What the graph file claims to hold: {dimensions, count, last, sha256}; None if there is none that fits."""
    try:
        about = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
        if about["dimensions"] == dimensions and about["count"] > 0 and about["last"] > 0 and about["sha256"]:
            return dict(about)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def drop_graph(folder: HostPath) -> None:
    """Delete the graph: it is built again when it is worth it."""
    for file in (folder / "graph.json", *folder.glob("graph-*.hnsw")):
        file.unlink(missing_ok=True)


def _read_graph(folder: HostPath, about: dict[str, Any], dimensions: int) -> Any:
    """The graph, or None: a file of another dimension loads as garbage and a flipped bit crashes, so check first."""
    import hnswlib

    file = folder / f"graph-{about['last']}.hnsw"
    try:
        if _sha256(file) != about["sha256"]:
            return None
        graph = hnswlib.Index(space="ip", dim=dimensions)
        graph.load_index(str(file))
    except (OSError, RuntimeError):
        return None
    return graph if graph.get_current_count() == about["count"] else None


def build_graph(folder: HostPath, dimensions: int, rows: Rows, total: int, threads: int) -> None:
    """Build a graph of every stored vector and put it in place of the old one. Minutes for millions; run it apart."""
    import hnswlib

    graph = hnswlib.Index(space="ip", dim=dimensions)
    graph.init_index(max_elements=max(total, 1), M=_M, ef_construction=_EF_CONSTRUCTION, random_seed=7)
    last, count = 0, 0
    for numbers, block in _blocks(rows):
        if count + len(numbers) > graph.get_max_elements():
            graph.resize_index(count + len(numbers) + _GROW)
        graph.add_items(block, numbers, num_threads=threads)
        last, count = int(numbers[-1]), count + len(numbers)
    if not count:
        return
    file = folder / f"graph-{last}.hnsw"
    temporary = folder / ".graph.new"
    graph.save_index(str(temporary))
    with open(temporary, "rb") as made:
        os.fsync(made.fileno())
    os.replace(temporary, file)
    about = {"dimensions": dimensions, "count": count, "last": last, "sha256": _sha256(file)}
    side_car = folder / ".graph.json.new"
    side_car.write_text(json.dumps(about), encoding="utf-8")
    os.replace(side_car, folder / "graph.json")
    for old in folder.glob("graph-*.hnsw"):
        if old != file:
            old.unlink(missing_ok=True)


def _blocks(rows: Rows) -> Iterator[tuple[Any, Vectors]]:
    last = 0
    while found := rows(last, 8192):
        block = unpack_vectors([vector for _, vector in found])
        sound = np.isfinite(block).all(axis=1)  # NaN would go in silently and never come out
        numbers = np.array([number for number, _ in found], dtype=np.int64)
        last = int(numbers[-1])
        yield numbers[sound], block[sound]


def _sha256(file: HostPath) -> str:
    with open(file, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
