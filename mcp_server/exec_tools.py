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
from ctxfs.model.errors import CommandError
from ctxfs.model.metadata import PREFIX
from mcp_server.tool_registry import RUNS, Answer, Call, Entry, failure, text

_LOOK_SECONDS = 0.1
_GIVEN_UP_SECONDS = 5.0
MAX_SERVER_CHARACTERS = 1_000_000
_ASKED = "confirm"
_CONTENT = re.compile(r"\[([0-9a-f]{64})\]$")
_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {"confirm": {"type": "boolean", "title": "Run it"}},
    "required": ["confirm"],
}


async def _exec(call: Call, arguments: Mapping[str, Any]) -> Answer:
    name, given = arguments["tool"], arguments.get("arguments", {})
    try:
        done = await _run(call, name, given, confirmed=False)
    except FileNotFoundError as error:
        if error.filename != f"tools/{name}":
            raise
        return failure(f"there is no tool '{name}': read tools/index.md, which has a line for each.")
    except PermissionError as error:
        if UNCONFIRMED not in str(error.strerror):
            raise
        content = _CONTENT.search(str(error.strerror))
        digest = content[1] if content else ""
        confirmed = await _confirmed(call, name, given, digest)
        if isinstance(confirmed, InputRequiredResult):
            return confirmed
        if not confirmed:
            return failure(f"{name}: nobody has confirmed it, and what it does cannot be taken back; it was not run.")
        done = await _run(call, name, given, confirmed=True, content=digest)
    if done["ok"]:
        if "/" in name:  # output of MCP servers is untrusted
            return [
                _untrusted(name, done["text"]),
                *([_untrusted(name, f"[stderr: {done['stderr']}]")] if done["stderr"] else []),
            ]
        return [text(done["text"]), *([text(f"[stderr: {done['stderr']}]")] if done["stderr"] else [])]
    return failure(f"{name}: {done['fault']}. {done['text'][:2000]}".rstrip())


def _untrusted(name: str, words: str) -> TextContent:
    """Return a server tool's text as content, bounded in length, marked as untrusted and with its source."""
    if len(words) > MAX_SERVER_CHARACTERS:
        words = f"{words[:MAX_SERVER_CHARACTERS]}\n[cut: the whole is in tools/{name}/calls/]"
    marks = {f"{PREFIX}trust": "untrusted", f"{PREFIX}source": f"tools/{name}"}
    return TextContent(type="text", text=text(words).text, _meta=marks)


async def _run(
    call: Call, name: str, given: Mapping[str, Any], *, confirmed: bool, content: str = ""
) -> Mapping[str, Any]:
    """Run the call and report its progress meanwhile. Cancellation also cancels the call in the daemon."""
    number = f"c-{secrets.token_hex(4)}"
    done: Mapping[str, Any] | None = None
    refused: OSError | CommandError | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_report, call, number)
            try:
                done = await call.door.call(
                    "call_tool", name=name, arguments=dict(given), id=number, confirmed=confirmed, content=content
                )
            except (OSError, CommandError) as error:
                refused = error
            nursery.cancel_scope.cancel()
    finally:
        if done is None and refused is None:
            with trio.CancelScope(shield=True), trio.move_on_after(_GIVEN_UP_SECONDS):
                await call.door.call("cancel_call", id=number)
    if refused is not None:
        raise refused
    assert done is not None
    return done


async def _report(call: Call, number: str) -> None:
    told = 0.0
    with contextlib.suppress(OSError, CommandError):  # the caller of the tool gets the error
        while True:
            await trio.sleep(_LOOK_SECONDS)
            state = await call.door.call("call_state", id=number)
            if state["running"] and state["progress"] > told:
                told = state["progress"]
                await call.context.session.report_progress(told, 1.0, state["message"] or None)


async def _confirmed(call: Call, name: str, given: Mapping[str, Any], content: str) -> bool | InputRequiredResult:
    """Return True if a person confirms the call with these arguments and this tool content.

    False if the client cannot ask. In the modern protocol the question is a result, which the client answers in its
    next call.
    """
    message = f"{name} does what cannot be taken back. Run it with {given}?"
    question = f"{_ASKED}-{content[:32]}" if content else _ASKED
    if call.context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        can = call.context.session.client_capabilities
        if can is None or can.elicitation is None:
            return False
        found = (call.params.input_responses or {}).get(question)
        if not isinstance(found, ElicitResult):
            asked = ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=_FORM))
            return InputRequiredResult(input_requests={question: asked})
        return found.action == "accept" and bool((found.content or {}).get("confirm"))
    try:
        answer = await call.context.session.elicit_form(message, _FORM, related_request_id=call.context.request_id)
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
