"""Time of a request by request loop: `python -m benchmarks.loops [--requests 20000] [--perf]`.

The same handlers answer a lookup through pyfuse3 under trio and through the `direct` transport, with client and mount
on one processor. Only the loop differs. Measures wall time, processor time of the
mount process inside and outside of the kernel, and its context switches. With `--perf`, where that is installed, also
the libraries that the time was spent in.
"""

import argparse
import os
import subprocess
import time
from pathlib import Path

from benchmarks.harness import Bench, bench, cpu_times, processes_of
from benchmarks.mount import set_affinity

_LOOPS = ("trio", "direct")


def times_of(pid: int) -> tuple[float, float, int]:
    """Return (user seconds, system seconds, context switches) of a process so far."""
    switches = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        lines = (thread / "status").read_text().splitlines()
        switches += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return *cpu_times(pid), switches


def look_up(paths: list[str], requests: int) -> float:
    start = time.perf_counter()
    for number in range(requests):
        os.stat(paths[number % len(paths)])
    return time.perf_counter() - start


def libraries(pid: int, paths: list[str], requests: int, out: Path) -> str:
    """Return the shares of the mount's time of the three largest libraries."""
    recorder = subprocess.Popen(
        ["perf", "record", "-q", "-F", "2000", "-p", str(pid), "-o", str(out)], stderr=subprocess.DEVNULL
    )
    time.sleep(0.5)
    look_up(paths, requests)
    recorder.terminate()
    recorder.wait()
    output = subprocess.run(
        ["perf", "report", "-i", str(out), "--stdio", "--sort", "dso"], capture_output=True, text=True
    ).stdout
    rows = [line.split() for line in output.splitlines() if "%" in line and not line.startswith("#")]
    return ", ".join(f"{row[1].split('.')[0].strip('[]')} {row[0]}" for row in rows[:3])


def measure(setup: Bench, loop: str, requests: int, perf: bool) -> str:
    setup.ctxfs("init")
    config = setup.store / "ctxfs.toml"
    # The kernel caches no entries: every stat is a lookup.
    config.write_text(
        config.read_text()
        .replace("[index]", "[index]\nmeaning = false")
        .replace("[mount]", f'[mount]\nloop = "{loop}"\ncache_seconds = 0.0')
    )
    setup.ctxfs("mount", str(setup.mountpoint))
    folder = setup.mountpoint / "pad"
    paths = [str(folder / f"{number}") for number in range(100)]
    for path in paths:
        Path(path).write_text("x")
    setup.wait(60, lambda index: index["state"] == "idle")
    pid, processor = processes_of(setup.store)["mount"], min(os.sched_getaffinity(0))
    for process in (0, pid):
        set_affinity(process, {processor})
    look_up(paths, requests // 10)
    before = times_of(pid)
    wall = look_up(paths, requests)
    user, system, switches = (now - then for now, then in zip(times_of(pid), before, strict=True))
    # One stat sends a lookup for each path component: its cost is divided by the number of lookups.
    lookups = requests * len(Path(paths[0]).relative_to(setup.mountpoint).parts)
    cells = [f"{1e6 * figure / lookups:.1f} µs" for figure in (wall, user, system)]
    cells.append(f"{switches / lookups:.2f}")
    if perf:
        cells.append(libraries(pid, paths, requests, setup.folder / "perf.data"))
    return f"| {loop} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--perf", action="store_true")
    arguments = parser.parse_args()
    processors = os.sched_getaffinity(0)
    titles = ["a lookup", "mount, in Python and libraries", "mount, in the kernel", "switches"]
    titles += ["where (perf)"] if arguments.perf else []
    print(f"| loop | {' | '.join(titles)} |\n|---{'|---' * len(titles)}|")
    for loop in _LOOPS:
        set_affinity(0, processors)
        with bench() as setup:
            print(measure(setup, loop, arguments.requests, arguments.perf), flush=True)


if __name__ == "__main__":
    main()
