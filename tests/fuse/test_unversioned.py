"""Test the absence of versions on a real mount: for reads, and for environments and files of editors."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live, make_corpus

pytestmark = pytest.mark.fuse


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("unversioned"))
    made.corpus = make_corpus(made.store.parent / "corpus")
    made.run("init")
    made.run("add", str(made.corpus), "--name", "handbook", "--writable")
    made.run("mount", str(made.at))
    made.wait_idle()
    yield made
    made.close()


def newest(live: Live) -> str:
    """Commit waiting changes, and return the newest version."""
    live.run("commit")
    return str(live.status()["versions"]["newest"])


def changed_since(live: Live, before: str) -> set[str]:
    """Return the paths that the versions after `before` changed."""
    live.run("commit")
    lines = json.loads(live.run("log", "--json", "--stat", "-n", "100"))
    commits = lines[: next(i for i, line in enumerate(lines) if line["revision"] == before)]
    return {change["path"] for commit in commits for change in commit["changes"]}


def test_reading_makes_no_version(live: Live) -> None:
    """`cat` of a context builds and delivers it; `rg` and `grep -r` do so for every context on the mount."""
    for name in ("rotate-keys", "deploy"):
        (live.at / "context" / name).mkdir()
    (live.at / "memory" / "shared" / "x.md").write_text("keys\n")
    before = newest(live)
    for task in (live.at / "context").iterdir():
        assert (task / "context.md").read_text()
        assert (task / "stream").read_text() != ""
        assert (task / "delta.md").read_text()
    for command in (["grep", "-rn", "keys", str(live.at)], ["rg", "--hidden", "keys", str(live.at)]):
        assert subprocess.run(command, capture_output=True, check=False).returncode in (0, 2)
    subprocess.run(["find", str(live.at), "-type", "f"], capture_output=True, check=True)
    assert newest(live) == before
    assert "loads.jsonl" in os.listdir(live.at / "context" / "deploy")
    assert not list((live.store / "tree" / "context").rglob("loads.jsonl"))
    answer = json.loads(live.try_run("search", "--json", "loads.jsonl snapshot sha256").stdout)
    assert not [hit for hit in answer["hits"] if "loads" in hit["path"]], "search finds no record"


def test_undone_task_leaves_no_folder(live: Live) -> None:
    """Reading its context records deliveries, which must not keep the task from being removed."""
    task = live.at / "context" / "undone"
    task.mkdir()
    live.run("commit")
    assert (task / "context.md").read_text()
    assert (task / "stream").read_text() is not None
    session = json.loads(live.run("log", "context/undone", "--json"))[0]["session"]
    live.run("undo", "context/undone", "--session", session)
    assert not task.exists()
    assert not (live.store / "tree" / "context" / "undone").exists()
    assert "undone" not in os.listdir(live.at / "context")
    assert "nothing" in live.run("undo", "context/undone", "--session", session), "it is undone already"


def test_vim_makes_one_version_of_the_file_it_writes(live: Live) -> None:
    file = live.at / "memory" / "shared" / "plan.md"
    file.write_text("first\n")
    before = newest(live)
    script = [
        "set swapfile backup writebackup updatecount=1 backupskip= backupdir=. directory=.",
        "normal osecond",
        "preserve",
        "write",
        "normal othird",
        "wq",
    ]
    command = ["vim", "-u", "NONE", "-es", *(part for line in script for part in ("-c", line)), str(file)]
    subprocess.run(command, stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert file.read_text() == "first\nsecond\nthird\n"
    assert (file.parent / "plan.md~").exists(), "vim kept its backup"
    assert changed_since(live, before) == {"memory/shared/plan.md"}
    assert "plan.md~" not in os.listdir(file.parent / ".versions")
    assert live.status()["versions"]["scratch"] == {"editor's file": 1}
    live.run("undo", "memory/shared/plan.md")
    assert file.read_text() != "first\nsecond\nthird\n"
    (file.parent / "plan.md~").unlink()


def test_environment_and_packages_in_a_pad_make_no_version(live: Live) -> None:
    pad = live.at / "pad" / "job"
    pad.mkdir()
    before = newest(live)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(pad / "env")], check=True, timeout=120)
    packages = next((pad / "env" / "lib").iterdir()) / "site-packages" / "zebra"
    packages.mkdir()
    modules = pad / "web" / "node_modules" / "left-pad"
    modules.mkdir(parents=True)
    for number in range(100):
        (packages / f"m{number}.py").write_text("x = 1\n")
        (modules / f"m{number}.js").write_text("let x = 1\n")
    (pad / "web" / "package.json").write_text("{}\n")
    files = {path for path in changed_since(live, before) if (live.at / path).is_file()}
    assert files == {"pad/job/web/package.json"}
    counts = live.status()["versions"]["scratch"]
    assert counts["installed packages"] == 100
    assert counts["virtual environment"] >= 102
    assert "without versions: virtual environment" in live.run("status")
    undone = live.try_run("undo", "pad/job", "--principal", "human:" + os.environ.get("USER", "root"))
    assert not (pad / "web" / "package.json").exists(), undone.stderr
    assert (modules / "m1.js").read_text() == "let x = 1\n", "an undo removes nothing that it cannot bring back"
    assert Path(packages / "m1.py").exists()


def test_noise_in_a_pad_is_not_embedded(live: Live) -> None:
    live.wait_idle()
    index = live.status()["index"]
    assert index["noise"]["virtual environment"] >= 100
    assert index["embeddable"] < index["chunks"]
    assert index["waiting_for_meaning"] == 0
