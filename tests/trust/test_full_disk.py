"""Test versions on a full disk: reads and rollback work, and files without a version are reported and left alone."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.store.layout import create_store
from tests.live import Live
from tests.versions.conftest import ALICE, Past, check_sound

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system that is small")
SIZE = "32m"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Use all free space."""
    file = folder / "fill"
    with open(file, "wb", buffering=0) as out:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    out.write(b"x" * size)
    return file


def test_versions_are_read_and_restored_on_a_full_disk(disk: Path) -> None:
    past = Past(disk / "store")
    past.archive.checkpoint()
    begin = past.archive.reader.resolve("latest").commit
    past.write("pad/t/big.bin", os.urandom(4_000_000))
    past.write("memory/a/x.md", "first")
    past.archive.commit()
    fill(disk)
    os.rename(past.tree / "memory/a/x.md", past.tree / "memory/a/y.md")  # it needs no space, and its version does
    past.note("move", "memory/a/x.md", "memory/a/y.md")
    assert past.archive.commit_if_space() == []
    assert os.strerror(errno.ENOSPC) in past.archive.unrecorded
    assert past.archive.reader.show("memory/a/x.md", "latest") == b"first"
    assert len(past.subjects("memory/a/x.md")) == 1
    outcome, _ = past.archive.rollbacks.restore("pad", begin.oid, ALICE)
    assert outcome.commit is not None
    assert not (past.tree / "pad/t").exists(), "it makes room"
    past.archive.commit()
    assert past.archive.unrecorded == ""
    check_sound(past, rebuild=False)
    past.close()


def test_log_works_on_a_full_disk_and_reports_unversioned_files(disk: Path, tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.store = disk / "store"
    create_store(live.store)
    config = live.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
    live.run("mount", str(live.at))
    try:
        (live.at / "memory/shared/x.md").write_text("first")
        live.run("commit")
        (live.at / "memory/shared/y.md").write_text("second")
        fill(disk)
        for command in (["log"], ["log", "memory/shared/x.md"], ["show", "memory/shared/x.md"], ["diff", "memory"]):
            done = live.try_run(*command)
            assert done.returncode == 0, (command, done.stderr)
        (disk / "fill").unlink()
        live.run("commit")
        assert "no version" not in live.try_run("log").stderr
    finally:
        live.close()
