"""The time of a question of which every candidate has a vector, and where it goes.

`python -m benchmarks.question_time [--chunks 3000] [--against CHECKOUT] [--rounds 5] [--profile] [--keep DIR]`

Uses the notes and the stand-in for a model of `benchmarks.scale`, each checkout with a store of its own. Times are of a
search in one process with twenty hits, without embedding the question: elapsed, and of the processors, which depends
less on other work of the machine. --against runs another checkout of ctxfs in turns with this one and prints ratios.
--profile prints the functions that take the time.
"""

import argparse
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.scale import StandInSearcher

_HITS = 20
_ROUNDS_A_PROCESS = 8
_SHOWN_FUNCTIONS = 45
_MEASURES = ("elapsed", "processors")


def time_questions(searcher: "StandInSearcher", questions: list[str]) -> list[float]:
    """Return the median milliseconds of a question, elapsed and of the processors, each the least of a few rounds."""
    # Not at the top, because a worker imports them from the checkout that it measures.
    from ctxfs.index.engines.vectors import drop_graph
    from ctxfs.index.query import parse_query
    from ctxfs.model.path import ROOT

    drop_graph(searcher._folder)  # an index of this size has none
    # After the first round, a vector costs nothing.
    stand_in: Any = searcher._stand_in
    stand_in.embed_query = lru_cache(maxsize=None)(stand_in.embed_query)
    for question in questions:
        searcher.search(parse_query(question), ROOT, _HITS)
    rounds = []
    for _ in range(_ROUNDS_A_PROCESS):
        times = []
        for question in questions:
            start, busy = time.perf_counter(), time.process_time()
            searcher.search(parse_query(question), ROOT, _HITS)
            times.append((time.perf_counter() - start, time.process_time() - busy))
        rounds.append(times)
    least = [[min(times) for times in zip(*column, strict=True)] for column in zip(*rounds, strict=True)]
    return [1000 * median(column) for column in zip(*least, strict=True)]


def measure(checkout: Path, store: Path, chunks: int) -> list[float]:
    """Run `time_questions` with the code of a checkout."""
    # Not with the folder of this file on the path (-P), because it has names of libraries.
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--worker", str(store), "--chunks", str(chunks)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    output = subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True, text=True).stdout
    times: list[float] = json.loads(output.splitlines()[-1])
    return times


def compare(checkouts: dict[str, Path], root: Path, chunks: int, rounds: int) -> None:
    """Print the times of the checkouts, which run in turns, and the ratios of the first to the others."""
    times: dict[str, list[list[float]]] = {name: [] for name in checkouts}
    for _ in range(rounds):
        for name, checkout in checkouts.items():
            times[name].append(measure(checkout, root / name, chunks))
    for name, rows in times.items():
        parts = [
            f"{title} {median(column):.2f} ms" for title, column in zip(_MEASURES, zip(*rows, strict=True), strict=True)
        ]
        print(f"{name:<6} p50 " + ", ".join(parts))
        ratios = [
            [mine / other for mine, other in zip(*pair, strict=True)] for pair in zip(times["this"], rows, strict=True)
        ]
        if name != "this":
            parts = [
                f"{title} {median(column):.2f}"
                for title, column in zip(_MEASURES, zip(*ratios, strict=True), strict=True)
            ]
            print("ratio  " + ", ".join(parts))


def profile(store: Path, chunks: int) -> None:
    """Print the functions of this checkout that take the time of questions."""
    from benchmarks.scale import open_store, questions

    searcher = open_store(store, chunks)
    texts = questions()
    time_questions(searcher, texts)
    with cProfile.Profile() as calls:
        time_questions(searcher, texts)
    for order in ("tottime", "cumulative"):
        pstats.Stats(calls).sort_stats(order).print_stats(_SHOWN_FUNCTIONS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=3000)
    parser.add_argument("--against", type=Path, help="another checkout of ctxfs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--keep", type=Path, help="keep the stores here, and use those that are there")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        from benchmarks.scale import open_store, questions

        print(json.dumps(time_questions(open_store(arguments.worker, arguments.chunks), questions())))
        return
    with tempfile.TemporaryDirectory(prefix="ctxfs-question-time-") as scratch:
        root = arguments.keep or Path(scratch)
        if arguments.profile:
            profile(root / "this", arguments.chunks)
            return
        checkouts = {"this": Path(__file__).resolve().parent.parent}
        if arguments.against:
            checkouts["other"] = arguments.against.resolve()
        compare(checkouts, root, arguments.chunks, arguments.rounds)


if __name__ == "__main__":
    main()
