"""Search while only a part of the chunks is embedded: `python -m benchmarks.partial_embedding DIR QUESTIONS`.

DIR is a folder of texts, QUESTIONS a file of lines `question<TAB>file,file…` whose files are relative to DIR. Without
them, functions of Python's own library are found by their docstrings (`benchmarks.quality`).

Ranking: nDCG@10 over files (one relevant file suffices), or over functions. `words` is `mode:words`. For each share of
embedded chunks, in the order of the indexer, `0` is the ranking without embedding in the query, `32` with the vectors
of up to 32 waiting candidates, which are taken from the full index, so that time plays no part.

Just written: the file of an answer is touched, so that it is in the overlay and its indexed chunks are hidden. A case
passes if the answer is within two ranks of its rank when everything was embedded.

Latency: with the index nearly empty of vectors, real embedding and the time budget of the settings, and without a
limit; then with all vectors. Work: processor time of a first pass, of refinement and of the tails, against 256 tokens
of each text, which was the only pass before.
"""

import argparse
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import make_store
from benchmarks.quality import make_collection
from ctxfs.context.retrieval_metrics import LineRange
from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.embedders import Stage, open_embedder
from ctxfs.index.engines.embedders.sentence_model import SentenceModel
from ctxfs.index.engines.embedding_requests import EmbeddingRequests
from ctxfs.index.engines.model_files import default_model_folder
from ctxfs.index.extract.text_features import build_embedding_text
from ctxfs.index.options import EmbedderSpec, IndexedRoot
from ctxfs.index.query import parse_query
from ctxfs.index.search.candidate_embedding import DEFAULT_QUESTION_SECONDS
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.path import ROOT

_SOURCE = "library"
_PERCENTAGES = (0.0, 1.0, 3.0, 10.0, 30.0, 60.0, 90.0, 100.0)
_AMPLE_SECONDS = 600.0
_CASES = 200
_TIMED_QUESTIONS = 40
_MAX_RANK = 20
_SAMPLE_CHUNKS = 160
_ROUNDS = 5


@dataclass(frozen=True)
class Question:
    """A question, the ranges of which one answers it, and True if whole files are ranked."""

    text: str
    relevant: tuple[LineRange, ...]
    ranks_files: bool


def read_questions(file: Path) -> list[Question]:
    """Return the questions of a tab-separated file."""
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines() if "\t" in line]
    return [
        Question(row[0], tuple(LineRange(f"knowledge/{_SOURCE}/{name}") for name in row[1].split(",")), True)
        for row in rows
        if not row[0].startswith("#")
    ]


class Measurement:
    """A store with all vectors, of which any share can be taken away."""

    def __init__(self, root: Path, questions: Sequence[Question]) -> None:
        self.index = root / "store" / "index"
        self.texts = IndexedRoot(f"knowledge/{_SOURCE}", str(root / _SOURCE))
        self.questions = questions
        self.spec = EmbedderSpec(folder=str(default_model_folder()))
        self.catalog = Catalog(self.index)
        self.vectors = dict(self.catalog._db.execute("SELECT id, vector FROM chunks WHERE vector IS NOT NULL"))
        self._set_vectors([])
        self.order = self.catalog.embeddings.queue()
        self._set_vectors(self.order)

    def _set_vectors(self, chunks: Sequence[int]) -> None:
        with self.catalog.transaction():
            self.catalog._db.execute("UPDATE chunks SET vector=NULL")
            rows = [(self.vectors[chunk], chunk) for chunk in chunks]
            self.catalog._db.executemany("UPDATE chunks SET vector=? WHERE id=?", rows)
            self.catalog._db.execute("INSERT INTO changes(file) VALUES(0)")

    def embed_share(self, percentage: float) -> None:
        """Leave this share of the chunks their vectors, those that the indexer embeds first."""
        self._set_vectors(self.order[: round(len(self.order) * percentage / 100)])

    def offer_vectors(self) -> None:
        """Offer all vectors to queries as if they had just been computed."""
        serving = self.catalog.embeddings.serving
        assert serving is not None
        rows = self.catalog._db.execute("SELECT digest, vector, next_stage FROM vectors WHERE model=?", (serving.id,))
        requests = EmbeddingRequests(self.index)
        requests.add_vectors(serving.name, {digest: (vector, stage) for digest, vector, stage in rows})
        requests.close()

    def clear_requests(self) -> None:
        """Remove the vectors that queries have computed."""
        requests = EmbeddingRequests(self.index)
        requests.clear()
        requests.close()

    def searcher(self, seconds: float) -> Searcher:
        """Return a new searcher whose queries may embed for some seconds."""
        return Searcher(self.index, self.spec, question_seconds=seconds)

    def ndcg(self, searcher: Searcher, mode: str) -> float:
        """Return the mean nDCG@10 of all questions."""
        return statistics.fmean(_ndcg(_places(searcher, question, mode), question) for question in self.questions)


def _places(searcher: Searcher, question: Question, mode: str, limit: int = 50) -> list[LineRange]:
    hits = searcher.search(parse_query(f"mode:{mode} {question.text}"), ROOT, limit).hits
    if question.ranks_files:
        return [LineRange(path) for path in dict.fromkeys(hit.path for hit in hits)]
    return [LineRange(hit.path, hit.chunk.first, hit.chunk.last) for hit in hits]


def _ndcg(places: Sequence[LineRange], question: Question) -> float:
    for rank, place in enumerate(places[:10]):
        if any(place.touches(relevant) for relevant in question.relevant):
            return 1 / math.log2(rank + 2)
    return 0.0


def measure_ranking(measurement: Measurement) -> None:
    """Print nDCG@10 at each share."""
    searcher = measurement.searcher(0)
    words, final = measurement.ndcg(searcher, "words"), measurement.ndcg(searcher, "hybrid")
    searcher.close()
    print(f"words {words:.3f}, all embedded {final:.3f}\n")
    print("| % embedded | 0 in the query | 32 in the query | share of the final value |\n|---|---|---|---|")
    for percentage in _PERCENTAGES:
        measurement.embed_share(percentage)
        values = []
        for seconds in (0, _AMPLE_SECONDS):
            measurement.offer_vectors() if seconds else measurement.clear_requests()
            searcher = measurement.searcher(seconds)
            values.append(measurement.ndcg(searcher, "hybrid"))
            searcher.close()
        print(f"| {percentage:g} | {values[0]:.3f} | {values[1]:.3f} | {values[1] / final:.3f} |", flush=True)
    measurement.embed_share(100)
    measurement.clear_requests()


def measure_written(measurement: Measurement, seconds: float) -> None:
    """Print the share of just-written files that keep their rank."""
    questions = list(measurement.questions)
    random.Random(3).shuffle(questions)
    searcher = measurement.searcher(seconds)
    passed, cases = 0, 0
    for question in questions[:_CASES]:
        before = _rank(_places(searcher, question, "hybrid"), question)
        if before > _MAX_RANK:
            continue
        parts = tuple(question.relevant[0].path.split("/")[2:])
        file = Path(measurement.texts.root, *parts)
        stat = file.stat()
        os.utime(file)
        searcher.report_changes(measurement.texts, [parts])
        after = _rank(_places(searcher, question, "hybrid"), question)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        searcher.drop_memory()
        cases += 1
        passed += abs(after - before) <= 2
    searcher.close()
    print(f"\njust written, {seconds:g} s in the query: {passed / max(cases, 1):.3f} of {cases} within two ranks")


def _rank(places: Sequence[LineRange], question: Question) -> int:
    matches = (
        rank for rank, place in enumerate(places) if any(place.touches(relevant) for relevant in question.relevant)
    )
    return next(matches, 10**6)


def measure_latency(measurement: Measurement) -> None:
    """Print the latency of queries with and without waiting candidates."""
    for percentage, seconds in ((1.0, 0.0), (1.0, DEFAULT_QUESTION_SECONDS), (1.0, _AMPLE_SECONDS), (100.0, 0.06)):
        measurement.embed_share(percentage)
        measurement.clear_requests()
        searcher = measurement.searcher(seconds)
        searcher.search(parse_query("warm up"), ROOT, 10)
        times = []
        for question in measurement.questions[:_TIMED_QUESTIONS]:
            start = time.perf_counter()
            searcher.search(parse_query(question.text), ROOT, 10)
            times.append((time.perf_counter() - start) * 1000)
        searcher.close()
        print(f"{percentage:g} % embedded, {seconds:g} s in the query: p50 {statistics.median(times):.1f} ms")
    measurement.embed_share(100)


def measure_work(measurement: Measurement) -> None:
    """Print the processor time of each stage against one pass over 256 tokens without the path."""
    with measurement.catalog.transaction():
        measurement.catalog._db.execute("UPDATE chunks SET vector=NULL")
        chosen = random.Random(5).sample(measurement.order, min(_SAMPLE_CHUNKS, len(measurement.order)))
        rows = measurement.catalog.embeddings.waiting_chunks(chosen)
    measurement.embed_share(100)
    texts = [build_embedding_text(row.text, row.heading, row.author, row.path) for row in rows]
    plain = [build_embedding_text(row.text, row.heading, row.author) for row in rows]
    model = open_embedder(measurement.spec, 1)
    assert isinstance(model, SentenceModel)
    windows, has_tail = model.embed_stage(texts, Stage.WINDOW)
    long_texts = [text for text, more in zip(texts, model.embed_stage(texts, Stage.BEGINNING)[1], strict=True) if more]
    tailed = [text for text, more in zip(texts, has_tail, strict=True) if more]
    before, first, refined, tails = _best_times(
        lambda: model._embed_tokens([encoding.ids for encoding in model._tokenizer.encode_batch(plain)]),
        lambda: model.embed_stage(texts, Stage.BEGINNING),
        lambda: model.embed_stage(long_texts, Stage.WINDOW),
        lambda: model.embed_stage(tailed, Stage.WHOLE, windows[np.array(has_tail, dtype=np.bool_)]),
    )
    print(
        f"\nwork of {len(rows)} chunks against one pass over 256 tokens ({before / len(rows) * 1000:.1f} ms a chunk): "
        f"first pass {before / first:.2f} × faster, first pass and refinement {(first + refined) / before:.2f} ×, "
        f"with tails {(first + refined + tails) / before:.2f} ×"
    )


def _best_times(*work: Callable[[], object]) -> list[float]:
    """Return the least processor time of each piece of work, over alternating rounds, because a busy machine adds to it."""
    best = [math.inf] * len(work)
    for _ in range(_ROUNDS):
        for number, run in enumerate(work):
            start = time.process_time()
            run()
            best[number] = min(best[number], time.process_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="?", help="a folder of texts")
    parser.add_argument("questions", type=Path, nargs="?", help="questions about it")
    parser.add_argument("--modules", type=int, default=150)
    parser.add_argument("--keep", type=Path, help="keep the store here, and use it if it is there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ctxfs-partial-") as scratch:
        root = arguments.keep or Path(scratch)
        folder = root / _SOURCE
        if arguments.texts is None:
            folder.mkdir(parents=True, exist_ok=True)
            gold = make_collection(folder, arguments.modules)
            questions = [Question(item.question, item.relevant, False) for item in gold]
        else:
            root.mkdir(parents=True, exist_ok=True)
            if not folder.exists():
                folder.symlink_to(arguments.texts.resolve())
            questions = read_questions(arguments.questions)
        make_store(root, {_SOURCE: folder})
        measurement = Measurement(root, questions)
        measure_work(measurement)
        measure_ranking(measurement)
        measure_written(measurement, _AMPLE_SECONDS)
        measure_written(measurement, 0)
        measure_latency(measurement)


if __name__ == "__main__":
    main()
