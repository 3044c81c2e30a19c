"""Test nodes: stores that share one log, without daemons."""

import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.shared.engines import open_log
from ctxfs.shared.log import Entry, EntryKind, LogRefused, SharedLog, Unreachable
from ctxfs.shared.node import Node
from ctxfs.shared.node_state import NodeStateFile
from ctxfs.shared.object_pack import encode_packs
from ctxfs.versions.rollback import Rollback
from tests.shared.engines import PASSWORD, Postgres
from tests.versions.conftest import ALICE, LARGE, Past, check_sound

MAKE_NODE = Callable[..., "Member"]


class Member:
    """A store and its node."""

    def __init__(self, folder: Path, name: str, store: str, connect: Callable[[], SharedLog]) -> None:
        self.past = Past(folder / name)
        self.name = name
        self._arguments = (store, connect)
        self.node = self._new_node()

    def _new_node(self) -> Node:
        store, connect = self._arguments
        state = NodeStateFile(self.past.layout.repo)
        return Node(self.past.archive.shared, state, store, self.name, "human:owner", connect)

    def restart(self) -> None:
        self.node.close()
        self.past.close()
        self.past.reopen()
        self.node = self._new_node()

    def close(self) -> None:
        self.node.close()
        self.past.close()

    def write(self, path: str, text: str | bytes) -> None:
        self.past.write(path, text)

    def append(self, path: str, line: str) -> None:
        file = self.past.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as out:
            out.write(f"{line}\n")
        self.past.note("write", path)

    def text(self, path: str) -> str:
        return (self.past.tree / path).read_text()


@pytest.fixture
def join(engine_url: str, store_name: str, tmp_path: Path) -> Iterator[MAKE_NODE]:
    """Return a function that makes a store a node of the engine's store."""
    members: list[Member] = []

    def make(name: str) -> Member:
        members.append(
            Member(tmp_path, name, store_name, lambda: open_log(engine_url, store_name, PASSWORD, create=True))
        )
        return members[-1]

    yield make
    for member in members:
        member.close()


def settle(*members: Member) -> None:
    """Exchange until nothing is new."""
    for _ in range(10):
        results = [member.node.exchange() for member in members]
        if not any(result.taken or result.published or result.changes for result in results):
            return
    raise AssertionError("the nodes exchange for ever")


def check_equal(*members: Member) -> None:
    pictures = [member.past.picture() for member in members]
    assert all(picture == pictures[0] for picture in pictures)
    heads = {member.node.seen for member in members}
    assert len(heads) == 1
    for member in members:
        check_sound(member.past)


def test_write_on_one_node_is_read_on_the_other(join: MAKE_NODE) -> None:
    one, two = join("one"), join("two")
    one.write("memory/a/x.md", "from one\n")
    one.past.label("memory/a/x.md", "kind", "fact")
    (one.past.tree / "memory/a/link").symlink_to("x.md")
    one.past.note("write", "memory/a/link")
    settle(one, two)
    assert two.text("memory/a/x.md") == "from one\n"
    two.write("memory/a/y.md", "from two\n")
    two.past.remove("memory/a/x.md")
    settle(two, one)
    assert one.text("memory/a/y.md") == "from two\n"
    assert not (one.past.tree / "memory/a/x.md").exists()
    check_equal(one, two)


def test_exchange_without_news_appends_nothing(join: MAKE_NODE) -> None:
    one, two = join("one"), join("two")
    settle(one, two)
    before = one.node.seen
    assert not one.node.exchange().published
    assert not two.node.exchange().published
    assert one.node.seen == before


def test_large_and_many_contents_reach_the_other_node(join: MAKE_NODE) -> None:
    one, two = join("one"), join("two")
    big = os.urandom(2 * LARGE)
    one.write("pad/big.bin", big)
    noise = random.Random(1)
    for number in range(150):
        one.write(f"pad/many/{number}.bin", noise.randbytes(20_000))
    settle(one, two)
    assert (two.past.tree / "pad/big.bin").read_bytes() == big
    check_equal(one, two)


def test_nodes_that_had_memories_before_keep_all_of_them(join: MAKE_NODE) -> None:
    one, two = join("one"), join("two")
    one.write("memory/a/x.md", "one's\n")
    two.write("memory/a/x.md", "two's\n")
    one.append("memory/a/log.jsonl", "1")
    two.append("memory/a/log.jsonl", "2")
    settle(one, two)
    texts = {path.read_text() for path in (one.past.tree / "memory/a").glob("x*.md")}
    assert texts == {"one's\n", "two's\n"}
    assert sorted(one.text("memory/a/log.jsonl").split()) == ["1", "2"]
    check_equal(one, two)


def test_changes_made_apart_are_merged(join: MAKE_NODE) -> None:
    one, two = join("one"), join("two")
    one.write("memory/a/edit.md", "first\nsecond\n")
    one.write("memory/a/gone.md", "x\n")
    settle(one, two)
    one.write("memory/a/edit.md", "first, by one\nsecond\n")
    two.write("memory/a/edit.md", "first, by two\nsecond\n")
    one.write("memory/a/gone.md", "changed\n")
    two.past.remove("memory/a/gone.md")
    one.node.exchange()
    assert two.node.exchange().conflicts == (b"memory/a/edit.md",)
    settle(one, two)
    check_equal(one, two)
    assert one.text("memory/a/gone.md") == "changed\n"
    (copy,) = (one.past.tree / "memory/a").glob("edit.conflict-*.md")
    assert {copy.read_text(), one.text("memory/a/edit.md")} == {
        "first, by one\nsecond\n",
        "first, by two\nsecond\n",
    }


def test_frozen_file_keeps_its_content_on_every_node(join: MAKE_NODE) -> None:
    one, two = join("one"), join("two")
    one.write("memory/a/rule.md", "the rule\n")
    settle(one, two)
    one.past.label("memory/a/rule.md", "frozen", "true")
    two.write("memory/a/rule.md", "another rule\n")
    settle(one, two)
    check_equal(one, two)
    assert one.text("memory/a/rule.md") == "the rule\n"
    (copy,) = (one.past.tree / "memory/a").glob("rule.conflict-*.md")
    assert copy.read_text() == "another rule\n"


@pytest.mark.long
def test_appends_of_four_nodes_are_all_there_once(join: MAKE_NODE) -> None:
    members = [join(f"n{number}") for number in range(4)]
    settle(*members)

    def work(member: Member) -> None:
        for number in range(25):
            for part in range(10):
                member.append("memory/shared/log.jsonl", f"{member.name} {number} {part}")
            member.node.exchange()

    threads = [threading.Thread(target=work, args=(member,)) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settle(*members)
    expected = sorted(f"n{n} {number} {part}" for n in range(4) for number in range(25) for part in range(10))
    assert sorted(members[0].text("memory/shared/log.jsonl").splitlines()) == expected
    assert [path.name for path in (members[0].past.tree / "memory/shared").iterdir()] == ["log.jsonl"]
    check_equal(*members)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_random_changes_converge(join: MAKE_NODE, seed: int) -> None:
    chance = random.Random(seed)
    members = [join(f"n{number}") for number in range(3)]
    paths = [f"memory/{folder}/{name}" for folder in "ab" for name in ("x.md", "y.jsonl", "z")]
    for _ in range(60):
        member = chance.choice(members)
        path = chance.choice(paths)
        file = member.past.tree / path
        match chance.randrange(6):
            case 0:
                member.write(path, f"{chance.random()}\n" * chance.randrange(4))
            case 1 | 2:
                member.append(path, f"{member.name} {chance.random()}")
            case 3 if file.exists():
                member.past.remove(path)
            case 4 if file.exists():
                member.past.move(path, chance.choice(paths))
            case 5:
                member.restart()
        if chance.random() < 0.5:
            chance.choice(members).node.exchange()
    settle(*members)
    check_equal(*members)


def test_node_that_is_killed_before_it_hears_of_its_entry_goes_on(
    join: MAKE_NODE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has the entry, and the node does not know."""
    one, two = join("one"), join("two")
    settle(one, two)
    two.write("memory/a/two.md", "2\n")
    settle(two)
    one.write("memory/a/log.md", "1\n")
    with monkeypatch.context() as patch:
        patch.setattr(Node, "_save", lambda *_: (_ for _ in ()).throw(Unreachable()))
        with pytest.raises(Unreachable):
            one.node.exchange()
    one.append("memory/a/log.md", "2")
    one.restart()
    settle(one, two)
    check_equal(one, two)
    assert two.text("memory/a/log.md") == "1\n2\n"
    assert not list((one.past.tree / "memory/a").glob("*conflict*"))


class Killed(BaseException):
    """Raised in place of a SIGKILL."""


def test_node_that_is_killed_while_it_follows_takes_nothing_for_its_own(
    join: MAKE_NODE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work tree holds the versions of others already, and the branch does not."""
    one, two = join("one"), join("two")
    for name in ("log.jsonl", "edit.md", "gone.md", "rule.md"):
        one.write(f"memory/a/{name}", "0\n")
    settle(one, two)
    one.append("memory/a/log.jsonl", "1")
    one.write("memory/a/edit.md", "one's\n")
    one.write("memory/a/new.md", "new\n")
    one.past.label("memory/a/rule.md", "frozen", "true")
    one.past.remove("memory/a/gone.md")
    one.node.exchange()
    two.append("memory/a/log.jsonl", "2")
    with monkeypatch.context() as patch:
        patch.setattr(Rollback, "_record_written", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            two.node.exchange()
    assert two.text("memory/a/edit.md") == "one's\n"
    one.write("memory/a/edit.md", "one's second\n")
    one.past.remove("memory/a/new.md")
    one.node.exchange()
    two.node.close()
    two.past.crash()
    two.past.reopen()
    two.node = two._new_node()
    settle(one, two)
    check_equal(one, two)
    assert sorted(two.text("memory/a/log.jsonl").split()) == ["0", "1", "2"]
    assert two.text("memory/a/edit.md") == "one's second\n"
    names = {path.name for path in (two.past.tree / "memory/a").iterdir()}
    assert names == {"log.jsonl", "edit.md", "rule.md"}


def test_lost_state_of_a_node_is_read_again_from_the_log(join: MAKE_NODE) -> None:
    one, two = join("one"), join("two")
    one.write("memory/a/x.md", "x\n")
    settle(one, two)
    (one.past.layout.repo / "ctxfs-shared.json").write_text("{")
    two.append("memory/a/x.md", "y")
    one.append("memory/a/x.md", "z")
    one.restart()
    settle(two, one)
    check_equal(one, two)
    assert sorted(one.text("memory/a/x.md").split()) == ["x", "y", "z"]


def test_second_node_of_a_name_is_refused(join: MAKE_NODE, tmp_path: Path) -> None:
    one = join("one")
    settle(one)
    (tmp_path / "elsewhere").mkdir()
    twin = Member(tmp_path / "elsewhere", "one", *one._arguments)
    twin.write("memory/a/x.md", "x\n")
    before = twin.past.picture()
    with pytest.raises(LogRefused, match="another store has joined"):
        twin.node.exchange()
    assert twin.past.picture() == before
    assert not one.node.exchange().taken, "nothing was published"
    twin.close()


def test_rewound_engine_is_noticed_and_nothing_changes(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    entries = tmp_path / "engine/s/entries/000"
    one = Member(tmp_path, "one", "s", lambda: open_log(f"file://{tmp_path}/engine", "s", create=True))
    two = Member(tmp_path, "two", "s", lambda: open_log(f"file://{tmp_path}/engine", "s", create=True))
    one.write("memory/a/x.md", "1\n")
    settle(one, two)
    (entries / f"{one.node.seen.number:012d}").unlink()
    for member in (one, two):
        member.write(f"memory/a/{member.name}.md", "later\n")
        before = member.past.picture()
        for _ in range(2):
            with pytest.raises(LogRefused, match="rewound"):
                member.node.exchange()
            member.restart()
        assert member.past.picture() == before
    assert len(list(entries.iterdir())) == one.node._file.read("s").seen.number - 1, "nothing was published"
    one.close()
    two.close()


def forged(one: Member, log: SharedLog, head: str, *objects: tuple[str, bytes]) -> Entry:
    newest = log.head()
    (pack,) = encode_packs(objects)
    return Entry(newest.number + 1, head, newest.commit, EntryKind.VERSIONS, "mallory", "f" * 32, pack)


@pytest.mark.parametrize("fault", ["name", "area", "missing", "junk", "unrelated", "mode", "future"])
def test_hostile_entry_changes_nothing(join: MAKE_NODE, fault: str) -> None:
    from ctxfs.versions.objects.commits import Commit, encode_commit
    from ctxfs.versions.objects.git import object_id
    from ctxfs.versions.objects.trees import MODE_DIR, MODE_FILE, TreeEntry, encode_tree

    one = join("one")
    one.write("memory/a/x.md", "1\n")
    settle(one)
    log = one._arguments[1]()
    head = one.past.archive.head
    assert head is not None
    blob = object_id("blob", b"evil")
    names = {"name": b"..", "area": b"memory"}
    inner = encode_tree({names.get(fault, b"x"): TreeEntry(0o160000 if fault == "mode" else MODE_FILE, blob)})
    area = b"etc" if fault == "area" else b"memory"
    root = encode_tree({area: TreeEntry(MODE_DIR, object_id("tree", inner))})
    parents = () if fault == "unrelated" else (head.oid,)
    time_ns = head.time_ns + (10**15 if fault == "future" else 1)
    draft = Commit("", object_id("tree", root), parents, time_ns, ALICE, "write", "evil")
    commit = encode_commit(draft)
    objects = [("commit", commit), ("tree", root), ("tree", inner)]
    if fault != "missing":
        objects.append(("blob", b"evil"))
    entry = forged(one, log, object_id("commit", commit), *objects)
    if fault == "junk":
        entry = replace(entry, objects=b"junk")
    log.append(entry)
    log.close()
    before = one.past.picture()
    one.write("memory/a/later.md", "goes on\n")
    for _ in range(2):
        with pytest.raises(LogRefused, match="of node 'mallory' is refused"):
            one.node.exchange()
        one.restart()
    (one.past.tree / "memory/a/later.md").unlink()
    assert one.past.picture() == before


def test_node_that_was_restored_from_a_backup_takes_what_it_lacks(join: MAKE_NODE, tmp_path: Path) -> None:
    one, two = join("one"), join("two")
    one.append("memory/a/log.jsonl", "1")
    settle(one, two)
    one.close()
    backup = tmp_path / "backup"
    shutil.copytree(one.past.layout.root, backup, symlinks=True)
    one.past.reopen()
    one.node = one._new_node()
    one.append("memory/a/log.jsonl", "2")
    settle(one, two)
    one.close()
    shutil.rmtree(one.past.layout.root)
    backup.rename(one.past.layout.root)
    one.past.reopen()
    one.node = one._new_node()
    one.append("memory/a/log.jsonl", "3")
    settle(one, two)
    assert one.text("memory/a/log.jsonl").split() == ["1", "2", "3"]
    check_equal(one, two)


def test_node_with_a_file_that_stays_open_publishes_and_follows_later(join: MAKE_NODE) -> None:
    one, two = join("one"), join("two")
    one.write("memory/a/x.md", "first\n")
    settle(one, two)
    one.write("memory/a/x.md", "second\n")
    settle(one)
    with (two.past.tree / "memory/a/x.md").open("r+"):
        two.write("memory/a/y.md", "published all the same\n")
        with pytest.raises(CommandError, match="open for writing"):
            two.node.exchange()
        one.node.exchange()
        assert one.text("memory/a/y.md") == "published all the same\n"
        assert two.text("memory/a/x.md") == "first\n"
    settle(one, two)
    assert two.text("memory/a/x.md") == "second\n"
    check_equal(one, two)


def test_lines_are_there_once_after_a_file_has_stayed_open(join: MAKE_NODE) -> None:
    """Nothing of others may get into local versions while the node cannot follow."""
    one, two = join("one"), join("two")
    one.write("memory/a/x.md", "first\n")
    one.append("memory/a/log.jsonl", "0")
    settle(one, two)
    one.write("memory/a/x.md", "second\n")
    one.append("memory/a/log.jsonl", "1")
    settle(one)
    two.append("memory/a/log.jsonl", "2")
    with (two.past.tree / "memory/a/x.md").open("r+"):
        for number in (3, 4):
            with pytest.raises(CommandError, match="open for writing"):
                two.node.exchange()
            two.append("memory/a/log.jsonl", str(number))
    settle(one, two)
    assert sorted(one.text("memory/a/log.jsonl").split()) == ["0", "1", "2", "3", "4"]
    check_equal(one, two)


class WrongClock:
    """An engine whose clock differs from that of this machine."""

    def __init__(self, log: SharedLog, offset_ns: int) -> None:
        self._log = log
        self._offset_ns = offset_ns

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def now(self) -> int:
        return self._log.now() + self._offset_ns


@pytest.mark.parametrize("days", [-2, 2])
def test_versions_are_dated_by_the_engine(join: MAKE_NODE, days: int) -> None:
    """Seen from the engine, the machine's clock is wrong by two days."""
    one, two = join("one"), join("two")
    settle(one, two)
    offset_ns = days * 86_400 * 10**9
    store, connect = one._arguments
    one._arguments = (store, lambda: WrongClock(connect(), offset_ns))  # type: ignore[assignment,return-value]
    one.restart()
    one.node.exchange()
    made = one.past.version("memory/a/x.md", "x\n")
    shift = made.time_ns - time.time_ns()
    if days > 0:
        assert abs(shift - offset_ns) < 60 * 10**9
    else:
        assert shift < 60 * 10**9, "but not before the version that it follows"


def test_version_of_a_clock_that_was_ahead_is_not_published(join: MAKE_NODE, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others would refuse it, so that no node could continue."""
    one, two = join("one"), join("two")
    settle(one, two)
    with monkeypatch.context() as patch:
        patch.setattr("ctxfs.versions.recording.ledger.now_ns", lambda after, offset: after + 3 * 86_400 * 10**9)
        one.past.version("memory/a/x.md", "x\n")
    before = one.node.seen
    with pytest.raises(CommandError, match="clock"):
        one.node.exchange()
    assert two.node.exchange().taken == 0
    assert one.node.seen == before


def test_many_entries_are_checked_together_and_the_bad_one_is_named(join: MAKE_NODE) -> None:
    one, two = join("one"), join("two")
    settle(one, two)
    for number in range(5):
        one.write("memory/a/x.md", f"{number}\n")
        one.node.exchange()
    log = one._arguments[1]()
    log.append(replace(forged(one, log, "e" * 40, ("blob", b"x"))))
    log.close()
    good = one.node.seen.number
    with pytest.raises(LogRefused, match=f"entry {good + 1} of node 'mallory' is refused"):
        two.node.exchange()
    assert two.node.seen.number == good


def postgres_members(postgres: Postgres, store: str, folder: Path) -> tuple[Member, Member]:
    one, two = (
        Member(folder, name, store, lambda: open_log(postgres.url(), store, PASSWORD, create=True))
        for name in ("one", "two")
    )
    return one, two


def test_engine_that_is_killed_loses_nothing(postgres: Postgres, store_name: str, tmp_path: Path) -> None:
    one, two = postgres_members(postgres, store_name, tmp_path)
    settle(one, two)
    for number in range(6):
        one.append("memory/a/log.jsonl", f"one {number}")
        two.append("memory/a/log.jsonl", f"two {number}")
        one.node.exchange()
        if number % 2:
            postgres.stop()
            for member in (one, two):
                member.append("memory/a/log.jsonl", f"{member.name} without an engine {number}")
                with pytest.raises(Unreachable):
                    member.node.exchange()
            postgres.start()
        two.node.exchange()
    settle(one, two)
    lines = [f" {number}" for number in range(6)] + [f" without an engine {number}" for number in (1, 3, 5)]
    expected = sorted(f"{name}{line}" for name in ("one", "two") for line in lines)
    assert sorted(one.text("memory/a/log.jsonl").splitlines()) == expected
    check_equal(one, two)
    one.close()
    two.close()


@pytest.mark.parametrize("fault", ["rewound", "split"])
def test_engine_that_was_restored_from_a_backup_is_noticed(
    postgres: Postgres, store_name: str, tmp_path: Path, fault: str
) -> None:
    import psycopg

    one, two = postgres_members(postgres, store_name, tmp_path)
    settle(one, two)
    one.write("memory/a/x.md", "x\n")
    settle(one)  # the last entry, which the backup lacks
    with psycopg.connect(postgres.url(), password=PASSWORD, autocommit=True) as connection:
        newest = "number = (select max(number) from ctxfs_entries where store = %(store)s) and store = %(store)s"
        connection.execute(f"delete from ctxfs_entries where {newest}", {"store": store_name})
    if fault == "split":
        two.write("memory/a/y.md", "y\n")
        two.node.exchange()
    one.write("memory/a/z.md", "z\n")
    before, entries = one.past.picture(), two.node.seen.number
    for _ in range(2):
        with pytest.raises(LogRefused, match=fault):
            one.node.exchange()
        one.restart()
    assert one.past.picture() == before
    assert two.node.exchange().taken == 0
    assert two.node.seen.number == entries, "nothing was published"
    one.close()
    two.close()


def mtimes_of(member: Member) -> dict[str, int]:
    files = (path for path in (member.past.tree / "memory").rglob("*") if path.is_file())
    return {str(path.relative_to(member.past.tree)): path.stat().st_mtime_ns for path in files}


def test_times_of_files_are_equal_on_all_nodes(join: MAKE_NODE) -> None:
    one, two = join("one"), join("two")
    one.write("memory/a/old.md", "of last year\n")
    os.utime(one.past.tree / "memory/a/old.md", ns=(1_700_000_000_123_456_789,) * 2)
    one.write("memory/a/both.jsonl", "1\n")
    one.write("memory/a/edit.md", "first\nsecond\n")
    one.write("memory/a/big.bin", os.urandom(2 * LARGE))
    settle(one, two)
    assert mtimes_of(two) == mtimes_of(one)
    assert mtimes_of(two)["memory/a/old.md"] == 1_700_000_000_123_456_789
    one.append("memory/a/both.jsonl", "2")
    two.append("memory/a/both.jsonl", "3")
    one.write("memory/a/edit.md", "first, by one\nsecond\n")
    two.write("memory/a/edit.md", "first, by two\nsecond\n")
    two.past.move("memory/a/old.md", "memory/a/moved.md")
    two.past.label("memory/a/big.bin", "kind", "fact")
    settle(one, two)
    assert mtimes_of(two) == mtimes_of(one)
    assert mtimes_of(one)["memory/a/moved.md"] == 1_700_000_000_123_456_789
    three = join("three")
    settle(three, one, two)
    assert mtimes_of(three) == mtimes_of(one)
    check_equal(one, two, three)


def test_change_of_the_time_alone_is_no_version(join: MAKE_NODE) -> None:
    one, two = join("one"), join("two")
    one.write("memory/a/x.md", "x\n")
    settle(one, two)
    os.utime(one.past.tree / "memory/a/x.md")
    one.past.note("write", "memory/a/x.md")
    assert not one.node.exchange().published


def test_change_that_came_by_the_log_is_known_until_it_is_written_here(join: MAKE_NODE) -> None:
    one, two = join("one"), join("two")
    path = b"memory/a/x.md"
    one.write("memory/a/x.md", "from one\n")
    settle(one, two)
    assert two.past.archive.shared.is_followed(path)
    assert not one.past.archive.shared.is_followed(path)
    two.append("memory/a/x.md", "written at two, and not yet a version")
    assert not two.past.archive.shared.is_followed(path)
    settle(two, one)
    assert not two.past.archive.shared.is_followed(path)
    assert one.past.archive.shared.is_followed(path)
