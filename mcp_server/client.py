"""One-shot MCP client: call one tool of a server over stdio, for commands that a tool implements."""

import os
from typing import Any

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from ctxfs.model.errors import CommandError


def call_tool(command: list[str], tool: str, arguments: dict[str, Any]) -> str:
    """Return the text of the tool's result.

    Raises CommandError if the server cannot be reached or the tool fails.
    """

    async def call() -> str:
        server = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))
        async with Client(server) as client:
            result = await client.call_tool(tool, arguments)
        text = "".join(getattr(content, "text", "") for content in result.content)
        if result.is_error:
            raise CommandError(f"the tool '{tool}' failed: {text[:500]}", "")
        return text

    try:
        return anyio.run(call, backend="trio")
    except CommandError:
        raise
    except Exception as error:  # the SDK raises groups of the errors of both sides
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup) and cause.exceptions:
            cause = cause.exceptions[0]
        if isinstance(cause, CommandError):
            raise cause from error
        raise CommandError(
            f"the MCP server '{command[0]}' cannot be called: {cause}", "try its command by hand"
        ) from error
