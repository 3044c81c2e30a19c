"""The descriptors and other resources of nodes, which end when the kernel forgets a node."""

from collections.abc import Collection

from ctxfs.fuse.directory_fds import DirectoryFds
from ctxfs.fuse.inodes import Area, Node, NodeTable
from ctxfs.fuse.open_file_cache import OpenFileCache
from ctxfs.fuse.read_audit import ReadAudit
from ctxfs.fuse.recorder import Recorder


class NodeFds:
    """Releases the resources of nodes that lose their last reference, their name or their area."""

    def __init__(
        self,
        nodes: NodeTable,
        directories: DirectoryFds,
        open_file_cache: OpenFileCache,
        recorder: Recorder,
        reads: ReadAudit,
    ) -> None:
        self._nodes = nodes
        self._directories = directories
        self._open_file_cache = open_file_cache
        self._recorder = recorder
        self._reads = reads

    def forget(self, number: int, lookups: int) -> None:
        """Decrement a lookup count; with the last reference release all resources of the node."""
        if self._open_file_cache.has_opens:
            self._recorder.audit_reused_opens()  # while the node still has its name
        node = self._nodes.forget(number, lookups)
        if node is None:
            return
        self._reads.pop(number, None)
        self._open_file_cache.evict(node)  # closing its last descriptor removes the node
        if not node.descriptors:
            self._directories.evict(node)

    def remove_name(self, parent: Node, name: bytes) -> Node | None:
        """Remove a name as `NodeTable.remove_name`, and evict its file from the open file cache."""
        node = self._nodes.remove_name(parent, name)
        if node is not None:
            self._open_file_cache.evict(node)
        return node

    def retain_areas(self, areas: Collection[Area]) -> None:
        """Close the directories of all other areas, so that the host can unmount their file systems."""
        remaining = set(areas)
        for node in self._nodes:
            if node.area is not None and node.area not in remaining:
                self._directories.evict(node)
