"""The files with messages of a day are found, wherever these were recorded, and no other file is read for it."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ctxfs.eventlog import said_days
from ctxfs.eventlog.log import EventLog
from ctxfs.eventlog.said_days import SaidDays
from ctxfs.eventlog.session_files import SessionFiles, lines_of_file

TODAY = datetime.now(UTC).date().isoformat()


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "history")


def open_days(folder: Path) -> SaidDays:
    return SaidDays(SessionFiles(folder / "history"), folder / "index")


def names(folder: Path, day: str) -> list[str]:
    days = open_days(folder)
    try:
        return [f"{file.day}/{file.session}" for file in days.files_of(day)]
    finally:
        days.close()


def say(log: EventLog, session: str, **members: Any) -> None:
    log.append(session, [{"principal": "human:ada", "kind": "input", "text": "x", **members}])


def move_to(folder: Path, day: str) -> None:
    """Let today's files be those of another day, as after a night."""
    os.rename(folder / "history" / TODAY, folder / "history" / day)


@pytest.mark.parametrize(
    ("said_at", "day"),
    [
        ("2023-05-08T13:56:00Z", "2023-05-08"),
        ("2023-05-08", "2023-05-08"),
        ("2023-05-08T23:30:00-05:00", "2023-05-09"),
        ("2023-05-08T00:30:00+02:00", "2023-05-07"),
        ("2031-01-01T00:00:00+00:00", "2031-01-01"),
        ("0001-01-01T00:00:00+00:00", "0001-01-01"),
    ],
)
def test_message_is_found_on_its_own_day(tmp_path: Path, log: EventLog, said_at: str, day: str) -> None:
    say(log, "imported", said_at=said_at)
    say(log, "other")
    assert names(tmp_path, day) == [f"{TODAY}/imported"]
    assert names(tmp_path, "1999-01-01") == []


@pytest.mark.parametrize(
    "said_at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "yesterday", 7, "x" * 500, None]
)
def test_time_that_is_none_does_no_harm(tmp_path: Path, log: EventLog, said_at: object) -> None:
    say(log, "odd", said_at=said_at)
    assert names(tmp_path, TODAY) == [f"{TODAY}/odd"]


def test_text_that_looks_like_a_time_is_none(tmp_path: Path, log: EventLog) -> None:
    say(log, "s", text='{"seq": 1, "at": "2001-01-01T00:00:00", "said_at": "2001-01-01T00:00:00"}')
    assert names(tmp_path, "2001-01-01") == []


def test_appended_message_is_found_and_earlier_ones_are_not_read_again(
    tmp_path: Path, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(log, "s")
    assert names(tmp_path, "2023-05-08") == []
    size = (tmp_path / "history" / TODAY / "s.jsonl").stat().st_size
    offsets = []

    def lines(file: Any, offset: int) -> Any:
        offsets.append(offset)
        return lines_of_file(file, offset)

    monkeypatch.setattr(said_days, "lines_of_file", lines)
    say(log, "s", said_at="2023-05-08T10:00:00Z")
    assert names(tmp_path, "2023-05-08") == [f"{TODAY}/s"]
    assert offsets == [size]


def test_old_days_are_not_read_twice(tmp_path: Path, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    say(log, "s", said_at="2023-05-08T10:00:00Z")
    move_to(tmp_path, "2023-06-01")
    assert names(tmp_path, "2023-05-08") == ["2023-06-01/s"]
    monkeypatch.setattr(SessionFiles, "of_day", lambda *_: pytest.fail("the files of an unchanged day were listed"))
    assert names(tmp_path, "2023-05-08") == ["2023-06-01/s"]


def test_compressed_erased_and_removed_files_are_followed(tmp_path: Path, log: EventLog) -> None:
    for session in ("a", "b", "c"):
        say(log, session, said_at="2023-05-08T10:00:00Z")
    move_to(tmp_path, "2023-06-01")
    assert len(names(tmp_path, "2023-05-08")) == 3
    log.compress_before(date.today() + timedelta(days=2))
    assert len(names(tmp_path, "2023-05-08")) == 3
    log.erase_session("a", "human:ada")
    assert names(tmp_path, "2023-05-08") == ["2023-06-01/b", "2023-06-01/c"]
    (tmp_path / "history" / "2023-06-01" / "b.jsonl.gz").unlink()
    assert names(tmp_path, "2023-05-08") == ["2023-06-01/c"]


def test_damaged_compressed_file_costs_itself(tmp_path: Path, log: EventLog, caplog: pytest.LogCaptureFixture) -> None:
    for session in ("a", "b"):
        say(log, session, said_at="2023-05-08T10:00:00Z")
    move_to(tmp_path, "2023-06-01")
    log.compress_before(date.today() + timedelta(days=2))
    file = tmp_path / "history" / "2023-06-01" / "a.jsonl.gz"
    file.write_bytes(file.read_bytes()[:-30])
    assert "2023-06-01/b" in names(tmp_path, "2023-05-08")
    assert "cannot read 'history/2023-06-01/a.jsonl'" in caplog.text
    caplog.clear()
