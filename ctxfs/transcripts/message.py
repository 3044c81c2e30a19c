"""Messages of transcripts, in one form for all clients. Pure.

A parser of a client turns a JSON object of a transcript into messages. It never raises for a known object with
unexpected members. It counts the objects and parts that it leaves out, by a name for people.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

Json = Mapping[str, Any]
_MAX_LEFT_OUT_NAMES = 100
_MAX_LEFT_OUT_CHARS = 80
_MAX_EPOCH_SECONDS = 1e11  # larger numbers count smaller units


@dataclass(slots=True)
class LeftOut:
    """Numbers of objects and parts that are not imported, by a name for people; bounded, as names are untrusted."""

    numbers: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, number: int = 1) -> None:
        """Add to the number of a name."""
        name = name[:_MAX_LEFT_OUT_CHARS]
        is_listed = name in self.numbers or len(self.numbers) < _MAX_LEFT_OUT_NAMES
        self.numbers[name if is_listed else "others"] += number


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a session of a client, or one of its parts.

    `said_at` is ISO 8601 in UTC, or empty. `message_id` is the client's own id, or empty; `part` counts the parts of
    the message from 0. `has_global_id` is true if the client copies a message with its id to another session.
    `copied_from` is the session whose messages the client may have copied without ids to the begin of this session.
    `has_own_time` is false if a copy of the message may have another time.
    A message with `is_extract` repeats a message of a complete transcript, if there is one of its session.
    """

    client: str
    client_session: str
    kind: str
    text: str = ""
    data: Any = None
    said_at: str = ""
    speaker: str = ""
    model: str = ""
    message_id: str = ""
    part: int = 0
    project: str = ""
    tool: str = ""
    call: str = ""
    agent: str = ""
    title: str = ""
    has_global_id: bool = False
    copied_from: str = ""
    has_own_time: bool = True
    is_extract: bool = False


class Parser(Protocol):
    """A parser of the objects of one transcript, in their order."""

    def parse(self, value: Json) -> Iterator[Message]:
        """Yield the messages of an object."""
        ...


def parse_said_at(value: object) -> str:
    """Return a time as ISO 8601 in UTC with milliseconds, from ISO 8601 or a number since the epoch; empty for others.

    A number counts seconds, or milliseconds to nanoseconds by its size. A time without an offset is UTC.
    """
    try:
        match value:
            case bool():
                return ""
            case int() | float():
                moment = datetime.fromtimestamp(_to_seconds(float(value)), UTC)
            case str() if value.replace(".", "", 1).isdecimal():
                moment = datetime.fromtimestamp(_to_seconds(float(value)), UTC)
            case str():
                moment = datetime.fromisoformat(value.strip())
            case _:
                return ""
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return ""


def _to_seconds(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(number)
    while number >= _MAX_EPOCH_SECONDS:
        number /= 1000
    return number


def text_of(value: object) -> str:
    """Return a text; empty for a value of another type."""
    return value if isinstance(value, str) else ""


def object_of(value: object) -> Json:
    """Return a JSON object; an empty one for a value of another type."""
    return value if isinstance(value, dict) else {}


def list_of(value: object) -> list[Any]:
    """Return a JSON array; an empty one for a value of another type."""
    return value if isinstance(value, list) else []
