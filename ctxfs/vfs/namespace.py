"""The mount table: one tree that consists of many mounts, itself a Mount."""

import errno
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from ctxfs.model.change import Change, Move
from ctxfs.model.entry import Entry, directory
from ctxfs.model.errors import not_found, not_permitted, path_error
from ctxfs.model.mount import Backing, Mount
from ctxfs.model.path import Path

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class View(Protocol):
    """A mount that exists below every directory, such as `.search`."""

    sealed: bool
    of_directories: bool  # False: it is also reachable below files and absent paths

    def at(self, below: Path) -> Mount:
        """Return the mount as seen from the directory `below`."""
        ...


class Namespace(Mount):
    """A tree that routes a path to the mount with the longest matching mount point.

    Directories that only lead to mount points exist implicitly. Views are reachable by name in every directory, and
    never listed. An unexpected exception of a mount becomes EIO; other mounts are not affected.
    """

    def __init__(self, views: Mapping[str, View] | None = None) -> None:
        self._mounts: dict[Path, Mount] = {}
        self._hidden: set[Path] = set()
        self._trees: set[Path] = set()  # mount points of whole trees, which have views of their own
        self._views = dict(views or {})

    def attach(self, at: Path, mount: Mount, *, hidden: bool = False, has_views: bool = False) -> None:
        """Mount `mount` at `at`, in place of a mount that is there.

        `hidden` omits it from listings. A mount that `has_views` routes the paths of views below it by itself.
        """
        self._mounts[at] = mount
        if has_views:
            self._trees.add(at)
        if hidden:
            self._hidden.add(at)

    def attach_view(self, name: str, view: View) -> None:
        """Show a view under `name` in every directory."""
        self._views[name] = view

    def detach(self, at: Path) -> None:
        """Remove the mount at `at`. Raise ENOENT if there is none."""
        if self._mounts.pop(at, None) is None:
            raise not_found(at)
        self._hidden.discard(at)
        self._trees.discard(at)

    @property
    def mountpoints(self) -> Mapping[Path, Mount]:
        """A copy of the table."""
        return dict(self._mounts)

    @property
    def view_names(self) -> frozenset[str]:
        """The names that lead to a view in every directory."""
        return frozenset(self._views)

    def is_view(self, path: Path) -> bool:
        """Return True for a path in a view."""
        return self._view_position(path) is not None

    @property
    def sealed_views(self) -> list[str]:
        """The names of the read-only views."""
        return sorted(name for name, view in self._views.items() if view.sealed)

    async def stat(self, path: Path) -> Entry:
        """Return the entry from the owner of `path`, or of a directory that leads to a mount."""
        if path.is_root or self._leads_to_mounts(path):
            return directory(path.name)
        owner, rest = await self._route(path)
        entry = await self._guard(path, lambda: owner.stat(rest))
        return entry if entry.name == path.name else replace(entry, name=path.name)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return the owner's entries and the mount points below."""
        entries: dict[str, Entry] = {}
        try:
            owner, rest = await self._route(path)
        except FileNotFoundError:
            if not path.is_root and not self._leads_to_mounts(path):
                raise
        else:
            for entry in await self._guard(path, lambda: owner.list(rest)):
                entries[entry.name] = entry
        depth = len(path.parts)
        for point in list(self._mounts):
            if len(point.parts) <= depth or not point.is_below(path) or point in self._hidden:
                continue
            name = point.parts[depth]
            try:
                entries[name] = await self.stat(path / name)
            except OSError as error:
                # A failing mount must not fail the listing of its parent: it is shown, and opening it fails.
                log.warning("mount %s failed: %s", point, error)
                entries[name] = directory(name, mode=0)
        return sorted(entries.values(), key=lambda entry: entry.name)

    async def read(self, path: Path) -> bytes:
        """Return the content from the owner. Raise EISDIR for directories that lead to mounts."""
        if path.is_root or self._leads_to_mounts(path):
            raise path_error(errno.EISDIR, path)
        owner, rest = await self._route(path)
        return await self._guard(path, lambda: owner.read(rest))

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Return the owner's attributes; none for directories that lead to mounts."""
        if path.is_root or self._leads_to_mounts(path):
            return {}
        owner, rest = await self._route(path)
        return await self._guard(path, lambda: owner.metadata(rest))

    async def apply(self, change: Change) -> None:
        """Apply the change in its owner. Raise EXDEV for a move across mounts, EPERM on the tree's own directories."""
        if change.path.is_root or change.path in self._mounts or self._leads_to_mounts(change.path):
            raise not_permitted(change.path, "this directory belongs to the tree itself")
        owner, rest = await self._route(change.path)
        if isinstance(change, Move):
            target_owner, target = await self._route(change.to)
            if target_owner is not owner:
                raise path_error(errno.EXDEV, change.to)
            await self._guard(change.path, lambda: owner.apply(Move(rest, target)))
            return
        change_type = type(change)
        fields = {name: getattr(change, name) for name in change_type.__slots__}
        owner_change = change_type(**{**fields, "path": rest})
        await self._guard(change.path, lambda: owner.apply(owner_change))

    def backing(self, path: Path) -> Backing | None:
        """Return the owner's backing; None below a view."""
        if self._view_position(path) is not None:
            return None
        mountpoint = self._owner_of(path)
        return self._mounts[mountpoint].backing(path.relative_to(mountpoint)) if mountpoint is not None else None

    def _leads_to_mounts(self, path: Path) -> bool:
        return path not in self._mounts and any(point.is_below(path) for point in self._mounts)

    def _owner_of(self, path: Path) -> Path | None:
        for depth in range(len(path.parts), -1, -1):
            candidate = Path(path.parts[:depth])
            if candidate in self._mounts:
                return candidate
        return None

    def _view_position(self, path: Path) -> int | None:
        if any(path.is_below(tree) for tree in self._trees):
            return None
        for position, name in enumerate(path.parts):
            if name in self._views:
                return position
        return None

    async def _route(self, path: Path) -> tuple[Mount, Path]:
        position = self._view_position(path)
        if position is not None:
            below, view = Path(path.parts[:position]), self._views[path.parts[position]]
            if view.of_directories and not (await self.stat(below)).is_dir:
                raise path_error(errno.ENOTDIR, below)
            return view.at(below), Path(path.parts[position + 1 :])
        mountpoint = self._owner_of(path)
        if mountpoint is None:
            raise not_found(path)
        return self._mounts[mountpoint], path.relative_to(mountpoint)

    async def _guard(self, path: Path, call: Callable[[], Awaitable[Result]]) -> Result:
        """Await a call. Raise its OSError with the full path; log any other exception and raise EIO."""
        try:
            return await call()
        except OSError as error:
            raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
        except Exception as error:
            log.exception("mount failed at %s", path)
            raise path_error(errno.EIO, path, f"internal error: {error}") from error
