"""Vectors of a shared store: `python -m benchmarks.shared_index [--files 400] [--vectors 30000]`.

It measures the time that the indexer of a joining node needs for all memories, with published vectors and without, and
a search of vectors without the graph against one in the graph. Times are those of the processors, of this process and
of its children, so that other programs do not count.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.harness import report
from ctxfs.index.engines import vectors
from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.fulltext import FullText
from ctxfs.index.engines.model_files import default_model_folder
from ctxfs.index.ingest.embed_worker import EmbedWorker
from ctxfs.index.ingest.ingester import Ingester
from ctxfs.index.options import EmbedderSpec, IndexedRoot, IndexerOptions
from ctxfs.services.shared_index import BUILD, FETCH, SharedIndex
from ctxfs.shared.engines import open_log
from ctxfs.shared.log import Entry, EntryKind, SharedLog

_WORDS_A_FILE = 120
_SEARCHES = 50
_DIMENSIONS = 384
_NEIGHBOURS = 50


def write_memories(folder: Path, files: int) -> None:
    """Write files of random words, each one chunk or two."""
    chance, vocabulary = (
        random.Random(1),
        [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "st")],
    )
    folder.mkdir()
    for number in range(files):
        text = " ".join(chance.choices(vocabulary, k=_WORDS_A_FILE))
        (folder / f"{number}.md").write_text(f"# Note {number}\n\n{text}\n")


class Node:
    """A node without a daemon: its index, and its part of the shared index."""

    def __init__(self, folder: Path, memories: Path, engine: Path, mode: str) -> None:
        self.index, self.repo = folder / "index", folder / "repo"
        self.index.mkdir(parents=True)
        self.repo.mkdir()
        self.spec = EmbedderSpec(folder=str(default_model_folder()), device="cpu")
        self.root = IndexedRoot("memory", str(memories))
        self.engine = engine
        self.shared = SharedIndex(self.index, self.repo, lambda: self.spec, lambda: mode, self.connect)

    def connect(self) -> SharedLog:
        return open_log(f"file://{self.engine}", "main", create=True)

    def build(self) -> float:
        """Fetch, index and embed all memories, and return the seconds of the processors."""
        start = sum(os.times()[:4])
        self.shared.fetch()
        words = FullText(self.index / "words", make=True)
        with closing(Ingester(Catalog(self.index), words, 4_000_000, lambda _: None)) as ingester:
            ingester.recover()
            ingester.set_roots([self.root])
            ingester.scan_all()
        with closing(EmbedWorker(IndexerOptions(self.index, self.spec, 2, 10**6, 20_000), lambda _: None)) as worker:
            worker.run_pending()
        return sum(os.times()[:4]) - start


def measure_join(folder: Path, files: int) -> Iterator[tuple[str, str]]:
    """Yield the rows of a join with published vectors and without."""
    memories, engine = folder / "memories", folder / "engine"
    write_memories(memories, files)
    engine.mkdir()
    one, two = (Node(folder / name, memories, engine, mode) for name, mode in (("one", BUILD), ("two", FETCH)))
    built = one.build()
    published = one.shared.publish()
    data = one.shared.pending()
    assert data is not None, "too few vectors: --files"
    two.shared.take(Entry(1, "0" * 40, "", EntryKind.INDEX, "one", "0" * 32, data=data))
    joined = two.build()
    with closing(Catalog(two.index)) as catalog:
        chunks = catalog.counts()
    assert not chunks.waiting
    yield f"index of {files} files, built", f"{built:.1f} s"
    yield f"the same with {published} published vectors", f"{joined:.1f} s, {built / joined:.1f} × faster"


def measure_search(folder: Path, count: int) -> Iterator[tuple[str, str]]:
    """Yield the rows of a search in the graph, and of one that compares all vectors. The vectors are in clusters."""
    chance = np.random.default_rng(1)
    centres = chance.normal(size=(200, _DIMENSIONS))
    raw = centres[chance.integers(0, len(centres), count + _SEARCHES)] + chance.normal(
        size=(count + _SEARCHES, _DIMENSIONS)
    )
    unit = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    stored = [(number + 1, vectors.pack_vector(row)) for number, row in enumerate(unit[:count])]

    def rows(after: int, limit: int) -> list[tuple[int, bytes]]:
        return stored[after : after + limit]

    folder.mkdir()
    vectors.build_graph(folder, 1, _DIMENSIONS, rows, count, 2)
    side_car = vectors.read_side_car(folder)
    assert side_car is not None
    table = vectors.VectorTable(1, _DIMENSIONS)
    graph = vectors.read_graph(folder, side_car, 1)
    assert graph is not None
    table.use_graph(graph)
    numbers = np.arange(1, count + 1)
    searches: dict[str, Callable[[vectors.Vectors], vectors.Neighbours]] = {
        "graph": lambda question: table.search(question, _NEIGHBOURS),
        "exact": lambda question: table.search_among(question, numbers, _NEIGHBOURS),
    }
    times: dict[str, list[float]] = {name: [] for name in searches}
    for question in unit[count:]:
        for name, search in searches.items():
            start = time.process_time()
            search(question)
            times[name].append(1000 * (time.process_time() - start))
    in_graph, exact = (statistics.median(times[name]) for name in searches)
    yield f"nearest of {count} vectors, in the graph", f"{in_graph:.2f} ms"
    yield "the same without the graph", f"{exact:.2f} ms, {exact / in_graph:.2f} × the graph's"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--vectors", type=int, default=30_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ctxfs-bench-") as folder:
        report(dict(measure_search(Path(folder, "graph"), arguments.vectors)))
        report(dict(measure_join(Path(folder), arguments.files)))


if __name__ == "__main__":
    main()
