"""Validation of list results, which removes entries that the SDK would refuse.

Thus one bad entry does not fail the whole list.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import trio
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCResponse, Prompt, Resource, ResourceTemplate, Tool

LeftOut = Callable[[str, str, str], None]  # kind, name, why
_KINDS: dict[str, type[Any]] = {
    "tools": Tool,
    "prompts": Prompt,
    "resources": Resource,
    "resourceTemplates": ResourceTemplate,
}


def remove_invalid(message: SessionMessage, left_out: LeftOut) -> None:
    """Remove the invalid entries from the response to a list request, and report each to `left_out`."""
    response = message.message
    if not isinstance(response, JSONRPCResponse) or not isinstance(response.result, dict):
        return
    for kind, model in _KINDS.items():
        entries = response.result.get(kind)
        if isinstance(entries, list):
            response.result[kind] = [entry for entry in entries if _is_valid(kind, model, entry, left_out)]


def _is_valid(kind: str, model: type[Any], entry: Any, left_out: LeftOut) -> bool:
    name = str(entry.get("name", "")) if isinstance(entry, dict) else ""
    fault = ""
    try:
        model.model_validate(entry, by_name=False)
    except ValueError as error:
        fault = str(error).splitlines()[-2].strip()[:200] if "\n" in str(error) else str(error)[:200]
    schemas = [entry.get(key) for key in ("inputSchema", "outputSchema")] if isinstance(entry, dict) else []
    if not fault and any(isinstance(schema, dict) and schema.get("type", "object") != "object" for schema in schemas):
        fault = "its schema is not one of an object"
    if fault:
        left_out(kind, name, fault)
    return not fault


@asynccontextmanager
async def validated_transport(
    transport: AbstractAsyncContextManager[TransportStreams], left_out: LeftOut
) -> AsyncIterator[TransportStreams]:
    """Wrap a transport so that its list results are validated."""
    to_client, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)

    async def pump(source: Any) -> None:
        try:
            async with to_client:
                async for message in source:
                    if isinstance(message, SessionMessage):
                        remove_invalid(message, left_out)
                    await to_client.send(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the client has gone

    async with transport as (read, write), from_server, trio.open_nursery() as nursery:
        nursery.start_soon(pump, read)
        yield from_server, write
        nursery.cancel_scope.cancel()
