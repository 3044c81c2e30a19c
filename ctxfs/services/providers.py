"""Mounts of installed packages: the entry points of the group `ctxfs.mounts` that ctxfs.toml names."""

import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points

from ctxfs.model.entry import Entry, directory
from ctxfs.model.errors import not_found, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.store.settings import MountProvider

log = logging.getLogger(__name__)

GROUP = "ctxfs.mounts"

Provide = Callable[[str, Mapping[str, object]], object]


class MountProviders:
    """Opens the providers of the settings, each once for as long as its settings stay the same."""

    def __init__(self) -> None:
        self._mounts: dict[MountProvider, Mount] = {}

    def open(self, providers: Sequence[MountProvider]) -> dict[Path, Mount]:
        """Return {path in the tree: mount}. A provider that fails becomes a `DownMount`; it is tried again at the next call."""
        self._mounts = {
            provider: mount
            for provider, mount in self._mounts.items()
            if provider in providers and not isinstance(mount, DownMount)
        }
        for provider in providers:
            if provider not in self._mounts:
                self._mounts[provider] = _open(provider)
        return {Path(("knowledge", provider.name)): mount for provider, mount in self._mounts.items()}

    def status(self) -> dict[str, str]:
        """Return {name: "ok", or "down: " and the reason}."""
        return {
            provider.name: f"down: {mount.reason}" if isinstance(mount, DownMount) else "ok"
            for provider, mount in self._mounts.items()
        }


class DownMount(Mount):
    """Stands in for a provider that could not be opened: an empty directory."""

    sealed = True

    def __init__(self, reason: str) -> None:
        self.reason = reason

    async def stat(self, path: Path) -> Entry:
        """Return the root, the only path."""
        if path.is_root:
            return directory("")
        raise not_found(path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return no entries."""
        await self.stat(path)
        return []

    async def read(self, path: Path) -> bytes:
        """Raise EISDIR for the root, ENOENT for every other path."""
        await self.stat(path)
        raise path_error(errno.EISDIR, path)


def _open(provider: MountProvider) -> Mount:
    matches = entry_points(group=GROUP, name=provider.kind)
    if not matches:
        return DownMount(f"no installed package offers '{provider.kind}' in {GROUP}")
    try:
        provide: Provide = next(iter(matches)).load()
        mount = provide(provider.name, dict(provider.options))
    except Exception as error:  # code of others: it must not keep the store from opening
        log.exception("the mount provider '%s' cannot be opened", provider.name)
        return DownMount(f"{type(error).__name__}: {error}")
    if not isinstance(mount, Mount):
        return DownMount(f"'{provider.kind}' returned no Mount")
    return mount
