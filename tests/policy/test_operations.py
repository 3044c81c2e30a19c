"""Test that each operation requires the permissions of the table, through the kernel and through RPC alike."""

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ctxfs.model.change import Change, MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.path import Path as TreePath
from ctxfs.policy import operations
from ctxfs.policy.rules import Verb
from ctxfs.rpc.client import Client
from ctxfs.rpc.wire import change_to_wire
from tests.live import Live, code_of

pytestmark = pytest.mark.fuse
ROOT = Path(__file__).parent.parent.parent
VERBS = (Verb.READ, Verb.WRITE, Verb.CREATE, Verb.DELETE, Verb.META)
RULES = '[[rule]]\nprincipal = "agent:tester"\npath = "memory/shared/**"\nverbs = "lrwx"\n'
DENIAL = '[[rule]]\nprincipal = "agent:tester"\npath = "memory/shared/no-{0}/**"\nverbs = ["{0}"]\neffect = "deny"\n'


NUMBERS = itertools.count()


class Case(NamedTuple):
    """An operation on the file `x` of a directory that also contains `y`, and the permissions that it requires."""

    name: str
    required: Verb
    act: Callable[[Path], object]


class Request(NamedTuple):
    """The same as a change over RPC."""

    name: str
    required: Verb
    change: Callable[[TreePath], Change]


def opening(flags: int) -> Callable[[Path], object]:
    return lambda folder: os.close(os.open(folder / "x", flags))


def put_moves(*, replaces: bool) -> Verb:
    source, target = operations.move_permissions(replaces=replaces)
    return source | target


CASES = [
    Case("read", operations.READ, lambda folder: (folder / "x").read_bytes()),
    Case("write", operations.WRITE, opening(os.O_WRONLY)),
    Case("read and write", operations.open_permissions(os.O_RDWR), opening(os.O_RDWR)),
    Case("truncate at open", operations.open_permissions(os.O_TRUNC), opening(os.O_RDONLY | os.O_TRUNC)),
    Case(
        "truncate",
        operations.setattr_permissions(resizes=True, changes_metadata=False),
        lambda f: os.truncate(f / "x", 1),
    ),
    Case(
        "chmod",
        operations.setattr_permissions(resizes=False, changes_metadata=True),
        lambda f: os.chmod(f / "x", 0o600),
    ),
    Case(
        "utime",
        operations.setattr_permissions(resizes=False, changes_metadata=False),
        lambda f: os.utime(f / "x", (1, 1)),
    ),
    Case("setxattr", operations.SET_METADATA, lambda folder: os.setxattr(folder / "x", "user.ctx.tags", b"a")),
    Case("listxattr", operations.READ, lambda folder: os.listxattr(folder / "x")),
    Case(
        "create", operations.CREATE, lambda folder: os.close(os.open(folder / "new", os.O_CREAT | os.O_WRONLY, 0o600))
    ),
    Case("mkdir", operations.CREATE, lambda folder: os.mkdir(folder / "new")),
    Case("mknod", operations.CREATE, lambda folder: os.mkfifo(folder / "new")),
    Case("symlink", operations.CREATE, lambda folder: os.symlink("x", folder / "new")),
    Case("link", operations.LINK | operations.CREATE, lambda folder: os.link(folder / "x", folder / "new")),
    Case("unlink", operations.REMOVE, lambda folder: os.unlink(folder / "x")),
    Case("rmdir", operations.REMOVE, lambda folder: os.rmdir(folder / "empty")),
    Case("rename", put_moves(replaces=False), lambda folder: os.rename(folder / "x", folder / "new")),
    Case("replace", put_moves(replaces=True), lambda folder: os.rename(folder / "x", folder / "y")),
]
REQUESTS = [
    Request(
        "create",
        operations.put_permissions(exists=False, compares=False, sets_metadata=False),
        lambda f: Put(f / "new", b"n"),
    ),
    Request(
        "put",
        operations.put_permissions(exists=True, compares=False, sets_metadata=False),
        lambda f: Put(f / "x", b"n"),
    ),
    Request(
        "put with metadata",
        operations.put_permissions(exists=True, compares=False, sets_metadata=True),
        lambda folder: Put(folder / "x", b"n", {"user.ctx.tags": b"a"}),
    ),
    Request("set metadata", operations.SET_METADATA, lambda folder: SetMeta(folder / "x", "user.ctx.tags", b"a")),
    Request("mkdir", operations.CREATE, lambda folder: MakeDir(folder / "new")),
    Request("remove", operations.REMOVE, lambda folder: Remove(folder / "x")),
    Request("move", put_moves(replaces=False), lambda folder: Move(folder / "x", folder / "new")),
    Request("replace", put_moves(replaces=True), lambda folder: Move(folder / "x", folder / "y")),
]


@pytest.fixture(scope="module")
def own_live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with a directory for each permission, in which an agent has every permission but that."""
    made = Live(tmp_path_factory.mktemp("operations"))
    made.run("init")
    with open(made.store / "ctxfs.toml", "a") as settings:
        settings.write(RULES + "".join(DENIAL.format(str(verb.name).lower()) for verb in VERBS))
    made.run("mount", str(made.at), "--principal", "agent:tester")
    yield made
    made.close()


def new_folder(live: Live, verb: Verb) -> str:
    """Make a directory for which the agent lacks `verb`, with two files and an empty directory; return its path."""
    path = f"memory/shared/no-{str(verb.name).lower()}/{next(NUMBERS)}"
    folder = live.store / "tree" / path
    (folder / "empty").mkdir(parents=True)
    for name in ("x", "y"):
        (folder / name).write_text(name)
    return path


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: f"without {verb.name}")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kernel_operation_requires_exactly_the_permissions_of_the_table(own_live: Live, case: Case, verb: Verb) -> None:
    path = new_folder(own_live, verb)
    expected = errno.EACCES if case.required & verb else 0
    assert code_of(lambda: case.act(own_live.at / path)) == expected


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: f"without {verb.name}")
@pytest.mark.parametrize("request_case", REQUESTS, ids=lambda case: case.name)
def test_rpc_change_requires_exactly_the_permissions_of_the_table(
    own_live: Live, request_case: Request, verb: Verb
) -> None:
    path = TreePath.parse(new_folder(own_live, verb))
    expected = errno.EACCES if request_case.required & verb else 0
    with contextlib.closing(Client(own_live.store / "run")) as client:
        client.call("join", principal="agent:tester", tool="test")
        assert code_of(lambda: client.call("apply", change=change_to_wire(request_case.change(path)))) == expected


def test_adapters_take_permissions_from_the_table_only() -> None:
    for package in ("vfs", "fuse"):
        for file in (ROOT / "ctxfs" / package).rglob("*.py"):
            assert "Verb." not in file.read_text(), f"{file} maps an operation to permissions by itself"
