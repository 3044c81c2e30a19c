"""Test that child processes end with their daemon, and that the next daemon ends any survivor."""

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
    """Return all descendants of a process but mount processes, which lead sessions of their own."""
    children = []
    for child in children_of(pid):
        with contextlib.suppress(ProcessLookupError):
            children += [child] if os.getsid(child) != child else []
    return [*children, *(descendant for child in children for descendant in descendants_of(child))]


def indexer_of(live: Live) -> int:
    for child in children_of(live.daemon_pid()):
        with contextlib.suppress(OSError):  # other processes start and end meanwhile
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
    os.kill(indexer_of(live), signal.SIGSTOP)  # as an indexer that is too busy to notice that its pipe has closed
    os.kill(live.daemon_pid(), signal.SIGKILL)
    eventually("they have ended", lambda: not any(map(is_running, workers)), 60)


def running_with(word: str) -> list[int]:
    """Return running processes whose last argument is `word`, except commands of ctxfs."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_text().split("\0")[:-1]
            if command[-1:] == [word] and "ctxfs" not in command and is_running(int(process.name)):
                pids.append(int(process.name))
    return pids


def test_no_tool_or_server_outlives_a_daemon_that_was_killed(own_live: Live) -> None:
    """They sleep, and ignore the end of their stdin."""
    live = own_live
    mark = f"86400.{os.getpid()}"
    tool = live.store / "tools" / "sleeper"
    tool.mkdir(parents=True)
    (tool / "tool.toml").write_text(
        f'description = "Sleep"\ncommand = ["sleep", "{mark}"]\nread_only = true\ntimeout_seconds = 600\n'
    )
    live.run("tools", "approve", "sleeper", "--yes")
    program = f"import time; time.sleep({mark})"
    with contextlib.ExitStack() as stack:
        cli = [sys.executable, "-m", "ctxfs", "--store", str(live.store)]
        for command in (
            [str(live.at / "tools" / "sleeper" / "run")],
            [*cli, "tools", "add", "deaf", "--yes", "--", "python3", "-c", program],
        ):
            asking = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(asking.wait)
            stack.callback(asking.kill)

        def started() -> bool:
            return bool(running_with(mark)) and bool(running_with(program))

        eventually("they are at work", started)
        workers = {*descendants_of(live.daemon_pid()), *running_with(mark), *running_with(program)}
        os.kill(live.daemon_pid(), signal.SIGKILL)
        eventually("they have ended", lambda: not any(map(is_running, workers)), 60)


def test_no_configured_command_outlives_a_daemon_that_was_killed() -> None:
    mark = f"86401.{os.getpid()}"
    ask = f"import trio; from ctxfs.context.external_commands import run_command; trio.run(run_command, 'sleep {mark}', [])"
    with subprocess.Popen([sys.executable, "-c", ask]) as asking:
        eventually("the command runs", lambda: running_with(mark), 60)
        asking.kill()
    eventually("it has ended", lambda: not running_with(mark), 60)


def test_indexer_ends_one_that_still_holds_the_index(tmp_path: Path) -> None:
    hold = (
        "import sys, time; from pathlib import Path; from ctxfs.daemon.index_process import _lock_index;"
        "turn = _lock_index(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
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
