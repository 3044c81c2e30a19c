"""Versions against GitPython's porcelain and git itself.

`python -m benchmarks.versions [--files 50000] [--commits 20000]`

Times are of the committer itself unless the row
contains "mount". All files are on tmpfs if available.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.harness import Bench, bench, report
from ctxfs.store.layout import Layout, create_store
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.recording.journal import JournalWriter
from ctxfs.versions.recording.maintenance import loose_count
from ctxfs.versions.recording.pathindex import EVERYTHING as EVERY

ME = Actor("agent:bench", "bench", "benchmark")


def milliseconds(call: Callable[[], object], rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    return times


def shown(times: list[float]) -> str:
    ordered = sorted(times)
    return f"median {statistics.median(times):.2f} ms, p99 {ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]:.2f} ms"


def make_tree(folder: Path, files: int, per_directory: int = 100) -> None:
    for number in range(files):
        directory = folder / f"agent-{number // (per_directory * 100):02}" / f"{number // per_directory % 100:02}"
        if number % per_directory == 0:
            directory.mkdir(parents=True, exist_ok=True)
        (directory / f"note-{number:06}.md").write_text(f"# Note {number}\n\nfact {number * 7919 % 104729}\n")


class Store:
    """A store without a daemon: the benchmark writes the journal, and the archive commits it."""

    def __init__(self, folder: Path) -> None:
        self.layout: Layout = create_store(folder / "store")
        self.archive = Archive(self.layout, "human:bench", 1_000_000)
        self.journal: JournalWriter = self.archive.writer(ME)

    def write(self, path: str, text: str) -> None:
        file = self.layout.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self.journal.record("write", path)

    def commit(self) -> float:
        start = time.perf_counter()
        made = self.archive.commit()
        took = (time.perf_counter() - start) * 1000
        assert len(made) == 1, made
        return took


def small_commits(folder: Path, files: int) -> dict[str, object]:
    store = Store(folder)
    make_tree(store.layout.tree / "memory", files)
    start = time.perf_counter()
    store.archive.open()
    opened = time.perf_counter() - start
    times = []
    for number in range(300):
        store.write(f"memory/agent-00/{number % 100:02}/note-{number:06}.md", f"changed {number}\n")
        times.append(store.commit())
    many = []
    for round_number in range(5):
        for number in range(1000):
            store.write(f"pad/round-{round_number}/{number // 100}/{number:04}.md", f"new {round_number} {number}\n")
        many.append(store.commit())
    store.archive.close()
    again = Archive(store.layout, "human:bench", 1_000_000)
    start = time.perf_counter()
    again.open()
    reopened = time.perf_counter() - start
    again.close()
    rows: dict[str, object] = {
        f"first commit of {files} files": f"{opened:.1f} s",
        f"opening the store again ({files} files looked at)": f"{reopened:.2f} s",
        f"commit of one small change among {files} files": shown(times),
        "commit of 1,000 new files": shown(many),
    }
    rows |= porcelain(folder, store.layout.tree, files)
    return rows


def porcelain(folder: Path, tree: Path, files: int) -> dict[str, object]:
    """Measure the same small change through GitPython's index."""
    import git

    repo = git.Repo.init(folder / "porcelain", initial_branch="main")
    shutil.copytree(tree / "memory", folder / "porcelain" / "memory")
    subprocess.run(["git", "-C", str(folder / "porcelain"), "add", "-A"], check=True)
    repo.index.commit("first")
    times = []
    for number in range(5):
        path = f"memory/agent-00/{number:02}/note-{number * 100:06}.md"
        (folder / "porcelain" / path).write_text(f"changed {number}\n")
        start = time.perf_counter()
        repo.index.add([path])
        repo.index.commit("change")
        times.append((time.perf_counter() - start) * 1000)
    repo.close()
    shutil.rmtree(folder / "porcelain")
    return {f"the same through GitPython's index.add and index.commit, {files} files": shown(times)}


def soak(folder: Path, commits: int) -> dict[str, object]:
    """Measure many commits with concurrent upkeep, then reads of old versions."""
    store = Store(folder)
    store.archive.open()
    make_tree(store.layout.tree / "pad", 10_000)
    store.archive.commit([b"pad"])
    most, done = 0, threading.Event()

    def keep_up() -> None:
        nonlocal most
        while not done.wait(0.05):
            most = max(most, loose_count(store.archive.ledger.repo))
            store.archive.upkeep()

    upkeep = threading.Thread(target=keep_up)
    upkeep.start()
    start = time.perf_counter()
    for number in range(commits):
        text = "".join(
            f"line {line} of note {number % 500}, edit {number if line == number % 20 else 0}\n" for line in range(20)
        )
        store.write(f"memory/a/{number % 50:02}/note-{number % 500:03}.md", text)
        store.commit()
    took = time.perf_counter() - start
    done.set()
    upkeep.join()
    rows: dict[str, object] = {
        f"{commits} commits with upkeep beside them": f"{commits / took:.0f} commits/s",
        "most loose objects meanwhile": most,
    }
    rows |= the_past(store, commits)
    store.archive.upkeep(full=True)
    rows |= size(store, folder)
    store.archive.close()
    return rows | on_a_mount(Bench(folder), commits)


def on_a_mount(made: Bench, commits: int) -> dict[str, object]:
    """Measure the same queries through the kernel, as `ls -l` and `cat` make them."""
    config = made.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
    made.ctxfs("mount", str(made.at))
    try:
        made.wait(120, lambda index: index["state"] == "idle")
        past = made.at / "memory" / "a" / "07" / ".versions" / "note-007.md"
        names = [name for name in os.listdir(past) if name[0].isdigit()]
        listing = milliseconds(lambda: [entry.stat() for entry in os.scandir(past)], 20)
        reading = [t for name in names for t in milliseconds(lambda name=name: (past / name).read_bytes(), 1)]  # type: ignore[misc]
        plain = milliseconds(lambda: os.listdir(past), 20)
    finally:
        made.ctxfs("unmount", "--all")
    return {
        f"mount: names in .versions/<file> ({len(names)} of {commits} commits)": shown(plain),
        "mount: names and attributes of each": shown(listing),
        "mount: one old revision, open, read, close": shown(reading),
    }


def the_past(store: Store, commits: int) -> dict[str, object]:
    archive, path = store.archive, "memory/a/07/note-007.md"
    versions = archive.versions(path)
    some = versions[:: max(1, len(versions) // 20)]
    rows: dict[str, object] = {
        f"one old revision read ({commits} commits)": shown(
            [t for version in some for t in milliseconds(partial(archive.content_of, version), 1)]
        ),
        f"versions of a file ({len(versions)} of {commits} commits)": shown(
            milliseconds(lambda: archive.versions(path), 20)
        ),
        "log of a file": shown(milliseconds(lambda: archive.log(path, EVERY, 100), 20)),
        "log of a directory, 100 newest": shown(milliseconds(lambda: archive.log("memory/a", EVERY, 100), 5)),
    }
    archive.snapshot("before")
    for number in range(100):
        store.write(f"pad/agent-00/00/note-{number:06}.md", f"edited {number}\n")
    store.commit()
    rows["rollback of a directory, 100 files written, tree of 10,000"] = rollback(store, "pad/agent-00/00")
    for number in range(100):
        store.write(f"pad/agent-00/{number:02}/note-{number * 100:06}.md", f"edited {number}\n")
    store.commit()
    rows["rollback of the whole tree, 100 files written"] = rollback(store, "")
    for directory in range(100):
        for number in range(100):
            store.write(f"pad/agent-00/{directory:02}/note-{directory * 100 + number:06}.md", f"edited {number}\n")
    store.commit()
    rows["rollback of the whole tree, 10,000 files written"] = rollback(store, "")
    return rows


def rollback(store: Store, path: str) -> str:
    start = time.perf_counter()
    outcome, _ = store.archive.restore(path, "before", ME)
    took = (time.perf_counter() - start) * 1000
    native = write_again(store, [change.path for change in outcome.changes])
    return f"{took:.0f} ms, of it {native:.0f} ms for writing {len(outcome.changes)} files"


def write_again(store: Store, paths: list[bytes]) -> float:
    """Return the milliseconds of writing these files to temporary names and renaming them."""
    contents = [(os.path.join(os.fsencode(store.layout.tree), path), b"x" * 40) for path in paths]
    start = time.perf_counter()
    for place, data in contents:
        kept = Path(os.fsdecode(place)).read_bytes()
        with open(place + b".new", "wb") as file:
            file.write(kept or data)
        os.rename(place + b".new", place)
    return (time.perf_counter() - start) * 1000


def size(store: Store, folder: Path) -> dict[str, object]:
    copy = folder / "aggressive.git"
    subprocess.run(["git", "clone", "-q", "--mirror", str(store.layout.repo), str(copy)], check=True)
    subprocess.run(["git", f"--git-dir={copy}", "gc", "-q", "--aggressive", "--prune=now"], check=True)
    mine, theirs = (packed(place / "objects") for place in (store.layout.repo, copy))
    return {
        "store after upkeep": f"{mine / theirs:.2f} × git gc --aggressive ({mine / 1e6:.1f} / {theirs / 1e6:.1f} MB)"
    }


def packed(objects: Path) -> int:
    return sum(file.stat().st_size for file in objects.rglob("*") if file.is_file() and file.suffix not in (".graph",))


def writers(made: Bench) -> dict[str, object]:
    """Measure write and close on the mount while another process writes continuously: with and without commits."""
    found = {}
    for label, window in (("without", 3_600_000), ("with", 150)):
        made.ctxfs("init")
        config = made.store / "ctxfs.toml"
        config.write_text(
            config.read_text()
            .replace("[versions]", f"[versions]\nwindow_ms = {window}")
            .replace("[index]", "[index]\nmeaning = false")
        )
        made.ctxfs("mount", str(made.at))
        made.wait(60, lambda index: index["state"] == "idle")
        for folder in ("mine", "theirs"):
            (made.at / "pad" / folder).mkdir()
        other = subprocess.Popen([sys.executable, "-c", _OTHER, str(made.at / "pad" / "theirs")])
        time.sleep(1)
        times = []
        for number in range(4000):
            start = time.perf_counter()
            with open(made.at / "pad" / "mine" / f"{number % 200}.md", "w") as file:
                file.write(f"text {number}\n")
            times.append((time.perf_counter() - start) * 1000)
            if number % 50 == 0:
                time.sleep(0.02)
        other.kill()
        other.wait()
        found[label] = times
        made.ctxfs("unmount", "--all")
        shutil.rmtree(made.store)
    p99 = {label: sorted(times)[len(times) * 99 // 100] for label, times in found.items()}
    return {
        "write+close on the mount, no commits": shown(found["without"]),
        "write+close on the mount, committer busy": shown(found["with"]),
        "p99, ratio": f"{p99['with'] / p99['without']:.2f} ×",
    }


_OTHER = """
import sys, time, itertools
for number in itertools.count():
    with open(f"{sys.argv[1]}/{number % 100}.md", "w") as file:
        file.write(f"other {number}\\n")
    time.sleep(0.005)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--commits", type=int, default=20_000)
    parser.add_argument("--only", choices=["commits", "soak", "writers"])
    arguments = parser.parse_args()
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    rows: dict[str, object] = {}
    measures: Sequence[tuple[str, Callable[[Path], dict[str, object]]]] = (
        ("commits", lambda f: small_commits(f, arguments.files)),
        ("soak", lambda f: soak(f, arguments.commits)),
    )
    for name, measure in measures:
        if arguments.only in (None, name):
            folder = Path(tempfile.mkdtemp(prefix="ctxfs-bench-", dir=base))
            try:
                rows |= measure(folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    if arguments.only in (None, "writers"):
        with bench() as made:
            rows |= writers(made)
    report(rows)


if __name__ == "__main__":
    main()
