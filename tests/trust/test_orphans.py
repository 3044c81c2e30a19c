"""What a daemon has started does not outlive it, and what did is ended by the next one."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import Live, children_of, eventually

pytestmark = pytest.mark.fuse


def descendants_of(pid: int) -> list[int]:
    """Its children and theirs, without mount processes, which lead sessions of their own."""
    found = []
    for child in children_of(pid):
        with contextlib.suppress(ProcessLookupError):
            found += [child] if os.getsid(child) != child else []
    return [*found, *(each for child in found for each in descendants_of(child))]


def indexer_of(live: Live) -> int:
    for child in children_of(live.daemon_pid()):
        with contextlib.suppress(OSError):  # others come and go
            if "ctxfs.daemon.index_process" in Path(f"/proc/{child}/cmdline").read_text():
                return child
    return 0


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_no_worker_outlives_a_daemon_that_was_killed(own_live: Live) -> None:
    live = own_live
    lock = live.store / "index" / "indexer.lock"
    eventually("the indexer runs", lambda: lock.exists() and lock.read_text() == f"{indexer_of(live)}\n", 60)
    workers = descendants_of(live.daemon_pid())
    assert indexer_of(live) in workers
    os.kill(indexer_of(live), signal.SIGSTOP)  # as one that is too busy to see that its orders have ended
    os.kill(live.daemon_pid(), signal.SIGKILL)
    eventually("they have ended", lambda: not any(map(is_running, workers)), 60)


def test_indexer_ends_one_that_still_holds_the_index(tmp_path: Path) -> None:
    hold = (
        "import sys, time; from pathlib import Path; from ctxfs.daemon.index_process import _take_turn;"
        "turn = _take_turn(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", hold, str(tmp_path), "ctxfs.daemon.index_process"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as orphan:
        assert orphan.stdout is not None
        assert orphan.stdout.readline() == b"held\n"
        with subprocess.Popen(command, stdout=subprocess.PIPE) as heir:
            assert heir.stdout is not None
            assert heir.stdout.readline() == b"held\n"
            assert orphan.wait(30) == -signal.SIGKILL
            heir.kill()
