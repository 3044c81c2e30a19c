"""Test remotes that the daemon keeps up by itself: real daemons, mounts and a repository between them."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.store.config import read_settings
from tests.live import Live, eventually


def connect(live: Live, hub: Path, seconds: int = 1) -> None:
    """Make a store with an automatic, trusted remote, and mount it."""
    live.run("init")
    config = live.store / "ctxfs.toml"
    text = config.read_text().replace("[index]", "[index]\nmeaning = false")
    config.write_text(f"{text}\n[remote.hub]\nauto = true\nseconds = {seconds}\n")
    live.run("remote", "add", "hub", str(hub), "--trusted")
    live.at.mkdir()
    live.run("mount", str(live.at))


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    folder = tmp_path / "hub.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(folder)], check=True)
    return folder


@pytest.fixture
def pair(tmp_path: Path, hub: Path) -> Iterator[tuple[Live, Live]]:
    stores = Live(tmp_path / "one"), Live(tmp_path / "two")
    try:
        for live in stores:
            live.store.parent.mkdir()
            connect(live, hub)
        yield stores
    finally:
        for live in stores:
            live.try_run("unmount", "--all")


def text_of(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


@pytest.mark.long
def test_writes_of_two_machines_meet_without_a_command(pair: tuple[Live, Live]) -> None:
    one, two = pair
    for live, name in ((one, "a"), (two, "b")):
        (live.at / f"memory/{name}").mkdir()
        (live.at / f"memory/{name}/x.md").write_text(f"by {name}")
    eventually("one has both", lambda: text_of(one.at / "memory/b/x.md") == "by b", 60)
    eventually("two has both", lambda: text_of(two.at / "memory/a/x.md") == "by a", 60)
    assert text_of(one.at / "memory/a/x.md") == "by a"
    (two.at / "memory/a/x.md").write_text("changed by the other")
    eventually("the change is back", lambda: text_of(one.at / "memory/a/x.md") == "changed by the other", 60)
    assert one.status()["remotes"]["hub"]["fault"] == ""
    assert "has every version" in one.run("status")


@pytest.mark.long
def test_unreachable_remote_is_reported_and_reached_again(tmp_path: Path, hub: Path) -> None:
    live, away = Live(tmp_path / "one"), tmp_path / "away.git"
    live.store.parent.mkdir()
    hub.rename(away)
    try:
        live.run("init")
        live.run("remote", "add", "hub", str(hub))
        config = live.store / "ctxfs.toml"
        config.write_text(f"{config.read_text()}\n[remote.hub]\nauto = true\n")
        live.at.mkdir()
        live.run("mount", str(live.at))
        (live.at / "memory/a").mkdir()
        (live.at / "memory/a/x.md").write_text("written without a network")
        eventually("the fault is reported", lambda: live.status()["remotes"].get("hub", {}).get("fault"), 60)
        assert "not reached since never" in live.run("status")
        assert (live.at / "memory/a/x.md").read_text() == "written without a network"
        away.rename(hub)
        eventually("it is reached", lambda: live.status()["remotes"]["hub"]["fault"] == "", 60)
        command = ["git", "-C", str(hub), "show", "main:memory/a/x.md"]
        pushed = lambda: subprocess.run(command, capture_output=True, text=True).stdout == "written without a network"  # noqa: E731
        eventually("it has the file", pushed, 60)
    finally:
        live.try_run("unmount", "--all")


@pytest.mark.parametrize(
    "section",
    ["[remote]\nauto = true", "[remote.hub]\nautos = true", "[remote.hub]\nauto = 1", "[remote.hub]\nseconds = 0"],
)
def test_wrong_settings_of_a_remote_are_named(tmp_path: Path, section: str) -> None:
    config = tmp_path / "ctxfs.toml"
    config.write_text(section)
    with pytest.raises(CommandError, match="remote"):
        read_settings(config)


def test_status_lists_no_remote_that_is_kept_by_hand(tmp_path: Path, hub: Path) -> None:
    live = Live(tmp_path / "one")
    live.store.parent.mkdir()
    live.run("init")
    live.run("remote", "add", "hub", str(hub))
    assert json.loads(live.run("status", "--json"))["remotes"] == {}
