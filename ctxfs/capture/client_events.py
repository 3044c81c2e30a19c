"""Events of clients' hooks → records of the event log. Pure; imports little, because a hook holds up its client.

The contracts are documented by the clients. Claude Code, Codex, Gemini CLI and Cursor send one JSON object on stdin,
with nearly the same members. Members that a client does not send, or sends with another type, are left out.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ctxfs.eventlog.capture_spool import CAPTURE_ORIGIN
from ctxfs.eventlog.damaged_json import LENIENT_DECODER, decode_cut_text, parse_members
from ctxfs.eventlog.private_text import strip_private, strip_private_values

EVENTS = ("session-start", "session-end", "prompt", "response", "stop", "compact", "tool")
# Names of events of clients, in small letters → our event.
_CLIENT_EVENTS = {
    "sessionstart": "session-start",
    "sessionend": "session-end",
    "userpromptsubmit": "prompt",
    "beforeagent": "prompt",
    "beforesubmitprompt": "prompt",
    "afteragentresponse": "response",
    "stop": "stop",
    "afteragent": "stop",
    "precompact": "compact",
    "precompress": "compact",
    "posttooluse": "tool",
    "aftertool": "tool",
}
_GEMINI_EVENTS = ("beforeagent", "afteragent", "precompress", "aftertool")
MAX_TEXT_CHARS = 500_000
_MAX_DEPTH = 50
_MAX_NAME_CHARS = 4_096  # of ids, paths and names

_SESSION_NAMES = ("session_id", "conversation_id", "thread_id")
_TURN_NAMES = ("prompt_id", "turn_id", "generation_id")
_OUTPUT_NAMES = ("last_assistant_message", "prompt_response", "text")
_EVENT_KINDS = ("session_start", "session_end", "compaction")  # of records without a text
_CONTENT_NAMES = ("text", "data")
_RESULT_NAMES = ("tool_response", "tool_output", "error_message", "error")
# Member of a record → member of the client's event, copied if it is a text.
_COPIED_NAMES = {
    "transcript": "transcript_path",
    "agent": "agent_type",
    "message_id": "message_id",
    "call": "tool_use_id",
}

Record = dict[str, Any]


def event_of(name: str) -> str:
    """Return our event for a name of ours or of a client; empty for any other name."""
    return name if name in EVENTS else _CLIENT_EVENTS.get(name.lower(), "")


def client_of(named: str, payload: Mapping[str, Any]) -> str:
    """Return the client that wrote an event. `named` is that of the hook's installation; empty for none.

    Cursor also runs the hooks of Claude Code, and names its version in each event.
    """
    if "cursor_version" in payload:
        return "cursor"
    if named:
        return named
    if "conversation_id" in payload:
        return "cursor"
    if _text(payload.get("hook_event_name")).lower() in _GEMINI_EVENTS:
        return "gemini-cli"
    return "codex" if "turn_id" in payload else "claude-code"


def records_of(event: str, client: str, payload: Mapping[str, Any], now_ns: int) -> list[Record]:
    """Return the records of an event at a time in nanoseconds; none for an event without a message.

    Private parts of all texts are removed, and long texts are shortened (`cut` has their length). `client_session` is
    empty if the client named none.
    """
    common: Record = {
        "said_at": format_time(now_ns),
        "client": client,
        "client_session": _first_text(payload, _SESSION_NAMES),
        "project": _project_of(payload),
        "origin": CAPTURE_ORIGIN,
        "turn": _first_text(payload, _TURN_NAMES),
        **{name: _first_text(payload, (source,)) for name, source in _COPIED_NAMES.items()},
    }
    if event in ("stop", "response"):
        common["model"] = _first_text(payload, ("model",))
    records = [_clean(record) for record in _messages_of(event, payload)]
    # The message comes last, so that the head of a long record has all other members.
    return [
        {
            **{name: value for name, value in record.items() if name not in _CONTENT_NAMES and value},
            **{name: value for name, value in common.items() if value},
            **{name: record[name] for name in _CONTENT_NAMES if name in record},
        }
        for record in records
        if record["kind"] in _EVENT_KINDS or record.get("text") or record.get("data")
    ]


def _messages_of(event: str, payload: Mapping[str, Any]) -> list[Record]:
    if event == "prompt":
        return [{"kind": "input", "text": _text(payload.get("prompt"))}]
    if event in ("stop", "response"):
        text = _first_text(payload, _OUTPUT_NAMES, limit=0)
        status = _first_text(payload, ("status",))
        if not text and status not in ("", "completed"):
            return [{"kind": "note", "text": f"turn ended: {status}"}]
        return [{"kind": "output", "text": text}]
    if event == "session-start":
        return [{"kind": "session_start", "reason": _first_text(payload, ("source",))}]
    if event == "session-end":
        return [{"kind": "session_end", "reason": _first_text(payload, ("reason",))}]
    if event == "compact":
        return [{"kind": "compaction", "reason": _first_text(payload, ("trigger",))}]
    if event == "tool":
        tool = _first_text(payload, ("tool_name",))
        result = next((payload[name] for name in _RESULT_NAMES if payload.get(name) is not None), None)
        call = {"kind": "tool_call", "tool": tool, "data": payload.get("tool_input")}
        member = "text" if isinstance(result, str) else "data"
        return [call, {"kind": "tool_result", "tool": tool, member: result}]
    return []


def _clean(record: Record) -> Record:
    """Return a record without private parts, and with bounded texts."""
    for name in _CONTENT_NAMES:
        if record.get(name) is None:
            record.pop(name, None)
            continue
        record[name] = _strip(record[name])
        text = record[name] if isinstance(record[name], str) else json.dumps(record[name])
        if len(text) > MAX_TEXT_CHARS:
            del record[name]
            record |= {"text": text[:MAX_TEXT_CHARS], "cut": {"characters": len(text)}}
    return record


def _strip(value: Any) -> Any:
    """Return a value without private parts; a deep one as its JSON text, because readers of the log limit the depth."""
    return strip_private(json.dumps(value)) if _is_deep(value, _MAX_DEPTH) else strip_private_values(value)


def _is_deep(value: Any, depth: int) -> bool:
    if not isinstance(value, list | dict):
        return False
    return not depth or any(
        _is_deep(item, depth - 1) for item in (value if isinstance(value, list) else value.values())
    )


def _project_of(payload: Mapping[str, Any]) -> str:
    folder = _first_text(payload, ("cwd",))
    roots = payload.get("workspace_roots")
    if not folder and isinstance(roots, Sequence) and roots:
        folder = _text(roots[0])[:_MAX_NAME_CHARS]
    return folder


def _first_text(payload: Mapping[str, Any], names: Sequence[str], *, limit: int = _MAX_NAME_CHARS) -> str:
    """Return the first non-empty text among members, of at most `limit` characters (0: no limit)."""
    for name in names:
        if text := _text(payload.get(name)):
            return text[:limit] if limit else text
    return ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def format_time(now_ns: int) -> str:
    """Return a time as ISO 8601 in UTC, to the millisecond."""
    seconds, rest = divmod(now_ns, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 10**6:03}+00:00"


def parse_payload(data: bytes, *, is_cut: bool) -> dict[str, Any]:
    """Return the JSON object on stdin. Of a cut or damaged one, return the members before the damage.

    The text in which a cut falls is kept up to the cut.
    """
    text = data.decode("utf-8-sig", "replace")
    if not is_cut:
        try:
            value = LENIENT_DECODER.decode(text)
            return value if isinstance(value, dict) else {}
        except (ValueError, RecursionError):
            pass
    members, cut_name, cut_value = parse_members(text)
    if cut_text := decode_cut_text(cut_value):
        members[cut_name] = cut_text
    return members
