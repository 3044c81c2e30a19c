"""Test the storage and retention of tool calls."""

import json
from pathlib import Path

import pytest

from ctxfs.exec import call_store
from ctxfs.exec.call_store import CallStore
from ctxfs.exec.outcome import Outcome


def hold(calls: CallStore, number: str, text: bytes = b"said", principal: str = "human:root") -> None:
    result = {"id": number, "tool": "a/b", "principal": principal, "at": number, "text": text.decode()}
    calls.add_pending("a/b", number, {"x": 1}, result, Outcome(text, b"", 0, 0.1))


def test_a_call_is_the_same_before_and_after_it_is_written(tmp_path: Path) -> None:
    calls = CallStore(tmp_path / "calls")
    hold(calls, "c-0001")

    def seen() -> list[object]:
        return [
            calls.call_ids("a/b"),
            calls.has("a/b", "c-0001"),
            calls.has("a/b", "c-0002"),
            calls.has("a/b", "c-0001", "agent:alice"),
            calls.call_ids("a/b", "agent:alice"),
            calls.files("a/b", "c-0001"),
            calls.read("a/b", "c-0001", "result.md"),
            calls.record("c-0001"),
            calls.records(),
        ]

    before = seen()
    calls.write("a/b", "c-0001")
    assert seen() == before
    assert CallStore(tmp_path / "calls").record("c-0001")["arguments"] == {"x": 1}
    for wrong in ("../..", "c-0002", ""):
        with pytest.raises(FileNotFoundError):
            calls.read("a/b", wrong, "result.md")
    with pytest.raises(FileNotFoundError):
        calls.record("c-0002")


def test_the_oldest_go_when_there_are_too_many_or_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_store, "_MAX_CALLS", 5)
    monkeypatch.setattr(call_store, "_MAX_BYTES", 1_000_000)
    calls = CallStore(tmp_path / "calls")
    for number in range(8):
        hold(calls, f"c-{number:04d}")
        calls.write("a/b", f"c-{number:04d}")
    assert len(calls.call_ids("a/b")) == 5
    for number in range(8, 12):
        hold(calls, f"c-{number:04d}", b"x" * 400_000)
        calls.write("a/b", f"c-{number:04d}")
    assert calls.call_ids("a/b") == ["c-0010", "c-0011"]
    hold(calls, "c-0012", b"x" * 4_000_000)
    calls.write("a/b", "c-0012")
    assert calls.call_ids("a/b") == ["c-0012"]


def test_leftovers_of_a_killed_daemon_are_removed(tmp_path: Path) -> None:
    half = tmp_path / "calls" / "a" / "b" / "calls" / ".c-0001"
    half.mkdir(parents=True)
    (half / "args.json").write_text(json.dumps({}))
    calls = CallStore(tmp_path / "calls")
    assert calls.call_ids("a/b") == []
    calls.sweep()
    assert not half.exists()
