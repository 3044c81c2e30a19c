"""The log of a shared store alone: `python -m benchmarks.shared_log [--engine URL --password-env V] [--seconds 10]`.

Nodes are processes with versions and a work tree, without daemons, mounts and indexes. Each writes a file, publishes
it, and begins again: as many publications as writes. Clones that commit, rebase and push do the same beside it.
"""

import argparse
import contextlib
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import report
from benchmarks.shared import pushes
from ctxfs.shared.engines import open_log
from ctxfs.shared.node import Node
from ctxfs.shared.node_state import NodeStateFile
from ctxfs.store.layout import create_store
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.commits import Actor

_NODES = 4
_LARGE_BYTES = 1_000_000


def work(folder: Path, url: str, store: str, seconds: float) -> None:
    """Publish all the time; print the counts and the seconds of each turn as JSON."""
    layout = create_store(folder)
    archive = Archive(layout, "human:owner", _LARGE_BYTES)
    archive.open()
    password = os.environ.get("CTXFS_BENCH_PASSWORD", "")
    state = NodeStateFile(layout.repo)
    node = Node(archive.shared, state, store, folder.name, "human:owner", lambda: open_log(url, store, password))
    journal = archive.writer(Actor(f"agent:{folder.name}", "s", "bench", ""))
    name = f"memory/shared/{folder.name}.md"
    file = layout.tree / name
    file.parent.mkdir(parents=True, exist_ok=True)
    node.exchange()
    print("ready", flush=True)
    sys.stdin.readline()
    turns, times, end, number = list[float](), list[float](), time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        start = time.perf_counter()
        file.write_text(f"{number}\n")
        journal.record("write", name)
        result = node.exchange()
        if result.published:
            turns.append(result.turn_seconds)
            times.append(time.perf_counter() - start)
        number += 1
    print(json.dumps({"turns": turns, "times": times}), flush=True)
    node.close()
    archive.close()


def measure(folder: Path, url: str, store: str, seconds: float) -> tuple[list[int], list[float], list[float]]:
    """Return the publications of each node, the seconds of the turns, and those from write to publication."""
    words = [sys.executable, "-m", "benchmarks.shared_log", "--work", url, store, str(seconds)]
    nodes = [
        subprocess.Popen([*words, str(folder / f"n{number}")], stdin=-1, stdout=-1, text=True)
        for number in range(_NODES)
    ]
    for node in nodes:
        assert node.stdout is not None and node.stdout.readline() == "ready\n"
    results = []
    for node in nodes:
        assert node.stdin is not None
        node.stdin.write("\n")
        node.stdin.flush()
    for node in nodes:
        results.append(json.loads(node.communicate()[0]))
    turns = [turn for result in results for turn in result["turns"]]
    return [len(result["turns"]) for result in results], turns, [time for result in results for time in result["times"]]


def quantiles(values: list[float]) -> str:
    """Return the median and the 95th percentile of seconds, in milliseconds."""
    return f"{statistics.median(values) * 1000:.1f} / {statistics.quantiles(values, n=20)[18] * 1000:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="", metavar="URL")
    parser.add_argument("--password-env", default="")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--work", nargs=4, metavar=("URL", "STORE", "SECONDS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        url, store, seconds, folder = options.work
        work(Path(folder), url, store, float(seconds))
        return
    os.environ["CTXFS_BENCH_PASSWORD"] = os.environ.get(options.password_env, "")
    with tempfile.TemporaryDirectory(prefix="ctxfs-bench-") as name:
        folder = Path(name)
        (folder / "engine").mkdir()
        url, store = options.engine or f"file://{folder}/engine", f"bench-{secrets.token_hex(4)}"
        with contextlib.closing(open_log(url, store, os.environ["CTXFS_BENCH_PASSWORD"], create=True)):
            counts, turns, times = measure(folder, url, store, options.seconds)
        rate, pushed = sum(counts) / options.seconds, pushes(folder, options.seconds)
        report(
            {
                "publications of 4 nodes, a second": f"{rate:.1f}",
                "git push of 4 clones, a second": f"{pushed:.1f}",
                "publications : pushes (>= 20)": f"{rate / pushed:.1f}" if pushed else "-",
                "least to most published (>= .5)": f"{min(counts) / max(counts):.2f}",
                "turn, p50 / p95 (<= 10 ms)": quantiles(turns),
                "write to publication, p50 / p95": quantiles(times),
            }
        )


if __name__ == "__main__":
    main()
