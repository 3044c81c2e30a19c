"""Statements of users about themselves in the records of sessions: "My time zone is CET", "I live in Lyon". Pure.

Only messages of the user count, and only attributes of a person in the first person: a prompt is full of other text.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ctxfs.context.build.sentences import sentences
from ctxfs.eventlog.record_text import message_of, said_at_of

MAX_MESSAGE_CHARS = 4_000  # a longer input is a pasted document
_MAX_SENTENCE_CHARS = 160
_MAX_VALUE_WORDS = 8
_USER = "user"
_INPUT = "input"
_PERSONAL = frozenset(
    "name nickname email phone address home hometown city country region timezone zone language job role title profession employer "
    "company team manager boss birthday age pronouns partner wife husband spouse pet dog cat hobby food drink colour color editor "
    "shell diet allergy nationality locale currency framework library theme font".split()
)
_QUALIFIED = ("favourite", "favorite", "preferred")
_NOW = r"(?:now\s+|currently\s+)?"
_SENTENCES = (
    (re.compile(rf"i\s+{_NOW}(?:live|reside)\s+in\s+(\S.*)", re.I), "Home"),
    (re.compile(r"i(?:'ve|\s+have)?\s+(?:just\s+)?moved\s+to\s+(\S.*)", re.I), "Home"),
    (re.compile(rf"i\s+{_NOW}work\s+(?:at|for)\s+(\S.*)", re.I), "Employer"),
    (re.compile(r"(?:i am|i'm)\s+(?:called|named)\s+(\S.*)", re.I), "Name"),
)
_MY = re.compile(rf"my\s+([\w ]{{2,40}}?)\s+(?:is|are)\s+{_NOW}(\S.*)", re.I)
_UNSURE = re.compile(
    r"\b(?:not|broken|wrong|missing|why|what|how|if|unless|maybe|perhaps|failing|too|because)\b|[?{}<>=`]", re.I
)


class UserStatement(NamedTuple):
    """An attribute of the user with its value, and the record that it is from. `is_trusted`: a person wrote the record."""

    attribute: str
    value: str
    time_ns: int
    cite: str
    text: str
    is_trusted: bool


def statements_in(record: Mapping[str, Any], cite: str) -> Iterator[UserStatement]:
    """Yield the statements in a record; none unless it is an input of the user with a time."""
    message = message_of(record) if record.get("kind") == _INPUT else None
    moment = said_at_of(record)
    if message is None or moment is None or message.speaker != _USER or len(message.text) > MAX_MESSAGE_CHARS:
        return
    is_trusted = str(record.get("principal", "")).startswith("human:")
    for sentence in sentences(message.text):
        text = sentence.text.strip()
        if pair := _pair_in(text):
            yield UserStatement(*pair, int(moment.timestamp()) * 1_000_000_000, cite, text, is_trusted)


def _pair_in(text: str) -> tuple[str, str] | None:
    body = " ".join(text.rstrip(".!").replace("’", "'").split())
    if len(body) > _MAX_SENTENCE_CHARS or text.endswith("?") or _UNSURE.search(body):
        return None
    for pattern, name in _SENTENCES:
        if match := pattern.fullmatch(body):
            return _checked(name, match[1])
    match = _MY.fullmatch(body)
    if match is None:
        return None
    words = match[1].casefold().split()
    return _checked(match[1].capitalize(), match[2]) if words[-1] in _PERSONAL or words[0] in _QUALIFIED else None


def _checked(name: str, value: str) -> tuple[str, str] | None:
    value = re.split(r" ?[,;](?: |$)| (?:and|but|so|now) ", value, maxsplit=1)[0].strip()
    value = value.removesuffix(" now").strip()
    return (name, value) if value and len(value.split()) <= _MAX_VALUE_WORDS and ":" not in value else None
