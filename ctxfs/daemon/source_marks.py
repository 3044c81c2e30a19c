"""Marks of source files, which copies of their text in memory and pads inherit.

Files of the work tree carry their marks through versions. Sources have no versions, so the index supplies the list of
marked files.
"""

import os

from ctxfs.app import App
from ctxfs.index.search.grep import split_paths
from ctxfs.model.path import Path
from ctxfs.store import rooted_fs
from ctxfs.store.layout import is_versioned
from ctxfs.versions.objects.fingerprint import MAX_TEXT_BYTES

_MAX_FILES = 500  # files a call: a commit waits for one call at most

_Facts = tuple[int, int, int]  # inode, change time, size


class SourceMarks:
    """A synchroniser of the archive's marked texts with the sources. Call `update` after each change of the index."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._registered: dict[str, _Facts] = {}

    def update(self) -> bool:
        """Register new and changed marked files with the archive and remove others; return True if more remain.

        Blocks.
        """
        marked = {path for path in self._app.searcher.untrusted_paths() if not is_versioned(Path.parse(path))}
        for path in self._registered.keys() - marked:
            self._app.archive.record_marked_text(path, {}, b"")
            del self._registered[path]
        left = _MAX_FILES
        for root, parts in split_paths(sorted(marked), self._app.sources.indexed_roots(), hidden=True):
            left -= self._register("/".join((root.prefix, *parts)), root.root, parts)
            if not left:
                return True
        return False

    def _register(self, path: str, root: str, parts: tuple[str, ...]) -> bool:
        """Register one file; return False if its mark is registered already, or the file cannot be read."""
        try:
            fd = rooted_fs.open_file(root, parts)
            stat = os.fstat(fd)
            facts = (stat.st_ino, stat.st_ctime_ns, stat.st_size)
            if self._registered.get(path) == facts:
                os.close(fd)
                return False
            attributes = rooted_fs.read_xattrs(fd)
            data = rooted_fs.read_descriptor(fd, MAX_TEXT_BYTES)
        except OSError:
            return False
        self._app.archive.record_marked_text(path, attributes, data)
        self._registered[path] = facts
        return True
