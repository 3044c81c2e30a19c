"""Test proposals: branches whose merge is one version, is whole, and is refused if a file has changed since."""

import errno
import os
from collections.abc import Sequence

import pytest

from ctxfs.versions.objects.commits import Actor, Commit
from ctxfs.versions.proposals import FileChange, FileEdit
from tests.versions.conftest import ALICE, Past, check_sound

OWNER = Actor("human:owner", "s-owner", "test", "")
FACT, OTHER = "memory/alice/fact/a.md", "memory/alice/fact/b.md"
MERGED = {"user.ctx.state": b"merged"}


def allow(changes: Sequence[FileChange]) -> None:
    pass


def propose(past: Past, name: str, *edits: FileEdit) -> Commit:
    base = past.archive.proposals.base()
    assert past.archive.proposals.open(name, base, edits, ALICE, f"propose {name}")
    return base


def accept(past: Past, name: str) -> None:
    past.archive.proposals.accept(name, OWNER, allow, {f"human/review/{name}/outcome.json": b"{}\n"}, f"accept {name}")


def state_of(past: Past, path: str) -> bytes:
    return os.getxattr(past.tree / path, "user.ctx.state")


def test_open_proposal_changes_no_file(past: Past) -> None:
    past.version(FACT, "one\n")
    before = past.picture()
    propose(past, "p1", FileEdit(FACT, b"two\n", MERGED))
    assert past.picture() == before and past.archive.commit() == []
    assert past.archive.proposals.names() == ["p1"]
    assert b"-one" in past.archive.proposals.diff("p1") and b"user.ctx.state" in past.archive.proposals.diff("p1")


def test_accepted_proposal_is_one_merge_that_undo_takes_back(past: Past) -> None:
    past.version(FACT, "one\n")
    propose(past, "p1", FileEdit(FACT, None, MERGED), FileEdit("memory/alice/new/c.md", b"three\n"))
    past.version(OTHER, "meanwhile\n")
    accept(past, "p1")
    assert state_of(past, FACT) == b"merged"
    assert (past.tree / "memory/alice/new/c.md").read_text() == "three\n"
    assert (past.tree / "human/review/p1/outcome.json").exists()
    head = past.archive.head
    assert head is not None and head.op == "merge" and len(head.parents) == 2
    assert past.archive.proposals.names() == []
    assert past.archive.reader.blame("memory/alice/new/c.md", "latest")[0].principal == "agent:alice"
    past.archive.rollbacks.undo(FACT, OWNER)
    assert "user.ctx.state" not in os.listxattr(past.tree / FACT)
    past.archive.rollbacks.redo(FACT, OWNER)
    assert state_of(past, FACT) == b"merged"
    check_sound(past)


def test_same_proposal_is_opened_and_accepted_once(past: Past) -> None:
    past.version(FACT, "one\n")
    base = propose(past, "p1", FileEdit(FACT, None, MERGED))
    assert not past.archive.proposals.open("p1", base, [FileEdit(FACT, b"other")], ALICE, "again")
    accept(past, "p1")
    with pytest.raises(FileNotFoundError):
        accept(past, "p1")


@pytest.mark.parametrize("change", ["content", "label", "removal"])
def test_proposal_about_a_file_that_has_changed_is_refused(past: Past, change: str) -> None:
    past.version(FACT, "one\n")
    propose(past, "p1", FileEdit(FACT, None, MERGED), FileEdit(OTHER, b"new\n"))
    if change == "content":
        past.version(FACT, "edited\n")
    elif change == "label":
        past.label(FACT, "state", "archived")
    else:
        past.remove(FACT)
    past.archive.commit()
    before = past.picture()
    assert not past.archive.proposals.is_current("p1")
    with pytest.raises(OSError, match="has changed since") as caught:
        accept(past, "p1")
    assert caught.value.errno == errno.ESTALE and past.picture() == before
    assert past.archive.proposals.names() == ["p1"]


def test_labels_of_both_sides_are_merged(past: Past) -> None:
    past.version(FACT, "one\n")
    propose(past, "p1", FileEdit(FACT, None, {"user.ctx.covers": b"memory/alice/fact/x.md"}))
    propose(past, "p2", FileEdit(FACT, None, {"user.ctx.covers": b"memory/alice/fact/y.md"}))
    past.label(FACT, "confidence", "0.5")
    accept(past, "p1")
    accept(past, "p2")
    covers = os.getxattr(past.tree / FACT, "user.ctx.covers").split(b"\n")
    assert covers == [b"memory/alice/fact/x.md", b"memory/alice/fact/y.md"]
    assert os.getxattr(past.tree / FACT, "user.ctx.confidence") == b"0.5"


def test_file_that_is_open_for_writing_leaves_the_proposal_open(past: Past) -> None:
    past.version(FACT, "one\n")
    propose(past, "p1", FileEdit(OTHER, b"new\n"), FileEdit(FACT, b"one\ntwo\n"))
    with open(past.tree / FACT, "a") as writer:
        with pytest.raises(OSError, match="nothing was merged") as caught:
            accept(past, "p1")
        assert caught.value.errno == errno.EBUSY
        writer.write("late\n")
    assert not (past.tree / OTHER).exists() and (past.tree / FACT).read_text() == "one\nlate\n"
    assert past.archive.proposals.names() == ["p1"]
    past.note("write", FACT)
    past.archive.commit()
    check_sound(past)


def test_refused_check_changes_nothing(past: Past) -> None:
    past.version(FACT, "one\n")
    propose(past, "p1", FileEdit(FACT, None, MERGED))

    def refuse(changes: Sequence[FileChange]) -> None:
        assert [change.path for change in changes] == [FACT]
        raise PermissionError(errno.EPERM, "no", FACT)

    before = past.picture()
    with pytest.raises(PermissionError):
        past.archive.proposals.accept("p1", OWNER, refuse, {}, "accept")
    assert past.picture() == before


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("with_late_write", [False, True])
def test_kill_while_files_change_is_completed_or_reverted(
    past: Past, monkeypatch: pytest.MonkeyPatch, with_late_write: bool
) -> None:
    for number in range(6):
        past.write(f"memory/alice/fact/{number}.md", f"fact {number}\n")
    past.archive.commit()
    propose(past, "p1", *(FileEdit(f"memory/alice/fact/{number}.md", None, MERGED) for number in range(6)))
    work, count = past.archive.core.ledger.work, 0
    set_attributes = work.set_attributes

    def set_and_die(*arguments: object) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise Killed
        set_attributes(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(type(work), "set_attributes", lambda self, *arguments: set_and_die(*arguments))
    with pytest.raises(Killed):
        accept(past, "p1")
    monkeypatch.undo()
    past.crash()
    if with_late_write:
        (past.tree / "memory/alice/fact/5.md").write_text("written while no daemon ran\n")
    past.reopen()
    states = {
        b"merged" if "user.ctx.state" in os.listxattr(path) else b"" for path in past.tree.glob("memory/alice/fact/*")
    }
    assert states == ({b""} if with_late_write else {b"merged"})
    assert past.archive.proposals.names() == (["p1"] if with_late_write else [])
    check_sound(past)


def test_damaged_branch_is_dropped_at_the_start(past: Past) -> None:
    past.version(FACT, "one\n")
    propose(past, "p1", FileEdit(OTHER, b"a content of its own\n"))
    propose(past, "p2", FileEdit(FACT, None, MERGED))
    oid = past.git("rev-parse", f"refs/heads/proposal/p1:{OTHER}").strip()
    past.crash()
    (past.layout.repo / "objects" / oid[:2] / oid[2:]).unlink()
    past.reopen()
    assert past.archive.proposals.names() == ["p2"]


def test_erasure_drops_proposals_that_may_contain_the_content(past: Past) -> None:
    past.version(FACT, "a secret that must go\n")
    propose(past, "p1", FileEdit(OTHER, b"copy: a secret that must go\n"))
    past.archive.erasure.erase(FACT, "", OWNER)
    assert past.archive.proposals.names() == []
    assert "secret that must go" not in past.git("log", "--all", "-p")
