"""A shared store: `python -m benchmarks.shared [--engine URL --password-env V] [--rounds 40] [--seconds 10]`.

Without an engine it uses a folder. Daemons with kernel mounts measure: the time from `close` on one mount until the
other reads it; write and close on a shared store and on one that is not; publications a second by four nodes at once,
and by four clones that push with rebase; and lines that four nodes append to one file.
"""

import argparse
import contextlib
import os
import secrets
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.harness import Bench, report
from ctxfs.shared.engines import open_log
from ctxfs.shared.log import SharedLog, all_entries

_NODES = 4
_APPENDS = 1000
_WAIT_SECONDS = 60.0
_WINDOW_SECONDS = 0.15  # versions.window_ms


@contextlib.contextmanager
def node(folder: Path, name: str, share: tuple[str, ...]) -> Iterator[Bench]:
    """Yield a mounted store; `share` is the command that makes it a node (empty: none)."""
    setup = Bench(folder / name)
    setup.mountpoint.mkdir(parents=True)
    setup.ctxfs("init")
    setup.ctxfs("mount", str(setup.mountpoint))
    try:
        if share:
            setup.ctxfs(*share, "--node", name)
        yield setup
    finally:
        setup.ctxfs("unmount", "--all")


def wait_until(is_done: Callable[[], bool]) -> float:
    """Return the seconds until a condition holds. Raise TimeoutError."""
    start = time.perf_counter()
    while not is_done():
        if time.perf_counter() - start > _WAIT_SECONDS:
            raise TimeoutError
        time.sleep(0.002)
    return time.perf_counter() - start


def content(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def freshness(one: Bench, two: Bench, rounds: int) -> list[float]:
    """Return the seconds from `close` on a mount until the file is read on the other."""
    delays = []
    for number in range(rounds):
        text = f"{number}\n"
        name = f"memory/shared/fresh-{number % 5}.md"
        (one.mountpoint / name).write_text(text)
        delays.append(wait_until(lambda name=name, text=text: content(two.mountpoint / name) == text))  # type: ignore[misc]
    return delays


def write_times(setups: dict[str, Bench], rounds: int) -> dict[str, float]:
    """Return the median of write and close of a small file in each store, in turns."""
    times: dict[str, list[float]] = {name: [] for name in setups}
    for number in range(rounds * 10):
        for name, setup in setups.items():
            file = setup.mountpoint / f"memory/shared/w-{number % 50}.md"
            start = time.perf_counter()
            file.write_text(f"{number}\n")
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def publications(nodes: list[Bench], log: SharedLog, seconds: float) -> tuple[float, float]:
    """Return the publications a second of nodes that write all the time, and the least share of a node by the most."""
    first, end = log.head().number, time.perf_counter() + seconds

    def work(setup: Bench) -> None:
        number = 0
        while time.perf_counter() < end:
            with (setup.mountpoint / f"memory/shared/{setup.folder.name}.md").open("w") as file:
                file.write(f"{number}\n")
                os.fsync(file.fileno())  # ends the commit window
            number += 1

    run_together([lambda setup=setup: work(setup) for setup in nodes])  # type: ignore[misc]
    counts = Counter(entry.node for entry in all_entries(log, first))
    return sum(counts.values()) / seconds, min(counts.values(), default=0) / max(counts.values(), default=1)


def pushes(folder: Path, seconds: float) -> float:
    """Return the pushes a second of clones that commit, rebase and push all the time."""
    bare = folder / "bare.git"
    git("init", "-q", "--bare", "-b", "main", str(bare))
    clones = [folder / f"clone-{number}" for number in range(_NODES)]
    git("clone", "-q", str(bare), str(clones[0]))
    git("commit", "-q", "--allow-empty", "-m", "begin", cwd=clones[0])
    git("push", "-q", "origin", "HEAD:main", cwd=clones[0])
    for clone in clones[1:]:
        git("clone", "-q", str(bare), str(clone))
    counts, end = Counter[Path](), time.perf_counter() + seconds

    def work(clone: Path) -> None:
        while time.perf_counter() < end:
            (clone / f"{clone.name}.md").write_text(f"{counts[clone]}\n")
            git("add", "-A", cwd=clone)
            git("commit", "-q", "-m", "x", cwd=clone)
            while time.perf_counter() < end:
                git("pull", "-q", "--rebase", "origin", "main", cwd=clone)
                if git("push", "-q", "origin", "HEAD:main", cwd=clone):
                    counts[clone] += 1
                    break

    run_together([lambda clone=clone: work(clone) for clone in clones])  # type: ignore[misc]
    return sum(counts.values()) / seconds


def git(*arguments: str, cwd: Path | None = None) -> bool:
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    return subprocess.run(["git", *identity, *arguments], cwd=cwd, capture_output=True).returncode == 0


def appends(nodes: list[Bench]) -> tuple[int, int, float]:
    """Return the lines and conflict files after appends by all nodes, and the seconds until all have all lines."""
    name = "memory/shared/appended.jsonl"
    start = time.perf_counter()

    def work(setup: Bench) -> None:
        for number in range(_APPENDS // len(nodes)):
            with (setup.mountpoint / name).open("a") as file:
                file.write(f'{{"node": "{setup.folder.name}", "number": {number}}}\n')

    run_together([lambda setup=setup: work(setup) for setup in nodes])  # type: ignore[misc]

    def is_done() -> bool:
        return all(content(setup.mountpoint / name).count("\n") >= _APPENDS for setup in nodes)

    with contextlib.suppress(TimeoutError):
        wait_until(is_done)
    seconds = time.perf_counter() - start
    lines = {content(setup.mountpoint / name).count("\n") for setup in nodes}
    copies = list((nodes[0].mountpoint / "memory/shared").glob("*.conflict-*"))
    return min(lines), len(copies), seconds


def run_together(calls: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure(
    nodes: list[Bench], alone: Bench, log: SharedLog, folder: Path, rounds: int, seconds: float
) -> dict[str, object]:
    """Return the rows of the report."""
    delays = freshness(nodes[0], nodes[1], rounds)
    p95 = statistics.quantiles(delays, n=20)[18]
    times = write_times({"shared": nodes[0], "alone": alone}, rounds)
    rate, fairness = publications(nodes, log, seconds)
    pushed = pushes(folder, seconds)
    lines, copies, duration = appends(nodes)
    return {
        "freshness, p50 / p95, in commit windows (<= 1.5 / 3)": (
            f"{statistics.median(delays) / _WINDOW_SECONDS:.2f} / {p95 / _WINDOW_SECONDS:.2f}"
        ),
        "write and close, shared : alone (<= 1.1)": f"{times['shared'] / times['alone']:.2f}",
        "publications of 4 nodes, a second": f"{rate:.1f}",
        "git push of 4 clones, a second": f"{pushed:.1f}",
        "publications : pushes (>= 20)": f"{rate / pushed:.1f}" if pushed else "-",
        "least to most published (>= .5)": f"{fairness:.2f}",
        "1,000 appends by 4 nodes": f"{lines} lines, {copies} conflict files, everywhere after {duration:.0f} s",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="", metavar="URL")
    parser.add_argument("--password-env", default="")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ctxfs-bench-")))
        (folder / "engine").mkdir()
        url, name = options.engine or f"file://{folder}/engine", f"bench-{secrets.token_hex(4)}"
        log = open_log(url, name, os.environ.get(options.password_env, ""), create=True)
        words = (url, "--name", name, *(("--password-env", options.password_env) if options.password_env else ()))
        nodes = [stack.enter_context(node(folder, f"n{number}", ("join", *words))) for number in range(_NODES)]
        alone = stack.enter_context(node(folder, "alone", ()))
        report(measure(nodes, alone, log, folder, options.rounds, options.seconds))
        log.close()


if __name__ == "__main__":
    main()
