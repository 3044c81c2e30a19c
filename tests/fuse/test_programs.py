"""Test that common programs work in pad/ as on any file system."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import Live

pytestmark = pytest.mark.fuse


def run(*command: str, cwd: Path) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "TERM": "dumb"}
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, errors="surrogateescape", timeout=60, env=environment
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def pad(live: Live, request: pytest.FixtureRequest) -> Path:
    folder = live.at / "pad" / request.node.name
    folder.mkdir()
    return folder


@pytest.fixture
def sources(pad: Path) -> Path:
    """Return a directory in the pad with real Python files."""
    shutil.copytree(Path(os.__file__).parent / "json", pad / "json", ignore=shutil.ignore_patterns("__pycache__"))
    return pad


def test_git_init_add_commit_log_and_fsck(sources: Path) -> None:
    run("git", "init", "-q", cwd=sources)
    run("git", "add", "-A", cwd=sources)
    run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first", cwd=sources)
    (sources / "json" / "tool.py").write_text("changed\n")
    assert run("git", "status", "--short", cwd=sources).strip() == "M json/tool.py"
    assert "first" in run("git", "log", "--oneline", cwd=sources)
    run("git", "fsck", "--full", "--strict", cwd=sources)
    run("git", "clone", "-q", ".", "copy", cwd=sources)
    assert (sources / "copy" / "json" / "decoder.py").exists()


def test_compileall_writes_bytecode(sources: Path) -> None:
    run(sys.executable, "-m", "compileall", "-q", "json", cwd=sources)
    assert len(list((sources / "json" / "__pycache__").glob("*.pyc"))) == len(list((sources / "json").glob("*.py")))


@pytest.mark.parametrize("program", ["grep", "rg"])
def test_search_programs_find_matching_files(sources: Path, program: str) -> None:
    assert shutil.which(program), f"{program} is not installed; .ci/run installs it"
    command = {"grep": ("grep", "-rlE", "^def "), "rg": ("rg", "-l", "^def ")}[program]
    paths = set(run(*command, ".", cwd=sources).split())
    expected = {f"./{f.relative_to(sources)}" for f in sources.rglob("*.py") if "\ndef " in f.read_text()}
    assert paths == expected


def test_find_sees_every_file_of_a_source(live: Live) -> None:
    paths = run("find", ".", "-type", "f", "-print0", cwd=live.at / "knowledge" / "handbook").split("\0")
    assert len([name for name in paths if name]) == sum(
        f.is_file() and not f.is_symlink() for f in live.corpus.rglob("*")
    )


def test_vim_edits_in_place(sources: Path) -> None:
    assert shutil.which("vim"), "vim is not installed; .ci/run installs it"
    run("vim", "-es", "-u", "NONE", "-c", "%s/def /DEF /", "-c", "wq", "json/tool.py", cwd=sources)
    text = (sources / "json" / "tool.py").read_text()
    assert "DEF main" in text
    assert "def main" not in text


def test_vim_edits_a_context_request(live: Live, request: pytest.FixtureRequest) -> None:
    assert shutil.which("vim"), "vim is not installed; .ci/run installs it"
    task = live.at / "context" / "vim-task"
    task.mkdir()
    run("vim", "-es", "-u", "NONE", "-c", "%s/vim task/rotate keys/", "-c", "wq", "request.toml", cwd=task)
    assert "rotate keys" in (task / "request.toml").read_text()
    assert "ninety days" in (task / "context.md").read_text()
    task.rmdir()


def test_sed_edits_a_context_request_and_rm_removes_the_task(live: Live) -> None:
    task = live.at / "context" / "sed-task"
    task.mkdir()
    run("sed", "-i", "s/sed task/rotate keys/", "request.toml", cwd=task)
    assert sorted(os.listdir(task)) == ["context.md", "manifest.json", "request.toml"]
    assert "ninety days" in (task / "context.md").read_text()
    (task / "notes.txt").write_text("mine")
    assert (live.store / "tree" / "context" / "sed-task" / "notes.txt").read_text() == "mine"
    with pytest.raises(PermissionError):
        (task / "context.md").write_text("x")
    run("rm", "-r", "sed-task", cwd=live.at / "context")
    assert not task.exists()


def test_tar_and_rm_leave_no_file(sources: Path) -> None:
    run("tar", "cf", "a.tar", "json", cwd=sources)
    run("tar", "xf", "a.tar", "--one-top-level=out", cwd=sources)
    assert run("diff", "-r", "json", "out/json", cwd=sources) == ""
    run("rm", "-rf", "json", "out", "a.tar", cwd=sources)
    assert os.listdir(sources) == []


def test_sqlite_passes_its_integrity_checks(pad: Path) -> None:
    import sqlite3

    with sqlite3.connect(pad / "x.db") as database:
        database.execute("CREATE TABLE t(x)")
        database.executemany("INSERT INTO t VALUES(?)", [(n,) for n in range(500)])
    database.close()
    database = sqlite3.connect(pad / "x.db")
    assert database.execute("SELECT count(*) FROM t").fetchone() == (500,)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
