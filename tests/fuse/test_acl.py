"""Test ACLs, capabilities and other attributes through the kernel: copies keep them, and access checks use them."""

import errno
import os
import stat
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import Live, code_of, eventually

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user: run it as root"),
]
ALICE, BOB, CAROL, STAFF = 41001, 41002, 41003, 42000
ACCESS, DEFAULT, CAPABILITY = "system.posix_acl_access", "system.posix_acl_default", "security.capability"
# VFS_CAP_REVISION_2 with CAP_NET_BIND_SERVICE permitted
BIND = struct.pack("<5I", 0x02000000, 1 << 10, 0, 0, 0)


def program(*words: str | Path) -> str:
    return subprocess.run([*map(str, words)], check=True, capture_output=True, text=True).stdout


def setfacl(*words: str | Path) -> None:
    program("setfacl", *words)


def getfacl(path: Path) -> list[str]:
    return program("getfacl", "-cnE", path).split()


@pytest.fixture(scope="module", params=["direct", "trio"])
def live(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Live]:
    """Yield a mount that admits other users, with a writable source, for each transport to the kernel."""
    yield from made_in(tmp_path_factory.mktemp("acl"), 'allow_users = ["*"]', f'loop = "{request.param}"')


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a mount for root alone, where the kernel does not check the mode bits."""
    yield from made_in(tmp_path_factory.mktemp("alone"))


def made_in(folder: Path, *settings: str) -> Iterator[Live]:
    made = Live(folder)
    made.run("init")
    config = made.store / "ctxfs.toml"
    text = config.read_text()
    for setting in settings:
        key = setting.partition(" ")[0]
        (line,) = [line for line in text.splitlines() if line.startswith((f"# {key} =", f"{key} ="))]
        text = text.replace(line, setting)
    config.write_text(text)
    made.corpus.mkdir()
    made.run("add", str(made.corpus), "--name", "work", "--writable")
    made.run("mount", str(made.at))
    made.corpus.chmod(0o777)
    yield made
    made.close()


def both(live: Live, name: str) -> tuple[Path, Path]:
    """Return one file of the source, in the host folder and on the mount."""
    real, seen = live.corpus / name, live.at / "knowledge" / "work" / name
    real.write_text("text")
    eventually("it is there", seen.exists)
    return real, seen


def allowed(path: Path, uid: int, *groups: int) -> str:
    """Return the access that a user has to a file, by trying: `rw`, `r`, `w` or an empty string."""

    let_in(path.parents[3] if path.parts[-3] == "knowledge" else path.parents[1])

    def tries() -> str:
        done = ""
        for letter, flags in (("r", os.O_RDONLY), ("w", os.O_WRONLY)):
            try:
                os.close(os.open(path, flags))
                done += letter
            except PermissionError:
                pass
        return done

    return as_user(tries, uid, *groups)


def let_in(folder: Path) -> None:
    """Let other users search this temporary folder, which another run of pytest may just have closed."""
    temporary = Path(tempfile.gettempdir())
    for ancestor in (folder, *folder.parents):
        if temporary in ancestor.parents:
            ancestor.chmod(ancestor.stat().st_mode | 0o055)


def as_user(act: Callable[[], str], uid: int, *groups: int, umask: int = 0o022) -> str:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups(list(groups))
            os.setgid(groups[0] if groups else uid)
            os.setuid(uid)
            os.umask(umask)
            os.write(writing, act().encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


CASES = {
    "mask shown as group bits": (f"u::rw,u:{ALICE}:rw,g::---,m::rw,o::---", 0o600),
    "named user with less than others": (f"u::rw,u:{ALICE}:---,g::r,m::r,o::r", 0o644),
    "named group": (f"u::rw,g::---,g:{STAFF}:rw,m::rw,o::---", 0o600),
    "named group with less than others": (f"u::rw,g::r,g:{STAFF}:---,m::r,o::rw", 0o644),
    "mask that takes": (f"u::rw,u:{ALICE}:rw,g::rw,m::r,o::---", 0o600),
}
USERS = {"alice": (ALICE,), "bob": (BOB,), "bob in staff": (BOB, STAFF), "carol in the group": (CAROL, 0)}


@pytest.mark.parametrize("case", CASES)
def test_callers_are_judged_by_the_acl(live: Live, case: str) -> None:
    acl, mode = CASES[case]
    real, seen = both(live, case.replace(" ", "-"))
    real.chmod(mode)
    setfacl("--set", acl, real)
    eventually("it is seen", lambda: seen.stat().st_ctime_ns == real.stat().st_ctime_ns)
    is_native = "direct" in (live.store / "ctxfs.toml").read_text()
    for name, who in USERS.items():
        natively, here = allowed(real, *who), allowed(seen, *who)
        if is_native:
            assert here == natively, name
        else:  # pyfuse3 passes no ACLs on: no user gets more than the ACL grants
            assert set(here) <= set(natively), name


def test_acl_is_set_read_and_removed_by_its_programs(live: Live) -> None:
    real, seen = both(live, "programs")
    setfacl("-m", f"u:{ALICE}:rw,g:{STAFF}:r", seen)
    assert getfacl(seen) == getfacl(real) and f"user:{ALICE}:rw-" in getfacl(seen)
    if 'loop = "trio"' not in (live.store / "ctxfs.toml").read_text():
        assert ACCESS in os.listxattr(seen)
        assert stat.S_IMODE(seen.stat().st_mode) == stat.S_IMODE(real.stat().st_mode)
        seen.chmod(0o640)
        assert "mask::r--" in getfacl(real) == getfacl(seen)
    setfacl("-b", seen)
    assert getfacl(seen) == getfacl(real) and ACCESS not in os.listxattr(real)


def test_acl_is_set_and_read_where_root_is_alone(alone: Live) -> None:
    real, seen = both(alone, "programs")
    assert getfacl(seen) == getfacl(real) == ["user::rw-", "group::r--", "other::r--"]
    setfacl("-m", f"u:{ALICE}:rw", seen)
    assert getfacl(seen) == getfacl(real) and f"user:{ALICE}:rw-" in getfacl(seen)
    assert [line[10] for line in program("ls", "-l", seen.parent).splitlines() if line.endswith("programs")] == ["+"]
    setfacl("-b", seen)
    assert getfacl(seen) == getfacl(real) and code_of(lambda: os.getxattr(seen, ACCESS)) == errno.ENODATA


@pytest.mark.parametrize("umask", (0o022, 0o077))
def test_new_files_have_the_default_acl_or_else_the_umask(live: Live, alone: Live, umask: int) -> None:
    if 'loop = "trio"' in (live.store / "ctxfs.toml").read_text():
        pytest.skip("pyfuse3 applies the umask always: a new file never has more than its default ACL gives")
    for mount, who in ((live, BOB), (alone, 0)):
        name = f"folder-{umask:o}"
        for at in (mount.corpus / name, mount.at / "knowledge" / "work" / f"{name}-m"):
            at.mkdir()
            at.chmod(0o777)
            (at / "plain").mkdir()
            (at / "plain").chmod(0o777)
            (at / "default").mkdir()
            (at / "default").chmod(0o777)
            setfacl("-d", "-m", f"u:{ALICE}:rwx,g::rx,o::-", at / "default")
        native, seen = mount.corpus / name, mount.at / "knowledge" / "work" / f"{name}-m"

        def make(at: Path) -> Callable[[], str]:
            def act() -> str:
                for below in ("plain", "default"):
                    os.close(os.open(at / below / "f", os.O_CREAT | os.O_WRONLY, 0o666))
                    os.mkdir(at / below / "d", 0o777)
                    os.mknod(at / below / "p", stat.S_IFIFO | 0o666)
                return "made"

            return act

        let_in(mount.at.parent)
        for at in (native, seen):
            assert as_user(make(at), who, umask=umask) == "made"
        for below in ("plain/f", "plain/d", "plain/p", "default/f", "default/d", "default/p"):
            assert getfacl(seen / below) == getfacl(native / below), below
            assert (seen / below).stat().st_mode == (native / below).stat().st_mode, below


def test_archives_and_copies_keep_acls(live: Live, tmp_path: Path) -> None:
    if 'loop = "trio"' in (live.store / "ctxfs.toml").read_text():
        pytest.skip("pyfuse3 shows modes that the ACL narrows")
    _, seen = both(live, "archived")
    setfacl("-m", f"u:{ALICE}:rw", seen)
    program("tar", "--acls", "-C", seen.parent, "-cf", tmp_path / "a.tar", seen.name)
    into = seen.parent / "unpacked"
    into.mkdir()
    program("tar", "--acls", "-C", into, "-xf", tmp_path / "a.tar")
    program("cp", "-a", seen, into / "copied")
    program("cp", "-a", seen, tmp_path / "out")
    for copy in (into / "archived", into / "copied", tmp_path / "out"):
        assert getfacl(copy) == getfacl(seen), copy


def test_capability_is_given_by_root_alone_and_ends_with_a_write(live: Live, alone: Live) -> None:
    for mount in (live, alone):
        real, seen = both(mount, "capable")
        assert code_of(lambda seen=seen: os.getxattr(seen, CAPABILITY)) == errno.ENODATA  # type: ignore[misc]
        program("setcap", "cap_net_bind_service=p", seen)
        assert os.getxattr(real, CAPABILITY) == os.getxattr(seen, CAPABILITY) == BIND
        assert CAPABILITY in os.listxattr(seen)
        with seen.open("a") as file:
            file.write("changed")
        assert CAPABILITY not in os.listxattr(real) and CAPABILITY not in os.listxattr(seen)
        program("setcap", "cap_net_bind_service=p", real)
        eventually("it is seen", lambda seen=seen: CAPABILITY in os.listxattr(seen))  # type: ignore[misc]
        assert eventually("it is read", lambda seen=seen: value_of(seen, CAPABILITY)) == BIND  # type: ignore[misc]
        program("setcap", "-r", seen)
        assert CAPABILITY not in os.listxattr(real)


def value_of(path: Path, name: str) -> bytes:
    try:
        return os.getxattr(path, name)
    except OSError:
        return b""


def test_other_users_give_no_file_a_privilege(live: Live) -> None:
    real, seen = both(live, "theirs")
    let_in(live.at.parent)
    os.chown(real, BOB, BOB)
    eventually("it is seen", lambda: seen.stat().st_uid == BOB)
    os.setxattr(seen, "trusted.note", b"root's")
    os.setxattr(seen, "security.note", b"root's")

    def act() -> str:
        codes = [
            code_of(lambda name=name, value=value: os.setxattr(seen, name, value))  # type: ignore[misc]
            for name, value in ((CAPABILITY, BIND), ("trusted.mine", b"x"), ("security.mine", b"x"))
        ]
        codes.append(code_of(lambda: os.getxattr(seen, "trusted.note")))
        return repr((codes, [name for name in os.listxattr(seen) if name.startswith("trusted.")]))

    assert as_user(act, BOB) == repr(([errno.EPERM] * 3 + [errno.ENODATA], []))
    assert os.getxattr(real, "trusted.note") == os.getxattr(seen, "trusted.note") == b"root's"
    assert "trusted.note" in os.listxattr(seen)


def test_agent_gives_no_file_a_privilege_even_as_root(own_live: Live) -> None:
    at = own_live.at.with_name("mnt-agent")
    own_live.run("mount", str(at), "--as", "agent:alice")
    file = at / "pad" / "f"
    file.write_text("x")
    for name, value in ((CAPABILITY, BIND), ("trusted.mine", b"x"), ("security.mine", b"x")):
        assert code_of(lambda name=name, value=value: os.setxattr(file, name, value)) == errno.EPERM  # type: ignore[misc]
    assert os.listxattr(own_live.store / "tree" / "pad" / "f") == []


def test_acl_opens_no_more_to_an_agent_than_the_policy(own_live: Live) -> None:
    real = own_live.corpus / "rotation.md"
    at = own_live.at.with_name("mnt-agent")
    own_live.run("mount", str(at), "--as", "agent:alice")
    setfacl("-m", f"u:{BOB}:rwx,g::rwx,m::rwx", real)
    seen = at / "knowledge" / "handbook" / "rotation.md"
    eventually("it is seen", lambda: f"user:{BOB}:r-x" in getfacl(seen))
    assert not [line for line in getfacl(seen) if "w" in line]
    assert not seen.stat().st_mode & 0o222
