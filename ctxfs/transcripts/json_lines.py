"""JSON lines of any program, with a map from the members of a message to members of the lines. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ctxfs.model.errors import EXIT_USAGE, CommandError
from ctxfs.transcripts.content import flatten_content
from ctxfs.transcripts.message import Json, LeftOut, Message, object_of, parse_said_at, text_of

CLIENT = "jsonl"
# Member of a message → common names in lines, the first that is there counts. A dot separates the levels.
DEFAULT_NAMES: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "content", "message", "message.content", "body", "output", "prompt"),
    "kind": ("kind", "role", "message.role", "sender", "author.role", "type"),
    "time": ("said_at", "timestamp", "time", "ts", "created_at", "createdAt", "date", "at", "message.timestamp"),
    "session": (
        "session",
        "session_id",
        "sessionId",
        "conversation_id",
        "conversation",
        "thread_id",
        "thread",
        "channel",
    ),
    "id": ("message_id", "id", "uuid", "message.id"),
    "speaker": ("speaker", "name", "author", "author.name", "from", "user", "username"),
    "model": ("model", "message.model", "model.name"),
    "project": ("project", "cwd", "folder"),
    "tool": ("tool", "tool_name"),
}
_KINDS = {
    "input": ("input", "user", "human", "customer", "prompt", "question"),
    "output": ("output", "assistant", "ai", "bot", "model", "agent", "completion", "answer", "response"),
    "reasoning": ("reasoning", "thinking", "thought"),
    "tool_call": ("tool_call", "tool_use", "function_call"),
    "tool_result": ("tool_result", "tool", "function", "function_result"),
    "note": ("note", "system", "developer"),
}
_KIND_OF_ROLE = {role: kind for kind, roles in _KINDS.items() for role in roles}
_CHECKED_LINES = 100  # after these a map without any match is an error
_MAX_LISTED_MEMBERS = 30
_PAIR = re.compile(r"([a-z]+)=(.+)")


def parse_map(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return {member of a message: path of a member of a line} of `text=content` and so on.

    Raise CommandError for another form or an unknown member.
    """
    names = {}
    for pair in pairs:
        match = _PAIR.fullmatch(pair)
        if match is None or match[1] not in DEFAULT_NAMES:
            raise CommandError(
                f"'{pair}' maps no member of a message", f"MEMBER=PATH with {', '.join(DEFAULT_NAMES)}", EXIT_USAGE
            )
        names[match[1]] = match[2]
    return names


@dataclass(slots=True)
class JsonLinesParser:
    """A parser of the lines of one file; `stem` is the session of lines that name none."""

    stem: str
    left_out: LeftOut
    names: Mapping[str, str]
    _count: int = 0
    _matched: set[str] = field(default_factory=set)
    _members: dict[str, None] = field(default_factory=dict)

    def parse(self, value: Json) -> Iterator[Message]:
        """Yield the message of a line.

        Raise CommandError if none of the first lines has the member of a map, or a text.
        """
        self._count += 1
        values = {member: self._read_member(value, member) for member in DEFAULT_NAMES}
        if self._count <= _CHECKED_LINES:
            self._matched.update(member for member, content in values.items() if content is not None)
            _collect_members(value, "", self._members)
            if self._count == _CHECKED_LINES:
                self.check()
        text = flatten_content(values["text"])
        if not text.strip():
            self.left_out.add("lines without a text")
            return
        role = _name_of(values["kind"])
        kind = _KIND_OF_ROLE.get(role.lower(), "")
        speaker = _name_of(values["speaker"]) or ("" if kind else role)
        yield Message(
            CLIENT,
            _name_of(values["session"]) or self.stem,
            kind or "input",
            text=text,
            said_at=parse_said_at(values["time"]),
            speaker=speaker,
            model=_name_of(values["model"]),
            message_id=_name_of(values["id"]),
            project=_name_of(values["project"]),
            tool=_name_of(values["tool"]),
        )

    def check(self) -> None:
        """Raise CommandError if no line so far has the member of a map, or a text."""
        missing = [f"{member}={path}" for member, path in self.names.items() if member not in self._matched]
        if self._count and "text" not in self._matched and "text" not in self.names:
            missing.insert(0, "text")
        if self._count and missing:
            members = ", ".join(list(self._members)[:_MAX_LISTED_MEMBERS])
            raise CommandError(
                f"no line has {' or '.join(repr(name) for name in missing)}; the lines have: {members}",
                "--map text=PATH, with a dot between two levels",
                EXIT_USAGE,
            )

    def _read_member(self, value: Json, member: str) -> Any:
        paths = (self.names[member],) if member in self.names else DEFAULT_NAMES[member]
        for path in paths:
            content = _value_at(value, path)
            if content is None or (member in ("text", "kind", "speaker", "model") and isinstance(content, dict)):
                continue
            return content
        return None


def _value_at(value: Json, path: str) -> Any:
    if path in value:
        return value[path]
    content: Any = value
    for name in path.split("."):
        content = object_of(content).get(name)
    return content


def _name_of(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return text_of(value).strip()


def _collect_members(value: Json, prefix: str, members: dict[str, None]) -> None:
    for name, content in value.items():
        if len(members) >= _MAX_LISTED_MEMBERS:
            return
        members[f"{prefix}{name}"[:100]] = None
        if isinstance(content, dict) and not prefix:
            _collect_members(content, f"{name}.", members)
