"""Twenty minutes of mixed load: `python -m benchmarks.soak [--minutes 20]`; exits with 1 on a leak or a wrong result.

Writers on two mount points, readers that compare every checksum, questions, contexts, tools, rollbacks and commits, at
a rate that a machine of two processors sustains. Samples resident memory and open descriptors of every process. The
slope counts in the second half of the time, because caches of responses, trees and descriptors are full by then.
"""

import argparse
import contextlib
import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.corpus import make_corpus
from benchmarks.harness import Bench, bench, memory_mb, processes_of, report

_SAMPLE_SECONDS = 10.0
_MAX_SLOPE = 1.0  # MB per minute
_NOTES = 300


class Soak:
    """The shared state of the clients: the existing files with their expected checksums."""

    def __init__(self, setup: Bench, end: float) -> None:
        self.setup, self.end = setup, end
        self.mounts = (setup.mountpoint, setup.folder / "mnt-2")
        self.checksums: dict[str, str] = {}
        self.lock = threading.Lock()
        self.counts: dict[str, int] = {}
        self.faults: list[str] = []
        self.samples: dict[str, list[tuple[float, float, int]]] = {}

    def client(self, name: str, act: Callable[[random.Random], None], pause: float) -> threading.Thread:
        """Return a thread that repeats an action and records its errors."""

        def run() -> None:
            chance = random.Random(name)
            while time.monotonic() < self.end:
                try:
                    act(chance)
                    self.counts[name] = self.counts.get(name, 0) + 1
                except Exception as error:
                    self.faults.append(f"{name}: {type(error).__name__}: {error}")
                time.sleep(pause)

        return threading.Thread(target=run, name=name, daemon=True)

    def write(self, chance: random.Random) -> None:
        path = f"{chance.choice(('pad', 'memory/shared'))}/soak/{chance.randrange(_NOTES)}.md"
        text = f"# Note {chance.random()}\n\n" + "".join(
            f"The {chance.choice(('key', 'window', 'rule', 'deadline'))} is {chance.randrange(10**6)}.\n"
            for _ in range(chance.randrange(1, 60))
        )
        file = chance.choice(self.mounts) / path
        with self.lock:
            kind = chance.random()
            if kind < 0.2 and path in self.checksums:
                file.unlink()
                del self.checksums[path]
                return
            if kind < 0.4:
                new = file.with_name(f".{file.name}.new")
                new.write_text(text)
                os.replace(new, file)
            else:
                file.write_text(text)
            self.checksums[path] = hashlib.sha256(text.encode()).hexdigest()

    def check(self, chance: random.Random) -> None:
        with self.lock:
            if not self.checksums:
                return
            path = chance.choice(list(self.checksums))
            for mount in self.mounts:
                digest = hashlib.sha256((mount / path).read_bytes()).hexdigest()
                if digest != self.checksums[path]:
                    self.faults.append(f"'{mount / path}' is not what was written")

    def ask(self, chance: random.Random) -> None:
        word = chance.choice(("key", "window", "rule", "deadline", "import", "socket"))
        folder = chance.choice(self.mounts) / "search" / f"what is the {word} {chance.randrange(50)}"
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # a hit that another client has deleted
                (folder / name).read_bytes()

    def use_tool(self, chance: random.Random) -> None:
        table = self.setup.folder / "table.csv"
        table.write_text("a,b\n1,2\n")
        run = chance.choice(self.mounts) / "tools" / "table" / "run"
        self.command([str(run), str(table), "--sql", "SELECT sum(b) FROM data"])

    def roll_back(self, chance: random.Random) -> None:
        """Change a file of its own and roll it back."""
        file = self.mounts[0] / "memory" / "shared" / "rolled.md"
        file.write_text("first")
        self.setup.ctxfs("commit")
        file.write_text("second")
        self.setup.ctxfs("commit")
        self.setup.ctxfs("undo", "memory/shared/rolled.md")
        for mount in self.mounts:
            if (mount / "memory" / "shared" / "rolled.md").read_text() != "first":
                self.faults.append("a rollback is not seen when it returned")

    def build_context(self, chance: random.Random) -> None:
        self.setup.ctxfs("context", f"what is the deadline {chance.randrange(20)}", "--budget", "2000")

    def read_corpus(self, chance: random.Random) -> None:
        self.command(["rg", "-c", "import", str(chance.choice(self.mounts) / "knowledge" / "corpus")])

    @staticmethod
    def command(words: list[str]) -> None:
        process = subprocess.run(words, capture_output=True, text=True, timeout=60)
        if process.returncode:
            raise RuntimeError(f"{words}: {process.returncode} {process.stderr[-300:]}")

    def sample(self, start: float) -> None:
        for name, pid in all_processes(self.setup.store).items():
            try:
                usage = memory_mb(pid)["rss"], len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                continue  # the process has ended
            self.samples.setdefault(name, []).append((time.monotonic() - start, *usage))

    def print_progress(self) -> None:
        """Print the progress for the waiting user."""
        now = [f"{name} {samples[-1][1]:.0f} MB, {samples[-1][2]}" for name, samples in self.samples.items()]
        print(
            f"{self.end - time.monotonic():5.0f} s left; {'; '.join(now)}; wrong {len(self.faults)}",
            file=sys.stderr,
            flush=True,
        )


def all_processes(store: Path) -> dict[str, int]:
    """Return the pids of daemon, indexer, and each mount process by its number."""
    from ctxfs.rpc.client import Client

    pids = {role: pid for role, pid in processes_of(store).items() if role != "mount"}
    client = Client(store / "run")
    try:
        for index, mount in enumerate(client.call("status")["mounts"]):
            pids[f"mount {index + 1}"] = int(mount["pid"])
    finally:
        client.close()
    return pids


def slope(points: list[tuple[float, float]]) -> float:
    """Return the slope of the least-squares line, per minute of x in seconds."""
    count = len(points)
    if count < 2:
        return 0.0
    x, y = sum(p[0] for p in points) / count, sum(p[1] for p in points) / count
    spread = sum((p[0] - x) ** 2 for p in points)
    return 60 * sum((p[0] - x) * (p[1] - y) for p in points) / spread if spread else 0.0


def run(setup: Bench, minutes: float) -> tuple[dict[str, object], list[str]]:
    make_corpus(setup.corpus, 500)
    setup.ctxfs("init")
    config = setup.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
    setup.ctxfs("add", str(setup.corpus), "--name", "corpus")
    soak = Soak(setup, time.monotonic() + 60 * minutes)
    for mountpoint in soak.mounts:
        setup.ctxfs("mount", str(mountpoint))
    for area in ("pad", "memory/shared"):
        (setup.mountpoint / area / "soak").mkdir(parents=True)
    setup.wait(120, lambda index: index["state"] == "idle")
    clients = [
        soak.client("write", soak.write, 0.02),
        soak.client("check", soak.check, 0.02),
        soak.client("question", soak.ask, 0.3),
        soak.client("tool", soak.use_tool, 2.0),
        soak.client("rollback", soak.roll_back, 4.0),
        soak.client("context", soak.build_context, 4.0),
        soak.client("rg", soak.read_corpus, 2.0),
    ]
    start = time.monotonic()
    for client in clients:
        client.start()
    while time.monotonic() < soak.end:
        soak.sample(start)
        soak.print_progress()
        time.sleep(min(_SAMPLE_SECONDS, 60 * minutes / 40))
    for client in clients:
        client.join(120)
    return summary(soak, minutes)


def summary(soak: Soak, minutes: float) -> tuple[dict[str, object], list[str]]:
    rows: dict[str, object] = {"minutes": minutes, **{f"{name}: done": count for name, count in soak.counts.items()}}
    faults = soak.faults[:10]
    for name, samples in soak.samples.items():
        late = [sample for sample in samples if sample[0] > 30 * minutes]
        rising = slope([(seconds, rss) for seconds, rss, _ in late])
        descriptors = [count for _, _, count in late]
        course = [f"{samples[int(part * (len(samples) - 1))][1]:.0f}" for part in (0, 0.25, 0.5, 0.75, 1)]
        rows[name] = (
            f"RSS {', '.join(course)} MB, {rising:+.2f} MB/min; descriptors {min(descriptors)} to {max(descriptors)}"
        )
        if rising >= _MAX_SLOPE:
            faults.append(f"{name} grows by {rising:.2f} MB a minute")
    errors = soak.setup.store / "run" / "errors.jsonl"
    logged = errors.read_text().splitlines() if errors.exists() else []
    faults += [f"logged: {line[:200]}" for line in logged[:10]]
    rows["wrong checksums, failed operations"] = len(soak.faults)
    rows["lines in errors.jsonl"] = len(logged)
    return rows, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    arguments = parser.parse_args()
    with bench() as setup:
        rows, faults = run(setup, arguments.minutes)
        report(rows)
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
