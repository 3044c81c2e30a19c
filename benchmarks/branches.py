"""Branches: `python -m benchmarks.branches [--files 50000] [--rounds 30] [--operations 300]`.

A store of many files, without a daemon: the time to create a branch, and to drop one, with and without the record of
the objects that it was the first to write. With a daemon and a kernel mount: reads and writes of files in a branch
against main, and the same question in both.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import Bench, bench, report
from ctxfs.model.change import Put
from ctxfs.model.path import Path as TreePath
from ctxfs.store.layout import Layout
from ctxfs.versions.archive import Archive
from ctxfs.versions.branches.own_objects import drop_record
from ctxfs.versions.objects.commits import Actor

_FILES_PER_FOLDER = 500
_ACTOR = Actor("human:bench", "s-bench", "bench", "")


def milliseconds(run: Callable[[], object]) -> float:
    """Return the time of a call."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1000


def fill(setup: Bench, files: int) -> None:
    """Write files of a line into memory."""
    for number in range(files):
        folder = setup.store / "tree" / "memory" / "bench" / f"f{number // _FILES_PER_FOLDER}"
        if number % _FILES_PER_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"{number}.md").write_text(f"note {number}: the canteen of house {number} opens at noon\n")


def measure_archive(setup: Bench, rounds: int) -> dict[str, str]:
    """Return the times of creation and deletion, in the library."""
    archive = Archive(Layout(setup.store), "human:bench", 1_000_000)
    archive.open()
    try:
        created = [milliseconds(lambda n=n: archive.branches.create(f"b{n}", _ACTOR)) for n in range(rounds)]  # type: ignore[misc]
        path = TreePath.parse("memory/bench/f0/0.md")
        writes = [
            milliseconds(lambda n=n: archive.branches.apply(f"b{n}", Put(path, b"changed %d\n" % n), _ACTOR))  # type: ignore[misc]
            for n in range(rounds)
        ]
        reads = [milliseconds(lambda: archive.branches.read("b0", "memory/bench/f1/501.md")) for _ in range(rounds)]
        repo, half = archive.core.ledger.repo, rounds // 2
        for number in range(half):
            drop_record(repo, f"b{number}")
        dropped = [milliseconds(lambda n=n: archive.branches.drop(f"b{n}")) for n in range(rounds)]  # type: ignore[misc]
    finally:
        archive.close()
    return {
        "create, p50 / greatest ms (<= 50)": f"{statistics.median(created):.1f} / {max(created):.1f}",
        "write in the library, p50 ms": f"{statistics.median(writes):.2f}",
        "read in the library, p50 ms": f"{statistics.median(reads):.3f}",
        "drop with a version, p50 / greatest ms": f"{statistics.median(dropped[half:]):.0f} / {max(dropped[half:]):.0f}",
        "drop by a comparison of all objects, p50 / greatest ms": (
            f"{statistics.median(dropped[:half]):.0f} / {max(dropped[:half]):.0f}"
        ),
    }


def read_times(root: Path, operations: int) -> float:
    """Return the median time of a read of a file that has not been read before, in milliseconds."""
    files = [root / "memory/bench" / f"f{n % 10}" / f"{n % 10 * _FILES_PER_FOLDER + n}.md" for n in range(operations)]
    return statistics.median(milliseconds(file.read_text) for file in files)


def write_times(root: Path, operations: int) -> float:
    """Return the median time of a write of a new file, in milliseconds."""
    folder = root / "memory/bench/f1"
    return statistics.median(
        milliseconds(lambda n=n: (folder / f"new{n}.md").write_text("a new note\n"))  # type: ignore[misc]
        for n in range(operations)
    )


def question_times(root: Path, rounds: int) -> float:
    """Return the median time of a new question, in milliseconds."""
    return statistics.median(
        milliseconds((root / "search" / f"when does the canteen of house {n} open" / "results.jsonl").read_bytes)
        for n in range(rounds)
    )


def measure_mount(setup: Bench, rounds: int, operations: int) -> dict[str, str]:
    """Return the times of reads, writes and questions in a branch and on main, through a kernel mount."""
    setup.mountpoint.mkdir()
    setup.ctxfs("mount", str(setup.mountpoint))
    setup.ctxfs("status", "--wait", "words")
    setup.ctxfs("branch", "idea")
    main, branch = setup.mountpoint, setup.mountpoint / ".branches" / "idea"
    figures = {}
    for name, run, count in (("read", read_times, operations), ("write", write_times, operations)):
        times = run(main, count), run(branch, count)
        figures[f"{name} of a file, main / branch, p50 ms"] = f"{times[0]:.2f} / {times[1]:.2f}"
    questions = question_times(main, rounds), question_times(branch, rounds)
    figures[f"question, main / branch with {operations} differing files, p50 ms"] = (
        f"{questions[0]:.1f} / {questions[1]:.1f}"
    )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--operations", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ctxfs-bench-") as folder, bench(Path(folder)) as setup:
        setup.ctxfs("init")
        fill(setup, options.files)
        report(
            {
                **measure_archive(setup, options.rounds),
                **measure_mount(setup, options.rounds, options.operations),
            }
        )


if __name__ == "__main__":
    main()
