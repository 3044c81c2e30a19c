"""Test failures of the host folders behind a mount: the errno names the failure, and service resumes after its end."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import Live, code_of, eventually

pytestmark = pytest.mark.fuse


@pytest.fixture
def disk(own_live: Live, tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of its own, served as a writable source."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)], check=True)
    try:
        own_live.run("add", str(folder), "--writable")
        eventually("it is shown", (own_live.at / "knowledge" / "disk").exists)
        yield folder
    finally:
        own_live.run("remove", "disk")
        subprocess.run(["umount", "-l", str(folder)], check=False)


def test_disk_that_becomes_read_only_returns_erofs_and_may_recover(own_live: Live, disk: Path) -> None:
    at = own_live.at / "knowledge" / "disk"
    (at / "f").write_text("before")
    eventually(
        "nobody has it open for writing",
        lambda: subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True).returncode == 0,
    )
    attempts: list[Callable[[], object]] = [
        lambda: (at / "f").write_text("x"),
        lambda: (at / "new").touch(),
        lambda: (at / "f").unlink(),
        lambda: (at / "d").mkdir(),
        lambda: (at / "f").rename(at / "g"),
        lambda: os.setxattr(at / "f", "user.ctx.tags", b"x"),
    ]
    assert [code_of(attempt) for attempt in attempts] == [errno.EROFS] * len(attempts)
    assert (at / "f").read_text() == "before"
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    (at / "f").write_text("after")
    assert (at / "f").read_text() == (disk / "f").read_text() == "after"


def test_immutable_file_returns_eperm_and_may_recover(own_live: Live) -> None:
    """Use an immutable file, because mode bits do not stop root."""
    seen, real = own_live.at / "pad" / "f", own_live.store / "tree" / "pad" / "f"
    seen.write_text("before")
    if subprocess.run(["chattr", "+i", str(real)], capture_output=True).returncode:
        pytest.skip("this file system has no immutable files: run it on ext4, xfs or btrfs")
    try:
        assert code_of(lambda: seen.write_text("x")) == errno.EPERM
        assert code_of(seen.unlink) == errno.EPERM
        assert seen.read_text() == "before"
    finally:
        subprocess.run(["chattr", "-i", str(real)], check=True)
    seen.write_text("after")
    assert seen.read_text() == real.read_text() == "after"


def test_a_folder_that_is_moved_away_and_back_is_served_again(own_live: Live) -> None:
    own_live.wait_idle()
    seen = own_live.at / "knowledge" / "handbook" / "rotation.md"
    text = seen.read_text()
    away = own_live.corpus.with_name("elsewhere")
    own_live.corpus.rename(away)
    try:
        eventually("it is an error, not an empty folder", lambda: code_of(lambda: os.listdir(seen.parent)) != 0, 5)
        (own_live.at / "pad" / "other").write_text("the rest goes on")
    finally:
        away.rename(own_live.corpus)
    eventually("it is back", lambda: code_of(seen.read_text) == 0 and seen.read_text() == text, 5)
    (own_live.corpus / "rotation.md").write_text("# Keys\n\nWhoever was away hears of changes again.\n")
    eventually("changes are noticed", lambda: "again" in seen.read_text(), 5)


def test_replacement_folder_is_served_and_watched(own_live: Live) -> None:
    own_live.wait_idle()
    seen = own_live.at / "knowledge" / "handbook" / "rotation.md"
    assert seen.read_text()
    own_live.corpus.rename(own_live.corpus.with_name("old"))
    own_live.corpus.mkdir()
    (own_live.corpus / "rotation.md").write_text("another one")
    eventually("the other one", lambda: code_of(seen.read_text) == 0 and seen.read_text() == "another one", 5)
    (own_live.corpus / "rotation.md").write_text("and changed")
    eventually("its changes", lambda: seen.read_text() == "and changed", 5)
    assert "deploy.md" not in os.listdir(seen.parent)
