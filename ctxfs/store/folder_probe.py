"""The folders below a host folder, for the classifier of noise."""

import os
from collections.abc import Collection
from itertools import islice

from ctxfs.store import rooted_fs

_MAX_NAMES = 500
_HEAD_BYTES = 1024


class HostFolders:
    """The folders below `root`. Implements `ctxfs.model.noise.FolderProbe`."""

    def __init__(self, root: str) -> None:
        self._root = root

    def names(self, folder: tuple[str, ...]) -> Collection[str]:
        """Return the names in a folder, at most `_MAX_NAMES`."""
        try:
            with rooted_fs.listed_directory(self._root, folder) as fd, os.scandir(fd) as entries:
                return [entry.name for entry in islice(entries, _MAX_NAMES)]
        except OSError:
            return ()

    def head(self, path: tuple[str, ...]) -> bytes:
        """Return the beginning of a regular file."""
        try:
            return rooted_fs.read_head(self._root, path, _HEAD_BYTES)
        except OSError:
            return b""
