"""Test restore, undo and redo."""

import os
from datetime import UTC, datetime

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.recording.pathindex import CommitFilter
from ctxfs.versions.rollback_plan import write_intent
from tests.versions.conftest import ALICE, BOB, Past, check_sound

OWNER = Actor("human:owner", "s-owner", "test", "")


def read(past: Past, path: str) -> str | None:
    file = past.tree / path
    return file.read_text() if file.exists() else None


def test_undo_walks_back_and_redo_forward(past: Past) -> None:
    for text in ("1", "2", "3"):
        past.version("memory/a/x.md", text)
    seen = []
    for _ in range(3):
        past.archive.rollbacks.undo("memory/a/x.md", ALICE)
        seen.append(read(past, "memory/a/x.md"))
    assert seen == ["2", "1", None]
    with pytest.raises(CommandError, match="nothing is left to undo"):
        past.archive.rollbacks.undo("memory/a/x.md", ALICE)
    for text in ("1", "2", "3"):
        past.archive.rollbacks.redo("memory/a/x.md", ALICE)
        assert read(past, "memory/a/x.md") == text
    with pytest.raises(CommandError, match="nothing is left to redo"):
        past.archive.rollbacks.redo("memory/a/x.md", ALICE)
    check_sound(past)


def test_a_change_after_an_undo_ends_redo_and_is_undone_first(past: Past) -> None:
    for text in ("1", "2", "3"):
        past.version("memory/a/x.md", text)
    past.archive.rollbacks.undo("memory/a/x.md", ALICE)
    past.version("memory/a/x.md", "other")
    with pytest.raises(CommandError):
        past.archive.rollbacks.redo("memory/a/x.md", ALICE)
    past.archive.rollbacks.undo("memory/a/x.md", ALICE)
    assert read(past, "memory/a/x.md") == "2"
    past.archive.rollbacks.undo("memory/a/x.md", ALICE)
    assert read(past, "memory/a/x.md") == "1"


def test_undo_of_a_directory_reverts_its_last_change_by_any_principal(past: Past) -> None:
    past.version("memory/a/x.md", "1")
    past.version("memory/a/y.md", "1", BOB)
    past.version("pad/elsewhere", "1")
    past.archive.rollbacks.undo("memory/a", ALICE)
    assert (read(past, "memory/a/x.md"), read(past, "memory/a/y.md"), read(past, "pad/elsewhere")) == ("1", None, "1")


def test_undo_of_a_rename_brings_the_old_name_back(past: Past) -> None:
    past.version("memory/a/x.md", "1")
    past.move("memory/a/x.md", "memory/a/y.md")
    past.archive.commit()
    past.archive.rollbacks.undo("memory/a/y.md", ALICE)
    assert (read(past, "memory/a/x.md"), read(past, "memory/a/y.md")) == ("1", None)
    past.archive.rollbacks.redo("memory/a/y.md", ALICE)
    assert (read(past, "memory/a/x.md"), read(past, "memory/a/y.md")) == (None, "1")


def test_restore_covers_content_attributes_modes_links_and_empty_directories(past: Past) -> None:
    past.write("pad/t/plain", "text")
    past.write("pad/t/program", "#!/bin/sh\n")
    os.chmod(past.tree / "pad/t/program", 0o750)
    past.write("pad/t/secret", "key")
    os.chmod(past.tree / "pad/t/secret", 0o600)
    os.symlink("plain", past.tree / "pad/t/link")
    os.symlink("nowhere/at all", past.tree / "pad/t/broken")
    (past.tree / "pad/t/empty/deep").mkdir(parents=True)
    os.chmod(past.tree / "pad/t/empty", 0o700)
    os.setxattr(past.tree / "pad/t/empty", "user.mine", b"\0\xff")
    past.label("pad/t/plain", "kind", "fact")
    for path in ("link", "broken", "empty", "empty/deep"):
        past.note("write", f"pad/t/{path}")
    past.archive.commit()
    past.archive.snapshots.create("full")
    before = past.picture()
    os.system(f"rm -rf '{past.tree}/pad/t/empty' '{past.tree}/pad/t/link' '{past.tree}/pad/t/program'")
    os.chmod(past.tree / "pad/t/secret", 0o644)
    os.removexattr(past.tree / "pad/t/plain", "user.ctx.kind")
    (past.tree / "pad/t/plain").unlink()
    (past.tree / "pad/t/plain").mkdir()
    past.write("pad/t/plain/inside", "now a directory")
    past.write("pad/t/extra", "new")
    past.archive.commit([b"pad/t"])
    assert past.picture() != before
    past.archive.rollbacks.restore("pad/t", "full", ALICE)
    assert past.picture() == before
    past.archive.rollbacks.undo("pad/t", ALICE)
    past.archive.rollbacks.redo("pad/t", ALICE)
    assert past.picture() == before
    check_sound(past)


def test_restore_of_the_whole_tree_keeps_its_areas(past: Past) -> None:
    begin = past.archive.reader.resolve("latest").commit
    past.version("memory/a/x.md", "1")
    past.version("pad/y", "2")
    past.archive.rollbacks.restore("", begin.oid, ALICE)
    assert sorted(os.listdir(past.tree)) == ["context", "human", "memory", "pad", "search"]
    assert read(past, "memory/a/x.md") is None
    past.archive.rollbacks.undo("", ALICE)
    assert (read(past, "memory/a/x.md"), read(past, "pad/y")) == ("1", "2")


def test_a_removed_file_is_restored_by_revision_and_by_time(past: Past) -> None:
    commit = past.version("memory/a/x.md", "1")
    past.remove("memory/a/x.md")
    past.remove("memory/a")
    past.archive.commit()
    past.archive.rollbacks.restore("memory/a/x.md", commit.oid[:10], ALICE)
    assert read(past, "memory/a/x.md") == "1"
    past.archive.rollbacks.undo("memory/a/x.md", ALICE)
    assert read(past, "memory/a/x.md") is None
    moment = datetime.fromtimestamp(commit.time_ns / 1e9, UTC).isoformat()
    past.archive.rollbacks.restore("memory/a/x.md", moment, ALICE)
    assert read(past, "memory/a/x.md") == "1"


def test_a_renamed_file_is_restored_under_its_present_name(past: Past) -> None:
    commit = past.version("memory/a/x.md", "1")
    past.move("memory/a/x.md", "memory/a/y.md")
    past.archive.commit()
    past.version("memory/a/y.md", "2")
    past.archive.rollbacks.restore("memory/a/y.md", commit.oid, ALICE)
    assert (read(past, "memory/a/y.md"), read(past, "memory/a/x.md")) == ("1", None)


def test_a_dry_run_shows_and_changes_nothing(past: Past) -> None:
    past.version("memory/a/x.md", "one\n")
    past.label("memory/a/x.md", "kind", "fact")
    past.archive.commit()
    past.version("memory/a/x.md", "two\n")
    before, head = past.picture(), past.archive.head
    outcome, diff = past.archive.rollbacks.undo("memory/a/x.md", ALICE, dry_run=True)
    assert outcome.commit is None
    assert b"-two" in diff
    assert b"+one" in diff
    assert (past.picture(), past.archive.head) == (before, head)


def test_undo_of_a_session_keeps_the_work_of_others(past: Past) -> None:
    past.version("memory/a/x.md", "bob's", BOB)
    past.version("memory/a/y.md", "bob's", BOB)
    past.version("memory/a/x.md", "alice's")
    past.write("memory/a/new/z.md", "alice's")
    past.remove("memory/a/y.md")
    past.archive.commit()
    past.version("memory/b/w.md", "bob later", BOB)
    past.archive.rollbacks.undo("", BOB, CommitFilter(session="s-alice"))
    assert read(past, "memory/a/x.md") == "bob's"
    assert read(past, "memory/a/y.md") == "bob's"
    assert not (past.tree / "memory/a/new").exists()
    assert read(past, "memory/b/w.md") == "bob later"
    check_sound(past)


def test_undoing_a_session_is_refused_with_the_list_where_others_have_changed_since(past: Past) -> None:
    past.version("memory/a/x.md", "alice's")
    past.version("memory/a/y.md", "alice's")
    past.version("memory/a/x.md", "bob's", BOB)
    before = past.picture()
    with pytest.raises(CommandError, match=r"memory/a/x\.md") as refused:
        past.archive.rollbacks.undo("", BOB, CommitFilter(principal="agent:alice"))
    assert "memory/a/y.md" not in refused.value.message
    assert past.picture() == before
    past.archive.rollbacks.undo("memory/a/y.md", BOB, CommitFilter(principal="agent:alice"))
    assert read(past, "memory/a/y.md") is None


def test_undo_by_an_unknown_principal_is_a_distinct_error(past: Past) -> None:
    with pytest.raises(CommandError, match="has changed nothing"):
        past.archive.rollbacks.undo("", ALICE, CommitFilter(principal="agent:nobody"))


def test_uncommitted_writes_become_a_version_before_a_rollback(past: Past) -> None:
    commit = past.version("memory/a/x.md", "1")
    past.write("memory/a/x.md", "2", BOB)
    past.archive.rollbacks.restore("memory/a/x.md", commit.oid, ALICE)
    assert read(past, "memory/a/x.md") == "1"
    past.archive.rollbacks.undo("memory/a/x.md", ALICE)
    assert read(past, "memory/a/x.md") == "2"


def test_unjournaled_write_during_a_rollback_is_left_and_named(past: Past) -> None:
    commit = past.version("memory/a/x.md", "1")
    past.version("memory/a/y.md", "1")
    past.version("memory/a/x.md", "2")
    plan = past.archive.core.planner.plan_restore(b"memory/a", past.archive.reader.resolve(commit.oid))
    (past.tree / "memory/a/x.md").write_text("somebody's, not noted yet")
    outcome = past.archive.core.rollback.carry_out(plan, ALICE)
    assert outcome.kept == [b"memory/a/x.md"]
    assert read(past, "memory/a/x.md") == "somebody's, not noted yet"
    assert read(past, "memory/a/y.md") is None
    past.note("write", "memory/a/x.md", who=BOB)
    past.archive.commit()
    check_sound(past)


def test_reader_keeps_its_open_file(past: Past) -> None:
    past.version("memory/a/x.md", "first version")
    past.version("memory/a/x.md", "second version")
    with open(past.tree / "memory/a/x.md") as reader:
        past.archive.rollbacks.undo("memory/a/x.md", ALICE)
        assert reader.read() == "second version"


def test_killed_rollback_is_finished_at_the_next_start(past: Past) -> None:
    commit = past.version("memory/a/x.md", "1")
    for number in range(5):
        past.write(f"memory/a/{number}.md", f"{number}")
    past.write("memory/a/x.md", "2")
    past.archive.commit()
    rollback = past.archive.core.rollback
    plan = past.archive.core.planner.plan_restore(b"memory/a", past.archive.reader.resolve(commit.oid))
    write_intent(rollback._intent, plan, BOB, past.archive.core.ledger.tree)
    changes = past.archive.core.ledger.compare_trees(past.archive.core.ledger.tree, plan.tree)
    rollback._apply(past.archive.core.ledger.tree, plan.tree, changes[:3])
    past.crash()
    (past.tree / "memory/a/4.md").write_text("written after the crash")
    made = past.reopen()
    assert [(c.op, c.actor.principal) for c in made] == [("restore", "agent:bob"), ("recovered", "human:owner")]
    assert read(past, "memory/a/x.md") == "1"
    assert read(past, "memory/a/0.md") is None
    assert read(past, "memory/a/4.md") == "written after the crash"
    check_sound(past)


def test_undo_of_a_principal_follows_an_undo_of_its_session(past: Past) -> None:
    later = Actor(ALICE.principal, "s-later", "test", "")
    past.version("memory/a/x.md", "1")
    past.version("memory/a/x.md", "2", later)
    past.version("memory/a/y.md", "1", later)
    past.archive.rollbacks.undo("", OWNER, CommitFilter(session="s-later"))
    assert (read(past, "memory/a/x.md"), read(past, "memory/a/y.md")) == ("1", None)
    past.archive.rollbacks.undo("", OWNER, CommitFilter(principal=ALICE.principal))
    assert (read(past, "memory/a/x.md"), read(past, "memory/a/y.md")) == (None, None)
    outcome, _ = past.archive.rollbacks.undo("", OWNER, CommitFilter(principal=ALICE.principal))
    assert outcome.commit is None, "all of it is taken back already"
    check_sound(past)


def test_undo_of_a_session_ignores_a_change_by_others_that_was_taken_back(past: Past) -> None:
    past.version("memory/a/x.md", "1")
    past.version("memory/a/x.md", "2", BOB)
    past.archive.rollbacks.undo("memory/a/x.md", BOB)
    past.archive.rollbacks.undo("", OWNER, CommitFilter(session=ALICE.session))
    assert read(past, "memory/a/x.md") is None


def test_undo_of_a_session_is_refused_over_a_restored_change_of_others(past: Past) -> None:
    past.version("memory/a/x.md", "1")
    others = past.version("memory/a/x.md", "2", BOB)
    past.version("memory/a/x.md", "3")
    past.archive.rollbacks.restore("memory/a/x.md", others.oid, OWNER)
    with pytest.raises(CommandError, match="others have changed"):
        past.archive.rollbacks.undo("", OWNER, CommitFilter(session=ALICE.session))
    assert read(past, "memory/a/x.md") == "2"


def test_undo_of_a_session_ignores_the_records_of_an_old_store(past: Past) -> None:
    """The first stores had versions of deliveries, put down to their readers."""
    past.write("context/t/request.toml", 'query = "x"\n')
    past.write("context/t/loads.jsonl", "{}\n")
    past.write("context/kept/loads.jsonl", "{}\n")
    past.archive.commit()
    past.version("context/t/loads.jsonl", "{}\n{}\n", OWNER)
    past.version("context/t/window-human-root.json", "{}\n", OWNER)
    past.version("context/kept/request.toml", 'query = "y"\n', OWNER)
    past.archive.rollbacks.undo("", OWNER, CommitFilter(session=ALICE.session))
    assert not (past.tree / "context/t").exists(), "no record stays behind without its task"
    assert read(past, "context/kept/request.toml") == 'query = "y"\n'
    check_sound(past)
