"""Test files that versions leave out: editors' files, temporary files, and environments, packages and caches in pads."""

import os

import pytest

from ctxfs.versions.marks import QUARANTINED, TRUST
from ctxfs.versions.recording.pathindex import CommitFilter
from tests.versions.conftest import ALICE, BOB, Past, check_sound

HOME = "home = /usr/bin\nversion = 3.11\n"


def names_in(past: Past) -> set[str]:
    """Return the paths of the files in the newest version, without the folders of an empty store."""
    ledger = past.archive.core.ledger
    files = [b"/".join(parts).decode() for parts, state in ledger.walk(ledger.tree, ()) if state.entry.mode != 0o40000]  # type: ignore[union-attr]
    return set(files)


def scratch_counts(past: Past) -> object:
    return past.archive.status()["scratch"]


@pytest.mark.parametrize(
    "name", [".x.md.swp", "x.md~", "#x.md#", ".~lock.x.md#", ".goutputstream-AB12CD", "x.md.tmp", "x.md.tmp.77.1"]
)
def test_editors_file_gets_no_version(past: Past, name: str) -> None:
    past.version("memory/a/x.md", "one")
    before = past.archive.newest
    past.write(f"memory/a/{name}", "one, half written")
    assert past.archive.commit() == []
    assert past.archive.newest == before
    assert (past.tree / "memory/a" / name).read_text() == "one, half written"
    past.close()
    assert past.reopen() == []
    assert sum(scratch_counts(past).values()) == 1  # type: ignore[attr-defined]
    past.remove(f"memory/a/{name}")
    past.archive.commit()
    assert scratch_counts(past) == {}
    check_sound(past)


def test_emacs_lock_is_a_link_without_a_version(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    (past.tree / "memory/a/.#x.md").symlink_to("user@host.1:2")
    past.note("write", "memory/a/.#x.md")
    assert past.archive.commit() == []


@pytest.mark.parametrize(
    "name", ["x.tmp", "4913", "vendor.md", "uv.lock", "x.svg", ".env.sample", "notes.bak", "x.orig"]
)
def test_persons_file_of_a_similar_name_has_versions(past: Past, name: str) -> None:
    past.version(f"memory/a/{name}", "mine")
    assert f"memory/a/{name}" in names_in(past)


def test_save_by_rename_is_a_change_of_the_file(past: Past) -> None:
    """As vim saves: the old file becomes the backup, a new one is written, the backup is removed."""
    past.version("memory/a/x.md", "one")
    past.move("memory/a/x.md", "memory/a/x.md~")
    past.write("memory/a/x.md", "two")
    past.remove("memory/a/x.md~")
    past.archive.commit()
    past.write("memory/a/.x.md.Ab12Cd", "three")
    past.archive.commit()
    past.move("memory/a/.x.md.Ab12Cd", "memory/a/x.md")
    past.archive.commit()
    contents = []
    for _ in range(2):
        past.archive.rollbacks.undo("memory/a/x.md", ALICE)
        contents.append((past.tree / "memory/a/x.md").read_text())
    assert contents == ["two", "one"]
    check_sound(past)


def write_environment(past: Past, folder: str) -> None:
    for name in ("bin/python", "lib/python3/site-packages/pip/x.py", "lib/python3/site-packages/pip/__pycache__/x.pyc"):
        past.write(f"{folder}/{name}", "x")
    past.write(f"{folder}/pyvenv.cfg", HOME)


def test_environment_and_packages_in_a_pad_get_no_versions(past: Past) -> None:
    write_environment(past, "pad/job/env")
    past.write("pad/job/node_modules/left-pad/index.js", "x")
    past.write("pad/job/src/__pycache__/x.pyc", "x")
    past.write("pad/job/src/x.py", "mine")
    past.write("pad/job/env/notes.md", "mine, too")
    past.archive.commit()
    assert names_in(past) == {"pad/job/src/x.py", "pad/job/env/notes.md"}
    assert scratch_counts(past) == {"virtual environment": 4, "installed packages": 1, "cache": 1}
    assert (past.tree / "pad/job/env/lib/python3/site-packages/pip/x.py").exists()


def test_environment_as_the_pad_itself_leaves_a_persons_files(past: Past) -> None:
    write_environment(past, "pad/job")
    past.write("pad/job/plan.md", "mine")
    past.archive.commit()
    assert names_in(past) == {"pad/job/plan.md"}


def test_no_marker_decides_about_memory_or_about_the_pads(past: Past) -> None:
    for folder in ("memory/shared", "pad"):
        write_environment(past, folder)
        past.write(f"{folder}/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n")
    past.archive.commit()
    assert {"memory/shared/bin/python", "memory/shared/pyvenv.cfg"} <= names_in(past)
    assert {"pad/bin/python", "pad/CACHEDIR.TAG"} <= names_in(past)


def test_file_with_versions_keeps_them_when_its_folder_becomes_scratch(past: Past) -> None:
    past.version("pad/job/lib/mine.md", "one", BOB)
    past.write("pad/job/pyvenv.cfg", HOME)
    past.version("pad/job/lib/mine.md", "two", BOB)
    past.archive.rollbacks.undo("pad/job/lib/mine.md", BOB)
    assert (past.tree / "pad/job/lib/mine.md").read_text() == "one"
    past.remove("pad/job/lib/mine.md", BOB)
    past.archive.commit()
    assert names_in(past) == set()


def test_undo_of_a_folder_keeps_its_scratch_and_names_the_folder(past: Past) -> None:
    past.write("pad/job/plan.md", "mine")
    past.write("pad/job/node_modules/a/index.js", "x")
    past.archive.commit()
    outcome, _ = past.archive.rollbacks.undo("pad", ALICE, CommitFilter(principal="agent:alice"))
    assert not (past.tree / "pad/job/plan.md").exists()
    assert (past.tree / "pad/job/node_modules/a/index.js").read_text() == "x"
    assert b"pad/job" in outcome.kept
    check_sound(past)


def test_restore_does_not_replace_a_file_without_versions(past: Past) -> None:
    first = past.version("pad/job/node_modules.md", "one")
    past.write("pad/job/x.md", "one")
    past.archive.commit()
    past.write("pad/job/x.md~", "a backup")
    past.archive.commit()
    past.archive.rollbacks.restore("pad/job", first.oid, ALICE)
    assert (past.tree / "pad/job/x.md~").read_text() == "a backup"


def test_older_store_keeps_the_versions_of_scratch(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of an earlier release has versions of such files; they stay, and undo and restore know them."""
    with monkeypatch.context() as patch:
        patch.setattr("ctxfs.versions.recording.scratch.ScratchRules.reason", lambda *_: "")
        old = past.version("memory/a/x.md~", "one")
    past.version("memory/a/x.md~", "two")
    past.remove("memory/a/x.md~")
    past.archive.commit()
    past.write("memory/a/x.md~", "a new backup")
    past.archive.commit()
    outcome, _ = past.archive.rollbacks.restore("memory/a/x.md~", old.oid, ALICE)
    assert (past.tree / "memory/a/x.md~").read_text() == "a new backup"
    assert outcome.kept == [b"memory/a/x.md~"]
    check_sound(past)


def test_copy_of_a_marked_text_is_marked_without_a_version(past: Past) -> None:
    text = "the launch code of the blue rocket is otter seven heron nine zebra\n" * 3
    past.write("memory/a/x.md", text)
    os.setxattr(past.tree / "memory/a/x.md", TRUST, b"untrusted")
    os.setxattr(past.tree / "memory/a/x.md", QUARANTINED, b"true")
    past.archive.commit()
    past.write("memory/a/x.md~", text)
    past.write("pad/job/node_modules/a.js", text)
    past.archive.commit()
    for copy in ("memory/a/x.md~", "pad/job/node_modules/a.js"):
        assert os.getxattr(past.tree / copy, TRUST) == b"untrusted"
        assert os.getxattr(past.tree / copy, QUARANTINED) == b"true"


def test_forget_names_copies_without_versions(past: Past) -> None:
    text = "the launch code of the blue rocket is otter seven heron nine zebra\n"
    past.version("memory/a/x.md", text)
    past.write("memory/a/x.md~", text)
    past.archive.commit()
    core = past.archive.core
    plan = core.eraser.of_path(b"memory/a/x.md")
    assert core.eraser.copies(plan, core.eraser.phrases(plan)) == (b"memory/a/x.md~",)
