"""Test that a node without its engine serves people only after the grace period, and agents again afterwards."""

import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.model.clocks import now_seconds
from ctxfs.model.errors import CommandError
from ctxfs.services.agent_grace import AgentGrace
from ctxfs.store.config import read_settings
from ctxfs.store.settings import SharedSettings
from tests.live import Live, code_of, eventually
from tests.shared.engines import PASSWORD, Postgres, Proxy
from tests.shared.test_daemons import VARIABLE

FILE = "memory/shared/x.md"
HOUR = 3600


def settings_of(grace: int = HOUR, *, url: str = "file:///engine", at: int = 0) -> SharedSettings:
    return SharedSettings(url, read_only=bool(at), at=at, grace_seconds=grace)


def test_time_without_the_engine_outlives_the_daemon(tmp_path: Path) -> None:
    grace = AgentGrace(tmp_path, settings_of)
    assert "people only" in grace.refusal() and "ctxfs sync" in grace.refusal(), "it never had an answer"
    grace.record(now_seconds() - HOUR / 2)
    assert grace.refusal() == ""
    assert AgentGrace(tmp_path, settings_of).refusal() == "", "a restart does not refuse agents"
    (stamp,) = tmp_path.iterdir()
    os.utime(stamp, (time.time() - HOUR - 1,) * 2)
    assert AgentGrace(tmp_path, settings_of).refusal(), "a restart does not begin the period again"
    os.utime(stamp, (time.time() + 10 * HOUR,) * 2)
    assert AgentGrace(tmp_path, settings_of).refusal(), "a time of the future is no answer"


def test_stores_without_a_grace_period_refuse_nobody_and_write_nothing(tmp_path: Path) -> None:
    for settings in (settings_of(0), settings_of(url=""), settings_of(at=7)):
        grace = AgentGrace(tmp_path / "none", lambda settings=settings: settings)  # type: ignore[misc] # of this round
        assert grace.refusal() == ""
    grace = AgentGrace(tmp_path, lambda: settings_of(0))
    grace.record(now_seconds())
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("line", "message", "remedy"),
    [
        ("grace_seconds = 1", "grace_seconds = 1 is too small", "at least 5"),
        ('areas = ["memory"]', "areas is not supported: a node shares all areas", "ctxfs add FOLDER --writable"),
    ],
)
def test_settings_that_a_node_cannot_follow_are_refused(tmp_path: Path, line: str, message: str, remedy: str) -> None:
    config = tmp_path / "ctxfs.toml"
    config.write_text(f"[shared]\n{line}\n")
    with pytest.raises(CommandError, match=message) as refused:
        read_settings(config)
    assert remedy in refused.value.remedy


@pytest.fixture
def cut_node(tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, store_name: str) -> Iterator[Live]:
    """Yield a node behind `cut_node.proxy`, with a mount of a person and one of an agent."""
    monkeypatch.setenv(VARIABLE, PASSWORD)
    live = Live(tmp_path)
    live.run("init")
    live.run("mount", str(live.at))
    live.run("mount", str(tmp_path / "mnt-alice"), "--as", "agent:alice")
    proxy = Proxy(postgres.port)
    live.proxy = proxy  # type: ignore[attr-defined] # of this fixture
    live.run(
        "share", postgres.url(proxy.port), "--name", store_name, "--password-env", VARIABLE, "--grace-seconds", "5"
    )
    yield live
    live.close()
    proxy.close()


@pytest.mark.fuse
@pytest.mark.long
def test_agents_are_refused_on_mounts_open_files_and_by_name_until_the_engine_answers(cut_node: Live) -> None:
    live, proxy, alice = cut_node, cut_node.proxy, cut_node.at.parent / "mnt-alice"  # type: ignore[attr-defined] # as above
    (live.at / FILE).write_text("for all\n")
    (alice / "memory/alice").mkdir()
    assert (alice / FILE).read_text() == "for all\n"
    token = live.run("token", "issue", "agent:alice").strip()

    def as_alice(*words: str) -> tuple[int, str]:
        os.environ["CTXFS_TOKEN"] = token
        try:
            done = live.try_run(*words)
        finally:
            del os.environ["CTXFS_TOKEN"]
        return done.returncode, done.stdout + done.stderr

    assert as_alice("cat", FILE) == (0, "for all\n")
    with (alice / FILE).open() as held, (alice / "memory/alice/log.md").open("a") as writer:
        proxy.cut()
        eventually("agents are refused", lambda: code_of((alice / FILE).read_text) == errno.EHOSTUNREACH, 40)
        assert code_of(lambda: os.pread(held.fileno(), 100, 0)) == errno.EHOSTUNREACH
        assert code_of(lambda: os.write(writer.fileno(), b"late\n")) == errno.EHOSTUNREACH
        for act in (
            lambda: os.listdir(alice / "memory"),
            lambda: os.stat(alice / FILE),
            lambda: (alice / "memory/alice/new.md").write_text("x"),
            lambda: os.listdir(alice / "search/for all"),
            lambda: (alice / "context/task").mkdir(),
        ):
            assert code_of(act) == errno.EHOSTUNREACH
        for words in (("cat", FILE), ("search", "for all"), ("ls", "memory"), ("log", FILE)):
            code, shown = as_alice(*words)
            assert code == 1 and "serves people only" in shown and "→" in shown and "ctxfs sync" in shown, shown
        assert (live.at / FILE).read_text() == "for all\n", "people are served"
        (live.at / "memory/shared/mine.md").write_text("written meanwhile\n")
        assert json.loads(live.run("status", "--json"))["shared"]["agents_refused"]
        assert "people only" in live.run("status")
        checks = {check["name"]: check for check in json.loads(live.try_run("doctor", "--json").stdout)}
        assert not checks["shared agents"]["ok"] and "ctxfs sync" in checks["shared agents"]["remedy"]
        assert "agent:alice" in live.run("policy", "matrix")
        proxy.heal()
        eventually("agents are served", lambda: code_of((alice / FILE).read_text) == 0, 40)
        assert os.pread(held.fileno(), 100, 0) == b"for all\n"
        os.write(writer.fileno(), b"again\n")
    assert as_alice("cat", FILE) == (0, "for all\n")
    assert (alice / "memory/alice/log.md").read_text() == "again\n"
    outcomes = live.run("history", "audit")
    assert "agents are refused" in outcomes and "agents are served again" in outcomes
