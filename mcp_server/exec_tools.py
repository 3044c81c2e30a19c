"""`ctx_exec`: a tool run for a client, with progress, cancellation, and confirmation of destructive tools."""

import contextlib
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import trio
from mcp.shared.exceptions import MCPError
from mcp.types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult, TextContent
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from ctxfs.exec.calls import UNCONFIRMED
from ctxfs.mcp_server.tool_registry import RUNS, Answer, Call, Entry, failure, text
from ctxfs.model.errors import CommandError
from ctxfs.model.metadata import PREFIX

_POLL_SECONDS = 0.1
_MAX_CANCEL_SECONDS = 5.0
MAX_SERVER_CHARACTERS = 1_000_000
_QUESTION = "confirm"
_DIGEST_SUFFIX = re.compile(r"\[([0-9a-f]{64})\]$")
_CONFIRM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"confirm": {"type": "boolean", "title": "Run it"}},
    "required": ["confirm"],
}


async def _exec(call: Call, arguments: Mapping[str, Any]) -> Answer:
    name, tool_arguments = arguments["tool"], arguments.get("arguments", {})
    try:
        result = await _run(call, name, tool_arguments, confirmed=False)
    except FileNotFoundError as error:
        if error.filename != f"tools/{name}":
            raise
        return failure(f"there is no tool '{name}': read tools/index.md, which has a line for each.")
    except PermissionError as error:
        if UNCONFIRMED not in str(error.strerror):
            raise
        match = _DIGEST_SUFFIX.search(str(error.strerror))
        digest = match[1] if match else ""
        confirmation = await _confirm(call, name, tool_arguments, digest)
        if isinstance(confirmation, InputRequiredResult):
            return confirmation
        if not confirmation:
            return failure(f"{name}: no person has confirmed it, and it cannot be undone; it was not run.")
        result = await _run(call, name, tool_arguments, confirmed=True, content=digest)
    if result["ok"]:
        if "/" in name:  # output of MCP servers is untrusted
            return [
                _mark_untrusted(name, result["text"]),
                *([_mark_untrusted(name, f"[stderr: {result['stderr']}]")] if result["stderr"] else []),
            ]
        return [text(result["text"]), *([text(f"[stderr: {result['stderr']}]")] if result["stderr"] else [])]
    return failure(f"{name}: {result['fault']}. {result['text'][:2000]}".rstrip())


def _mark_untrusted(name: str, output: str) -> TextContent:
    """Return a server tool's text as content, bounded in length, marked as untrusted and with its source."""
    if len(output) > MAX_SERVER_CHARACTERS:
        output = f"{output[:MAX_SERVER_CHARACTERS]}\n[cut: the whole text is in tools/{name}/calls/]"
    attributes = {f"{PREFIX}trust": "untrusted", f"{PREFIX}source": f"tools/{name}"}
    return TextContent(type="text", text=text(output).text, _meta=attributes)


async def _run(
    call: Call, name: str, tool_arguments: Mapping[str, Any], *, confirmed: bool, content: str = ""
) -> Mapping[str, Any]:
    """Run the call and report its progress meanwhile. Cancellation also cancels the call in the daemon."""
    call_id = f"c-{secrets.token_hex(4)}"
    result: Mapping[str, Any] | None = None
    call_error: OSError | CommandError | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_report_progress, call, call_id)
            try:
                result = await call.tree.call(
                    "call_tool",
                    name=name,
                    arguments=dict(tool_arguments),
                    id=call_id,
                    confirmed=confirmed,
                    content=content,
                )
            except (OSError, CommandError) as error:
                call_error = error
            nursery.cancel_scope.cancel()
    finally:
        if result is None and call_error is None:
            with trio.CancelScope(shield=True), trio.move_on_after(_MAX_CANCEL_SECONDS):
                await call.tree.call("cancel_call", id=call_id)
    if call_error is not None:
        raise call_error
    assert result is not None
    return result


async def _report_progress(call: Call, call_id: str) -> None:
    reported = 0.0
    with contextlib.suppress(OSError, CommandError):  # the caller of the tool gets the error
        while True:
            await trio.sleep(_POLL_SECONDS)
            state = await call.tree.call("call_state", id=call_id)
            if state["running"] and state["progress"] > reported:
                reported = state["progress"]
                await call.context.session.report_progress(reported, 1.0, state["message"] or None)


async def _confirm(
    call: Call, name: str, tool_arguments: Mapping[str, Any], content: str
) -> bool | InputRequiredResult:
    """Return True if a person confirms the call with these arguments and this tool content.

    False if the client cannot ask. In the modern protocol the question is a result, which the client answers in its
    next call.
    """
    message = f"{name} cannot be undone. Run it with {tool_arguments}?"
    question = f"{_QUESTION}-{content[:32]}" if content else _QUESTION
    if call.context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        capabilities = call.context.session.client_capabilities
        if capabilities is None or capabilities.elicitation is None:
            return False
        reply = (call.params.input_responses or {}).get(question)
        if not isinstance(reply, ElicitResult):
            request = ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=_CONFIRM_SCHEMA))
            return InputRequiredResult(input_requests={question: request})
        return reply.action == "accept" and bool((reply.content or {}).get("confirm"))
    try:
        answer = await call.context.session.elicit_form(
            message, _CONFIRM_SCHEMA, related_request_id=call.context.request_id
        )
    except (MCPError, ValueError):  # the client has no elicitation
        return False
    return answer.action == "accept" and bool((answer.content or {}).get("confirm"))


def tools() -> Sequence[Entry]:
    """Return the tool."""
    return (
        Entry(
            "ctx_exec",
            "Run one of the tree's tools: tools/index.md lists them, tools/<tool>/README.md says which arguments each takes.",
            RUNS,
            _exec,
            {"tool": {"type": "string"}, "arguments": {"type": "object"}},
            ("tool",),
        ),
    )
