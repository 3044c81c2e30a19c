"""Freshness of the index, and exact search: `python -m benchmarks.following [--files 50000]`.

Measures small files per second in bulk (full text), in a folder and written through the mount; the time from `close` on
the mount until a search finds the change; the latency of a reader on the mount during indexing; and `ctxfs grep`
against ripgrep on the folder itself.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.corpus import real_files
from benchmarks.harness import Bench, bench, interleaved, report, timed
from ctxfs.rpc.client import Client

PATTERNS = ("def retry", "ThreadPoolExecutor", "import", "zanzibarquux", "raise [A-Z]\\w+Error\\(")

_GREP_EXIT_CODES = (0, 1)  # 1: no line matches


def make_notes(folder: Path, count: int) -> None:
    """Write small Markdown files: a heading and the first kilobyte of a real file."""
    texts = []
    for _, path in real_files():
        texts.append(path.read_bytes()[:1000].replace(b"\0", b" "))
        if len(texts) == 2000:
            break
    for number in range(count):
        inside = folder / f"{number % 100:02}"
        inside.mkdir(parents=True, exist_ok=True)
        (inside / f"note-{number}.md").write_bytes(b"# Note %d\n\n" % number + texts[number % len(texts)])


def read_times(file: Path, until: threading.Event, pause: float = 0.005) -> list[float]:
    """Return the seconds of each open, read and close of a file on the mount, until the event."""
    seconds = []
    while not until.is_set():
        start = time.perf_counter()
        file.read_bytes()
        seconds.append(time.perf_counter() - start)
        time.sleep(pause)
    return seconds


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def visible_after(setup: Bench, rounds: int) -> list[float]:
    """Return the seconds from `close` of new small files in memory/ until a full-text search finds them."""
    client = Client(setup.store / "run", timeout=30)
    folder = setup.mountpoint / "memory" / "bench" / "fact"
    folder.mkdir(parents=True, exist_ok=True)
    time.sleep(1)
    delays = []
    for number in range(rounds):
        word = f"qux{number}zan{time.time_ns() % 10**6}"
        with open(folder / f"{number}.md", "w") as file:
            file.write(f"the {word} is here\n")
        start = time.perf_counter()
        while not client.call("search", question=f"mode:words {word}", below="", limit=1)["hits"]:
            pass
        delays.append(time.perf_counter() - start)
        time.sleep(0.2)
    client.close()
    return delays


def through_the_mount(setup: Bench, count: int) -> tuple[float, float]:
    """Return the seconds until files written to the mount are indexed, and until removed ones have left it."""
    folder = setup.mountpoint / "pad" / "bulk"
    folder.mkdir()
    setup.wait(60, lambda index: index["state"] == "idle")
    client = Client(setup.store / "run", timeout=30)
    before = client.call("status")["index"]["files"]
    client.close()
    start = time.perf_counter()
    for number in range(count):
        (folder / f"{number}.md").write_text(f"# Note {number}\n\nWhat was decided on day {number}.\n")
    setup.wait(300, lambda index: index["files"] == before + count and index["state"] == "idle")
    written = time.perf_counter() - start
    start = time.perf_counter()
    for number in range(count):
        (folder / f"{number}.md").unlink()
    setup.wait(300, lambda index: index["files"] == before and index["state"] == "idle")
    return written, time.perf_counter() - start


def run(setup: Bench, files: int) -> dict[str, object]:
    setup.ctxfs("init")
    config = setup.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
    setup.corpus.mkdir()
    first = setup.folder / "first"
    first.mkdir()
    (first / "read me.md").write_text("x" * 1000)
    setup.ctxfs("add", str(first), "--name", "first")
    setup.ctxfs("mount", str(setup.mountpoint))
    setup.wait(60, lambda index: index["state"] == "idle")
    target = setup.mountpoint / "knowledge" / "first" / "read me.md"
    idle_for = threading.Event()
    threading.Timer(10, idle_for.set).start()
    idle = read_times(target, idle_for)
    make_notes(setup.corpus, files)
    busy: list[float] = []
    indexed = threading.Event()
    reader = threading.Thread(target=lambda: busy.extend(read_times(target, indexed)))
    reader.start()
    start = time.perf_counter()
    setup.ctxfs("add", str(setup.corpus), "--name", "notes")
    setup.wait(600, lambda index: index["files"] >= files and index["state"] == "idle")
    seconds = time.perf_counter() - start
    indexed.set()
    reader.join()
    visible = visible_after(setup, 40)
    written, removed = through_the_mount(setup, 2000)
    median, p95 = statistics.median(visible) * 1000, statistics.quantiles(visible, n=20)[18] * 1000
    calm, hurried = p99(idle) * 1000, p99(busy) * 1000
    rows: dict[str, object] = {
        "files of a kilobyte, by words": f"{files / seconds:.0f} files/s ({files} in {seconds:.1f} s)",
        "2,000 files written through the mount, until all are indexed": f"{written:.1f} s",
        "2,000 files removed there, until none is": f"{removed:.1f} s",
        "found by words after close, median / p95": f"{median:.1f} / {p95:.1f} ms",
        "read on the mount, p99, idle / indexing": f"{calm:.2f} / {hurried:.2f} ms = {hurried / calm:.1f} x",
    }
    rows.update(compare_grep(setup))
    return rows


def compare_grep(setup: Bench) -> dict[str, object]:
    """Compare exact search in the daemon and by the command with rg on the folder."""
    client = Client(setup.store / "run", timeout=120)
    command = [sys.executable, "-m", "ctxfs", "--store", str(setup.store), "grep"]
    rows: dict[str, object] = {}
    for pattern in PATTERNS:

        def search_daemon(pattern: str = pattern) -> float:
            start = time.perf_counter()
            client.call("grep", pattern=pattern, below="knowledge/notes", limit=1_000_000)
            return time.perf_counter() - start

        mine = client.call("grep", pattern=pattern, below="knowledge/notes", limit=1_000_000)["lines"]
        command_of_rg = ["rg", "-n", "--no-heading", "-e", pattern, "."]
        theirs = subprocess.run(command_of_rg, cwd=setup.corpus, capture_output=True).stdout.count(b"\n")
        comparison = "the same lines" if len(mine) == theirs else f"rg has {theirs} lines"
        times = interleaved(
            5,
            daemon=search_daemon,
            command=lambda pattern=pattern: timed([*command, pattern, "knowledge/notes"], exit_codes=_GREP_EXIT_CODES),  # type: ignore[misc]
            rg=lambda pattern=pattern: timed(
                ["rg", "-n", "-e", pattern, "."], cwd=setup.corpus, exit_codes=_GREP_EXIT_CODES
            ),  # type: ignore[misc]
        )
        rows[f"`{pattern}`, {len(mine)} lines: daemon / ctxfs grep / rg"] = (
            " / ".join(f"{times[name] * 1000:.0f}" for name in ("daemon", "command", "rg")) + f" ms, {comparison}"
        )
    client.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=50_000)
    arguments = parser.parse_args()
    with bench() as setup:
        report(run(setup, arguments.files))


if __name__ == "__main__":
    main()
