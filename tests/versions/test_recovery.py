"""Test recovery after a crash, a power cut, damage, or a full disk."""

import errno
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.store.durable_file import replace_text
from ctxfs.versions.objects.git import BRANCH, Repository
from ctxfs.versions.recording.journal import JournalReader
from ctxfs.versions.recording.pathindex import ALL_COMMITS
from ctxfs.versions.recording.worktree import WorkTree
from tests.live import children_of
from tests.versions.conftest import ALICE, BOB, Past, check_sound


def test_unjournaled_changes_are_recovered_with_renames(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    past.close()
    (past.tree / "memory/a/x.md").rename(past.tree / "memory/a/y.md")
    (past.tree / "memory/a/new.md").write_text("new")
    (commit,) = past.reopen()
    assert (commit.op, commit.actor.principal) == ("recovered", "human:owner")
    assert [past.archive.reader.content_of(v) for v in past.archive.reader.versions("memory/a/y.md")] == [
        b"one",
        b"one",
    ]
    check_sound(past)


def test_recovery_is_idempotent(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    past.write("memory/a/x.md", "two", BOB)
    past.write("memory/a/z.md", "three")
    past.crash()
    made = past.reopen()
    assert {(c.actor.principal, c.subject) for c in made} == {
        ("agent:bob", "write memory/a/x.md"),
        ("agent:alice", "write memory/a/z.md"),
    }
    past.crash()
    assert past.reopen() == []
    check_sound(past)


def test_later_unjournaled_change_is_not_attributed_to_the_last_author(past: Past) -> None:
    past.version("memory/a/x.md", "alice's")
    past.crash()
    (past.tree / "memory/a/x.md").write_text("edited by hand, with no daemon")
    (commit,) = past.reopen()
    assert (commit.op, commit.actor.principal) == ("recovered", "human:owner")


def test_torn_journal_loses_a_name_but_no_change(past: Past) -> None:
    past.write("memory/a/x.md", "one")
    past.write("memory/a/y.md", "two")
    (journal,) = past.layout.journal.glob("*.jsonl")
    past.crash()
    journal.write_bytes(journal.read_bytes()[:-20] + b"\0\0\0\n" + b'{"broken')
    made = past.reopen()
    assert [commit.op for commit in made] == ["write", "recovered"]
    assert past.archive.reader.show("memory/a/y.md", "latest") == b"two"


def test_journal_is_deleted_after_its_writer_ended_and_its_changes_are_committed(past: Past) -> None:
    past.write("memory/a/x.md", "one")
    past.archive.commit()
    assert len(list(past.layout.journal.glob("*.jsonl"))) == 1
    for writer in past._writers.values():
        writer.close()
    past._writers.clear()
    past.archive.commit()
    assert list(past.layout.journal.glob("*.jsonl")) == []
    assert JournalReader(past.layout.journal).read_new_records() == []


def test_locks_and_half_written_files_of_a_killed_process_are_cleared(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    past.crash()
    repo = past.layout.repo
    for name in (f"{BRANCH}.lock", "packed-refs.lock", "packed-refs.new", "config.lock", "HEAD.lock"):
        (repo / name).write_text("")
    (repo / "objects" / "objabc123").write_bytes(b"half")
    (repo / "objects" / "pack" / "tmp_pack_x").write_bytes(b"half")
    past.reopen()
    past.version("memory/a/x.md", "two")
    check_sound(past)


def test_an_empty_object_does_not_poison_its_content(past: Past) -> None:
    """After a power cut an object may be an empty file; later writes of the same content would skip it as present."""
    past.version("memory/a/x.md", "one")
    oid = past.git("rev-parse", "HEAD:memory/a/x.md").strip()
    past.crash()
    file = past.layout.repo / "objects" / oid[:2] / oid[2:]
    file.chmod(0o644)
    file.write_bytes(b"")
    past.reopen()
    assert past.archive.reader.show("memory/a/x.md", "latest") == b"one"
    check_sound(past)


def damage_newest(past: Past) -> None:
    """Leave the state after a power cut: the branch has moved, and the commit's object is missing."""
    head = past.git("rev-parse", "HEAD").strip()
    past.crash()
    (past.layout.repo / "objects" / head[:2] / head[2:]).unlink()


def test_history_continues_from_the_last_whole_version_after_a_power_cut(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    past.archive.checkpoint()
    kept = past.archive.head
    past.version("memory/a/x.md", "two", BOB)
    damage_newest(past)
    made = past.reopen()
    assert kept is not None
    assert made[0].parents == (kept.oid,)
    assert past.archive.reader.show("memory/a/x.md", "latest") == b"two"
    assert (past.tree / "memory/a/x.md").read_text() == "two"
    check_sound(past)


def test_concurrent_checkpoints_do_not_interfere(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is made regularly, another by an erasure."""
    past.version("memory/a/x.md", "one")
    arrived, second = threading.Event(), list[threading.Thread]()
    done: list[bool] = []

    def replace(file: Path, text: str) -> None:
        if second:
            arrived.set()
        else:
            second.append(threading.Thread(target=lambda: done.append(past.archive.checkpoint())))
            second[0].start()
            assert not arrived.wait(0.2), "the second waits for the first"
        replace_text(file, text)

    monkeypatch.setattr("ctxfs.versions.recording.recover.replace_text", replace)
    assert past.archive.checkpoint()
    second[0].join(10)
    assert done == [False], "it is there already"


@pytest.mark.parametrize("content", ["", "not a revision\n", "0" * 40 + "\n"])
def test_a_damaged_branch_is_found_again(past: Past, content: str) -> None:
    past.version("memory/a/x.md", "one")
    past.archive.checkpoint()
    head = past.archive.head
    past.crash()
    (past.layout.repo / BRANCH).write_text(content)
    past.reopen()
    assert past.archive.head == head
    check_sound(past)


def test_history_starts_anew_without_any_whole_version_and_files_stay(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    past.crash()
    shutil.rmtree(past.layout.repo / "objects")
    (past.layout.repo / "objects").mkdir()
    past.reopen()
    assert (past.tree / "memory/a/x.md").read_text() == "one"
    assert past.archive.reader.show("memory/a/x.md", "latest") == b"one"
    check_sound(past)


def test_everything_derived_can_be_deleted(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    past.version("memory/a/x.md", "two", BOB)
    before = [step.commit.oid for step in past.archive.reader.log("", ALL_COMMITS, 100)]
    past.close()
    shutil.rmtree(past.layout.index)
    assert past.reopen() == []
    assert [step.commit.oid for step in past.archive.reader.log("", ALL_COMMITS, 100)] == before
    check_sound(past)


def test_files_stay_and_history_starts_anew_without_the_repository(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    past.close()
    shutil.rmtree(past.layout.repo)
    past.reopen()
    assert past.archive.reader.show("memory/a/x.md", "latest") == b"one"
    check_sound(past)


def test_dead_git_process_loses_nothing(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    past.archive.core.ledger.repo.close_readers()  # nothing is in memory then
    assert past.archive.reader.show("memory/a/x.md", "latest") == b"one"
    # Only children of this process: other processes may have these words in a command line.
    helpers = {child: Path(f"/proc/{child}/cmdline").read_text() for child in children_of(os.getpid())}
    assert [command for command in helpers.values() if "cat-file" in command]
    assert [command for command in helpers.values() if f"{past.layout.repo}\0update-ref" in command]
    for helper in helpers:
        os.kill(helper, signal.SIGKILL)
    past.version("memory/a/x.md", "two")
    assert past.archive.reader.show("memory/a/x.md", "latest") == b"two"
    check_sound(past)


def test_the_branch_is_never_moved_to_nothing(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    repo = past.archive.core.ledger.repo
    head = repo.read_ref(BRANCH)
    for nothing in ("", "0" * 39, "HEAD"):
        with pytest.raises(OSError):
            repo.update_ref(BRANCH, nothing, head)
    with pytest.raises(OSError) as refused:
        repo.update_ref(BRANCH, head or "", "1" * 40)
    assert refused.value.errno == errno.EBUSY
    assert repo.read_ref(BRANCH) == head


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Past]:
    """Yield a store on a file system that is soon full."""
    at = tmp_path / "small"
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,nr_inodes=4000", "tmpfs", str(at)], check=True)
    past = Past(at / "store")
    try:
        yield past
    finally:
        past.close()
        subprocess.run(["umount", "-l", str(at)], check=True)


def test_full_disk_is_an_error_and_the_version_is_made_after_space_returns(small: Past) -> None:
    small.version("memory/a/x.md", "one")
    filler = small.layout.root / "filler"
    small.write("memory/a/x.md", os.urandom(40_000))
    with open(filler, "wb") as file, pytest.raises(OSError):
        while True:
            os.write(file.fileno(), bytes(1024))
    with pytest.raises(OSError) as full:
        small.archive.commit()
    assert full.value.errno in (errno.ENOSPC, errno.EIO)
    filler.unlink()
    (commit,) = small.archive.commit()
    assert commit.actor == ALICE
    check_sound(small)


def test_a_rollback_on_a_full_disk_changes_nothing(small: Past) -> None:
    for number in range(10):
        small.write(f"memory/a/{number}", os.urandom(30_000))
    first = small.archive.commit()[0]
    for number in range(10):
        small.write(f"memory/a/{number}", f"small {number}")
    small.archive.commit()
    before = small.picture()
    filler = small.layout.root / "filler"
    with open(filler, "wb") as file, pytest.raises(OSError):
        while True:
            os.write(file.fileno(), bytes(1024))
    os.truncate(filler, filler.stat().st_size - 100_000)
    with pytest.raises(OSError):
        small.archive.rollbacks.restore("memory/a", first.oid, ALICE)
    assert small.picture() == before
    filler.unlink()
    small.archive.rollbacks.restore("memory/a", first.oid, ALICE)
    assert (small.tree / "memory/a/3").stat().st_size == 30_000
    check_sound(small)


def test_a_disk_that_fails_under_git_is_an_error_and_nothing_is_lost(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.version("memory/a/x.md", "one")
    for kind in ("blob", "tree", "commit"):
        past.write("memory/a/x.md", f"while {kind}s cannot be written")
        write = Repository.write

        def failing(self: Repository, what: str, data: bytes, kind: str = kind, write=write) -> str:  # type: ignore[no-untyped-def]
            if what == kind:
                raise OSError(errno.EIO, "Input/output error", "disk")
            return str(write(self, what, data))

        monkeypatch.setattr(Repository, "write", failing)
        with pytest.raises(OSError):
            past.archive.commit()
        monkeypatch.undo()
        (commit,) = past.archive.commit()
        assert commit.actor == ALICE
    check_sound(past)


def test_unreadable_file_keeps_its_last_version_and_blocks_no_commit(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.version("memory/a/bad.md", "one")
    past.version("memory/a/good.md", "one")
    past.write("memory/a/bad.md", "two")
    past.write("memory/a/good.md", "two")
    opened = WorkTree.open_file

    def failing(self: WorkTree, parts: tuple[bytes, ...]):  # type: ignore[no-untyped-def]
        if parts[-1] == b"bad.md":
            raise OSError(errno.EIO, "Input/output error")
        return opened(self, parts)

    monkeypatch.setattr(WorkTree, "open_file", failing)
    past.archive.commit()
    assert past.archive.reader.show("memory/a/good.md", "latest") == b"two"
    assert past.archive.reader.show("memory/a/bad.md", "latest") == b"one"
    monkeypatch.undo()
    past.crash()
    past.reopen()
    assert past.archive.reader.show("memory/a/bad.md", "latest") == b"two"
    check_sound(past)


def test_file_that_its_owner_cannot_read_does_not_count_as_removed() -> None:
    """Run as an ordinary user, whom modes bind, in a child process, because it cannot become root again."""
    if os.geteuid() != 0:
        pytest.skip("becoming an ordinary user needs root")
    with tempfile.TemporaryDirectory(prefix="ctxfs-test-", dir="/tmp") as folder:
        os.chmod(folder, 0o777)
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                Past(Path(folder) / "warm").close()  # a late import would read root's directories
                os.setgid(65534)
                os.setuid(65534)
                os.write(write_end, shut_out(Path(folder) / "store"))
            except BaseException:
                os.write(write_end, traceback.format_exc().encode())
            finally:
                os._exit(0)
        os.close(write_end)
        with open(read_end, "rb") as pipe:
            assert pipe.read().decode() == "one one one"
        os.waitpid(child, 0)


def shut_out(store: Path) -> bytes:
    """Return the versions of a file in a closed directory, of a closed file, and of an open one."""
    past = Past(store)
    past.version("pad/closed/x.md", "one")
    past.version("pad/secret.md", "one")
    os.chmod(past.tree / "pad/closed", 0)
    os.chmod(past.tree / "pad/secret.md", 0)
    past.version("pad/open.md", "one")
    past.archive.commit([b"pad"])
    past.crash()
    past.reopen()
    contents = [past.archive.reader.show(f"pad/{path}", "latest") for path in ("closed/x.md", "secret.md", "open.md")]
    os.chmod(past.tree / "pad/closed", 0o755)
    past.close()
    return b" ".join(contents)


def test_unreadable_intent_is_dropped_and_the_store_opens(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    past.crash()
    (past.layout.journal / "rollback.json").write_text("{")
    (past.layout.journal / "forget.json").write_text(json.dumps({"places": 1})[:-3])
    assert past.reopen() == []
    assert past.archive.reader.show("memory/a/x.md", "latest") == b"one"
