"""ctxfs beside other engines on the same texts: `python -m benchmarks.peers [--only functions|manuals]`.

First `pip install -r benchmarks/peers.txt`. Every engine gets the chunks of ctxfs (ripgrep the files), and is queried
as in its documentation, with its own defaults: SQLite FTS5 (porter tokenizer, bm25), bm25s (its own tokenizer with stop
words and a stemmer), LanceDB (full-text index and vectors of the model that ctxfs uses, its hybrid search), ripgrep
(any of the words, files by their number of matching lines). Latency is of one question including its embedding, if any,
in one process (for ripgrep a process). The collections and questions are those of `benchmarks.quality`.
"""

import argparse
import re
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness import make_store
from benchmarks.quality import _SOURCE, COLLECTIONS
from ctxfs.context.retrieval_metrics import Gold, LineRange, Outcome, score_hits, summarise
from ctxfs.daemon.session import LocalSession
from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.embedders import open_embedder
from ctxfs.store.layout import find_store

Engine = Callable[[str], Sequence[LineRange]]
_WORD = re.compile(r"\w+")
_MAX_HITS = 10


def chunks_of(store: Path) -> list[tuple[LineRange, str, bytes]]:
    """Return (position, heading and text, vector) of every chunk of a store."""
    catalog = Catalog(store / "index", read_only=True)
    rows = catalog._db.execute(
        "SELECT f.path, c.first, c.last, c.heading, c.text, v.vector FROM chunks c JOIN files f ON f.id=c.file "
        "JOIN vectors v ON v.id=c.vector ORDER BY c.id"
    )
    return [(LineRange(row[0].decode(), row[1], row[2]), f"{row[3]}\n{row[4]}", row[5]) for row in rows]


def ctxfs(store: Path, mode: str) -> Engine:
    session = LocalSession(find_store(str(store)))
    session.catch_up_once()

    def ask(question: str) -> list[LineRange]:
        hits = session.call("search", question=f"mode:{mode} {question}", below="", limit=_MAX_HITS)["hits"]
        return [LineRange(hit["path"], hit["first"], hit["last"]) for hit in hits]

    return ask


def fts5(chunks: list[tuple[LineRange, str, bytes]]) -> Engine:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE texts USING fts5(text, tokenize='porter unicode61')")
    db.executemany("INSERT INTO texts(rowid, text) VALUES(?,?)", enumerate((text for _, text, _ in chunks), 1))

    def ask(question: str) -> list[LineRange]:
        match_expression = " OR ".join(f'"{word}"' for word in _WORD.findall(question))
        rows = db.execute(
            "SELECT rowid FROM texts WHERE texts MATCH ? ORDER BY rank LIMIT ?", (match_expression, _MAX_HITS)
        )
        return [chunks[row[0] - 1][0] for row in rows]

    return ask


def bm25s(chunks: list[tuple[LineRange, str, bytes]]) -> Engine:
    import bm25s as library
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    index = library.BM25()
    index.index(
        library.tokenize([text for _, text, _ in chunks], stopwords="en", stemmer=stemmer, show_progress=False),
        show_progress=False,
    )

    def ask(question: str) -> list[LineRange]:
        tokens = library.tokenize(question, stopwords="en", stemmer=stemmer, show_progress=False)
        results, _ = index.retrieve(tokens, k=_MAX_HITS, show_progress=False)
        return [chunks[number][0] for number in results[0]]

    return ask


def lancedb(chunks: list[tuple[LineRange, str, bytes]], folder: Path, store: Path) -> Engine:
    import lancedb as library
    import numpy as np
    import pyarrow as arrow

    model = Catalog(store / "index", read_only=True).embeddings.serving
    assert model is not None
    embedder = open_embedder(model.spec, 1)
    vectors = np.frombuffer(b"".join(vector for _, _, vector in chunks), dtype="<f2").astype(np.float32)
    table = library.connect(folder).create_table(
        "texts",
        arrow.table(
            {
                "number": list(range(len(chunks))),
                "text": [text for _, text, _ in chunks],
                "vector": arrow.FixedSizeListArray.from_arrays(arrow.array(vectors), model.dimensions),
            }
        ),
    )
    table.create_fts_index("text")

    def ask(question: str) -> list[LineRange]:
        vector = embedder.embed_query(question)
        rows = table.search(query_type="hybrid").vector(vector).text(" ".join(_WORD.findall(question)))
        return [chunks[row["number"]][0] for row in rows.limit(_MAX_HITS).to_list()]

    return ask


def ripgrep(texts: Path) -> Engine:
    def ask(question: str) -> list[LineRange]:
        words = "|".join(_WORD.findall(question))
        output = subprocess.run(["rg", "-ciw", "-e", words, "."], cwd=texts, capture_output=True, text=True).stdout
        counts = [line.rpartition(":") for line in output.splitlines()]
        counts.sort(key=lambda item: (-int(item[2]), item[0]))
        return [LineRange(f"knowledge/{_SOURCE}/{path[2:]}") for path, _, _ in counts[:_MAX_HITS]]

    return ask


def measure(ask: Engine, gold: list[Gold]) -> str:
    """Return a row of figures; the first questions run once before, so that no engine pays for a cold start."""
    for item in gold[:10]:
        ask(item.question)
    outcomes = []
    for item in gold:
        outcome = Outcome(item)
        start = time.perf_counter()
        positions = ask(item.question)
        outcome.seconds = time.perf_counter() - start
        score_hits(outcome, list(positions))
        outcomes.append(outcome)
    figures = summarise(outcomes)
    return " | ".join(f"{figures[name]:.3f}" for name in ("ndcg@10", "recall@1", "recall@10")) + (
        f" | {figures['p50_ms']:.1f} / {figures['p95_ms']:.1f} ms |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(COLLECTIONS))
    parser.add_argument("--keep", type=Path, help="keep the stores here, and use them if they are there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ctxfs-peers-") as scratch:
        for name in [arguments.only] if arguments.only else list(COLLECTIONS):
            root = (arguments.keep or Path(scratch)) / name
            texts = root / _SOURCE
            texts.mkdir(parents=True, exist_ok=True)
            gold = COLLECTIONS[name](texts, 150 if name == "functions" else 1500)[1::2]
            store = make_store(root, {_SOURCE: texts})
            chunks = chunks_of(store)
            print(
                f"\n| {name}: {len(gold)} questions, {len(chunks)} chunks | nDCG@10 | recall@1 | recall@10 | p50 / p95 |"
            )
            print("|---|---|---|---|---|")
            peers: dict[str, Callable[[], Engine]] = {
                "ctxfs": lambda store=store: ctxfs(store, "hybrid"),  # type: ignore[misc]
                "ctxfs, words alone": lambda store=store: ctxfs(store, "words"),  # type: ignore[misc]
                "ctxfs, meaning alone": lambda store=store: ctxfs(store, "meaning"),  # type: ignore[misc]
                "LanceDB, hybrid": lambda: lancedb(chunks, Path(scratch) / f"lance-{name}", store),  # noqa: B023
                "bm25s": lambda: bm25s(chunks),  # noqa: B023
                "SQLite FTS5": lambda: fts5(chunks),  # noqa: B023
                "ripgrep (files)": lambda: ripgrep(texts),  # noqa: B023
            }
            for peer, build in peers.items():
                print(f"| {peer} | {measure(build(), gold)}", flush=True)


if __name__ == "__main__":
    main()
