"""The answer to a prompt, from the daemon, in the form that the client of the hook documents. Imported for it only."""

import json
import signal
from pathlib import Path as HostPath
from types import FrameType
from typing import Any

from ctxfs.eventlog.client_sessions import client_name
from ctxfs.model.errors import CommandError
from ctxfs.rpc.client import Client

MAX_SECONDS = 1.0
# Client → the name of its event for a prompt, whose answer has `additionalContext`. Cursor takes no context there.
PROMPT_EVENTS = {"claude-code": "UserPromptSubmit", "codex": "UserPromptSubmit", "gemini": "BeforeAgent"}


class _TimeOver(Exception):
    """Raised by the alarm."""


def recall_output(store: str, client: str, principal: str, tokens: int, record: dict[str, Any]) -> str:
    """Return the line for stdout; empty without a daemon, without an answer, or after `MAX_SECONDS`."""
    event = PROMPT_EVENTS.get(client_name(client))
    if event is None:
        return ""
    old_handler = signal.signal(signal.SIGALRM, _raise_time_over)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    try:
        text = _request_answer(store, principal, tokens, record)
    except (_TimeOver, CommandError, OSError):
        return ""
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old_handler)
    return json.dumps({"hookSpecificOutput": {"hookEventName": event, "additionalContext": text}}) if text else ""


def _raise_time_over(number: int, frame: FrameType | None) -> None:
    raise _TimeOver


def _request_answer(store: str, principal: str, tokens: int, record: dict[str, Any]) -> str:
    client = Client(HostPath(store) / "run", MAX_SECONDS)
    try:
        if principal:
            client.call("join", principal=principal, tool="recall")
        answer = client.call(
            "recall",
            prompt=str(record.get("text", "")),
            tokens=tokens,
            client=str(record.get("client", "")),
            client_session=str(record.get("client_session", "")),
        )
        return str(answer["text"])
    finally:
        client.close()
