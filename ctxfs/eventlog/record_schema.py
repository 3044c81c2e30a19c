"""What somebody adds to the history, checked. Pure.

A line is a JSON object, or text that becomes one of kind `note`. `kind` says what it is (`input`, `output`, `reasoning`, `tool_call`,
`tool_result`, or any other word), `text` or `data` what was said, `origin` where it came from, `model` which model said it:
a name, or `{"name": …, "version": …}`. Other members are kept as they are.
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
_OURS = ("at", "session", "principal", "seq", "prev", "hash", "body_sha256", "forgotten")


def interactions(data: bytes, principal: str) -> list[dict[str, Any]]:
    """The bodies of records for whole lines; blank ones are left out. OSError: EINVAL for what is too long or of no kind."""
    return [_interaction(line, principal) for line in data.split(b"\n") if line.strip()]


def _interaction(line: bytes, principal: str) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise invalid("history", f"a line holds {MAX_LINE} bytes at most, this one has {len(line)}")
    text = printable(line.decode("utf-8", "replace"))
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    return interaction(said if isinstance(said, dict) else {"kind": "note", "text": text}, principal)


def shell_session(principal: Principal) -> str:
    """The session of commands that name none: one of all persons, and one of each agent."""
    return "shell" if principal.is_person else f"shell-{principal.name}"


def interaction(said: Mapping[str, Any], principal: str) -> dict[str, Any]:
    """The body of a record. What only the history says (`at`, `session`, `principal` …) is kept as `said_at` and so on."""
    kind = said.get("kind", "note")
    if not isinstance(kind, str) or not _WORD.fullmatch(kind):
        raise invalid("history", f"kind is a word in small letters, such as {', '.join(KINDS)}")
    model = said.get("model")
    if isinstance(model, str):
        model = {"name": model}
    if model is not None and not (isinstance(model, dict) and isinstance(model.get("name"), str)):
        raise invalid("history", 'model is a name, or {"name": …, "version": …}')
    body = {(f"said_{name}" if name in _OURS else name): value for name, value in said.items()}
    body |= {"kind": kind, **({"model": model} if model is not None else {})}
    return {"principal": principal, **body}
