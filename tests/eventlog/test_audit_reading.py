"""Test the reading of an audit in parts: from its end, and of new lines, as reading all of it would find."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ctxfs.eventlog import appended_lines
from ctxfs.eventlog.audit import SESSION, Audit
from ctxfs.eventlog.chain import Link, chain_record
from ctxfs.eventlog.log import lines_with
from ctxfs.eventlog.rare_operations import RareOperations
from ctxfs.services.recent_activity import RecentActivity

NOW = datetime.now(UTC)


def make_body(number: int, at: datetime) -> dict[str, Any]:
    """Return a record of a varied audit; every seventh is a joined read of three files."""
    body: dict[str, Any] = {"at": at.isoformat(timespec="milliseconds"), "session": f"s-{number % 3}"}
    body |= {"principal": f"agent:a{number % 4}", "op": ("read", "write", "list", "search")[number % 4]}
    body |= {"path": f"memory/f{number % 5}/n{number}.md", "outcome": "EACCES" if number % 9 == 0 else "ok"}
    if number % 7 == 0:
        body |= {"op": "read", "path": f"memory/f{number % 5}", "names": [f"{number}{mark}.md" for mark in "abc"]}
    if number % 50 == 0:
        body |= {"op": "export", "path": f"memory/f{number % 5}"}
    return body


def write_days(folder: Path, days: int, records: int, link: Link = Link()) -> Link:  # noqa: B008 - frozen
    """Write an audit whose last day ends now."""
    for day in range(days - 1, -1, -1):
        at, lines = NOW - timedelta(days=day), bytearray()
        for number in range(records):
            line, link = chain_record(make_body(number, at - timedelta(seconds=records - number)), link)
            lines += line
        file = folder / at.date().isoformat() / f"{SESSION}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(lines))
    (folder / "head").write_text(f"{link.seq} {link.hash}\n-\n")
    return link


def of_all(audit: Audit, limit: int, path: str = "", **members: str) -> list[dict[str, Any]]:
    """Return the records that a reading of the whole audit finds."""
    found = []
    for record in audit.log.records():
        for name in record.get("names", [""]):
            full = f"{record['path']}/{name}" if name else record["path"]
            is_below = not path or full == path or full.startswith(f"{path}/")
            if is_below and all(record[member] == value for member, value in members.items()):
                found.append({**{key: value for key, value in record.items() if key != "names"}, "path": full})
    return found[-limit:]


@pytest.fixture(params=[300, 4096, 1 << 17])
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Audit:
    """Make an audit of three days that is read in blocks of a few bytes, smaller than a record or larger than a day."""
    monkeypatch.setattr(appended_lines, "_FIRST_BLOCK_BYTES", request.param)
    monkeypatch.setattr(appended_lines, "_MAX_BLOCK_BYTES", request.param)
    write_days(tmp_path, 3, 120)
    return Audit(tmp_path)


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"principal": "agent:a2"},
        {"op": "export"},
        {"outcome": "EACCES", "op": "read"},
        {"path": "memory/f3"},
        {"path": "memory/f0/70b.md"},
        {"path": "memory"},
        {"path": "nowhere"},
        {"session": "s-none"},
    ],
)
def test_newest_records_are_those_of_the_whole_audit(audit: Audit, filters: dict[str, str]) -> None:
    for limit in (1, 7, 10_000):
        assert audit.records(limit=limit, **filters) == of_all(audit, limit, **filters), (limit, filters)


def test_compressed_days_are_read_as_others(audit: Audit) -> None:
    expected = of_all(audit, 10_000)
    assert audit.log.compress_before(date.today() + timedelta(days=1)) == 3
    assert audit.records(limit=10_000) == expected


def test_records_behind_a_number_are_read_alone(audit: Audit) -> None:
    last = max(record["seq"] for record in audit.log.records())
    assert [record["seq"] for record in audit.newest(1 << 20, last - 3)] == [last - 2, last - 1, last]
    assert audit.newest(1 << 20, last) == []


def test_exports_are_found_once_and_again_after_an_erasure(audit: Audit) -> None:
    exports = RareOperations(audit.log, SESSION, "export")
    assert exports.records() == of_all_exports(audit)
    assert len(exports.records()) == 9
    audit.log.append(SESSION, [{"principal": "agent:new", "op": "export", "path": "x", "outcome": "ok"}])
    assert exports.records()[-1]["principal"] == "agent:new"
    audit.log.erase_matching(lambda line: b"memory/f0" in line and b"export" in line, "human:owner")
    assert exports.records() == of_all_exports(audit)
    assert [record["path"] for record in exports.records()] == ["x"]
    audit.log.compress_before(date.today() + timedelta(days=1))
    assert exports.records() == of_all_exports(audit)
    assert exports.records() == of_all_exports(audit)


def of_all_exports(audit: Audit) -> list[dict[str, Any]]:
    return [record for record in audit.log.records() if record.get("op") == "export"]


def test_activity_counts_new_operations_once(tmp_path: Path) -> None:
    write_days(tmp_path, 1, 100)
    audit = Audit(tmp_path)
    activity = RecentActivity(audit)
    first = {row.principal: row for row in activity.read()[0]}
    assert sum(row.reads + row.writes + row.questions + row.refused for row in first.values()) > 80
    before = first["agent:a1"].writes
    for _ in range(2):
        audit.log.append(SESSION, [{"principal": "agent:a1", "op": "write", "path": "x", "outcome": "ok"}])
        activity.read()
    rows, is_complete = activity.read()
    assert is_complete
    assert rows[0].principal == "agent:a1"
    assert rows[0].writes == before + 2


def test_activity_states_that_an_hour_has_more_than_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctxfs.services.recent_activity._NEWEST_BYTES", 5000)
    write_days(tmp_path, 1, 100)
    rows, is_complete = RecentActivity(Audit(tmp_path)).read()
    assert rows
    assert not is_complete


def test_lines_with_one_of_two_texts_are_found_once_and_in_order() -> None:
    data = b"a\nb\nab\nc\nba\nlast a"
    assert list(lines_with(data, b"a", b"b")) == [b"a\n", b"b\n", b"ab\n", b"ba\n", b"last a"]
    assert list(lines_with(data, b"c")) == [b"c\n"]
    assert list(lines_with(data, b"")) == data.splitlines(keepends=True)
