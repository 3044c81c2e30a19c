"""Drive `ctxfs mcp` over stdio with the client of `mcp` 1.x: argv is the server's command.

Run it with that version on PYTHONPATH.
"""

import asyncio
import json
import sys
from importlib.metadata import version

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def main() -> None:
    server = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:])
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        begun = await session.initialize()
        tools = (await session.list_tools()).tools
        done = await session.call_tool("ctx_read", {"path": "knowledge/handbook/rotation.md"})
        content = (await session.read_resource("ctx:///knowledge/handbook/rotation.md")).contents[0]
        print(
            json.dumps(
                {
                    "version": version("mcp"),
                    "protocol": begun.protocolVersion,
                    "tools": [tool.name for tool in tools],
                    "read": done.content[0].text,
                    "resource": content.text,
                    "prompts": [prompt.name for prompt in (await session.list_prompts()).prompts],
                }
            )
        )


asyncio.run(main())
