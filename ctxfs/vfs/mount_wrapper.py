"""A Mount around another Mount: the base of wrappers that change some methods and forward the rest."""

from collections.abc import Mapping, Sequence

from ctxfs.model.change import Change
from ctxfs.model.entry import Entry
from ctxfs.model.mount import Backing, Mount
from ctxfs.model.path import Path


class MountWrapper(Mount):
    """Forwards every method to the wrapped tree. `sealed` and `grows` are properties of its mounts: they stay False."""

    def __init__(self, tree: Mount) -> None:
        self._tree = tree

    async def stat(self, path: Path) -> Entry:
        """Implement `Mount.stat` by the wrapped tree."""
        return await self._tree.stat(path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Implement `Mount.list` by the wrapped tree."""
        return await self._tree.list(path)

    async def read(self, path: Path) -> bytes:
        """Implement `Mount.read` by the wrapped tree."""
        return await self._tree.read(path)

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Implement `Mount.metadata` by the wrapped tree."""
        return await self._tree.metadata(path)

    async def apply(self, change: Change) -> None:
        """Implement `Mount.apply` by the wrapped tree."""
        await self._tree.apply(change)

    def backing(self, path: Path) -> Backing | None:
        """Implement `Mount.backing` by the wrapped tree."""
        return self._tree.backing(path)
