"""Test imports of transcripts that were made to exhaust or to confuse, and imports that are killed."""

import json
import os
import signal
import struct
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ctxfs.store.layout import Layout
from ctxfs.transcripts.identity import MAX_ID_CHARS
from tests.transcripts.conftest import Store
from tests.transcripts.samples import SESSION, claude_line, write_lines

LONG_ID = "i" * 900_000


def codex_lines(session: str, source: str, count: int) -> list[dict[str, Any]]:
    header = {"id": session, "cwd": "/w", "forked_from_id": source}
    messages = (
        {"type": "message", "role": "user", "content": [{"text": f"message {number} of {source[:9]}"}]}
        for number in range(count)
    )
    return [
        {"timestamp": "2026-10-01T10:00:00Z", "type": "session_meta", "payload": header},
        *({"timestamp": "2026-10-01T10:00:00Z", "type": "response_item", "payload": payload} for payload in messages),
    ]


def test_long_id_of_a_session_is_not_repeated_in_each_record(store: Store, tmp_path: Path) -> None:
    """A parser repeats the id in each message: the log would become larger than the transcript by their number."""
    folder = write_lines(tmp_path / "r" / "rollout-1.jsonl", codex_lines(LONG_ID, LONG_ID + "x", 500)).parent
    started = time.process_time()
    assert store.add("codex", folder).added == 500
    assert time.process_time() - started < 10
    records = store.records()
    assert {len(record["client_session"]) for record in records} == {MAX_ID_CHARS}
    assert sum(file.stat().st_size for file in (store.layout.history).rglob("*.jsonl")) < 2_000_000
    assert store.add("codex", folder).added == 0


def test_long_ids_that_differ_at_their_end_are_different(store: Store, tmp_path: Path) -> None:
    lines = [{"role": "user", "content": "same", "session": "s" * 5000 + end, "id": "m" * 5000 + end} for end in "ab"]
    file = write_lines(tmp_path / "x.jsonl", lines)
    assert store.add("jsonl", file).added == 2
    assert len({record["session"] for record in store.records()}) == 2
    assert store.add("jsonl", file).added == 0


@pytest.mark.parametrize("sources", [("a", "a"), ("b", "a"), ("b", "c")])
def test_forks_that_name_each_other_end(store: Store, tmp_path: Path, sources: tuple[str, str]) -> None:
    for session, source in zip("ab", sources, strict=True):
        write_lines(tmp_path / "r" / f"rollout-{session}.jsonl", codex_lines(session, source, 20))
    added = store.add("codex", tmp_path / "r").added
    texts = Counter(store.texts())
    assert sum(texts.values()) == added
    assert len(texts) == 20 * len(set(sources))
    assert store.add("codex", tmp_path / "r").added == 0


def test_fork_marks_of_claude_code_in_a_circle_add_each_message_once(store: Store, tmp_path: Path) -> None:
    lines = []
    for number in range(10):
        line = claude_line(number, "user", f"message {number}")
        lines.append({**line, "forkedFrom": {"sessionId": f"s{number % 2}", "messageUuid": line["uuid"]}})
    for name in ("s0", "s1"):
        write_lines(tmp_path / "p" / f"{name}.jsonl", [{**line, "sessionId": name} for line in lines])
    assert store.add("claude-code", tmp_path / "p").added == 10
    assert store.add("claude-code", tmp_path / "p").added == 0


def test_id_with_another_text_is_the_same_message(store: Store, tmp_path: Path) -> None:
    first, second = claude_line(1, "user", "what was said"), claude_line(1, "user", "and what was put in its place")
    write_lines(tmp_path / "p" / f"{SESSION}.jsonl", [first, second])
    report = store.add("claude-code", tmp_path / "p")
    assert (report.added, report.already_there) == (1, 1)
    assert store.texts() == ["what was said"], "the record of a message never changes"


@pytest.mark.parametrize(
    "time_text", ["0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"]
)
def test_first_and_last_times_are_imported_and_found_on_their_day(store: Store, tmp_path: Path, time_text: str) -> None:
    write_lines(tmp_path / "p" / f"{SESSION}.jsonl", [{**claude_line(1, "user", "x"), "timestamp": time_text}])
    assert store.add("claude-code", tmp_path / "p").added == 1
    (record,) = store.records()
    day = record.get("said_at", record["at"])[:10]
    assert [entry["text"] for entry in store.app.derived_memory.session_records.day(day, 10)] == ["x"]
    assert store.app.derived_memory.session_records.overviews(0, "", "", 10)[0]["records"] == 1


def test_members_of_a_zip_file_that_overlap_are_bounded_together(store: Store, tmp_path: Path) -> None:
    """Each name in the directory has the same data: they unpack to thousands of times the size of the file."""
    file = tmp_path / "overlap.zip"
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("conversations-000.json", "w") as member,
    ):
        member.write(b"[" + b" " * (8 << 20) + b"]")
    data = file.read_bytes()
    position = data.index(b"PK\1\2")
    end = data.index(b"PK\5\6")
    entries = [data[position:end].replace(b"-000.", f"-{number:03}.".encode()) for number in range(900)]
    directory = b"".join(entries)
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(entries), len(entries), len(directory), position, 0)
    file.write_bytes(data[:position] + directory + tail)
    started = time.process_time()
    report = store.add("chatgpt", file)
    assert time.process_time() - started < 20
    assert len(report.faults) > 800
    assert "the members unpack to more than 64 MiB" in report.faults[-1][1]


@pytest.mark.parametrize("step", range(0, 42, 3))
def test_killed_import_is_completed_by_the_next_one(store: Store, layout: Layout, tmp_path: Path, step: int) -> None:
    sessions = [{"role": "user", "content": f"message {n}", "session": f"s{n % 3}"} for n in range(30)]
    file = write_lines(tmp_path / "x.jsonl", sessions)
    pid = os.fork()
    if not pid:
        _import_until_killed(layout, file, step)
    os.waitpid(pid, 0)
    store.add("jsonl", file)
    assert Counter(store.texts()) == Counter(line["content"] for line in sessions)
    assert store.add("jsonl", file).added == 0


def _import_until_killed(layout: Layout, file: Path, step: int) -> None:
    """Import in this process, which kills itself before or after a system call of an append."""
    calls = iter(range(step + 1))

    def killing(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if next(calls, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return call

    try:
        child = Store(layout)
        os.write, os.pwrite, os.fsync, os.ftruncate = map(killing, (os.write, os.pwrite, os.fsync, os.ftruncate))
        child.add("jsonl", file)
    finally:
        os._exit(0)


def test_number_of_any_size_costs_its_line(store: Store, tmp_path: Path) -> None:
    line = json.dumps(claude_line(1, "user", "good"))
    file = tmp_path / "p" / f"{SESSION}.jsonl"
    file.parent.mkdir()
    huge = "9" * 100_000
    file.write_text(f'{{"type": "user", "timestamp": {huge}}}\n{{"type": "user", "timestamp": 1e999}}\n{line}\n')
    report = store.add("claude-code", tmp_path / "p")
    assert (report.added, len(report.damaged)) == (1, 1)
