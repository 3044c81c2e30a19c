"""Run the rules of POSIX on the host's own file system, in `pad/` and in `memory/`, as root and as an ordinary user."""

import errno
import os
import stat
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import Live
from tests.posix.rules import NEEDS_ROOT, NEEDS_USER, RULES

NOBODY = 65534
PLACES = ("native", "pad", "memory")
CASES = [
    (place, who, name)
    for place in PLACES
    for name in RULES
    for who in ("root", "user")
    if not (who == "user" and name in NEEDS_ROOT) and not (who == "root" and name in NEEDS_USER)
] + [(place, "owner", name) for place in PLACES[1:] for name in RULES if name not in NEEDS_ROOT]
pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user: run it as root"),
]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with a mount that admits other users of the machine."""
    made = Live(tmp_path_factory.mktemp("posix"))
    made.run("init")
    config = made.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("# allow_users = []", 'allow_users = ["*"]'))
    made.run("mount", str(made.at))
    let_in(made.at.parent)
    yield made
    made.close()


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store and a mount of an ordinary user, for this user alone.

    The device is open to all users, as udev makes it.
    """
    folder = tmp_path_factory.mktemp("owned")
    let_in(folder)
    os.chown(folder, NOBODY, NOBODY)
    device = Path("/dev/fuse")
    before = stat.S_IMODE(device.stat().st_mode)
    device.chmod(0o666)
    made = Live(folder, NOBODY)
    try:
        made.run("init")
        made.run("mount", str(made.at))
        yield made
    finally:
        device.chmod(before)
        made.close()


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("native")
    let_in(folder)
    return folder


def let_in(folder: Path) -> None:
    """Let other users search this temporary folder."""
    temporary = Path(tempfile.gettempdir())
    for ancestor in (folder, *folder.parents):
        if temporary in ancestor.parents:
            ancestor.chmod(ancestor.stat().st_mode | 0o055)


def as_user(check: Callable[[Path], None], at: Path, uid: int) -> None:
    """Run a check in a process of that user; a failure there fails here."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(reading)
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.umask(0o022)
            check(at)
            code = 0
        except BaseException:
            os.write(writing, traceback.format_exc()[-4000:].encode())
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, told


@pytest.mark.parametrize(("place", "who", "name"), CASES, ids=["-".join(case) for case in CASES])
def test_rule_of_posix_holds(place: str, who: str, name: str, live: Live, owned: Live, native: Path) -> None:
    """Run as root and as a user on root's mount that admits others, and as a user on the user's own mount."""
    mount = owned.at if who == "owner" else live.at
    top = {"native": native, "pad": mount / "pad", "memory": mount / "memory" / "shared"}[place]
    at = top / f"{name[:60]}-{who}"
    if who == "owner":
        as_user(Path.mkdir, at, NOBODY)
        as_user(RULES[name], at, NOBODY)
        return
    at.mkdir()
    if who == "user":
        os.chown(at, NOBODY, NOBODY)
        as_user(RULES[name], at, NOBODY)
    else:
        as_user(RULES[name], at, 0)


def test_mount_of_a_user_refuses_all_other_users(owned: Live) -> None:
    """Even root is refused, unless the mount admits it."""
    for at in (owned.at, owned.at / "pad"):
        with pytest.raises(PermissionError) as refused:
            os.listdir(at)
        assert refused.value.errno == errno.EACCES
