"""The settings in force, and the sources that they name: mounts below knowledge/ and roots of the index."""

import os
import re
from collections.abc import Iterable
from pathlib import Path as HostPath

from ctxfs.exec.call_store import ARGS, RESULT, STDERR
from ctxfs.index.engines.model_files import default_model_folder
from ctxfs.index.options import EmbedderSpec, IndexedRoot, IndexerOptions
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.mounts.folders import create_source_mount
from ctxfs.mounts.mcp_documents import Documents, McpDocumentsMount
from ctxfs.policy.engine import PolicyEngine
from ctxfs.services.providers import MountProviders
from ctxfs.store.config import read_settings
from ctxfs.store.folder import Folder
from ctxfs.store.layout import Layout
from ctxfs.store.registry import confirmed_roots
from ctxfs.store.settings import Settings
from ctxfs.toolbox import Toolbox
from ctxfs.vfs.caller_context import acting_principal
from ctxfs.vfs.namespace import Namespace


class SettingsFile:
    """The settings of ctxfs.toml. `current` is replaced by `reload`."""

    def __init__(self, layout: Layout) -> None:
        self._file = layout.config
        self.current: Settings = read_settings(layout.config)

    def get(self) -> Settings:
        """Return the settings in force."""
        return self.current

    def reload(self) -> None:
        """Read the file again."""
        self.current = read_settings(self._file)


class Sources:
    """The folders and MCP servers below knowledge/, and the roots that the indexer follows."""

    def __init__(
        self, layout: Layout, settings: SettingsFile, namespace: Namespace, policy: PolicyEngine, tools: Toolbox
    ) -> None:
        self._layout = layout
        self._settings = settings
        self._namespace = namespace
        self._policy = policy
        self._tools = tools
        self.providers = MountProviders()
        # A tree that contained itself would have no end, and a mount that read itself would wait for ever.
        self.opaque: frozenset[str] = frozenset({os.path.realpath(layout.root), *confirmed_roots()})

    def reload(self) -> None:
        """Read ctxfs.toml again, and attach and detach mounts accordingly."""
        self._settings.reload()
        mounts: dict[Path, Mount] = {
            Path(("knowledge", source.name)): create_source_mount(source, opaque_below(source.path, self.opaque))
            for source in self._settings.current.sources
        }
        for name, server in self._tools.shelf.approved_states().items():
            if server.documents or server.templates:
                stored = Folder(str(self._tools.shelf.resources_folder(name)), writable=False)
                mounts[Path(("knowledge", name))] = McpDocumentsMount(stored, _DocumentServer(self._tools, name))
        mounts |= self.providers.open(self._settings.current.providers)
        for path in self._namespace.mountpoints:
            if len(path.parts) == 2 and path.parts[0] == "knowledge" and path not in mounts:
                self._namespace.detach(path)
        for path, mount in mounts.items():
            self._namespace.attach(path, mount)

    def hide_mountpoint(self, path: str) -> bool:
        """Make a mount point opaque, before the kernel mounts it. False if it was opaque already.

        It stays opaque while this process lives: an unmounted directory is empty.
        """
        if path in self.opaque:
            return False
        self.opaque |= {path}
        self.reload()
        return True

    def indexed_roots(self) -> list[IndexedRoot]:
        """Return every host folder whose files are indexed."""
        tree, settings = self._layout.tree, self._settings.current
        include = settings.index.include
        roots = [
            IndexedRoot("memory", str(tree / "memory"), gitignore=False, include=include),
            IndexedRoot("pad", str(tree / "pad"), include=include),
        ]
        if settings.history.searchable:
            self._layout.history.mkdir(exist_ok=True, mode=0o700)
            roots.append(IndexedRoot("history", str(self._layout.history), gitignore=False, holds_records=True))
        if settings.tools.searchable:
            self._layout.calls.mkdir(exist_ok=True, mode=0o700)
            roots.append(IndexedRoot("tools", str(self._layout.calls), (ARGS, RESULT, STDERR), gitignore=False))
        searchable = [server.name for server in settings.servers if server.searchable]
        roots += [
            IndexedRoot(f"knowledge/{name}", str(self._tools.shelf.resources_folder(name)), gitignore=False)
            for name in searchable
        ]
        return roots + [
            IndexedRoot(
                f"knowledge/{source.name}",
                source.path,
                source.exclude + self._ignored(source.path),
                include=source.include,
            )
            for source in settings.sources
        ]

    def _ignored(self, root: str) -> tuple[str, ...]:
        """Return .gitignore patterns for the opaque folders below a source."""
        inside = opaque_below(root, self.opaque)
        return tuple("/" + "/".join(re.sub(r"([\\*?\[\]!# ])", r"\\\1", part) for part in parts) for parts in inside)

    def indexer_options(self) -> IndexerOptions:
        """Return the options that the indexer is started with."""
        index = self._settings.current.index
        return IndexerOptions(
            self._layout.index,
            embedder_of(self._settings.current),
            index.threads,
            index.max_file_bytes,
            index.exact_below,
        )

    def visible(self) -> list[tuple[str, bool]]:
        """Return (name, is writable) of the sources that exist for the calling principal."""
        principal = acting_principal()
        return [
            (source.name, source.writable)
            for source in self._settings.current.sources
            if self._policy.rights(principal, Path(("knowledge", source.name))).exists
        ]


class _DocumentServer:
    """The documents of one MCP server. Implements `ctxfs.mounts.mcp_documents.DocumentServer`."""

    def __init__(self, tools: Toolbox, name: str) -> None:
        self._tools = tools
        self._name = name

    def listed(self) -> Documents:
        return self._tools.shelf.approved_states()[self._name]

    async def fetch(self, uri: str, parts: tuple[str, ...]) -> bool:
        return await self._tools.servers.fetch(self._name, uri, parts)


def embedder_of(settings: Settings) -> EmbedderSpec | None:
    """Return the embedder of the settings; None if semantic search is off."""
    if not settings.index.meaning:
        return None
    endpoint, model = settings.endpoint, settings.index.model
    if endpoint.url:
        return EmbedderSpec(url=endpoint.url, model=endpoint.model, key_env=endpoint.key_env)
    folder = HostPath(model).expanduser() if model else default_model_folder()
    return EmbedderSpec(folder=str(folder), device=settings.index.device)


def opaque_below(root: str, opaque: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """Return the opaque folders below `root`, as names relative to it."""
    start = root.rstrip("/") + "/"
    return frozenset(tuple(path[len(start) :].split("/")) for path in opaque if path.startswith(start))
