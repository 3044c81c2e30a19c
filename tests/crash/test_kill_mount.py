"""Test that acknowledged writes lie in the store after a SIGKILL of the mount process, the daemon, or both.

`CTXFS_CRASH_ROUNDS` sets the number of rounds: a few by default, 200 in `make test-crash`.
"""

import contextlib
import errno
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from ctxfs.fuse.mounting import is_dead
from ctxfs.model.errors import CommandError
from tests.live import Live, eventually

pytestmark = pytest.mark.fuse
ROUNDS = int(os.environ.get("CTXFS_CRASH_ROUNDS", "5"))
SEED = int(os.environ.get("CTXFS_CRASH_SEED", "11"))
WRITERS = 3
# Errors that a client may get from a dead mount process. It must never get a false success.
REFUSALS = {errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ESTALE}


class Writer(threading.Thread):
    """A writer that makes, replaces, renames and removes files; `model` contains the acknowledged state.

    Each operation looks its path up anew, as scripts do.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.chance = random.Random(seed)
        self.model: dict[str, bytes] = {}
        self.unknown: set[str] = set()  # an operation failed: its effect is undetermined
        self.refusals: Counter[int] = Counter()
        self.acknowledged = 0
        self.longest = 0.0
        self.number = 0
        self.stop = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self._step()
        except BaseException as error:
            self.failure = error

    def _step(self) -> None:
        self.number += 1
        name, old = f"{self.number}.md", self.chance.choice(sorted(self.model)[-20:]) if self.model else ""
        action = self.chance.choice(("write", "write", "replace", "rename", "remove")) if old else "write"
        data = f"{self.folder.name} {self.number} ".encode() * self.chance.randrange(1, 400)
        touched = {"write": [name], "replace": [old], "rename": [old, name], "remove": [old]}[action]
        began = time.monotonic()
        try:
            for folder in (self.folder.parent, self.folder):  # as `mkdir -p` does: without a tree, it makes one
                with contextlib.suppress(FileExistsError):
                    folder.mkdir()
            if action in ("write", "replace"):
                with open(self.folder / touched[0], "wb") as file:
                    file.write(data)
            elif action == "rename":
                os.rename(self.folder / old, self.folder / name)
            else:
                os.unlink(self.folder / old)
        except OSError as error:
            self.refusals[error.errno or 0] += 1
            if error.errno not in REFUSALS:
                error.add_note(f"{action} {touched}")
                raise
            self.unknown.update(touched)
            for path in touched:
                self.model.pop(path, None)
            self.stop.wait(0.001)
            return
        self.longest = max(self.longest, time.monotonic() - began)
        self.acknowledged += 1
        if action == "rename":
            self.model[name] = self.model.pop(old)
        elif action == "remove":
            del self.model[old]
        else:
            self.model[touched[0]] = data


def pids_of(live: Live) -> tuple[int, int]:
    """Return (daemon, mount process), once both serve."""
    pids: list[tuple[int, int]] = []

    def serve() -> bool:
        try:
            daemon, mount = live.daemon_pid(), live.mount_pid()
        except (CommandError, OSError, StopIteration, ValueError):
            return False
        if mount:
            pids.append((daemon, mount))
        return bool(mount)

    eventually("daemon and mount process serve", serve, 60)
    return pids[-1]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def check_model(tree: Path, writer: Writer) -> None:
    folder = tree / "pad" / writer.folder.name
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    lost = {name for name, data in writer.model.items() if there.get(name) != data}
    assert not lost, f"{len(lost)} of {len(writer.model)} acknowledged files are not in the store: {sorted(lost)[:5]}"
    assert not set(there) - set(writer.model) - writer.unknown, "a file is there that was removed or renamed"


def test_acknowledged_writes_stay_in_the_store_after_every_kill_of_the_mount_process(own_live: Live) -> None:
    live, chance = own_live, random.Random(SEED)
    writers = [Writer(live.at / "pad" / f"w{number}", SEED + number) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    gaps: dict[str, list[float]] = {"mount": [], "daemon": [], "both": []}
    try:
        for number in range(ROUNDS):
            victim = ("mount", "mount", "both", "daemon", "mount")[number % 5]
            daemon, mount = pids_of(live)
            threading.Event().wait(chance.uniform(0.0, 0.3))  # the moment of the kill is random
            before = [writer.acknowledged for writer in writers]
            killed = time.monotonic()
            if victim != "mount":
                kill(daemon)
            if victim != "daemon":
                kill(mount)
            if victim == "both":
                eventually("a dead mount remains, no bare directory", lambda: is_dead(live.at), 60)
                live.run("mount", str(live.at))
            eventually(
                "every writer goes on",
                lambda before=before: all(
                    w.failure or w.acknowledged > b for w, b in zip(writers, before, strict=True)
                ),
                60,
            )
            gaps[victim].append(time.monotonic() - killed)
            for writer in writers:
                if writer.failure is not None:
                    raise AssertionError(f"round {number}, {victim}: {live.errors()}") from writer.failure
    finally:
        for writer in writers:
            writer.stop.set()
        for writer in writers:
            writer.join(timeout=60)
    print(
        {victim: f"{max(seconds, default=0):.2f} s" for victim, seconds in gaps.items()}, [w.refusals for w in writers]
    )
    assert sum(len(writer.model) for writer in writers)
    for writer in writers:
        check_model(live.store / "tree", writer)
        check_model(live.at, writer)
    live.run("unmount", "--all")
    assert os.listdir(live.at) == [], "something was written to the bare directory below the mount"
    assert not (live.store / "found").exists(), "something was written to the bare directory below the mount"
