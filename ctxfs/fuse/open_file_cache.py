"""The open file cache: files that stay open after their last close.

The transport answers later opens, and opens of files that it may open by itself, without Python, if it supports this.
Callers see no difference: any operation whose effect they could miss evicts the file first.
"""

from collections.abc import Callable, Sequence

from ctxfs.fuse.inodes import Node
from ctxfs.fuse.interfaces import OpenCacheBackend


class OpenFileCache:
    """The handlers' side of the open file cache: forwards to the transport's cache and closes evicted handles."""

    def __init__(self) -> None:
        self.backend: OpenCacheBackend | None = None
        self.close_handle: Callable[[int], None] = _not_attached
        # The reply for an absent ACL is ENODATA, as natively. If the kernel caches no ACLs, only once an ACL is met.
        self.answers_acls = False

    def expect(self, directory: int, nodes: Sequence[Node]) -> None:
        """Let the transport open files for reading that were just looked up in a directory, a descriptor."""
        if self.backend is not None and nodes:
            keys = ((node, node.disk_key) for node in nodes)
            self.backend.expect(directory, [(node.number, key.device, key.inode, node.name) for node, key in keys])

    def unexpect(self, number: int) -> None:
        """Forward to `OpenCacheBackend.unexpect`."""
        if self.backend is not None:
            self.backend.unexpect(number)

    def remove_directory(self, directory: int) -> None:
        """Forward to `OpenCacheBackend.closed`."""
        if self.backend is not None:
            self.backend.closed(directory)

    def set_listing_end(self, node: Node, cookie: int) -> None:
        """Forward to `OpenCacheBackend.ends`."""
        if self.backend is not None:
            self.backend.ends(node.number, cookie)

    def mark_without_capability(self, node: Node) -> None:
        """Forward to `OpenCacheBackend.bare`."""
        if self.backend is not None:
            self.backend.bare(node.number)

    def answer_acls(self) -> None:
        """Reply ENODATA to requests for an absent ACL from now on."""
        self.answers_acls = True
        if self.backend is not None:
            self.backend.answer_acls()

    def watch_closes(self, watches: bool) -> None:
        """Forward to `OpenCacheBackend.watch_closes`."""
        if self.backend is not None:
            self.backend.watch_closes(watches)

    def evict(self, node: Node) -> None:
        """Evict a file: its handle is closed now, or with its last reader."""
        if self.backend is not None and (handle := self.backend.end(node.number)) is not None:
            self.close_handle(handle)

    def evict_all(self) -> None:
        """Evict all files, because permissions or paths have changed."""
        if self.backend is not None:
            for handle in self.backend.end_all():
                self.close_handle(handle)

    @property
    def has_opens(self) -> bool:
        """Return True if opens were recorded that `take_opens` has not returned yet."""
        return self.backend is not None and self.backend.noted

    def take_opens(self) -> list[tuple[int, int]]:
        """Return (number, time in nanoseconds) of the opens since the last call."""
        return self.backend.take_notes() if self.backend is not None else []


def _not_attached(handle: int) -> None:
    raise AssertionError("no handle is cached before `close_handle` is set")
