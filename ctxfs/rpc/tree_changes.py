"""The pushes of the method `watch`, as paths of the tree."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ctxfs.model.path import ROOT, Path, encode_name
from ctxfs.store.rooted_fs import is_temporary

log = logging.getLogger(__name__)

_Changes = Sequence[tuple[Sequence[str], Sequence[str], Sequence[str]]]


class TreeChanges:
    """Translates pushes, which name folders of the host, by the mount table that comes with them."""

    def __init__(self) -> None:
        self._areas: list[tuple[str, Path]] = []

    def set_mount_table(self, mount_table: Mapping[str, Any]) -> None:
        """Take over a mount table: the response of `watch`, or a push `tree`."""
        self._areas = [(root, Path.parse(mount_path)) for mount_path, root, *_ in mount_table["backings"]]

    def paths_of(self, topic: str, value: Any) -> list[Path]:
        """Return the changed paths of a push, regardless of permissions; none for other pushes.

        The root stands for any path: until then the daemon followed no files.
        """
        if topic == "tree":
            self.set_mount_table(value)
            return []
        if topic == "refresh":
            return [ROOT]
        if topic != "changed":
            return []
        areas = [
            (mount_path, changes)
            for root, changes in value
            for area_root, mount_path in self._areas
            if area_root == root
        ]
        return [path for mount_path, changes in areas for path in _changed_paths(mount_path, changes)]


def _changed_paths(mount_path: Path, changes: _Changes) -> Iterator[Path]:
    """Yield the paths below `mount_path` that may have changed (format: `ctxfs.daemon.watch`)."""
    for directory, names, deleted in changes:
        for name in filter(None, (*names, *deleted)):
            if is_temporary(encode_name(name)):
                continue
            try:
                yield mount_path.join(Path((*directory, name)))
            except OSError as error:
                log.debug("change outside of the tree: %s", error)
        if not names and not deleted:
            yield mount_path
