"""Test snapshots of the log, and the joining of a node by one."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctxfs.shared.engines import open_log
from ctxfs.shared.log import Entry, EntryKind, LogRefused, SharedLog, Unreachable, all_entries
from ctxfs.shared.node import Node
from ctxfs.shared.node_state import NodeStateFile
from ctxfs.shared.object_pack import encode_packs
from ctxfs.shared.snapshots import encode_covered, put_pack
from tests.shared.engines import PASSWORD
from tests.shared.test_node import Member, check_equal, settle

_INTERVAL = 5
MAKE = Callable[..., "SnapshotMember"]


class SnapshotMember(Member):
    """A store and its node, with a snapshot after every few entries."""

    def _new_node(self) -> Node:
        store, connect = self._arguments
        state = NodeStateFile(self.past.layout.repo)
        heads = self.past.archive.shared
        return Node(heads, state, store, self.name, "human:owner", connect, snapshot_interval=_INTERVAL)

    @property
    def log(self) -> SharedLog:
        return self._arguments[1]()


def put_packs(log: SharedLog, objects: list[tuple[str, bytes]]) -> tuple[str, ...]:
    return tuple(put_pack(log, pack) for pack in encode_packs(objects))


class Watched:
    """An engine that lists the contents that were read, and changes entries or fails as a test wants."""

    def __init__(self, log: SharedLog, change: Callable[[Entry], Entry], fails_after: int = 1 << 30) -> None:
        self._log = log
        self._change = change
        self._fails_after = fails_after
        self.read: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def entries(self, after: int, limit: int) -> list[Entry]:
        return [self._change(entry) for entry in self._log.entries(after, limit)]

    def get(self, sha256: str, target: object, max_bytes: int) -> None:
        if len(self.read) >= self._fails_after:
            raise Unreachable("cut off")
        self.read.append(sha256)
        self._log.get(sha256, target, max_bytes)  # type: ignore[arg-type]


@pytest.fixture
def join(engine_url: str, store_name: str, tmp_path: Path) -> Iterator[MAKE]:
    members: list[SnapshotMember] = []

    def make(name: str, wrap: Callable[[SharedLog], SharedLog] = lambda log: log) -> SnapshotMember:
        def connect() -> SharedLog:
            return wrap(open_log(engine_url, store_name, PASSWORD, create=True))

        members.append(SnapshotMember(tmp_path, name, store_name, connect))
        return members[-1]

    yield make
    for member in members:
        member.close()


def write_entries(member: Member, count: int) -> None:
    for number in range(count):
        member.write(f"memory/a/{number % 4}.md", f"{member.name} {number}\n")
        member.append("memory/a/log.jsonl", f"{number}")
        member.node.exchange()


def snapshots(member: SnapshotMember) -> list[Entry]:
    log = member.log
    try:
        return [entry for entry in all_entries(log, 0) if entry.kind is EntryKind.SNAPSHOT]
    finally:
        log.close()


def without_objects(entry: Entry) -> Entry:
    """Return an entry of a snapshot's range with other objects, so that only the snapshot has the right ones."""
    (other,) = encode_packs([("blob", b"other")])
    return replace(entry, objects=other) if entry.number <= 2 * _INTERVAL and entry.objects else entry


def test_new_node_joins_by_the_snapshot(join: MAKE) -> None:
    one = join("one")
    write_entries(one, 2 * _INTERVAL)
    assert [entry.data for entry in snapshots(one)] == [encode_covered(_INTERVAL), encode_covered(2 * _INTERVAL)]
    two = join("two", lambda log: Watched(log, without_objects))  # type: ignore[arg-type,return-value]
    settle(two, one)
    check_equal(one, two)
    assert two.past.git("rev-list", "--count", "HEAD") == one.past.git("rev-list", "--count", "HEAD")


def test_nodes_that_read_each_entry_do_not_read_the_packs_of_a_snapshot(join: MAKE) -> None:
    one = join("one")
    write_entries(one, 2)
    engines: list[Watched] = []

    def watch(log: SharedLog) -> SharedLog:
        engines.append(Watched(log, lambda entry: entry))
        return engines[-1]  # type: ignore[return-value]

    two = join("two", watch)
    settle(two, one)
    write_entries(one, _INTERVAL)
    settle(two, one)
    assert snapshots(one)
    assert not [name for engine in engines for name in engine.read]
    check_equal(one, two)


@pytest.mark.parametrize("fault", ["junk", "incomplete", "missing", "foreign objects"])
def test_snapshot_that_is_not_sound_is_ignored(join: MAKE, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    one = join("one")
    write_entries(one, _INTERVAL)
    (real,) = snapshots(one)
    log = one.log
    names = {
        "junk": (put_pack(log, b"junk"),),
        "incomplete": put_packs(log, [("blob", b"x")]),
        "missing": ("e" * 64,),
        "foreign objects": put_packs(log, [("commit", b"not a commit"), ("tree", b"no tree")]),
    }[fault]
    log.close()

    def forge(entry: Entry) -> Entry:
        return replace(entry, packs=names) if entry.number == real.number else entry

    two = join("two", lambda log: Watched(log, forge))  # type: ignore[arg-type,return-value]
    with caplog.at_level(logging.WARNING):
        settle(two, one)
    assert "is ignored" in caplog.text
    caplog.clear()
    check_equal(one, two)


def test_snapshot_does_not_hide_a_broken_chain(join: MAKE) -> None:
    """The entries below it are read and compared with each other, as without it."""
    one = join("one")
    write_entries(one, _INTERVAL)

    def split(entry: Entry) -> Entry:
        return replace(entry, previous="e" * 40) if entry.number == 3 else entry

    two = join("two", lambda log: Watched(log, split))  # type: ignore[arg-type,return-value]
    with pytest.raises(LogRefused, match="split"):
        two.node.exchange()
    assert two.node.seen.number == 0


def test_join_that_was_interrupted_goes_on(join: MAKE) -> None:
    one = join("one")
    write_entries(one, _INTERVAL + 1)
    limits = [0, 1 << 30]

    def fail_first(log: SharedLog) -> SharedLog:
        limit = limits[0] if len(limits) == 1 else limits.pop(0)
        return Watched(log, lambda entry: entry, limit)  # type: ignore[return-value]

    two = join("two", fail_first)
    with pytest.raises(Unreachable):
        two.node.exchange()
    two.restart()
    settle(two, one)
    check_equal(one, two)
