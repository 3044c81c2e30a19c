"""A cache of directory descriptors, and the descriptors of removed files.

A directory is reopened without following a link. A removed file has lost its names while the kernel still references
it.
"""

import os
import resource
from collections import OrderedDict
from collections.abc import Callable

from ctxfs.fuse.inodes import Node
from ctxfs.store.rooted_fs import DIRECTORY_FLAGS

_KEEP = 512
MAX_REMOVED = 4096


class DirectoryFds:
    """An LRU cache of O_PATH descriptors by node number. Used by one thread, between awaits only."""

    def __init__(self, closing: Callable[[int], None], keep: int = _KEEP) -> None:
        """Create an empty cache of `keep` descriptors; `closing` is called with a descriptor before it is closed."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.most_removed = MAX_REMOVED if limit == resource.RLIM_INFINITY else min(MAX_REMOVED, limit // 16)
        self._closing = closing
        self._open: OrderedDict[int, int] = OrderedDict()
        self._removed: dict[int, int] = {}
        self._keep = keep

    def of(self, node: Node) -> int:
        """Return a descriptor of the directory `node`, valid until the next call.

        Raise OSError if the directory no longer exists.
        """
        found = self._open.get(node.number)
        if found is not None:
            self._open.move_to_end(node.number)
            return found
        if (removed := self.removed(node)) is not None:
            return removed
        chain = [node]
        while not chain[-1].top and (above := chain[-1].parent) is not None and above.number not in self._open:
            chain.append(above)
        first = chain[-1]
        fd = -1 if first.top or first.parent is None else self._open[first.parent.number]
        for step in reversed(chain):
            fd = self._open_one(step, fd)
            self._open[step.number] = fd
        while len(self._open) > max(self._keep, len(chain)):
            self._close(self._open.popitem(last=False)[1])
        return fd

    def keep_removed(self, node: Node) -> None:
        """Keep the open descriptor of a directory that has lost its name, until the kernel forgets it.

        A process may have it open, or as its working directory.
        """
        if (fd := self._open.pop(node.number, None)) is not None:
            self.hold_removed(node, fd)

    def hold_removed(self, node: Node, fd: int) -> None:
        """Take over an O_PATH descriptor of a file that has lost its name.

        The oldest descriptor is closed if there are more than `most_removed`.
        """
        if (known := self._removed.pop(node.number, None)) is not None:
            self._close(known)
        self._removed[node.number] = fd
        if len(self._removed) > self.most_removed:
            self._close(self._removed.pop(next(iter(self._removed))))

    def removed(self, node: Node) -> int | None:
        """Return a descriptor of a node that has lost its name, or None."""
        return self._removed.get(node.number)

    def forget(self, node: Node) -> None:
        """Close the descriptors of a node that is gone, or that may be another directory now."""
        for kept in (self._open, self._removed):
            if (fd := kept.pop(node.number, None)) is not None:
                self._close(fd)

    def close(self) -> None:
        """Close all descriptors."""
        for kept in (self._open, self._removed):
            while kept:
                self._close(kept.popitem()[1])

    def _close(self, fd: int) -> None:
        self._closing(fd)
        os.close(fd)

    @staticmethod
    def _open_one(node: Node, parent: int) -> int:
        if node.top:
            assert node.area is not None
            # The root of an area may be a link, because the user has chosen that path.
            return os.open(node.area.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return os.open(node.name, DIRECTORY_FLAGS, dir_fd=parent)
