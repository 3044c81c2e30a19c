"""Spooled events come into the event log exactly once, also after a kill at any moment."""

import errno
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctxfs.eventlog import capture_spool
from ctxfs.eventlog.capture_spool import append_event
from ctxfs.eventlog.captured_events import CaptureCollector, EndedWindow
from ctxfs.eventlog.log import EventLog


def make_collector(folder: Path) -> CaptureCollector:
    return CaptureCollector(EventLog(folder), folder, "human:ada", lambda text: (text.replace("KEY", "···"), ()))


def spool_event(folder: Path, text: str, **members: Any) -> bool:
    record = {"kind": "input", "client": "codex", "client_session": "s", "origin": "capture", "text": text, **members}
    return spool_report(folder, "codex", record, hash(text) & 0xFFFF_FFFF)


def spool_report(folder: Path, hook: str, record: dict[str, Any], checksum: int) -> bool:
    event = {"sum": checksum, "client": record["client"], "hook": hook, "principal": "", "record": record}
    return append_event(str(folder / "capture"), event)


def texts(folder: Path) -> list[str]:
    return [record["text"] for record in EventLog(folder).records()]


def test_events_are_collected_once_and_in_order(tmp_path: Path) -> None:
    for number in range(2500):
        assert spool_event(tmp_path, f"{number}", client_session=f"s{number % 2}")
    collector = make_collector(tmp_path)
    assert collector.collect().records == 2500
    assert collector.collect().records == 0
    records = EventLog(tmp_path).records(session="codex-s1")
    assert [record["text"] for record in records] == [f"{number}" for number in range(1, 2500, 2)]
    assert EventLog(tmp_path).verify().faults == []
    assert os.listdir(tmp_path / "capture") == []


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", range(12))
def test_collection_that_ends_at_any_step_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    for number in range(10):
        spool_event(tmp_path, f"{number}", client_session=f"s{number % 3}")
    steps = iter(range(100))

    def killing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(steps) == step:
                raise Killed
            result = function(*arguments, **options)
            if next(steps) == step:
                raise Killed
            return result

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killing(os.rename))
        patch.setattr(EventLog, "append", killing(EventLog.append))
        patch.setattr(Path, "unlink", killing(Path.unlink))
        try:
            make_collector(tmp_path).collect()
        except Killed:
            pass
        else:
            assert step >= 10, "each step was reached"
    make_collector(tmp_path).collect()
    assert sorted(texts(tmp_path)) == [f"{number}" for number in range(10)]


def test_kills_at_random_lose_and_repeat_nothing(tmp_path: Path) -> None:
    chance = random.Random(7)
    count = 0
    for _ in range(25):
        for _ in range(20):
            spool_event(tmp_path, f"{count}", client_session=f"s{count % 3}")
            count += 1
        pid = os.fork()
        if not pid:
            try:
                make_collector(tmp_path).collect()
            finally:
                os._exit(0)
        end = time.perf_counter() + chance.random() * 0.02
        while time.perf_counter() < end:
            spool_event(tmp_path, f"{count}", client_session=f"s{count % 3}")
            count += 1
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    make_collector(tmp_path).collect()
    assert Counter(texts(tmp_path)) == Counter(f"{number}" for number in range(count))
    assert EventLog(tmp_path).verify().faults == []


def test_writer_that_was_killed_within_a_line_costs_its_own_event(tmp_path: Path) -> None:
    spool_event(tmp_path, "first")
    spool = tmp_path / "capture" / capture_spool.SPOOL
    with open(spool, "ab") as file:
        file.write(b'{"id": "torn')
    spool_event(tmp_path, "second")
    assert make_collector(tmp_path).collect().records == 2
    assert texts(tmp_path) == ["first", "second"]


@pytest.mark.parametrize(
    "line", [b"[]", b"{}", b"\xff\x00", b'{"id": 1, "client": [], "record": 7}', b"null", b"[" * 5000]
)
def test_damaged_line_costs_itself(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "capture").mkdir()
    (tmp_path / "capture" / capture_spool.SPOOL).write_bytes(line + b"\n")
    spool_event(tmp_path, "good")
    assert make_collector(tmp_path).collect().records == 1


def test_invalid_kind_and_reserved_members_harm_no_other_event(tmp_path: Path) -> None:
    spool_event(tmp_path, "bad", kind="No Kind")
    spool_event(tmp_path, "reserved", hash="x", seq=7, principal="human:mallory", prev="")
    spool_event(tmp_path, "good")
    make_collector(tmp_path).collect()
    records = EventLog(tmp_path).records()
    assert [record["text"] for record in records] == ["reserved", "good"]
    assert {record["principal"] for record in records} == {"human:ada"}


def test_record_that_the_log_refuses_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append = EventLog.append

    def refuse(log: EventLog, session: str, bodies: Any, **options: Any) -> Any:
        if any(body["text"] == "bad" for body in bodies):
            raise OSError(errno.EINVAL, "no record")
        return append(log, session, bodies, **options)

    monkeypatch.setattr(EventLog, "append", refuse)
    for text in ("one", "bad", "two"):
        spool_event(tmp_path, text)
    make_collector(tmp_path).collect()
    assert texts(tmp_path) == ["one", "two"]
    assert os.listdir(tmp_path / "capture") == []


def test_writer_that_does_not_get_the_lock_writes_a_file_of_its_own(tmp_path: Path) -> None:
    spool_event(tmp_path, "first")
    fd = os.open(tmp_path / "capture" / capture_spool.SPOOL, os.O_RDWR)
    try:
        assert capture_spool.lock_nowait(fd)
        started = time.perf_counter()
        spool_event(tmp_path, "second")
        assert time.perf_counter() - started < 1
        assert make_collector(tmp_path).collect().records == 1, "a stopped writer delays its own events only"
    finally:
        os.close(fd)
    make_collector(tmp_path).collect()
    assert sorted(texts(tmp_path)) == ["first", "second"]


def test_full_spool_drops_events_and_marks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_spool, "MAX_SPOOL_BYTES", 1000)
    written = sum(spool_event(tmp_path, f"{number:0200}") for number in range(5))
    assert 0 < written < 5
    make_collector(tmp_path).collect()
    spool_event(tmp_path, "later")
    make_collector(tmp_path).collect()
    assert len([text for text in texts(tmp_path) if text.isdigit()]) == written
    (note,) = [text for text in texts(tmp_path) if "not recorded" in text]
    assert note.startswith(f"{5 - written} events")
    assert texts(tmp_path)[-1] == "later"


def test_event_that_two_hooks_report_is_recorded_once(tmp_path: Path) -> None:
    spool_event(tmp_path, "same")
    spool_event(tmp_path, "same")
    assert make_collector(tmp_path).collect().records == 1


def test_equal_events_apart_in_time_are_both_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool_event(tmp_path, "go on")
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 60 * 10**9)
    spool_event(tmp_path, "go on")
    assert make_collector(tmp_path).collect().records == 2


IN_CURSOR = {"client": "cursor", "client_session": "c-1", "origin": "capture", "turn": "gen-1"}


@pytest.mark.parametrize("order", [("cursor", "claude-code"), ("claude-code", "cursor")])
def test_event_that_the_hooks_of_two_clients_report_is_recorded_once(tmp_path: Path, order: tuple[str, str]) -> None:
    """Cursor runs its own hooks and those of Claude Code; the two inputs differ in form."""
    events: list[dict[str, Any]] = [
        {"kind": "session_start", "reason": "startup"},
        {"kind": "input", "text": "go on"},
        {"kind": "tool_call", "tool": "Shell", "call": "t-1", "data": {"command": "ls"}},
        {"kind": "tool_result", "tool": "Shell", "call": "t-1", "text": "till.toml"},
        {"kind": "output", "text": "It is 9144."},
        {"kind": "compaction", "reason": "auto"},
    ]
    collector = make_collector(tmp_path)
    for number, event in enumerate(events):
        spool_report(tmp_path, order[0], {**IN_CURSOR, **event}, number)
        collector.collect()
        spool_report(tmp_path, order[1], {**IN_CURSOR, **event, "project": "/home/ada"}, number + 100)
        collector.collect()
    records = EventLog(tmp_path).records()
    assert [record["kind"] for record in records] == [event["kind"] for event in events]
    assert {record["session"] for record in records} == {"cursor-c-1"}


def test_delayed_report_of_another_hook_is_recognised_by_the_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns()
    for seconds, hook, turn in (
        (0, "cursor", "gen-1"),
        (30, "claude-code", "gen-1"),
        (31, "cursor", "gen-2"),
        (45, "claude-code", "gen-2"),
    ):
        monkeypatch.setattr(time, "time_ns", lambda at=now + seconds * 10**9: at)
        spool_report(tmp_path, hook, {**IN_CURSOR, "kind": "input", "text": "go on", "turn": turn}, seconds)
    make_collector(tmp_path).collect()
    assert [record["turn"] for record in EventLog(tmp_path).records()] == ["gen-1", "gen-2"]


def test_equal_texts_of_two_sessions_and_of_two_turns_of_one_hook_are_all_recorded(tmp_path: Path) -> None:
    spool_event(tmp_path, "yes")
    spool_event(tmp_path, "yes", client_session="t")
    spool_event(tmp_path, "yes", kind="output")
    for turn in ("1", "2"):
        spool_report(tmp_path, "codex", {**IN_CURSOR, "kind": "input", "text": "yes", "turn": turn}, int(turn))
    assert make_collector(tmp_path).collect().records == 5


def test_events_that_the_log_refused_are_recorded_by_the_next_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    collector = make_collector(tmp_path)
    spool_event(tmp_path, "kept")
    with monkeypatch.context() as patch:
        patch.setattr(EventLog, "append", fail)
        with pytest.raises(OSError, match="space"):
            collector.collect()
    assert collector.collect().records == 1, "an event that was read twice is no second report of it"


def test_log_that_cannot_be_written_keeps_the_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool_event(tmp_path, "kept")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(EventLog, "append", fail)
        with pytest.raises(OSError, match="space"):
            make_collector(tmp_path).collect()
    make_collector(tmp_path).collect()
    assert texts(tmp_path) == ["kept"]


def test_secrets_in_results_of_tools_are_withheld(tmp_path: Path) -> None:
    collector = CaptureCollector(
        EventLog(tmp_path),
        tmp_path,
        "human:ada",
        lambda text: (text.replace("KEY", "···"), ("a key",) * ("KEY" in text)),
    )
    spool_event(tmp_path, "KEY of a person", kind="input")
    spool_event(tmp_path, "", kind="tool_result", data={"stdout": ["x KEY y"]}, tool="Bash")
    collector.collect()
    records = EventLog(tmp_path).records()
    assert records[0]["text"] == "KEY of a person"
    assert records[1]["data"] == {"stdout": ["x ··· y"]}
    assert records[1]["withheld"] == ["a key"]


def test_compaction_and_clearing_end_a_window(tmp_path: Path) -> None:
    spool_event(tmp_path, "started", kind="session_start", reason="startup")
    spool_event(tmp_path, "compacted", kind="compaction", reason="auto")
    spool_event(tmp_path, "cleared", kind="session_start", reason="clear", client_session="t")
    spool_event(tmp_path, "a prompt that names an event", reason="clear", client_session="u")
    ended = make_collector(tmp_path).collect().ended
    assert ended == (EndedWindow("codex-s", "human:ada"), EndedWindow("codex-t", "human:ada"))


def test_unnamed_session_has_a_session_of_its_own(tmp_path: Path) -> None:
    spool_event(tmp_path, "x", client_session="")
    make_collector(tmp_path).collect()
    assert EventLog(tmp_path).records()[0]["session"] == "codex-unnamed"


def test_spool_of_the_store_is_private(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        spool_event(tmp_path, "x")
    finally:
        os.umask(umask)
    folder = tmp_path / "capture"
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / capture_spool.SPOOL).stat().st_mode & 0o077 == 0
    assert json.loads((folder / capture_spool.SPOOL).read_bytes())["record"]["text"] == "x"
