"""Values of JSON as texts: messages with their authors and days, in records of any nesting. Pure.

A message is an object with an author and a text, at any depth: a line of a transcript, an entry of `messages`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ctxfs.index.extract.dates import parse_day
from ctxfs.index.extract.pieces import shorten_opaque_runs

_AUTHOR_FIELDS = (
    "speaker", "author", "from", "user", "sender", "role", "name", "username", "user_name", "sender_name", "from_name",
    "nick", "nickname", "display_name", "participant",
)  # fmt: skip
_NESTED_AUTHOR_FIELDS = ("author", "from", "user", "sender", "speaker", "user_profile", "profile")
_NAME_FIELDS = ("nickname", "real_name", "display_name", "name", "global_name", "username", "first_name", "role", "id")
_DAY_FIELDS = (
    "date", "time", "timestamp", "ts", "datetime", "created_at", "create_time", "when", "at", "created", "sent_at",
    "timestamp_ms", "date_unixtime",
)  # fmt: skip
_TEXT_FIELDS = ("text", "content", "body", "value", "message", "msg", "parts", "markdown", "utterance", "transcript")
_ROLE_TYPES = frozenset(("user", "assistant", "human", "system", "tool", "ai", "bot"))
_CALL_FIELDS = ("input", "arguments", "args", "function", "parameters", "command")
_MAX_DEPTH = 40
_MAX_VALUES = 200_000
_MAX_AUTHOR_CHARACTERS = 80
_MAX_NUMBER = 10**30
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Message:
    """A text with its author and day; both may be unknown, as in `Chunk`."""

    text: str
    author: str = ""
    day: int | None = None


def find_author(record: Mapping[str, Any]) -> str:
    """Return the author that a field of an object names, also within an object such as `{"author": {"name": …}}`."""
    for key in _AUTHOR_FIELDS:
        value = record.get(key)
        if isinstance(value, str) and value:
            return value[:_MAX_AUTHOR_CHARACTERS]
        if isinstance(value, dict) and key in _NESTED_AUTHOR_FIELDS:
            names = [value.get(name) for name in _NAME_FIELDS]
            if name := next((name for name in names if isinstance(name, str) and name), ""):
                return name[:_MAX_AUTHOR_CHARACTERS]
    kind = record.get("type")
    return kind if isinstance(kind, str) and kind in _ROLE_TYPES else ""


def find_day(record: Mapping[str, Any]) -> int | None:
    """Return the day that a field of an object has, as a proleptic Gregorian ordinal; None without one."""
    return next((day for key in _DAY_FIELDS if (day := _parse_stamp(record.get(key))) is not None), None)


def _parse_stamp(value: Any) -> int | None:
    """Return the day of a stamp, which may be a number in a string (`"1683504000.000200"`)."""
    if isinstance(value, str) and re.fullmatch(r"\d{9,13}(?:\.\d{1,9})?", value[:24]):
        value = float(value)
    return parse_day(value)


def has_messages(value: Any) -> bool:
    """Return True if a value is a message, or contains one below at most a few of its fields."""
    return isinstance(value, dict | list) and _has_messages_within(value, 3)


def iterate_messages(value: Any, day: int | None = None) -> Iterator[Message]:
    """Yield the messages in a value in order, and its other values as messages without an author."""
    yield from _Walk().walk(value, Message("", "", day), 0)


class _Walk:
    """A walk through one value."""

    def __init__(self) -> None:
        self._remaining = _MAX_VALUES

    def walk(self, value: Any, above: Message, depth: int) -> Iterator[Message]:
        if isinstance(value, list) and depth < _MAX_DEPTH:
            for member in value:
                yield from self.walk(member, above, depth + 1)
        elif isinstance(value, dict) and depth < _MAX_DEPTH:
            yield from self._walk_object(value, above, depth)
        elif text := self.render(value):
            yield Message(text, above.author, above.day)

    def _walk_object(self, record: dict[str, Any], above: Message, depth: int) -> Iterator[Message]:
        own_day = find_day(record)
        day = own_day if own_day is not None else above.day
        author = find_author(record)
        key = next((key for key in _TEXT_FIELDS if record.get(key)), None)
        inner = [(name, value) for name, value in record.items() if name != key and has_messages(value)]
        nested = record.get(key) if key is not None else None
        if isinstance(nested, dict) and has_messages(nested):  # {"type": "user", "message": {"role": …}}
            inner.insert(0, (key or "", nested))
            key = None
        if author and key is not None:
            text = "\n".join(self.render_content(record[key], depth + 1))
            others = {name: value for name, value in record.items() if name != key and (name, value) not in inner}
            yield Message("\n".join(filter(None, (text, *self.render_rest(others, author, depth)))), author, day)
        else:
            others = {name: value for name, value in record.items() if (name, value) not in inner}
            if inner:  # an envelope: its day is that of the messages, its type one of the protocol
                others = {name: value for name, value in others.items() if name not in (*_DAY_FIELDS, "type")}
            rest = "\n".join(self.render_rest(others, author, depth, is_nested=bool(inner)))
            if rest and not inner:
                yield Message(rest, author or above.author, day)
            elif rest:
                yield Message(rest, "", day)
        for _, value in inner:
            yield from self.walk(value, Message("", author, day), depth + 1)

    def render_content(self, value: Any, depth: int) -> Iterator[str]:
        """Yield the texts of the content of a message: a string, or blocks such as `{"type": "text", "text": …}`."""
        members = value if isinstance(value, list) else [value]
        pending: list[str] = []
        for member in members:
            if isinstance(member, str):
                pending.append(member)
                continue
            if isinstance(member, dict) and depth < _MAX_DEPTH:
                text = next((member[key] for key in ("text", "thinking") if isinstance(member.get(key), str)), None)
                if text is not None and member.get("type") in ("link", "bold", "italic", "mention", "code", "hashtag"):
                    pending.append(text)  # a span of Telegram
                    continue
                yield from filter(None, ("".join(pending),))
                pending = []
                if text is not None:
                    yield shorten_opaque_runs(text)
                else:
                    yield from self._render_block(member, depth)
            elif isinstance(member, list) and depth < _MAX_DEPTH:
                pending.extend(self.render_content(member, depth + 1))
            elif rendered := self.render(member):
                pending.append(rendered)
        if text := "".join(pending):
            yield shorten_opaque_runs(text)

    def _render_block(self, block: dict[str, Any], depth: int) -> Iterator[str]:
        """Yield the texts of a tool's call or result, or of another block."""
        content = block.get("content")
        if content:
            yield from self.render_content(content, depth + 1)
        others = {
            name: value for name, value in block.items() if name not in ("content", "type", "source", "signature")
        }
        yield from self.render_rest(others, "", depth + 1)

    def render_rest(
        self, record: Mapping[str, Any], author: str, depth: int, *, is_nested: bool = False
    ) -> Iterator[str]:
        """Yield `name: value` of the other fields. Opaque ids of nested records are left out."""
        for name, value in record.items():
            if (isinstance(value, str) and value == author) or value is None or isinstance(value, bool):
                continue
            if isinstance(value, dict | list):
                if depth < _MAX_DEPTH and not (author and isinstance(value, dict) and name in _NESTED_AUTHOR_FIELDS):
                    yield from self._render_nested(name, value, depth)
            elif (text := self.render(value)) and not (is_nested and _UUID.fullmatch(text)):
                yield f"{name}: {text}"

    def _render_nested(self, name: str, value: dict[str, Any] | list[Any], depth: int) -> Iterator[str]:
        if isinstance(value, dict):
            yield from self.render_rest(value, "", depth + 1)
            return
        scalars = [text for member in value if not isinstance(member, dict | list) and (text := self.render(member))]
        if scalars:
            yield f"{name}: {', '.join(scalars)}"
        for member in value:
            if isinstance(member, dict):
                yield from self.render_rest(member, "", depth + 1)
            elif isinstance(member, list) and depth + 1 < _MAX_DEPTH:
                yield from self._render_nested(name, member, depth + 1)

    def render(self, value: Any) -> str:
        """Return a scalar as text; empty for None, for other types, and beyond the limit of values."""
        self._remaining -= 1
        if self._remaining < 0 or isinstance(value, bool):
            return ""
        if isinstance(value, str):
            return shorten_opaque_runs(value)
        if isinstance(value, int | float):
            return str(value) if (isinstance(value, float) and isfinite(value)) or abs(value) < _MAX_NUMBER else ""
        return ""


def _contains_messages(value: dict[str, Any] | list[Any]) -> bool:
    """Return True if a value is a message, or a list of objects of which one of the first is."""
    if isinstance(value, dict):
        has_text = any(value.get(key) for key in _TEXT_FIELDS)
        return bool(has_text and find_author(value) and not any(key in value for key in _CALL_FIELDS))
    return any(isinstance(member, dict) and _contains_messages(member) for member in value[:20])


def _has_messages_within(value: dict[str, Any] | list[Any], depth: int) -> bool:
    if _contains_messages(value):
        return True
    members = value.values() if isinstance(value, dict) else value[:20]
    return depth > 0 and any(
        isinstance(member, dict | list) and _has_messages_within(member, depth - 1) for member in members
    )
