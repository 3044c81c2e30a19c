"""The mount against native tmpfs, libfuse's C pass-through and a Python peer.

`python -m benchmarks.filesystem [--rounds 5]`

One interleaved run, with client and servers on one processor, and
ctxfs's daemon and indexer on the others: on an idle virtual machine, waking another processor costs more than a
request. Writes a Markdown table and, where matplotlib is installed, a plot of the ratios. Needs root on Linux, because
caches are dropped.
"""

import argparse
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.corpus import make_corpus
from benchmarks.harness import Bench, bench, processes_of, running_ns, timed
from benchmarks.mount import set_affinity

NATIVE, CTXFS, VIEW, PASSTHROUGH_LL, PEER = "native", "ctxfs", "ctxfs, read only", "passthrough_ll (C)", "mfusepy"
LARGE_BYTES = 1 << 30
_EXAMPLE = Path("/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c")


@dataclass
class Side:
    """A tree to measure: its corpus to read, its folder to write, and its server process (None: the kernel)."""

    name: str
    corpus: Path
    work: Path
    server: int | None = None
    settle: Callable[[], object] = lambda: None  # waits until background work of all sides has ended
    servers: Sequence[int] = ()  # pids of all sides


@dataclass
class Scenario:
    """A measurement: `run(side)` returns seconds. `cold` drops the kernel's caches before it."""

    name: str
    run: Callable[[Side], float]
    is_cold: bool = False
    prepare: Callable[[Side], None] = lambda side: None
    target: str = ""
    writes: bool = False
    times: dict[str, list[float]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def measure(self, sides: list[Side], rounds: int) -> None:
        for round_number in range(rounds + 1):
            for side in sides:
                if side.name in self.failed or (self.writes and side.name == VIEW):
                    continue
                try:
                    self.prepare(side)
                    side.settle()
                    if self.is_cold:
                        drop_caches(side.servers)
                    seconds = self.run(side)
                except (OSError, RuntimeError, sqlite3.Error) as error:
                    if side.name in (NATIVE, CTXFS, VIEW):
                        raise
                    print(f"{self.name}: {side.name} cannot: {error}", file=sys.stderr)
                    self.failed.add(side.name)
                    self.times.pop(side.name, None)
                    continue
                if round_number:  # the first round warms up
                    self.times.setdefault(side.name, []).append(seconds)


def drop_caches(servers: Sequence[int]) -> None:
    """Drop the kernel's caches, and wait until the servers have handled the FORGETs, which would slow other sides."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    before, now = -1, sum(map(running_ns, servers))
    while now != before:
        time.sleep(0.02)
        before, now = now, sum(map(running_ns, servers))


def measure_seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# reads


def paths_of(side: Side) -> list[str]:
    return [os.path.join(root, name) for root, _, names in os.walk(side.corpus) for name in names]


def stat_storm(side: Side) -> float:
    paths = paths_of(side)
    return measure_seconds(lambda: [os.stat(path) for path in paths])


def stat_cold(paths: dict[str, list[str]]) -> Callable[[Side], float]:
    """Return a scenario with paths known beforehand, because a walk would warm the caches."""

    def run(side: Side) -> float:
        side_paths = paths.setdefault(side.name, [])
        if not side_paths:
            side_paths += paths_of(side)
            drop_caches(side.servers)
        return measure_seconds(lambda: [os.stat(path) for path in side_paths])

    return run


def open_close(side: Side) -> float:
    paths = paths_of(side)

    def open_all() -> None:
        for path in paths:
            os.close(os.open(path, os.O_RDONLY))

    return measure_seconds(open_all)


def rg(side: Side) -> float:
    return timed(["rg", "-c", "import", "--no-ignore", "--hidden", "-j", "1", str(side.corpus)])


def read_all(side: Side) -> float:
    return timed(["find", str(side.corpus), "-type", "f", "-exec", "cat", "{}", "+"])


# writes


def flat(side: Side) -> Path:
    return side.work / "flat"


def make_flat(side: Side) -> None:
    if not flat(side).exists():
        flat(side).mkdir()
        for number in range(10_000):
            (flat(side) / f"file-{number:05}").write_bytes(b"x" * (number % 100))


def many(side: Side) -> Path:
    return side.work / "many"


def empty_many(side: Side) -> None:
    shutil.rmtree(many(side), ignore_errors=True)
    many(side).mkdir()


def make_many(side: Side) -> None:
    empty_many(side)
    create(side)


def create(side: Side) -> float:
    paths = [str(many(side) / f"{number}") for number in range(5000)]
    data = b"a line of text\n" * 8

    def create_all() -> None:
        for path in paths:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, data)
            os.close(fd)

    return measure_seconds(create_all)


def unlink(side: Side) -> float:
    paths = [str(many(side) / f"{number}") for number in range(5000)]

    def unlink_all() -> None:
        for path in paths:
            os.unlink(path)

    return measure_seconds(unlink_all)


def append(side: Side) -> float:
    path = side.work / "log"
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        return measure_seconds(lambda: [os.write(fd, b"one more line that is appended\n") for _ in range(20_000)])
    finally:
        os.close(fd)


def large(side: Side) -> Path:
    return side.work / "large"


def write_large(side: Side) -> float:
    large(side).unlink(missing_ok=True)
    piece = b"0123456789abcdef" * (1 << 16)
    fd = os.open(large(side), os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        return measure_seconds(lambda: [os.write(fd, piece) for _ in range(LARGE_BYTES // len(piece))])
    finally:
        os.close(fd)


def read_large(side: Side) -> float:
    buffer = bytearray(1 << 20)

    def read_file() -> None:
        fd = os.open(large(side), os.O_RDONLY)
        while os.readv(fd, [buffer]):
            pass
        os.close(fd)

    return measure_seconds(read_file)


def git(side: Side, *arguments: str) -> float:
    return timed(["git", "-c", "gc.auto=0", *arguments])


def clone(source: Path) -> Callable[[Side], float]:
    def run(side: Side) -> float:
        shutil.rmtree(side.work / "clone", ignore_errors=True)
        return git(side, "clone", "-q", "--no-hardlinks", str(source), str(side.work / "clone"))

    return run


def ensure_clone(source: Path) -> Callable[[Side], None]:
    def prepare(side: Side) -> None:
        if not (side.work / "clone").exists():
            clone(source)(side)

    return prepare


def status(side: Side) -> float:
    return git(side, "-C", str(side.work / "clone"), "status", "--porcelain")


def sqlite_inserts(side: Side) -> float:
    database = side.work / "facts.db"
    for path in side.work.glob("facts.db*"):
        path.unlink()
    with sqlite3.connect(database, isolation_level=None) as db:
        db.execute("CREATE TABLE facts (id INTEGER PRIMARY KEY, text TEXT)")

        def insert_all() -> None:
            for number in range(500):
                db.execute("BEGIN")
                db.executemany("INSERT INTO facts (text) VALUES (?)", [(f"fact {number}.{n}",) for n in range(20)])
                db.execute("COMMIT")

        seconds = measure_seconds(insert_all)
    db.close()
    return seconds


def pip_install(wheels: Path) -> Callable[[Side], float]:
    def run(side: Side) -> float:
        into = side.work / "packages"
        shutil.rmtree(into, ignore_errors=True)
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
        return timed([*install, "--target", str(into), *map(str, sorted(wheels.glob("*.whl")))])

    return run


def untar(archive: Path) -> Callable[[Side], float]:
    def run(side: Side) -> float:
        (side.work / "unpacked").mkdir()
        seconds = timed(["tar", "xf", str(archive), "-C", str(side.work / "unpacked")])
        return seconds + timed(["rm", "-r", str(side.work / "unpacked")])

    return run


def scenarios(setup: Bench, archive: Path, wheels: Path, repository: Path) -> Iterator[Scenario]:
    yield Scenario("stat of 10k files, warm", stat_storm, target="≤ 1.2 × native")
    yield Scenario("stat of 10k files, cold", stat_cold({}), is_cold=True)
    yield Scenario("find, warm", lambda side: timed(["find", str(side.corpus)]), target="≤ 1.2 × native")
    yield Scenario("find, cold", lambda side: timed(["find", str(side.corpus)]), is_cold=True)
    yield Scenario("rg over 10k files, warm", rg, target="≤ 2.0 × native, ≤ 0.5 × C")
    yield Scenario("rg over 10k files, cold", rg, is_cold=True, target="≤ 5 × native, ≤ 0.7 × C")
    yield Scenario("cat of all 10k files, warm", read_all, target="≤ 1.6 × native")
    yield Scenario("open + close of 10k files, warm", open_close, target="≤ 1.5 × native, read only")
    listing = lambda side: timed(["ls", "-l", str(flat(side))])  # noqa: E731
    yield Scenario("ls -l of 10k, cold", listing, is_cold=True, prepare=make_flat, target="≤ 0.9 × C", writes=True)
    yield Scenario("ls -l of 10k, warm", listing, prepare=make_flat, target="≤ 1.3 × native", writes=True)
    yield Scenario("create + write + close of 5k", create, prepare=empty_many, target="≤ 1.2 × C", writes=True)
    yield Scenario("unlink of 5k", unlink, prepare=make_many, target="≤ 1.5 × C", writes=True)
    yield Scenario("append of 20k lines", append, target="≤ 2.5 × native", writes=True)
    yield Scenario("write of 1 GB", write_large, target="≤ 1.15 × native", writes=True)
    yield Scenario("read of 1 GB, cold", read_large, is_cold=True, target="≤ 1.15 × native", writes=True)
    yield Scenario("git clone", clone(repository), writes=True)
    yield Scenario("git status, warm", status, prepare=ensure_clone(repository), target="≤ 2 × native", writes=True)
    yield Scenario("SQLite, 500 transactions", sqlite_inserts, writes=True)
    yield Scenario("untar + rm -r of 3k files", untar(archive), writes=True)
    if any(wheels.glob("*.whl")):
        yield Scenario("pip install", pip_install(wheels), writes=True)


# servers


@contextmanager
def run_server(command: list[str], mount_point: Path) -> Iterator[int]:
    """Run a file system server in the foreground; yield its pid."""
    mount_point.mkdir()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(500):
            if os.path.ismount(mount_point):
                break
            time.sleep(0.01)
        else:
            raise RuntimeError(f"{command} does not mount")
        yield process.pid
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(mount_point)], check=False)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def build_c(folder: Path) -> Path | None:
    """Compile libfuse's example from the source that Debian ships; None if it is not installed."""
    if not _EXAMPLE.exists():
        print("no passthrough_ll.c: apt-get install libfuse3-dev", file=sys.stderr)
        return None
    flags = subprocess.run(["pkg-config", "fuse3", "--cflags", "--libs"], capture_output=True, text=True, check=True)
    built = folder / "passthrough_ll"
    subprocess.run(["gcc", "-O2", str(_EXAMPLE), "-o", str(built), *flags.stdout.split()], check=True)
    return built


@contextmanager
def all_sides(setup: Bench, loop: str) -> Iterator[list[Side]]:
    native_root = setup.folder / "below"
    folders = {name: native_root / name for name in ("native", "c", "peer")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    sides = [Side(NATIVE, setup.corpus, folders["native"])]
    view = Bench(setup.folder / "view")
    view.folder.mkdir()
    start_ctxfs(setup, setup.corpus, loop)
    start_ctxfs(view, setup.corpus, loop, read_only=True)
    mount = processes_of(setup.store)["mount"]
    work = setup.mountpoint / "pad" / "bench"
    work.mkdir()

    def settle() -> None:
        """Wait until earlier writes are committed and indexed, which would slow other sides."""
        setup.ctxfs("commit")
        setup.wait(300, lambda index: index["state"] == "idle")

    sides.append(Side(CTXFS, setup.mountpoint / "knowledge" / "corpus", work, mount))
    view_pid = processes_of(view.store)["mount"]
    sides.append(Side(VIEW, view.mountpoint / "knowledge" / "corpus", Path("/"), view_pid))
    with ExitStack() as stack:
        stack.callback(view.ctxfs, "unmount", "--all")
        program = build_c(setup.folder)
        if program:
            mount_point = setup.folder / "mnt-c"
            command = [str(program), "-f", "-s", "-o", f"source={setup.folder},cache=always", str(mount_point)]
            pid = stack.enter_context(run_server(command, mount_point))
            sides.append(Side(PASSTHROUGH_LL, mount_point / "corpus", mount_point / "below" / "c", pid))
        try:
            import mfusepy  # noqa: F401 - availability only
        except ImportError:
            print("no mfusepy: pip install mfusepy", file=sys.stderr)
        else:
            mount_point = setup.folder / "mnt-peer"
            command = [sys.executable, "-m", "benchmarks.loopback", str(setup.folder), str(mount_point)]
            pid = stack.enter_context(run_server(command, mount_point))
            sides.append(Side(PEER, mount_point / "corpus", mount_point / "below" / "peer", pid))
        processors = os.sched_getaffinity(0)
        first_processor = {min(processors)}
        servers = [side.server for side in sides if side.server]
        for pid in (0, *servers):
            set_affinity(pid, first_processor)
        # Commits and indexing run on other processors, as on a larger machine.
        for store in (setup.store, view.store):
            for role, pid in processes_of(store).items():
                if role != "mount":
                    set_affinity(pid, processors - first_processor or first_processor)
        for side in sides:
            side.settle, side.servers = settle, servers
        differing = [side.name for side in sides if len(paths_of(side)) != len(paths_of(sides[0]))]
        if differing:
            raise RuntimeError(f"not the same tree: {differing}")
        yield sides


def start_ctxfs(setup: Bench, corpus: Path, loop: str, *, read_only: bool = False) -> None:
    setup.ctxfs("init")
    config = setup.store / "ctxfs.toml"
    # The mount is measured, not the machine's second processor: no embedding meanwhile.
    text = config.read_text().replace("[index]", "[index]\nmeaning = false")
    if read_only:  # without records of reads, opens need no request
        text = text.replace("[history]", "[history]\naudit_reads = false")
    config.write_text(text.replace("[mount]", f'[mount]\nloop = "{loop}"'))
    setup.ctxfs("add", str(corpus), "--name", "corpus")
    setup.ctxfs("mount", str(setup.mountpoint), *(["--read-only"] if read_only else []))
    setup.wait(300, lambda index: index["state"] == "idle")


# results


def table(scenarios: list[Scenario], sides: list[Side]) -> str:
    names = [side.name for side in sides]
    lines = [f"| | {' | '.join(names)} | ctxfs ÷ C | wanted |", f"|---{'|---' * (len(names) + 2)}|"]
    for scenario in scenarios:
        native = statistics.median(scenario.times[NATIVE])
        cells = [f"{native * 1000:.1f} ms"]
        for name in names[1:]:
            times = scenario.times.get(name)
            if not times:
                cells.append("–")
                continue
            low, high = min(times) / native, max(times) / native
            cells.append(f"**{statistics.median(times) / native:.2f}** ({low:.2f}–{high:.2f})")
        ratio_text = "–"
        if PASSTHROUGH_LL in scenario.times:
            medians = [statistics.median(scenario.times[name]) for name in (CTXFS, VIEW) if name in scenario.times]
            ratio_text = ", ".join(
                f"{median / statistics.median(scenario.times[PASSTHROUGH_LL]):.2f}" for median in medians
            )
        lines.append(f"| {scenario.name} | {' | '.join(cells)} | {ratio_text} | {scenario.target} |")
    return "\n".join(lines) + "\n"


def plot(scenarios: list[Scenario], sides: list[Side], target: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install matplotlib", file=sys.stderr)
        return
    matplotlib.use("svg")
    from matplotlib import pyplot

    names = [side.name for side in sides if side.name != NATIVE]
    figure, axes = pyplot.subplots(figsize=(9, 0.42 * len(scenarios) + 1.2))
    height = 0.8 / len(names)
    for index, name in enumerate(names):
        ratios = [
            statistics.median(s.times[name]) / statistics.median(s.times[NATIVE]) if name in s.times else 0
            for s in scenarios
        ]
        axes.barh([row + index * height for row in range(len(scenarios))], ratios, height, label=name)
    axes.set_yticks([row + 0.3 for row in range(len(scenarios))], [s.name for s in scenarios])
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("time ÷ native tmpfs (log)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--loop", default="direct", choices=["direct", "trio"])
    parser.add_argument("--only", nargs="*", default=[""], help="scenarios whose name holds one of these")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder of the table and the plot")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    wheels = Path("build/bench/wheels")
    with bench() as setup:
        make_corpus(setup.corpus, arguments.files)
        archive, repository = setup.folder / "some.tar", setup.folder / "repository"
        files = [path for path in sorted(setup.corpus.rglob("*")) if path.is_file()]
        paths = [str(path.relative_to(setup.corpus)) for path in files[:3000]]
        subprocess.run(
            ["tar", "cf", str(archive), "-C", str(setup.corpus), "-T", "-"], input="\n".join(paths), text=True
        )
        subprocess.run(["git", "clone", "-q", "--bare", ".", str(repository)], check=True)
        with all_sides(setup, arguments.loop) as sides:
            measured = []
            for scenario in scenarios(setup, archive, wheels, repository):
                if any(text in scenario.name for text in arguments.only):
                    scenario.measure(sides, arguments.rounds)
                    measured.append(scenario)
                    print(table([scenario], sides).splitlines()[2], flush=True)
    text = table(measured, sides)
    (arguments.out / "filesystem.md").write_text(text)
    plot(measured, sides, arguments.out / "filesystem.svg")
    print(text)


if __name__ == "__main__":
    main()
