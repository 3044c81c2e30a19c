"""The lists of an MCP server: its tools, prompts, resources and templates, as the server returned them last."""

import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp.client import Client
from mcp.shared.exceptions import MCPError

from ctxfs.mcp_client.uri_paths import DIRECTORIES, Parts, document_paths

_MAX_PAGES = 100
_MAX_ENTRIES = 5000  # of tools, of prompts and of documents
_MAX_DOCUMENTS = 1000  # documents that are fetched in advance


@dataclass(slots=True)
class ServerLists:
    """The last lists of one server.

    `documents` maps the paths of the resources that are fetched in advance to their URIs. `left_out` maps invalid
    entries to the reason why they are left out.
    """

    tools: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[dict[str, Any]] = field(default_factory=list)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    templates: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    documents: Mapping[Parts, str] = field(default_factory=dict)

    async def refresh(self, client: Client, stale: set[str]) -> None:
        """Request again the lists whose kinds are in `stale`, if the server has them."""
        capabilities = client.server_capabilities
        for kind in ("tools", "prompts", "resources"):
            if kind in stale:
                self.left_out = {name: why for name, why in self.left_out.items() if not name.startswith(kind[:-1])}
        if "tools" in stale and capabilities.tools is not None:
            self.tools = await _list_all(client.list_tools, "tools")
        if "prompts" in stale and capabilities.prompts is not None:
            self.prompts = await _list_all(client.list_prompts, "prompts")
        if "resources" in stale and capabilities.resources is not None:
            entries = await _list_all(client.list_resources, "resources")
            self.resources = {str(entry["uri"]): entry for entry in entries}
            files = [uri for uri, entry in self.resources.items() if entry.get("mimeType") not in DIRECTORIES]
            self.documents = dict(itertools.islice(document_paths(files).items(), _MAX_DOCUMENTS))
            self.templates = await _list_templates(client)

    def record(self) -> dict[str, Any]:
        """Return the lists as plain values, with at most `_MAX_ENTRIES` entries each."""
        return {
            "tools": self.tools[:_MAX_ENTRIES],
            "prompts": self.prompts[:_MAX_ENTRIES],
            "resources": list(self.resources.values())[:_MAX_ENTRIES],
            "templates": self.templates[:_MAX_ENTRIES],
            "left_out": dict(self.left_out),
        }


async def _list_templates(client: Client) -> list[dict[str, Any]]:
    try:
        return await _list_all(client.list_resource_templates, "resource_templates")
    except MCPError:
        return []  # not every server with documents implements templates


async def _list_all(method: Callable[..., Awaitable[Any]], kind: str) -> list[dict[str, Any]]:
    """Return the entries of all pages of a list, as plain values with the keys of MCP."""
    entries: list[Any] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page = await method(cursor=cursor)
        entries += getattr(page, kind)
        cursor = page.next_cursor
        if not cursor or len(entries) > _MAX_ENTRIES:
            break
    return [entry.model_dump(mode="json", by_alias=True, exclude_none=True) for entry in entries]
