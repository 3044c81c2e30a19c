"""The schema of records that clients write to the event log. Pure.

A line is a JSON object, or text that becomes an object of kind `note`. `kind` is one of `input`, `output`, `reasoning`,
`tool_call`, `tool_result`, or any other word. `text` or `data` is the message, `origin` its source, `model` the model
that produced it: a name, or `{"name": …, "version": …}`. Other members stay unchanged.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from ctxfs.model.change import MAX_LINE
from ctxfs.model.errors import invalid
from ctxfs.model.path import printable
from ctxfs.model.principal import Principal

KINDS = ("input", "output", "reasoning", "tool_call", "tool_result", "note")
_WORD = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_RESERVED_MEMBERS = ("at", "session", "principal", "seq", "prev", "hash", "body_sha256", "forgotten")


def parse_records(data: bytes, principal: str) -> list[dict[str, Any]]:
    """Return the bodies of records for whole lines, without blank ones.

    Raise `OSError` EINVAL for a line that is too long, or whose `kind` or `model` is invalid.
    """
    return [_parse_line(line, principal) for line in data.split(b"\n") if line.strip()]


def _parse_line(line: bytes, principal: str) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise invalid("history", f"a line holds {MAX_LINE} bytes at most, this one has {len(line)}")
    text = printable(line.decode("utf-8", "replace"))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return make_record_body(value if isinstance(value, dict) else {"kind": "note", "text": text}, principal)


def shell_session(principal: Principal) -> str:
    """Return the session of commands without one: a common session for all persons, and one for each agent."""
    return "shell" if principal.is_person else f"shell-{principal.name}"


def folder_of_principal(principal: str) -> str:
    """Return the name of the folder of a principal in `history/by-agent/`."""
    return principal.replace(":", "-")


def principal_of_folder(name: str) -> str:
    """Return the principal whose folder in `history/by-agent/` has this name."""
    return name.replace("-", ":", 1)


def make_record_body(record: Mapping[str, Any], principal: str) -> dict[str, Any]:
    """Return the body of a record.

    Members that only the log sets (`at`, `session`, `principal` …) are renamed to `said_at` and so on.

    Raise `OSError` EINVAL for an invalid `kind` or `model`.
    """
    kind = record.get("kind", "note")
    if not isinstance(kind, str) or not _WORD.fullmatch(kind):
        raise invalid("history", f"kind is a word in small letters, such as {', '.join(KINDS)}")
    model = record.get("model")
    if isinstance(model, str):
        model = {"name": model}
    if model is not None and not (isinstance(model, dict) and isinstance(model.get("name"), str)):
        raise invalid("history", 'model is a name, or {"name": …, "version": …}')
    body = {(f"said_{name}" if name in _RESERVED_MEMBERS else name): value for name, value in record.items()}
    body |= {"kind": kind, **({"model": model} if model is not None else {})}
    return {"principal": principal, **body}
