"""Test that external changes are visible through the mount within a second, in content and in search."""

import os
import time
from pathlib import Path

import pytest

from tests.live import Live, eventually

pytestmark = pytest.mark.fuse

SOON = 1.0


def test_a_changed_file_is_seen_with_its_new_size(live: Live) -> None:
    real, seen = live.corpus / "chat.txt", live.at / "knowledge" / "handbook" / "chat.txt"
    assert seen.read_text() == real.read_text()
    real.write_text("Ada: something else altogether, and longer than it was before\n" * 9)
    eventually("the new content", lambda: seen.read_text() == real.read_text(), SOON)
    assert seen.stat().st_size == real.stat().st_size


def test_a_file_replaced_by_an_editor_is_seen(live: Live) -> None:
    real, seen = live.corpus / "deploy.md", live.at / "knowledge" / "handbook" / "deploy.md"
    assert seen.read_text()
    new = live.corpus / ".deploy.md.swp"
    new.write_text("# Deploying\n\nNow by hand.\n")
    os.replace(new, real)
    eventually("the new file", lambda: seen.read_text() == "# Deploying\n\nNow by hand.\n", SOON)


def test_new_file_is_visible_although_its_absence_was_cached(live: Live) -> None:
    seen = live.at / "knowledge" / "handbook" / "late.md"
    assert not seen.exists()
    (live.corpus / "late.md").write_text("late")
    eventually("the new file", seen.exists, SOON)
    assert "late.md" in os.listdir(seen.parent)


def test_deleted_file_disappears(live: Live) -> None:
    real, seen = live.corpus / "doomed.md", live.at / "knowledge" / "handbook" / "doomed.md"
    real.write_text("x")
    eventually("the file is there", seen.exists, SOON)
    real.unlink()
    eventually("the file is gone", lambda: not seen.exists(), SOON)
    assert "doomed.md" not in os.listdir(seen.parent)


def test_a_file_that_vanishes_while_it_is_read_can_be_read_to_its_end(live: Live) -> None:
    real, seen = live.corpus / "vanishing.txt", live.at / "knowledge" / "handbook" / "vanishing.txt"
    real.write_bytes(b"x" * 1_000_000)
    eventually("the file is there", seen.exists, SOON)
    with open(seen, "rb", buffering=0) as file:
        assert file.read(10) == b"x" * 10
        real.unlink()
        eventually("the name is gone", lambda: not seen.exists(), SOON)
        rest = b"".join(iter(lambda: file.read(100_000), b""))
    assert len(rest) == 999_990


def test_a_new_folder_with_files_is_seen_and_searched(live: Live) -> None:
    folder = live.corpus / "fresh" / "deep"
    folder.mkdir(parents=True)
    (folder / "note.md").write_text("an axolotl lives here")
    seen = live.at / "knowledge" / "handbook" / "fresh" / "deep" / "note.md"
    eventually("the file", seen.exists, SOON)
    answer = live.at / "search" / "axolotl" / "results.jsonl"
    eventually("the file is found", lambda: "fresh/deep/note.md" in answer.read_text(), 3)


def test_edit_is_searchable_within_a_second(live: Live) -> None:
    real = live.corpus / "rotation.md"
    answer = live.at / "search" / "mode:words narwhal" / "results.jsonl"
    assert "rotation.md" not in answer.read_text()
    start = time.monotonic()
    real.write_text(real.read_text() + "\nAsk the narwhal first.\n")
    eventually("the edit is found", lambda: "rotation.md" in answer.read_text(), SOON)
    assert time.monotonic() - start <= SOON


def test_a_file_in_the_work_tree_is_seen_through_the_mount(live: Live) -> None:
    folder = live.store / "tree" / "memory" / "shared"
    seen = live.at / "memory" / "shared" / "by-hand.md"
    assert not seen.exists()
    (folder / "by-hand.md").write_text("written into the folder itself")
    eventually("the file", seen.exists, SOON)


def test_a_change_through_one_mount_point_is_seen_through_another(live: Live, tmp_path: Path) -> None:
    other = live.at.parent / "mnt-other"
    live.run("mount", str(other))
    try:
        assert not (other / "pad" / "shared.txt").exists()
        (live.at / "pad" / "shared.txt").write_text("one")
        eventually("the new file", (other / "pad" / "shared.txt").exists, SOON)
        (live.at / "pad" / "shared.txt").write_text("two, and longer")
        eventually("the new text", lambda: (other / "pad" / "shared.txt").read_text() == "two, and longer", SOON)
    finally:
        live.run("unmount", str(other))
    assert not os.path.ismount(other)


def test_a_source_that_is_added_appears_and_one_removed_disappears(live: Live, tmp_path: Path) -> None:
    folder = tmp_path / "extra"
    folder.mkdir()
    (folder / "x.md").write_text("the pangolin document")
    assert not (live.at / "knowledge" / "extra").exists()
    live.run("add", str(folder))
    seen = live.at / "knowledge" / "extra" / "x.md"
    eventually("the source", seen.exists, SOON)
    answer = live.at / "search" / "mode:words pangolin" / "results.jsonl"
    eventually("its file is found", lambda: "extra/x.md" in answer.read_text(), 3)
    live.run("remove", "extra")
    eventually("the source is gone", lambda: not seen.exists(), SOON)
    eventually("its file is no longer found", lambda: "extra/x.md" not in answer.read_text(), 3)
    assert (folder / "x.md").exists()


def test_a_source_may_contain_the_store_and_the_mount_point(tmp_path: Path) -> None:
    """Mount as in `cd project; ctxfs add .; ctxfs mount ./context`: the tree must not contain itself."""
    live = Live(tmp_path)
    (tmp_path / "notes.md").write_text("the ocelot note")
    live.run("init")
    try:
        live.run("add", str(tmp_path), "--name", "project", "--writable")
        live.run("mount", str(live.at))
        project = live.at / "knowledge" / "project"
        assert os.listdir(project) == ["notes.md"]
        for hidden in ("store", "mnt"):
            assert not (project / hidden).exists()
            with pytest.raises(PermissionError):
                (project / hidden).mkdir()
        answer = live.at / "search" / "ocelot" / "results.jsonl"
        eventually("the note is found", lambda: "project/notes.md" in answer.read_text())
        live.wait_idle()
        assert live.status()["index"]["files"] == 1
        assert "store" not in live.run("tree", "knowledge/project")
        second = tmp_path / "mnt-second"
        live.run("mount", str(second))
        assert os.listdir(second / "knowledge" / "project") == ["notes.md"]
        eventually("the first mount hides it too", lambda: not (project / "mnt-second").exists(), SOON)
    finally:
        live.close()
