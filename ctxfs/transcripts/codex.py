"""Transcripts of Codex: `~/.codex/sessions/<year>/<month>/<day>/rollout-<time>-<session>.jsonl`. Pure.

A line is `{"timestamp", "type", "payload"}`. Lines of type `response_item` have the messages, calls and results;
`event_msg` repeats them for display. `session_meta` names the session and its folder, `turn_context` the model. Before
September 2025 a line was the payload alone, after a header `{"id", "timestamp", "instructions"}`.

Messages have no ids. A fork begins with a `session_meta` of its own, followed by copies of the source's lines. So the
first `session_meta` names the session.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace

from ctxfs.transcripts.content import describe_media, flatten_content
from ctxfs.transcripts.message import Json, LeftOut, Message, list_of, object_of, parse_said_at, text_of

CLIENT = "codex"
_SESSION_IN_NAME = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\Z")
_FOLDER_IN_CONTEXT = re.compile(r"<cwd>([^<]{1,4096})</cwd>")
# Texts that the client adds in the role of the user.
_INSTRUCTIONS = (
    "<environment_context>",
    "<user_instructions>",
    "<permissions instructions>",
    "<INSTRUCTIONS>",
    "# AGENTS.md instructions",
    "<turn_aborted>",
)
_CALLS = ("function_call", "custom_tool_call", "local_shell_call", "web_search_call", "tool_search_call")
_RESULTS = ("function_call_output", "custom_tool_call_output", "tool_search_output")


class CodexParser:
    """A parser of the lines of one transcript."""

    def __init__(self, stem: str, left_out: LeftOut) -> None:
        """Create a parser; `stem` is the name of the file without its suffix."""
        match = _SESSION_IN_NAME.search(stem)
        self._base = Message(CLIENT, match[0] if match else stem, "input", has_own_time=False)
        self._has_header = False
        self._left_out = left_out

    def parse(self, value: Json) -> Iterator[Message]:
        """Yield the messages of a line."""
        name, payload = text_of(value.get("type")), object_of(value.get("payload"))
        if not payload and name != "response_item":
            name, payload = self._read_bare_line(value)
        match name:
            case "session_meta":
                self._read_header(payload)
            case "turn_context":
                self._base = replace(
                    self._base,
                    model=text_of(payload.get("model")) or self._base.model,
                    project=text_of(payload.get("cwd")) or self._base.project,
                )
            case "response_item":
                said_at = parse_said_at(value.get("timestamp"))
                yield from self._read_payload(replace(self._base, said_at=said_at), payload)
            case "":
                self._left_out.add("no type")
            case _:
                self._left_out.add(f"type '{name}'")

    def _read_bare_line(self, value: Json) -> tuple[str, Json]:
        """Return (type, payload) of a line without an envelope."""
        if "record_type" in value:
            return f"record {text_of(value['record_type'])}", {}
        if "instructions" in value and "id" in value and not self._has_header:
            return "session_meta", value
        name = text_of(value.get("type"))
        return ("response_item", value) if name in ("message", "reasoning", *_CALLS, *_RESULTS) else (name, {})

    def _read_header(self, payload: Json) -> None:
        if self._has_header:  # that of the source of a fork
            return
        self._has_header = True
        self._base = replace(
            self._base,
            client_session=text_of(payload.get("id")) or self._base.client_session,
            project=text_of(payload.get("cwd")),
            copied_from=text_of(payload.get("forked_from_id")),
            agent=text_of(payload.get("agent_nickname")),
        )

    def _read_payload(self, base: Message, payload: Json) -> Iterator[Message]:
        name = text_of(payload.get("type"))
        call = text_of(payload.get("call_id"))
        if name == "message":
            yield from self._read_message(base, payload)
        elif name == "reasoning":
            text = flatten_content([*list_of(payload.get("summary")), *list_of(payload.get("content"))])
            if text:
                yield replace(base, kind="reasoning", text=text)
            else:
                self._left_out.add("encrypted reasoning")
        elif name in _CALLS:
            arguments = payload.get("arguments", payload.get("input", payload.get("action")))
            tool = text_of(payload.get("name")) or name.removesuffix("_call")
            text, data = _read_arguments(arguments)
            yield replace(base, kind="tool_call", text=text, data=data, tool=tool, call=call)
        elif name in _RESULTS:
            text = _read_output(payload.get("output", payload.get("tools")))
            yield replace(base, kind="tool_result", text=text, call=call)
        else:
            self._left_out.add(f"item '{name}'")

    def _read_message(self, base: Message, payload: Json) -> Iterator[Message]:
        role = text_of(payload.get("role"))
        if role not in ("user", "assistant"):
            self._left_out.add(f"role '{role}'")
            return
        texts = []
        for block in list_of(payload.get("content")):
            text = text_of(object_of(block).get("text")) or (describe_media(block) if _has_image(block) else "")
            if role == "user" and text.lstrip().startswith(_INSTRUCTIONS):
                self._left_out.add("instructions of the client")
                if not self._base.project and (folder := _FOLDER_IN_CONTEXT.search(text[:100_000])):
                    self._base = replace(self._base, project=folder[1])
            elif text.strip():
                texts.append(text)
        if texts:
            kind = "input" if role == "user" else "output"
            yield replace(base, kind=kind, text="\n".join(texts), model="" if role == "user" else base.model)


def _has_image(block: object) -> bool:
    return "image" in text_of(object_of(block).get("type"))


def _read_arguments(arguments: object) -> tuple[str, object]:
    """Return (text, data) of the arguments of a call, of which one is empty. A text that is a JSON object is data."""
    if not isinstance(arguments, str):
        return "", arguments
    try:
        data = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments, None
    return ("", data) if isinstance(data, dict) else (arguments, None)


def _read_output(output: object) -> str:
    """Return the text of a result, also from an object, or from a text that is an object with the member `output`."""
    if isinstance(output, str) and output.startswith('{"output":'):
        try:
            value = json.loads(output)
        except (ValueError, RecursionError):
            return output
        return text_of(object_of(value).get("output")) or output
    return flatten_content(output)
