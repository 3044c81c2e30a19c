"""The message in a record of the event log: its speaker, its time and its text. Pure.

A message is a text of a person, an agent or a tool. Records without a text have none: tombstones, and records of
ctxfs's own actions (`ACTION_KINDS`). The time of a message (`said_at`) differs from that of its record
(`at`) if it was imported.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ctxfs.eventlog.chain import FORGOTTEN
from ctxfs.eventlog.damaged_json import decode_cut_text, parse_members
from ctxfs.model.path import one_line, printable_text

ACTION_KINDS = frozenset(("load", "forget"))
CTXFS_ORIGIN = "ctxfs"  # of records that ctxfs writes about its own actions
TOOL_KINDS = frozenset(("tool_call", "tool_result"))
MAX_TEXT_CHARACTERS = 64_000
MAX_TOOL_CHARACTERS = 16_000
MAX_WHOLE_RECORD_BYTES = 1 << 20  # of a longer record, only the head is parsed
RECORD_HEAD_BYTES = 1 << 18
_MAX_NAME_CHARACTERS = 80
_SPEAKERS = {"input": "user", "output": "assistant", "reasoning": "assistant", **dict.fromkeys(TOOL_KINDS, "tool")}
_CONTENT_MEMBERS = ("text", "data")
_CALL_MEMBERS = ("arguments", "input")


@dataclass(frozen=True, slots=True)
class Message:
    """A text with its speaker and its time (None: unknown). `is_cut`: the record contains more text."""

    kind: str
    speaker: str
    said_at: datetime | None
    text: str
    is_cut: bool = False

    @property
    def is_from_tool(self) -> bool:
        """True for the call of a tool, and for its result."""
        return self.kind in TOOL_KINDS


def message_of(record: Mapping[str, Any], *, is_whole: bool = False) -> Message | None:
    """Return the message in a record; None if it has no text. Its text is cut unless `is_whole`."""
    kind = record.get("kind", "note")
    if FORGOTTEN in record or not isinstance(kind, str) or kind in ACTION_KINDS:
        return None
    text = _text_of(record, kind)
    limit = len(text) if is_whole else MAX_TOOL_CHARACTERS if kind in TOOL_KINDS else MAX_TEXT_CHARACTERS
    is_cut = len(text) > limit or _is_head(record)
    text = printable_text(text[:limit])
    return Message(kind, speaker_of(record), said_at_of(record), text, is_cut) if text.strip() else None


def searched_message_of(record: Mapping[str, Any], *, is_whole: bool = False) -> Message | None:
    """Return the message in a record if search covers it: as `message_of`, without records that ctxfs wrote.

    Those of tool calls contain arguments, which are searched with the files of the calls or, by the settings, not at
    all.
    """
    return None if record.get("origin") == CTXFS_ORIGIN else message_of(record, is_whole=is_whole)


def speaker_of(record: Mapping[str, Any]) -> str:
    """Return the name of the speaker: the member `speaker`, else the role by the kind, else the name of the principal."""
    name = record.get("speaker")
    if not isinstance(name, str) or not name.strip():
        kind = str(record.get("kind", "note"))
        name = _SPEAKERS.get(kind) or str(record.get("principal", "")).partition(":")[2] or kind
    return one_line(name.strip()[:_MAX_NAME_CHARACTERS])


def said_at_of(record: Mapping[str, Any]) -> datetime | None:
    """Return the time of the message: `said_at`, else `at`. A time without an offset is UTC. None if neither is a time."""
    return next((time for name in ("said_at", "at") if (time := _parse_time(record.get(name))) is not None), None)


def recorded_at_of(record: Mapping[str, Any]) -> datetime | None:
    """Return the time at which the log took a record; None if it is not a time."""
    return _parse_time(record.get("at"))


def parse_line(line: bytes, *, is_head: bool = False) -> dict[str, Any] | None:
    """Return the members of a record's line; None if the line is not a JSON object.

    Of a line of more than MAX_WHOLE_RECORD_BYTES, return the members in its head, the last one cut. With `is_head`,
    the line is such a head already. Time and memory are linear in the size.
    """
    if not is_head and len(line) <= MAX_WHOLE_RECORD_BYTES:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return record if isinstance(record, dict) else None
    return _parse_head(line[:RECORD_HEAD_BYTES].decode("utf-8", "replace")) or None


def _text_of(record: Mapping[str, Any], kind: str) -> str:
    """Return the text of a record. That of a tool's record begins with the name of the tool."""
    values = [record[name] for name in _CONTENT_MEMBERS if record.get(name) not in (None, "", [], {})][:1]
    if kind == "tool_call":
        values = values or [record[name] for name in _CALL_MEMBERS if name in record][:1]
    texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    tool = record.get("tool")
    if texts and kind in TOOL_KINDS and isinstance(tool, str) and tool not in texts[0][: 2 * _MAX_NAME_CHARACTERS]:
        texts = [f"{tool[:_MAX_NAME_CHARACTERS]}: {texts[0]}"]
    return "".join(texts)


def _is_head(record: Mapping[str, Any]) -> bool:
    """Return True if a record was read from the head of its line: its last member, the hash, is missing."""
    return "seq" in record and "hash" not in record


def _parse_time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _parse_head(text: str) -> dict[str, Any]:
    """Return the members of an object of which only the head is given; the last value may be cut."""
    members, cut_name, cut_value = parse_members(text)
    if cut_name:
        cut_text = decode_cut_text(cut_value)
        members[cut_name] = cut_value if cut_text is None else cut_text
    return members
