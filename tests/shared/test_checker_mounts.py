"""Check shared stores whose daemons serve kernel mounts: work at all mounts at once, kills, cuts and silence, a model.

`CTXFS_SHARED_MOUNT_OPERATIONS` is the number of operations of each node between two faults, `CTXFS_SHARED_SEED` the seed.
"""

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ctxfs.rpc.client import Client
from tests.live import Live, eventually
from tests.shared.checking.mounted import CONTESTED, LOGS, Worker, faults_of, tree_of
from tests.shared.engines import PASSWORD, Postgres, Proxy, running_postgres

pytestmark = [pytest.mark.fuse, pytest.mark.long]
OPERATIONS = int(os.environ.get("CTXFS_SHARED_MOUNT_OPERATIONS", "8"))
SEED = int(os.environ.get("CTXFS_SHARED_SEED", "1"))
VARIABLE = "CTXFS_TEST_ENGINE"
FAKETIME = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1")]


class MountedNode(Live):
    """A node behind a proxy of its own, on a machine whose clock may be wrong."""

    def __init__(self, folder: Path, port: int, environment: Mapping[str, str]) -> None:
        super().__init__(folder)
        self.proxy = Proxy(port)
        self._environment = environment

    def try_run(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002 - as in subprocess
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            input=input,
            timeout=120,
            env={**os.environ, VARIABLE: PASSWORD, **self._environment},
        )

    def kill(self) -> None:
        """Kill the daemon, and mount again."""
        os.kill(self.daemon_pid(), signal.SIGKILL)
        subprocess.run(["fusermount3", "-u", "-z", str(self.at)], check=False, capture_output=True)
        self.run("mount", str(self.at))

    def status(self) -> dict[str, Any]:
        """Return the daemon's status, also on a busy machine."""
        client = Client(self.store / "run", timeout=60)
        try:
            response: dict[str, Any] = client.call("status")
            return response
        finally:
            client.close()

    def shared(self) -> dict[str, Any]:
        status: dict[str, Any] = self.status()["shared"]
        return status


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """Return a server that may be killed."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def nodes(tmp_path: Path, own_postgres: Postgres) -> Iterator[list[MountedNode]]:
    """Return three nodes. The clocks of two are a day off, if libfaketime is installed."""
    lives: list[MountedNode] = []
    try:
        for number, days in enumerate((0, 0.9, -1)):
            clock = {"LD_PRELOAD": str(FAKETIME[0]), "FAKETIME": f"{days:+}d"} if days and FAKETIME else {}
            lives.append(_start(tmp_path / f"n{number}", own_postgres, clock, "join" if number else "share"))
        yield lives
    finally:
        for live in lives:
            live.proxy.heal()
            live.close()
            live.proxy.close()


def _start(folder: Path, server: Postgres, environment: Mapping[str, str], verb: str) -> MountedNode:
    live = MountedNode(folder, server.port, environment)
    live.at.mkdir(parents=True)
    try:
        live.run("init")
        live.run("mount", str(live.at))
        live.run(verb, server.url(live.proxy.port), "--node", folder.name, "--password-env", VARIABLE)
    except BaseException:
        live.close()
        live.proxy.close()
        raise
    return live


def settle(lives: list[MountedNode]) -> None:
    """Exchange until all nodes have read the same entry, and nothing waits."""

    def is_settled() -> bool:
        for live in lives:
            if live.try_run("sync", "--wait", "--timeout", "60").returncode:
                return False
        states = [live.shared() for live in lives]
        return len({state["entry"] for state in states}) == 1 and not any(state["waiting"] for state in states)

    eventually("the nodes have the same versions", is_settled, 120)


def head_of(live: Live) -> str:
    """Return the newest commit of a store."""
    words = ["git", f"--git-dir={live.store}/repo.git", "rev-parse", "refs/heads/main"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def pause(live: MountedNode, workers: list[Worker]) -> None:
    """Stop a daemon for longer than a turn lasts, while the others go on."""
    pid = live.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        rest = [worker for worker in workers if worker.live is not live]
        for worker in rest:
            worker.wait_until(worker.done + 2 * OPERATIONS)
    finally:
        os.kill(pid, signal.SIGCONT)


def cut(live: MountedNode, workers: list[Worker]) -> None:
    """Stop forwarding until the node notices it and has versions that wait."""
    live.proxy.cut()
    try:
        eventually("the silence is noticed", lambda: not live.shared()["reachable"], 60)
        worker = next(worker for worker in workers if worker.live is live)
        worker.wait_until(worker.done + OPERATIONS)
    finally:
        live.proxy.heal()


def test_mounts_of_three_nodes_survive_kills_cuts_and_silence(nodes: list[MountedNode], own_postgres: Postgres) -> None:
    first = nodes[0]
    for path in (*LOGS, *CONTESTED):
        (first.at / path).write_text("<begin>\n")
    settle(nodes)
    workers = [Worker(live, f"n{number}", SEED * 10 + number) for number, live in enumerate(nodes)]

    def kill_engine() -> None:
        own_postgres.kill()
        for worker in workers:
            worker.wait_until(worker.done + OPERATIONS // 2)
        own_postgres.start()

    def delay(live: MountedNode) -> None:
        live.proxy.delay_seconds = 0.1  # in each direction
        for worker in workers:
            worker.wait_until(worker.done + OPERATIONS)
        live.proxy.delay_seconds = 0

    faults: list[Callable[[], object]] = [
        nodes[1].kill,
        kill_engine,
        lambda: cut(nodes[2], workers),
        lambda: pause(nodes[0], workers),
        lambda: delay(nodes[1]),
        nodes[2].kill,
        kill_engine,
    ]
    random.Random(SEED).shuffle(faults)
    for worker in workers:
        worker.start()
    try:
        for fault in faults:
            for worker in workers:
                worker.wait_until(worker.done + OPERATIONS)
            fault()
    finally:
        for worker in workers:
            worker.stopping.set()
        for worker in workers:
            worker.join(120)
    assert not [worker.fault for worker in workers if worker.fault]
    settle(nodes)
    check(nodes, workers)


def check(nodes: list[MountedNode], workers: list[Worker]) -> None:
    """Check the outcome: heads, trees, acknowledged work and histories."""
    trees = [tree_of(live) for live in nodes]
    faults = faults_of(workers, trees[0])
    faults += [f"n{number} has another tree" for number, tree in enumerate(trees) if tree != trees[0]]
    assert len({head_of(live) for live in nodes}) == 1
    assert not faults, f"seed {SEED}:\n" + "\n".join(faults)
    for live in nodes:
        live.run("history", "verify")
    print([(worker.done, worker.failed, len(worker.doubtful)) for worker in workers])
