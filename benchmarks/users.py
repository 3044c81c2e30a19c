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

_USER_ID = 65534


class UsersBench(Bench):
    """A Bench whose commands run as the user. The interpreter may be in a folder that only root can read."""

    def ctxfs(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "ctxfs", "--store", str(self.store), *arguments]
        if os.getuid() == 0:
            rights = [f"--{kind}-caps=-all,+dac_read_search" for kind in ("inh", "ambient")]
            command = ["setpriv", f"--reuid={_USER_ID}", f"--regid={_USER_ID}", "--clear-groups", *rights, *command]
        process = subprocess.run(command, capture_output=True, text=True)
        if process.returncode:
            raise RuntimeError(f"{arguments}: {process.stderr}")
        return process.stdout


def as_user(work: Callable[[Side], float], side: Side) -> float:
    """Return the result of `work`, run in a process of the user."""
    context = get_context("fork")
    receiving, sending = context.Pipe(duplex=False)

    def run() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(_USER_ID)
            os.setuid(_USER_ID)
        sending.send(work(side))

    process = context.Process(target=run)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{side.name}: the user could not")
    return float(receiving.recv())


def run(setup: Bench, rounds: int) -> dict[str, object]:
    native = setup.folder / "native"
    native.mkdir()
    if os.getuid() == 0:
        for folder in (setup.folder, native):
            os.chown(folder, _USER_ID, _USER_ID)
    setup.ctxfs("init")
    setup.ctxfs("mount", str(setup.mountpoint))
    processor = {min(os.sched_getaffinity(0))}
    server = processes_of(setup.store)["mount"]
    for pid in (0, server):
        set_affinity(pid, processor)
    sides = [Side("native", setup.folder, native), Side("ctxfs", setup.mountpoint, setup.mountpoint / "pad")]
    rows: dict[str, object] = {}
    for title, work, target in (("write of 1 GB", write_large, 3), ("read of 1 GB, cold", read_large, 3)):
        times: dict[str, list[float]] = {side.name: [] for side in sides}
        for round_number in range(rounds + 1):
            for side in sides:
                if work is read_large and os.getuid() == 0:
                    drop_caches([server])
                seconds = as_user(work, side)
                if round_number:
                    times[side.name].append(seconds)
        ratio = statistics.median(times["ctxfs"]) / statistics.median(times["native"])
        rows[f"{title}, as a user"] = f"{ratio:.2f} × native (wanted ≤ {target})"
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
