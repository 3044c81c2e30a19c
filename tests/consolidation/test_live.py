"""Test proposals on a kernel mount and by commands: files under human/review/, verdicts, and the new states."""

import json
import os
from pathlib import Path

import pytest

from tests.live import Live, eventually

pytestmark = [pytest.mark.fuse, pytest.mark.long]


def write_pair(live: Live, owner: str) -> Path:
    folder = live.at / "memory" / owner / "fact"
    folder.mkdir(parents=True)
    for name in ("a.md", "b.md"):
        (folder / name).write_text("Keys are rotated every 90 days.\n")
    return folder


def merged(folder: Path) -> list[str]:
    return [file.name for file in sorted(folder.iterdir()) if "user.ctx.state" in os.listxattr(file)]


def test_verdict_written_on_the_mount_merges_the_proposal(own_live: Live) -> None:
    folder = write_pair(own_live, "alice")
    (proposal,) = json.loads(own_live.run("consolidate", "--below", "memory/alice", "--json"))["proposals"]
    review = own_live.at / "human" / "review" / proposal["id"]
    assert sorted(file.name for file in review.iterdir()) == [
        "about.json", "change.diff", "evidence.jsonl", "verdict", "why.md",
    ]  # fmt: skip
    assert merged(folder) == []
    (review / "verdict").write_text("accept\n")
    eventually("the mount shows the new state", lambda: len(merged(folder)) == 1)
    assert json.loads((review / "outcome.json").read_text())["decision"] == "accept"
    own_live.run("undo", "memory/alice")
    assert merged(folder) == []


def test_commands_consolidate_and_review(own_live: Live) -> None:
    folders = [write_pair(own_live, owner) for owner in ("bob", "carol")]
    shown = own_live.run("consolidate", "--dry-run")
    assert "2 proposals from 4 memories; nothing is stored" in shown
    own_live.run("consolidate")
    listed = own_live.run("review", "--list")
    assert listed.count("merge 1 memory with the same text") == 2
    own_live.run("review", "accept", "--rule", "same")
    assert [len(merged(folder)) for folder in folders] == [1, 1]
    assert own_live.try_run("consolidate").returncode == 3
    assert own_live.try_run("review", "accept", "--rule", "same").returncode == 3
