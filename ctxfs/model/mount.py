"""The one interface a provider of files implements."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctxfs.model.change import Change
from ctxfs.model.entry import Entry
from ctxfs.model.errors import read_only
from ctxfs.model.path import Path


@dataclass(frozen=True, slots=True)
class Backing:
    """Where the bytes of a path really are: `relative` below the host folder `root` (absolute).

    Adapters work on it directly, by descriptors relative to `root`, and never follow a link out of it. `hidden` are
    places below `root` that do not exist in the tree; `versioned` says that every change is to be journalled.
    """

    root: str
    relative: Path
    writable: bool
    hidden: frozenset[tuple[str, ...]] = frozenset()
    versioned: bool = False


class Mount(ABC):
    """A tree of files; paths are relative to its root.

    Errors are OSErrors: ENOENT (no such path), ENOTDIR and EISDIR (the wrong kind), EROFS (no changes here),
    EINVAL (malformed), EIO (it could not be done; never used for "does not exist"). Every method may be called
    at the same time as any other. A wrapper around a Mount is a Mount.

    In a `sealed` mount nothing can ever be changed, whatever the modes of its files say; in one that `grows` files are only
    added to (`Append`).
    """

    sealed = False
    grows = False

    @abstractmethod
    async def stat(self, path: Path) -> Entry:
        """The entry at `path`; its name is the last component, empty for the root."""

    @abstractmethod
    async def list(self, path: Path) -> Sequence[Entry]:
        """Full entries of a directory, in a stable order; names that `readdir` hides are left out."""

    @abstractmethod
    async def read(self, path: Path) -> bytes:
        """The whole content as of one moment: never half of a change."""

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Every extended attribute of a path, computed ones included. The default is none."""
        await self.stat(path)
        return {}

    async def apply(self, change: Change) -> None:
        """Make one change, or raise and leave everything as it was. The default is EROFS."""
        raise read_only(change.path)

    def backing(self, path: Path) -> Backing | None:
        """Where the bytes are, if they are on disk as they are read here; does not check that they exist."""
        return None
