"""The mount knowledge/<server>/: the documents of an MCP server as files.

Listed documents are cached on disk and stay when the server is gone. Addresses of templates are fetched at a lookup by
name. All files are marked untrusted, with their address as `source`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from ctxfs.mcp_client.uri_paths import Parts, Template
from ctxfs.model.entry import Entry
from ctxfs.model.errors import not_found
from ctxfs.model.metadata import PREFIX
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path


class Documents(Protocol):
    """The documents that a server has, as of its last listing."""

    @property
    def documents(self) -> Mapping[Parts, str]:
        """Return path → address."""
        ...

    @property
    def folders(self) -> frozenset[Parts]:
        """Return the paths that it lists as directories."""
        ...

    @property
    def templates(self) -> tuple[Template, ...]:
        """Return the templates of addresses that it does not list."""
        ...


class DocumentServer(Protocol):
    """One server with documents."""

    def listed(self) -> Documents:
        """Return the current documents."""
        ...

    async def fetch(self, uri: str, parts: Parts) -> bool:
        """Store the document at an address as a file; return False if the server has none there."""
        ...


class McpDocumentsMount(Mount):
    """Documents of one server; `cache` is the folder of fetched documents."""

    sealed = True

    def __init__(self, cache: Mount, server: DocumentServer) -> None:
        self._cache = cache
        self._server = server

    async def stat(self, path: Path) -> Entry:
        """Return the cached entry; a document that is not cached yet is fetched if the server has it."""
        try:
            return await self._cache.stat(path)
        except FileNotFoundError:
            current = self._server.listed()
            if self._is_folder(path.parts):
                return Entry(path.name, "dir", mode=0o555)
            if path.parts in current.documents:
                uri = current.documents[path.parts]
            else:
                uri = "" if path.name.startswith(".") else _match_template(current, path.parts)
            if not uri or not await self._server.fetch(uri, path.parts):
                raise not_found(path) from None
        return await self._cache.stat(path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return the cached entries, and the folders of templates."""
        try:
            entries = {entry.name: entry for entry in await self._cache.list(path)}
        except FileNotFoundError:
            await self.stat(path)
            entries = {}
        for name in self._names_below(path.parts):
            entries.setdefault(name, Entry(name, "dir", mode=0o555))
        return sorted(entries.values(), key=lambda entry: entry.name)

    async def read(self, path: Path) -> bytes:
        """Return the cached content."""
        await self.stat(path)
        return await self._cache.read(path)

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Return the source, and the mark `untrusted`."""
        if (await self.stat(path)).is_dir:
            return {}
        return {f"{PREFIX}trust": b"untrusted", **await self._cache.metadata(path)}

    def _is_folder(self, parts: Parts) -> bool:
        return not parts or any(prefix[: len(parts)] == parts for prefix in self._prefixes())

    def _names_below(self, parts: Parts) -> set[str]:
        depth = len(parts)
        return {prefix[depth] for prefix in self._prefixes() if len(prefix) > depth and prefix[:depth] == parts}

    def _prefixes(self) -> Sequence[Parts]:
        """Return the folders of templates and of documents that are not fetched yet."""
        current = self._server.listed()
        unfetched = [parts[:-1] for parts in current.documents]
        return [*(template.folder for template in current.templates), *current.folders, *unfetched]


def _match_template(documents: Documents, parts: Parts) -> str:
    return next((uri for template in documents.templates if (uri := template.match(parts))), "")
