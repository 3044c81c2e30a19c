"""Test branches on real mounts: files, search, contexts, mounts of a branch, and branches of agents."""

import contextlib
import errno
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live, code_of, eventually

pytestmark = [pytest.mark.fuse, pytest.mark.long]


@pytest.fixture
def zoo(own_live: Live) -> Iterator[Live]:
    """Yield a store with three indexed files, and a branch `idea` that has changed, removed and added one."""
    folder = own_live.at / "memory" / "zoo" / "fact"
    folder.mkdir(parents=True)
    (folder / "okapi.md").write_text("okapis eat leaves in the forest\n")
    (folder / "penguin.md").write_text("penguins swim fast\n")
    (folder / "zebra.md").write_text("zebras have stripes\n")
    own_live.run("branch", "idea")
    branch = own_live.at / ".branches" / "idea" / "memory" / "zoo" / "fact"
    (branch / "okapi.md").write_text("okapis drink milk at dawn\n")
    (branch / "penguin.md").unlink()
    (branch / "lemur.md").write_text("lemurs dance sideways\n")
    own_live.run("status", "--wait", "words")
    yield own_live
    own_live.run("unmount", "--all")


def found(live: Live, root: Path, question: str) -> dict[str, str]:
    """Return the texts of the files in an answer, by name."""
    folder = root / "search" / question / "files"
    return (
        {name.partition(" ")[2]: (folder / name).read_text() for name in os.listdir(folder)} if folder.exists() else {}
    )


def test_branch_is_not_listed_and_has_files_of_its_own(zoo: Live) -> None:
    assert ".branches" not in os.listdir(zoo.at) and os.listdir(zoo.at / ".branches") == ["idea"]
    main, branch = (root / "memory/zoo/fact" for root in (zoo.at, zoo.at / ".branches/idea"))
    assert sorted(os.listdir(branch)) == ["lemur.md", "okapi.md", "zebra.md"]
    assert sorted(os.listdir(main)) == ["okapi.md", "penguin.md", "zebra.md"]
    os.rename(branch / "lemur.md", branch / "indri.md")
    os.setxattr(branch / "indri.md", "user.ctx.tags", b"ape")
    assert os.getxattr(branch / "indri.md", "user.ctx.tags") == b"ape"
    assert code_of(lambda: os.setxattr(branch / "indri.md", "user.ctx.trust", b"no such value")) == errno.EINVAL
    assert code_of(lambda: os.setxattr(branch / "indri.md", "user.x", b"1", os.XATTR_REPLACE)) == errno.ENODATA
    assert code_of(lambda: os.rmdir(branch)) == errno.ENOTEMPTY
    assert not (main / "indri.md").exists()
    versions = json.loads(zoo.run("branch", "log", "idea", "--json"))
    assert {version["tool"] for version in versions} == {"mount"}


def test_search_and_contexts_in_a_branch_see_its_files_and_no_text_of_main(zoo: Live) -> None:
    branch = zoo.at / ".branches/idea"
    in_branch, on_main = found(zoo, branch, "okapis"), found(zoo, zoo.at, "okapis")
    assert in_branch["okapi.md"] == "okapis drink milk at dawn\n"
    assert on_main["okapi.md"] == "okapis eat leaves in the forest\n"
    assert not any("penguin" in text for text in found(zoo, branch, "penguins").values())
    assert "lemur.md" in found(zoo, branch, "lemurs") and "lemur.md" not in found(zoo, zoo.at, "lemurs")
    assert "zebra.md" in found(zoo, branch, "zebras")
    below = branch / "memory" / ".search" / "okapis" / "context.md"
    assert "drink milk" in below.read_text() and "eat leaves" not in below.read_text()
    (branch / "context" / "okapis").mkdir()
    context = (zoo.at / "context" / "okapis" / "context.md").read_text()
    assert "drink milk" in context and "eat leaves" not in context and "in the branch idea" in context
    (branch / "memory/zoo/fact/okapi.md").write_text("okapis read books\n")
    assert "read books" in found(zoo, branch, "okapis")["okapi.md"]
    assert "read books" in (zoo.at / "context" / "okapis" / "context.md").read_text()


def test_patterns_in_a_session_of_a_branch_match_its_files(zoo: Live, tmp_path: Path) -> None:
    from ctxfs.rpc.client import Client

    client = Client(zoo.store / "run")
    client.call("join", branch="idea", tool="test")
    lines = client.call("grep", pattern="okapis|penguins|lemurs")["lines"]
    assert [line[:3] for line in lines] == [
        ["memory/zoo/fact/lemur.md", 1, "lemurs dance sideways"],
        ["memory/zoo/fact/okapi.md", 1, "okapis drink milk at dawn"],
    ]
    paths = client.call("glob", pattern="memory/zoo/**")["paths"]
    assert [path.rpartition("/")[2] for path in paths] == ["lemur.md", "okapi.md", "zebra.md"]
    client.close()


def test_mount_of_a_branch_shows_the_branch(zoo: Live, tmp_path: Path) -> None:
    at = tmp_path / "branch"
    zoo.run("mount", str(at), "--branch", "idea")
    file = at / "memory/zoo/fact/okapi.md"
    assert file.read_text() == "okapis drink milk at dawn\n"
    file.write_text("okapis sleep\n")
    assert (zoo.at / ".branches/idea/memory/zoo/fact/okapi.md").read_text() == "okapis sleep\n"
    assert (zoo.at / "memory/zoo/fact/okapi.md").read_text() == "okapis eat leaves in the forest\n"
    assert found(zoo, at, "okapis")["okapi.md"] == "okapis sleep\n"
    assert "branch idea" in (at / ".ctxfs/whoami").read_text()
    mounted = {Path(mount["at"]).name: mount["branch"] for mount in zoo.status()["mounts"]}
    assert mounted["branch"] == "idea"
    refused = zoo.try_run("mount", str(tmp_path / "none"), "--branch", "none")
    assert refused.returncode == 1 and "there is no branch 'none'" in refused.stderr


def test_programs_on_a_mount_of_a_branch_work_or_fail_with_a_documented_errno(zoo: Live, tmp_path: Path) -> None:
    at, source = tmp_path / "branch", tmp_path / "source"
    zoo.run("mount", str(at), "--branch", "idea")
    folder = at / "memory/zoo/fact"
    file, mode, mtime = folder / "okapi.md", (folder / "okapi.md").stat().st_mode, (folder / "okapi.md").stat().st_mtime
    os.chmod(file, mode & 0o7777)
    os.utime(file, (1, 1))
    assert file.stat().st_mtime == mtime
    for refused in (
        lambda: os.chmod(file, 0o700),
        lambda: os.link(file, folder / "hard.md"),
        lambda: os.symlink("okapi.md", folder / "soft.md"),
        lambda: os.mkfifo(folder / "fifo"),
    ):
        assert code_of(refused) == errno.EPERM
    os.rename(file, folder / "zebra.md")
    assert (folder / "zebra.md").read_text() == "okapis drink milk at dawn\n" and not file.exists()
    for versions in (folder / ".versions", folder / ".versions/zebra.md", at / ".versions/memory/zoo/fact/zebra.md"):
        assert code_of(lambda versions=versions: os.listdir(versions)) == errno.ENOENT  # type: ignore[misc]
    with contextlib.closing(sqlite3.connect(folder / "notes.sqlite")) as database:
        database.execute("create table note(text)")
        database.executemany("insert into note values(?)", [("penguin",)] * 100)
        database.commit()
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    with (
        contextlib.closing(sqlite3.connect(folder / "wal.sqlite")) as database,
        pytest.raises(sqlite3.OperationalError),
    ):
        database.executescript("pragma journal_mode=wal; create table note(text)")
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
    source.mkdir()
    (source / "readme.md").write_text("a repository\n")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], cwd=source, check=True)
    subprocess.run([*git, "clone", "-q", str(source), str(folder / "clone")], check=True)
    state = subprocess.run([*git, "status", "--short"], cwd=folder / "clone", capture_output=True, check=True)
    assert state.stdout == b"" and not (zoo.at / "memory/zoo/fact/clone").exists()


def test_acknowledged_writes_survive_a_kill_of_the_daemon(zoo: Live) -> None:
    folder = zoo.at / ".branches/idea/memory/zoo/fact"
    for number in range(5):
        (folder / f"n{number}.md").write_text(f"number {number}\n")
    os.kill(zoo.daemon_pid(), signal.SIGKILL)
    texts = eventually("the branch", lambda: _texts(folder, 5))
    assert texts == [f"number {number}\n" for number in range(5)]


def test_accepted_merge_reaches_the_files_of_main(zoo: Live) -> None:
    proposed = json.loads(zoo.run("branch", "merge", "idea", "--json"))
    folder = zoo.at / "human" / "review" / proposed["review"]
    assert "drink milk" in (folder / "change.diff").read_text()
    (folder / "verdict").write_text("accept\n")
    main = zoo.at / "memory/zoo/fact"
    assert sorted(os.listdir(main)) == ["lemur.md", "okapi.md", "zebra.md"]
    assert (main / "okapi.md").read_text() == "okapis drink milk at dawn\n"
    zoo.run("branch", "drop", "idea", "--yes")
    assert os.listdir(zoo.at / ".branches") == []
    zoo.run("history", "verify")
    zoo.run("undo", "memory/zoo/fact/okapi.md")
    assert (main / "okapi.md").read_text() == "okapis eat leaves in the forest\n"


def test_mount_of_an_agent_moves_to_its_own_branch_when_a_rule_gives_it_one(zoo: Live, tmp_path: Path) -> None:
    at = tmp_path / "alice"
    zoo.run("mount", str(at), "--principal", "agent:alice")
    (at / "memory/alice").mkdir()
    (at / "memory/alice/main.md").write_text("on main\n")
    rule = 'principal = "agent:alice"\npath = "memory/alice/**"\nverbs = "rw"\nbranch = "auto"\n'
    (zoo.at / ".ctxfs/policy.toml").write_text(f"[[rule]]\n{rule}")
    eventually("the branch", lambda: "branch agent-alice" in (at / ".ctxfs/whoami").read_text())
    eventually("no host file", lambda: _write(at / "memory/alice/own.md", "in the branch\n") and not _is_on_main(zoo))
    assert (zoo.at / ".branches/agent-alice/memory/alice/own.md").read_text() == "in the branch\n"


def _texts(folder: Path, count: int) -> list[str]:
    """Return the texts of the numbered files; none while no daemon is there."""
    try:
        return [(folder / f"n{number}.md").read_text() for number in range(count)]
    except OSError:
        return []


def _write(file: Path, text: str) -> bool:
    file.write_text(text)
    return file.read_text() == text


def _is_on_main(zoo: Live) -> bool:
    file = zoo.store / "tree/memory/alice/own.md"
    if file.exists():
        file.unlink()  # written before the mount has received its new table
        return True
    return False


def test_commands_print_json_and_have_exit_codes(offline: Live) -> None:
    assert offline.try_run("branch", "list", "--json").returncode == 3
    assert json.loads(offline.run("branch", "idea", "--json"))["name"] == "idea"
    assert offline.try_run("branch", "idea").returncode == 1
    for name in ("a..b", "a/b", "x" * 65, "é", "a.lock"):
        assert offline.try_run("branch", name).returncode == 2, name
    for command in ("diff", "log"):
        assert offline.try_run("branch", command, "idea").returncode == 3
    for command in ("diff", "log", "merge", "drop"):
        refused = offline.try_run("branch", command, "none")
        assert refused.returncode == 1 and "→ see: ctxfs branch list" in refused.stderr
    assert offline.try_run("branch", "merge", "idea").returncode == 1
    assert json.loads(offline.run("branch", "drop", "idea", "--dry-run", "--json"))["versions"] == 0
    offline.run("branch", "drop", "idea", "--yes")
    repo = offline.store / "repo.git"
    listed = subprocess.run(["git", f"--git-dir={repo}", "for-each-ref"], capture_output=True, text=True, check=True)
    assert "branch" not in listed.stdout
