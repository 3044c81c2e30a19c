"""Test the checks of a shared store: each fault has a clear text and a remedy, in `ctxfs doctor` and in the commands."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ctxfs.daemon.session import session
from ctxfs.shared.engines import open_log
from ctxfs.shared.health import HealthCheck, Member, check_engine
from ctxfs.shared.log import Head, SharedLog
from tests.live import Live
from tests.shared.engines import PASSWORD, Postgres
from tests.shared.test_daemons import VARIABLE

HOUR_NS = 3_600_000_000_000
MakeStore = Callable[[str], Live]


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    folder = tmp_path / "engine"
    folder.mkdir()
    return folder


@pytest.fixture
def make(tmp_path: Path, engine: Path) -> Iterator[MakeStore]:
    """Return a function that makes a store a node, without a daemon."""
    stores: list[Live] = []

    def make_node(name: str) -> Live:
        live = Live(tmp_path / name)
        live.run("init")
        verb = "join" if stores else "share"
        stores.append(live)
        live.run(verb, f"file://{engine}", "--node", name)
        return live

    yield make_node


def write(live: Live, name: str, text: str) -> None:
    (live.store / "tree/memory/shared" / name).write_text(text)


def findings(live: Live) -> dict[str, dict[str, Any]]:
    """Return the checks of a shared store by name."""
    with session(str(live.store)) as opened:
        return {check["name"]: check for check in opened.call("shared_health")}


def entry_files(engine: Path) -> list[Path]:
    return sorted((engine / "main/entries").glob("*/*"))


@pytest.mark.long
def test_doctor_has_checks_of_a_node_and_none_of_a_store_alone(make: MakeStore, tmp_path: Path) -> None:
    alone = Live(tmp_path / "alone")
    alone.run("init")
    assert findings(alone) == {}
    one = make("one")
    shown = findings(one)
    assert [*shown] == ["engine", "clock", "node", "entries", "versions"]
    assert all(check["is_ok"] for check in shown.values())
    printed = {check["name"]: check["ok"] for check in json.loads(one.try_run("doctor", "--json").stdout)}
    assert {f"shared {name}": True for name in shown}.items() <= printed.items()


@pytest.mark.long
def test_doctor_names_an_engine_that_is_gone_and_the_versions_that_wait(make: MakeStore, engine: Path) -> None:
    one = make("one")
    engine.rename(engine.with_name("away"))
    write(one, "x.md", "written meanwhile\n")
    shown = findings(one)
    assert not shown["engine"]["is_ok"] and shown["engine"]["remedy"]
    assert not shown["versions"]["is_ok"] and shown["versions"]["detail"].startswith("1 wait")
    assert "ctxfs sync" in shown["versions"]["remedy"]
    engine.with_name("away").rename(engine)
    one.run("sync")
    assert findings(one)["versions"]["is_ok"]


@pytest.mark.long
def test_doctor_names_a_rewound_log_and_entries_that_stay_unread(make: MakeStore, engine: Path) -> None:
    one, two = make("one"), make("two")
    one.run("sync")
    write(two, "x.md", "from two\n")
    two.run("sync")
    newest = entry_files(engine)[-1]
    os.utime(newest, ns=(time.time_ns() - HOUR_NS,) * 2)
    shown = findings(one)["entries"]
    assert not shown["is_ok"] and "1 behind" in shown["detail"] and "ctxfs sync" in shown["remedy"]
    one.run("sync")
    assert findings(one)["entries"]["is_ok"]
    newest.unlink()
    shown = findings(one)["log"]
    assert not shown["is_ok"] and "rewound" in shown["detail"] and "ctxfs leave" in shown["remedy"]


@pytest.mark.long
def test_doctor_names_another_format_of_the_engine(make: MakeStore, engine: Path) -> None:
    one = make("one")
    (engine / "main/format").write_text("99")
    shown = findings(one)["engine"]
    assert not shown["is_ok"] and "format '99'" in shown["detail"] and shown["remedy"] == "use the newer ctxfs"


@pytest.mark.long
def test_conflicts_are_a_finding_until_they_are_decided(make: MakeStore) -> None:
    one, two = make("one"), make("two")
    write(one, "x.md", "by one\n")
    write(two, "x.md", "by two\n")
    for live in (one, two, one):
        live.run("sync")
    for live in (one, two):
        check = findings(live)["conflicts"]
        (copy,) = (live.store / "tree/memory/shared").glob("x.conflict-*")
        assert not check["is_ok"] and copy.name in check["detail"] and check["remedy"].endswith("ctxfs review")
    os.removexattr(copy, "user.ctx.conflict_of")
    for live in (two, one):
        live.run("sync")
        assert "conflicts" not in findings(live)


def member(seen: Head, instance: str = "a") -> Member:
    return Member("main", "one", instance, seen)


def check_of(checks: list[HealthCheck], name: str) -> HealthCheck:
    return next(check for check in checks if check.name == name)


@pytest.mark.parametrize("hours", [-24, 24])
def test_clock_that_differs_from_the_engine_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    log = open_log(str(tmp_path), "main", create=True)
    monkeypatch.setattr(log, "now", lambda: time.time_ns() - hours * HOUR_NS)
    clock = check_of(check_engine(lambda: log, member(Head(0, ""))), "clock")
    assert not clock.is_ok and f"{24 * 3600} s" in clock.detail and clock.remedy
    assert ("ahead of" if hours > 0 else "behind") in clock.detail


@pytest.mark.long
def test_another_store_of_the_same_name_is_a_finding(make: MakeStore, tmp_path: Path, engine: Path) -> None:
    one = make("one")
    (tmp_path / "other").mkdir()
    other = Live(tmp_path / "other")
    other.run("init")
    refused = other.try_run("join", f"file://{engine}", "--node", "one")
    assert refused.returncode == 1 and "another store has joined 'main' as 'one'" in refused.stderr
    assert "--node NAME" in refused.stderr

    def connect() -> SharedLog:
        return open_log(f"file://{engine}", "main")

    check = check_of(check_engine(connect, member(Head(0, ""), "f" * 32)), "node")
    assert not check.is_ok and "--node NAME" in check.remedy
    one.run("sync")


@pytest.mark.long
@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        ("scheme", "is not the URL of an engine"),
        ("port", "does not answer"),
        ("password", "refuses"),
        ("database", "refuses"),
        ("store", "holds no shared store 'none'"),
    ],
)
def test_bad_engine_of_join_is_refused_with_a_clear_error_and_nothing_changes(
    tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, fault: str, shown: str
) -> None:
    monkeypatch.setenv(VARIABLE, "wrong" if fault == "password" else PASSWORD)
    urls = {"scheme": "mysql://x/y", "port": postgres.url(1), "database": postgres.url(database="missing")}
    live = Live(tmp_path / "one")
    live.run("init")
    config = (live.store / "ctxfs.toml").read_text()
    done = live.try_run("join", urls.get(fault, postgres.url()), "--name", "none", "--password-env", VARIABLE)
    assert done.returncode in (1, 2)
    assert shown in done.stderr and "→" in done.stderr, done.stderr
    assert "wrong" not in done.stderr.replace("wrong password", "") and "Traceback" not in done.stderr
    assert (live.store / "ctxfs.toml").read_text() == config
    assert json.loads(live.run("status", "--json"))["shared"] == {}
