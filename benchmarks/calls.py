"""Single calls through the mount, against libfuse's C pass-through: `python -m benchmarks.calls [--rounds 5] [--perf]`.

Creates, links, renames, changes the attributes of, makes durable and removes many small files, one kind of call after the
other, as mdtest does. Rounds are interleaved. Each kind is measured twice: with client and server on one processor, and
on two, which differ in the cost of a wake-up. Daemon and indexer run on the last processor. The table has microseconds a
call, the ratio to the C example, and the processor time of the mount process. With `--perf`, where it is installed,
also the functions in which the mount process spends its time. Needs root and two processors.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.filesystem import build_c, run_server, start_ctxfs
from benchmarks.harness import Bench, bench, cpu_times, processes_of
from benchmarks.mount import set_affinity

_LINE = b"a line of text\n" * 8


@dataclass
class Side:
    """A tree to measure: its folder, and its server process (None: the kernel)."""

    name: str
    work: Path
    server: int | None = None


@dataclass
class Times:
    """Microseconds a call of one side: by the clock, and of the server in its own code and in the kernel."""

    wall: list[float] = field(default_factory=list)
    user: list[float] = field(default_factory=list)
    system: list[float] = field(default_factory=list)

    def add(self, wall: float, user: float, system: float) -> None:
        self.wall.append(wall)
        self.user.append(user)
        self.system.append(system)


def _create(folder: Path, names: list[str]) -> None:
    for name in names:
        fd = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, _LINE)
        os.close(fd)


def _touch(folder: Path, names: list[str]) -> None:
    for name in names:
        os.close(os.open(f"{folder}/{name}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


def _overwrite(folder: Path, names: list[str]) -> None:
    for name in names:
        fd = os.open(f"{folder}/{name}", os.O_WRONLY)
        os.write(fd, _LINE)
        os.close(fd)


def _fsync(folder: Path, names: list[str]) -> None:
    fd = os.open(f"{folder}/{names[0]}", os.O_WRONLY)
    for _ in names:
        os.write(fd, _LINE)
        os.fsync(fd)
    os.close(fd)


def _each(call: Callable[[str], object]) -> Callable[[Path, list[str]], None]:
    def run(folder: Path, names: list[str]) -> None:
        for name in names:
            call(f"{folder}/{name}")

    return run


# In this order: each kind leaves the files that the next one needs.
KINDS: dict[str, Callable[[Path, list[str]], None]] = {
    "create + write + close": _create,
    "create + close": _touch,
    "open + write + close": _overwrite,
    "stat": _each(os.stat),
    "chmod": _each(lambda path: os.chmod(path, 0o600)),
    "utimens": _each(lambda path: os.utime(path, (1, 1))),
    "setxattr": _each(lambda path: os.setxattr(path, "user.note", b"1")),
    "getxattr": _each(lambda path: os.getxattr(path, "user.note")),
    "truncate": _each(lambda path: os.truncate(path, 5)),
    "link": _each(lambda path: os.link(path, path + ".link")),
    "symlink": _each(lambda path: os.symlink("x", path + ".symlink")),
    "rename": _each(lambda path: os.rename(path + ".link", path + ".moved")),
    "rename over": _each(lambda path: os.rename(path + ".symlink", path + ".new")),
    "write + fsync": _fsync,
    "mkdir": _each(lambda path: os.mkdir(path + ".folder")),
    "rmdir": _each(lambda path: os.rmdir(path + ".folder")),
    "unlink": _each(os.unlink),
}


def measure(side: Side, kind: str, names: list[str], times: Times) -> None:
    before = cpu_times(side.server) if side.server else (0.0, 0.0)
    start = time.perf_counter()
    KINDS[kind](side.work, names)
    wall = time.perf_counter() - start
    after = cpu_times(side.server) if side.server else (0.0, 0.0)
    figures = (wall, after[0] - before[0], after[1] - before[1])
    times.add(*(1e6 * figure / len(names) for figure in figures))


def run(setup: Bench, sides: list[Side], count: int, rounds: int, only: list[str]) -> dict[str, dict[str, Times]]:
    """Return the times by kind and side. The first round warms up."""
    found: dict[str, dict[str, Times]] = {kind: {side.name: Times() for side in sides} for kind in KINDS}
    names = [f"{number:05}" for number in range(count)]
    for number in range(rounds + 1):
        for side in sides:
            subprocess.run(["rm", "-rf", str(side.work)], check=True)
            side.work.mkdir()
        for kind in KINDS:
            for side in sides:
                _settle(setup)
                measure(side, kind, names, found[kind][side.name] if number else Times())
    return {kind: times for kind, times in found.items() if any(text in kind for text in only)}


def _settle(setup: Bench) -> None:
    """Wait until earlier changes are committed and indexed, which would slow other sides."""
    setup.ctxfs("commit")
    setup.wait(300, lambda index: index["state"] == "idle")


def table(found: dict[str, dict[str, Times]]) -> str:
    lines = [
        "| µs a call | native | C | ctxfs | ctxfs ÷ C | of it in the mount: Python and C | kernel |",
        f"|---{'|---' * 6}|",
    ]
    for kind, sides in found.items():
        wall = {name: statistics.median(times.wall) for name, times in sides.items()}
        own = sides["ctxfs"]
        lines.append(
            f"| {kind} | {wall['native']:.1f} | {wall['C']:.1f} | {wall['ctxfs']:.1f} | **{wall['ctxfs'] / wall['C']:.2f}** |"
            f" {statistics.median(own.user):.0f} | {statistics.median(own.system):.0f} |"
        )
    return "\n".join(lines)


@contextlib.contextmanager
def _sides(setup: Bench) -> Iterator[list[Side]]:
    below = setup.folder / "below"
    (below / "native").mkdir(parents=True)
    start_ctxfs(setup, setup.corpus, "direct")
    with ExitStack() as stack:
        program = build_c(setup.folder)
        if program is None:
            raise SystemExit("benchmarks.calls: the C example is needed: apt-get install libfuse3-dev")
        at = setup.folder / "mnt-c"
        command = [str(program), "-f", "-s", "-o", f"source={below},cache=always", str(at)]
        c = stack.enter_context(run_server(command, at))
        mount = processes_of(setup.store)["mount"]
        yield [
            Side("native", below / "native"),
            Side("C", at / "c", c),
            Side("ctxfs", setup.mountpoint / "pad" / "calls", mount),
        ]


def _place(setup: Bench, sides: list[Side], processors: list[int], *, apart: bool) -> None:
    """Pin the client to the first processor, the servers to it or to the next, and the daemon to the last."""
    set_affinity(0, {processors[0]})
    for side in sides:
        if side.server:
            set_affinity(side.server, {processors[1] if apart else processors[0]})
    for role, pid in processes_of(setup.store).items():
        if role != "mount":
            set_affinity(pid, {processors[-1]})


def _start_perf(setup: Bench, server: int) -> subprocess.Popen[bytes]:
    out = str(setup.folder / "perf.data")
    return subprocess.Popen(
        ["perf", "record", "-q", "-F", "4000", "-p", str(server), "-o", out], stderr=subprocess.DEVNULL
    )


def _report_perf(setup: Bench, recorder: subprocess.Popen[bytes]) -> str:
    recorder.terminate()
    recorder.wait()
    report = [
        "perf",
        "report",
        "-i",
        str(setup.folder / "perf.data"),
        "--stdio",
        "--sort",
        "dso,symbol",
        "--percent-limit",
        "0.7",
    ]
    return subprocess.run(report, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--only", nargs="*", default=[""], help="kinds of calls whose name holds one of these")
    parser.add_argument("--places", nargs="*", default=["one", "two"], choices=["one", "two"], help="processors")
    parser.add_argument("--perf", action="store_true")
    arguments = parser.parse_args()
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        raise SystemExit("benchmarks.calls: two processors are needed")
    with bench() as setup:
        setup.corpus.mkdir()
        with _sides(setup) as sides:
            for place in arguments.places:
                _place(setup, sides, processors, apart=place == "two")
                recorder = _start_perf(setup, sides[-1].server or 0) if arguments.perf else None
                print(f"\nClient and server on {place} processor{'s' if place == 'two' else ''}\n")
                print(table(run(setup, sides, arguments.count, arguments.rounds, arguments.only)), flush=True)
                if recorder is not None:
                    print(_report_perf(setup, recorder))


if __name__ == "__main__":
    main()
