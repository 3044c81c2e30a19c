"""Test that anchors reveal tampering that a chain alone cannot: a cut end, a rewritten chain, a deleted log."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ctxfs.eventlog.anchor import AnchorComparison, Anchors, parse_anchor, read_key
from ctxfs.eventlog.chain import Link, body_of, chain_record
from ctxfs.eventlog.log import EventLog
from ctxfs.model.errors import CommandError
from ctxfs.store.layout import create_store
from ctxfs.versions.archive import Archive
from tests.versions.conftest import ALICE, LARGE

KEY = b"a key that lies outside the store"


class Recorded:
    """A store with both chains and versions that anchor them."""

    def __init__(self, folder: Path, key: bytes | None = None) -> None:
        self.layout = create_store(folder)
        self.logs = {"events": EventLog(self.layout.history), "audit": EventLog(self.layout.audit)}
        self.anchors = Anchors(self.logs["events"], self.logs["audit"], key)
        self.archive = Archive(self.layout, "human:owner", LARGE, anchors=self.anchors)
        self.archive.open()
        self._count = 0

    def work(self) -> None:
        """Append a record to both chains and commit a version."""
        self._count += 1
        for log in self.logs.values():
            log.append("s1", [{"kind": "note", "text": f"note {self._count}"}])
        (self.layout.tree / "memory" / "shared" / "x.md").write_text(str(self._count))
        self.archive.commit([b"memory/shared/x.md"])

    def compare(self, remote: str = "") -> AnchorComparison:
        store, anchors = self.archive.remotes.read_anchors(remote)
        return self.anchors.compare(store, anchors, {name: log.verify().hashes for name, log in self.logs.items()})

    def files(self, chain: str) -> list[Path]:
        folder = self.layout.history if chain == "events" else self.layout.audit
        return sorted(folder.glob("2*/*.jsonl"))

    def folder(self, chain: str) -> Path:
        return self.layout.history if chain == "events" else self.layout.audit


@pytest.fixture
def store(tmp_path: Path) -> Recorded:
    made = Recorded(tmp_path / "store")
    for _ in range(3):
        made.work()
    return made


def cut_end(store: Recorded, chain: str) -> None:
    """Remove the last record, and the head with it."""
    (file,) = store.files(chain)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]))
    last = json.loads(lines[-2])
    (store.folder(chain) / "head").write_text(f"{last['seq']} {last['hash']}\n-\n")


def write_again(store: Recorded, chain: str) -> None:
    """Rewrite the chain, so that every record follows from a forged first one."""
    (file,) = store.files(chain)
    link, out = Link(), b""
    for line in file.read_bytes().splitlines():
        body = body_of(json.loads(line))
        if body.get("text") == "note 1":
            body["text"] = "FORGED"
        made, link = chain_record(body, link)
        out += made
    file.write_bytes(out)
    (store.folder(chain) / "head").write_text(f"{link.seq} {link.hash}\n-\n")


def delete(store: Recorded, chain: str) -> None:
    shutil.rmtree(store.folder(chain))


@pytest.mark.parametrize("chain", ["events", "audit"])
@pytest.mark.parametrize("tamper", [cut_end, write_again, delete])
def test_tampering_that_a_chain_cannot_show_is_found_by_its_anchors(
    store: Recorded, chain: str, tamper: Callable[[Recorded, str], None]
) -> None:
    assert store.compare().faults == []
    tamper(store, chain)
    log = store.logs[chain].verify()
    assert [fault for fault in log.faults if fault.where != "head"] == [], "the chain itself looks whole"
    report = store.compare()
    assert any(fault.where.startswith(f"{chain}:") for fault in report.faults)
    store.work()
    assert store.compare().faults, "later records repair nothing"
    store.archive.close()


def test_forgotten_records_and_erased_files_leave_the_anchors_right(store: Recorded) -> None:
    (store.layout.tree / "memory" / "shared" / "secret.md").write_text("zanzibar")
    store.archive.commit([b"memory/shared/secret.md"])
    store.logs["events"].erase_session("s1", "human:owner")
    store.archive.erasure.erase("memory/shared/secret.md", "", ALICE)
    store.work()
    report = store.compare()
    assert report.faults == []
    assert report.versions > 4
    store.archive.close()


def test_versions_from_before_anchors_differ_from_anchored_ones(tmp_path: Path) -> None:
    layout = create_store(tmp_path / "store")
    old = Archive(layout, "human:owner", LARGE)
    old.open()
    assert old.remotes.read_anchors()[1] == []
    old.close()
    store = Recorded(tmp_path / "store")
    store.work()
    report = store.compare()
    assert (report.faults, report.versions, report.up_to) == ([], 1, {"events": 1, "audit": 1})
    assert report.since == report.newest != ""
    store.archive.close()


def test_versions_that_were_written_again_without_the_key_have_no_seal(tmp_path: Path) -> None:
    store = Recorded(tmp_path / "store", KEY)
    for _ in range(3):
        store.work()
    assert store.compare().sealed == store.compare().versions == 4
    store_id, anchors = store.archive.remotes.read_anchors()
    forged = Anchors(store.logs["events"], store.logs["audit"], b"another key, of the forger")
    text = forged.text(store_id)
    anchor = parse_anchor(text, "1" * 40, "2026-01-01T00:00:00Z")
    assert anchor is not None
    hashes = {name: log.verify().hashes for name, log in store.logs.items()}
    report = store.anchors.compare(store_id, [*anchors, anchor], hashes)
    assert ["not made with this key" in fault.what for fault in report.faults] == [True]
    assert report.sealed == 4
    unsealed = parse_anchor(text.partition(" seal=")[0], "1" * 40, "2026-01-01T00:00:00Z")
    assert unsealed is not None
    assert store.anchors.compare(store_id, [unsealed], hashes).sealed == 0
    store.archive.close()


def test_remote_reveals_locally_rewritten_versions(store: Recorded, tmp_path: Path) -> None:
    hub = tmp_path / "hub.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(hub)], check=True)
    store.archive.remotes.add("hub", str(hub), is_trusted=True)
    store.archive.remotes.push("hub")
    assert store.compare("hub").faults == []
    # The forger rewrites chain and versions: on this machine everything agrees.
    write_again(store, "events")
    repo = store.layout.repo
    head = subprocess.run(
        ["git", "-C", str(repo), "cat-file", "commit", "main"], capture_output=True, check=True
    ).stdout
    lines = [line for line in head.split(b"\n") if not line.startswith((b"parent ", b"Ctxfs-Anchor"))]
    made = subprocess.run(
        ["git", "-C", str(repo), "hash-object", "-w", "-t", "commit", "--stdin"],
        input=b"\n".join(lines),
        capture_output=True,
        check=True,
    )
    store.archive.close()
    (repo / "refs" / "heads" / "main").write_bytes(made.stdout)
    store.archive.open()
    assert store.compare().faults == []
    assert "written again" in store.compare("hub").faults[0].what
    assert not list((repo / "refs" / "remotes").rglob("main"))
    store.archive.close()


def test_anchors_of_other_stores_report_no_tampering_here(store: Recorded, tmp_path: Path) -> None:
    hub = tmp_path / "hub.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(hub)], check=True)
    other = Recorded(tmp_path / "other")
    other.work()
    for one in (store, other):
        one.archive.remotes.add("hub", str(hub), is_trusted=True)
    other.archive.remotes.push("hub")
    store.archive.remotes.pull("hub", ALICE)
    report = store.compare()
    assert report.faults == []
    assert report.others > 0
    for one in (store, other):
        one.archive.close()


def test_key_lies_outside_the_store_and_is_long_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "store"
    (root / "run").mkdir(parents=True)
    inside, short, good = root / "run" / "key", tmp_path / "short", tmp_path / "key"
    inside.write_bytes(KEY)
    short.write_bytes(b"short")
    good.write_bytes(KEY + b"\n")
    os.symlink(inside, tmp_path / "link")
    for bad in (inside, short, tmp_path / "link"):
        with pytest.raises(CommandError):
            read_key(str(bad), root)
    assert read_key(str(good), root) == KEY
    assert read_key("", root) is None
    assert read_key(str(tmp_path / "missing"), root) is None
    monkeypatch.setenv("CTXFS_HISTORY_KEY_FILE", str(good))
    assert read_key("", root) == KEY
