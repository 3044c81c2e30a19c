"""Test erasure, and histories shared between stores."""

import os
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.versions.recording.pathindex import ALL_COMMITS
from tests.versions.conftest import ALICE, BOB, LARGE, Past, check_sound

SECRET = b"the zanzibar password is hunter2"


def traces(past: Past, secret: bytes) -> list[str]:
    """Return every file of the store that contains `secret`, including compressed objects and packs."""
    paths = []
    for path in past.layout.root.rglob("*"):
        if not path.is_file():
            continue
        data = path.read_bytes()
        if path.parent.parent.name == "objects" and len(path.parent.name) == 2:
            data = zlib.decompress(data)
        if secret in data:
            paths.append(str(path))
    listed = past.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    return paths + [oid for oid in listed if secret in past.archive.core.ledger.repo.read(oid)]


def test_erased_file_is_in_no_version_under_any_name(past: Past) -> None:
    past.version("memory/a/first.md", SECRET)
    past.archive.snapshots.create("early")
    past.version("memory/a/first.md", SECRET + b", still")
    past.move("memory/a/first.md", "memory/a/second.md")
    past.archive.commit()
    past.version("memory/b/other.md", "kept", BOB)
    past.archive.pack(always=True)
    erased = past.archive.erasure.erase("memory/a/second.md", "", ALICE)
    assert traces(past, b"zanzibar") == []
    assert erased.elsewhere == ()
    assert os.readlink(past.tree / "memory/a/second.md").startswith("(forgotten ")
    with pytest.raises(FileNotFoundError):
        (past.tree / "memory/a/second.md").read_bytes()
    assert past.archive.reader.show("memory/b/other.md", "latest") == b"kept"
    assert past.archive.reader.resolve("early").commit.oid in past.git("rev-list", "--all")
    check_sound(past)


def test_erasure_of_a_directory_covers_large_files_and_attributes(past: Past) -> None:
    past.write("pad/t/big.bin", SECRET + os.urandom(LARGE))
    past.write("pad/t/x.md", "x")
    past.label("pad/t/x.md", "source", SECRET.decode())
    past.write("pad/u/big.bin", b"other" + os.urandom(LARGE))
    past.archive.commit()
    past.archive.erasure.erase("pad/t", "", ALICE)
    assert traces(past, b"zanzibar") == []
    assert len(list(past.archive.core.ledger.large.names())) == 1
    check_sound(past)


def test_large_file_is_erased_under_its_earlier_name_too(past: Past) -> None:
    past.version("pad/first.bin", SECRET + os.urandom(LARGE))
    past.move("pad/first.bin", "pad/second.bin")
    past.archive.commit()
    past.version("pad/second.bin", "small now")
    past.archive.erasure.erase("pad/second.bin", "", ALICE)
    assert list(past.archive.core.ledger.large.names()) == []
    assert traces(past, b"zanzibar") == []
    check_sound(past)


def test_large_file_edited_during_a_rename_of_its_directory_keeps_its_versions(past: Past) -> None:
    past.write("pad/t/big.bin", SECRET + os.urandom(LARGE))
    past.archive.commit()
    past.write("pad/t/big.bin", b"other" + os.urandom(LARGE))
    past.move("pad/t", "pad/u")
    past.archive.commit()
    assert "write pad/t/big.bin" in past.subjects("pad/u/big.bin")
    past.archive.erasure.erase("pad/u/big.bin", "", ALICE)
    assert list(past.archive.core.ledger.large.names()) == []
    assert traces(past, b"zanzibar") == []
    check_sound(past)


def test_large_file_edited_only_before_its_rename_is_erased(past: Past) -> None:
    past.version("pad/first.bin", SECRET + os.urandom(LARGE))
    past.version("pad/first.bin", "small now")
    past.move("pad/first.bin", "pad/second.bin")
    past.archive.commit()
    past.archive.erasure.erase("pad/second.bin", "", ALICE)
    assert list(past.archive.core.ledger.large.names()) == []
    assert traces(past, b"zanzibar") == []


def test_equal_content_elsewhere_is_named_but_not_erased(past: Past) -> None:
    past.version("memory/a/x.md", SECRET)
    past.version("memory/b/copy.md", SECRET, BOB)
    erased = past.archive.erasure.erase("memory/a/x.md", "", ALICE)
    assert erased.elsewhere == (b"memory/b/copy.md",)
    assert past.archive.reader.show("memory/b/copy.md", "latest") == SECRET
    past.archive.erasure.erase("memory/b/copy.md", "", ALICE)
    assert traces(past, b"zanzibar") == []


def test_writes_of_a_principal_are_erased_and_writes_of_others_stay(past: Past) -> None:
    past.version("memory/a/x.md", SECRET + b" 1", BOB)
    past.version("memory/a/x.md", "alice's own text")
    past.version("memory/a/y.md", SECRET + b" 2", BOB)
    past.archive.erasure.erase(None, "agent:bob", ALICE)
    assert traces(past, b"zanzibar") == []
    assert (past.tree / "memory/a/x.md").read_text() == "alice's own text"
    assert (past.tree / "memory/a/y.md").is_symlink()
    assert "agent:bob" not in past.git("log", "--format=%an %B")
    assert "forgotten" in past.git("log", "--format=%an")
    check_sound(past)


def test_an_erasure_that_was_killed_is_finished_at_the_next_start(past: Past) -> None:
    past.version("memory/a/x.md", SECRET)
    past.version("memory/a/y.md", "kept")
    doomed = past.archive.core.eraser.of_path(b"memory/a/x.md")
    past.archive.core.eraser._write_intent(doomed, ALICE)
    past.crash()
    past.reopen()
    assert traces(past, b"zanzibar") == []
    assert past.archive.reader.show("memory/a/y.md", "latest") == b"kept"
    check_sound(past)


def test_dry_run_names_the_paths_and_erases_nothing(past: Past) -> None:
    past.version("memory/a/x.md", SECRET)
    report = past.archive.erasure.erase("memory/a/x.md", "", ALICE, dry_run=True)
    assert (report.blobs, report.paths) == (1, (b"memory/a/x.md",))
    assert past.archive.reader.show("memory/a/x.md", "latest") == SECRET


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Past, Past]]:
    """Yield two stores and a bare repository between them, called hub."""
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "hub.git")], check=True)
    stores = Past(tmp_path / "one"), Past(tmp_path / "two")
    for store in stores:
        store.archive.remotes.add("hub", str(tmp_path / "hub.git"), is_trusted=True)
    yield stores
    for store in stores:
        store.close()


def share(one: Past, two: Past) -> None:
    """Push and pull until both stores have everything."""
    one.archive.remotes.push("hub")
    two.archive.remotes.pull("hub", BOB)
    two.archive.remotes.push("hub")
    one.archive.remotes.pull("hub", ALICE)


def test_two_stores_that_never_met_share_their_memories(pair: tuple[Past, Past]) -> None:
    one, two = pair
    big = os.urandom(LARGE)
    one.write("memory/a/x.md", "from one")
    one.label("memory/a/x.md", "kind", "fact")
    one.write("pad/big.bin", big)
    (one.tree / "memory/a/empty").mkdir()
    one.note("write", "memory/a/empty")
    one.archive.commit()
    two.version("memory/b/y.md", "from two", BOB)
    share(one, two)
    assert one.picture() == two.picture()
    assert (two.tree / "pad/big.bin").read_bytes() == big
    assert os.getxattr(two.tree / "memory/a/x.md", "user.ctx.kind") == b"fact"
    authors = {step.commit.actor.principal for step in two.archive.reader.log("memory", ALL_COMMITS, 100)}
    assert {"agent:alice", "agent:bob"} <= authors
    for store in pair:
        check_sound(store)


def test_changes_on_both_sides_are_merged_and_conflicts_keep_both(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.write("memory/a/lines.md", "".join(f"{n}\n" for n in range(20)))
    one.write("memory/a/clash.md", "base\n")
    one.write("memory/a/removed-here.md", "base\n")
    one.write("memory/a/removed-there.md", "base\n")
    one.archive.commit()
    share(one, two)
    one.write("memory/a/lines.md", "top\n" + "".join(f"{n}\n" for n in range(1, 20)))
    one.write("memory/a/clash.md", "one's\n")
    one.remove("memory/a/removed-here.md")
    one.label("memory/a/lines.md", "kind", "fact")
    one.write("memory/a/removed-there.md", "edited here\n")
    one.archive.commit()
    two.write("memory/a/lines.md", "".join(f"{n}\n" for n in range(19)) + "bottom\n", BOB)
    two.write("memory/a/clash.md", "two's\n", BOB)
    two.remove("memory/a/removed-there.md", BOB)
    two.label("memory/a/lines.md", "tags", "t", BOB)
    two.archive.commit()
    share(one, two)
    assert one.picture() == two.picture()
    text = (one.tree / "memory/a/lines.md").read_text()
    assert text.startswith("top\n1\n")
    assert text.endswith("18\nbottom\n")
    assert set(os.listxattr(one.tree / "memory/a/lines.md")) == {"user.ctx.kind", "user.ctx.tags"}
    clashes = sorted(path.name for path in (one.tree / "memory/a").glob("clash.*"))
    assert len(clashes) == 2
    assert clashes[0].startswith("clash.conflict-agent-alice-")
    assert [name.endswith(".md") for name in clashes] == [True, True], "programs know the copy by its suffix"
    assert {(one.tree / "memory/a" / name).read_text() for name in clashes} == {"one's\n", "two's\n"}
    assert not (one.tree / "memory/a/removed-here.md").exists()
    assert (one.tree / "memory/a/removed-there.md").read_text() == "edited here\n"
    two.archive.rollbacks.undo("", BOB)
    assert not list((two.tree / "memory/a").glob("*.conflict-*")), "a merge is undone like anything else"
    for store in pair:
        check_sound(store)


def test_merge_is_undone_in_one_step_without_local_changes(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.version("memory/a/x.md", "base")
    share(one, two)
    one.version("memory/a/x.md", "one's")
    one.archive.remotes.push("hub")
    two.version("memory/a/y.md", "two's own", BOB)
    two.archive.remotes.pull("hub", BOB)
    two.archive.rollbacks.undo("memory/a", BOB)
    assert (two.tree / "memory/a/x.md").read_text() == "base"
    assert (two.tree / "memory/a/y.md").read_text() == "two's own"
    two.archive.rollbacks.redo("memory/a", BOB)
    assert (two.tree / "memory/a/x.md").read_text() == "one's"
    two.archive.rollbacks.undo("memory/a/y.md", BOB)
    assert not (two.tree / "memory/a/y.md").exists()
    check_sound(two)


def test_erased_content_does_not_return_with_a_pull(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.version("memory/a/x.md", SECRET)
    share(one, two)
    one.archive.erasure.erase("memory/a/x.md", "", ALICE)
    with pytest.raises(CommandError, match="still holds what was forgotten"):
        one.archive.remotes.pull("hub", ALICE)
    assert traces(one, b"zanzibar") == []
    one.archive.remotes.push("hub", replace=True)
    assert one.archive.remotes.pull("hub", ALICE)[0].state == "current"
    check_sound(one)


def blob_of(store: Path | str, path: Path) -> str:
    """Return the id that git gives to a file's content, without writing it."""
    return subprocess.run(
        ["git", "-C", str(store), "hash-object", "--no-filters", str(path)], capture_output=True, text=True
    ).stdout.strip()


def test_large_content_travels_once_in_both_directions(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.write("memory/a/big.bin", os.urandom(LARGE))
    one.archive.commit()
    share(one, two)
    assert (two.tree / "memory/a/big.bin").read_bytes() == (one.tree / "memory/a/big.bin").read_bytes()
    blob = blob_of(one.layout.repo, one.tree / "memory/a/big.bin")
    for store in pair:
        store.archive.core.ledger.repo.close_readers()
        store.git("prune", "--expire=now")
        store.git("gc", "-q", "--prune=now")
        assert not store.archive.core.ledger.repo.has(blob), "git has no second copy of it"
    one.version("memory/a/small.md", "one")
    one.archive.remotes.push("hub")
    two.archive.remotes.pull("hub", BOB)
    assert (two.tree / "memory/a/small.md").read_text() == "one"
    for store in pair:
        assert not store.archive.core.ledger.repo.has(blob), "it was neither packed nor fetched again"
    two.write("memory/a/second.bin", os.urandom(LARGE + 1), BOB)
    two.archive.commit()
    two.archive.remotes.push("hub")
    one.archive.remotes.pull("hub", ALICE)
    assert (one.tree / "memory/a/second.bin").read_bytes() == (two.tree / "memory/a/second.bin").read_bytes()
    for store in pair:
        check_sound(store)


def test_forgotten_large_content_leaves_the_remote_with_a_replacing_push(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.write("memory/a/big.bin", SECRET * LARGE)
    one.archive.commit()
    one.write("memory/a/kept.bin", os.urandom(LARGE))
    one.archive.commit()
    share(one, two)
    assert len(contents_at_hub(one)) == 2
    one.archive.erasure.erase("memory/a/big.bin", "", ALICE)
    one.archive.remotes.push("hub", replace=True)
    assert contents_at_hub(one) == set(one.archive.core.ledger.large.names())


def test_push_removes_the_contents_of_older_stores_under_one_ref(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.write("memory/a/big.bin", os.urandom(LARGE))
    one.archive.commit()
    one.archive.remotes.push("hub")
    hub, (name,) = one.archive.remotes.urls()["hub"], contents_at_hub(one)
    git = ["git", "-C", hub, "-c", "user.name=t", "-c", "user.email=t@t"]
    ref = f"refs/ctxfs/content/{name}"
    blob = subprocess.run([*git, "rev-parse", ref], capture_output=True, text=True, check=True).stdout.strip()
    line = f"100644 blob {blob}\t{name}\n"
    tree = subprocess.run([*git, "mktree"], input=line, capture_output=True, text=True, check=True).stdout.strip()
    commit = subprocess.run([*git, "commit-tree", "-m", "x", tree], capture_output=True, text=True).stdout.strip()
    subprocess.run([*git, "update-ref", "-d", ref], check=True)
    subprocess.run([*git, "update-ref", "refs/ctxfs/large", commit], check=True)
    two.archive.remotes.pull("hub", BOB)
    assert (two.tree / "memory/a/big.bin").read_bytes() == (one.tree / "memory/a/big.bin").read_bytes()
    one.archive.remotes.push("hub")
    refs = subprocess.run([*git, "for-each-ref", "--format=%(refname)", "refs/ctxfs/"], capture_output=True, text=True)
    assert refs.stdout.split() == [ref]


def contents_at_hub(store: Past) -> set[str]:
    """Return the sha256 of each large content that the remote "hub" of a store has."""
    command = ["git", "-C", store.archive.remotes.urls()["hub"], "for-each-ref", "--format=%(refname:lstrip=3)"]
    return set(subprocess.run([*command, "refs/ctxfs/content"], capture_output=True, text=True).stdout.split())


def test_push_over_missing_remote_versions_is_refused(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.version("memory/a/x.md", "one")
    one.archive.remotes.push("hub")
    with pytest.raises(CommandError, match="versions that are not here"):
        two.archive.remotes.push("hub")


def test_push_into_a_store_is_refused(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.archive.remotes.add("direct", str(two.layout.repo))
    with pytest.raises(CommandError):
        one.archive.remotes.push("direct")
    assert two.archive.reader.resolve("latest").commit.oid == two.git("rev-parse", "HEAD").strip()


@pytest.mark.parametrize("url", ["--upload-pack=touch /tmp/x", "ext::sh -c touch", "", "a\nb"])
def test_remote_address_is_never_an_option_or_a_program(past: Past, url: str) -> None:
    with pytest.raises(OSError):
        past.archive.remotes.add("evil", url)
    assert past.archive.remotes.urls() == {}


def test_repository_of_another_program_is_refused(past: Past, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", "-b", "main", str(other)], check=True)
    (other / "setup.py").write_text("x")
    command = ["git", "-C", str(other), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*command, "add", "-A"], check=True)
    subprocess.run([*command, "commit", "-qm", "x"], check=True)
    past.archive.remotes.add("other", str(other))
    before = past.picture()
    with pytest.raises(CommandError, match="not the history of a ctxfs store"):
        past.archive.remotes.pull("other", ALICE)
    assert past.picture() == before


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("x.md", "x.conflict-agent-alice-????????.md"),
        ("Makefile", "Makefile.conflict-agent-alice-????????"),
        (".gitignore", ".gitignore.conflict-agent-alice-????????"),
        ("x.a suffix of many words", "x.a suffix of many words.conflict-agent-alice-????????"),
        ("n" * 252 + ".md", "n*.conflict-agent-alice-????????.md"),
    ],
)
def test_conflict_copy_keeps_its_suffix(pair: tuple[Past, Past], name: str, pattern: str) -> None:
    one, two = pair
    one.version(f"memory/a/{name}", "first")
    share(one, two)
    one.version(f"memory/a/{name}", "one's")
    two.version(f"memory/a/{name}", "two's", BOB)
    share(one, two)
    (copy,) = (two.tree / "memory/a").glob(pattern)
    assert copy.read_text() == "one's"
    share(one, two)
    assert len(list((two.tree / "memory/a").iterdir())) == 2


def test_conflict_copy_of_an_older_name_is_used_again(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.version("memory/a/x.md", "first")
    share(one, two)
    made = one.version("memory/a/x.md", "one's")
    old = f"memory/a/x.md.conflict-agent-alice-{made.oid[:8]}"
    two.version("memory/a/x.md", "two's", BOB)
    two.version(old, "one's", BOB)
    share(one, two)
    assert sorted(path.name for path in (two.tree / "memory/a").iterdir()) == ["x.md", old.rpartition("/")[2]]


def test_pull_of_a_path_that_is_scratch_here_keeps_both_contents(
    pair: tuple[Past, Past], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other store is of an earlier release, which has versions of such files."""
    one, two = pair
    one.version("memory/a/x.md", "first")
    share(one, two)
    with monkeypatch.context() as patch:
        patch.setattr("ctxfs.versions.recording.scratch.ScratchRules.reason", lambda *_: "")
        one.version("memory/a/x.md~", "the other's backup")
        one.version("pad/job/node_modules/a.js", "theirs")
    two.write("memory/a/x.md~", "a backup of this store", BOB)
    two.write("pad/job/node_modules/b.js", "ours", BOB)
    two.archive.commit()
    share(one, two)
    texts = {path.read_text() for path in (two.tree / "memory/a").iterdir()}
    assert texts == {"first", "the other's backup", "a backup of this store"}
    assert (two.tree / "pad/job/node_modules/a.js").read_text() == "theirs"
    assert (two.tree / "pad/job/node_modules/b.js").read_text() == "ours"
    assert not (one.tree / "pad/job/node_modules/b.js").exists(), "scratch is not pushed"
    for store in pair:
        check_sound(store)
