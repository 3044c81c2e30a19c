"""Test the membership of one store, without a daemon."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from ctxfs.model.change import Put
from ctxfs.model.errors import CommandError
from ctxfs.model.path import ROOT
from ctxfs.model.path import Path as TreePath
from ctxfs.mounts.folders import create_memory_mount
from ctxfs.mounts.replica import ReplicaMount
from ctxfs.policy.rule_history import RuleHistory
from ctxfs.services.erasure import DerivedErasure
from ctxfs.services.sharing import Sharing
from ctxfs.services.sources import SettingsFile
from ctxfs.shared.log import Unreachable
from ctxfs.store.settings import SharedSettings
from tests.versions.conftest import Past


def _no_erasure() -> DerivedErasure:
    raise AssertionError("no entry of these tests orders an erasure")


class Membership:
    """A store and its membership in a shared store."""

    def __init__(self, folder: Path, name: str) -> None:
        self.past = Past(folder / name)
        self.name = name
        layout = self.past.layout
        self.sharing = Sharing(
            layout,
            SettingsFile(layout),
            self.past.archive,
            RuleHistory(layout.policy_history),
            "human:owner",
            _no_erasure,
        )

    def close(self) -> None:
        self.sharing.close()
        self.past.close()


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    folder = tmp_path / "engine"
    folder.mkdir()
    return folder


@pytest.fixture
def join(tmp_path: Path, engine: Path) -> Iterator[Callable[..., Membership]]:
    """Return a function that makes a store a node, with further settings."""
    members: list[Membership] = []

    def make(name: str, **settings: object) -> Membership:
        member = Membership(tmp_path, name)
        members.append(member)
        values = {"url": f"file://{engine}", "node": name, **settings}
        member.sharing.join(SharedSettings(**values), is_new=len(members) == 1)  # type: ignore[arg-type] # by name
        return member

    yield make
    for member in members:
        member.close()


def test_note_names_the_waiting_versions_while_the_engine_is_not_reached(
    join: Callable[..., Membership], engine: Path
) -> None:
    one = join("one")
    assert one.sharing.note() == ""
    away = engine.rename(engine.with_name("away"))
    one.past.write("memory/a/x.md", "x\n")
    one.past.archive.commit()
    with pytest.raises(Unreachable):
        one.sharing.exchange()
    note = one.sharing.note()
    assert note.startswith("shared: not reached since 20") and note.endswith(", 1 version waits")
    one.past.write("memory/a/y.md", "y\n")
    one.past.archive.commit()
    with pytest.raises(Unreachable):
        one.sharing.exchange()
    assert one.sharing.note().endswith(", 2 versions wait")
    away.rename(engine)
    one.sharing.exchange()
    assert one.sharing.note() == ""


def test_store_that_is_not_shared_has_no_note(tmp_path: Path) -> None:
    alone = Membership(tmp_path, "alone")
    assert alone.sharing.note() == "" and alone.sharing.status() == {} and alone.sharing.health() == []
    alone.close()


def settle(*members: Membership) -> None:
    for _ in range(3):
        for member in members:
            member.sharing.exchange()


def test_read_only_node_follows_and_publishes_nothing(join: Callable[..., Membership]) -> None:
    one, two = join("one"), join("two", read_only=True)
    one.past.write("memory/a/x.md", "from one\n")
    two.past.write("memory/a/own.md", "made before it was refused\n")
    settle(one, two)
    assert (two.past.tree / "memory/a/x.md").read_text() == "from one\n"
    assert not (one.past.tree / "memory/a/own.md").exists()
    assert not two.sharing.has_news() and two.sharing.status()["waiting"] == 0
    with pytest.raises(OSError, match="follows 'main' read-only: write at another node") as refused:
        two.sharing.check_writable()
    assert refused.value.errno == errno.EROFS
    one.sharing.check_writable()
    two.sharing.leave()
    two.sharing.check_writable()


def test_replica_as_of_an_entry_stays_there(join: Callable[..., Membership]) -> None:
    one = join("one")
    one.past.write("memory/a/x.md", "first\n")
    settle(one)
    entry = one.sharing.status()["entry"]
    assert isinstance(entry, int)
    one.past.write("memory/a/x.md", "second\n")
    settle(one)
    two = join("two", read_only=True, at=entry)
    settle(two)
    assert (two.past.tree / "memory/a/x.md").read_text() == "first\n"
    assert two.sharing.status()["entry"] == entry
    assert not two.sharing.wait(), "later entries are no news"


def test_writable_node_cannot_follow_up_to_an_entry(join: Callable[..., Membership]) -> None:
    join("one")
    with pytest.raises(CommandError, match="only a read-only node"):
        join("two", at=1)


def test_areas_of_a_read_only_node_refuse_changes(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    reasons = [""]
    mount = ReplicaMount(create_memory_mount(tmp_path), lambda: reasons[0])
    change = Put(TreePath(("x.md",)), b"x")

    async def write() -> None:
        await mount.apply(change)

    trio.run(write)
    reasons[0] = "it is a replica"
    with pytest.raises(OSError, match="it is a replica") as refused:
        trio.run(write)
    assert refused.value.errno == errno.EROFS
    backing = mount.backing(ROOT)
    assert backing is not None and not backing.writable
