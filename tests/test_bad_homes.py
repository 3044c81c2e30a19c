"""Test users without a usable home folder: each command works with a named store, or gives the remedy."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live

NO_ACCOUNT = 54321  # no line of /etc/passwd
CLEAN = {name: value for name, value in os.environ.items() if name not in ("HOME", "CTXFS_STORE") and "XDG" not in name}
pytestmark = pytest.mark.long
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def run(
    *arguments: str, folder: Path, user: int | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run ctxfs in an environment without a home folder, but for the given variables."""
    live = Live(folder, user)
    command = live.command(*arguments)
    if "--store" not in arguments:  # the helper names one
        index = command.index("--store")
        command = command[:index] + command[index + 2 :]
    code = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run(
        command, env={**CLEAN, **code, **environment}, cwd=folder, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder that every user may use."""
    folder = tmp_path / "place"
    folder.mkdir()
    for path in (folder, tmp_path, tmp_path.parent):
        path.chmod(0o777 if path == folder else 0o755)
    yield folder


@needs_root
@pytest.mark.parametrize("environment", [{}, {"HOME": ""}, {"HOME": "relative"}], ids=["unset", "empty", "relative"])
def test_user_without_home_is_told_to_set_one(environment: dict[str, str], place: Path) -> None:
    for command in (("init",), ("ls",), ("status",), ("search", "x")):
        done = run(*command, folder=place, user=NO_ACCOUNT, **environment)
        assert done.returncode == 1, done.stdout
        assert "this user has no home folder" in done.stderr
        assert "set HOME" in done.stderr
        assert "Traceback" not in done.stderr
    assert list(place.iterdir()) == [], "nothing is made in the working directory"


def test_home_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "home"
    file.write_text("")
    for command in (("init",), ("ls",), ("mcp", "install", "cursor", "--user")):
        done = run(*command, folder=tmp_path, HOME=str(file))
        assert (done.returncode, "is no folder" in done.stderr, "set HOME" in done.stderr) == (1, True, True), (
            done.stderr
        )


@needs_root
def test_named_store_needs_no_home(place: Path) -> None:
    store = str(place / "store")
    for user, home in ((NO_ACCOUNT, {}), (NO_ACCOUNT, {"HOME": "/proc/none"})):
        for command in (("init",), ("ls",), ("status", "--json"), ("search", "nothing"), ("policy", "matrix")):
            done = run("--store", store, *command, folder=place, user=user, **home)
            assert done.returncode in (0, 3), f"{command}: {done.stdout}{done.stderr}"
            assert "Traceback" not in done.stderr


@needs_root
def test_home_that_cannot_be_written_names_another_place(place: Path) -> None:
    home = place / "home"
    home.mkdir(mode=0o755)  # of root
    done = run("init", folder=place, user=NO_ACCOUNT, HOME=str(home))
    assert done.returncode == 1
    assert "cannot make a store" in done.stderr
    assert "ctxfs --store DIR init" in done.stderr
    done = run("--store", str(place / "store"), "init", folder=place, user=NO_ACCOUNT, HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []


@needs_root
def test_store_in_a_read_only_home_names_the_remedy(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert run("init", folder=tmp_path, HOME=str(home)).returncode == 0
    remount = f"mount --bind '{home}' '{home}' && mount -o remount,ro,bind '{home}' && exec \"$@\""
    private = ["unshare", "--mount", "bash", "-c", remount, "bash"]
    if subprocess.run([*private, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here: NOT TESTED")
    code = {"PYTHONPATH": str(Path(__file__).parent.parent), "HOME": str(home)}
    for command in (("ls",), ("search", "x"), ("status",), ("log",), ("token", "issue", "agent:a"), ("init",)):
        done = subprocess.run(
            [*private, sys.executable, "-m", "ctxfs", *command],
            env={**CLEAN, **code}, cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert done.returncode == 0 or "ctxfs --store DIR" in done.stderr, f"{command}: {done.stderr}"


def test_home_of_the_account_serves_if_the_variable_is_not_set(tmp_path: Path) -> None:
    code = "import os, pwd; from ctxfs.store.user_folders import home_folder; print(home_folder() == pwd.getpwuid(os.geteuid()).pw_dir)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=CLEAN, cwd=Path(__file__).parent.parent, capture_output=True, text=True
    )
    assert done.stdout == "True\n", done.stderr
