"""Test branches: a state of the work tree beside main, its versions, its merge and its deletion."""

import errno
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from ctxfs.model.change import Change, MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.errors import CommandError
from ctxfs.model.path import Path as TreePath
from ctxfs.versions.branches import branches, refs
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.proposals import FileChange
from ctxfs.versions.recording.pathindex import ALL_COMMITS
from tests.versions.conftest import ALICE, BOB, LARGE, Past, check_sound

OWNER = Actor("human:owner", "s-owner", "test", "")
FACT, OTHER = "memory/alice/fact/a.md", "memory/alice/fact/b.md"


def allow(changes: Sequence[FileChange]) -> None:
    pass


def put(path: str, data: str | bytes, **attributes: bytes) -> Put:
    content = data if isinstance(data, bytes) else data.encode()
    return Put(TreePath.parse(path), content, {f"user.ctx.{name}": value for name, value in attributes.items()})


def write(
    past: Past, path: str, data: str | bytes, who: Actor = ALICE, name: str = "idea", **attributes: bytes
) -> None:
    past.archive.branches.apply(name, put(path, data, **attributes), who)


def read(past: Past, path: str, name: str = "idea") -> str:
    return past.archive.branches.read(name, path).decode()


def merge(past: Past, name: str = "idea") -> branches.MergeResult:
    head = past.archive.branches.seal(name)
    return past.archive.branches.merge(name, head.oid, OWNER, allow, {}, f"merge branch {name}")


@pytest.fixture
def branched(past: Past) -> Past:
    """Return a store with two files on main and a branch `idea` of them."""
    past.version(FACT, "one\n")
    past.version(OTHER, "other\n")
    past.archive.branches.create("idea", OWNER)
    return past


def code_of(past: Past, change: Change) -> int | None:
    with pytest.raises(OSError) as caught:
        past.archive.branches.apply("idea", change, ALICE)
    return caught.value.errno


def test_branch_begins_as_main_and_its_changes_reach_no_file_of_main(branched: Past) -> None:
    before = branched.picture()
    write(branched, FACT, "two\n")
    write(branched, "memory/alice/fact/new.md", "new\n")
    branched.archive.branches.apply("idea", Remove(TreePath.parse(OTHER)), ALICE)
    assert branched.picture() == before and branched.archive.commit() == []
    assert (read(branched, FACT), read(branched, "memory/alice/fact/new.md")) == ("two\n", "new\n")
    names = [entry.name for entry in branched.archive.branches.entries("idea", "memory/alice/fact")]
    assert names == ["a.md", "new.md"]
    assert (branched.tree / FACT).read_text() == "one\n"


def test_change_of_main_is_not_seen_in_an_existing_branch(branched: Past) -> None:
    branched.version(FACT, "main has moved\n")
    assert read(branched, FACT) == "one\n"
    assert not branched.archive.branches.is_as_on_main("idea", FACT)
    assert branched.archive.branches.is_as_on_main("idea", OTHER)


def test_branch_includes_changes_that_had_no_version_yet(past: Past) -> None:
    past.write(FACT, "uncommitted\n")
    past.archive.branches.create("idea", OWNER)
    assert read(past, FACT) == "uncommitted\n"


def test_versions_of_a_branch_have_author_session_and_reason(branched: Past) -> None:
    write(branched, FACT, "two\n", Actor("agent:alice", "s7", "mcp", "a better idea"))
    write(branched, FACT, "three\n", BOB)
    newest, first = branched.archive.branches.versions("idea")
    assert (newest.actor, first.actor.reason, first.actor.session) == (BOB, "a better idea", "s7")
    assert first.subject == f"write {FACT}"
    assert branched.archive.branches.last_change("idea", FACT) == newest
    assert "a better idea" in branched.git("log", "branch/idea")
    on_main = [step.commit.actor.reason for step in branched.archive.reader.log(FACT, ALL_COMMITS, 10)]
    assert on_main == [""]


def test_writes_of_one_actor_within_the_window_are_one_version(branched: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "_WINDOW_NS", 60_000_000_000)
    write(branched, "memory/alice/fact/.new.tmp", "")
    write(branched, "memory/alice/fact/.new.tmp", "text\n")
    source, target = (TreePath.parse(f"memory/alice/fact/{name}") for name in (".new.tmp", "new.md"))
    branched.archive.branches.apply("idea", Move(source, target), ALICE)
    (version,) = branched.archive.branches.versions("idea")
    assert version.subject == "write memory/alice/fact/new.md" and version.moves == ()
    write(branched, FACT, "two\n", BOB)
    assert len(branched.archive.branches.versions("idea")) == 2


def test_taken_back_writes_within_the_window_leave_no_version(branched: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "_WINDOW_NS", 60_000_000_000)
    write(branched, "memory/alice/fact/t.md", "x")
    branched.archive.branches.apply("idea", Remove(TreePath.parse("memory/alice/fact/t.md")), ALICE)
    assert branched.archive.branches.versions("idea") == []


def test_version_under_review_is_not_replaced(branched: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "_WINDOW_NS", 60_000_000_000)
    write(branched, FACT, "two\n")
    sealed = branched.archive.branches.seal("idea")
    write(branched, FACT, "three\n")
    assert sealed.oid in [commit.oid for commit in branched.archive.branches.versions("idea")]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (put("memory/alice/fact", "x"), errno.EISDIR),
        (put("memory/nowhere/x.md", "x"), errno.ENOENT),
        (put(f"{FACT}/x.md", "x"), errno.ENOTDIR),
        (put("memory/" + "d/" * 256 + "x", "x"), errno.ENAMETOOLONG),
        (MakeDir(TreePath.parse("memory/alice")), errno.EEXIST),
        (Remove(TreePath.parse("memory/alice/fact")), errno.ENOTEMPTY),
        (Remove(TreePath.parse("memory/none")), errno.ENOENT),
        (Move(TreePath.parse("memory/alice"), TreePath.parse("memory/alice/fact/in")), errno.EINVAL),
        (Move(TreePath.parse(FACT), TreePath.parse("memory/alice")), errno.EISDIR),
        (Move(TreePath.parse("memory/alice"), TreePath.parse("memory/shared")), 0),
        (SetMeta(TreePath.parse(FACT), "user.ctx.kind", None), errno.ENODATA),
        (SetMeta(TreePath.parse(FACT), "security.x", b"1"), errno.EOPNOTSUPP),
        (SetMeta(TreePath.parse(FACT), "user.x", b"1" * 70_000), errno.E2BIG),
    ],
)
def test_changes_fail_as_in_a_folder(branched: Past, change: Change, code: int) -> None:
    if code:
        assert code_of(branched, change) == code
        assert branched.archive.branches.versions("idea") == []
    else:
        branched.archive.branches.apply("idea", change, ALICE)
        assert read(branched, "memory/shared/fact/a.md") == "one\n"


def test_frozen_file_is_not_changed_in_a_branch(past: Past) -> None:
    past.write(FACT, "one\n")
    os.setxattr(past.tree / FACT, "user.ctx.state", b"frozen")
    past.archive.commit()
    past.archive.branches.create("idea", OWNER)
    path = TreePath.parse(FACT)
    for change in (
        put(FACT, "x"),
        Remove(path),
        Move(path, TreePath.parse(OTHER)),
        SetMeta(path, "user.ctx.tags", b"x"),
    ):
        assert code_of(past, change) == errno.EPERM
    move = Move(TreePath.parse("memory/alice"), TreePath.parse("memory/bob"))
    assert code_of(past, move) == errno.EPERM
    past.archive.branches.apply("idea", SetMeta(path, "user.ctx.state", b"active"), OWNER)
    write(past, FACT, "two\n")
    assert os.getxattr(past.tree / FACT, "user.ctx.state") == b"frozen"


def test_attributes_stay_and_marks_survive_replacement(branched: Past) -> None:
    write(branched, FACT, "two\n", trust=b"untrusted", source=b"the web")
    write(branched, FACT, "three\n")
    write(branched, "memory/alice/fact/.tmp", "four\n")
    tmp = TreePath.parse("memory/alice/fact/.tmp")
    branched.archive.branches.apply("idea", Move(tmp, TreePath.parse(FACT)), ALICE)
    attributes = branched.archive.branches.attributes("idea", FACT)
    assert attributes["user.ctx.trust"] == b"untrusted" and read(branched, FACT) == "four\n"


def test_marked_path_of_main_is_marked_when_a_branch_makes_it_anew(past: Past) -> None:
    past.write(FACT, "a text from the web that is long enough to be recognised again\n")
    os.setxattr(past.tree / FACT, "user.ctx.trust", b"untrusted")
    past.archive.commit()
    past.archive.branches.create("idea", OWNER)
    past.archive.branches.apply("idea", Remove(TreePath.parse(FACT)), ALICE)
    write(past, FACT, "clean\n")
    assert past.archive.branches.attributes("idea", FACT)["user.ctx.trust"] == b"untrusted"


def test_text_marked_in_one_branch_is_marked_in_a_copy_in_another(branched: Past) -> None:
    text = "twelve words of a text from the web that nobody should ever trust at all\n" * 3
    write(branched, FACT, text, quarantined=b"true")
    branched.archive.branches.create("second", OWNER)
    write(branched, OTHER, text, name="second")
    assert branched.archive.branches.attributes("second", OTHER)["user.ctx.quarantined"] == b"true"


def test_large_file_of_a_branch_survives_packing(branched: Past) -> None:
    data = os.urandom(LARGE * 2)
    write(branched, FACT, data)
    branched.archive.pack(full=True)
    assert branched.archive.branches.read("idea", FACT) == data
    branched.archive.branches.drop("idea")
    assert list(branched.archive.core.ledger.large.names()) == []


def test_diff_shows_text_and_attributes_of_visible_paths_only(branched: Past) -> None:
    write(branched, FACT, "two\n", tags=b"x")
    write(branched, "memory/alice/secret.md", "hidden words\n")
    whole = branched.archive.branches.diff("idea")
    assert b"-one\n+two" in whole and b"hidden words" in whole and b"user.ctx.tags" in whole
    partial = branched.archive.branches.diff("idea", lambda path: path == FACT)
    assert b"+two" in partial and b"hidden" not in partial and b"secret" not in partial


def test_merge_is_three_way_and_names_the_authors(branched: Past) -> None:
    write(branched, FACT, "two\n")
    write(branched, "memory/alice/fact/new.md", "new\n", BOB)
    branched.version(OTHER, "main has moved\n")
    result = merge(branched)
    assert result.conflicts == ()
    assert (branched.tree / FACT).read_text() == "two\n"
    assert (branched.tree / OTHER).read_text() == "main has moved\n"
    assert branched.archive.reader.blame("memory/alice/fact/new.md", "latest")[0].principal == "agent:bob"
    assert branched.archive.branches.changes("idea") == []
    check_sound(branched)


def test_merge_keeps_both_contents_of_a_conflict(branched: Past) -> None:
    write(branched, FACT, "in the branch\n")
    branched.version(FACT, "on main\n")
    assert merge(branched).conflicts == (FACT,)
    assert (branched.tree / FACT).read_text() == "on main\n"
    (copy,) = (branched.tree / "memory/alice/fact").glob("a.conflict-agent-alice-*.md")
    assert copy.read_text() == "in the branch\n"


def test_branch_continues_after_its_merge(branched: Past) -> None:
    write(branched, FACT, "two\n")
    merge(branched)
    write(branched, OTHER, "later\n")
    assert [change.path.decode() for change in branched.archive.branches.changes("idea")] == [OTHER]
    merge(branched)
    assert (branched.tree / OTHER).read_text() == "later\n"


def test_undo_takes_a_merge_back(branched: Past) -> None:
    write(branched, FACT, "two\n")
    merge(branched)
    branched.archive.rollbacks.undo(FACT, OWNER)
    assert (branched.tree / FACT).read_text() == "one\n"
    assert read(branched, FACT) == "two\n"


def test_branches_survive_a_restart_and_a_kill(branched: Past) -> None:
    write(branched, FACT, "two\n")
    branched.crash()
    branched.reopen()
    assert read(branched, FACT) == "two\n"
    branched.close()
    branched.reopen()
    assert read(branched, FACT) == "two\n" and branched.archive.branches.names() == ["idea"]


def test_damaged_head_is_reset_to_the_last_durable_version(branched: Past) -> None:
    write(branched, FACT, "durable\n")
    branched.archive.checkpoint()
    write(branched, FACT, "lost in a power cut\n", BOB)
    head = branched.archive.branches.get("idea").head
    branched.crash()
    object_file = branched.layout.repo / "objects" / head.tree[:2] / head.tree[2:]
    object_file.unlink()
    branched.reopen()
    assert read(branched, FACT) == "durable\n"


def object_ids(past: Past) -> set[str]:
    listed = past.git("cat-file", "--batch-check=%(objectname)", "--batch-all-objects")
    return set(listed.split())


def test_drop_deletes_every_object_that_only_the_branch_had(branched: Past) -> None:
    before = object_ids(branched)
    branched.archive.branches.drop("idea")
    branched.archive.branches.create("idea", OWNER)
    write(branched, FACT, "only in the branch\n")
    write(branched, OTHER, "one\n", BOB)  # a text that main has, too
    branched.archive.pack(always=True)
    write(branched, FACT, "only in the branch, unpacked\n")
    assert branched.archive.branches.drop("idea", dry_run=True) == 3
    assert branched.archive.branches.names() == ["idea"]
    branched.archive.branches.drop("idea")
    assert branched.archive.branches.names() == []
    assert object_ids(branched) <= before
    assert (branched.tree / FACT).read_text() == "one\n"
    check_sound(branched)


def test_drop_keeps_objects_of_other_branches_and_of_merges(branched: Past) -> None:
    write(branched, FACT, "merged\n")
    merge(branched)
    branched.archive.branches.create("second", OWNER)
    write(branched, OTHER, "in both\n")
    write(branched, OTHER, "in both\n", name="second")
    branched.archive.branches.drop("idea")
    assert read(branched, OTHER, "second") == "in both\n"
    assert branched.archive.reader.blame(FACT, "latest")[0].principal == "agent:alice"
    check_sound(branched)


def test_forget_reaches_branches(branched: Past) -> None:
    write(branched, FACT, "a secret of the branch\n")
    moved = "memory/alice/fact/moved.md"
    branched.archive.branches.apply("idea", Move(TreePath.parse(FACT), TreePath.parse(moved)), BOB)
    write(branched, OTHER, "stays\n", BOB)
    secret = (
        subprocess.run(
            ["git", "hash-object", "--stdin"], input=b"a secret of the branch\n", capture_output=True, check=True
        )
        .stdout.decode()
        .strip()
    )
    assert secret in object_ids(branched)
    branched.archive.erasure.erase(FACT, "", OWNER)
    assert secret not in object_ids(branched)
    assert branched.archive.branches.names() == ["idea"] and read(branched, OTHER) == "stays\n"
    with pytest.raises(FileNotFoundError):
        branched.archive.branches.entry("idea", moved)
    check_sound(branched)


def test_forget_of_a_principal_reaches_branches(branched: Past) -> None:
    write(branched, "memory/alice/fact/bobs.md", "by bob\n", BOB)
    branched.archive.erasure.erase(None, "agent:bob", OWNER)
    assert "agent:bob" not in branched.git("log", "--all")
    with pytest.raises(FileNotFoundError):
        branched.archive.branches.entry("idea", "memory/alice/fact/bobs.md")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a..b", "-a", ".a", "a b", "a\n", "a.lock", "a.", "x" * 65, "é", "\udcff"]
)
def test_invalid_name_is_refused(past: Past, name: str) -> None:
    past.version(FACT, "one\n")
    with pytest.raises(CommandError):
        past.archive.branches.create(name, OWNER)
    with pytest.raises(FileNotFoundError):
        past.archive.branches.get(name)


def test_existing_name_is_refused_and_a_start_without_head_is_replaced(branched: Past, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="exists already"):
        branched.archive.branches.create("idea", OWNER)
    repo = branched.archive.core.ledger.repo
    head = repo.read_ref(f"{refs.HEADS}idea")
    assert head is not None
    repo.delete_ref(f"{refs.HEADS}idea", head)
    branched.archive.branches.create("idea", OWNER)
    assert branched.archive.branches.names() == ["idea"]


def test_drop_needs_no_comparison_with_the_objects_of_main(branched: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    before = object_ids(branched)
    branched.archive.branches.drop("idea")
    branched.archive.branches.create("idea", OWNER)
    write(branched, FACT, "only in the branch\n")
    repo, maintained = branched.archive.core.ledger.repo, list[Sequence[str]]()
    monkeypatch.setattr(repo, "run_maintenance", lambda *arguments: maintained.append(arguments))
    branched.archive.branches.drop("idea")
    assert maintained == []
    assert object_ids(branched) <= before


def test_drop_keeps_a_text_that_main_has_written_after_the_branch(branched: Past) -> None:
    write(branched, OTHER, "first in the branch\n")
    branched.version(FACT, "first in the branch\n")
    branched.archive.branches.drop("idea")
    assert branched.archive.reader.show(FACT, "latest") == b"first in the branch\n"
    check_sound(branched)


def test_text_of_two_branches_is_deleted_with_the_last_one(branched: Past) -> None:
    before = object_ids(branched)
    branched.version(FACT, "main moves on\n")
    branched.archive.branches.create("second", OWNER)
    for name in ("idea", "second"):
        write(branched, OTHER, "a text of both branches\n", name=name)
    branched.archive.branches.drop("idea")
    assert read(branched, OTHER, "second") == "a text of both branches\n"
    branched.archive.branches.drop("second")
    texts = {branched.git("cat-file", "-p", oid) for oid in object_ids(branched) - before}
    assert not any("both branches" in text for text in texts)
    check_sound(branched)


def test_branch_from_before_an_erasure_is_dropped_whole(branched: Past) -> None:
    write(branched, FACT, "stays in the branch\n")
    branched.version("memory/alice/fact/old.md", "an erased text of main\n")
    branched.archive.erasure.erase("memory/alice/fact/old.md", "", OWNER)
    write(branched, FACT, "later in the branch\n", BOB)
    branched.archive.branches.drop("idea")
    assert not any("in the branch" in branched.git("cat-file", "-p", oid) for oid in object_ids(branched))
    check_sound(branched)


def test_drop_that_was_killed_after_its_refs_is_finished_at_the_next_start(branched: Past) -> None:
    write(branched, FACT, "only in the branch\n")
    refs.delete_refs(branched.archive.core.ledger.repo, "idea")
    branched.crash()
    branched.reopen()
    assert branched.archive.branches.names() == []
    assert not any("only in the branch" in branched.git("cat-file", "-p", oid) for oid in object_ids(branched))
    check_sound(branched)


def test_agents_and_the_store_have_limits_of_branches(branched: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "MAX_BRANCHES_PER_AGENT", 2)
    create = branched.archive.branches.create
    for name in ("one", "two"):
        create(name, ALICE)
    with pytest.raises(branches.BranchLimit, match="agent:alice has 2 branches already, such as 'one'") as caught:
        create("three", ALICE)
    assert "ctxfs branch drop" in caught.value.remedy
    create(refs.own_branch_name("alice"), ALICE)
    create("three", BOB)
    create("four", OWNER)
    branched.archive.branches.drop("one")
    create("five", ALICE)
    monkeypatch.setattr(branches, "MAX_BRANCHES", len(branched.archive.branches.names()))
    with pytest.raises(branches.BranchLimit, match="branches already"):
        create("six", OWNER)
    assert "six" not in branched.archive.branches.names()
