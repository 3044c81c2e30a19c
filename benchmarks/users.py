"""A gigabyte through the mount of an ordinary user, against native tmpfs: `python -m benchmarks.users [--rounds 5]`.

Without root there is no FUSE passthrough. Run it as that user; or as root, if `/dev/fuse` is open to all (0666, as udev
creates it): then it becomes user 65534 for mounting and measuring.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

from benchmarks.filesystem import Side, drop_caches, read_large, write_large
from benchmarks.harness import Bench, bench, processes_of, report
from benchmarks.mount import set_affinity

_USER = 65534


class UsersBench(Bench):
    """A Bench whose commands run as the user. The interpreter may be in a folder that only root can read."""

    def ctxfs(self, *arguments: str) -> str:
        words = [sys.executable, "-m", "ctxfs", "--store", str(self.store), *arguments]
        if os.getuid() == 0:
            rights = [f"--{kind}-caps=-all,+dac_read_search" for kind in ("inh", "ambient")]
            words = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", *rights, *words]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stderr}")
        return done.stdout


def as_user(work: Callable[[Side], float], side: Side) -> float:
    """Return the result of `work`, run in a process of the user."""
    context = get_context("fork")
    receiving, sending = context.Pipe(duplex=False)

    def run() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(_USER)
            os.setuid(_USER)
        sending.send(work(side))

    process = context.Process(target=run)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{side.name}: the user could not")
    return float(receiving.recv())


def run(made: Bench, rounds: int) -> dict[str, object]:
    native = made.folder / "native"
    native.mkdir()
    if os.getuid() == 0:
        for folder in (made.folder, native):
            os.chown(folder, _USER, _USER)
    made.ctxfs("init")
    made.ctxfs("mount", str(made.at))
    one = {min(os.sched_getaffinity(0))}
    server = processes_of(made.store)["mount"]
    for pid in (0, server):
        set_affinity(pid, one)
    sides = [Side("native", made.folder, native), Side("ctxfs", made.at, made.at / "pad")]
    rows: dict[str, object] = {}
    for what, work, wanted in (("write of 1 GB", write_large, 3), ("read of 1 GB, cold", read_large, 3)):
        times: dict[str, list[float]] = {side.name: [] for side in sides}
        for turn in range(rounds + 1):
            for side in sides:
                if work is read_large and os.getuid() == 0:
                    drop_caches([server])
                taken = as_user(work, side)
                if turn:
                    times[side.name].append(taken)
        ratio = statistics.median(times["ctxfs"]) / statistics.median(times["native"])
        rows[f"{what}, as a user"] = f"{ratio:.2f} × native (wanted ≤ {wanted})"
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if os.getuid() == 0 and Path("/dev/fuse").stat().st_mode & 0o6 != 0o6:
        sys.exit("users cannot mount here: chmod 666 /dev/fuse, as udev makes it")
    with bench() as plain:
        report(run(UsersBench(plain.folder), arguments.rounds))


if __name__ == "__main__":
    main()
