"""Embedding rate, `ls 'search/<question>'`, memory and idle load: `python -m benchmarks.search [--chunks 50000]`.

Embeds with the real model, so 50,000 chunks take some ten minutes on two cores.
"""

import argparse
import statistics
import subprocess
import time
from typing import Any

from benchmarks.corpus import make_corpus
from benchmarks.harness import Bench, bench, cpu_seconds, memory_mb, processes_of, report

QUESTIONS = (
    "how is a temporary file created safely", "parse command line arguments", "retry a failed http request",
    "escape characters in json strings", "where is the license of this package", "walk a directory tree",
    "compare two version numbers", "open a socket with a timeout", "configure logging handlers",
    "convert a timestamp to local time", "cancel a running task", "report a bug to the maintainers",
    "compress a stream with zlib", "read a csv file with a header", "start a child process and wait for it",
    "encode unicode text as bytes", "cache the result of a function", "sort a list by a key",
    "verify a certificate chain", "changes in the last release",
)  # fmt: skip


def grow(setup: Bench, chunks: int) -> tuple[dict[str, Any], float, int]:
    """Add files until there are `chunks` chunks; return (index status, embedding seconds, embedded chunks)."""
    files = 500
    while True:
        make_corpus(setup.corpus, files)
        time.sleep(2)
        setup.wait(600, lambda index: index["state"] in ("embedding", "idle") and "/" in index.get("words", "/"))
        index = setup.status()["index"]
        if index["chunks"] >= chunks or files > 60_000:
            break
        files = min(int(files * max(1.1, chunks / max(index["chunks"], 1) * 1.02)), files * 3)
    start, waiting = time.perf_counter(), index["waiting_for_meaning"]
    setup.wait(3600, lambda index: index["waiting_for_meaning"] == 0)
    embedding = time.perf_counter() - start
    setup.wait(600, lambda index: index["state"] == "idle")
    return setup.status()["index"], embedding, waiting


def direct_rate(setup: Bench) -> float:
    """Return the chunks per second of the embedder alone, on chunks of this corpus, with the indexer's settings."""
    from ctxfs.index.engines.catalog import Catalog
    from ctxfs.index.engines.embedders import open_embedder
    from ctxfs.index.engines.model_files import default_model_folder
    from ctxfs.index.ingest.embed_worker import EMBED_BATCH_CHUNKS
    from ctxfs.index.options import EmbedderSpec

    catalog = Catalog(setup.store / "index", read_only=True)
    rows = catalog._db.execute("SELECT heading, text FROM chunks WHERE id % 25 = 0 ORDER BY id LIMIT 1920").fetchall()
    texts = [f"{heading}\n{text}" if heading else text for heading, text in rows]
    embedder = open_embedder(EmbedderSpec(folder=str(default_model_folder())), 2)
    embedder.embed(texts[:32])
    start = time.perf_counter()
    for offset in range(0, len(texts), EMBED_BATCH_CHUNKS):
        embedder.embed(texts[offset : offset + EMBED_BATCH_CHUNKS])
    return len(texts) / (time.perf_counter() - start)


def ls_times(setup: Bench, rounds: int) -> list[float]:
    """Return the seconds of `ls 'search/<question>'`, each question new to the cache."""
    seconds = []
    for number in range(rounds):
        for question in QUESTIONS:
            start = time.perf_counter()
            subprocess.run(
                ["ls", f"{setup.mountpoint}/search/{question} {number}"], stdout=subprocess.DEVNULL, check=True
            )
            seconds.append(time.perf_counter() - start)
    return seconds


def run(setup: Bench, chunks: int) -> dict[str, object]:
    setup.ctxfs("init")
    setup.corpus.mkdir()
    setup.ctxfs("add", str(setup.corpus), "--name", "corpus")
    setup.ctxfs("mount", str(setup.mountpoint))
    setup.wait(60, lambda index: index["state"] == "idle")
    index, embedding, embedded = grow(setup, chunks)
    rate = embedded / embedding
    direct = direct_rate(setup)
    ls_times(setup, 1)
    times = ls_times(setup, 5)
    quantiles = statistics.quantiles(times, n=20)
    time.sleep(5)
    processes = processes_of(setup.store)
    before = {name: cpu_seconds(pid) for name, pid in processes.items()}
    time.sleep(60)
    idle = sum(cpu_seconds(pid) - before[name] for name, pid in processes.items()) / 60
    memory = {name: memory_mb(pid) for name, pid in processes.items()}
    return {
        "chunks": index["chunks"],
        "files": index["files"],
        "meaning, indexer": f"{rate:.0f} chunks/s",
        "meaning, embedder called directly": f"{direct:.0f} chunks/s (indexer at {rate / direct:.0%})",
        "ls 'search/<question>' p50": f"{statistics.median(times) * 1000:.1f} ms",
        "ls 'search/<question>' p95": f"{quantiles[18] * 1000:.1f} ms",
        "idle CPU, all processes": f"{idle:.2%} of a core",
        **{f"RSS {name}": f"{sizes['rss']:.0f} MB (PSS {sizes['pss']:.0f})" for name, sizes in memory.items()},
        "RSS, all processes": f"{sum(sizes['rss'] for sizes in memory.values()):.0f} MB",
        "PSS, all processes": f"{sum(sizes['pss'] for sizes in memory.values()):.0f} MB",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=50_000)
    arguments = parser.parse_args()
    with bench() as setup:
        report(run(setup, arguments.chunks))


if __name__ == "__main__":
    main()
