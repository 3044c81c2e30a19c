"""Questions over very many chunks: `python -m benchmarks.scale [--chunks 100000] [--keep DIR]`.

The text is real (Python's library, documentation, packages): each section of a note is two passages of different
origin. Latency is of a search in one process, with twenty hits, without embedding the question. Vectors are a random
projection of the passages' words, because a model would need hours for half a million chunks; like a model, it places
similar texts near each other. Filters let 1 %, 10 % and all of the files pass. Recall is that of the graph: the share
of the true ten nearest that it finds.
"""

import argparse
import hashlib
import os
import random
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.corpus import real_files
from benchmarks.harness import make_store, memory_mb, report
from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.embedders import Embedder, Stage, Vectors, normalise
from ctxfs.index.engines.embedding_requests import EmbeddingRequests
from ctxfs.index.engines.vectors import build_graph, pack_vector
from ctxfs.index.ingest.embed_worker import EmbeddingQueue
from ctxfs.index.options import EmbedderSpec
from ctxfs.index.query import parse_query
from ctxfs.index.search.candidate_embedding import CandidateEmbedder
from ctxfs.index.search.question_embedding import QuestionEmbedder
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.path import ROOT
from ctxfs.model.path import Path as TreePath

_PASSAGE_CHARS = 250
_SECTIONS = 5
_NOTE_CHUNKS = 6  # some sections are longer than a chunk
_TEXT_SUFFIXES = {".py", ".md", ".rst", ".txt", ".html", ".json", ".h", ".pyi", ""}
_WORD = re.compile(r"[a-z]{3,}")
_DIMENSIONS = 384
_BATCH = 2000
_QUESTIONS = 200


class WordProjection:
    """A stand-in for a model: the sum of a random direction for each word, weighted by rarity."""

    dimensions = _DIMENSIONS
    device = "cpu"
    spec = EmbedderSpec(folder="(words in a random projection)")

    def __init__(self) -> None:
        self._directions = np.random.default_rng(1).normal(size=(1 << 15, _DIMENSIONS)).astype(np.float32)
        self._counts: dict[str, int] = {}
        self.question_seconds = 0.0

    def embed(self, texts: Sequence[str]) -> Vectors:
        out = np.zeros((len(texts), _DIMENSIONS), dtype=np.float32)
        for row, text in zip(out, texts, strict=True):
            for word in _WORD.findall(text.lower()):
                count = self._counts[word] = self._counts.get(word, 0) + 1
                digest = hashlib.blake2b(word.encode(), digest_size=4).digest()
                row += self._directions[int.from_bytes(digest) % len(self._directions)] / (1 + count**0.5)
            row[0] += 1e-3
        return normalise(out)

    def embed_stage(
        self, texts: Sequence[str], stage: Stage, earlier: Vectors | None = None
    ) -> tuple[Vectors, Sequence[bool]]:
        return self.embed(texts), [False] * len(texts)

    def embed_query(self, text: str) -> Vectors:
        """Return the vector of a question; `question_seconds` is the time that it took."""
        start = time.perf_counter()
        row: Vectors = self.embed([text])[0]
        self.question_seconds = time.perf_counter() - start
        return row

    def trust(self, text: str) -> float:
        return 1.0

    def has_word(self, word: str) -> bool | None:
        return None


class _StandInEmbedder(QuestionEmbedder):
    """A question embedder that opens one given embedder."""

    def __init__(self, embedder: Embedder, spec: EmbedderSpec, candidates: CandidateEmbedder) -> None:
        super().__init__(spec, candidates)
        self._stand_in = embedder

    def open(self, spec: EmbedderSpec) -> Embedder:
        """Return the given embedder."""
        return self._stand_in


class StandInSearcher(Searcher):
    """A searcher that embeds with the stand-in."""

    def __init__(self, folder: Path, embedder: WordProjection) -> None:
        super().__init__(folder, embedder.spec)
        self._stand_in = embedder
        self._question_embedder = _StandInEmbedder(embedder, embedder.spec, self._candidate_embedder)

    @property
    def vector_seconds(self) -> float:
        """The time that the vector of the last question took."""
        return self._stand_in.question_seconds


def passages(limit: int) -> list[str]:
    """Return runs of whole lines of real files, about 250 characters each."""
    texts: list[str] = []
    for _, path in real_files():
        if path.suffix not in _TEXT_SUFFIXES:
            continue
        part: list[str] = []
        for line in path.read_bytes().decode("utf-8", "ignore").split("\n"):
            part.append(line[:200])
            if sum(map(len, part)) > _PASSAGE_CHARS:
                texts.append("\n".join(part))
                part = []
        if len(texts) >= limit:
            break
    return texts


def make_notes(folder: Path, chunks: int) -> None:
    """Write Markdown notes of five sections, in a folder for each tenth of them, subdivided by hundredths."""
    chance = random.Random(5)
    texts = passages(200_000)
    for number in range(chunks // _NOTE_CHUNKS):
        tenth, hundredth = number % 10, number // 10 % 10
        inside = folder / f"{tenth}" / f"{hundredth}"
        inside.mkdir(parents=True, exist_ok=True)
        sections = (
            f"## Part {section}\n\n{chance.choice(texts)}\n\n{chance.choice(texts)}\n" for section in range(_SECTIONS)
        )
        (inside / f"note-{number}.md").write_text("\n".join(sections))


def questions() -> list[str]:
    """Return word runs of documentation that the notes contain, as real questions are about existing content."""
    chance = random.Random(9)
    sentences = []
    for text in chance.sample(passages(20_000), 20 * _QUESTIONS):
        words = re.findall(r"[A-Za-z]{2,}", text)
        if len(words) > 20:
            start = chance.randrange(len(words) - 10)
            sentences.append(" ".join(words[start : start + chance.randrange(4, 9)]))
    return sentences[:_QUESTIONS]


def store_vectors(index: Path, embedder: WordProjection) -> None:
    """Store a vector for every chunk, and build the graph."""
    catalog = Catalog(index)
    stored = catalog.embeddings
    model = stored.register("words in a random projection", _DIMENSIONS, embedder.spec)
    queue = EmbeddingQueue(stored, EmbeddingRequests(index))
    while waiting := queue.take(_BATCH):
        vectors = embedder.embed([chunk.text for chunk in waiting])
        with catalog.transaction():
            pairs = [
                (stored.add(model.id, str(row[0]).encode(), pack_vector(vector)), row[0])
                for row, vector in zip(waiting, vectors, strict=True)
            ]
            stored.assign(pairs)
    total, _ = stored.count(model.id)
    build_graph(index, model.id, _DIMENSIONS, partial(stored.vectors_after, model.id), total, 2)
    catalog.close()


def open_store(root: Path, chunks: int) -> StandInSearcher:
    """Return a searcher of the store in `root`, which is created if absent."""
    root.mkdir(parents=True, exist_ok=True)
    embedder = WordProjection()
    if not (root / "store").exists():
        make_notes(root / "notes", chunks)
        make_store(root, {"notes": root / "notes"}, meaning=False)
        store_vectors(root / "store" / "index", embedder)
    return StandInSearcher(root / "store" / "index", embedder)


def graph_recall(searcher: StandInSearcher, queries: list[str]) -> float:
    """Return the share of the ten nearest vectors that the graph finds."""
    view = searcher._open_view()
    assert view is not None
    assert view.vectors is not None
    graph = view.vectors._graph
    assert graph is not None
    count = 0
    for question in queries[:20]:
        vector = searcher._stand_in.embed_query(question)
        cosines = np.concatenate(
            [
                graph.matrix[start : start + 20_000].astype(np.float32) @ vector
                for start in range(0, len(graph.matrix), 20_000)
            ]
        )
        best = graph.numbers[np.argsort(-cosines)[:10]]
        count += len(set(best.tolist()) & set(view.vectors.search(vector, 400)[0].tolist()))
    return count / 200


def latencies(searcher: StandInSearcher, queries: list[str], below: TreePath) -> str:
    """Return median and 95th percentile in milliseconds, and the number of questions without hits."""
    times = []
    empty = 0
    for question in queries:
        start = time.perf_counter()
        result = searcher.search(parse_query(question), below, 20)
        times.append(time.perf_counter() - start - searcher.vector_seconds)
        empty += not result.hits
    p50, p95 = statistics.median(times) * 1000, statistics.quantiles(times, n=20)[18] * 1000
    return f"{p50:.1f} / {p95:.1f} ms" + (f" ({empty} found nothing)" if empty else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="keep the store here, and use it if it is there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ctxfs-scale-", dir="/dev/shm") as scratch:
        root = arguments.keep or Path(scratch)
        searcher = open_store(root, arguments.chunks)
        queries = questions()
        before = memory_mb(os.getpid())["rss"]
        start = time.perf_counter()
        searcher.refresh()
        open_seconds = time.perf_counter() - start
        for question in queries[:20]:
            searcher.search(parse_query(question), ROOT, 20)
        counts = searcher.state().counts
        assert counts is not None
        rows: dict[str, object] = {"chunks": counts.chunks, "opened in": f"{open_seconds:.1f} s"}
        for name, below in (
            ("no filter", ROOT),
            ("100 % pass", TreePath.parse("knowledge/notes")),
            ("10 % pass", TreePath.parse("knowledge/notes/0")),
            ("1 % pass", TreePath.parse("knowledge/notes/0/0")),
        ):
            rows[f"p50 / p95, {name}"] = latencies(searcher, queries, below)
        rows["resident memory"] = f"{memory_mb(os.getpid())['rss']:.0f} MB, {before:.0f} before the index was opened"
        rows["ten nearest found by the graph"] = f"{graph_recall(searcher, queries):.3f}"
        report(rows)


if __name__ == "__main__":
    main()
