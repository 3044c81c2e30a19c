"""Test versions on a real mount, through programs and the command line."""

import contextlib
import errno
import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live, code_of, eventually

pytestmark = pytest.mark.fuse


@pytest.fixture
def place(live: Live, request: pytest.FixtureRequest) -> Path:
    """Return a directory in memory for this test alone."""
    made = live.at / "memory" / "past" / request.node.name[:60].replace("[", "-").replace("]", "")
    made.mkdir(parents=True)
    return made


def run(live: Live, *arguments: str) -> str:
    return live.run(*arguments)


def in_tree(live: Live, path: Path) -> str:
    return str(path.relative_to(live.at))


def versions(path: Path) -> list[str]:
    names = os.listdir(path.parent / ".versions" / path.name)
    return sorted(name for name in names if name[:1].isdigit())


def test_every_write_is_a_version_soon_after_it(live: Live, place: Path) -> None:
    file = place / "x.md"
    for text in ("one", "two", "three"):
        file.write_text(text)
        before = text
        eventually("a version", lambda text=before: file.exists() and _newest(file) == text)  # type: ignore[misc]
    names = versions(file)
    assert [name[:5] for name in names] == ["0001_", "0002_", "0003_"]
    assert all(name.endswith(".md") for name in names)
    assert [(place / ".versions" / "x.md" / name).read_text() for name in names] == ["one", "two", "three"]
    assert os.readlink(place / ".versions" / "x.md" / "latest") == names[-1]
    assert (place / ".versions" / "x.md" / "prev").read_text() == "two"
    assert len((place / ".versions" / "x.md" / "log").read_text().splitlines()) == 3


def _newest(file: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return (file.parent / ".versions" / file.name / "latest").read_text()
    return ""


def test_views_are_hidden_from_programs_that_walk(live: Live, place: Path) -> None:
    (place / "x.md").write_text("one")
    run(live, "commit")
    assert os.listdir(place) == ["x.md"]
    assert ".snapshots" not in os.listdir(live.at)
    paths = subprocess.run(["find", str(place)], capture_output=True, text=True, check=True).stdout.split()
    assert paths == [str(place), str(place / "x.md")]


def test_an_old_version_is_restored_with_cp(live: Live, place: Path) -> None:
    file = place / "x.md"
    file.write_text("one")
    run(live, "commit")
    file.write_text("two")
    run(live, "commit")
    subprocess.run(["cp", str(place / ".versions" / "x.md" / "prev"), str(file)], check=True)
    assert file.read_text() == "one"
    file.unlink()
    run(live, "commit")
    assert versions(file)
    subprocess.run(["cp", str(place / ".versions" / "x.md" / versions(file)[1]), str(file)], check=True)
    assert file.read_text() == "two"
    assert file.stat().st_mode & 0o777 == 0o644, "a restored file can be written again"


def test_versions_of_a_removed_directory_are_reached_from_its_parent(live: Live, place: Path) -> None:
    (place / "gone" / "deep").mkdir(parents=True)
    (place / "gone" / "deep" / "x.md").write_text("one")
    run(live, "commit")
    subprocess.run(["rm", "-r", str(place / "gone")], check=True)
    run(live, "commit")
    past = place / ".versions" / "gone" / "deep" / "x.md"
    assert (past / "latest").read_text() == "one"
    assert os.listdir(place / ".versions") == ["gone"]


def test_path_without_versions_is_reported(live: Live, place: Path) -> None:
    assert os.listdir(live.at / "knowledge" / "handbook" / ".versions") == []
    assert code_of(lambda: os.listdir(live.at / "knowledge" / "handbook" / ".versions" / "rotation.md")) == errno.ENOENT
    assert code_of(lambda: os.listdir(place / ".versions" / "never.md")) == errno.ENOENT
    assert code_of(lambda: os.listdir(live.at / ".snapshots" / "no-such-thing")) == errno.ENOENT


def test_versions_cannot_be_written(live: Live, place: Path) -> None:
    (place / "x.md").write_text("one")
    run(live, "commit")
    newest = place / ".versions" / "x.md" / versions(place / "x.md")[-1]
    assert code_of(lambda: newest.write_text("forged")) in (errno.EACCES, errno.EROFS, errno.EPERM)
    assert code_of(lambda: newest.unlink()) in (errno.EROFS, errno.EPERM, errno.EACCES)
    assert code_of(lambda: (live.at / ".snapshots" / "now" / "memory" / "new").mkdir()) in (errno.EROFS, errno.EPERM)
    assert newest.read_text() == "one"


def test_snapshot_shows_the_whole_tree_of_its_time(live: Live, place: Path) -> None:
    (place / "x.md").write_text("one")
    os.symlink("x.md", place / "link")
    os.chmod(place / "x.md", 0o640)
    name = f"snap-{place.name[:40]}"
    run(live, "snapshot", name)
    (place / "x.md").write_text("two")
    revision = json.loads(run(live, "log", in_tree(live, place / "x.md"), "--json"))[0]["revision"]
    for when, text in ((name, "one"), (revision, "two"), (revision[:10], "two"), ("now", "two")):
        then = live.at / ".snapshots" / when / in_tree(live, place)
        assert (then / "x.md").read_text() == text
        assert (then / "x.md").stat().st_size == len(text)
        assert os.readlink(then / "link") == "x.md"
    assert (live.at / ".snapshots" / name / in_tree(live, place) / "x.md").stat().st_mode & 0o777 == 0o640
    assert name in os.listdir(live.at / ".snapshots")
    run(live, "snapshot", "--delete", name)
    assert name not in os.listdir(live.at / ".snapshots")


def test_undo_and_redo_are_visible_through_the_kernel_at_once(live: Live, place: Path) -> None:
    file = place / "x.md"
    for text in ("1", "22", "333"):
        file.write_text(text)
        run(live, "commit")
        assert file.read_text() == text
    for text in ("22", "1"):
        run(live, "undo", in_tree(live, file))
        assert (file.read_text(), file.stat().st_size) == (text, len(text))
    run(live, "redo", str(file))
    assert file.read_text() == "22"
    file.unlink()
    assert not file.exists()
    run(live, "undo", in_tree(live, place))
    assert file.read_text() == "22"


def test_an_open_reader_keeps_its_content_during_a_rollback(live: Live, place: Path) -> None:
    file = place / "x.md"
    file.write_text("first")
    run(live, "commit")
    file.write_text("second")
    with open(file, "rb", buffering=0) as reader:
        assert reader.read(3) == b"sec"
        run(live, "undo", in_tree(live, file))
        assert file.read_text() == "first"
        assert reader.read() == b"ond"


def test_rollback_updates_search(live: Live, place: Path) -> None:
    word = "quillfeather" + place.name[-8:].replace("_", "")
    file = place / "x.md"
    file.write_text(f"about {word}")
    run(live, "commit")

    def found() -> bool:
        return in_tree(live, file) in (live.at / "search" / f"mode:words {word}" / "results.jsonl").read_text()

    eventually("the text is found", found)
    file.write_text("something else")
    eventually("it is no longer found", lambda: not found())
    run(live, "undo", in_tree(live, file))
    eventually("it is found again", found)
    run(live, "meta", "set", in_tree(live, file), "kind=procedural", f"tags={word}")
    tagged = live.at / "search" / f"tag:{word}" / "results.jsonl"
    eventually("the tag is found", lambda: in_tree(live, file) in tagged.read_text())
    run(live, "undo", in_tree(live, file))
    eventually("the tag is gone with the rollback", lambda: in_tree(live, file) not in tagged.read_text())


def test_open_handle_blocks_no_commit(live: Live, place: Path) -> None:
    with open(place / "open.md", "w") as held:
        held.write("begun, not closed")
        held.flush()
        (place / "other.md").write_text("closed")
        eventually("the closed file has a version", lambda: os.listdir(place / ".versions") == ["other.md"])
    eventually("now both have", lambda: os.listdir(place / ".versions") == ["open.md", "other.md"])


def test_commit_includes_files_that_are_still_open(live: Live, place: Path) -> None:
    with open(place / "open.md", "w") as held:
        held.write("half")
        held.flush()
        run(live, "commit")
        assert (place / ".versions" / "open.md" / "latest").read_text() == "half"
        held.write(" and whole")
    run(live, "commit")
    assert (place / ".versions" / "open.md" / "latest").read_text() == "half and whole"


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Live]:
    """Yield a store that waits a minute before it commits by itself."""
    made = Live(tmp_path)
    made.run("init")
    config = made.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("[versions]", "[versions]\nwindow_ms = 60000"))
    made.run("mount", str(made.at))
    yield made
    made.close()


def test_fsync_and_the_end_of_a_session_cut_the_window(patient: Live) -> None:
    memory = patient.at / "memory" / "shared"
    (memory / "waits.md").write_text("waits")
    fd = os.open(memory / "synced.md", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"synced")
    os.fsync(fd)
    eventually("the version of the synced file", lambda: len(os.listdir(memory / ".versions")) == 2, 5)
    os.close(fd)
    (memory / "last.md").write_text("just before unmounting")
    patient.run("unmount", "--all")
    log = subprocess.run(
        ["git", f"--git-dir={patient.store}/repo.git", "log", "-1", "--format=%an %s"], capture_output=True, text=True
    ).stdout
    assert log.startswith("human:root write")
    assert "memory/shared/last.md" in log


def test_external_edit_becomes_a_version(live: Live, place: Path) -> None:
    (live.store / "tree" / in_tree(live, place) / "by-hand.md").write_text("edited in the store itself")
    eventually("a version of it", lambda: "by-hand.md" in os.listdir(place / ".versions"))
    record = json.loads(live.run("log", in_tree(live, place / "by-hand.md"), "--json"))[0]
    assert (record["op"], record["principal"]) == ("outside", "human:root")


def test_edit_without_a_daemon_is_recovered_at_the_next_start(own_live: Live) -> None:
    live = own_live
    (live.at / "memory" / "shared" / "x.md").write_text("before")
    live.run("unmount", "--all")
    (live.store / "tree" / "memory" / "shared" / "x.md").write_text("edited meanwhile")
    live.run("mount", str(live.at))
    newest = json.loads(live.run("log", "memory/shared/x.md", "--json"))[0]
    assert (newest["op"], newest["principal"]) == ("recovered", "human:root")
    assert live.run("show", "memory/shared/x.md") == "edited meanwhile"


def test_versions_name_their_principal(own_live: Live) -> None:
    live = own_live
    live.run("mount", str(live.at.parent / "mnt-alice"), "--as", "agent:alice")
    alice = live.at.parent / "mnt-alice" / "memory" / "alice" / "by-alice.md"
    alice.parent.mkdir()
    alice.write_text("x")
    (live.at / "memory" / "shared" / "by-root.md").write_text("y")
    live.run("commit")
    who = {
        v["subject"].split("/")[-1]: v["principal"] for v in json.loads(live.run("log", "memory", "-n", "2", "--json"))
    }
    assert who == {"by-alice.md": "agent:alice", "by-root.md": "human:root"}
    assert os.getxattr(live.at / "memory" / "alice" / "by-alice.md", "user.ctx.author") == b"agent:alice"
    (live.at / "memory" / "alice" / "by-alice.md").write_text("changed by root")
    refused = live.try_run("undo", "--principal", "agent:alice")
    assert refused.returncode == 1
    assert "memory/alice/by-alice.md" in refused.stderr
    live.run("undo", "memory/alice/by-alice.md")
    assert (live.at / "memory" / "alice" / "by-alice.md").read_text() == "x"


def test_attributes_are_checked_by_the_kernel_s_rules(live: Live, place: Path) -> None:
    file = place / "x.md"
    file.write_text("one")
    for name, value, code in (
        ("kind", b"Fact!", errno.EINVAL),
        ("confidence", b"1.5", errno.EINVAL),
        ("confidence", b"high", errno.EINVAL),
        ("expires_at", b"soon", errno.EINVAL),
        ("pinned", b"yes", errno.EINVAL),
        ("tags", b"a b", errno.EINVAL),
        ("no_such", b"x", errno.EINVAL),
        ("description", b"\xff", errno.EINVAL),
        ("description", b"x" * 3000, errno.E2BIG),
        ("revision", b"x", errno.EPERM),
        ("sha256", b"x", errno.EPERM),
    ):
        assert code_of(lambda name=name, value=value: os.setxattr(file, f"user.ctx.{name}", value)) == code, name
    for name, value in (
        ("kind", b"fact"),
        ("confidence", b"0.85"),
        ("expires_at", b"2027-01-01"),
        ("pinned", b"true"),
        ("tags", b"deploy, keys"),
        ("description", "über\nzwei Zeilen".encode()),
        ("source", b"mail:123#4-9"),
        ("trust", b"trusted"),
    ):
        os.setxattr(file, f"user.ctx.{name}", value)
        assert os.getxattr(file, f"user.ctx.{name}") == value
    assert code_of(lambda: os.getxattr(file, "user.ctx.supersedes")) == errno.ENODATA
    assert code_of(lambda: os.removexattr(file, "user.ctx.supersedes")) == errno.ENODATA
    assert code_of(lambda: os.removexattr(file, "user.ctx.revision")) == errno.EPERM
    short = subprocess.run(["getfattr", "-d", str(file)], capture_output=True, text=True, check=True).stdout
    assert 'user.ctx.kind="fact"' in short


def test_people_alone_set_trust(own_live: Live) -> None:
    live = own_live
    live.run("mount", str(live.at.parent / "mnt-alice"), "--as", "agent:alice")
    file = live.at.parent / "mnt-alice" / "memory" / "alice" / "x.md"
    file.parent.mkdir()
    file.write_text("one")
    for name, value in (("trust", b"trusted"), ("frozen", b"true"), ("quarantined", b"false")):
        assert code_of(lambda name=name, value=value: os.setxattr(file, f"user.ctx.{name}", value)) == errno.EPERM
    os.setxattr(file, "user.ctx.kind", b"fact")
    os.setxattr(live.at / "memory" / "alice" / "x.md", "user.ctx.trust", b"trusted")


def test_attributes_of_an_open_file_are_those_of_the_file(live: Live, place: Path) -> None:
    with open(place / "x.md", "w") as file:
        os.setxattr(file.fileno(), "user.ctx.kind", b"fact")
        assert os.getxattr(file.fileno(), "user.ctx.kind") == b"fact"
        assert os.getxattr(place / "x.md", "user.ctx.kind") == b"fact"
        os.removexattr(file.fileno(), "user.ctx.kind")
        assert code_of(lambda: os.getxattr(place / "x.md", "user.ctx.kind")) == errno.ENODATA


def test_computed_attributes_describe_a_file(live: Live, place: Path) -> None:
    file = place / "x.md"
    file.write_text("hello there\n")
    run(live, "commit")
    shown = json.loads(run(live, "meta", "get", in_tree(live, file), "--json"))
    assert shown["author"] == "human:root"
    assert shown["sha256"] == hashlib.sha256(b"hello there\n").hexdigest()
    assert 2 <= int(shown["tokens"]) <= 10
    assert shown["revision"] == json.loads(run(live, "log", in_tree(live, file), "--json"))[0]["revision"]
    eventually(
        "search has seen this revision",
        lambda: os.getxattr(file, "user.ctx.indexed").decode() == os.getxattr(file, "user.ctx.revision").decode(),
    )
    file.write_text("other\n")
    assert os.getxattr(file, "user.ctx.indexed") in (b"pending", os.getxattr(file, "user.ctx.revision"))
    assert os.getxattr(live.at / "knowledge" / "handbook" / "rotation.md", "user.ctx.sha256")


def test_files_are_found_by_attributes(live: Live, place: Path) -> None:
    for name, confidence in (("sure", "0.9"), ("unsure", "0.3")):
        (place / f"{name}.md").write_text(f"a claim that is {name}")
        run(
            live, "meta", "set", in_tree(live, place / f"{name}.md"), f"confidence={confidence}", "tags=claim,attr-test"
        )

    def found(*filters: str) -> list[str]:
        done = live.try_run("meta", "find", *filters, "--below", in_tree(live, place), "--json")
        return sorted(Path(path).stem for path in json.loads(done.stdout))

    eventually("both are found by tag", lambda: found("tag:attr-test") == ["sure", "unsure"])
    assert found("tag:attr-test", "confidence:>0.8") == ["sure"]
    assert found("confidence:<0.5") == ["unsure"]
    assert found("tag:attr-test", "kind:fact") == []
    assert "sure.md" in (live.at / "search" / "confidence:>=0.9 claim" / "results.jsonl").read_text()
    assert live.try_run("meta", "find", "no filter here").returncode == 1
    run(live, "meta", "set", in_tree(live, place / "sure.md"), "confidence=0.2")
    eventually("a changed attribute is found anew", lambda: found("confidence:>0.8") == [])


def test_forget_requires_confirmation_and_leaves_a_link_only(own_live: Live) -> None:
    live = own_live
    live.wait_idle()
    file = live.at / "memory" / "shared" / "secret.md"
    file.write_text("the zanzibarword")
    live.run("commit")
    live.wait_idle()
    eventually("it is found", lambda: "secret.md" in live.try_run("search", "mode:words", "zanzibarword").stdout)
    refused = live.try_run("forget", "memory/shared/secret.md", input="n\n")
    assert refused.returncode == 130
    assert file.read_text() == "the zanzibarword"
    live.run("forget", "--yes", "memory/shared/secret.md")
    assert file.is_symlink()
    assert code_of(lambda: file.read_text()) == errno.ENOENT
    assert code_of(lambda: os.listdir(file.parent / ".versions" / "secret.md")) == 0

    def gone() -> bool:
        live.run("status")
        left = subprocess.run(["grep", "-rlaF", "zanzibarword", str(live.store)], capture_output=True, text=True).stdout
        return left == ""

    eventually("no file of the store holds it", gone)
    live.wait_idle()
    assert gone()


def test_many_writers_and_a_rollback_of_another_directory_do_not_wait_for_each_other(live: Live, place: Path) -> None:
    for folder in ("writers", "rolled"):
        (place / folder).mkdir()
    failures: list[Exception] = []

    def write(number: int) -> None:
        try:
            for round_number in range(30):
                (place / "writers" / f"{number}.md").write_text(f"{number} {round_number}")
        except OSError as error:
            failures.append(error)

    (place / "rolled" / "x.md").write_text("1")
    run(live, "commit")
    (place / "rolled" / "x.md").write_text("2")
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    run(live, "undo", in_tree(live, place / "rolled"))
    for thread in threads:
        thread.join()
    assert failures == []
    assert (place / "rolled" / "x.md").read_text() == "1"
    assert {p.read_text() for p in (place / "writers").iterdir()} == {f"{n} 29" for n in range(4)}
