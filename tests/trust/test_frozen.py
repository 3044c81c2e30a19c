"""Test that nothing changes a frozen memory, through any surface, until a person has lifted its state."""

import contextlib
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctxfs.model.change import Move, Put, Remove, SetMeta
from ctxfs.model.path import Path as TreePath
from ctxfs.store.rooted_fs import RENAME_EXCHANGE, rename_at
from tests.live import Live, code_of
from tests.trust.principal import PrincipalClient

pytestmark = pytest.mark.fuse

STATE, FROZEN = "user.ctx.state", "user.ctx.frozen"
TEXT = b"The keys are rotated every ninety days.\n"
Attempt = Callable[[Path], object]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("frozen"))
    made.run("init")
    made.run("mount", str(made.at))
    yield made
    made.close()


@pytest.fixture(scope="module")
def owner(live: Live) -> Iterator[PrincipalClient]:
    person = PrincipalClient(live, "human:owner")
    with contextlib.closing(person.client):
        yield person


@pytest.fixture
def path(live: Live, request: pytest.FixtureRequest) -> str:
    """Return the path of a frozen file, which has an earlier version, in a directory of its own."""
    folder = f"memory/alice/fact/t{abs(hash(request.node.name)) % 10**9}"
    (live.store / "tree" / folder).mkdir(parents=True)
    file = live.at / folder / "kept.md"
    file.write_bytes(b"an earlier version\n")
    live.run("commit")
    file.write_bytes(TEXT)
    live.run("commit")
    os.setxattr(file, STATE, b"frozen")
    return f"{folder}/kept.md"


def put(name: str) -> Attempt:
    return lambda file: (file.parent / name).write_bytes(b"other") and os.rename(file.parent / name, file)


def allocate(file: Path) -> None:
    fd = os.open(file, os.O_WRONLY)
    try:
        os.posix_fallocate(fd, 0, 100)
    finally:
        os.close(fd)


def exchange(file: Path) -> None:
    (file.parent / "other").write_bytes(b"other")
    parent = os.open(file.parent, os.O_PATH)
    try:
        rename_at(parent, b"other", parent, b"kept.md", RENAME_EXCHANGE)
    finally:
        os.close(parent)


ON_A_MOUNT: dict[str, Attempt] = {
    "write": lambda file: file.write_bytes(b"x"),
    "append": lambda file: os.close(os.open(file, os.O_WRONLY | os.O_APPEND)),
    "read and write": lambda file: os.close(os.open(file, os.O_RDWR)),
    "truncating open for reading": lambda file: os.close(os.open(file, os.O_RDONLY | os.O_TRUNC)),
    "truncate": lambda file: os.truncate(file, 3),
    "fallocate": allocate,
    "unlink": os.unlink,
    "rename": lambda file: os.rename(file, file.parent / "moved"),
    "rename over it": put("new"),
    "exchange": exchange,
    "hard link": lambda file: os.link(file, file.parent / "linked"),
    "rename of its directory": lambda file: os.rename(file.parent, f"{file.parent}-moved"),
    "setxattr": lambda file: os.setxattr(file, "user.ctx.kind", b"episodic"),
    "setxattr of others": lambda file: os.setxattr(file, "user.mine", b"x"),
    "removexattr": lambda file: os.removexattr(file, "user.ctx.kind"),
    "chmod": lambda file: os.chmod(file, 0o600),
    "chown": lambda file: os.chown(file, os.getuid(), os.getgid()),
    "utimens": lambda file: os.utime(file, (1, 1)),
}


@pytest.mark.parametrize("attempt", ON_A_MOUNT.values(), ids=ON_A_MOUNT)
def test_frozen_file_is_unchanged_by_an_attempt_on_a_mount(
    live: Live, alice: PrincipalClient, path: str, attempt: Attempt
) -> None:
    before = os.stat(live.store / "tree" / path)
    for at in (alice.at, live.at):  # agents, and people who have not lifted the state
        assert code_of(lambda at=at: attempt(at / path)) == errno.EPERM
    after = os.stat(live.store / "tree" / path)
    assert (live.store / "tree" / path).read_bytes() == TEXT
    same = ("st_ino", "st_nlink", "st_mode", "st_uid", "st_mtime_ns", "st_ctime_ns")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    assert (alice.at / path).read_bytes() == TEXT


def requests(client: PrincipalClient, path: str) -> list[Callable[[], object]]:
    """Return the requests to the daemon that would change a file."""
    tree_path, folder = TreePath.parse(path), TreePath.parse(path).parent
    client.change(Put(folder / "other", b"x"))
    changes = [
        Put(tree_path, b"x"),
        Put(tree_path, b"x", {STATE: b"active"}),
        Remove(tree_path),
        Move(tree_path, folder / "moved"),
        Move(folder, folder.parent / "moved"),
        Move(folder / "other", tree_path),
        SetMeta(tree_path, "user.ctx.kind", b"episodic"),
        SetMeta(tree_path, "user.mine", b"x"),
    ]
    return [
        *(lambda change=change: client.change(change) for change in changes),
        lambda: client.call("undo", path=path),
        lambda: client.call("restore", path=path, to="prev"),
    ]


def test_attempts_by_every_other_surface_are_refused(
    live: Live, alice: PrincipalClient, owner: PrincipalClient, path: str
) -> None:
    for client in (alice, owner):
        for number, attempt in enumerate(requests(client, path)):
            assert code_of(attempt) == errno.EPERM, (client.principal, number)
    for command in (["undo", path], ["restore", path, "--to", "prev"], ["forget", path, "--yes"]):
        done = live.try_run(*command)
        assert done.returncode == 1
        assert "frozen" in done.stderr
    for tool, arguments in (
        ("ctx_write", {"content": "x"}),
        ("ctx_edit", {"edits": [{"old": "keys", "new": "locks"}]}),
        ("ctx_delete", {}),
        ("ctx_move", {"to": f"{path}.moved"}),
    ):
        assert "frozen" in alice.mcp(tool, path=path, **arguments)
    assert (live.store / "tree" / path).read_bytes() == TEXT


@pytest.mark.parametrize("by", ["setxattr", "command"])
def test_handle_that_was_open_before_changes_nothing(live: Live, alice: PrincipalClient, path: str, by: str) -> None:
    os.setxattr(live.at / path, STATE, b"active")
    for at in (alice.at, live.at):
        fd = os.open(at / path, os.O_RDWR)
        try:
            if by == "command":
                live.run("state", path, "frozen", "--because", "it is agreed")
            else:
                os.setxattr(live.at / path, STATE, b"frozen")
            assert code_of(lambda fd=fd: os.write(fd, b"x")) == errno.EPERM
            assert code_of(lambda fd=fd: os.ftruncate(fd, 0)) == errno.EPERM
            assert code_of(lambda fd=fd: os.fchmod(fd, 0o600)) == errno.EPERM
            assert code_of(lambda fd=fd: os.posix_fallocate(fd, 0, 1000)) == errno.EPERM
        finally:
            with contextlib.suppress(OSError):
                os.close(fd)
        assert (live.store / "tree" / path).read_bytes() == TEXT
        assert (at / path).read_bytes() == TEXT
        live.run("state", path, "active")


def test_mapping_that_was_made_before_changes_nothing(tmp_path: Path) -> None:
    live = Live(tmp_path)  # with one mount point: memory of two is not mapped for writing
    live.run("init")
    live.run("mount", str(live.at))
    try:
        file = live.at / "memory" / "shared" / "x.md"
        file.write_bytes(TEXT)
        with open(file, "r+b") as out, mmap.mmap(out.fileno(), len(TEXT)) as mapped:
            os.setxattr(file, STATE, b"frozen")
            mapped[0:1] = b"x"
            with contextlib.suppress(OSError):
                mapped.flush()
            assert (live.store / "tree" / "memory" / "shared" / "x.md").read_bytes() == TEXT
        assert file.read_bytes() == TEXT
    finally:
        live.close()


def test_only_people_freeze_and_lift_that(live: Live, alice: PrincipalClient, path: str) -> None:
    file, tree_path = alice.at / path, TreePath.parse(path)
    for value in (b"active", b"archived", b"frozen"):
        assert code_of(lambda value=value: os.setxattr(file, STATE, value)) == errno.EPERM
        assert code_of(lambda value=value: alice.change(SetMeta(tree_path, STATE, value))) == errno.EPERM
    assert code_of(lambda: os.removexattr(file, STATE)) == errno.EPERM
    assert code_of(lambda: os.setxattr(file, FROZEN, b"false")) == errno.EPERM
    assert code_of(lambda: alice.change(SetMeta(tree_path, STATE, None))) == errno.EPERM
    live.run("state", path, "active", "--because", "it has to change")
    file.write_bytes(b"changed\n")
    assert code_of(lambda: os.setxattr(file, STATE, b"frozen")) == errno.EPERM
    log = live.run("log", path)
    assert "active → frozen" in log
    assert "frozen → active" in log
    assert "(it has to change)" in log
    assert code_of(lambda: alice.call("restore", path=path, to="latest")) == 0


def test_transition_is_logged_for_its_principal_also_if_others_write_at_once(
    live: Live, alice: PrincipalClient, owner: PrincipalClient, path: str
) -> None:
    owner.change(SetMeta(TreePath.parse(path), STATE, b"active"))
    alice.change(Put(TreePath.parse(path), b"changed\n"))
    lines = live.run("log", path).splitlines()
    assert ["human:" in line for line in lines if "frozen → active" in line] == [True]
    assert any("active → frozen" in line for line in lines)


def test_both_spellings_mean_the_same(live: Live, alice: PrincipalClient, path: str) -> None:
    file = live.at / path
    live.run("state", path, "active")
    os.setxattr(file, FROZEN, b"true")
    assert live.run("state", path) == "frozen\n"
    assert code_of(lambda: (alice.at / path).write_bytes(b"x")) == errno.EPERM
    assert path in live.run("meta", "find", "state:frozen")
    os.setxattr(file, STATE, b"active")
    assert FROZEN not in os.listxattr(file)
    os.setxattr(file, STATE, b"frozen")
    os.setxattr(file, FROZEN, b"false")
    assert live.run("state", path) == "active\n"
    (alice.at / path).write_bytes(b"x\n")


def test_other_names_of_a_frozen_file_are_frozen(live: Live, alice: PrincipalClient, path: str) -> None:
    live.run("state", path, "active")
    other = f"{path}.linked"
    os.link(live.at / path, live.at / other)
    live.run("state", path, "frozen")
    for at in (alice.at, live.at):
        assert code_of(lambda at=at: (at / other).write_bytes(b"x")) == errno.EPERM
        assert code_of(lambda at=at: os.unlink(at / other)) == errno.EPERM


def test_agent_brings_no_frozen_state_back(live: Live, alice: PrincipalClient, path: str) -> None:
    live.run("commit")
    revision = live.run("log", path, "-n", "1").split()[0]
    live.run("state", path, "active")
    (alice.at / path).write_bytes(b"changed\n")
    alice.call("commit")
    alice.call("restore", path=path, to=revision)
    assert (alice.at / path).read_bytes() == TEXT
    assert live.run("state", path) == "active\n"


def test_rollback_of_a_directory_leaves_its_frozen_files(live: Live, path: str) -> None:
    folder = path.rpartition("/")[0]
    for name in ("one.md", "two.md"):
        (live.at / folder / name).write_bytes(b"new\n")
    live.run("commit")
    first = live.run("log", folder).splitlines()[-1].split()[0]
    done = live.try_run("restore", folder, "--to", first)
    assert (live.at / path).read_bytes() == TEXT
    assert not (live.at / folder / "one.md").exists(), done.stderr
    assert "frozen" in done.stdout + done.stderr


def test_file_outside_of_memory_is_frozen_once_it_is_not_written_any_more(live: Live) -> None:
    file = live.at / "pad" / "task" / "x.md"
    file.parent.mkdir(parents=True)
    with open(file, "wb") as out:
        out.write(TEXT)
        out.flush()
        assert code_of(lambda: os.setxattr(file, STATE, b"frozen")) == errno.EBUSY
    os.setxattr(file, STATE, b"frozen")
    assert code_of(lambda: file.write_bytes(b"x")) == errno.EPERM
    os.setxattr(file, STATE, b"active")


def test_directory_with_many_files_is_searched_for_frozen_ones(live: Live, alice: PrincipalClient, path: str) -> None:
    wide = live.store / "tree" / path
    for number in range(1500):
        (wide.parent / f"{number}.md").write_bytes(b"")
    for at in (alice.at, live.at):
        folder = (at / path).parent
        assert code_of(lambda folder=folder: os.rename(folder, f"{folder}-moved")) == errno.EPERM
    live.run("state", path, "active")
    folder = (alice.at / path).parent
    os.rename(folder, f"{folder}-moved")
    assert Path(f"{folder}-moved", "kept.md").read_bytes() == TEXT


def test_transition_that_the_rules_refuse_is_refused(live: Live, alice: PrincipalClient, path: str) -> None:
    live.run("state", path, "archived")
    file, tree_path = alice.at / path, TreePath.parse(path)
    os.setxattr(file, STATE, b"active")
    os.setxattr(file, STATE, b"merged")
    assert code_of(lambda: os.setxattr(file, STATE, b"generated")) == errno.EPERM
    assert code_of(lambda: os.setxattr(file, STATE, b"asleep")) == errno.EINVAL
    assert code_of(lambda: os.setxattr(file.parent, STATE, b"archived")) == errno.EISDIR
    rules = live.at / ".ctxfs" / "memory.toml"
    rules.write_text("[[state.transition]]\nfrom = 'merged'\nto = '*'\nwho = 'people'\n")
    try:
        assert code_of(lambda: alice.change(SetMeta(tree_path, STATE, b"active"))) == errno.EPERM
        os.utime(live.store / "memory.toml", (1, 1))  # it has been unchanged for long
        assert code_of(lambda: os.setxattr(file, STATE, b"active")) == errno.EPERM
        live.run("state", path, "active")
    finally:
        os.unlink(live.store / "memory.toml")


@pytest.mark.parametrize("name", [STATE, FROZEN, "user.ctx.quarantined"])
def test_person_lifts_the_mark_of_a_hard_linked_file_through_any_of_its_names(live: Live, name: str) -> None:
    folder = live.at / "memory/shared/links" / name
    folder.mkdir(parents=True)
    marked, lifted = (b"frozen", b"active") if name == STATE else (b"true", b"false")
    for lifting in ("a.md", "b.md"):
        file = folder / lifting
        text = f"The door of {name} has two names, and {lifting} is one of them.\n"
        names = [folder / f"{lifting}-{letter}.md" for letter in "acz"]
        file.write_text(text)
        for other in names:
            os.link(file, other)
        live.run("commit")
        os.setxattr(names[1], name, marked)
        live.run("commit")
        assert {os.getxattr(path, name) for path in (file, *names)} == {marked}
        os.setxattr(file, name, lifted)
        live.run("commit")
        assert {os.getxattr(path, name) for path in (file, *names)} == {lifted}
        names[2].write_text("changed\n")
        assert file.read_text() == "changed\n"
