"""Give a test the access of one principal: its mount point, socket session and MCP calls."""

from typing import Any

from ctxfs.rpc.client import Client
from ctxfs.rpc.wire import change_to_wire
from tests.live import Live, mcp_call


class PrincipalClient:
    """A principal's mount point and socket session."""

    def __init__(self, live: Live, principal: str) -> None:
        self.live, self.principal = live, principal
        self.at = live.at.parent / f"mnt-{principal.partition(':')[2]}"
        live.run("mount", str(self.at), *(() if principal.startswith("human") else ("--as", principal)))
        self.client = Client(live.store / "run", timeout=30)
        if not principal.startswith("human"):
            self.client.call("join", principal=principal)

    def call(self, method: str, /, **arguments: object) -> Any:
        return self.client.call(method, **arguments)

    def change(self, change: Any) -> None:
        self.client.call("apply", change=change_to_wire(change))

    def mcp(self, tool: str, **arguments: object) -> str:
        return mcp_call(self.live, tool, arguments, principal=self.principal)[0]
