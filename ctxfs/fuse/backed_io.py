"""Content of backed files: open, read, write, truncate, locks and seek, on descriptors.

No call follows a link, and none needs an RPC.
"""

import contextlib
import errno
import os
import platform
import re
import stat as st
import time

from ctxfs.fuse import attributes
from ctxfs.fuse.access import check_writable
from ctxfs.fuse.attributes import OpenReply
from ctxfs.fuse.inodes import Node, Version
from ctxfs.fuse.state import State
from ctxfs.model.errors import path_error
from ctxfs.policy import operations
from ctxfs.store import frozen_files, rooted_fs
from ctxfs.vfs.access_control import WITHHELD

OPEN_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_TRUNC | os.O_SYNC | os.O_DSYNC  # the flags that reach the host
# Twice the longest tick of Linux (HZ=100): before 6.13 modification times have the granularity of ticks.
TICK_NS = 20_000_000
_READ, _WRITE = int(operations.READ), int(operations.WRITE)
_MAX_COPY_BYTES = 64 * 1024 * 1024  # per request, because other requests wait for it
# From Linux 6.13 on, a change after a stat of the file has a distinct time (multigrain timestamps).
_HAS_FINE_TIMES = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2]) >= (6, 13)


class BackedIO:
    """Request handlers for the content of nodes with an area. A handle is a file descriptor."""

    def __init__(self, state: State) -> None:
        self._loop = state.loop
        self._options = state.options
        self._files = state.files
        self._node_fds = state.node_fds
        self._open_file_cache = state.open_file_cache
        self._passthrough = state.passthrough
        self._access = state.access
        self._cache_policy = state.cache_policy
        self._recorder = state.recorder
        self._durability = state.durability
        self._claims = state.claims
        # Locked files: their versions when this mount last unlocked them.
        self._unlocked_versions: dict[Node, Version] = {}

    def open(self, node: Node, flags: int, *, drop_privileges: bool = False) -> OpenReply:
        """Open a file and return the reply, whose handle is a descriptor.

        The kernel keeps its page cache if the version of the file equals the cached one. Raise OSError EACCES for a
        quarantined file.
        """
        writes = bool(flags & os.O_ACCMODE)
        if writes or flags & os.O_TRUNC:
            check_writable(node)
        self._access.check_open(node, flags)
        fd, stat = self._node_fds.open_node(node, flags & OPEN_FLAGS & ~os.O_TRUNC)
        if (writes or flags & os.O_TRUNC) and frozen_files.is_frozen(fd):
            os.close(fd)
            raise frozen_files.FrozenFile(node.path)
        if flags & os.O_TRUNC:
            os.truncate(f"/proc/self/fd/{fd}", 0)  # it may be open for reading only
            if drop_privileges:
                self.drop_set_ids(node, fd)
            stat = os.fstat(fd)
        version = attributes.version_of(stat)
        keep_cache = node.cached_version == version
        if self._access.is_quarantined(fd, flags, node.path_text):
            os.close(fd)
            raise path_error(errno.EACCES, node.path, WITHHELD)
        node.cached_version = None if writes else version
        if flags & os.O_TRUNC:
            self._recorder.written.add(fd)
        if self._options.audits_reads and flags & os.O_ACCMODE != os.O_WRONLY:
            self._recorder.audit("read", node.path_text)
        return self.add_handle(fd, node, stat, flags, keep_cache=keep_cache)

    def can_open_directly(self, node: Node, mode: int, size: int) -> bool:
        """Return True for a regular file that the transport may open for reading without a request to the handlers.

        The principal may read it, no handle of it is open, it is not locked, and passthrough does not apply to it.
        """
        return (
            not node.descriptors
            and not node.is_locked
            and st.S_ISREG(mode)
            # Not by agents, because each of their opens is checked for quarantine.
            and (
                self._access.is_unrestricted
                or (self._access.principal.is_person and self._access.is_permitted(node, _READ))
            )
            and node.area is not None
            and not self._cache_policy.is_shared(node.area)
            and not self._passthrough.applies_to(node, mode, size)
        )

    def add_opened(self, node: Node, fd: int, version: Version) -> None:
        """Add a descriptor with which the transport has opened a node for reading."""
        self._files[fd] = node
        node.add_fd(fd)
        node.cached_version = version

    def read(self, fd: int, offset: int, size: int) -> bytes:
        """Return bytes of an open file; raise OSError EACCES if reading is no longer permitted."""
        node = self._files[fd]
        if not self._access.is_permitted(node, _READ):
            self._access.check_permission(node, operations.READ)
        if self._access.policy.quarantine.paths and self._access.is_quarantined(fd, os.O_RDONLY, node.path_text):
            raise path_error(errno.EACCES, node.path, WITHHELD)
        return os.pread(fd, size, offset)

    def read_unopened(self, node: Node, offset: int, size: int) -> bytes:
        """Return bytes of a file without an open handle.

        Raise the same errors as `open`.
        """
        self._access.check_open(node, os.O_RDONLY)
        fd, _ = self._node_fds.open_node(node, os.O_RDONLY)
        try:
            if self._access.is_quarantined(fd, os.O_RDONLY, node.path_text):
                raise path_error(errno.EACCES, node.path, WITHHELD)
            return os.pread(fd, size, offset)
        finally:
            os.close(fd)

    def write(self, fd: int, offset: int, data: bytes | memoryview, drop_privileges: bool) -> int:
        """Write all of `data` and return its length.

        With O_APPEND the host writes to the current end of the file.
        """
        node = self._files[fd]
        if not self._access.is_permitted(node, _WRITE):
            self._access.check_permission(node, operations.WRITE)
        self._check_changeable(fd, node)
        self._recorder.written.add(fd)
        if drop_privileges:
            self.drop_set_ids(node, fd)
        written = os.pwrite(fd, data, offset)
        while written < len(data):
            written += os.pwrite(fd, data[written:], offset + written)
        return written

    def _check_changeable(self, fd: int, node: Node) -> None:
        """Raise OSError EPERM for a file that was frozen while it was open.

        The kernel may have written to its page cache already, so that the next open must drop those pages.
        """
        if frozen_files.is_frozen(fd):
            self._cache_policy.mark_stale(node)
            self._open_file_cache.evict(node)
            raise frozen_files.FrozenFile(node.path)

    def allocate(self, fd: int, mode: int, offset: int, length: int, drop_privileges: bool) -> None:
        """Allocate space or punch a hole, as fallocate(2)."""
        node = self._files[fd]
        self._access.check_permission(node, operations.WRITE)
        self._check_changeable(fd, node)
        if drop_privileges:
            self.drop_set_ids(node, fd)
        rooted_fs.allocate(fd, mode, offset, length)
        self._recorder.written.add(fd)

    def seek(self, fd: int, offset: int, whence: int) -> int:
        """Return the offset of the next data or hole, as lseek(2) with SEEK_DATA or SEEK_HOLE.

        The position of the descriptor has no meaning, because all reads give their offset.
        """
        self._access.check_permission(self._files[fd], operations.READ)
        return os.lseek(fd, offset, whence)

    def copy_range(
        self, source: int, offset: int, target: int, target_offset: int, length: int, drop_privileges: bool
    ) -> int:
        """Copy a range between two open files on the host and return the number of bytes copied.

        Some host file systems share the blocks.
        """
        self._access.check_permission(self._files[source], operations.READ)
        node = self._files[target]
        self._access.check_permission(node, operations.WRITE)
        self._check_changeable(target, node)
        if drop_privileges:
            self.drop_set_ids(node, target)
        self._recorder.written.add(target)
        return os.copy_file_range(source, target, min(length, _MAX_COPY_BYTES), offset, target_offset)

    def release(self, fd: int) -> None:
        """Close a handle after its last user has closed it, and record its writes."""
        node = self._files.take(fd)
        if self._passthrough.release(fd, node) or fd in self._recorder.written:
            self._recorder.written.discard(fd)
            self._recorder.record("write", node)
        node.remove_fd(fd)
        self._cache_policy.direct_io_fds.discard(fd)
        if not node.descriptors:
            self._unlocked_versions.pop(node, None)
        if self._claims is not None:
            self._claims.release(node, fd)
        if node.lookups <= 0:
            self._node_fds.forget(node.number, 0)
        os.close(fd)

    def is_stale(self, node: Node, fd: int) -> bool:
        """Return True if the kernel may cache other content than the file has.

        A process that has locked the file must read the data that the previous lock owner wrote.
        """
        if fd in self._cache_policy.direct_io_fds or self._passthrough.has_handle(fd):
            return False
        stat = os.fstat(fd)
        is_recent = not _HAS_FINE_TIMES and time.time_ns() - stat.st_mtime_ns < TICK_NS
        return is_recent or attributes.version_of(stat) != self._unlocked_versions.get(node, node.cached_version)

    async def invalidate_pages(self, node: Node) -> None:
        """Remove a file's pages and attributes from the kernel's caches.

        The call runs in a thread, because the kernel may block it.
        """
        self._cache_policy.mark_stale(node)
        node.reported = None
        with contextlib.suppress(OSError):  # the kernel has forgotten the node
            await self._loop.in_thread(self._cache_policy.caches.invalidate_inode, node.number)

    def store_unlocked_version(self, node: Node, fd: int) -> None:
        """Store the version of a file as its lock is released.

        `is_stale` compares the file with this version at the next lock.
        """
        if fd not in self._cache_policy.direct_io_fds and not self._passthrough.has_handle(fd):
            self._unlocked_versions[node] = attributes.version_of(os.fstat(fd))

    async def fsync(self, fd: int, datasync: bool) -> None:
        """Flush a file to the disk and record its writes.

        The system call runs in a thread, because the disk may be slow and other requests must proceed. Afterwards all
        earlier audit records are durable. With a shared store that is durable by its engine, wait for that.
        """
        await self._loop.in_thread(os.fdatasync if datasync else os.fsync, fd)
        self._recorder.collect_written()
        node = self._files.get(fd)
        if node is not None and fd in self._recorder.written:
            self._recorder.written.discard(fd)
            self._recorder.record("write", node)
            self._recorder.record("sync", node)
        self._recorder.flush_audit()
        if node is not None and node.area is not None and node.area.versioned:
            await self._durability.wait(node.path_text)

    def add_handle(
        self, fd: int, node: Node, stat: os.stat_result, flags: int, *, keep_cache: bool = False
    ) -> OpenReply:
        """Add the handle to the node and return the reply to the open."""
        access, area = flags & os.O_ACCMODE, node.area
        assert area is not None
        self._open_file_cache.evict(node)
        self._files[fd] = node
        node.add_fd(fd)
        maps_writable = access == os.O_RDWR
        # FLUSH at each close costs a request. Programs lock files that they open for reading and writing; locks through
        # other handles are released when the last descriptor is closed.
        sends_flush = maps_writable or node.is_locked
        backing, is_shared = 0, self._cache_policy.is_shared(area)
        if (
            not is_shared
            or self._claims is None
            or self._passthrough.has_file(node)
            or not self._claims.is_claimed(node)
        ):
            backing = self._passthrough.open(fd, node, stat, writes=access != os.O_RDONLY, any_size=is_shared)
        if backing:
            return OpenReply(fd, backing=backing, sends_flush=sends_flush)
        if self._cache_policy.needs_direct_io(area, maps_writable=maps_writable):
            self._cache_policy.direct_io_fds.add(fd)
            node.cached_version = None
            return OpenReply(fd, direct_io=True, sends_flush=sends_flush)
        if maps_writable and area.writable and self._claims is not None:
            self._claims.add(node, fd)
        return OpenReply(
            fd,
            keep_cache=keep_cache,
            reusable_version=None if node.is_locked else node.cached_version,
            sends_flush=sends_flush,
        )

    def drop_set_ids(self, node: Node, path: int | str) -> None:
        """Clear the set-user bit, and the set-group bit of an executable, before its content changes."""
        mode = os.stat(path).st_mode
        new_mode = mode & ~(st.S_ISUID | (st.S_ISGID if mode & st.S_IXGRP else 0))
        if new_mode != mode:
            os.chmod(path, st.S_IMODE(new_mode))
            with contextlib.suppress(OSError):  # the kernel has forgotten the node
                self._cache_policy.caches.invalidate_attributes(node.number)
