"""The mount against native tmpfs, in one interleaved run: `python -m benchmarks.mount [--files 10000] [--rounds 5]`.

Measures the first `ls` after `ctxfs mount` and the ratio of ripgrep, find and reading all files, warm and cold.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.corpus import make_corpus
from benchmarks.harness import Bench, bench, interleaved, processes_of, report, timed


def read_all(folder: Path) -> float:
    start = time.perf_counter()
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name), "rb") as file:
                file.read()
    return time.perf_counter() - start


def run(setup: Bench, files: int, rounds: int, loop: str) -> dict[str, object]:
    count = make_corpus(setup.corpus, files)
    setup.ctxfs("init")
    config = setup.store / "ctxfs.toml"
    # The mount is measured, not the machine's second core: no embedding meanwhile.
    config.write_text(
        config.read_text()
        .replace("[index]", "[index]\nmeaning = false")
        .replace("[mount]", f'[mount]\nloop = "{loop}"')
    )
    setup.ctxfs("add", str(setup.corpus), "--name", "corpus")
    mounted, first = mount_and_list(setup)
    seconds = setup.wait(300, lambda index: index["state"] == "idle")
    rows: dict[str, object] = {
        "files": count,
        "ctxfs mount returns after": f"{mounted:.3f} s",
        "first ls, from the start of ctxfs mount": f"{mounted + first:.3f} s",
        "first ls, after it returned": f"{first * 1000:.1f} ms",
        "words searchable": f"{count / seconds:.0f} files/s ({seconds:.1f} s)",
    }
    remounts = []
    for _ in range(rounds):
        setup.ctxfs("unmount", str(setup.mountpoint))
        remounts.append(mount_and_list(setup))
    rows["first ls, from the start of ctxfs mount, of a store that is indexed"] = (
        f"{statistics.median(mounted + first for mounted, first in remounts):.3f} s"
    )
    rows["first ls, after it returned, of a store that is indexed"] = (
        f"{statistics.median(first for _, first in remounts) * 1000:.1f} ms"
    )
    # Both sides on one processor, then on those that the scheduler chooses: on an idle virtual machine waking another
    # processor costs more than a request.
    processors = os.sched_getaffinity(0)
    for label, allowed in (("one CPU", {min(processors)}), ("all CPUs", processors)):
        for pid in (0, processes_of(setup.store)["mount"]):
            set_affinity(pid, allowed)
        rows.update(compare(setup, rounds, label))
    return rows


def mount_and_list(setup: Bench) -> tuple[float, float]:
    """Return the seconds until `ctxfs mount` has returned, and of the first `ls` after it."""
    start = time.perf_counter()
    setup.ctxfs("mount", str(setup.mountpoint))
    mounted = time.perf_counter() - start
    return mounted, timed(["ls", str(setup.mountpoint)])


def set_affinity(pid: int, allowed: set[int]) -> None:
    """Set the processors of all threads of a process."""
    for thread in os.listdir(f"/proc/{pid or 'self'}/task"):
        os.sched_setaffinity(int(thread), allowed)


def compare(setup: Bench, rounds: int, label: str) -> dict[str, object]:
    corpus, rows = setup.mountpoint / "knowledge" / "corpus", dict[str, object]()
    rg = ["rg", "-c", "import", "--no-ignore", "--hidden", "-j", "2"]
    measures: Sequence[tuple[str, Callable[[], float], Callable[[], float]]] = (
        ("rg -c import", lambda: timed([*rg, str(setup.corpus)]), lambda: timed([*rg, str(corpus)])),
        ("find", lambda: timed(["find", str(setup.corpus)]), lambda: timed(["find", str(corpus)])),
        ("read everything", lambda: read_all(setup.corpus), lambda: read_all(corpus)),
    )
    for name, native, tree in measures:
        tree()
        seconds = interleaved(rounds, native=native, ctxfs=tree)
        rows[f"{name}, warm, {label}"] = (
            f"{seconds['ctxfs'] / seconds['native']:.1f} × native ({seconds['ctxfs'] * 1000:.0f} / {seconds['native'] * 1000:.0f} ms)"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop", default="direct", choices=["direct", "trio"])
    arguments = parser.parse_args()
    with bench() as setup:
        report(run(setup, arguments.files, arguments.rounds, arguments.loop))


if __name__ == "__main__":
    main()
