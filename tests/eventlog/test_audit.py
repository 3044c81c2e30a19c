"""Test the audit: complete, each event once, in a chain, also after a kill at any moment."""

import errno
import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from ctxfs.eventlog.audit import Audit
from ctxfs.eventlog.spool import AuditActor, Spool
from ctxfs.rpc.client import Client
from tests.live import Live, children_of, eventually

ALICE = AuditActor("agent:alice", "s-1", "mount")


def paths(audit: Audit) -> list[str]:
    return [record["path"] for record in audit.records(limit=10**6)]


def test_every_event_is_stored_once_and_in_order(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    spool = audit.spool()
    for number in range(2500):  # more than the spool holds, fewer than one flush writes
        spool.record_event(ALICE, "write", f"a/{number}")
    assert audit.collect() == 2000
    spool.close()
    assert audit.collect() == 500
    assert audit.collect() == 0
    assert paths(audit) == [f"a/{number}" for number in range(2500)]
    assert audit.verify().faults == []
    assert audit.spools is not None
    assert os.listdir(audit.spools) == [], "records of the chain are not stored twice"


def test_bounded_collection_is_continued_by_the_next(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    spools = [audit.spool(), audit.spool()]
    for number in range(250):
        for spool in spools:
            spool.record_event(ALICE, "write", f"{spools.index(spool)}/{number}")
    for spool in spools:
        spool.close()
    made = [audit.collect(100) for _ in range(6)]
    assert made == [100, 100, 100, 100, 100, 0]
    assert sorted(paths(audit)) == sorted(f"{which}/{number}" for which in range(2) for number in range(250))
    assert audit.spools is not None
    assert os.listdir(audit.spools) == []
    assert audit.verify().faults == []


def test_reads_of_a_directory_are_one_record_in_the_chain(tmp_path: Path) -> None:
    """Queries still return each file: the reader, its path and a time."""
    audit = Audit(tmp_path)
    spool = audit.spool()
    reads = [f"{folder}/{number}.md" for folder in ("a", "a/b", "c") for number in range(150)]
    for path in reads:
        spool.record_event(ALICE, "read", path)
    spool.record_event(ALICE, "read", "a/secret.md", outcome="EACCES")
    spool.record_event(AuditActor("agent:bob", "s-2", "mount"), "read", "a/1.md")
    spool.record_event(ALICE, "write", "a/1.md")
    spool.record_event(ALICE, "read", "a/1.md")
    spool.close()
    assert audit.collect() == 7
    assert sorted(paths(audit)[:450]) == sorted(reads)
    assert [record["path"] for record in audit.records(path="a/b/7.md")] == ["a/b/7.md"]
    assert [(record["principal"], record["op"]) for record in audit.records(path="a/1.md")] == [
        ("agent:alice", "read"),
        ("agent:bob", "read"),
        ("agent:alice", "write"),
        ("agent:alice", "read"),
    ]
    assert [record["path"] for record in audit.records(outcome="EACCES")] == ["a/secret.md"]
    assert Audit(tmp_path).collect() == 0
    assert audit.verify().faults == []


def test_reads_of_several_directories_at_once_are_joined(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    spool = audit.spool()
    for number in range(100):
        for folder in ("a", "b", "c", "d"):
            spool.record_event(ALICE, "read", f"{folder}/{number}")
    spool.close()
    assert audit.collect() == 4
    assert len(paths(audit)) == 400


def test_joined_reads_that_were_half_collected_are_continued(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    spool = audit.spool()
    for number in range(950):
        spool.record_event(ALICE, "read", f"a/{number}")
        if number % 100 == 0:
            spool.flush()
            audit = Audit(tmp_path)  # as after a kill: the chain alone shows how far it came
            audit.collect(1)
    spool.close()
    Audit(tmp_path).collect()
    assert paths(audit) == [f"a/{number}" for number in range(950)]


def test_record_has_principal_time_operation_and_outcome(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    spool = audit.spool()
    spool.record_event(ALICE, "rename", "a/\udcff", "b", "EACCES")
    spool.close()
    audit.collect()
    (record,) = audit.records()
    assert record["path"] == "a/\\xff" or "a/" in record["path"]
    assert {key: record[key] for key in ("principal", "session", "tool", "op", "to", "outcome")} == {
        **ALICE._asdict(), "op": "rename", "to": "b", "outcome": "EACCES",
    }  # fmt: skip
    assert abs(datetime.fromisoformat(record["at"]).timestamp() - datetime.now(UTC).timestamp()) < 60


def test_repeated_event_is_one_record_with_a_count(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    spool = audit.spool()
    for path in ("a", "a", "a", "b", "a"):
        spool.record_event(ALICE, "read", path)
    spool.close()
    audit.collect()
    assert [(r["path"], r.get("times", 1)) for r in audit.records()] == [("a", 3), ("b", 1), ("a", 1)]


def test_second_process_collects_new_events_only(tmp_path: Path) -> None:
    """Collect as after a kill between the chain and the spool: records in the chain are not added again."""
    audit = Audit(tmp_path)
    spool = audit.spool()
    spool.record_event(ALICE, "read", "first")
    spool.flush()
    assert audit.collect() == 1
    spool.record_event(ALICE, "read", "second")
    spool.flush()
    again = Audit(tmp_path)
    assert again.collect() == 1
    assert audit.collect() == 0
    assert paths(again) == ["first", "second"]
    assert Audit(tmp_path).collect() == 0


def test_truncated_line_after_a_kill_is_harmless(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    spool = audit.spool()
    spool.record_event(ALICE, "read", "whole")
    spool.close()
    assert audit.spools is not None
    (file,) = audit.spools.iterdir()
    with open(file, "ab") as out:
        out.write(b'[2, 17, 1, "read", "ha')
    assert audit.collect() == 1
    assert list(audit.spools.iterdir()) == []
    assert paths(audit) == ["whole"]


def test_unwritable_events_wait_and_are_not_lost(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    spool = Spool(tmp_path / "spool")
    spool.record_event(ALICE, "read", "a")
    spool.flush()
    assert spool.has_buffered
    (tmp_path / "spool").unlink()
    spool.record_event(ALICE, "read", "b")
    spool.close()
    audit = Audit(tmp_path)
    audit.collect()
    assert paths(audit) == ["a", "b"]


def test_edited_audit_is_detected(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    spool = audit.spool()
    for number in range(3):
        spool.record_event(ALICE, "read", f"secret{number}")
    spool.close()
    audit.collect()
    (file,) = tmp_path.glob("*/audit.jsonl")
    file.write_bytes(file.read_bytes().replace(b"secret1", b"nothing"))
    assert any("was changed" in fault.what for fault in audit.verify().faults)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with a mount of its owner and one of alice."""
    live = Live(tmp_path_factory.mktemp("audit"))
    live.run("init")
    live.run("mount", str(live.at))
    live.run("mount", str(live.at.parent / "mnt-alice"), "--as", "agent:alice")
    (live.at / "memory" / "bob").mkdir()
    (live.at / "memory" / "bob" / "b.md").write_text("of bob\n")
    (live.at / "memory" / "shared" / "s.md").write_text("shared\n")
    yield live
    live.close()


def audited(live: Live, *options: str) -> list[dict[str, Any]]:
    done = live.try_run("history", "audit", "--json", *options)
    return [json.loads(line) for line in done.stdout.splitlines()]


def done_to(live: Live, path: str, *options: str) -> list[tuple[str, str]]:
    """Return (op, outcome) of every operation on a path.

    Equal operations that follow each other are one: they are one record or several, depending on when the process
    writes its spool.
    """
    return [key for key, _ in groupby((record["op"], record["outcome"]) for record in audited(live, path, *options))]


@pytest.mark.fuse
def test_operations_through_the_mount_are_audited(served: Live) -> None:
    file = served.at / "pad" / "a.md"
    file.write_text("one\n")
    file.read_text()
    os.chmod(file, 0o600)
    os.setxattr(file, "user.ctx.kind", b"note")
    file.rename(file.with_name("b.md"))
    os.truncate(file.with_name("b.md"), 0)
    file.with_name("b.md").unlink()
    wanted = ["create", "write", "read", "meta", "rename"]
    ops = eventually(
        "everything is there", lambda: (operations := [op for op, _ in done_to(served, "pad/a.md")])[4:] and operations
    )
    assert ops == wanted
    assert sum(record.get("times", 1) for record in audited(served, "pad/a.md") if record["op"] == "meta") == 2
    assert [op for op, _ in done_to(served, "pad/b.md")] == ["rename", "write", "delete"]
    assert {record["principal"] for record in audited(served, "pad/a.md")} == {
        f"human:{os.environ.get('USER', 'root')}"
    }


@pytest.mark.fuse
def test_refused_operations_are_audited(served: Live) -> None:
    at = served.at.parent / "mnt-alice"
    with pytest.raises(PermissionError):
        (at / "memory" / "shared" / "new.md").write_text("x")
    with pytest.raises(FileNotFoundError):
        (at / "memory" / "bob" / "b.md").read_text()
    client = Client(served.store / "run")
    client.call("join", principal="agent:alice")
    with pytest.raises(PermissionError):
        client.call("issue_token", principal="agent:alice")
    with pytest.raises(PermissionError):
        client.call("log", path="")
    with pytest.raises(PermissionError):
        client.call("join", principal="human:root")
    client.close()
    eventually("the mount has sent its events", lambda: done_to(served, "memory/bob", "--agent", "agent:alice"))
    assert ("list", "ENOENT") in done_to(served, "memory/bob", "--agent", "agent:alice")
    assert ("create", "EACCES") in done_to(served, "memory/shared/new.md")
    refused = [(r["op"], r["outcome"]) for r in audited(served, "--agent", "agent:alice")]
    assert ("token", "EACCES") in refused
    assert ("past", "EACCES") in refused
    assert ("join", "EPERM") in refused


def test_queries_contexts_and_commands_are_audited(served: Live) -> None:
    served.try_run("search", "how are keys rotated")
    served.try_run("context", "how are keys rotated")
    served.try_run("cat", "memory/shared/s.md")
    served.try_run("policy", "list")
    assert ("search", "ok") in done_to(served, "how are keys rotated")
    (served.at / "memory" / ".search" / "who holds the otter" / "results.jsonl").read_text()
    eventually("the path is kept", lambda: ("read", "ok") in done_to(served, "who holds the otter"))
    assert done_to(served, "memory/.search/who holds the otter")
    assert "otter" not in "".join(file.read_text() for file in (served.at / "history" / "audit").glob("*"))
    assert ("context", "ok") in done_to(served, "how are keys rotated")
    assert ("read", "ok") in done_to(served, "memory/shared/s.md")


def test_rule_changes_are_audited(served: Live) -> None:
    config = served.store / "ctxfs.toml"
    config.write_text(config.read_text() + '\n[[rule]]\nprincipal="agent:x"\npath="pad/**"\nverbs="r"\n')
    eventually("the rules are taken up", lambda: ("policy", "ok") in done_to(served, "rules"))


@pytest.mark.fuse
def test_audit_file_is_read_only_for_every_principal(served: Live) -> None:
    eventually("there is one", lambda: audited(served))
    (day,) = os.listdir(served.at / "history" / "audit")
    file = served.at / "history" / "audit" / day
    assert all(json.loads(line)["hash"] for line in file.read_text().splitlines())
    with pytest.raises(PermissionError):
        file.write_text("x")
    with pytest.raises(PermissionError):
        file.unlink()
    with pytest.raises(PermissionError), open(file, "a") as out:
        out.write("x")
    assert not (served.at.parent / "mnt-alice" / "history" / "audit").exists()


@pytest.mark.fuse
def test_no_event_before_an_fsync_is_lost_when_everything_is_killed(served: Live) -> None:
    fd = os.open(served.at / "pad" / "durable.md", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x")
    os.fsync(fd)
    daemon = served.daemon_pid()
    for pid in [*children_of(daemon), daemon]:
        os.kill(pid, signal.SIGKILL)
    os.close(fd) if _still_open(fd) else None
    ops = [op for op, _ in done_to(served, "pad/durable.md")]
    assert ops == ["create", "write"]
    assert served.run("history", "verify")


def _still_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError as error:
        return error.errno != errno.EBADF
    return True


def test_the_audit_can_be_switched_off(tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.run("init")
    config = live.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("# audit = true", "audit = false"))
    live.run("ls")
    live.try_run("cat", "AGENTS.md")
    assert live.try_run("history", "audit").returncode == 3
    assert not (live.store / "history" / "audit").exists()
