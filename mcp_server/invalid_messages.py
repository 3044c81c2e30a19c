"""Error responses to invalid lines on stdin.

JSON-RPC 2.0 requires a response. Without one a client waits until its timeout.
"""

import json
from typing import Any

from anyio.abc import ObjectReceiveStream
from mcp.shared.message import SessionMessage
from mcp.types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError
from pydantic import ValidationError

from ctxfs.model.path import printable

_MAX_REASON_CHARS = 200


class ReadableMessages(ObjectReceiveStream[SessionMessage]):
    """The valid messages of `incoming`; invalid lines are answered on `outgoing` (streams of the SDK's transport)."""

    def __init__(self, incoming: Any, outgoing: Any) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    async def receive(self) -> SessionMessage:
        """Return the next message. Raises EndOfStream when the client has disconnected."""
        while True:
            message = await self._incoming.receive()
            if not isinstance(message, Exception):
                received: SessionMessage = message
                return received
            if (refusal := refusal_of(message)) is not None:
                await self._outgoing.send(SessionMessage(refusal))

    async def aclose(self) -> None:
        """Close the transport's stream."""
        await self._incoming.aclose()


def refusal_of(error: Exception) -> JSONRPCError | None:
    """Return the error response to an invalid line, with its id if it has one; None for an empty line."""
    code, reason, values = PARSE_ERROR, str(error), list[Any]()
    if isinstance(error, ValidationError):
        faults = error.errors(include_url=False, include_context=False)
        code = PARSE_ERROR if faults[0]["type"] == "json_invalid" else INVALID_REQUEST
        reason = str(faults[0]["msg"])
        inputs = [fault["input"] for fault in faults]
        if inputs[0] in ("", "\n", "\r\n"):
            return None
        values = [_parse_json(value) if isinstance(value, str) else value for value in inputs]
    request_ids = [value["id"] for value in values if isinstance(value, dict) and type(value.get("id")) in (int, str)]
    request_id = request_ids[0] if request_ids else None
    message = f"the message cannot be read: {printable(reason)[:_MAX_REASON_CHARS]}"
    return JSONRPCError(jsonrpc="2.0", id=request_id, error=ErrorData(code=code, message=message))


def _parse_json(line: str) -> Any:
    """Parse a line with the standard library, which accepts lone surrogates, unlike the SDK; None if it is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
