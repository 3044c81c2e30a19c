"""Test transitions of states with the kernel's calls: each one is a version, with its principal."""

import json
import os
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import ctxfs
from ctxfs.fuse.state_transitions import StateTransitions
from tests.live import Live

pytestmark = pytest.mark.fuse

STATE = "user.ctx.state"


def versions_of(live: Live, path: str) -> list[dict[str, object]]:
    """Return the versions that changed a path, the newest first."""
    entries: list[dict[str, object]] = json.loads(live.run("log", "--json", path))
    return entries


def test_transitions_in_a_row_are_versions_of_their_own(live: Live) -> None:
    path = "memory/shared/fact/transitions.md"
    file = live.at / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("Keys are rotated.\n")
    for state in (b"generated", b"active", b"archived", b"active"):
        os.setxattr(file, STATE, state)
    os.removexattr(file, STATE)
    file.write_text("Keys are rotated each year.\n")
    entries = versions_of(live, path)
    assert len(entries) == 7
    assert all(entry["principal"] == entries[0]["principal"] for entry in entries)


def save_as_editors_do(file: Path, text: str) -> None:
    new = file.with_name(f".{file.name}.swp")
    new.write_text(text)
    new.rename(file)


@pytest.mark.parametrize("state", [b"archived", b"merged"])
def test_saved_file_keeps_the_retired_state_of_the_replaced_one(live: Live, state: bytes) -> None:
    file = live.at / f"memory/shared/fact/saved-{state.decode()}.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("Keys are rotated.\n")
    os.setxattr(file, STATE, state)
    save_as_editors_do(file, "Keys are rotated each year.\n")
    assert file.read_text() == "Keys are rotated each year.\n"
    assert os.getxattr(file, STATE) == state
    by_command = f"memory/shared/fact/by-command-{state.decode()}.md"
    with ctxfs.open(str(live.store)) as store:
        store.write(by_command, "Keys are rotated by command.\n")
        store.move(by_command, f"memory/shared/fact/{file.name}")
        assert store.meta(f"memory/shared/fact/{file.name}")["state"] == state.decode()


def test_renamed_file_keeps_its_own_state(live: Live) -> None:
    folder = live.at / "memory/shared/fact"
    folder.mkdir(parents=True, exist_ok=True)
    for name, state in (("old.md", b"archived"), ("new.md", b"generated"), ("other.md", b"")):
        (folder / name).write_text(f"{name} is a file.\n")
        if state:
            os.setxattr(folder / name, STATE, state)
    (folder / "new.md").rename(folder / "old.md")
    assert os.getxattr(folder / "old.md", STATE) == b"generated"
    (folder / "other.md").rename(folder / "free.md")
    assert STATE not in os.listxattr(folder / "free.md")


def test_many_transitions_at_once_share_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    attributes = SimpleNamespace(stored_xattr=lambda node, name: b"active")
    transitions = StateTransitions(SimpleNamespace(call=None, loop=None), attributes)
    file = SimpleNamespace(disk_key=SimpleNamespace(kind=stat.S_IFREG))
    assert sum(transitions.follows(file, STATE.encode(), b"archived") for _ in range(100)) == 16
    now += 1
    assert sum(transitions.follows(file, STATE.encode(), b"archived") for _ in range(100)) == 4
    now += 60
    assert not transitions.follows(file, STATE.encode(), b"active")
    assert not transitions.follows(file, b"user.ctx.tags", b"keys")
    assert sum(transitions.follows(file, STATE.encode(), b"archived") for _ in range(100)) == 16
