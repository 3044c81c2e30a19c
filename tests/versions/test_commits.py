"""Test the content and the author of versions."""

import contextlib
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest

from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.recording.pathindex import ALL_COMMITS, CommitFilter
from tests.versions.conftest import ALICE, BOB, LARGE, Past, check_sound


def test_version_has_principal_time_and_reason_and_plain_git_shows_it(past: Past) -> None:
    who = Actor("agent:alice", "s1", "mcp", "because of\nlines <b>")
    past.version("memory/a/x.md", "one", who)
    shown = past.git("log", "-1", "--format=%an%n%s%n%(trailers:only,unfold)")
    assert shown.splitlines()[:2] == ["agent:alice", "write memory/a/x.md"]
    for line in ("Ctxfs-Principal: agent:alice", "Ctxfs-Session: s1", "Ctxfs-Tool: mcp", "Ctxfs-Op: write"):
        assert line in shown
    assert "Ctxfs-Reason: because of lines" in shown
    assert past.git("show", "HEAD:memory/a/x.md") == "one"


def test_changes_of_each_session_are_versions_of_their_own(past: Past) -> None:
    past.write("memory/a/x.md", "alice")
    past.write("memory/b/y.md", "bob", BOB)
    past.write("memory/a/z.md", "alice again")
    made = past.archive.commit()
    assert [(commit.actor.principal, commit.subject) for commit in made] == [
        ("agent:bob", "write memory/b/y.md"),
        ("agent:alice", "write 2 paths: memory/a/x.md, memory/a/z.md"),
    ]


def test_unchanged_file_makes_no_version(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    past.write("memory/a/x.md", "one")
    past.write("memory/a/new.md", "x")
    past.remove("memory/a/new.md")
    assert past.archive.commit() == []


def test_a_rename_keeps_the_history_of_a_file(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    past.move("memory/a/x.md", "memory/b/y.md")
    past.write("memory/b/y.md", "two")
    past.archive.commit()
    past.version("memory/b/y.md", "three")
    contents = [past.archive.reader.content_of(shown) for shown in past.archive.reader.versions("memory/b/y.md")]
    assert contents == [b"one", b"two", b"three"]
    assert len(past.archive.reader.log("memory/b/y.md", ALL_COMMITS, 10)) == 3


def test_a_renamed_directory_takes_the_history_of_its_files_along(past: Past) -> None:
    past.version("pad/t/deep/x.md", "one")
    past.move("pad/t", "pad/u")
    past.archive.commit()
    past.version("pad/u/deep/x.md", "two")
    contents = [past.archive.reader.content_of(shown) for shown in past.archive.reader.versions("pad/u/deep/x.md")]
    assert contents == [b"one", b"one", b"two"]


def test_file_replaced_by_rename_keeps_its_versions(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    past.version("memory/a/.x.md.new", "two")
    past.move("memory/a/.x.md.new", "memory/a/x.md")
    past.archive.commit()
    contents = [past.archive.reader.content_of(shown) for shown in past.archive.reader.versions("memory/a/x.md")]
    assert contents == [b"one", b"two"]


def test_names_that_git_refuses_or_reserves_are_stored(past: Past) -> None:
    names = [
        b".x~note.md", b".n~note.md", b".n~.x~y", b".git", b".GIT", b".git ", b"git~1", b".gitmodules", b".gitignore",
        b"caf\xe9.md", "日本.md".encode(), b"a\nb", b"a\tb", b'quo"te', b"back\\slash", b"-dash", b"~", b"n" * 250,
    ]  # fmt: skip
    folder = os.fsencode(past.tree / "pad" / "odd")
    os.mkdir(folder)
    for name in names:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"content of " + name)
        past.note("write", "pad/odd/" + os.fsdecode(name))
    past.archive.commit()
    before = past.picture()
    for name in names:
        os.unlink(os.path.join(folder, name))
        past.note("remove", "pad/odd/" + os.fsdecode(name))
    past.archive.commit()
    past.archive.rollbacks.undo("pad/odd", ALICE)
    assert past.picture() == before
    check_sound(past)


def test_repository_in_a_pad_is_restored_completely(past: Past) -> None:
    work = past.tree / "pad" / "code"
    subprocess.run(["git", "init", "-q", str(work)], check=True)
    (work / "main.py").write_text("print(1)\n")
    command = ["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*command, "add", "-A"], check=True)
    subprocess.run([*command, "commit", "-qm", "first"], check=True)
    past.archive.commit([b"pad/code"])
    head = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, check=True).stdout
    subprocess.run(["rm", "-rf", str(work)], check=True)
    past.archive.commit([b"pad/code"])
    past.archive.rollbacks.undo("pad/code", ALICE)
    assert subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, check=True).stdout == head
    assert subprocess.run([*command, "fsck", "--full"], capture_output=True).returncode == 0
    check_sound(past)


def test_a_clone_with_plain_git_has_the_files(past: Past, tmp_path: Path) -> None:
    past.version("memory/a/x.md", "one")
    past.label("memory/a/x.md", "kind", "fact")
    past.archive.commit()
    subprocess.run(["git", "clone", "-q", str(past.layout.repo), str(tmp_path / "clone")], check=True)
    assert (tmp_path / "clone" / "memory" / "a" / "x.md").read_text() == "one"
    assert (tmp_path / "clone" / "memory" / "a" / ".x~x.md").read_text() == '{"xattrs": {"user.ctx.kind": "fact"}}\n'


def test_a_large_file_lies_beside_git_and_reads_the_same(past: Past) -> None:
    data = os.urandom(LARGE * 2)
    past.version("pad/big.bin", data)
    past.version("pad/big.bin", b"small")
    shown = past.archive.reader.versions("pad/big.bin")
    assert [past.archive.reader.content_of(version) for version in shown] == [data, b"small"]
    assert [version.change.size for version in shown] == [len(data), 5]
    assert len(past.git("cat-file", "-p", f"{shown[0].commit.oid}:pad/big.bin")) < 200
    past.archive.rollbacks.restore("pad/big.bin", "prev", ALICE)
    assert (past.tree / "pad/big.bin").read_bytes() == data


def test_text_that_looks_like_a_pointer_stays_text(past: Past) -> None:
    past.version("pad/big.bin", os.urandom(LARGE))
    pointer = past.git("cat-file", "-p", "HEAD:pad/big.bin")
    past.version("pad/text", pointer)
    assert past.archive.reader.content_of(past.archive.reader.versions("pad/text")[0]) == pointer.encode()


def test_write_to_one_name_of_a_hard_link_is_a_version_of_the_other(past: Past) -> None:
    past.version("pad/one", "first")
    os.link(past.tree / "pad/one", past.tree / "pad/two")
    past.note("write", "pad/two")
    past.archive.commit()
    past.version("pad/two", "second")
    assert past.archive.reader.show("pad/one", "latest") == b"second"
    check_sound(past)


def test_many_simultaneous_removals_are_one_version_and_recreated_files_stay(past: Past) -> None:
    """Missing names are not looked up one by one: other writers to the directory would have to wait."""
    names = [f"pad/many/{number:03}.txt" for number in range(120)]
    for name in names:
        past.write(name, name)
    past.write("pad/other/a.txt", "a")
    past.archive.commit()
    for name in names:
        past.remove(name)
    past.write("pad/many/050.txt", "again")
    past.write("pad/many/zz.txt", "new")
    past.write("pad/other/b.txt", "b")
    past.remove("pad/other/a.txt")
    (made,) = past.archive.commit()
    kept = set(past.git("ls-tree", "-r", "--name-only", made.oid, "pad").split())
    assert kept >= {"pad/many/050.txt", "pad/many/zz.txt", "pad/other/b.txt"}
    assert not kept & ({*names, "pad/other/a.txt"} - {"pad/many/050.txt"})
    assert past.archive.commit() == []


def test_fifos_and_sockets_are_left_alone(past: Past) -> None:
    os.mkfifo(past.tree / "pad" / "pipe")
    past.note("write", "pad/pipe")
    past.write("pad/x", "1")
    past.archive.commit()
    past.archive.rollbacks.undo("pad", ALICE)
    assert (past.tree / "pad" / "pipe").is_fifo()


def test_log_is_filtered_by_principal_session_and_time(past: Past) -> None:
    first = past.version("memory/a/x.md", "1")
    past.version("memory/a/x.md", "2", BOB)
    third = past.version("memory/a/y.md", "3")

    def found(path: str = "", **wanted: object) -> list[str]:
        return [step.commit.oid for step in past.archive.reader.log(path, CommitFilter(**wanted), 10)]  # type: ignore[arg-type]

    assert found(principal="agent:alice") == [third.oid, first.oid]
    assert found("memory/a/x.md", session="s-alice") == [first.oid]
    assert found(since_ns=third.time_ns) == [third.oid]
    assert third.oid not in found(until_ns=third.time_ns - 1)


def test_path_that_never_existed_differs_from_an_unchanged_one(past: Past) -> None:
    with pytest.raises(FileNotFoundError):
        past.archive.reader.log("memory/mispelt.md", ALL_COMMITS, 10)
    with pytest.raises(FileNotFoundError):
        past.archive.rollbacks.undo("memory/mispelt.md", ALICE)


def test_revisions_are_named_by_prefix_snapshot_and_time(past: Past) -> None:
    commit = past.version("memory/a/x.md", "one")
    past.archive.snapshots.create("release-1")
    past.version("memory/a/x.md", "two")
    for name in (commit.oid, commit.oid[:8], "release-1"):
        assert past.archive.reader.show("memory/a/x.md", name) == b"one"
    for name in ("latest", "now", "0s-ago", "2999-01-01", "2999-01-01T10:00"):
        assert past.archive.reader.show("memory/a/x.md", name) == b"two"
    for name in ("yesterday", "1999-01-01", "no-such", "ffffffff", "--help", ""):
        if name:
            with pytest.raises(FileNotFoundError):
                past.archive.reader.resolve(name)


def test_blame_names_the_author_of_each_line(past: Past) -> None:
    past.version("memory/a/x.md", "one\ntwo\n")
    past.version("memory/a/x.md", "one\nTWO\nthree\n", BOB)
    lines = past.archive.reader.blame("memory/a/x.md", "latest")
    assert [(line.principal, line.text) for line in lines] == [
        ("agent:alice", b"one"),
        ("agent:bob", b"TWO"),
        ("agent:bob", b"three"),
    ]


def test_blame_is_that_of_git_through_moves_removals_and_changes_of_other_files(past: Past) -> None:
    past.version("memory/a/x.md", "one\ntwo\nthree\nfour\nfive\n")
    past.version("memory/a/other.md", "other\n")
    past.version("memory/a/x.md", "one\nTWO\nthree\nfour\nfive\n", BOB)
    past.version("memory/a/other.md", "other\nfile\n", BOB)
    past.move("memory/a/x.md", "memory/b/y.md")
    past.archive.commit()
    past.version("memory/b/y.md", "zero\none\nTWO\nthree\nfour\nfive\n")
    past.version("memory/a/other.md", "another\n")
    past.remove("memory/b/y.md")
    past.archive.commit()
    past.version("memory/b/y.md", "one\nagain\n", BOB)
    repo = past.archive.core.ledger.repo
    for step in past.archive.reader.log("", ALL_COMMITS, 100):
        for path in ("memory/a/x.md", "memory/b/y.md", "memory/a/other.md"):
            try:
                lines = past.archive.reader.blame(path, step.commit.oid)
            except FileNotFoundError:
                continue
            names = past.git("ls-tree", "-r", "--name-only", step.commit.oid).splitlines()
            name = path if path in names else "memory/a/x.md"
            plain = repo.run("blame", "--porcelain", "-s", step.commit.oid, "--", name).decode()
            found = re.findall(r"^([0-9a-f]{40}) \d+ \d+", plain, re.MULTILINE)
            assert [line.commit for line in lines] == found, (step.commit.subject, path)


def test_sparse_large_file_stays_sparse_in_versions_and_after_restore(past: Past) -> None:
    size, image = 2 * 2**30, past.tree / "pad" / "disk.img"
    image.parent.mkdir(exist_ok=True)
    with open(image, "wb") as file:
        for at in (0, 2**30, size - 5):
            os.pwrite(file.fileno(), b"data!", at)
    past.note("write", "pad/disk.img")
    (made,) = past.archive.commit()
    past.remove("pad/disk.img")
    past.archive.commit()
    kept = sum(file.stat().st_blocks * 512 for file in past.layout.large.rglob("*") if file.is_file())
    assert kept < 2**20
    past.archive.rollbacks.restore("pad/disk.img", made.oid, ALICE)
    attributes = image.stat()
    assert (attributes.st_size, attributes.st_blocks * 512 < 2**20) == (size, True)
    with open(image, "rb") as file:
        assert [os.pread(file.fileno(), 5, at) for at in (0, 100, 2**30, size - 5)] == [
            b"data!",
            bytes(5),
            b"data!",
            b"data!",
        ]
    with pytest.raises(OSError, match="too large to be shown"):
        past.archive.reader.content_of(past.archive.reader.versions("pad/disk.img")[0])


def test_objects_are_written_while_packing_removes_their_folders(past: Past) -> None:
    """`git repack -d` deletes emptied folders, between any two steps of a writer."""
    repo, done = past.archive.core.ledger.repo, threading.Event()

    def prune() -> None:
        while not done.is_set():
            for number in range(256):
                with contextlib.suppress(OSError):
                    os.rmdir(repo.folder / "objects" / f"{number:02x}")

    pruning = [threading.Thread(target=prune) for _ in range(2)]
    for thread in pruning:
        thread.start()
    try:
        written = [repo.write("blob", f"text {number}".encode()) for number in range(1500)]
    finally:
        done.set()
        for thread in pruning:
            thread.join()
    assert [repo.read(oid) for oid in written[::100]] == [f"text {number}".encode() for number in range(0, 1500, 100)]


def test_time_before_the_first_version_names_the_beginning(past: Past) -> None:
    past.version("memory/a/x.md", "one")
    with pytest.raises(FileNotFoundError, match="this store begins at") as refused:
        past.archive.reader.resolve("3d-ago")
    first = past.archive.reader.log("", ALL_COMMITS, 100)[-1].commit
    assert first.time_text in str(refused.value)
    with pytest.raises(FileNotFoundError, match="a time such as 1h-ago"):
        past.archive.reader.resolve("no-such-thing")
