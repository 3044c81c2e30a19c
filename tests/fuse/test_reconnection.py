"""Test a mount process whose daemon does not come up."""

import itertools
from pathlib import Path
from typing import Any

import trio
import trio.testing

from ctxfs.fuse.mount_process import MountProcess
from ctxfs.rpc.client import NoDaemon


class Started:
    """A daemon that takes a minute to begin, or ends at once."""

    def __init__(self, seconds: float) -> None:
        self.until = trio.current_time() + seconds

    def poll(self) -> int | None:
        return None if trio.current_time() < self.until else 1


class Absent:
    async def connect(self, run: Path) -> None:
        raise NoDaemon(run)


def starts_within(minutes: int, seconds: float) -> list[float]:
    """Return the start times of daemons that each live for `seconds` without listening."""
    begun: list[float] = []

    async def main() -> None:
        process: Any = MountProcess.__new__(MountProcess)
        process._client, process._run_folder = Absent(), Path("/store/run")
        began = trio.current_time()

        async def start() -> Started:
            begun.append(trio.current_time() - began)
            return Started(seconds)

        process._start_daemon = start
        with trio.move_on_after(60 * minutes):
            await process._connect()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return begun


def test_one_daemon_is_started_at_a_time_for_any_start_time() -> None:
    begun = starts_within(5, seconds=70)
    assert begun[0] < 2
    assert all(later - earlier >= 70 for earlier, later in itertools.pairwise(begun))


def test_daemon_that_ends_at_once_is_restarted_with_backoff() -> None:
    begun = starts_within(10, seconds=0)
    assert begun[0] < 2
    assert len(begun) < 30
    assert begun[-1] - begun[-2] >= 29
