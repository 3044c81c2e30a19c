"""Test that a record's message has the right speaker, time and text, whatever the record contains."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from ctxfs.eventlog.chain import Link, chain_record, make_tombstone, parse_record
from ctxfs.eventlog.record_text import MAX_TEXT_CHARACTERS, MAX_TOOL_CHARACTERS, Message, message_of, parse_line

AT = "2026-03-01T12:00:00.000+00:00"


def read(**members: Any) -> Message | None:
    line, _ = chain_record({"at": AT, "session": "s", "principal": "agent:coder", **members}, Link())
    record = parse_line(line)
    return message_of(record) if record is not None else None


@pytest.mark.parametrize(
    ("members", "speaker"),
    [
        ({"kind": "input"}, "user"),
        ({"kind": "output"}, "assistant"),
        ({"kind": "reasoning"}, "assistant"),
        ({"kind": "tool_call"}, "tool"),
        ({"kind": "tool_result"}, "tool"),
        ({"kind": "note"}, "coder"),
        ({"kind": "decision"}, "coder"),
        ({"kind": "output", "speaker": "Melanie"}, "Melanie"),
        ({"kind": "output", "speaker": 7}, "assistant"),
        ({"kind": "output", "speaker": "a\nuser: b"}, "a\\nuser: b"),
    ],
)
def test_speaker_is_named_or_follows_from_the_kind(members: dict[str, Any], speaker: str) -> None:
    message = read(text="Zanzibar", **members)
    assert message is not None
    assert message.speaker == speaker


@pytest.mark.parametrize(
    ("said_at", "expected"),
    [
        ("2023-05-08T13:56:00+02:00", datetime(2023, 5, 8, 11, 56, tzinfo=UTC)),
        ("2023-05-08T13:56:00Z", datetime(2023, 5, 8, 13, 56, tzinfo=UTC)),
        ("2023-05-08", datetime(2023, 5, 8, tzinfo=UTC)),
        ("9999-12-31T23:59:59-14:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),  # no time in UTC
        ("yesterday", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        (1683547000, datetime(2026, 3, 1, 12, tzinfo=UTC)),
    ],
)
def test_time_is_that_of_saying_if_it_can_be_read(said_at: object, expected: datetime) -> None:
    message = read(kind="input", text="Zanzibar", said_at=said_at)
    assert message is not None
    assert message.said_at == expected


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"kind": "input", "text": "plain"}, "plain"),
        ({"kind": "tool_result", "data": {"rows": [1, "zwei"]}}, '{"rows": [1, "zwei"]}'),
        ({"kind": "tool_call", "tool": "grep", "arguments": {"for": "x"}}, 'grep: {"for": "x"}'),
        ({"kind": "tool_call", "tool": "grep", "text": "grep for x"}, "grep for x"),
        ({"kind": "output", "text": ["a", "b"]}, '["a", "b"]'),
        ({"kind": "output", "text": "", "data": "from data"}, "from data"),
        ({"kind": "output", "text": "lone \ud800 half"}, "lone ? half"),
    ],
)
def test_text_is_that_of_the_record(members: dict[str, Any], text: str) -> None:
    message = read(**members)
    assert message is not None
    assert message.text == text


@pytest.mark.parametrize(
    "members",
    [
        {"kind": "load", "task": "t", "text": "a delivery"},
        {"kind": "forget", "records": 3},
        {"kind": "output"},
        {"kind": "output", "text": " \n"},
        {"kind": "tool_result", "tool": "grep", "ok": True, "sha256": "ab"},
    ],
)
def test_record_of_an_action_says_nothing(members: dict[str, Any]) -> None:
    assert read(**members) is None


def test_erased_record_says_nothing() -> None:
    line, _ = chain_record({"at": AT, "kind": "input", "text": "gone"}, Link())
    record = parse_line(make_tombstone(parse_record(line), AT, "human:ada"))
    assert record is not None
    assert message_of(record) is None


@pytest.mark.parametrize("line", [b"", b"[1]", b"nothing", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_line_that_is_no_record_is_none(line: bytes) -> None:
    assert parse_line(line) is None


def test_huge_record_is_read_up_to_a_limit_and_says_so() -> None:
    message = read(kind="tool_result", text="Zanzibar " + "x" * 5_000_000)
    assert message is not None
    assert message.text.startswith("Zanzibar x")
    assert len(message.text) <= MAX_TOOL_CHARACTERS
    assert message.is_cut
    short = read(kind="input", text="y" * (MAX_TEXT_CHARACTERS + 1))
    assert short is not None
    assert short.is_cut


@pytest.mark.parametrize("cut", range(1, 60))
def test_head_of_a_record_is_readable_wherever_it_ends(cut: int) -> None:
    line = json.dumps(
        {"seq": 1, "kind": "output", "text": 'a "quoted" \n\t Zürich \u2028 \\ end', "hash": "ab"}
    ).encode()
    head = line[: len(line) - cut]
    record = parse_line(head, is_head=True)
    assert record is not None
    assert record["kind"] == "output"
    assert 'a "quoted" \n\t Zürich \u2028 \\ end'.startswith(str(record.get("text", "")))


@pytest.mark.parametrize("piece", ['"a":[[[[', '"a":"\\\\\\"', '{"a":', '"\\', ",,,,", '"a" : 1 , '])
def test_hostile_head_takes_linear_time(piece: str) -> None:
    started = time.process_time()
    parse_line(b"{" + piece.encode() * 200_000, is_head=True)
    assert time.process_time() - started < 2
