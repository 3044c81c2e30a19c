"""Test that a huge file blocks no other work: it is read without the lock, or is reported without a version."""

import os
import threading
import time

import pytest

from ctxfs.store.layout import create_store
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.large_objects import LargeStore
from tests.versions.conftest import ALICE, BOB, LARGE, Past, check_sound


def test_sparse_file_of_four_terabytes_has_no_version_and_is_named(past: Past) -> None:
    past.write("pad/huge", "")
    os.truncate(past.tree / "pad/huge", 4 << 40)
    past.write("memory/a/x.md", "x", BOB)
    started = time.monotonic()
    past.archive.commit()
    assert past.archive.reader.show("memory/a/x.md", "latest") == b"x"
    assert time.monotonic() - started < 10
    unversioned = past.archive.status()["unversioned"]
    assert isinstance(unversioned, dict) and "max_file_bytes" in unversioned["pad/huge"]
    past.close()
    closed = past.archive.status()
    assert closed["state"] == "closed" and closed["unversioned"] == unversioned
    past.reopen()
    assert past.archive.status()["unversioned"]
    os.truncate(past.tree / "pad/huge", 10)
    past.note("write", "pad/huge")
    past.archive.commit()
    assert past.archive.status()["unversioned"] == {}
    assert past.archive.reader.show("pad/huge", "latest") == bytes(10)
    past.close()


def test_restore_leaves_a_file_whose_present_content_has_no_version(past: Past) -> None:
    first = past.version("pad/huge", "first").oid
    os.truncate(past.tree / "pad/huge", 4 << 40)
    past.note("write", "pad/huge")
    outcome, _ = past.archive.rollbacks.restore("pad/huge", first, ALICE)
    assert (past.tree / "pad/huge").stat().st_size == 4 << 40
    assert outcome.commit is None
    os.truncate(past.tree / "pad/huge", 5)


def test_versions_are_readable_while_a_large_file_is_read(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    past.version("memory/a/x.md", "x")
    reading, go_on = threading.Event(), threading.Event()
    add = LargeStore.add

    def slow(self: LargeStore, *arguments: object, **options: object) -> object:
        reading.set()
        assert go_on.wait(30)
        return add(self, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(LargeStore, "add", slow)
    past.write("pad/large.bin", os.urandom(LARGE))
    committing = threading.Thread(target=past.archive.commit)
    committing.start()
    try:
        assert reading.wait(30)
        assert past.archive.reader.show("memory/a/x.md", "latest") == b"x"
        past.write("memory/a/y.md", "y", BOB)
        past.archive.commit_nowait()
        assert past.archive.reader.show("memory/a/y.md", "latest") == b"y"
    finally:
        go_on.set()
        committing.join(30)
    assert past.archive.reader.show("pad/large.bin", "latest") == (past.tree / "pad/large.bin").read_bytes()
    last = past.archive.reader.last_change("pad/large.bin")
    assert last is not None and last.actor.principal == ALICE.principal
    check_sound(past)


def test_large_file_that_is_written_while_it_is_read_is_captured_whole_later(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.write("pad/large.bin", os.urandom(LARGE))
    add = LargeStore.add

    def overtaken(self: LargeStore, *arguments: object, **options: object) -> object:
        monkeypatch.setattr(LargeStore, "add", add)
        with open(past.tree / "pad/large.bin", "ab") as file:
            file.write(b"more")
        return add(self, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(LargeStore, "add", overtaken)
    past.archive.commit_nowait()
    past.archive.prepare_large()
    past.archive.commit_nowait()
    past.version("memory/a/x.md", "x", BOB)
    past.archive.rollbacks.undo("memory/a/x.md", BOB)  # before an undo, all written content gets a version
    assert past.archive.reader.show("pad/large.bin", "latest") == (past.tree / "pad/large.bin").read_bytes()
    check_sound(past)


def test_limit_is_a_setting(tmp_path: os.PathLike[str]) -> None:
    layout = create_store(tmp_path / "store")  # type: ignore[operator]
    (layout.tree / "pad/x").write_bytes(bytes(200_000))
    archive = Archive(layout, "human:owner", LARGE, max_file_bytes=150_000)
    archive.open()
    try:
        assert list(archive.status()["unversioned"]) == ["pad/x"]  # type: ignore[call-overload]
    finally:
        archive.close()
