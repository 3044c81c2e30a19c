"""Requests on backed files, as system calls relative to directory descriptors.

No call follows a link, and none needs an RPC.
"""

import contextlib
import errno
import functools
import os
import platform
import re
import stat as st
import time
from collections.abc import Collection, Iterator, Mapping

from ctxfs.fuse import attributes
from ctxfs.fuse.attributes import (
    ACLS,
    CAPABILITY,
    NAMESPACE,
    Attributes,
    OpenReply,
    RequestContext,
    SetattrRequest,
    SyntheticStat,
    is_host_attribute,
    mask_acl,
)
from ctxfs.fuse.inodes import Area, Node, Version
from ctxfs.fuse.state import State
from ctxfs.model.errors import path_error
from ctxfs.model.metadata import check_attribute
from ctxfs.model.path import Path
from ctxfs.policy.rules import Verb
from ctxfs.store import rooted_fs
from ctxfs.versions.marks import MARK_OP, MARKS, marks_in
from ctxfs.versions.objects.fingerprint import blob_id
from ctxfs.vfs.access_control import QUARANTINED, WITHHELD, check_move, masked_mode

_OPEN_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_TRUNC | os.O_SYNC | os.O_DSYNC
_READ, _WRITE = int(Verb.READ), int(Verb.WRITE)
_MAX_COPY_BYTES = 64 * 1024 * 1024  # per request, because other requests wait for it
# Twice the longest tick of Linux (HZ=100): before 6.13 modification times have the granularity of ticks.
_TICK_NS = 20_000_000
# From Linux 6.13 on, a change after a stat of the file has a distinct time (multigrain timestamps).
_HAS_FINE_TIMES = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2]) >= (6, 13)
_SAFE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_SET_IDS = st.S_ISUID | st.S_ISGID


class BackedFiles:
    """Request handlers for nodes with an area.

    `area` is an argument where the node itself may belong to another area.
    """

    def __init__(self, state: State) -> None:
        self._loop = state.loop
        self._options = state.options
        self._nodes = state.nodes
        self._files = state.files
        self._directories = state.directories
        self._node_fds = state.node_fds
        self._open_file_cache = state.open_file_cache
        self._passthrough = state.passthrough
        self._access = state.access
        self._cache_policy = state.cache_policy
        self._recorder = state.recorder
        self._claims = state.claims
        self._uid, self._gid = os.geteuid(), os.getegid()
        # Locked files: their versions when this mount last unlocked them.
        self._unlocked_versions: dict[Node, Version] = {}

    def lookup(self, parent: Node, name: bytes) -> Attributes:
        """Return the attributes of a name in a host directory, or a negative entry."""
        assert parent.area is not None
        if parent.area.hides(parent, name):
            return attributes.negative_entry(0)
        if not self._access.rights_below(parent, name).exists:
            return self._deny_lookup(parent, name)
        try:
            stat = os.stat(name, dir_fd=self._directories.fd_for(parent), follow_symlinks=False)
        except FileNotFoundError:
            return attributes.negative_entry(self._cache_policy.area_cache_seconds(parent.area))
        node = self._nodes.node_for(parent, name, parent.area, stat)
        node.lookups += 1
        if self.can_open_directly(node, stat.st_mode, stat.st_size):
            self._open_file_cache.expect(self._directories.fd_for(parent), [node])
        return self.attributes(node, stat)

    def lookup_top(self, parent: Node, name: bytes, area: Area) -> Attributes:
        """Return the attributes of the root of an area.

        Raise OSError EIO if its host folder is unreachable: the mount is down.
        """
        if not self._access.rights_below(parent, name).exists:
            return self._deny_lookup(parent, name)
        try:
            stat = os.stat(area.root)
        except OSError as error:
            raise path_error(errno.EIO, area.path, f"'{area.root}' cannot be reached: {error.strerror}") from error
        node = self._nodes.top_node(parent, name, area, stat)
        node.lookups += 1
        return self.attributes(node, stat)

    def stat(self, node: Node) -> os.stat_result:
        """Return the host's attributes of a node, even if it is unlinked but the kernel still references it.

        Raise OSError ESTALE if its name leads to another file and no descriptor of it is open.
        """
        if (removed := self._directories.removed_fd(node)) is not None:
            return os.fstat(removed)
        try:
            parent, name = self._locate(node)
            stat = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if self._is_node(node, stat):
                return stat
            failure = path_error(errno.ESTALE, node.path)
        except OSError as error:
            failure = error
        if (fd := self._find_open_fd(node)) is None:
            raise failure
        return os.fstat(fd)

    def getattr(self, node: Node) -> Attributes:
        """Return the current attributes; raise OSError ENOENT if the node does not exist for the principal."""
        if not self._access.rights(node).exists:
            raise path_error(errno.ENOENT, node.path)
        return self.attributes(node, self.stat(node))

    def attributes(self, node: Node, stat: os.stat_result) -> Attributes:
        """Return the reply attributes, with mode bits masked by the principal's permissions."""
        assert node.area is not None
        reply = attributes.host_attributes(node, stat, self._cache_policy.area_cache_seconds(node.area))
        if not self._access.checks_acls and stat.st_mode & 0o070 and not st.S_ISLNK(stat.st_mode):
            reply.mode = stat.st_mode & ~0o077 | self._acl_mode_bits(node, stat.st_mode)
        if self._access.is_unrestricted:
            return reply
        if not st.S_ISDIR(stat.st_mode):
            reply.mode = self._access.permitted_mode(node, reply.mode)
        else:
            rights = self._access.rights(node)
            reply.mode = masked_mode(reply.mode, rights, is_dir=True)
            if not rights.lists_below:
                # Its link count, size and times would reveal names that do not exist for the principal.
                reply.stat = SyntheticStat(
                    stat.st_mode, st_uid=stat.st_uid, st_gid=stat.st_gid, st_size=4096, st_blocks=8
                )
        return reply

    def _acl_mode_bits(self, node: Node, mode: int) -> int:
        """Return the group and other bits of a mode, reduced to those that the ACL of the file grants.

        See `attributes.narrow_mode`.
        """
        path, follow = self._xattr_path(node)
        try:
            return attributes.narrow_mode(os.getxattr(path, ACLS[0], follow_symlinks=follow), mode)
        except OSError:
            return mode & 0o077  # it has no ACL

    def read(self, fd: int, offset: int, size: int) -> bytes:
        """Return bytes of an open file; raise OSError EACCES if reading is no longer permitted."""
        node = self._files[fd]
        if not self._access.is_permitted(node, _READ):
            self._check_permission(node, Verb.READ)
        if self._access.policy.quarantine.paths and self._is_quarantined(fd, os.O_RDONLY, node.path_text):
            raise path_error(errno.EACCES, node.path, WITHHELD)
        return os.pread(fd, size, offset)

    def read_unopened(self, node: Node, offset: int, size: int) -> bytes:
        """Return bytes of a file without an open handle.

        Raise the same errors as `open`.
        """
        self._check_open(node, os.O_RDONLY)
        fd, _ = self._open_node(node, os.O_RDONLY)
        try:
            if self._is_quarantined(fd, os.O_RDONLY, node.path_text):
                raise path_error(errno.EACCES, node.path, WITHHELD)
            return os.pread(fd, size, offset)
        finally:
            os.close(fd)

    def setattr(self, node: Node, request: SetattrRequest, fh: int | None) -> Attributes:
        """Change size, owner, mode and times, in an order in which no change undoes an earlier one.

        Return the new attributes.
        """
        self._check_writable(node)
        resizes = request.size is not None
        changes_meta = request.mode is not None or request.uid is not None or request.gid is not None
        self._check_permission(node, Verb.META if changes_meta and not resizes else Verb.WRITE)
        descriptor = fh if fh in self._files else self._find_open_fd(node)
        if request.size is not None:
            self._truncate(node, fh, request.size)
        reopened = descriptor is None
        handle = self._open_path(node) if descriptor is None else descriptor
        path = f"/proc/self/fd/{handle}"
        try:
            if request.uid is not None or request.gid is not None:
                self._change_owner(
                    node, handle, *(-1 if value is None else value for value in (request.uid, request.gid))
                )
            if request.mode is not None:
                os.chmod(path, st.S_IMODE(request.mode))
            elif request.drop_privileges:
                self._drop_set_ids(node, path)
            if request.sets_current_time or request.atime_ns is not None or request.mtime_ns is not None:
                self._change_times(node, path, request)
        finally:
            if reopened:
                os.close(handle)
        if resizes and fh is not None and fh in self._files:
            self._recorder.written.add(fh)  # recorded when it is closed
        elif resizes or request.mode is not None:
            self._recorder.record("write", node, "write" if resizes else "meta")
        elif changes_meta:
            self._recorder.audit("meta", node.path_text)
        return self.getattr(node)

    def readlink(self, node: Node) -> bytes:
        """Return the target of a symbolic link, unchanged."""
        self._check_permission(node, Verb.READ)
        if (removed := self._directories.removed_fd(node)) is not None:
            return os.readlink(b"", dir_fd=removed)
        parent, name = self._locate(node)
        if not self._is_node(node, os.stat(name, dir_fd=parent, follow_symlinks=False)):
            raise path_error(errno.ESTALE, node.path)
        return os.readlink(name, dir_fd=parent)

    def mknod(self, parent: Node, name: bytes, mode: int, rdev: int, caller: RequestContext) -> Attributes:
        """Create a file, fifo or socket, or a device if the host permits it.

        Return its attributes.
        """
        self._check_name_permission(parent, name, Verb.CREATE)
        with _caller_umask(caller):
            os.mknod(name, mode & ~_SET_IDS, rdev, dir_fd=self._directories.fd_for(parent))
        self._recorder.record_name("write", parent, name, "create")
        return self._finish_creation(parent, name, caller, mode & _SET_IDS)

    def mkdir(self, parent: Node, name: bytes, mode: int, caller: RequestContext) -> Attributes:
        """Create a directory and return its attributes; the host applies the setgid bit of the parent."""
        self._check_name_permission(parent, name, Verb.CREATE)
        with _caller_umask(caller):
            os.mkdir(name, st.S_IMODE(mode), dir_fd=self._directories.fd_for(parent))
        self._recorder.record_name("write", parent, name, "create")
        return self._finish_creation(parent, name, caller)

    def symlink(self, parent: Node, name: bytes, target: bytes, caller: RequestContext) -> Attributes:
        """Create a symbolic link and return its attributes; the target is not checked."""
        self._check_name_permission(parent, name, Verb.CREATE)
        os.symlink(target, name, dir_fd=self._directories.fd_for(parent))
        self._recorder.record_name("write", parent, name, "create")
        return self._finish_creation(parent, name, caller)

    def link(self, node: Node, parent: Node, name: bytes) -> Attributes:
        """Create a hard link within the area of the file and return the attributes.

        The principal needs read and write permission on the file, because the new name may have other rights. Raise
        OSError EXDEV between areas.
        """
        self._check_permission(node, Verb.READ | Verb.WRITE)
        self._check_name_permission(parent, name, Verb.CREATE)
        if node.area is not parent.area:
            raise path_error(errno.EXDEV, node.path)
        fd = self._find_open_fd(node)
        source = self._open_path(node) if fd is None else fd
        try:
            # By descriptor, because the name may lead to another file by now.
            os.link(f"/proc/self/fd/{source}", name, dst_dir_fd=self._directories.fd_for(parent), follow_symlinks=True)
        finally:
            if fd is None:
                os.close(source)
        self._recorder.record_name("write", parent, name, "create")
        return self.lookup(parent, name)

    def unlink(self, parent: Node, name: bytes) -> None:
        """Remove a name.

        A process that has the file open keeps it, also by an O_PATH descriptor, of which the mount receives no request.
        """
        self._check_name_permission(parent, name, Verb.DELETE)
        node = self._nodes.node_named(parent, name)
        fd = self._open_before_removal(node, parent, name)
        try:
            os.unlink(name, dir_fd=self._directories.fd_for(parent))
        except BaseException:
            self._keep_or_close(None, fd)
            raise
        self._recorder.record_name("remove", parent, name, "delete")
        self._node_fds.remove_name(parent, name)
        self._keep_or_close(node, fd)

    def rmdir(self, parent: Node, name: bytes) -> None:
        """Remove an empty directory."""
        self._check_name_permission(parent, name, Verb.DELETE)
        if (node := self._nodes.node_named(parent, name)) is not None:
            with contextlib.suppress(OSError):  # the error of rmdir is more precise
                self._directories.fd_for(node)
        os.rmdir(name, dir_fd=self._directories.fd_for(parent))
        self._recorder.record_name("remove", parent, name, "delete")
        self._node_fds.remove_name(parent, name)
        if node is not None:
            self._directories.keep_removed(node)

    def rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, flags: int) -> None:
        """Rename within an area; `flags` as of renameat2(2).

        Raise OSError EXDEV between areas, as between any two file systems.
        """
        self._check_writable(parent)
        self._check_writable(new_parent)
        self._check_visible(parent, name)
        self._check_visible(new_parent, new_name)
        if parent.area is not new_parent.area:
            raise path_error(errno.EXDEV, new_parent.path)
        self._check_move(parent, name, new_parent, new_name)
        self._copy_marks(parent, name, new_parent, new_name)
        if flags & rooted_fs.RENAME_EXCHANGE:
            self._copy_marks(new_parent, new_name, parent, name)
            self._check_move(new_parent, new_name, parent, name)
        replaced = self._nodes.node_named(new_parent, new_name) if not flags & rooted_fs.RENAME_EXCHANGE else None
        fd = self._open_before_removal(replaced, new_parent, new_name)
        source = os.dup(self._directories.fd_for(parent))
        try:
            rooted_fs.rename_at(source, name, self._directories.fd_for(new_parent), new_name, flags)
        except BaseException:
            self._keep_or_close(None, fd)
            raise
        finally:
            os.close(source)
        self._access.discard_decisions()
        if flags & rooted_fs.RENAME_EXCHANGE:
            self._recorder.record_name("tree", parent, name, "rename")
            self._recorder.record_name("tree", new_parent, new_name, "rename")
            self._nodes.exchange(parent, name, new_parent, new_name)
        else:
            self._recorder.record_name("move", parent, name, "rename", new_parent.path_text_below(new_name))
            if replaced is not None:
                self._open_file_cache.evict(replaced)
            self._nodes.rename(parent, name, new_parent, new_name)
            self._keep_or_close(replaced, fd)

    def open(self, node: Node, flags: int, *, drop_privileges: bool = False) -> OpenReply:
        """Open a file and return the reply, whose handle is a descriptor.

        The kernel keeps its page cache if the version of the file equals the cached one. Raise OSError EACCES for a
        quarantined file.
        """
        writes = bool(flags & os.O_ACCMODE)
        if writes or flags & os.O_TRUNC:
            self._check_writable(node)
        self._check_open(node, flags)
        fd, stat = self._open_node(node, flags & _OPEN_FLAGS & ~os.O_TRUNC)
        if flags & os.O_TRUNC:
            os.truncate(f"/proc/self/fd/{fd}", 0)  # it may be open for reading only
            if drop_privileges:
                self._drop_set_ids(node, fd)
            stat = os.fstat(fd)
        version = attributes.version_of(stat)
        keep_cache = node.cached_version == version
        if self._is_quarantined(fd, flags, node.path_text):
            os.close(fd)
            raise path_error(errno.EACCES, node.path, WITHHELD)
        node.cached_version = None if writes else version
        if flags & os.O_TRUNC:
            self._recorder.written.add(fd)
        if self._options.audits_reads and flags & os.O_ACCMODE != os.O_WRONLY:
            self._recorder.audit("read", node.path_text)
        return self._add_handle(fd, node, stat, flags, keep_cache=keep_cache)

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
            and not self._passthrough.applies_to(mode, size)
        )

    def add_opened(self, node: Node, fd: int, version: Version) -> None:
        """Add a descriptor with which the transport has opened a node for reading."""
        self._files[fd] = node
        node.add_fd(fd)
        node.cached_version = version

    def create(
        self, parent: Node, name: bytes, mode: int, flags: int, caller: RequestContext
    ) -> tuple[OpenReply, Attributes]:
        """Create and open a file in one step; return the open reply and the attributes.

        Raise OSError ESTALE if another process has created the file meanwhile: the kernel then repeats the lookup and
        opens it.
        """
        self._check_name_permission(parent, name, Verb.CREATE)
        area = parent.area
        assert area is not None
        directory = self._directories.fd_for(parent)
        previous_umask = os.umask(caller.umask)  # not by `_caller_umask`, which takes longer than the two calls
        try:
            fd = self._open(
                name,
                (flags & _OPEN_FLAGS & ~os.O_TRUNC) | os.O_CREAT | os.O_EXCL | _SAFE_FLAGS,
                directory,
                st.S_IMODE(mode) & ~_SET_IDS,
            )
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            # Another process has created it, with its own mode and owner: the kernel repeats the lookup and opens it.
            raise path_error(errno.ESTALE, Path((*parent.path.parts, os.fsdecode(name)))) from None
        finally:
            os.umask(previous_umask)
        try:
            self._set_owner(parent, fd, caller, mode & _SET_IDS)
            stat = os.fstat(fd)
        except BaseException:
            os.close(fd)
            raise
        node = self._nodes.node_for(parent, name, area, stat)
        node.lookups += 1
        self._cache_policy.mark_stale(node)
        self._recorder.written.add(fd)
        self._recorder.audit("create", node.path_text)
        reply = self._add_handle(fd, node, stat, flags)
        if stat.st_size == 0:
            # A new or empty file has no capability, because writes remove capabilities.
            self._open_file_cache.mark_without_capability(node)
        return reply, self.attributes(node, stat)

    def write(self, fd: int, offset: int, data: bytes | memoryview, drop_privileges: bool) -> int:
        """Write all of `data` and return its length.

        With O_APPEND the host writes to the current end of the file.
        """
        node = self._files[fd]
        if not self._access.is_permitted(node, _WRITE):
            self._check_permission(node, Verb.WRITE)
        self._recorder.written.add(fd)
        if drop_privileges:
            self._drop_set_ids(node, fd)
        written = os.pwrite(fd, data, offset)
        while written < len(data):
            written += os.pwrite(fd, data[written:], offset + written)
        return written

    def allocate(self, fd: int, mode: int, offset: int, length: int, drop_privileges: bool) -> None:
        """Allocate space or punch a hole, as fallocate(2)."""
        node = self._files[fd]
        self._check_permission(node, Verb.WRITE)
        if drop_privileges:
            self._drop_set_ids(node, fd)
        rooted_fs.allocate(fd, mode, offset, length)
        self._recorder.written.add(fd)

    def seek(self, fd: int, offset: int, whence: int) -> int:
        """Return the offset of the next data or hole, as lseek(2) with SEEK_DATA or SEEK_HOLE.

        The position of the descriptor has no meaning, because all reads give their offset.
        """
        self._check_permission(self._files[fd], Verb.READ)
        return os.lseek(fd, offset, whence)

    def copy_range(
        self, source: int, offset: int, target: int, target_offset: int, length: int, drop_privileges: bool
    ) -> int:
        """Copy a range between two open files on the host and return the number of bytes copied.

        Some host file systems share the blocks.
        """
        self._check_permission(self._files[source], Verb.READ)
        node = self._files[target]
        self._check_permission(node, Verb.WRITE)
        if drop_privileges:
            self._drop_set_ids(node, target)
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
        is_recent = not _HAS_FINE_TIMES and time.time_ns() - stat.st_mtime_ns < _TICK_NS
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

    def open_directory(self, node: Node) -> tuple[int, bool]:
        """Return (descriptor, whether the kernel may keep its cached names) of a directory that is being opened.

        The descriptor keeps the directory available after its name is removed.
        """
        fd = os.dup(self._directories.fd_for(node))
        node.add_fd(fd)
        version = attributes.version_of(os.fstat(fd))
        keep_cache, node.cached_version = node.cached_version == version, version
        return fd, keep_cache

    def close_directory(self, node: Node, fd: int) -> None:
        """Close a descriptor that `open_directory` returned."""
        node.remove_fd(fd)
        os.close(fd)
        if node.lookups <= 0:
            self._node_fds.forget(node.number, 0)

    async def fsync(self, fd: int, datasync: bool) -> None:
        """Flush a file to the disk and record its writes.

        The system call runs in a thread, because the disk may be slow and other requests must proceed. Afterwards all
        earlier audit records are durable.
        """
        await self._loop.in_thread(os.fdatasync if datasync else os.fsync, fd)
        self._recorder.collect_written()
        node = self._files.get(fd)
        if node is not None and fd in self._recorder.written:
            self._recorder.written.discard(fd)
            self._recorder.record("write", node)
            self._recorder.record("sync", node)
        self._recorder.flush_audit()

    async def fsync_directory(self, node: Node) -> None:
        """Flush the names of a directory to the disk."""
        fd = os.open(rooted_fs.magic_path(self._directories.fd_for(node), "."), os.O_RDONLY | os.O_DIRECTORY)
        try:
            await self._loop.in_thread(os.fsync, fd)
        finally:
            os.close(fd)

    def is_volatile(self, node: Node) -> bool:
        """Return True for a directory whose names may change without a new modification time.

        Either it has changed within the current tick of the host's clock, or the principal may not see its times.
        """
        if not self._access.is_unrestricted and not self._access.rights(node).lists_below:
            return True
        return time.time_ns() - os.fstat(self._directories.fd_for(node)).st_mtime_ns < _TICK_NS

    def names(self, node: Node) -> list[bytes]:
        """Return the names in a directory that exist for the principal."""
        names = os.listdir(os.fsencode(rooted_fs.magic_path(self._directories.fd_for(node), ".")))
        area = node.area
        if area is not None and area.hidden:
            names = [name for name in names if not area.hides(node, name)]
        if not self._access.is_unrestricted:
            names = self._access.visible_names(node, names)
        return names

    def get_xattr(self, node: Node, name: bytes) -> bytes:
        """Return the value of an extended attribute that the host stores."""
        self._check_permission(node, Verb.READ)
        path, follow = self._xattr_path(node)
        return os.getxattr(path, name, follow_symlinks=follow)

    def get_host_xattr(self, node: Node, name: bytes) -> bytes:
        """Return the value of an ACL, a capability or another attribute that only the host interprets.

        An ACL is masked by the mode bits that are shown to the principal.
        """
        if name not in ACLS:
            self._check_permission(node, Verb.READ)
        elif not self._access.rights(node).exists:
            raise path_error(errno.ENOENT, node.path)
        path, follow = self._xattr_path(node)
        try:
            value = os.getxattr(path, name, follow_symlinks=follow)
        except OSError as error:
            raise self._absent_xattr_error(node, name, error) from None
        if name in ACLS:
            self._open_file_cache.answer_acls()
            if not self._access.is_unrestricted:
                return mask_acl(value, self._access.permitted_mode(node, 0o777))
        return value

    def _absent_xattr_error(self, node: Node, name: bytes, error: OSError) -> OSError:
        """Return the error for an attribute that a file does not have.

        Where the kernel caches no ACLs, `ls -l` would request one for each file. Therefore ACLs are reported as not
        supported until the first one is met. Every program then uses the permissions of the mode.
        """
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            return error
        if name == CAPABILITY:
            self._open_file_cache.mark_without_capability(node)
        is_supported = name not in ACLS or self._open_file_cache.answers_acls
        code = errno.ENODATA if is_supported else errno.EOPNOTSUPP
        return OSError(code, os.strerror(code))

    def set_xattr(self, node: Node, name: bytes, value: bytes, flags: int, *, drops_setgid: bool = False) -> None:
        """Set an extended attribute of a file.

        The kernel has checked that the caller may set it: `trusted.*` and capabilities require privileges.
        """
        self._check_writable(node)
        self._check_permission(node, Verb.META)
        self._check_xattr(node, name, value)
        path, follow = self._xattr_path(node)
        os.setxattr(path, name, value, flags, follow_symlinks=follow)
        if name in ACLS:
            self._open_file_cache.answer_acls()
        if drops_setgid:
            os.chmod(path, st.S_IMODE(os.stat(path).st_mode & ~st.S_ISGID))
        self._record_xattr(node, name)

    def _check_xattr(self, node: Node, name: bytes, value: bytes | None) -> None:
        if name.startswith(NAMESPACE):
            check_attribute(node.path, os.fsdecode(name), value, self._access.principal)
        elif not is_host_attribute(name):
            raise path_error(errno.EOPNOTSUPP, node.path)
        elif name not in ACLS and not self._access.principal.is_person:
            raise path_error(errno.EPERM, node.path, "an agent gives no file a privilege")

    def _record_xattr(self, node: Node, name: bytes) -> None:
        if not name.startswith(NAMESPACE):
            self._open_file_cache.evict(node)  # because its attributes are cached there
        self._recorder.record(_journal_operation(name), node, "meta")

    def list_xattrs(self, node: Node, *, is_root: bool) -> list[bytes]:
        """Return the names of extended attributes; those of `trusted.*` only for root, as natively."""
        self._check_permission(node, Verb.READ)
        path, follow = self._xattr_path(node)
        names = map(os.fsencode, os.listxattr(path, follow_symlinks=follow))
        return [
            name
            for name in names
            if name.startswith(NAMESPACE) or (is_host_attribute(name) and (is_root or not name.startswith(b"trusted.")))
        ]

    def remove_xattr(self, node: Node, name: bytes) -> None:
        """Remove an extended attribute; raise OSError ENODATA if the file does not have it."""
        self._check_writable(node)
        self._check_permission(node, Verb.META)
        self._check_xattr(node, name, None)
        path, follow = self._xattr_path(node)
        os.removexattr(path, name, follow_symlinks=follow)
        self._record_xattr(node, name)

    # internal

    def _deny_lookup(self, parent: Node, name: bytes) -> Attributes:
        """Record a denied lookup in the audit and return a negative entry."""
        self._recorder.audit("list", parent.path_text_below(name), outcome="ENOENT")
        return attributes.negative_entry(0)

    def _check_writable(self, node: Node) -> None:
        if node.area is None or not node.area.writable:
            raise path_error(errno.EROFS, node.path)

    def _check_permission(self, node: Node, verb: Verb) -> None:
        """Check a permission of the principal.

        Raise OSError EACCES without it, or ENOENT if the node does not exist for the principal.
        """
        rights = self._access.rights(node)
        if not rights.allows(verb):
            raise path_error(errno.EACCES if rights.exists else errno.ENOENT, node.path)

    def _check_open(self, node: Node, flags: int) -> None:
        if self._access.is_unrestricted:
            return
        access = flags & os.O_ACCMODE
        if not access and not flags & os.O_TRUNC and self._access.is_permitted(node, _READ):
            return
        verb = Verb.READ if access == os.O_RDONLY else Verb.WRITE if access == os.O_WRONLY else Verb.READ | Verb.WRITE
        self._check_permission(node, verb | Verb.WRITE if flags & os.O_TRUNC else verb)

    def _is_quarantined(self, fd: int, flags: int, path: str) -> bool:
        """Return True if an agent would read a quarantined file.

        A file is quarantined by its attribute, its path or its content.
        """
        if self._access.is_unrestricted or self._access.principal.is_person or flags & os.O_ACCMODE == os.O_WRONLY:
            return False
        quarantine = self._access.policy.quarantine
        if path in quarantine.paths or self._has_quarantined_content(fd, quarantine.contents):
            return True
        try:
            return os.getxattr(fd, QUARANTINED) == b"true"
        except OSError:
            return False  # no such attribute, or no attributes on this file system

    @staticmethod
    def _has_quarantined_content(fd: int, contents: Mapping[int, Collection[str]]) -> bool:
        """Return True for a copy of a quarantined file.

        The content is read only if its size equals that of a quarantined file.
        """
        if not contents:
            return False
        size = os.fstat(fd).st_size
        hashes = contents.get(size)
        if hashes is None:
            return False
        try:
            reopened_fd = os.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return True
        with open(reopened_fd, "rb") as file:
            return blob_id(file.read(size + 1)) in hashes

    def _check_move(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        if self._access.is_unrestricted:
            return
        source, target = self._access.rights_below(parent, name), self._access.rights_below(new_parent, new_name)
        path = Path((*parent.path.parts, os.fsdecode(name)))
        to = Path((*new_parent.path.parts, os.fsdecode(new_name)))
        if not source.exists:
            raise path_error(errno.ENOENT, path)
        stat = os.stat(name, dir_fd=self._directories.fd_for(parent), follow_symlinks=False)
        try:
            os.stat(new_name, dir_fd=self._directories.fd_for(new_parent), follow_symlinks=False)
            replaces = True
        except OSError:
            replaces = False
        check_move(source, target, is_dir=st.S_ISDIR(stat.st_mode), replaces=replaces, path=path, to=to)

    def _copy_marks(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        """Copy the marks of a file to the file that an agent renames over it."""
        if self._access.is_unrestricted or self._access.principal.is_person:
            return
        directories = self._directories
        try:
            marks = marks_in(rooted_fs.read_xattrs(b"/proc/self/fd/%d/%b" % (directories.fd_for(new_parent), new_name)))
        except OSError:
            return  # nothing is replaced
        source = b"/proc/self/fd/%d/%b" % (directories.fd_for(parent), name) if marks else b""
        for mark, value in marks.items():
            with contextlib.suppress(OSError):  # directories of other owners, and links, have no marks
                os.setxattr(source, mark, value, follow_symlinks=False)

    def _check_name_permission(self, parent: Node, name: bytes, verb: Verb) -> None:
        """Raise OSError EACCES unless the principal has the permission `verb` on a name in a directory."""
        self._check_writable(parent)
        self._check_visible(parent, name)
        rights = self._access.rights_below(parent, name)
        if not rights.allows(verb):
            hidden = verb is Verb.DELETE and not rights.exists
            path = Path((*parent.path.parts, os.fsdecode(name)))
            raise path_error(errno.ENOENT if hidden else errno.EACCES, path)

    @staticmethod
    def _check_visible(parent: Node, name: bytes) -> None:
        if parent.area is not None and parent.area.hides(parent, name):
            raise path_error(errno.EPERM, parent.path, "the store and its mount points are not part of the tree")

    def _locate(self, node: Node) -> tuple[int, bytes]:
        """Return (directory descriptor, name) of a node, for calls relative to a directory.

        The descriptor is valid until the next call.
        """
        if node.is_top or node.parent is None:
            return self._directories.fd_for(node), b"."
        return self._directories.fd_for(node.parent), node.name

    def _xattr_path(self, node: Node) -> tuple[bytes, bool]:
        """Return (path, whether to follow links) for the xattr calls.

        An open file is addressed by its descriptor, because it may have no name.
        """
        if (fd := self._find_open_fd(node)) is not None:
            return b"/proc/self/fd/%d" % fd, True
        parent, name = self._locate(node)
        return b"/proc/self/fd/%d/%b" % (parent, name), False

    def _open_node(self, node: Node, flags: int) -> tuple[int, os.stat_result]:
        """Open a node and return (descriptor, its stat result).

        Raise OSError ESTALE if its name leads to another file: the kernel then repeats the lookup.
        """
        if (open_fd := self._find_open_fd(node)) is not None:  # independent of its name
            if flags & os.O_ACCMODE:
                self._check_name(node)
            fd = self._open(b"/proc/self/fd/%d" % open_fd, flags | os.O_NONBLOCK | os.O_CLOEXEC)
        else:
            parent, name = self._locate(node)
            try:
                fd = self._open(name, flags | _SAFE_FLAGS, parent)
            except FileNotFoundError as error:  # so that an open with O_CREAT can create it again
                raise path_error(errno.ESTALE, node.path) from error
        stat = os.fstat(fd)
        if not self._is_node(node, stat):
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
            directory, name = self._locate(node)
            if self._is_node(node, os.stat(name, dir_fd=directory, follow_symlinks=False)):
                return
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
        self._node_fds.remove_name(parent, node.name)
        self._directories.keep_removed(node)
        raise path_error(errno.ESTALE, node.path)

    def _open(self, name: bytes, flags: int, parent: int | None = None, mode: int = 0) -> int:
        """Open a file; if the descriptors are exhausted, empty the open file cache and retry."""
        try:
            return os.open(name, flags, mode, dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        self._open_file_cache.evict_all()
        return os.open(name, flags, mode, dir_fd=parent)

    def _find_open_fd(self, node: Node) -> int | None:
        """Return a descriptor of a node that is, or may be, open; otherwise None."""
        if node.descriptors:
            self._open_file_cache.evict(node)  # which may close the descriptor
        return next(iter(node.descriptors), None) or self._directories.removed_fd(node)

    @staticmethod
    def _is_node(node: Node, stat: os.stat_result) -> bool:
        """Return False if a stat result belongs to another file than the node: it was replaced on the host."""
        return node.is_top or node.is_host_file(stat)

    def _open_before_removal(self, node: Node | None, parent: Node, name: bytes) -> int | None:
        """Return an O_PATH descriptor of a node that is about to lose this name, or None.

        The kernel soon forgets most such nodes.
        """
        if node is None:
            return None
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directories.fd_for(parent))
        except OSError:  # the call that removes the name fails likewise
            return None
        if self._is_node(node, os.fstat(fd)):
            return fd
        os.close(fd)
        return None

    def _keep_or_close(self, node: Node | None, fd: int | None) -> None:
        """Store the descriptor for a node without a name; otherwise close it."""
        if fd is None:
            return
        if node is None or self._nodes.has_name(node):
            os.close(fd)
            return
        self._directories.evict(node)
        self._directories.add_removed(node, fd)

    def _open_path(self, node: Node) -> int:
        parent, name = self._locate(node)
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        if not self._is_node(node, os.fstat(fd)):
            os.close(fd)
            raise path_error(errno.ESTALE, node.path)
        return fd

    def _truncate(self, node: Node, fh: int | None, size: int) -> None:
        self._cache_policy.mark_stale(node)
        if fh is not None and fh in self._files:
            os.ftruncate(fh, size)
            return
        fd, _ = self._open_node(node, os.O_WRONLY)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    def _change_owner(self, node: Node, handle: int, uid: int, gid: int) -> None:
        is_link = node.disk_key.kind == st.S_IFLNK
        if is_link and self._directories.removed_fd(node) is None:
            parent, name = self._locate(node)
            os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        else:
            os.chown(f"/proc/self/fd/{handle}", uid, gid)

    def _change_times(self, node: Node, path: str, request: SetattrRequest) -> None:
        is_link = node.disk_key.kind == st.S_IFLNK
        if is_link and self._directories.removed_fd(node) is None:
            parent, name = self._locate(node)
            utime = functools.partial(os.utime, name, dir_fd=parent, follow_symlinks=False)
        else:
            utime = functools.partial(os.utime, path)
        if request.sets_current_time:
            utime()
        else:
            stat = self.stat(node)
            utime(
                ns=(
                    stat.st_atime_ns if request.atime_ns is None else request.atime_ns,
                    stat.st_mtime_ns if request.mtime_ns is None else request.mtime_ns,
                )
            )

    def _finish_creation(self, parent: Node, name: bytes, caller: RequestContext, set_ids: int = 0) -> Attributes:
        """Set the owner of a new name and return its attributes."""
        if set_ids or (caller.uid, caller.gid) != (self._uid, self._gid):
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directories.fd_for(parent))
            try:
                self._set_owner(parent, fd, caller, set_ids)
            finally:
                os.close(fd)
        return self.lookup(parent, name)

    def _set_owner(self, parent: Node, fd: int, caller: RequestContext, set_ids: int) -> None:
        """Give a new file to the caller's user and group.

        In a directory with the setgid bit the host has already set the directory's group. The bits `set_ids` are set
        last, because a change of the owner clears them.
        """
        if (caller.uid, caller.gid) != (self._uid, self._gid):
            inherits = os.fstat(self._directories.fd_for(parent)).st_mode & st.S_ISGID
            group = -1 if inherits else caller.gid
            if self._uid == 0:
                rooted_fs.change_owner(fd, caller.uid, group)
            elif group != -1:
                with contextlib.suppress(PermissionError):  # a group that the mount process is not in
                    rooted_fs.change_owner(fd, -1, group)
        if set_ids:
            path = f"/proc/self/fd/{fd}"
            os.chmod(path, st.S_IMODE(os.stat(path).st_mode) | set_ids)

    def _drop_set_ids(self, node: Node, path: int | str) -> None:
        """Clear the set-user bit, and the set-group bit of an executable, before its content changes."""
        mode = os.stat(path).st_mode
        new_mode = mode & ~(st.S_ISUID | (st.S_ISGID if mode & st.S_IXGRP else 0))
        if new_mode != mode:
            os.chmod(path, st.S_IMODE(new_mode))
            with contextlib.suppress(OSError):  # the kernel has forgotten the node
                self._cache_policy.caches.invalidate_attributes(node.number)

    def _add_handle(
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


def _journal_operation(attribute: bytes) -> str:
    """Return the journal's operation for a change of an attribute.

    Only a person's own change of a mark lifts it.
    """
    return MARK_OP if attribute.decode("utf-8", "replace") in MARKS else "write"


@contextlib.contextmanager
def _caller_umask(caller: RequestContext) -> Iterator[None]:
    """Apply the caller's umask in the host, which uses the default ACL of the directory instead if there is one."""
    if not caller.umask:
        yield
        return
    previous = os.umask(caller.umask)
    try:
        yield
    finally:
        os.umask(previous)
