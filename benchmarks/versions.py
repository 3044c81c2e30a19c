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
from ctxfs.versions.recording.pathindex import ALL_COMMITS

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
        commits = self.archive.commit()
        milliseconds_taken = (time.perf_counter() - start) * 1000
        assert len(commits) == 1, commits
        return milliseconds_taken


def small_commits(folder: Path, files: int) -> dict[str, object]:
    store = Store(folder)
    make_tree(store.layout.tree / "memory", files)
    start = time.perf_counter()
    store.archive.open()
    open_seconds = time.perf_counter() - start
    times = []
    for number in range(300):
        store.write(f"memory/agent-00/{number % 100:02}/note-{number:06}.md", f"changed {number}\n")
        times.append(store.commit())
    thousand_times = []
    for round_number in range(5):
        for number in range(1000):
            store.write(f"pad/round-{round_number}/{number // 100}/{number:04}.md", f"new {round_number} {number}\n")
        thousand_times.append(store.commit())
    store.archive.close()
    second_archive = Archive(store.layout, "human:bench", 1_000_000)
    start = time.perf_counter()
    second_archive.open()
    reopen_seconds = time.perf_counter() - start
    second_archive.close()
    rows: dict[str, object] = {
        f"first commit of {files} files": f"{open_seconds:.1f} s",
        f"opening the store again ({files} files looked at)": f"{reopen_seconds:.2f} s",
        f"commit of one small change among {files} files": shown(times),
        "commit of 1,000 new files": shown(thousand_times),
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
    max_loose, is_done = 0, threading.Event()

    def keep_up() -> None:
        nonlocal max_loose
        while not is_done.wait(0.05):
            max_loose = max(max_loose, loose_count(store.archive.core.ledger.repo))
            store.archive.pack()

    upkeep = threading.Thread(target=keep_up)
    upkeep.start()
    start = time.perf_counter()
    for number in range(commits):
        text = "".join(
            f"line {line} of note {number % 500}, edit {number if line == number % 20 else 0}\n" for line in range(20)
        )
        store.write(f"memory/a/{number % 50:02}/note-{number % 500:03}.md", text)
        store.commit()
    seconds = time.perf_counter() - start
    is_done.set()
    upkeep.join()
    rows: dict[str, object] = {
        f"{commits} commits with upkeep beside them": f"{commits / seconds:.0f} commits/s",
        "most loose objects meanwhile": max_loose,
    }
    rows |= old_versions(store, commits)
    store.archive.pack(full=True)
    rows |= size(store, folder)
    store.archive.close()
    return rows | on_a_mount(Bench(folder), commits)


def on_a_mount(setup: Bench, commits: int) -> dict[str, object]:
    """Measure the same queries through the kernel, as `ls -l` and `cat` make them."""
    config = setup.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
    setup.ctxfs("mount", str(setup.mountpoint))
    try:
        setup.wait(120, lambda index: index["state"] == "idle")
        past = setup.mountpoint / "memory" / "a" / "07" / ".versions" / "note-007.md"
        names = [name for name in os.listdir(past) if name[0].isdigit()]
        listing = milliseconds(lambda: [entry.stat() for entry in os.scandir(past)], 20)
        reading = [t for name in names for t in milliseconds(lambda name=name: (past / name).read_bytes(), 1)]  # type: ignore[misc]
        plain = milliseconds(lambda: os.listdir(past), 20)
    finally:
        setup.ctxfs("unmount", "--all")
    return {
        f"mount: names in .versions/<file> ({len(names)} of {commits} commits)": shown(plain),
        "mount: names and attributes of each": shown(listing),
        "mount: one old revision, open, read, close": shown(reading),
    }


def old_versions(store: Store, commits: int) -> dict[str, object]:
    archive, path = store.archive, "memory/a/07/note-007.md"
    versions = archive.reader.versions(path)
    sample = versions[:: max(1, len(versions) // 20)]
    rows: dict[str, object] = {
        f"one old revision read ({commits} commits)": shown(
            [t for version in sample for t in milliseconds(partial(archive.reader.content_of, version), 1)]
        ),
        f"versions of a file ({len(versions)} of {commits} commits)": shown(
            milliseconds(lambda: archive.reader.versions(path), 20)
        ),
        "log of a file": shown(milliseconds(lambda: archive.reader.log(path, ALL_COMMITS, 100), 20)),
        "log of a directory, 100 newest": shown(
            milliseconds(lambda: archive.reader.log("memory/a", ALL_COMMITS, 100), 5)
        ),
    }
    archive.snapshots.create("before")
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
    outcome, _ = store.archive.rollbacks.restore(path, "before", ME)
    milliseconds_taken = (time.perf_counter() - start) * 1000
    native = write_again(store, [change.path for change in outcome.changes])
    return f"{milliseconds_taken:.0f} ms, of it {native:.0f} ms for writing {len(outcome.changes)} files"


def write_again(store: Store, paths: list[bytes]) -> float:
    """Return the milliseconds of writing these files to temporary names and renaming them."""
    contents = [(os.path.join(os.fsencode(store.layout.tree), path), b"x" * 40) for path in paths]
    start = time.perf_counter()
    for path, data in contents:
        old_data = Path(os.fsdecode(path)).read_bytes()
        with open(path + b".new", "wb") as file:
            file.write(old_data or data)
        os.rename(path + b".new", path)
    return (time.perf_counter() - start) * 1000


def size(store: Store, folder: Path) -> dict[str, object]:
    copy = folder / "aggressive.git"
    subprocess.run(["git", "clone", "-q", "--mirror", str(store.layout.repo), str(copy)], check=True)
    subprocess.run(["git", f"--git-dir={copy}", "gc", "-q", "--aggressive", "--prune=now"], check=True)
    own_bytes, gc_bytes = (packed(folder / "objects") for folder in (store.layout.repo, copy))
    return {
        "store after upkeep": f"{own_bytes / gc_bytes:.2f} × git gc --aggressive ({own_bytes / 1e6:.1f} / {gc_bytes / 1e6:.1f} MB)"
    }


def packed(objects: Path) -> int:
    return sum(file.stat().st_size for file in objects.rglob("*") if file.is_file() and file.suffix not in (".graph",))


def writers(setup: Bench) -> dict[str, object]:
    """Measure write and close on the mount while another process writes continuously: with and without commits."""
    times_by_label = {}
    for label, window in (("without", 3_600_000), ("with", 150)):
        setup.ctxfs("init")
        config = setup.store / "ctxfs.toml"
        config.write_text(
            config.read_text()
            .replace("[versions]", f"[versions]\nwindow_ms = {window}")
            .replace("[index]", "[index]\nmeaning = false")
        )
        setup.ctxfs("mount", str(setup.mountpoint))
        setup.wait(60, lambda index: index["state"] == "idle")
        for folder in ("mine", "theirs"):
            (setup.mountpoint / "pad" / folder).mkdir()
        other = subprocess.Popen([sys.executable, "-c", _OTHER_WRITER, str(setup.mountpoint / "pad" / "theirs")])
        time.sleep(1)
        times = []
        for number in range(4000):
            start = time.perf_counter()
            with open(setup.mountpoint / "pad" / "mine" / f"{number % 200}.md", "w") as file:
                file.write(f"text {number}\n")
            times.append((time.perf_counter() - start) * 1000)
            if number % 50 == 0:
                time.sleep(0.02)
        other.kill()
        other.wait()
        times_by_label[label] = times
        setup.ctxfs("unmount", "--all")
        shutil.rmtree(setup.store)
    p99 = {label: sorted(times)[len(times) * 99 // 100] for label, times in times_by_label.items()}
    return {
        "write+close on the mount, no commits": shown(times_by_label["without"]),
        "write+close on the mount, committer busy": shown(times_by_label["with"]),
        "p99, ratio": f"{p99['with'] / p99['without']:.2f} ×",
    }


_OTHER_WRITER = """
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
        with bench() as setup:
            rows |= writers(setup)
    report(rows)


if __name__ == "__main__":
    main()
