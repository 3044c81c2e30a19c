"""The descriptors of nodes: to reach the host file of a node, and to release the resources of a node."""

import errno
import os
from collections.abc import Collection

from ctxfs.fuse.directory_fds import DirectoryFds
from ctxfs.fuse.inodes import Area, Node, NodeTable
from ctxfs.fuse.open_file_cache import OpenFileCache
from ctxfs.fuse.read_audit import ReadAudit
from ctxfs.fuse.recorder import Recorder
from ctxfs.model.errors import path_error

SAFE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class NodeFds:
    """Opens the host files of nodes, and closes the descriptors of nodes that lose their references, name or area.

    No call follows a link.
    """

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

    def stat(self, node: Node) -> os.stat_result:
        """Return the host's attributes of a node, even if it is unlinked but the kernel still references it.

        Raise OSError ESTALE if its name leads to another file and no descriptor of it is open.
        """
        if (removed := self._directories.removed_fd(node)) is not None:
            return os.fstat(removed)
        try:
            parent, name = self.locate(node)
            stat = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if self.is_node(node, stat):
                return stat
            failure = path_error(errno.ESTALE, node.path)
        except OSError as error:
            failure = error
        if (fd := self.find_open_fd(node)) is None:
            raise failure
        return os.fstat(fd)

    def locate(self, node: Node) -> tuple[int, bytes]:
        """Return (directory descriptor, name) of a node, for calls relative to a directory.

        The descriptor is valid until the next call.
        """
        if node.is_top or node.parent is None:
            return self._directories.fd_for(node), b"."
        return self._directories.fd_for(node.parent), node.name

    def xattr_path(self, node: Node) -> tuple[bytes, bool]:
        """Return (path, whether to follow links) for the xattr calls.

        An open file is addressed by its descriptor, because it may have no name.
        """
        if (fd := self.find_open_fd(node)) is not None:
            return b"/proc/self/fd/%d" % fd, True
        parent, name = self.locate(node)
        return b"/proc/self/fd/%d/%b" % (parent, name), False

    def open_node(self, node: Node, flags: int) -> tuple[int, os.stat_result]:
        """Open a node and return (descriptor, its stat result).

        Raise OSError ESTALE if its name leads to another file: the kernel then repeats the lookup.
        """
        if (open_fd := self.find_open_fd(node)) is not None:  # independent of its name
            if flags & os.O_ACCMODE:
                self._check_name(node)
            fd = self.open_name(b"/proc/self/fd/%d" % open_fd, flags | os.O_NONBLOCK | os.O_CLOEXEC)
        else:
            parent, name = self.locate(node)
            try:
                fd = self.open_name(name, flags | SAFE_FLAGS, parent)
            except FileNotFoundError as error:  # so that an open with O_CREAT can create it again
                raise path_error(errno.ESTALE, node.path) from error
        stat = os.fstat(fd)
        if not self.is_node(node, stat):
            os.close(fd)
            raise path_error(errno.ESTALE, node.path)
        return fd, stat

    def _check_name(self, node: Node) -> None:
        """Raise OSError ESTALE, once, for a file that was replaced or removed on the host.

        The writer then repeats the lookup, and does not write to a file without a name.
        """
        parent = node.parent
        if node.is_top or parent is None or self._nodes.node_named(parent, node.name) is not node:
            return  # this mount itself has removed the name
        try:
            directory, name = self.locate(node)
            if self.is_node(node, os.stat(name, dir_fd=directory, follow_symlinks=False)):
                return
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
        self.remove_name(parent, node.name)
        self._directories.keep_removed(node)
        raise path_error(errno.ESTALE, node.path)

    def open_name(self, name: bytes, flags: int, parent: int | None = None, mode: int = 0) -> int:
        """Open a file; if the descriptors are exhausted, empty the open file cache and retry."""
        try:
            return os.open(name, flags, mode, dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        self._open_file_cache.evict_all()
        return os.open(name, flags, mode, dir_fd=parent)

    def find_open_fd(self, node: Node) -> int | None:
        """Return a descriptor of a node that is, or may be, open; otherwise None."""
        if node.descriptors:
            self._open_file_cache.evict(node)  # which may close the descriptor
        return next(iter(node.descriptors), None) or self._directories.removed_fd(node)

    @staticmethod
    def is_node(node: Node, stat: os.stat_result) -> bool:
        """Return False if a stat result belongs to another file than the node: it was replaced on the host."""
        return node.is_top or node.is_host_file(stat)

    def open_before_removal(self, node: Node | None, parent: Node, name: bytes) -> int | None:
        """Return an O_PATH descriptor of a node that is about to lose this name, or None.

        The kernel soon forgets most such nodes.
        """
        if node is None:
            return None
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directories.fd_for(parent))
        except OSError:  # the call that removes the name fails likewise
            return None
        if self.is_node(node, os.fstat(fd)):
            return fd
        os.close(fd)
        return None

    def keep_or_close(self, node: Node | None, fd: int | None) -> None:
        """Store the descriptor for a node without a name; otherwise close it."""
        if fd is None:
            return
        if node is None or self._nodes.has_name(node):
            os.close(fd)
            return
        self._directories.evict(node)
        self._directories.add_removed(node, fd)

    def open_path(self, node: Node) -> int:
        """Return a new O_PATH descriptor of a node. Raise OSError ESTALE if its name leads to another file."""
        parent, name = self.locate(node)
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        if not self.is_node(node, os.fstat(fd)):
            os.close(fd)
            raise path_error(errno.ESTALE, node.path)
        return fd
