"""The tools of one store: providers, permissions, calls, records and search, composed."""

import errno
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path as HostPath
from typing import Any, Protocol

import tools
from ctxfs.context.build.constructor import CANDIDATES
from ctxfs.context.grounding.review import Curator
from ctxfs.exec.approvals import Approvals
from ctxfs.exec.calls import Brought, CallRequest, Calls
from ctxfs.exec.definition import Tool
from ctxfs.exec.folder_provider import FolderProvider
from ctxfs.exec.function_provider import FunctionProvider
from ctxfs.exec.outcome import Outcome, Progress
from ctxfs.exec.registry import ToolProvider, ToolRegistry
from ctxfs.exec.runner import run_tool
from ctxfs.exec.sandbox import Sandbox, sandbox
from ctxfs.exec.tool_search import ToolSearch
from ctxfs.index.engines.catalog import ChunkRow
from ctxfs.index.query import Query
from ctxfs.index.search.results import Hit, SearchResults
from ctxfs.index.search.searcher import Searcher
from ctxfs.mcp_client.provider import Known, McpProvider
from ctxfs.model.errors import not_permitted, path_error
from ctxfs.model.path import Path
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.rules import Verb
from ctxfs.store.config import Settings
from ctxfs.store.layout import Layout
from ctxfs.threads import blocking
from ctxfs.vfs.caller_context import acting_principal

_LONGEST_ARGUMENTS = 4000  # characters of them in the history

Remember = Callable[[str, Sequence[Mapping[str, object]], str], Awaitable[None]]
Mounted = Callable[[], Sequence[Mapping[str, object]]]


class Servers(Protocol):
    """The connections to MCP servers. Methods raise OSError EIO for a server that is not connected."""

    async def run_tool(self, tool: Tool, arguments: Mapping[str, Any], progress: Progress) -> Outcome:
        """Call a tool of a server, or fill in a prompt."""
        ...

    async def fetch(self, server: str, uri: str, parts: tuple[str, ...]) -> bool:
        """Store a document; return False if the server has none there."""
        ...


class _NoServers:
    """The substitute while no daemon runs that would connect to servers."""

    async def run_tool(self, tool: Tool, arguments: Mapping[str, Any], progress: Progress) -> Outcome:
        raise path_error(errno.EIO, f"tools/{tool.name}", "servers are connected by the daemon: ctxfs mount DIR")

    async def fetch(self, server: str, uri: str, parts: tuple[str, ...]) -> bool:
        raise path_error(errno.EIO, uri, "servers are connected by the daemon: ctxfs mount DIR")


class Toolbox:
    """The tools of a store. `calls` runs them, `shelf` holds the state of MCP servers; the daemon sets `servers`."""

    def __init__(
        self,
        layout: Layout,
        settings: Callable[[], Settings],
        policy: PolicyEngine,
        searcher: Searcher,
        curator: Curator,
        remember: Remember,
        mounted: Mounted,
    ) -> None:
        self._layout = layout
        self._settings = settings
        self._policy = policy
        self._searcher = searcher
        self._curator = curator
        self._remember = remember
        self._mounted = mounted
        self._finder = ToolSearch()
        self.approvals = Approvals(layout.approvals)
        self._builtin = FolderProvider(HostPath(tools.__file__).parent, self._approved, builtin=True)
        self._own = FolderProvider(layout.tools, self._approved)
        self._functions = FunctionProvider(self._approved)
        self._of_sources: dict[str, FolderProvider] = {}
        self.shelf = McpProvider(layout.servers, lambda: self._settings().servers, self.approvals.all)
        self.servers: Servers = _NoServers()
        self.calls = Calls(ToolRegistry(self._shelves, self.approvals, self._setting), layout.calls, self)

    def sees(self, name: str) -> bool:
        """Return True if a tool or a server of this name exists for the calling principal."""
        return self._policy.rights(acting_principal(), tool_path(name)).exists

    def states(self) -> Mapping[str, Known]:
        """Return the servers by name, with approved text only."""
        return self.shelf.shown()

    def status(self) -> dict[str, object]:
        """Return the part of `ctxfs status` about tools."""
        servers = {name: known.status for name, known in self.shelf.known().items()}
        return {"shut_in": bool(sandbox()) and self._settings().tools.walls, "servers": servers}

    async def find(self, query: Query, below: Path) -> SearchResults:
        """Return the matching tools that the calling principal may read, as hits at the tools' directories."""
        known = (await blocking(self.calls.catalog.tools))[0]
        who, start = acting_principal(), "".join(f"{part}/" for part in below.parts[1:])
        named = [
            tool for tool in known.values() if tool.name.startswith(start) and not (tool.is_note or tool.is_pending)
        ]
        seen = [tool for tool in named if self._policy.may(who, Verb.READ, tool_path(tool.name))]

        def rank() -> list[tuple[Tool, float, float]]:
            can_embed = query.mode != "words" and self._searcher.can_embed()
            return self._finder.ranked(query.text, seen, self._searcher.embed if can_embed else None)

        hits = []
        for number, (tool, words, meaning) in enumerate((await blocking(rank))[:CANDIDATES]):
            text, path = f"{tool.name}: {tool.description}", str(tool_path(tool.name))
            chunk = ChunkRow(-1 - number, path, 1, 1, "", text, "tool", 0, "", "", None)
            signals = {"words": words, "meaning": meaning}
            hits.append(Hit(chunk, words + meaning, signals, signals))
        return SearchResults(query, hits)

    # the protocol `CallHooks`

    def may_run(self, tool: Tool) -> bool:
        """Return True if the calling principal may run a tool.

        Read permission suffices for a harmless tool; others need `exec`.
        """
        wanted = Verb.READ if tool.is_harmless else Verb.EXEC
        return self._policy.may(acting_principal(), wanted, tool_path(tool.name))

    async def run(
        self, tool: Tool, arguments: Mapping[str, Any], brought: Brought, progress: Progress, asked: CallRequest
    ) -> Outcome:
        """Run a tool: through its server, or as a program. A server gets file arguments as text."""
        if tool.server:
            texts = {name: data.decode("utf-8", "replace") for name, data in brought.items() if isinstance(data, bytes)}
            return await self.servers.run_tool(tool, {**arguments, **texts}, progress)
        walls = self._walls(tool, asked.principal)
        if tool.is_function:
            walls = replace(walls, settings={**walls.settings, "CTXFS_APPROVED": self._approved_digest(tool.name)})
            return await run_tool(tool, arguments, brought, progress, walls)
        digest = "" if tool.builtin else self._approved_digest(tool.name)
        return await run_tool(tool, arguments, brought, progress, walls, digest)

    async def remember(self, asked: CallRequest, result: Mapping[str, Any]) -> None:
        """Record a call in the event log: one record of the request, one of the result."""
        said = json.dumps(asked.arguments, ensure_ascii=False)[:_LONGEST_ARGUMENTS]
        told = {key: result[key] for key in ("ok", "fault", "sha256", "seconds")}
        call = {"tool": asked.name, "call": result["id"]}
        bodies = [
            {"kind": "tool_call", **call, "arguments": said},
            {"kind": "tool_result", **call, "origin": f"tools/{asked.name}", **told},
        ]
        await self._remember(asked.principal, bodies, asked.session)

    async def ask_person(self, tool: Tool, asked: CallRequest, content: str) -> None:
        """Return if a person has allowed the call, else raise OSError EPERM.

        A decision is valid for one call of one principal, with these arguments and their `content`.
        """
        shown = json.dumps(asked.arguments, ensure_ascii=False)
        question = f"{asked.principal} wants to run tools/{tool.name}, which cannot be taken back, with {shown}"
        about = {"kind": "call", "tool": tool.name, "arguments": shown, "principal": asked.principal}
        if content:
            about["content"] = content
            question += f" (sha256 of what its arguments name: {content})"
        said = await self._curator.permission(question, about)
        if said == "reject":
            raise not_permitted(f"tools/{tool.name}", "a person has refused this call")
        if said != "accept":
            raise not_permitted(
                f"tools/{tool.name}", f"a person has to allow this call: it waits in human/review/{said}"
            )

    # inside

    def _approved_digest(self, name: str) -> str:
        known = self.approvals.all().get(name)
        return known.digest if known is not None else "none"

    def _setting(self, name: str) -> str:
        return str(getattr(self._settings().tools, name, ""))

    def _walls(self, tool: Tool, principal: str) -> Sandbox:
        """Return the sandbox of a call.

        It hides the store and other principals' mounts, which would bypass the policy.
        """
        mounted = [(str(each["at"]), str(each["principal"])) for each in self._mounted()]
        own = next((at for at, who in mounted if who == principal), "")
        hidden = [os.path.realpath(self._layout.root), *(at for at, _ in mounted if at != own)]
        variables = {f"CTXFS_{tool.setting.upper()}": self._setting(tool.setting)} if tool.setting else {}
        return Sandbox(hidden, own, self._settings().tools.walls, variables)

    def _approved(self, name: str) -> Mapping[str, Any] | None:
        known = self.approvals.all().get(name)
        return known.definition if known is not None else None

    def _shelves(self) -> Sequence[ToolProvider]:
        allowed = [source.path for source in self._settings().sources if source.tools]
        for path in allowed:
            if path not in self._of_sources:
                self._of_sources[path] = FolderProvider(HostPath(path) / "tools", self._approved)
        of_sources = [self._of_sources[path] for path in allowed]
        return [self._builtin, self._own, *of_sources, self._functions, self.shelf]


def tool_path(name: str) -> Path:
    """Return the path of a tool in the tree."""
    return Path(("tools", *name.split("/")))
