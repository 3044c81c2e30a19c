"""The interface of a provider of files."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctxfs.model.change import Change
from ctxfs.model.entry import Entry
from ctxfs.model.errors import read_only
from ctxfs.model.path import Path


@dataclass(frozen=True, slots=True)
class Backing:
    """The host file of a path: `relative` below the host folder `root` (absolute).

    Adapters work on it directly, by descriptors relative to `root`, and never follow a link out of it. `hidden` are
    paths below `root` that do not exist in the tree. With `versioned` every change must be journalled.
    """

    root: str
    relative: Path
    writable: bool
    hidden: frozenset[tuple[str, ...]] = frozenset()
    versioned: bool = False


class Mount(ABC):
    """A tree of files; paths are relative to its root.

    Errors are OSErrors: ENOENT (no such path), ENOTDIR and EISDIR (the wrong kind), EROFS (read-only), EINVAL
    (malformed), EIO (the operation failed; never for an absent path). All methods may be called concurrently. A wrapper
    around a Mount is a Mount.

    A `sealed` mount is read-only, regardless of the modes of its files. In a mount with `grows` files are append-only
    (`Append`).
    """

    sealed = False
    grows = False

    @abstractmethod
    async def stat(self, path: Path) -> Entry:
        """Return the entry at `path`; its name is the last component, empty for the root."""

    @abstractmethod
    async def list(self, path: Path) -> Sequence[Entry]:
        """Return the full entries of a directory, in a stable order, without names that `readdir` hides."""

    @abstractmethod
    async def read(self, path: Path) -> bytes:
        """Return the whole content as of one moment, never a part of a change."""

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Return all extended attributes of a path, computed ones included. The default is none."""
        await self.stat(path)
        return {}

    async def apply(self, change: Change) -> None:
        """Apply one change, or raise and leave the tree unchanged. The default is EROFS."""
        raise read_only(change.path)

    def backing(self, path: Path) -> Backing | None:
        """Return the backing if reads return the host's bytes, else None. Its existence is not checked."""
        return None
