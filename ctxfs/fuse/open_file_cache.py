"""The open file cache: files that stay open after their last close.

The transport answers later opens, and opens of files that it may open by itself, without Python, if it supports this.
Callers see no difference: any operation whose effect they could miss evicts the file first.
"""

from collections.abc import Callable, Sequence

from ctxfs.fuse.inodes import Node
from ctxfs.fuse.interfaces import OpenCacheBackend
from ctxfs.fuse.null_interfaces import NullOpenCache


class OpenFileCache:
    """The handlers' side of the open file cache: forwards to the transport's cache and closes evicted handles."""

    def __init__(self) -> None:
        self._backend: OpenCacheBackend = NullOpenCache()
        self._close_handle: Callable[[int], None] = _not_connected
        # The reply for an absent ACL is ENODATA, as natively. If the kernel caches no ACLs, only once an ACL is met.
        self.answers_acls = False

    def connect(self, backend: OpenCacheBackend, close_handle: Callable[[int], None]) -> None:
        """Use the cache of a transport from now on; `close_handle` is called with each evicted handle."""
        self._backend, self._close_handle = backend, close_handle

    def expect(self, directory: int, nodes: Sequence[Node]) -> None:
        """Let the transport open files for reading that were just looked up in a directory, a descriptor."""
        if nodes:
            keys = ((node, node.disk_key) for node in nodes)
            self._backend.expect(directory, [(node.number, key.device, key.inode, node.name) for node, key in keys])

    def unexpect(self, number: int) -> None:
        """Forward to `OpenCacheBackend.unexpect`."""
        self._backend.unexpect(number)

    def remove_directory(self, directory: int) -> None:
        """Forward to `OpenCacheBackend.closed`."""
        self._backend.closed(directory)

    def set_listing_end(self, node: Node, cookie: int) -> None:
        """Forward to `OpenCacheBackend.ends`."""
        self._backend.ends(node.number, cookie)

    def mark_without_capability(self, node: Node) -> None:
        """Forward to `OpenCacheBackend.bare`."""
        self._backend.bare(node.number)

    def answer_acls(self) -> None:
        """Reply ENODATA to requests for an absent ACL from now on."""
        self.answers_acls = True
        self._backend.answer_acls()

    def watch_closes(self, watches: bool) -> None:
        """Forward to `OpenCacheBackend.watch_closes`."""
        self._backend.watch_closes(watches)

    def evict(self, node: Node) -> None:
        """Evict a file: its handle is closed now, or with its last reader."""
        if (handle := self._backend.end(node.number)) is not None:
            self._close_handle(handle)

    def evict_all(self) -> None:
        """Evict all files, because permissions or paths have changed."""
        for handle in self._backend.end_all():
            self._close_handle(handle)

    @property
    def has_opens(self) -> bool:
        """Return True if opens were recorded that `take_opens` has not returned yet."""
        return self._backend.noted

    def take_opens(self) -> list[tuple[int, int]]:
        """Return (number, time in nanoseconds) of the opens since the last call."""
        return self._backend.take_notes()


def _not_connected(handle: int) -> None:
    raise AssertionError("no handle is cached before `connect`")
