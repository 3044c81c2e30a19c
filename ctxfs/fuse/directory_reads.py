"""Requests on directories: open, read and close, with or without a handle."""

import contextlib
import errno
import itertools
import os

from ctxfs.fuse import attributes
from ctxfs.fuse.attributes import Attributes, OpenReply
from ctxfs.fuse.backed import BackedFiles
from ctxfs.fuse.backed_io import BackedIO
from ctxfs.fuse.backed_xattrs import BackedAttributes
from ctxfs.fuse.directory_stream import DOTS, DirectoryStream, cookie_of
from ctxfs.fuse.inodes import Area, Node
from ctxfs.fuse.interfaces import Answer, DirectoryEntries, PackedFiles
from ctxfs.fuse.state import State
from ctxfs.fuse.synthetic import SyntheticFiles
from ctxfs.model.entry import Entry
from ctxfs.model.errors import path_error
from ctxfs.model.tables import Table

_MAX_UNOPENED_STREAMS = 64


class DirectoryReads:
    """The directory streams of a mount, of backed and of synthetic directories."""

    def __init__(
        self, state: State, io: BackedIO, attributes: BackedAttributes, backed: BackedFiles, synthetic: SyntheticFiles
    ) -> None:
        self._io = io
        self._attributes = attributes
        self._backed = backed
        self._synthetic = synthetic
        self._nodes = state.nodes
        self._directories = state.directories
        self._open_file_cache = state.open_file_cache
        self._passthrough = state.passthrough
        self._mount_table = state.mount_table
        self._access = state.access
        self._cache_policy = state.cache_policy
        self._streams: Table[DirectoryStream] = Table(errno.EBADF)
        # Streams of directories without an open handle, by number.
        self._unopened_streams: dict[int, DirectoryStream] = {}
        self._handles = itertools.count(1)

    def opendir(self, number: int) -> OpenReply:
        """Open a directory; its names are read by the first readdir.

        The kernel may cache the names of a directory on disk, because it receives invalidations of changes.
        """
        node = self._visible_node(number)
        fh = next(self._handles)
        if node.area is None:
            self._streams[fh] = DirectoryStream(node, has_handle=True)
            return OpenReply(fh, direct_io=True)
        fd, keep_cache = self._backed.open_directory(node)
        self._streams[fh] = DirectoryStream(node, has_handle=True, fd=fd)
        return OpenReply(fh, keep_cache=keep_cache)

    def readdir(self, fh: int, after: int, entries: DirectoryEntries) -> Answer[None]:
        """Add names with attributes after the readdir cookie `after`; 0, a rewind, reads the directory again."""
        return self._readdir(self._streams[fh], after, entries)

    def readdir_unopened(self, number: int, after: int, entries: DirectoryEntries) -> Answer[None]:
        """Add names as `readdir`, of a directory without an open handle."""
        node, stream = self._visible_node(number), self._unopened_streams.get(number)
        if stream is None or stream.node is not node or after == 0:
            stream = self._start_stream(node, stream)
        return self._readdir(stream, after, entries)

    def _readdir(self, stream: DirectoryStream, after: int, entries: DirectoryEntries) -> Answer[None]:
        if not stream.has_handle:
            parent = stream.node.parent or stream.node
            entries.add_dots(after, stream.node.number, parent.number)
        if stream.node.area is None:
            return self._readdir_synthetic(stream, after, entries)
        if stream.names is None or after == 0:
            stream.is_volatile |= self._backed.is_volatile(stream.node)
            stream.set_names(self._backed.names(stream.node))
        self._add_from_disk(stream, stream.index_after(after), entries)
        if entries.is_empty:
            self._finish_stream(stream)
        return None

    def _start_stream(self, node: Node, previous: DirectoryStream | None) -> DirectoryStream:
        stream = self._unopened_streams[node.number] = DirectoryStream(
            node, is_volatile=previous is not None and previous.is_volatile
        )
        if len(self._unopened_streams) > _MAX_UNOPENED_STREAMS:
            oldest = self._unopened_streams.pop(next(iter(self._unopened_streams)))
            if oldest.is_volatile:
                self._invalidate_names(oldest.node)
        return stream

    def _finish_stream(self, stream: DirectoryStream) -> None:
        """Invalidate the names of an unopened directory that may change without a new modification time.

        Its reader is about to receive the end of the directory, at which the kernel starts to cache the names.
        """
        if stream.is_volatile and not stream.has_handle:
            stream.is_volatile = False
            self._invalidate_names(stream.node)

    def _invalidate_names(self, directory: Node) -> None:
        """Invalidate the names of a directory in the kernel's cache."""
        with contextlib.suppress(OSError):  # the kernel has forgotten the directory
            self._cache_policy.caches.invalidate_inode(directory.number)

    def _visible_node(self, number: int) -> Node:
        node = self._nodes[number]
        if not self._access.rights(node).exists:
            raise path_error(errno.ENOENT, node.path)
        return node

    def _add_from_disk(self, stream: DirectoryStream, start: int, entries: DirectoryEntries) -> None:
        node = stream.node
        area, names = node.area, stream.names
        assert names is not None and area is not None
        directory = self._directories.fd_for(node)
        files = None
        if self._access.is_unrestricted:
            below = 0 if self._cache_policy.is_shared(area) else self._passthrough.min_bytes
            files = entries.add_on_disk(
                directory, names, start, area.number_base, self._cache_policy.area_cache_seconds(area), below
            )
        if files is None:
            self._open_file_cache.expect(directory, self._add_one_by_one(directory, stream, start, entries))
        else:
            self._add_listed(node, area, names, files, entries)
            if not stream.is_volatile and (files[-1][0] + 1 if files else 0) == len(names):
                self._open_file_cache.set_listing_end(node, cookie_of(names[-1]) if names else DOTS)

    def _add_one_by_one(
        self, directory: int, stream: DirectoryStream, start: int, entries: DirectoryEntries
    ) -> list[Node]:
        """Add entries with a stat each; return the nodes that the transport may open by itself."""
        node, names, expected = stream.node, stream.names, list[Node]()
        assert names is not None and node.area is not None
        for position in range(start, len(names)):
            name = names[position]
            try:
                stat = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except OSError:
                continue  # removed since the names were read
            child = self._nodes.node_for(node, name, node.area, stat)
            if not entries.add(name, self._attributes.attributes(child, stat), cookie_of(name)):
                break
            child.lookups += 1
            if self._io.can_open_directly(child, stat.st_mode, stat.st_size):
                expected.append(child)
        return expected

    def _add_listed(
        self, node: Node, area: Area, names: list[bytes], files: PackedFiles, entries: DirectoryEntries
    ) -> None:
        """Add the nodes of entries that the transport has added at once.

        Correct the entries whose numbers are taken, and keep the transport from opening files that are open or locked.
        """
        corrections = self._nodes.add_listed(node, area, names, files)
        for offset, number, child in corrections:
            self._open_file_cache.unexpect(number)
            if child.number != number:
                entries.renumber(offset, child.number)

    async def _readdir_synthetic(self, stream: DirectoryStream, after: int, entries: DirectoryEntries) -> None:
        names = stream.names
        if names is None or after == 0:
            stream.is_volatile = True
            listed = await self._synthetic.entries(stream.node)
            names = stream.set_entries({os.fsencode(entry.name): entry for entry in listed})
        path = stream.node.path
        for index in range(stream.entry_index_after(after), len(names)):
            name = names[index]
            entry = stream.entries[name]
            if self._mount_table.area_below(stream.node, name) is not None:
                child, reply = self._area_entry(stream.node, name, entry)
            else:
                child = self._nodes.synthetic_node(stream.node, name)
                reply = self._synthetic.attributes(child, path / entry.name, entry)
            if not entries.add(name, reply, stream.entry_cookie(index)):
                break
            child.lookups += 1
        if entries.is_empty:
            self._finish_stream(stream)

    def _area_entry(self, parent: Node, name: bytes, entry: Entry) -> tuple[Node, Attributes]:
        """Return the node and attributes of an area's root in a listing; if it is down, as the tree describes it."""
        area = self._mount_table.area_below(parent, name)
        assert area is not None
        try:
            stat = os.stat(area.root)
        except OSError:
            child = self._nodes.synthetic_node(parent, name)
            return child, attributes.synthetic_attributes(child, entry, 0.0, entry.mtime_ns)
        child = self._nodes.top_node(parent, name, area, stat)
        return child, self._attributes.attributes(child, stat)

    def releasedir(self, fh: int) -> None:
        """Close a directory handle."""
        stream = self._streams.take(fh)
        if stream.fd is not None:
            self._backed.close_directory(stream.node, stream.fd)

    def fsyncdir(self, fh: int) -> Answer[None]:
        """Make the names of an open directory durable."""
        return self._sync_names(self._streams[fh].node)

    def fsyncdir_unopened(self, number: int) -> Answer[None]:
        """Make the names of a directory without an open handle durable."""
        return self._sync_names(self._nodes[number])

    def _sync_names(self, node: Node) -> Answer[None]:
        return self._backed.fsync_directory(node) if node.area is not None else None
