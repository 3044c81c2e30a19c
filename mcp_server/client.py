"""Call one tool of another MCP server over stdio: what makes a tool a command."""

import os
from typing import Any

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from ctxfs.model.errors import CommandError


def call_tool(command: list[str], tool: str, arguments: dict[str, Any]) -> str:
    """The text of the tool's answer; CommandError if the server cannot be reached or the tool fails."""

    async def call() -> str:
        server = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))
        async with Client(server) as client:
            result = await client.call_tool(tool, arguments)
        text = "".join(getattr(part, "text", "") for part in result.content)
        if result.is_error:
            raise CommandError(f"the tool '{tool}' failed: {text[:500]}", "")
        return text

    try:
        return anyio.run(call, backend="trio")
    except CommandError:
        raise
    except Exception as error:  # the library raises groups of whatever happened on either side
        reason: BaseException = error
        while isinstance(reason, BaseExceptionGroup) and reason.exceptions:
            reason = reason.exceptions[0]
        if isinstance(reason, CommandError):
            raise reason from error
        raise CommandError(
            f"the MCP server '{command[0]}' could not be asked: {reason}", "try its command by hand"
        ) from error
