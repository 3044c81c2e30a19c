"""Test that `.ctxfs` is a store only for the user that made or confirmed it, so that others' files start no program."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ctxfs.store.layout import create_store
from ctxfs.store.registry import CONFIG_NAME
from tests.live import Live

NOBODY = 65534


class Person:
    """A user with a home folder, who runs `ctxfs` in folders."""

    def __init__(self, home: Path) -> None:
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CTXFS", "XDG_"))}
        self.environment = {**kept, "HOME": str(home)}

    def run(self, folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run `ctxfs` in a folder, without naming a store unless `words` does."""
        command = [sys.executable, "-m", "ctxfs", *words]
        return subprocess.run(
            command, cwd=folder, env=self.environment, input=stdin, capture_output=True, text=True, timeout=60
        )


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path / "home")


def hostile_store(folder: Path) -> tuple[Path, Path]:
    """Return a store below `folder` whose settings start a program, and the file that the program makes."""
    made = create_store(folder / ".ctxfs").root
    trace = folder.parent / f"{folder.name}-ran"
    (made / CONFIG_NAME).write_text(f"[context]\nsummariser = \"sh -c 'touch {trace}'\"\n")
    (made / "tree" / "memory" / "shared" / "a.md").write_text("roses are red\n" * 400)
    return made, trace


def test_own_store_is_found_below_its_folder(person: Person, tmp_path: Path) -> None:
    below = tmp_path / "project" / "deep" / "deeper"
    below.mkdir(parents=True)
    made = person.run(tmp_path / "project", "--store", ".ctxfs", "init")
    assert made.returncode == 0, made.stderr
    assert str(tmp_path / "project" / ".ctxfs") in person.run(below, "status", "--json").stdout
    assert person.run(below, "init").returncode == 0


def test_store_shipped_with_a_project_is_refused_with_the_remedy(person: Person, tmp_path: Path) -> None:
    project = tmp_path / "cloned"
    (project / "src").mkdir(parents=True)
    _, trace = hostile_store(project)
    context = ("context", "build", "roses", "--budget", "100", "--compress", "summary")
    for words in (("log",), ("init",), ("status",), ("search", "roses"), ("mcp",), ("mount", "m"), context):
        done = person.run(project / "src", *words)
        assert done.returncode == 1, (words, done)
        assert "ctxfs trust" in done.stderr
        assert "ctxfs --store" in done.stderr
    assert not trace.exists()
    assert not (project / "src" / "m").exists()


def test_trust_command_shows_started_programs_and_covers_one_store(person: Person, tmp_path: Path) -> None:
    project = tmp_path / "cloned"
    project.mkdir()
    store, _ = hostile_store(project)
    asked = person.run(project, "trust")
    assert asked.returncode != 0
    assert "summariser" in asked.stdout
    assert person.run(project, "status").returncode == 1
    assert person.run(project, "trust", "--yes").returncode == 0
    assert person.run(project, "status").returncode == 0
    for act in (shutil.copytree, shutil.move):
        other = tmp_path / f"after-{act.__name__}"
        other.mkdir()
        act(store, other / ".ctxfs")
        assert person.run(other, "status").returncode == 1
        assert person.run(other, "--store", str(other / ".ctxfs"), "status").returncode == 0
        assert person.run(other, "status").returncode == 0, "naming it once is enough"


@pytest.mark.parametrize(
    "change",
    [
        "[context]\nsummariser = 'sh x.sh'\n",
        "[context]\njudge = 'sh x.sh'\n",
        "[[server]]\nname = 'x'\ncommand = ['sh', 'x.sh']\n",
        "[endpoint]\nurl = 'http://127.0.0.1:1/v1'\n",
        "[tools]\nwalls = false\n",
        "[index]\nmodel = '/tmp/none'\n",
    ],
)
def test_setting_that_starts_a_program_is_confirmed_anew(change: str, person: Person, tmp_path: Path) -> None:
    assert person.run(tmp_path, "--store", ".ctxfs", "init").returncode == 0
    (tmp_path / ".ctxfs" / CONFIG_NAME).write_text(change)
    done = person.run(tmp_path, "ls")
    assert done.returncode == 1
    assert "has changed" in done.stderr


def test_approval_that_a_person_did_not_give_is_confirmed_anew(person: Person, tmp_path: Path) -> None:
    assert person.run(tmp_path, "--store", ".ctxfs", "init").returncode == 0
    tool = tmp_path / ".ctxfs" / "tools" / "mine"
    tool.mkdir(parents=True)
    (tool / "tool.toml").write_text('description = "d"\ncommand = ["true"]\n')
    assert person.run(tmp_path, "tools", "approve", "mine", "--yes").returncode == 0
    assert person.run(tmp_path, "ls").returncode == 0, "an approval in this store needs no second step"
    (tmp_path / ".ctxfs" / "tools.json").write_text('{"other": {"digest": "x", "definition": {}}}')
    assert person.run(tmp_path, "ls").returncode == 1


def test_replaced_store_is_another_one(person: Person, tmp_path: Path) -> None:
    assert person.run(tmp_path, "--store", ".ctxfs", "init").returncode == 0
    os.rename(tmp_path / ".ctxfs", tmp_path / "away")
    create_store(tmp_path / ".ctxfs")
    assert person.run(tmp_path, "status").returncode == 1
    os.symlink(tmp_path / "away", tmp_path / "link")
    shutil.rmtree(tmp_path / ".ctxfs")
    os.symlink(tmp_path / "away", tmp_path / ".ctxfs")
    assert person.run(tmp_path, "status").returncode == 1, "its place is another one, too"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
@pytest.mark.parametrize("foreign", [".ctxfs", ".ctxfs/ctxfs.toml"])
@pytest.mark.parametrize("named", [False, True], ids=["found", "named"])
def test_store_of_another_user_is_refused(foreign: str, named: bool, person: Person, tmp_path: Path) -> None:
    assert person.run(tmp_path, "--store", ".ctxfs", "init").returncode == 0
    os.chown(tmp_path / foreign, NOBODY, NOBODY)
    option = ("--store", ".ctxfs") if named else ()
    for words in (("status",), ("init",)):
        done = person.run(tmp_path, *option, *words)
        assert done.returncode == 1
        assert f"belongs to user {NOBODY}" in done.stderr


@pytest.mark.parametrize(("place", "mode"), [(".ctxfs", 0o777), (".ctxfs", 0o770), (".ctxfs/ctxfs.toml", 0o666)])
def test_store_that_others_may_write_is_refused(place: str, mode: int, person: Person, tmp_path: Path) -> None:
    assert person.run(tmp_path, "--store", ".ctxfs", "init").returncode == 0
    if place != ".ctxfs":
        (tmp_path / ".ctxfs").chmod(0o755)
    (tmp_path / place).chmod(mode)
    done = person.run(tmp_path, "status")
    assert done.returncode == 1
    assert "chmod go-w" in done.stderr


def test_settings_behind_a_link_are_refused(person: Person, tmp_path: Path) -> None:
    assert person.run(tmp_path, "--store", ".ctxfs", "init").returncode == 0
    os.rename(tmp_path / ".ctxfs" / CONFIG_NAME, tmp_path / "other.toml")
    os.symlink(tmp_path / "other.toml", tmp_path / ".ctxfs" / CONFIG_NAME)
    assert "no regular file" in person.run(tmp_path, "status").stderr


def test_group_umask_does_not_lock_the_owner_out(person: Person, tmp_path: Path) -> None:
    script = (
        f"umask 002; cd {tmp_path} && {sys.executable} -m ctxfs --store .ctxfs init && {sys.executable} -m ctxfs ls"
    )
    done = subprocess.run(["sh", "-c", script], env=person.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_folder_in_the_tree_is_content(own_live: Live, person: Person, tmp_path: Path) -> None:
    pad = own_live.at / "pad" / "x"
    pad.mkdir()
    (pad / ".ctxfs").mkdir()
    (pad / ".ctxfs" / CONFIG_NAME).write_text("[context]\nsummariser = 'sh x.sh'\n")
    (pad / ".ctxfs" / "tree").mkdir()
    assert person.run(pad.parent, "init").returncode == 0  # the person's own store, elsewhere
    for folder in (pad, own_live.store / "tree" / "pad" / "x"):
        done = person.run(folder, "status", "--json")
        assert done.returncode == 0, done.stderr
        assert str(tmp_path / "home") in done.stdout
        for words in (("status",), ("trust", "--yes", ".")):
            named = person.run(folder, "--store", ".ctxfs", *words)
            assert named.returncode == 1, "naming it does not help"
            assert "agents write" in named.stderr


def test_other_stores_of_a_person_are_not_shown_by_a_source(offline: Live) -> None:
    other = offline.corpus / "project" / ".ctxfs"
    create_store(other)
    assert ".ctxfs" in offline.run("ls", "knowledge/handbook/project")
    subprocess.run([*offline.command()[:3], "--store", str(other), "ls"], capture_output=True, check=True)
    assert ".ctxfs" not in offline.run("ls", "knowledge/handbook/project")
