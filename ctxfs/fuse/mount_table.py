"""The mount table of the tree: areas, mount points, views and hidden places, as the daemon sends them."""

import os
from collections.abc import Iterable, Sequence

from ctxfs.fuse.inodes import Area, Node
from ctxfs.model.path import ROOT, Path


class MountTable:
    """The mount table of one mount. Used by the thread of the handlers."""

    def __init__(self) -> None:
        self.areas: dict[Path, Area] = {}
        self.views: frozenset[bytes] = frozenset()
        # Paths of remaining areas that have become hidden or visible, until the kernel's caches are invalidated.
        self.changed_paths: list[tuple[Area, tuple[bytes, ...]]] = []
        self.removed_structure: frozenset[Path] = frozenset()  # by the last change of the table
        self._structure: frozenset[Path] = frozenset()  # directories that only mounting and unmounting changes
        self._sealed: frozenset[str] = frozenset()
        self._append_only: frozenset[Path] = frozenset()
        self._area_count = 0

    def apply(
        self,
        backings: Iterable[tuple[Path, str, bool, Sequence[tuple[str, ...]], bool]],
        mountpoints: Iterable[Path],
        views: Iterable[str],
        sealed: Iterable[str] = (),
        append_only: Iterable[Path] = (),
    ) -> None:
        """Apply the daemon's mount table; areas that stay keep their inode numbers.

        `backings` are (path in the tree, host folder, is writable, hidden paths, is versioned). `sealed` are names of
        immutable mount points and views. `append_only` are mount points with append-only files.
        """
        areas: dict[Path, Area] = {}
        for path, root, writable, hidden_paths, versioned in backings:
            hidden = frozenset(tuple(map(os.fsencode, parts)) for parts in hidden_paths)
            area = self.areas.get(path)
            if area is None or area.root != root:
                self._area_count += 1
                area = Area(self._area_count, path, root, writable, hidden, versioned)
            # Inode numbers must stay, or every working directory and mount below the area would be lost.
            self.changed_paths += [(area, names) for names in area.hidden ^ hidden]
            area.writable, area.hidden, area.versioned = writable, hidden, versioned
            areas[path] = area
        structure = frozenset(
            Path(point.parts[:depth]) for point in mountpoints for depth in range(len(point.parts) + 1)
        )
        self.removed_structure = self._structure - structure
        self.areas, self._structure = areas, structure
        self.views, self._sealed = frozenset(map(os.fsencode, views)), frozenset(sealed)
        self._append_only = frozenset(append_only)

    def area_below(self, parent: Node, name: bytes) -> Area | None:
        """Return the area whose top is `name` in `parent`, or None."""
        if parent.area is not None:
            return None
        return self.areas.get(Path((*parent.path.parts, os.fsdecode(name))))

    def is_backed(self, parent: Node, name: bytes) -> bool:
        """Return True if a name in `parent` belongs to the host; mount points and views do not."""
        return parent.area is not None and name not in self.views

    def is_sealed(self, path: Path) -> bool:
        """Return True below a mount point or view that is immutable, independent of the modes."""
        return not self._sealed.isdisjoint(path.parts)

    def is_append_only(self, path: Path) -> bool:
        """Return True below a mount point whose files are append-only."""
        return any(path.is_below(mountpoint) for mountpoint in self._append_only)

    def is_structure(self, path: Path) -> bool:
        """Return True for directories that only mounting and unmounting changes."""
        return path in self._structure or path == ROOT

    def names_below(self, path: Path) -> list[str]:
        """Return the names that lead from a structural directory to mount points, sorted."""
        depth = len(path.parts)
        return sorted(
            {
                structural.parts[depth]
                for structural in self._structure
                if len(structural.parts) > depth and structural.is_below(path)
            }
        )
