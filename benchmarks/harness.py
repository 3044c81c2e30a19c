"""Shared code of the benchmarks: a store on tmpfs, the real command line, medians."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxfs.context.retrieval_metrics import Outcome, summarise
from ctxfs.daemon.launch import connect_or_start
from ctxfs.rpc.client import Client, NoDaemon
from ctxfs.store.layout import Layout

_NOTES = 200


@dataclass
class Bench:
    """A store, its mount point, and the corpus."""

    folder: Path
    settings: str = ""

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def mountpoint(self) -> Path:
        return self.folder / "mnt"

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus"

    def ctxfs(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "ctxfs", "--store", str(self.store), *arguments]
        process = subprocess.run(command, capture_output=True, text=True)
        if process.returncode not in (0, 3):
            raise RuntimeError(f"{arguments}: {process.stderr}")
        return process.stdout

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.ctxfs("status", "--json"))
        return status

    def wait(self, seconds: float, is_done: Callable[[dict[str, Any]], bool]) -> float:
        """Return the seconds until `done(index)`; a blocking client keeps the cost of polling low.

        Raises TimeoutError.
        """
        from ctxfs.rpc.client import Client

        client = Client(self.store / "run")
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            if is_done(client.call("status")["index"]):
                return time.perf_counter() - start
            time.sleep(0.25)
        raise TimeoutError(client.call("status")["index"])


@contextmanager
def bench(folder: Path | None = None) -> Iterator[Bench]:
    """Yield a store on tmpfs if available; unmount and remove everything at the end. A named `folder` stays."""
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    setup = Bench(folder or Path(tempfile.mkdtemp(prefix="ctxfs-bench-", dir=base)))
    try:
        yield setup
    finally:
        subprocess.run(
            [sys.executable, "-m", "ctxfs", "--store", str(setup.store), "unmount", "--all"], capture_output=True
        )
        if folder is None:
            shutil.rmtree(setup.folder, ignore_errors=True)


@contextmanager
def served_notes() -> Iterator[Bench]:
    """Yield a store of notes, indexed by words, with a daemon that ends afterwards."""
    with tempfile.TemporaryDirectory(prefix="ctxfs-bench-") as folder:
        setup = Bench(Path(folder))
        _make_notes(setup.corpus)
        setup.ctxfs("init")
        setup.ctxfs("add", str(setup.corpus), "--name", "notes")
        connect_or_start(Layout(setup.store), linger=True).close()
        try:
            setup.ctxfs("status", "--wait")
            yield setup
        finally:
            _stop_daemon(setup)


def _make_notes(folder: Path) -> None:
    """Write Markdown files of a few lines, one of which answers the question."""
    folder.mkdir()
    for number in range(_NOTES):
        (folder / f"{number}.md").write_text(f"# Note {number}\n\nThe canteen of house {number} opens at noon.\n")
    (folder / "keys.md").write_text("# Keys\n\nRotate the signing keys every ninety days with keyctl.\n")


def _stop_daemon(bench: Bench) -> None:
    """End the daemon and wait until it has left the store."""
    os.kill(int((bench.store / "run" / "lock").read_text()), signal.SIGTERM)
    with suppress(NoDaemon):
        while True:
            Client(bench.store / "run").close()
            time.sleep(0.05)


def timed(command: list[str], *, cwd: Path | None = None, exit_codes: Sequence[int] = (0,)) -> float:
    """Return the seconds of one run; output is discarded.

    Raises RuntimeError if it fails, because a failure must not look fast.
    """
    start = time.perf_counter()
    process = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=cwd)
    seconds = time.perf_counter() - start
    if process.returncode not in exit_codes:
        raise RuntimeError(f"{command[:4]}: {process.returncode}, {process.stderr.decode(errors='replace')[-300:]}")
    return seconds


def interleaved(rounds: int, **candidates: Callable[[], float]) -> dict[str, float]:
    """Return medians of alternating runs, so that a slow minute of the machine affects all of them."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            times[name].append(run())
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def memory_mb(pid: int) -> dict[str, float]:
    """Return resident and proportional set size of a process in MB."""
    out = {"rss": 0.0, "pss": 0.0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.lower() in out:
            out[name.lower()] = int(rest.split()[0]) / 1024
    return out


def _command_of(pid: int) -> list[str]:
    """Return the command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


def processes_of(store: Path) -> dict[str, int]:
    """Return the lasting processes of a store's daemon by role: {daemon, indexer, mount}; readers of files come and go."""
    daemon = int((store / "run" / "lock").read_text())
    pids = {"daemon": daemon}
    own_words = _command_of(daemon)
    for thread in Path(f"/proc/{daemon}/task").glob("*/children"):
        for child in map(int, thread.read_text().split()):
            words = _command_of(child)
            if words == own_words:  # the first mount process is a fork of the daemon
                pids["mount"] = child
            for module, role in (("ctxfs.daemon.index_process", "indexer"), ("ctxfs.fuse.", "mount")):
                if any(word.startswith(module) for word in words):
                    pids[role] = child
    return pids


def cpu_times(pid: int) -> tuple[float, float]:
    """Return (user, system) seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def cpu_seconds(pid: int) -> float:
    """Return the sum of user and system seconds of a process so far."""
    return sum(cpu_times(pid))


def running_ns(pid: int) -> int:
    """Return the nanoseconds that the threads of a process have run so far."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def report(rows: dict[str, object]) -> None:
    """Print a Markdown table."""
    print("| measure | value |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")


def make_store(folder: Path, sources: dict[str, Path], *, meaning: bool = True, excludes: Sequence[str] = ()) -> Path:
    """Return a store with these sources, indexed by full text and vectors; reuse an existing one.

    Its index is brought up to date in either case: that of another version of ctxfs has no vectors, or other ones.
    """
    store = folder / "store"
    if not store.exists():
        run = [sys.executable, "-m", "ctxfs", "--store", str(store)]
        subprocess.run([*run, "init"], check=True, stdout=subprocess.DEVNULL)
        if not meaning:
            config = store / "ctxfs.toml"
            config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
        for name, source in sources.items():
            options = [option for pattern in excludes for option in ("--exclude", pattern)]
            subprocess.run([*run, "add", str(source), "--name", name, *options], check=True, stdout=subprocess.DEVNULL)
    reindex(store)
    return store


def reindex(store: Path) -> None:
    """Bring the index of a store up to date, with vectors."""
    command = [sys.executable, "-m", "ctxfs", "--store", str(store), "reindex"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def show(title: str, outcomes: list[Outcome]) -> None:
    """Print a row of figures; nothing without outcomes."""
    if not outcomes:
        return
    figures = summarise(outcomes)
    print(f"{title:<20}" + "  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
