"""Test erasures that reach every node of a shared store, the log included."""

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctxfs.shared.certificates import CertificateTopic, read_reports
from ctxfs.shared.engines import open_log
from ctxfs.shared.erasure_data import decode_plan, encode_plan
from ctxfs.shared.erasures import Erasures
from ctxfs.shared.exchanges import NodeErasure
from ctxfs.shared.log import EntryKind, LogRefused, SharedLog, all_entries
from ctxfs.shared.node import Node
from ctxfs.shared.node_state import NodeStateFile
from ctxfs.shared.object_pack import decode_pack
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.phrases import Phrases
from tests.versions.conftest import ALICE, BOB, LARGE, Past, check_sound

OWNER = Actor("human:owner", "s", "forget")
SECRET = "the key to the vault is under the third stone on the left\n"
OTHER = "a harmless note that all nodes may keep for as long as they like\n"
Opener = Callable[[str], "Member"]


class Member:
    """A store as a node; `derived` has the phrases that were to be erased outside of the versions."""

    def __init__(self, folder: Path, name: str, connect: Callable[[], SharedLog]) -> None:
        self.past = Past(folder / name)
        self.name = name
        self.connect = connect
        self.derived: list[Phrases] = []
        self.node = self._open()

    def _open(self) -> Node:
        archive, repo = self.past.archive, self.past.layout.repo
        self.certificates = CertificateTopic(repo, self.name, lambda: {"remotes": "none", "exports": "not traced"})
        erasures = Erasures(archive.shared_erasure, archive.shared, repo, self._erase_derived, self.certificates)
        topics = {EntryKind.CERTIFICATE: self.certificates}
        return Node(
            archive.shared, NodeStateFile(repo), "main", self.name, "human:owner", self.connect, topics, erasures
        )

    def _erase_derived(self, phrases: Phrases, by: str) -> dict[str, int]:
        self.derived.append(phrases)
        return {}

    def restart(self) -> None:
        self.node.close()
        self.past.close()
        self.past.reopen()
        self.node = self._open()

    def close(self) -> None:
        self.node.close()
        self.past.close()

    def write(self, path: str, text: str | bytes, who: Actor = ALICE) -> None:
        self.past.write(path, text, who)

    def exchange(self) -> None:
        for _ in range(10):
            result = self.node.exchange()
            if not (result.taken or result.published or result.changes):
                return
        raise AssertionError("the node exchanges for ever")

    def forget(self, path: str = "", principal: str = "") -> NodeErasure:
        return self.node.erase(path or None, principal, OWNER)

    def holds(self, text: str | bytes) -> bool:
        """Return True if any object of the repository, any large content or any file has a text."""
        data = text if isinstance(text, bytes) else text.encode()
        repo = self.past.layout.repo
        listed = self.past.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
        objects = (self.past.archive.core.ledger.repo.read(oid) for oid in listed)
        files = [*self.past.layout.large.rglob("*"), *self.past.tree.rglob("*"), *repo.glob("ctxfs-*")]
        return any(data in content for content in objects) or any(
            data in file.read_bytes() for file in files if file.is_file() and not file.is_symlink()
        )


@pytest.fixture
def open_node(tmp_path: Path) -> Iterator[Opener]:
    """Return a function that makes a store a node of a log in a folder."""
    (tmp_path / "engine").mkdir()
    opened: list[Member] = []

    def make(name: str) -> Member:
        opened.append(Member(tmp_path, name, lambda: open_log(f"file://{tmp_path}/engine", "main", create=True)))
        return opened[-1]

    yield make
    for member in opened:
        member.close()


def settle(*members: Member) -> None:
    for _ in range(2):
        for member in members:
            member.exchange()


def log_holds(folder: Path, text: str) -> bool:
    """Return True if an entry or a content of the engine has a text, packed or not."""
    data = text.encode()
    log = open_log(f"file://{folder}/engine", "main")
    packs = [entry.objects for entry in all_entries(log, 0)]
    contents = [file.read_bytes() for file in (folder / "engine/main/contents").rglob("*") if file.is_file()]
    for pack in (*packs, *contents):
        if data in pack:
            return True
        if pack[:1] == b"\x78" and any(data in content for _, content in decode_pack(pack)):
            return True
    return False


def check_equal(*members: Member) -> None:
    pictures = [member.past.picture() for member in members]
    assert all(picture == pictures[0] for picture in pictures)
    assert len({member.node.seen for member in members}) == 1
    for member in members:
        check_sound(member.past)


def test_erasure_reaches_every_node_and_the_log(open_node: Opener, tmp_path: Path) -> None:
    one, two = open_node("one"), open_node("two")
    one.write("memory/a/x.md", SECRET)
    one.write("memory/a/y.md", OTHER)
    settle(one, two)
    two.past.move("memory/a/x.md", "memory/b/renamed.md")
    settle(two, one)
    assert two.holds(SECRET) and log_holds(tmp_path, SECRET)
    erasure = one.forget("memory/b/renamed.md")
    assert erasure.erased.result.versions
    settle(two, one)
    for member in (one, two):
        assert not member.holds(SECRET)
        assert member.holds(OTHER)
        assert (member.past.tree / "memory/b/renamed.md").is_symlink()
        assert any(phrases.is_in(SECRET.encode()) for phrases in member.derived)
    assert not log_holds(tmp_path, SECRET)
    check_equal(one, two)


def test_node_that_joins_later_gets_everything_but_the_erased(open_node: Opener, tmp_path: Path) -> None:
    one = open_node("one")
    one.write("memory/a/x.md", SECRET)
    one.write("pad/big.bin", b"B" * 2 * LARGE)
    one.write("pad/secret.bin", b"S" * 2 * LARGE)
    settle(one)
    one.write("memory/a/y.md", OTHER)
    settle(one)
    one.forget("memory/a/x.md")
    one.forget("pad/secret.bin")
    one.write("memory/a/z.md", "after\n")
    settle(one)
    late = open_node("late")
    settle(late, one)
    assert not late.holds(SECRET) and not late.holds(b"S" * 200)
    assert not log_holds(tmp_path, "S" * 200)
    assert (late.past.tree / "pad/big.bin").read_bytes() == b"B" * 2 * LARGE
    check_equal(one, late)


def test_node_that_was_away_cannot_bring_the_content_back(open_node: Opener, tmp_path: Path) -> None:
    one, away = open_node("one"), open_node("away")
    one.write("memory/a/x.md", SECRET)
    one.write("memory/a/y.md", OTHER)
    settle(one, away)
    for number in range(3):
        one.write("memory/a/y.md", f"{OTHER}{number}\n")
        settle(one)
    away.write("memory/a/x.md", f"{SECRET}and more\n")
    away.past.archive.commit()
    away.write("memory/c/copy.md", SECRET)
    away.write("memory/c/own.md", "the work of the node that was away\n")
    away.past.archive.commit()
    one.forget("memory/a/x.md")
    settle(one)
    settle(away, one)
    for member in (one, away):
        assert not member.holds(SECRET)
        assert (member.past.tree / "memory/c/own.md").read_text() == "the work of the node that was away\n"
    assert not log_holds(tmp_path, SECRET)
    check_equal(one, away)


def test_content_that_is_written_again_later_is_erased_before_it_is_published(
    open_node: Opener, tmp_path: Path
) -> None:
    one, two = open_node("one"), open_node("two")
    one.write("memory/a/x.md", SECRET)
    settle(one, two)
    one.forget("memory/a/x.md")
    settle(two)
    two.write("memory/b/backup.md", SECRET)
    two.write("memory/b/new.md", "new\n")
    settle(two, one)
    assert not one.holds(SECRET) and not two.holds(SECRET)
    assert not log_holds(tmp_path, SECRET)
    assert (one.past.tree / "memory/b/new.md").read_text() == "new\n"
    check_equal(one, two)


def test_principal_is_erased_on_all_nodes(open_node: Opener, tmp_path: Path) -> None:
    one, two = open_node("one"), open_node("two")
    one.write("memory/a/x.md", SECRET, BOB)
    settle(one, two)
    two.write("memory/b/y.md", f"{SECRET}twice\n", BOB)
    two.write("memory/b/z.md", OTHER, ALICE)
    settle(two, one)
    one.forget(principal="agent:bob")
    settle(two, one)
    for member in (one, two):
        assert not member.holds(SECRET) and not member.holds("agent:bob")
        assert member.holds(OTHER)
    assert not any(b"agent:bob" in zlib.decompress(entry.data) for entry in all_entries(one.connect(), 0) if entry.data)
    check_equal(one, two)


def test_small_content_of_others_stays(open_node: Opener) -> None:
    one, two = open_node("one"), open_node("two")
    one.write("memory/a/x.md", "yes\n")
    settle(one, two)
    two.write("memory/b/own.md", "yes\n")
    two.past.archive.commit()
    one.forget("memory/a/x.md")
    settle(two, one)
    assert (one.past.tree / "memory/b/own.md").read_text() == "yes\n"
    assert (two.past.tree / "memory/a/x.md").is_symlink()
    check_equal(one, two)


def test_store_of_its_own_that_joins_keeps_its_files_at_erased_paths(open_node: Opener) -> None:
    one = open_node("one")
    one.write("memory/a/x.md", SECRET)
    settle(one)
    one.forget("memory/a/x.md")
    own = open_node("own")
    own.write("memory/a/own.md", "of the other store, and never shared before\n")
    own.write("memory/a/copy.md", SECRET)
    own.past.archive.commit()
    settle(own, one)
    assert (one.past.tree / "memory/a/own.md").exists()
    assert not own.holds(SECRET) and not one.holds(SECRET)
    check_equal(one, own)


def test_node_that_lost_its_state_erases_as_well(open_node: Opener) -> None:
    one, two = open_node("one"), open_node("two")
    one.write("memory/a/x.md", SECRET)
    settle(one, two)
    two.write("memory/a/x.md", f"{SECRET}and more\n")
    two.past.archive.commit()
    one.forget("memory/a/x.md")
    NodeStateFile(two.past.layout.repo).remove()
    two.restart()
    settle(two, one)
    assert not two.holds(SECRET)
    check_equal(one, two)


def test_kill_after_the_append_is_made_up_for(
    open_node: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = open_node("one"), open_node("two")
    one.write("memory/a/x.md", SECRET)
    settle(one, two)

    def fail(*_: object, **__: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"):
        patch.setattr(Erasures, "carry_out", fail)
        one.forget("memory/a/x.md")
    assert log_holds(tmp_path, SECRET)
    one.restart()
    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"):
        patch.setattr(NodeStateFile, "write", fail)
        two.node.exchange()
    two.restart()
    settle(two, one)
    assert not one.holds(SECRET) and not two.holds(SECRET) and not log_holds(tmp_path, SECRET)
    check_equal(one, two)


def test_each_node_certifies_its_erasure_part_by_part(open_node: Opener) -> None:
    one, two, away = open_node("one"), open_node("two"), open_node("away")
    one.write("memory/a/x.md", SECRET)
    away.write("memory/a/other.md", OTHER)
    settle(one, two, away)
    number = one.forget("memory/a/x.md").erased.number
    settle(one, two)
    (report,), nodes = read_reports(one.connect())
    assert (report.number, report.node, nodes) == (number, "one", ["away", "one", "two"])
    assert report.answers == {}, "the index is not purged yet"
    for member in (one, two):
        assert member.certificates.is_purge_due()
        member.restart()  # the answers survive a restart
        member.certificates.record_purge()
    settle(one, two)
    (report,), _ = read_reports(one.connect())
    assert set(report.answers) == {"one", "two"}
    assert report.answers["two"]["index"] == "erased" and report.answers["two"]["remotes"] == "none"
    assert not one.node.has_topic_news() and not one.certificates.is_purge_due()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[" * 10_000,
        b'{"format": 1, "number": 1, "answers": {}}',
        b'{"format": 1, "number": true, "answers": {}}',
        b'{"format": 1, "number": 1, "answers": {"versions": "\\u001b[2J"}}',
    ],
)
def test_broken_certificate_is_refused_with_its_node(open_node: Opener, data: bytes) -> None:
    one, two = open_node("one"), open_node("two")
    one.write("memory/a/x.md", OTHER)
    settle(one, two)
    log = one.connect()
    (last,) = list(all_entries(log, 0))[-1:]
    changes = {"number": last.number + 1, "previous": last.head, "kind": EntryKind.CERTIFICATE, "data": data}
    log.append(replace(last, objects=b"", packs=(), **changes))
    with pytest.raises(LogRefused, match=r"node '(one|two)'"):
        two.node.exchange()


@pytest.mark.parametrize(
    "change",
    [
        {"places": ["memory"]},
        {"places": ["memory/../x"]},
        {"places": ["/etc/passwd"]},
        {"places": [5]},
        {"contents": {"memory/a/x.md": ["zz"]}},
        {"contents": []},
        {"principal": "agent:alice"},
        {"note": "../../etc/passwd"},
        {"by": "root"},
        {"blobs": ["--all"]},
        {"large": ["../x"]},
        {"gone": ["0" * 40]},
        {"more": 1},
    ],
)
def test_broken_erasure_is_refused_with_its_node(open_node: Opener, change: dict[str, object]) -> None:
    one, two = open_node("one"), open_node("two")
    one.write("memory/a/x.md", SECRET)
    settle(one, two)
    one.forget("memory/a/x.md")
    settle(one, two)
    two.write("memory/a/y.md", OTHER)
    settle(two, one)
    log = one.connect()
    last = list(all_entries(log, 0))
    good = next(entry for entry in last if entry.kind is EntryKind.ERASE)
    values = {**json.loads(zlib.decompress(good.data)), **change}
    log.append(
        replace(
            good, number=last[-1].number + 1, previous=last[-1].head, data=zlib.compress(json.dumps(values).encode())
        )
    )
    with pytest.raises(LogRefused, match="node 'one'"):
        two.node.exchange()
    assert two.holds(OTHER)
    assert encode_plan(decode_plan(good.data)) == good.data
