"""The tools of one store: providers, permissions, calls, records and search, composed."""

import errno
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path as HostPath
from typing import Any, Protocol

from ctxfs.context.build.constructor import MAX_CANDIDATES
from ctxfs.context.grounding.review import Curator
from ctxfs.eventlog.recorder import Recorder
from ctxfs.exec.approvals import Approvals
from ctxfs.exec.calls import CallRequest, Calls, Inputs
from ctxfs.exec.definition import Tool
from ctxfs.exec.folder_provider import FolderProvider
from ctxfs.exec.function_provider import FunctionProvider
from ctxfs.exec.outcome import Outcome, Progress
from ctxfs.exec.registry import ToolProvider, ToolRegistry
from ctxfs.exec.runner import run_tool
from ctxfs.exec.sandbox import BUILTIN_TOOLS, Sandbox, find_bubblewrap
from ctxfs.exec.tool_search import ToolSearch
from ctxfs.index.engines.catalog_schema import ChunkRow
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.index.query import Query
from ctxfs.index.search.results import Hit, SearchResults
from ctxfs.index.search.searcher import Searcher
from ctxfs.mcp_client.provider import McpProvider, ServerState
from ctxfs.model.errors import not_permitted, path_error
from ctxfs.model.path import Path
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.rules import Verb
from ctxfs.store.layout import Layout
from ctxfs.store.settings import ServerSource, Settings
from ctxfs.threads import blocking
from ctxfs.vfs.caller_context import acting_principal

_MAX_ARGUMENT_CHARACTERS = 4000  # characters of the arguments in a record of the event log


class MountTable(Protocol):
    """The mount points of the store."""

    def mountpoints(self) -> Sequence[Mapping[str, object]]:
        """Return the mount points as plain values, with their host path `at` and their `principal`."""
        ...


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
    """The tools of a store. `calls` runs them, `shelf` holds the state of MCP servers."""

    def __init__(
        self,
        layout: Layout,
        settings: Callable[[], Settings],
        policy: PolicyEngine,
        searcher: Searcher,
        curator: Curator,
        recorder: Recorder,
        mounts: MountTable,
    ) -> None:
        self._layout = layout
        self._settings = settings
        self._policy = policy
        self._searcher = searcher
        self._curator = curator
        self._recorder = recorder
        self._mounts = mounts
        self._search = ToolSearch()
        self.approvals = Approvals(layout.approvals)
        self._builtin = FolderProvider(BUILTIN_TOOLS, self._approved_definition, builtin=True)
        self._own_tools = FolderProvider(layout.tools, self._approved_definition)
        self._functions = FunctionProvider(self._approved_definition)
        self._source_providers: dict[str, FolderProvider] = {}
        self.shelf = McpProvider(layout.servers, self._configured_servers, self.approvals.all)
        self._servers: Servers = _NoServers()
        self.calls = Calls(ToolRegistry(self._list_providers, self.approvals, self._setting), layout.calls, self)

    @property
    def servers(self) -> Servers:
        """Return the connections to MCP servers."""
        return self._servers

    def connect(self, servers: Servers) -> None:
        """Use the connections of the daemon."""
        self._servers = servers

    def sees(self, name: str) -> bool:
        """Return True if a tool or a server of this name exists for the calling principal."""
        return self._policy.rights(acting_principal(), tool_path(name)).exists

    def states(self) -> Mapping[str, ServerState]:
        """Return the servers by name, with approved text only."""
        return self.shelf.approved_states()

    def status(self) -> dict[str, object]:
        """Return the part of `ctxfs status` about tools."""
        servers = {name: state.status.to_wire() for name, state in self.shelf.states().items()}
        return {"shut_in": bool(find_bubblewrap()) and self._settings().tools.walls, "servers": servers}

    async def find(self, query: Query, below: Path) -> SearchResults:
        """Return the matching tools that the calling principal may read, as hits at the tools' directories."""
        catalog = (await blocking(self.calls.registry.tools))[0]
        principal, start = acting_principal(), "".join(f"{part}/" for part in below.parts[1:])
        candidates = [
            tool for tool in catalog.values() if tool.name.startswith(start) and not (tool.is_note or tool.is_pending)
        ]
        readable = [tool for tool in candidates if self._policy.is_allowed(principal, Verb.READ, tool_path(tool.name))]

        def rank() -> list[tuple[Tool, float, float]]:
            can_embed = query.mode != "words" and self._searcher.can_embed()
            return self._search.rank(query.text, readable, self._searcher.embed if can_embed else None)

        hits = []
        for number, (tool, word_score, similarity) in enumerate((await blocking(rank))[:MAX_CANDIDATES]):
            text, path = f"{tool.name}: {tool.description}", str(tool_path(tool.name))
            chunk = ChunkRow(-1 - number, path, 1, 1, "", text, "tool", 0, "", "", None)
            signals = {"words": word_score, "meaning": similarity}
            hits.append(Hit(chunk, word_score + similarity, signals, signals))
        return SearchResults(query, hits)

    # the protocol `CallHooks`

    def may_run(self, tool: Tool) -> bool:
        """Return True if the calling principal may run a tool.

        Read permission suffices for a harmless tool; others need `exec`.
        """
        permission = Verb.READ if tool.is_harmless else Verb.EXEC
        return self._policy.is_allowed(acting_principal(), permission, tool_path(tool.name))

    async def run(
        self, tool: Tool, arguments: Mapping[str, Any], inputs: Inputs, progress: Progress, request: CallRequest
    ) -> Outcome:
        """Run a tool: through its server, or as a program. A server gets file arguments as text."""
        text_arguments = {argument.name for argument in tool.paths if argument.is_text or tool.server}
        inputs = await blocking(_convert_texts, inputs, text_arguments)
        if tool.server:
            texts = {name: data.decode("utf-8", "replace") for name, data in inputs.items() if isinstance(data, bytes)}
            return await self._servers.run_tool(tool, {**arguments, **texts}, progress)
        confinement = self._confinement(tool, request.principal)
        if tool.is_function:
            confinement = replace(
                confinement, settings={**confinement.settings, "CTXFS_APPROVED": self._approved_digest(tool.name)}
            )
            return await run_tool(tool, arguments, inputs, progress, confinement)
        digest = "" if tool.builtin else self._approved_digest(tool.name)
        return await run_tool(tool, arguments, inputs, progress, confinement, digest)

    async def remember(self, request: CallRequest, result: Mapping[str, Any]) -> None:
        """Record a call in the event log: one record of the request, one of the result."""
        arguments = json.dumps(request.arguments, ensure_ascii=False)[:_MAX_ARGUMENT_CHARACTERS]
        outcome = {key: result[key] for key in ("ok", "fault", "sha256", "seconds")}
        call = {"tool": request.name, "call": result["id"]}
        bodies = [
            {"kind": "tool_call", **call, "arguments": arguments},
            {"kind": "tool_result", **call, "origin": f"tools/{request.name}", **outcome},
        ]
        await self._recorder.remember(request.principal, bodies, request.session)

    async def ask_person(self, tool: Tool, request: CallRequest, content: str) -> None:
        """Return if a person has allowed the call, else raise OSError EPERM.

        A decision is valid for one call of one principal, with these arguments and their `content`.
        """
        arguments = json.dumps(request.arguments, ensure_ascii=False)
        question = f"{request.principal} wants to run tools/{tool.name}, which cannot be taken back, with {arguments}"
        about = {"kind": "call", "tool": tool.name, "arguments": arguments, "principal": request.principal}
        if content:
            about["content"] = content
            question += f" (sha256 of what its arguments name: {content})"
        decision = await self._curator.request_permission(question, about)
        if decision == "reject":
            raise not_permitted(f"tools/{tool.name}", "a person has refused this call")
        if decision != "accept":
            raise not_permitted(
                f"tools/{tool.name}", f"a person has to allow this call: it waits in human/review/{decision}"
            )

    # inside

    def _approved_digest(self, name: str) -> str:
        approval = self.approvals.all().get(name)
        return approval.digest if approval is not None else "none"

    def _configured_servers(self) -> Sequence[ServerSource]:
        return self._settings().servers

    def _setting(self, name: str) -> str:
        return str(getattr(self._settings().tools, name, ""))

    def _confinement(self, tool: Tool, principal: str) -> Sandbox:
        """Return the sandbox of a call.

        It hides the store and other principals' mounts, which would bypass the policy.
        """
        mounted = [(str(mount["at"]), str(mount["principal"])) for mount in self._mounts.mountpoints()]
        own_mount = next((mountpoint for mountpoint, owner in mounted if owner == principal), "")
        hidden = [
            os.path.realpath(self._layout.root),
            *(mountpoint for mountpoint, _ in mounted if mountpoint != own_mount),
        ]
        variables = {f"CTXFS_{tool.setting.upper()}": self._setting(tool.setting)} if tool.setting else {}
        return Sandbox(hidden, own_mount, self._settings().tools.walls, variables)

    def _approved_definition(self, name: str) -> Mapping[str, Any] | None:
        approval = self.approvals.all().get(name)
        return approval.definition if approval is not None else None

    def _list_providers(self) -> Sequence[ToolProvider]:
        allowed = [source.path for source in self._settings().sources if source.tools]
        for path in allowed:
            if path not in self._source_providers:
                self._source_providers[path] = FolderProvider(HostPath(path) / "tools", self._approved_definition)
        of_sources = [self._source_providers[path] for path in allowed]
        return [self._builtin, self._own_tools, *of_sources, self._functions, self.shelf]


def tool_path(name: str) -> Path:
    """Return the path of a tool in the tree."""
    return Path(("tools", *name.split("/")))


def _convert_texts(inputs: Inputs, names: Collection[str]) -> Inputs:
    """Return the inputs with those texts in UTF-8; binary files stay as they are."""
    return {
        name: _as_utf8(data) if name in names and isinstance(data, bytes) else data for name, data in inputs.items()
    }


def _as_utf8(data: bytes) -> bytes:
    text = read_text(data, keeps_line_ends=True)
    return data if text is None else text.encode("utf-8", "replace")
