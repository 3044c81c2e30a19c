"""Test that other Unix users see a mount only if its owner lists them, and never run tools as the owner."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live, eventually
from tests.posix.test_rules import let_in

LISTED, UNLISTED = 65534, 65533
pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user: run it as root"),
]

_TRY = """
import os, sys
act, path = sys.argv[1:]
try:
    if act == "list": os.listdir(path)
    elif act == "stat": os.stat(path)
    elif act == "read": open(path).read()
    elif act == "make": open(path, "w").close()
    elif act == "call": os.close(os.open(path, os.O_RDWR))
except OSError as error:
    print(error.errno)
else:
    print(0)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a mount of root's that admits one other user."""
    live = Live(tmp_path_factory.mktemp("users"))
    live.run("init")
    config = live.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("# allow_users = []", f"allow_users = [{LISTED}]"))
    live.run("mount", str(live.at))
    let_in(live.at.parent)
    (live.at / "pad").chmod(0o777)
    (live.at / "pad" / "note.md").write_text("a note")
    yield live
    live.close()


def as_user(uid: int, act: str, path: Path) -> int:
    """Return the errno that a process of this user gets, 0 for none."""
    identity = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    # The interpreter of the tests may lie in a directory that only root can search.
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
    done = subprocess.run([*identity, python, "-c", _TRY, act, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize(
    ("act", "path"), [("list", ""), ("list", "pad"), ("stat", "pad/note.md"), ("read", "pad/note.md")]
)
def test_unlisted_user_gets_eacces_for_cached_paths_too(shared: Live, act: str, path: str) -> None:
    assert as_user(LISTED, act, shared.at / path) == 0  # from now on it is in the kernel's caches
    assert as_user(UNLISTED, act, shared.at / path) == 13
    assert as_user(0, act, shared.at / path) == 0


def test_unlisted_user_creates_nothing(shared: Live) -> None:
    assert as_user(UNLISTED, "make", shared.at / "pad" / "theirs.md") == 13
    assert as_user(LISTED, "make", shared.at / "pad" / "ours.md") == 0


def test_listed_user_does_not_run_tools_as_the_owner(shared: Live) -> None:
    call = shared.at / "tools" / "calendar" / "call"
    assert as_user(0, "call", call) == 0
    assert as_user(LISTED, "call", call) == 13


def test_daemon_that_a_mount_process_starts_has_the_umask_of_the_first(own_live: Live) -> None:
    live = own_live

    def umask() -> str:
        try:
            status = Path(f"/proc/{live.daemon_pid()}/status").read_text()
        except (OSError, ValueError):
            return ""
        return next(line.split()[1] for line in status.splitlines() if line.startswith("Umask"))

    first, pid = umask(), live.daemon_pid()
    os.kill(pid, 9)
    eventually("the next daemon", lambda: live.daemon_pid() != pid and (live.store / "run" / "socket").exists(), 60)
    assert umask() == first
