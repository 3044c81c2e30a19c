"""Marks of source files, which copies of their text in memory and pads inherit.

Files of the work tree carry their marks through versions. Sources have no versions, so the index supplies the list of
marked files.
"""

from ctxfs.app import App
from ctxfs.index.search.grep import split_paths
from ctxfs.model.path import Path
from ctxfs.store import rooted_fs
from ctxfs.store.layout import is_versioned
from ctxfs.versions.objects.fingerprint import MAX_TEXT_BYTES

_MAX_FILES = 500  # files a call: a commit waits for one call at most


class SourceMarks:
    """A synchroniser of the archive's marked texts with the sources. Call `update` after each change of the index."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._registered: dict[str, tuple[int, int, int]] = {}  # path → inode, ctime_ns and size in the index

    def update(self) -> bool:
        """Register new and changed marked files with the archive and remove others; return True if more remain.

        Blocks.
        """
        files = self._app.searcher.untrusted_files()
        marked = {path: facts for path, facts in files.items() if not is_versioned(Path.parse(path))}
        for path in self._registered.keys() - marked.keys():
            self._app.archive.record_marked_text(path, {}, b"")
            del self._registered[path]
        changed = sorted(path for path, facts in marked.items() if self._registered.get(path) != facts)
        left = _MAX_FILES
        for root, parts in split_paths(changed, self._app.sources.indexed_roots(), hidden=True):
            path = "/".join((root.prefix, *parts))
            if self._register(path, root.root, parts):
                self._registered[path] = marked[path]
                left -= 1
            if not left:
                return True
        return False

    def _register(self, path: str, root: str, parts: tuple[str, ...]) -> bool:
        """Register the present text of one file; return False if it cannot be read now."""
        try:
            fd = rooted_fs.open_file(root, parts)
            attributes = rooted_fs.read_xattrs(fd)
            data = rooted_fs.read_descriptor(fd, MAX_TEXT_BYTES)
        except OSError:
            return False
        self._app.archive.record_marked_text(path, attributes, data)
        return True
