"""Contexts of many chunks: `python -m benchmarks.contexts [--chunks 100000] [--budget 8000] [--keep DIR]`.

Uses the store of `benchmarks.scale`. The time is of a whole build in one process (search, selection, packing,
rendering, manifest), without embedding the question. Use is the rendered context's share of the budget by the declared
tokenizer.
"""

import argparse
import cProfile
import pstats
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import trio

from benchmarks.harness import report
from benchmarks.scale import open_store, questions
from ctxfs.app import App
from ctxfs.context.build.constructor import Constructor, Context
from ctxfs.context.build.request import make_request
from ctxfs.context.build.tree_view import CurrentTree
from ctxfs.store.layout import Layout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--budget", type=int, default=8000)
    parser.add_argument("--keep", type=Path, help="keep the store here, and use it if it is there")
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ctxfs-contexts-", dir="/dev/shm") as scratch:
        root = arguments.keep or Path(scratch)
        searcher = open_store(root, arguments.chunks)
        app = App(Layout(root / "store"))
        constructor = Constructor(lambda as_of: CurrentTree(app.tree, searcher, app.archive, app.scope))
        queries = questions()

        def build(question: str) -> Context:
            return trio.run(
                partial(constructor.build, make_request({"query": question, "budget": arguments.budget}, 1))
            )

        for question in queries[:10]:
            build(question)
        if arguments.profile:
            with cProfile.Profile(builtins=False) as profile:
                for question in queries[10:60]:
                    build(question)
            pstats.Stats(profile).sort_stats("cumulative").print_stats(40)
            return
        times, use = [], []
        for question in queries[10:]:
            start = time.perf_counter()
            context = build(question)
            _ = context.manifest
            times.append(time.perf_counter() - start - searcher.vector_seconds)
            use.append(context.tokens / arguments.budget)
        report(
            {
                "budget": arguments.budget,
                "p50 / p95": f"{statistics.median(times) * 1000:.1f} / {statistics.quantiles(times, n=20)[18] * 1000:.1f} ms",
                "use of the budget, least / median": f"{min(use):.3f} / {statistics.median(use):.3f}",
                "over budget": sum(share > 1 for share in use),
            }
        )


if __name__ == "__main__":
    main()
