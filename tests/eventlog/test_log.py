"""Test that the event log keeps its records, and detects external changes of its files."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ctxfs.eventlog.chain import parse_record
from ctxfs.eventlog.log import EventLog, lines_with
from ctxfs.eventlog.record_schema import parse_records


def today() -> str:
    return datetime.now(UTC).date().isoformat()


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    made = EventLog(tmp_path / "history")
    for number in range(6):
        made.append(
            "one" if number % 2 else "two", [{"principal": "agent:a", "kind": "input", "text": f"said {number}"}]
        )
    return made


def files(log: EventLog) -> dict[str, Path]:
    return {path.stem: path for path in log._folder.glob("*/*.jsonl")}


def edit(line_of: Callable[[list[bytes]], list[bytes]], file: Path) -> None:
    file.write_bytes(b"".join(line_of(file.read_bytes().splitlines(keepends=True))))


def test_one_chain_runs_over_all_sessions(log: EventLog) -> None:
    report = log.verify()
    assert (report.records, report.faults) == (6, [])
    assert [record["text"] for record in log.records()] == [f"said {number}" for number in range(6)]
    assert [record["seq"] for record in log.records(session="one")] == [2, 4, 6]


@pytest.mark.parametrize(
    ("session", "damage", "said"),
    [
        ("one", lambda lines: [lines[0].replace(b"said", b"sung"), *lines[1:]], "record 2 was changed"),
        ("one", lambda lines: lines[1:], "record 2 is missing"),
        ("one", lambda lines: lines[:-1], "records 6 to 6 are missing"),
        ("two", lambda lines: [lines[1], lines[0], lines[2]], "stands behind"),
        ("two", lambda lines: [*lines, lines[0]], "twice"),
        ("two", lambda lines: [*lines, b"what?\n"], "not a record"),
        ("two", lambda lines: [lines[0][:40]], "not a record"),
        ("two", lambda lines: [], "missing"),
    ],
)
def test_external_change_of_the_log_is_named(
    log: EventLog, session: str, damage: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    edit(damage, files(log)[session])
    assert said in "; ".join(fault.what for fault in log.verify().faults)


def test_forged_record_with_a_valid_hash_breaks_the_next_link(log: EventLog) -> None:
    from ctxfs.eventlog.chain import Link, body_of, chain_record

    lines = sorted(
        (line for file in files(log).values() for line in file.read_bytes().splitlines()),
        key=lambda x: parse_record(x)["seq"],
    )
    before, victim = parse_record(lines[1]), parse_record(lines[2])
    body = {**body_of(victim), "text": "forged"}
    forged, _ = chain_record(body, Link(before["seq"], before["hash"]))
    for file in files(log).values():
        edit(lambda old: [forged if line.strip() == lines[2] else line for line in old], file)
    assert "record 4 does not follow" in "; ".join(fault.what for fault in log.verify().faults)


def test_lost_head_is_named_and_the_chain_continues(log: EventLog) -> None:
    (log._folder / "head").unlink()
    assert "does not say where" in log.verify().faults[0].what
    log.append("one", [{"kind": "note"}])
    assert log.verify().faults == []
    assert log.records()[-1]["seq"] == 7


@pytest.mark.parametrize("written", [0, 20, None])
def test_append_cut_off_by_a_kill_is_removed_or_counted(log: EventLog, written: int | None) -> None:
    script = f"""
import os, sys
from pathlib import Path
from ctxfs.eventlog import log as module
real, calls = os.write, []
def write(fd, data):
    part = data if {written!r} is None else data[:{written!r}]
    if part:
        real(fd, part)
    os._exit(9)
module.os.write = write
module.EventLog(Path({str(log._folder)!r})).append("one", [{{"kind": "note", "text": "cut"}}])
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=30).returncode == 9
    done = EventLog(log._folder).verify()
    assert done.faults == []
    assert done.records == (7 if written is None else 6)
    log.append("two", [{"kind": "note", "text": "after"}])
    assert log.verify().faults == []


def test_processes_take_turns(log: EventLog) -> None:
    script = f"""
from pathlib import Path
from ctxfs.eventlog.log import EventLog
log = EventLog(Path({str(log._folder)!r}))
for number in range(50):
    log.append("many", [{{"kind": "note", "number": number}}])
"""
    running = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    report = log.verify()
    assert (report.records, report.faults) == (156, [])


def test_erasure_removes_the_text_and_the_chain_stays_valid(log: EventLog) -> None:
    assert log.erase_session("one", "human:ada") == 3
    assert b"said 1" not in b"".join(file.read_bytes() for file in files(log).values())
    report = log.verify()
    assert (report.records, report.forgotten, report.faults) == (7, 3, [])
    assert log.records()[-1]["kind"] == "forget"
    with pytest.raises(FileNotFoundError):
        log.erase_session("nobody", "human:ada")


def test_packed_days_read_and_verify_as_before(log: EventLog) -> None:
    before = log.records()
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert log.compress_before(tomorrow) == 2
    assert not files(log)
    assert all(gzip.decompress(path.read_bytes()) for path in log._folder.glob("*/*.gz"))
    assert log.records() == before
    assert log.verify().faults == []
    assert log.erase_session("two", "human:ada") == 3
    assert log.verify().faults == []


def test_invalid_record_is_refused_and_nothing_is_added(log: EventLog) -> None:
    for session, body in (("../x", {}), ("", {}), ("a/b", {}), ("one", {"seq": 1}), ("one", {"x": {1, 2}})):
        with pytest.raises(OSError):
            log.append(session, [{"kind": "note"}, body] if session == "one" else [body])
    assert log.verify().records == 6


def test_line_is_json_or_text_and_cannot_set_its_principal() -> None:
    data = json.dumps({"kind": "output", "text": "hi", "model": "m1", "principal": "human:root", "at": "1999"}).encode()
    one, two = parse_records(data + b"\n\nplain \xff text\n", "agent:a")
    assert one == {
        "principal": "agent:a",
        "kind": "output",
        "text": "hi",
        "model": {"name": "m1"},
        "said_principal": "human:root",
        "said_at": "1999",
    }
    assert two == {"principal": "agent:a", "kind": "note", "text": "plain \ufffd text"}
    for bad in (b'{"kind": "Not a word"}', b'{"kind": 3}', b'{"model": 3}', b'{"model": {"version": "1"}}'):
        with pytest.raises(OSError):
            parse_records(bad, "agent:a")
    assert parse_records(b"[" * 100_000, "agent:a")[0]["kind"] == "note"


def test_files_are_for_their_owner_only(log: EventLog) -> None:
    assert {os.stat(path).st_mode & 0o777 for path in (*files(log).values(), log._folder / "head")} == {0o600}


@pytest.mark.parametrize("value", ["export", 'a"b', "line\nbreak", "\u202e", "é", "", "{", "\\"])
def test_records_with_a_member_are_those_of_all_records_with_it(tmp_path: Path, value: str) -> None:
    """Lines are selected before they are parsed, also for values that JSON escapes."""
    log = EventLog(tmp_path / "history")
    for op in (value, "read", value, f"{value}x"):
        log.append("s1", [{"op": op, "text": f'"op": "{value}"', "other": {"op": value}}])
    selected = log.records(member=("op", value))
    assert selected == [record for record in log.records() if record["op"] == value]
    assert len(selected) == 2
    assert log.records(member=("op", "no such one")) == []


def test_lines_with_a_part_are_found_at_both_ends() -> None:
    data = b"xa\nb\nax\nxx\nb x"
    assert list(lines_with(data, b"x")) == [b"xa\n", b"ax\n", b"xx\n", b"b x"]
    assert list(lines_with(data, b"")) == data.splitlines(keepends=True)
    assert list(lines_with(b"", b"x")) == []
