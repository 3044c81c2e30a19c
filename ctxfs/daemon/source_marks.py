"""Texts of sources that are marked, so that a copy of one in memory or a pad is marked, too.

Files of the work tree carry their marks through versions. A source has none: which of its files are marked is asked of the index.
"""

import os

from ctxfs.app import App
from ctxfs.index.search.grep import places_of
from ctxfs.model.path import Path
from ctxfs.services.caller_scope import is_versioned
from ctxfs.store import rooted_fs
from ctxfs.versions.objects.fingerprint import MAX_TEXT_BYTES

_AT_ONCE = 500  # files: a commit waits for no more of them

_Facts = tuple[int, int, int]  # inode, change time, size


class SourceMarks:
    """Has the archive know the marked texts of sources. `look` is to be called when the index has changed."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._known: dict[str, _Facts] = {}

    def look(self) -> bool:
        """Learn and unlearn what has changed since the last time; True if there is more to do. Blocks."""
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
        """Learn one file; False if it is known already, or cannot be read."""
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
