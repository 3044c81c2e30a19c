"""Test that a process keeps its working directory in the tree during changes elsewhere."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.rpc.client import Client
from ctxfs.store.layout import Layout
from tests.live import Live, eventually, make_corpus

pytestmark = pytest.mark.fuse

# Answers each line with its working directory, or the error.
_STANDS = """
import os, sys
os.chdir(sys.argv[1])
print("here", flush=True)
for _ in sys.stdin:
    try:
        print(os.getcwd(), flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""
DIRECTORIES = (
    "pad/task/deep",
    "memory/shared/area",
    "knowledge/handbook/src",
    "knowledge",
    "context",
    "context/a-task",
    "history",
    "tools",
)
DENY = '\n[[rule]]\nprincipal = "{who}"\npath = "memory/shared/other"\nverbs = "lrwxa"\neffect = "deny"\n'


class Stander:
    """A process with a working directory."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self._process = subprocess.Popen(
            [sys.executable, "-c", _STANDS, str(at)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "here"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def where(self) -> str:
        """Return its working directory, or the error."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._line()

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with a mount of the owner and one of an agent."""
    made = Live(tmp_path_factory.mktemp("cwd"))
    made.corpus = make_corpus(made.store.parent / "corpus")
    make_corpus(made.store.parent / "second")
    made.run("init")
    made.run("add", str(made.corpus), "--name", "handbook")
    made.run("mount", str(made.at))
    made.run("mount", str(agents(made)), "--as", "agent:alice")
    for name in ("pad/task/deep", "memory/shared/area", "memory/shared/other", "context/a-task"):
        (made.at / name).mkdir(parents=True)
    yield made
    made.close()


def agents(live: Live) -> Path:
    return live.at.with_name("mnt-alice")


@contextmanager
def standing(*directories: Path) -> Iterator[None]:
    """Hold a process in each directory, and check at the end that it still has its working directory."""
    standers = [Stander(at) for at in directories]
    try:
        yield
        check(standers)
        for stander in standers:
            os.stat(stander.at)  # the kernel looks an expired name up now
        check(standers)
    finally:
        for stander in standers:
            stander.close()


@contextmanager
def bound(folder: Path, there: Path) -> Iterator[None]:
    """Hold a bind mount of `folder` with a mount inside it, and check that it stays.

    Only root can mount; for other users it does nothing.
    """
    if os.getuid():
        yield
        return
    for name in ("inside", "later"):
        (folder / name).mkdir(exist_ok=True)
    there.mkdir()
    subprocess.run(["mount", "--bind", str(folder), str(there)], check=True)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "none", str(there / "inside")], check=True)
        yield
        os.stat(folder)
        assert os.path.ismount(there / "inside")
        subprocess.run(["mount", "-t", "tmpfs", "none", str(there / "later")], check=True)
    finally:
        subprocess.run(["umount", "-R", str(there)], check=True)


def check(standers: list[Stander]) -> None:
    assert {str(stander.at): stander.where() for stander in standers} == {
        str(stander.at): str(stander.at) for stander in standers
    }


def everywhere(live: Live) -> list[Path]:
    return [
        top / name
        for top in (live.at, agents(live))
        for name in DIRECTORIES
        if (top / name).exists()  # an agent cannot see the contexts of another
    ]


def set_rules(live: Live, text: str) -> None:
    file = live.at / ".ctxfs" / "policy.toml"
    file.write_text(text)


def call(live: Live, method: str, **arguments: object) -> None:
    client = Client(Layout(live.store).run, timeout=60)
    try:
        client.call(method, **arguments)
    finally:
        client.close()


def settle(live: Live) -> None:
    """Wait until the mounts have sent all notifications to the kernel, which a commit waits for."""
    call(live, "commit")


def mount_another(live: Live) -> None:
    another = live.at.with_name("mnt-another")
    another.mkdir(exist_ok=True)
    call(live, "mount", at=str(another))
    settle(live)
    call(live, "unmount", at=str(another))


def mount_in_a_source(live: Live) -> None:
    at = live.corpus / "src" / "mnt-inside"
    at.mkdir(exist_ok=True)
    call(live, "mount", at=str(at))
    settle(live)
    assert "mnt-inside" not in os.listdir(live.at / "knowledge" / "handbook" / "src")
    call(live, "unmount", at=str(at))


def add_and_remove_a_source(live: Live) -> None:
    live.run("add", str(live.store.parent / "second"), "--name", "second")
    eventually("it is there", (live.at / "knowledge" / "second" / "deploy.md").exists)
    live.run("remove", "second")
    eventually("it is gone", lambda: not (live.at / "knowledge" / "second").exists())


def change_the_rules(live: Live) -> None:
    set_rules(live, DENY.format(who="agent:*"))
    eventually("it is denied", lambda: not (agents(live) / "memory" / "shared" / "other").exists())
    set_rules(live, DENY.format(who="human:*"))
    eventually("it is denied", lambda: not (live.at / "memory" / "shared" / "other").exists())
    (live.store / "policy.toml").write_text("")
    eventually("it is there", (live.at / "memory" / "shared" / "other").exists)


def kill_the_daemon(live: Live) -> None:
    before, directories = live.daemon_pid(), everywhere(live)
    os.kill(before, signal.SIGKILL)
    for at in directories:
        os.stat(at)  # a concurrent lookup must not get ENOENT

    def is_back() -> bool:
        try:
            return live.daemon_pid() != before and len(live.status()["mounts"]) == 2
        except (OSError, ValueError, CommandError):
            return False

    eventually("another daemon", is_back, 60)
    settle(live)


def change_modes(live: Live) -> None:
    for folder in (live.corpus, live.corpus / "src", live.store / "tree" / "pad" / "task"):
        mode = folder.stat().st_mode
        folder.chmod(0o711)
        settle(live)
        folder.chmod(mode)


def roll_back_files(live: Live) -> None:
    for text in ("one", "two"):
        for folder in ("pad/task/deep", "memory/shared/area"):
            (live.at / folder / "f").write_text(text)
        settle(live)
    live.run("undo", "memory/shared/area/f")
    live.run("undo", "pad/task/deep/f")
    assert (live.at / "memory" / "shared" / "area" / "f").read_text() == "one"


def change_much_beside_the_mount(live: Live) -> None:
    for number in range(300):
        (live.corpus / "src" / f"{number}.txt").write_text("x")
    eventually("they are there", (live.at / "knowledge" / "handbook" / "src" / "299.txt").exists)
    for number in range(300):
        (live.corpus / "src" / f"{number}.txt").unlink()
    eventually("they are gone", lambda: not (live.at / "knowledge" / "handbook" / "src" / "299.txt").exists())


TRIGGERS: tuple[Callable[[Live], None], ...] = (
    mount_another,
    mount_in_a_source,
    add_and_remove_a_source,
    change_the_rules,
    kill_the_daemon,
    change_modes,
    roll_back_files,
    change_much_beside_the_mount,
)


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: trigger.__name__)
def test_working_directories_and_mounts_inside_stay(
    live: Live, tmp_path: Path, trigger: Callable[[Live], None]
) -> None:
    with standing(*everywhere(live)), bound(live.at / "pad" / "task", tmp_path / "bound"):
        trigger(live)
        settle(live)


def test_removed_working_directory_is_gone_for_its_process(live: Live) -> None:
    """Check a removal by the mount itself, an external one, and a denial."""
    by_mount, beside, denied = (
        live.at / "pad" / "by-mount",
        live.at / "pad" / "beside",
        agents(live) / "memory" / "shared" / "other" / "in",
    )
    for at in (by_mount, beside, live.at / "memory" / "shared" / "other" / "in"):
        at.mkdir()
    standers = [Stander(at) for at in (by_mount, beside, denied.parent)]
    try:
        by_mount.rmdir()
        (live.store / "tree" / "pad" / "beside").rmdir()
        eventually("it is gone", lambda: not beside.exists())
        set_rules(live, DENY.format(who="agent:*"))
        eventually("it is denied", lambda: not denied.parent.exists())
        settle(live)
        assert [stander.where() for stander in standers] == ["No such file or directory"] * 3
    finally:
        for stander in standers:
            stander.close()
        (live.store / "policy.toml").write_text("")
