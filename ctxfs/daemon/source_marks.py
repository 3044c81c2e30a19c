"""Marks of source files, which copies of their text in memory and pads inherit.

Files of the work tree carry their marks through versions. Sources have no versions, so the index supplies the list of
marked files.
"""

import os

from ctxfs.app import App
from ctxfs.index.search.grep import places_of
from ctxfs.model.path import Path
from ctxfs.services.caller_scope import is_versioned
from ctxfs.store import rooted_fs
from ctxfs.versions.objects.fingerprint import MAX_TEXT_BYTES

_AT_ONCE = 500  # files a call: a commit waits for one call at most

_Facts = tuple[int, int, int]  # inode, change time, size


class SourceMarks:
    """A synchroniser of the archive's marked texts with the sources. Call `look` after each change of the index."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._known: dict[str, _Facts] = {}

    def look(self) -> bool:
        """Register new and changed marked files with the archive and remove others; return True if more remain.

        Blocks.
        """
        marked = {path for path in self._app.searcher.distrusted() if not is_versioned(Path.parse(path))}
        for path in self._known.keys() - marked:
            self._app.archive.learn_marks(path, {}, b"")
            del self._known[path]
        left = _AT_ONCE
        for root, parts in places_of(sorted(marked), self._app.sources.indexed_roots(), hidden=True):
            left -= self._learn("/".join((root.prefix, *parts)), root.root, parts)
            if not left:
                return True
        return False

    def _learn(self, path: str, root: str, parts: tuple[str, ...]) -> bool:
        """Register one file; return False if its mark is registered already, or the file cannot be read."""
        try:
            fd = rooted_fs.open_file(root, parts)
            found = os.fstat(fd)
            facts = (found.st_ino, found.st_ctime_ns, found.st_size)
            if self._known.get(path) == facts:
                os.close(fd)
                return False
            attributes = rooted_fs.read_xattrs(fd)
            data = rooted_fs.read_descriptor(fd, MAX_TEXT_BYTES)
        except OSError:
            return False
        self._app.archive.learn_marks(path, attributes, data)
        self._known[path] = facts
        return True
