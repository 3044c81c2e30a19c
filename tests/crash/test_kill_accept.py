"""Test that a SIGKILL of the daemon while it accepts a proposal leaves the whole proposal or nothing of it.

`CTXFS_ACCEPT_ROUNDS` sets the number of rounds: a few by default, 200 in `make test-crash`.
"""

import contextlib
import json
import os
import random
import threading
from pathlib import Path

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.rpc.client import Client, NoDaemon
from tests.crash.test_kill_versions import kill_daemon
from tests.live import Live, eventually

pytestmark = pytest.mark.fuse
ROUNDS = int(os.environ.get("CTXFS_ACCEPT_ROUNDS", "4"))
SEED = int(os.environ.get("CTXFS_CRASH_SEED", "11"))
FILES = 30
MAX_DELAY_SECONDS = 0.08


def ask(live: Live, method: str, **arguments: object) -> dict[str, object]:
    client = eventually("a daemon serves the store", lambda: _connect(live), bound=60)
    try:
        answer: dict[str, object] = client.call(method, **arguments)
        return answer
    finally:
        client.close()


def _connect(live: Live) -> Client | None:
    with contextlib.suppress(NoDaemon):
        return Client(live.store / "run", timeout=30)
    return None


def accept(live: Live, name: str, is_asked: threading.Event) -> None:
    with (
        contextlib.suppress(CommandError, OSError, EOFError),
        contextlib.closing(Client(live.store / "run", timeout=30)) as client,
    ):
        is_asked.set()
        client.call("decide", id=name, verdict="accept")


def is_merged(folder: Path) -> bool:
    """Return True if every repetition in a folder is merged; fail if only some are."""
    states = ["user.ctx.state" in os.listxattr(file) for file in folder.iterdir()]
    assert sum(states) in (0, FILES - 1), f"{sum(states)} of {FILES - 1} files are merged"
    return any(states)


def test_no_kill_leaves_half_a_proposal(own_live: Live) -> None:
    live, chance, outcomes = own_live, random.Random(SEED), list[bool]()
    for number in range(ROUNDS):
        group = f"memory/w{number}/fact"
        folder = live.store / "tree" / group
        folder.mkdir(parents=True)
        for file in range(FILES):
            (folder / f"{file:02}.md").write_text(f"The badge of team {number} is green.\n")
        eventually("the files have versions", lambda folder=folder: _count(live, folder) == FILES)
        (proposal,) = ask(live, "consolidate", path=group)["proposals"]  # type: ignore[misc]
        name, is_asked = str(proposal["id"]), threading.Event()  # type: ignore[index]
        thread = threading.Thread(target=accept, args=(live, name, is_asked), daemon=True)
        thread.start()
        is_asked.wait(10)
        threading.Event().wait(chance.uniform(0, MAX_DELAY_SECONDS))  # the moment of the kill is random
        kill_daemon(live)
        thread.join(60)
        eventually("a daemon answers again", lambda: live.try_run("commit").returncode == 0, bound=60)
        merged = is_merged(folder)
        outcome = live.store / "tree" / "human" / "review" / name / "outcome.json"
        assert outcome.exists() == merged
        waiting = [review["id"] for review in json.loads(live.try_run("review", "--json").stdout or "[]")]
        assert (name in waiting) == (not merged)
        if not merged:
            # While the next daemon starts, the store is in use and no daemon answers.
            eventually(
                "the proposal is accepted", lambda name=name: live.try_run("review", "accept", name).returncode == 0
            )
            assert is_merged(folder) and outcome.exists()
        outcomes.append(merged)
    print(f"{sum(outcomes)} of {ROUNDS} were merged at the kill")


def _count(live: Live, folder: Path) -> int:
    ask(live, "commit")
    report = ask(live, "consolidate", path=str(folder.relative_to(live.store / "tree")), dry_run=True)
    return int(str(report["memories"]))
