"""Test migrations between formats: the snapshot before, repetition after a kill, and stores that a daemon serves."""

import os
import shutil
from pathlib import Path

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.store import migration, store_format
from ctxfs.store.layout import create_store, find_store
from ctxfs.store.lock import StoreLock
from ctxfs.store.migration import STEPS, drop_snapshots, list_snapshots

NOTE = "tree/memory/shared/note.md"


def rename_rules(root: Path) -> None:
    if (root / "policy.toml").exists():
        (root / "policy.toml").rename(root / "rules.toml")


@pytest.fixture
def old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a store of the present format, to a program that knows the next one."""
    root = create_store(tmp_path / "store").root
    (root / NOTE).write_text("a note\n")
    os.setxattr(root / NOTE, "user.ctx.author", b"agent:alice")
    os.link(root / NOTE, root / "tree/memory/shared/same.md")
    (root / "policy.toml").write_text("# rules\n")
    (root / "repo.git" / "objects" / "ab").mkdir(parents=True)
    (root / "repo.git" / "objects" / "ab" / "cd").write_text("blob")
    (root / "repo.git" / "HEAD").write_text("ref: refs/heads/main\n")
    monkeypatch.setattr(store_format, "FORMAT", store_format.FORMAT + 1)
    monkeypatch.setattr(migration, "STEPS", {**STEPS, store_format.FORMAT - 1: rename_rules})
    return root


def read_number(root: Path) -> int:
    return int((root / store_format.FORMAT_NAME).read_text())


def test_each_older_format_has_a_step() -> None:
    assert set(STEPS) == set(range(1, store_format.FORMAT))


def test_older_store_is_copied_and_then_migrated(old_store: Path) -> None:
    number = read_number(old_store)
    find_store(str(old_store))
    assert read_number(old_store) == number + 1
    assert (old_store / "rules.toml").read_text() == "# rules\n"
    (snapshot,) = list_snapshots(old_store)
    assert snapshot.name == f"format-{number}"
    assert read_number(snapshot) == number
    assert (snapshot / "policy.toml").read_text() == "# rules\n"
    assert os.getxattr(snapshot / NOTE, "user.ctx.author") == b"agent:alice"
    assert (snapshot / NOTE).stat().st_mtime_ns == (old_store / NOTE).stat().st_mtime_ns
    assert (snapshot / NOTE).samefile(snapshot / "tree/memory/shared/same.md")
    assert not (snapshot / NOTE).samefile(old_store / NOTE)
    blob = "repo.git/objects/ab/cd"
    assert (snapshot / blob).samefile(old_store / blob)
    assert not {"index", "run"} & set(os.listdir(snapshot))
    assert not os.stat(snapshot.parent).st_mode & 0o077


def test_snapshot_is_a_store_of_the_older_program(old_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_store(str(old_store))
    (snapshot,) = list_snapshots(old_store)
    back = old_store.parent / "back"
    shutil.copytree(snapshot, back)
    monkeypatch.setattr(store_format, "FORMAT", store_format.FORMAT - 1)
    assert create_store(back).root == back
    assert find_store(str(back)).root == back


def test_migration_that_was_killed_is_repeated_with_the_first_snapshot(
    old_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = read_number(old_store)

    def fail_after(root: Path) -> None:
        rename_rules(root)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(migration, "STEPS", {number: fail_after})
        with pytest.raises(CommandError, match="cannot be migrated") as failed:
            find_store(str(old_store))
        assert f"before/format-{number}" in failed.value.remedy
    assert read_number(old_store) == number
    create_store(old_store)
    assert read_number(old_store) == number + 1
    (snapshot,) = list_snapshots(old_store)
    assert (snapshot / "policy.toml").exists()  # of the time before the first try


def test_partial_snapshot_is_replaced(old_store: Path) -> None:
    partial = old_store / "before" / ".partial"
    partial.mkdir(parents=True)
    (partial / "half").write_text("")
    find_store(str(old_store))
    (snapshot,) = list_snapshots(old_store)
    assert not (snapshot / "half").exists()
    assert not partial.exists()


def test_failed_snapshot_leaves_the_store_alone(
    old_store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cp").write_text("#!/bin/sh\necho 'cp: error writing: No space left on device' >&2\nexit 1\n")
    (tmp_path / "cp").chmod(0o755)
    number = read_number(old_store)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(CommandError, match=r"cannot be copied .*No space left") as failed:
        find_store(str(old_store))
    assert "make room" in failed.value.remedy
    assert read_number(old_store) == number
    assert (old_store / "policy.toml").exists()
    assert not list_snapshots(old_store)


def test_store_that_an_older_daemon_serves_waits_for_its_end(old_store: Path) -> None:
    number, daemon, next_holder = read_number(old_store), StoreLock(old_store / "run"), StoreLock(old_store / "run")
    with pytest.MonkeyPatch.context() as older:
        older.setattr(store_format, "FORMAT", number)
        daemon.acquire()
    assert find_store(str(old_store)).root == old_store  # so that `unmount` reaches that daemon
    assert read_number(old_store) == number
    daemon.release()
    next_holder.acquire()
    assert read_number(old_store) == number + 1
    next_holder.release()


def test_erasure_drops_the_snapshots(old_store: Path) -> None:
    find_store(str(old_store))
    drop_snapshots(old_store)
    assert not (old_store / "before").exists()
