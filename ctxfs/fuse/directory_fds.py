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

_MAX_OPEN = 512
MAX_REMOVED = 4096


class DirectoryFds:
    """An LRU cache of O_PATH descriptors by node number. Used by one thread, between awaits only."""

    def __init__(self, on_close: Callable[[int], None], max_open: int = _MAX_OPEN) -> None:
        """Create an empty cache of `max_open` descriptors; `on_close` is called with each before it is closed."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.max_removed = MAX_REMOVED if limit == resource.RLIM_INFINITY else min(MAX_REMOVED, limit // 16)
        self._on_close = on_close
        self._open: OrderedDict[int, int] = OrderedDict()
        self._removed: dict[int, int] = {}
        self._max_open = max_open

    def fd_for(self, node: Node) -> int:
        """Return a descriptor of the directory `node`, valid until the next call.

        Raise OSError if the directory no longer exists.
        """
        cached = self._open.get(node.number)
        if cached is not None:
            self._open.move_to_end(node.number)
            return cached
        if (removed := self.removed_fd(node)) is not None:
            return removed
        chain = [node]
        while not chain[-1].is_top and (parent := chain[-1].parent) is not None and parent.number not in self._open:
            chain.append(parent)
        first = chain[-1]
        fd = -1 if first.is_top or first.parent is None else self._open[first.parent.number]
        for ancestor in reversed(chain):
            fd = self._open_one(ancestor, fd)
            self._open[ancestor.number] = fd
        while len(self._open) > max(self._max_open, len(chain)):
            self._close(self._open.popitem(last=False)[1])
        return fd

    def keep_removed(self, node: Node) -> None:
        """Keep the open descriptor of a directory that has lost its name, until the kernel forgets it.

        A process may have it open, or as its working directory.
        """
        if (fd := self._open.pop(node.number, None)) is not None:
            self.add_removed(node, fd)

    def add_removed(self, node: Node, fd: int) -> None:
        """Take over an O_PATH descriptor of a file that has lost its name.

        The oldest descriptor is closed if there are more than `max_removed`.
        """
        if (previous := self._removed.pop(node.number, None)) is not None:
            self._close(previous)
        self._removed[node.number] = fd
        if len(self._removed) > self.max_removed:
            self._close(self._removed.pop(next(iter(self._removed))))

    def removed_fd(self, node: Node) -> int | None:
        """Return a descriptor of a node that has lost its name, or None."""
        return self._removed.get(node.number)

    def evict(self, node: Node) -> None:
        """Close the descriptors of a node that is gone, or that may be another directory now."""
        for table in (self._open, self._removed):
            if (fd := table.pop(node.number, None)) is not None:
                self._close(fd)

    def close(self) -> None:
        """Close all descriptors."""
        for table in (self._open, self._removed):
            while table:
                self._close(table.popitem()[1])

    def _close(self, fd: int) -> None:
        self._on_close(fd)
        os.close(fd)

    @staticmethod
    def _open_one(node: Node, parent: int) -> int:
        if node.is_top:
            assert node.area is not None
            # The root of an area may be a link, because the user has chosen that path.
            return os.open(node.area.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return os.open(node.name, DIRECTORY_FLAGS, dir_fd=parent)
