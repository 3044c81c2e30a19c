"""Test that files are replaced with their writers blocked: concurrent writes are in a version, or are left alone."""

import errno
import fcntl
import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from ctxfs.model.change import ABSENT as NOTHING
from ctxfs.model.change import Put
from ctxfs.model.errors import CommandError
from ctxfs.model.path import Path as TreePath
from ctxfs.store import rooted_fs
from ctxfs.store.atomic_replace import WriteLease
from ctxfs.store.folder import Folder
from ctxfs.versions import archive
from ctxfs.versions.recording import capture
from ctxfs.versions.rollback import Rollback
from tests.live import eventually
from tests.versions.conftest import ALICE, BOB, Past, check_sound

LOG = "memory/a/log.md"


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    made = Past(tmp_path / "store")
    yield made
    made.close()


def is_wanted(inode: int) -> bool:
    """Return True if an open for writing waits for the lease on a file."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("BREAKING" in line and f":{inode} " in line for line in lines)


class LateWriter:
    """A writer that opens a file in the moment of its replacement, and appends to it when the open returns."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch, *, begins: str = "exchange") -> None:
        self.file = file
        self.thread = threading.Thread(target=self._write, daemon=True)
        swap = getattr(rooted_fs, begins)

        def late(parent: int, one: bytes, other: bytes) -> None:
            if not self.thread.ident and self.file.name.encode() in (one, other):
                inode = self.file.stat().st_ino
                self.thread.start()
                eventually("the writer waits", lambda: is_wanted(inode))
            swap(parent, one, other)

        monkeypatch.setattr(rooted_fs, begins, late)

    def _write(self) -> None:
        with open(self.file, "a") as out:
            out.write("late\n")


def contents(past: Past, path: str = LOG) -> str:
    """Return every version of a file, one after the other."""
    return past.git("log", "-p", "-m", "--all", "--", path)


def test_a_line_written_in_the_moment_of_a_restore_is_in_a_version(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    first = past.version(LOG, "first\n")
    past.version(LOG, "first\nsecond\n")
    writer = LateWriter(past.tree / LOG, monkeypatch)
    past.archive.rollbacks.restore(LOG, first.oid, ALICE)
    writer.thread.join(10)
    past.archive.commit()
    assert "+late" in contents(past)
    assert (past.tree / LOG).read_text() == "first\n"
    check_sound(past)


def test_a_line_written_in_the_moment_of_a_removal_is_in_a_version(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    past.version(LOG, "first\n")
    writer = LateWriter(past.tree / LOG, monkeypatch, begins="rename_new")
    past.archive.rollbacks.undo(LOG, ALICE)
    writer.thread.join(10)
    past.archive.commit()
    assert "+late" in contents(past)
    assert not (past.tree / LOG).exists()
    check_sound(past)


def test_a_line_written_in_the_moment_of_a_pull_is_in_the_file(
    past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.git("init", "-q", "--bare", str(tmp_path / "hub.git"))
    past.version(LOG, "title\n1\n2\n3\n")
    past.archive.remotes.add("hub", str(tmp_path / "hub.git"), is_trusted=True)
    past.archive.remotes.push("hub")
    other = Past(tmp_path / "other")
    other.archive.remotes.add("hub", str(tmp_path / "hub.git"), is_trusted=True)
    other.archive.remotes.pull("hub", BOB)
    other.version(LOG, "new title\n1\n2\n3\n", BOB)
    other.archive.remotes.push("hub")
    other.close()
    writer = LateWriter(past.tree / LOG, monkeypatch)
    past.archive.remotes.pull("hub", ALICE)
    writer.thread.join(10)
    past.archive.commit([LOG.encode()])
    assert (past.tree / LOG).read_text() == "new title\n1\n2\n3\nlate\n"
    assert past.archive.reader.show(LOG, "latest") == b"new title\n1\n2\n3\nlate\n"
    check_sound(past)


def test_a_file_saved_by_renaming_in_the_moment_of_a_restore_is_in_a_version(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = past.version(LOG, "first\n")
    past.version(LOG, "second\n")
    swap = rooted_fs.exchange

    def late(parent: int, one: bytes, other: bytes) -> None:
        if other == b"log.md":
            (past.tree / "memory/a/.saved").write_text("late\n")
            os.rename(past.tree / "memory/a/.saved", past.tree / LOG)
        swap(parent, one, other)

    monkeypatch.setattr(rooted_fs, "exchange", late)
    past.archive.rollbacks.restore(LOG, first.oid, ALICE)
    assert "+late" in contents(past)
    check_sound(past)


def test_late_append_without_leases_is_in_a_version(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without leases cannot report that a file is open for writing."""
    first = past.version(LOG, "first\n")
    past.version(LOG, "second\n")
    real = fcntl.fcntl

    def without_leases(fd: int, order: int, value: int = 0) -> int:
        if order == fcntl.F_SETLEASE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return int(real(fd, order, value))

    monkeypatch.setattr(fcntl, "fcntl", without_leases)
    with open(past.tree / LOG, "a") as out:
        past.archive.rollbacks.restore(LOG, first.oid, ALICE)
        out.write("late\n")
    past.archive.commit()
    assert "+late" in contents(past)
    assert (past.tree / LOG).read_text() == "first\n"
    check_sound(past)


def test_a_file_that_is_open_for_writing_is_left_and_the_others_go_back(past: Past) -> None:
    past.version("memory/a/x.md", "first")
    first = past.version(LOG, "first\n")
    past.write("memory/a/x.md", "second")
    past.version(LOG, "second\n")
    with open(past.tree / LOG, "a") as out:
        outcome, _ = past.archive.rollbacks.restore("memory/a", first.oid, ALICE)
        out.write("third\n")
    assert {path: reason.value for path, reason in outcome.left.items()} == {LOG.encode(): "open for writing"}
    assert (past.tree / "memory/a/x.md").read_text() == "first"
    assert (past.tree / LOG).read_text() == "second\nthird\n"
    past.archive.commit([LOG.encode()])
    check_sound(past)


def test_line_appended_just_after_the_swap_becomes_a_version(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    first = past.version(LOG, "first\n")
    past.version(LOG, "second\n")
    monkeypatch.setattr(capture, "_RACY_NS", 0)
    remember = Rollback._record_written

    def late(*arguments: object) -> None:
        with open(past.tree / LOG, "a") as out:
            out.write("late\n")
        remember(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Rollback, "_record_written", late)
    past.archive.rollbacks.restore(LOG, first.oid, ALICE)
    past.archive.commit([LOG.encode()])
    assert past.archive.reader.show(LOG, "latest") == b"first\nlate\n"


def test_file_created_in_a_directory_during_its_removal_keeps_the_directory(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = past.archive.reader.resolve("latest").commit
    past.version("pad/t/x.md", "x")
    swap = rooted_fs.rename_new

    def late(parent: int, one: bytes, other: bytes) -> None:
        (past.tree / "pad/t/late.md").write_text("late")
        swap(parent, one, other)

    monkeypatch.setattr(rooted_fs, "rename_new", late)
    outcome, _ = past.archive.rollbacks.restore("pad", begin.oid, ALICE)
    assert outcome.kept == [b"pad/t"]
    assert os.listdir(past.tree / "pad/t") == ["late.md"]
    past.archive.commit([b"pad"])
    assert past.archive.reader.show("pad/t/late.md", "latest") == b"late"
    check_sound(past)


def test_content_that_a_kill_left_without_a_version_reappears(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    past.version(LOG, "first\n")
    monkeypatch.setattr(archive, "_TEMPORARY_SECONDS", -1.0)
    names = [os.fsdecode(rooted_fs.orphan_name()) for _ in range(2)]
    for name, text in zip(names, ("first\n", "in no version\n"), strict=True):
        (past.tree / "memory/a" / name).write_text(text)
    past.crash()
    past.reopen()
    (recovered,) = [name for name in os.listdir(past.tree / "memory/a") if name != "log.md"]
    assert recovered.startswith("recovered-")
    assert past.archive.reader.show(f"memory/a/{recovered}", "latest") == b"in no version\n"


def test_forgetting_a_principal_takes_nothing_that_was_written_since(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.version(LOG, "bob's\n", BOB)
    bury = past.archive.core.eraser._bury_content

    def late(*arguments: object) -> bool:
        (past.tree / LOG).write_text("alice's\n")
        return bury(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(past.archive.core.eraser, "_bury_content", late)
    past.archive.erasure.erase(None, "agent:bob", ALICE)
    assert (past.tree / LOG).read_text() == "alice's\n"
    past.note("write", LOG)
    past.archive.commit()
    assert past.archive.reader.show(LOG, "latest") == b"alice's\n"


def test_forgetting_a_principal_waits_for_files_that_are_open_for_writing(past: Past) -> None:
    past.version(LOG, "bob's\n", BOB)
    with open(past.tree / LOG, "a") as out:
        with pytest.raises(OSError, match="open for writing") as refused:
            past.archive.erasure.erase(None, "agent:bob", ALICE)
        out.write("alice's\n")
    assert refused.value.errno == errno.EBUSY
    assert (past.tree / LOG).read_text() == "bob's\nalice's\n"


def test_writers_go_on_after_the_lease_holder_dies(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("first\n")
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        WriteLease(os.open(file, os.O_RDONLY))
        os.write(told, b"x")
        signal.pause()
    os.read(ready, 1)
    with pytest.raises(BlockingIOError):
        os.open(file, os.O_WRONLY | os.O_NONBLOCK)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))


def put(folder: Path, data: bytes, expects: str) -> int | None:
    try:
        trio.run(Folder(str(folder), writable=True).apply, Put(TreePath.parse("x"), data, {}, expects))
    except OSError as error:
        return error.errno
    return None


def test_an_edit_that_meets_another_writer_loses_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"first\n")
    base = hashlib.sha256(b"first\n").hexdigest()
    assert put(tmp_path, b"other", NOTHING) == errno.EEXIST
    with open(file, "ab") as out:
        assert put(tmp_path, b"first\nedited\n", base) == errno.EBUSY
        out.write(b"appended\n")
    assert put(tmp_path, b"first\nedited\n", base) == errno.ESTALE
    base = hashlib.sha256(b"first\nappended\n").hexdigest()
    writer = LateWriter(file, monkeypatch)
    assert put(tmp_path, b"first\nappended\nedited\n", base) is None
    writer.thread.join(10)
    assert file.read_bytes() == b"first\nappended\nedited\nlate\n"
    assert os.listdir(tmp_path) == ["x"]


def test_empty_undo_is_reported_and_releases_all_leases(past: Past) -> None:
    past.version(LOG, "first\n")
    past.archive.rollbacks.undo(LOG, ALICE)
    with pytest.raises(CommandError, match="nothing is left to undo"):
        past.archive.rollbacks.undo(LOG, ALICE)
    past.version(LOG, "second\n")
    os.close(os.open(past.tree / LOG, os.O_WRONLY | os.O_NONBLOCK))
