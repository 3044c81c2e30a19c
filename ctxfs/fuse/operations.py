"""The FUSE request handlers: each request goes to the backed or to the synthetic files.

Requests on backed files return their result at once. Requests that need the daemon return a coroutine, which the
transport runs. An OSError is the reply to the request, by its errno. This module depends on no transport.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import stat as st
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from ctxfs.eventlog.audit import errno_name
from ctxfs.fuse import attributes
from ctxfs.fuse.attributes import (
    ACLS,
    NAMESPACE,
    Attributes,
    OpenReply,
    RequestContext,
    SetattrRequest,
    SyntheticStatfs,
    is_host_attribute,
)
from ctxfs.fuse.backed import BackedFiles
from ctxfs.fuse.directory_stream import DOTS, DirectoryStream, cookie_of
from ctxfs.fuse.inodes import Area, Node, Version
from ctxfs.fuse.interfaces import BackingFiles, Caches, DirectoryEntries, OpenCacheBackend, PackedFiles
from ctxfs.fuse.lease_retry import retry
from ctxfs.fuse.lock_owners import Range
from ctxfs.fuse.state import FIRST_SYNTHETIC_HANDLE, State
from ctxfs.fuse.synthetic import SyntheticFiles, is_computed
from ctxfs.fuse.transaction_files import FIRST_TRANSACTION_HANDLE
from ctxfs.model.entry import Entry
from ctxfs.model.errors import path_error, read_only
from ctxfs.model.tables import Table
from ctxfs.rpc.wire import ANSWERED

Result = TypeVar("Result")
Answer: TypeAlias = Result | Coroutine[Any, Any, Result]

# request → the operation that the audit records for its refusal
_AUDIT_OPERATIONS = {
    "lookup": "list",
    "opendir": "list",
    "readdir": "list",
    "readdirplus": "list",
    "mkdir": "create",
    "mknod": "create",
    "symlink": "create",
    "link": "create",
    "unlink": "delete",
    "rmdir": "delete",
    "readlink": "read",
    "getxattr": "read",
    "listxattr": "read",
    "copy_range": "write",
    "allocate": "write",
    "setattr": "meta",
    "setxattr": "meta",
    "removexattr": "meta",
}


_MAX_UNOPENED_STREAMS = 64


class Operations:
    """The request handlers of one mount, by inode numbers and by the handles of open files."""

    def __init__(self, state: State) -> None:
        self._loop = state.loop
        self._options = state.options
        self._nodes = state.nodes
        self._files = state.files
        self._directories = state.directories
        self._node_fds = state.node_fds
        self._open_file_cache = state.open_file_cache
        self._passthrough = state.passthrough
        self._mount_table = state.mount_table
        self._access = state.access
        self._cache_policy = state.cache_policy
        self._recorder = state.recorder
        self._locks = state.locks
        self._transaction_files = state.transaction_files
        self._backed = BackedFiles(state)
        self._synthetic = SyntheticFiles(state)
        self._streams: Table[DirectoryStream] = Table(errno.EBADF)
        # Streams of directories without an open handle, by number.
        self._unopened_streams: dict[int, DirectoryStream] = {}
        self._handles = itertools.count(1)

    def connect(
        self,
        caches: Caches,
        *,
        open_cache: OpenCacheBackend | None,
        backing_files: BackingFiles | None,
        checks_acls: bool,
    ) -> None:
        """Use the kernel's caches from now on, and the interfaces of the transport that are not None.

        `checks_acls`: the kernel checks callers by the ACLs of files.
        """
        if backing_files is not None:
            self._passthrough.connect(backing_files)
        if open_cache is not None:
            self._open_file_cache.connect(open_cache, self._backed.release)
        if checks_acls:
            self._open_file_cache.answer_acls()
        self._access.connect(checks_acls=checks_acls or not self._options.checks_modes)
        self._cache_policy.connect(caches)

    @property
    def users(self) -> frozenset[int] | None:
        """Return the uids that are served, or None for all that the kernel admits."""
        return self._options.users

    @property
    def audits_reads(self) -> bool:
        """Return True if the audit records every open for reading."""
        return self._options.audits_reads

    @property
    def forwards_locks(self) -> bool:
        """Return True if callers' locks are forwarded to the backing files.

        If no file is opened, no close would release them: then the kernel keeps the locks.
        """
        return not self._options.reads_without_open

    @property
    def checks_modes(self) -> bool:
        """Return True if the kernel compares modes with its callers, so that it can also check ACLs."""
        return self._options.checks_modes

    # names

    def lookup(self, parent: int, name: bytes) -> Answer[Attributes]:
        """Return the attributes of a name: from the host, unless it is a view or a mount point of the tree."""
        directory = self._nodes[parent]
        if directory.area is not None and name not in self._mount_table.views:
            return self._backed.lookup(directory, name)
        area = self._mount_table.area_below(directory, name)
        if area is not None:
            return self._backed.lookup_top(directory, name, area)
        return self._synthetic.lookup(directory, name)

    def forget(self, references: Iterable[tuple[int, int]]) -> None:
        """Decrement lookup counts: `references` are (number, count) pairs."""
        for number, lookups in references:
            self._node_fds.forget(number, lookups)

    def mkdir(self, parent: int, name: bytes, mode: int, caller: RequestContext) -> Answer[Attributes]:
        """Create a directory on the host, or a kept question or a task in the tree."""
        directory = self._nodes[parent]
        if self._mount_table.is_backed(directory, name):
            return self._backed.mkdir(directory, name, mode, caller)
        return self._synthetic.mkdir(directory, name)

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: RequestContext) -> Attributes:
        """Create a special file, on the host only."""
        return self._backed.mknod(self._backed_parent(parent, name), name, mode, rdev, caller)

    def symlink(self, parent: int, name: bytes, target: bytes, caller: RequestContext) -> Attributes:
        """Create a symbolic link, on the host only."""
        return self._backed.symlink(self._backed_parent(parent, name), name, target, caller)

    def link(self, number: int, parent: int, name: bytes) -> Attributes:
        """Create a hard link, on the host and within one area only."""
        return self._backed.link(self._nodes[number], self._backed_parent(parent, name), name)

    def unlink(self, parent: int, name: bytes) -> Answer[None]:
        """Remove a file."""
        directory = self._nodes[parent]
        if not self._mount_table.is_backed(directory, name):
            return self._synthetic.remove(directory, name)
        self._backed.unlink(directory, name)
        return None

    def rmdir(self, parent: int, name: bytes) -> Answer[None]:
        """Remove a directory."""
        directory = self._nodes[parent]
        if not self._mount_table.is_backed(directory, name):
            return self._synthetic.remove(directory, name)
        self._backed.rmdir(directory, name)
        return None

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> Answer[None]:
        """Rename a file; `flags` are RENAME_NOREPLACE and RENAME_EXCHANGE, on the host only.

        Raise OSError EXDEV between a backed and a synthetic file.
        """
        source, target = self._nodes[parent], self._nodes[new_parent]
        on_disk = self._mount_table.is_backed(source, name), self._mount_table.is_backed(target, new_name)
        if on_disk == (True, True):
            self._backed.rename(source, name, target, new_name, flags)
            return None
        if on_disk == (False, False):
            return self._synthetic.rename(source, name, target, new_name, flags)
        raise path_error(errno.EXDEV, target.path)

    def readlink(self, number: int) -> Answer[bytes]:
        """Return the target of a symbolic link."""
        node = self._nodes[number]
        return self._backed.readlink(node) if node.area is not None else self._synthetic.readlink(node)

    # attributes

    def access(self, number: int, mask: int) -> Answer[None]:
        """Check access(2), for a kernel that does not check modes itself.

        Then only root sends this request. Root has every permission, but not to execute a file without an execute bit.
        """
        if not mask & os.X_OK:
            self._check_changeable(self._nodes[number], mask)
            return None
        reply = self.getattr(number)
        if not isinstance(reply, Attributes):
            return _check_later(reply, _check_executable)
        _check_executable(reply)
        return None

    def getattr(self, number: int) -> Answer[Attributes]:
        """Return the current attributes."""
        node = self._nodes[number]
        return self._backed.getattr(node) if node.area is not None else self._synthetic.getattr(node)

    def setattr(self, number: int, request: SetattrRequest, fh: int | None) -> Answer[Attributes]:
        """Change size, mode, owner and times, and return the new attributes."""
        node = self._nodes[number]
        if node.area is None:
            return self._synthetic.setattr(node, request, fh)
        try:
            return self._backed.setattr(node, request, fh)
        except BlockingIOError:
            return retry(self._loop, lambda: self._backed.setattr(node, request, fh))

    def getxattr(self, number: int, name: bytes) -> Answer[bytes]:
        """Return the value of an extended attribute.

        Stored `user.*` attributes come from the host; computed ones, and those of synthetic files, come from the tree.
        Attributes that only the host interprets come from the host.
        """
        node = self._nodes[number]
        if not name.startswith(NAMESPACE):
            if node.area is not None and is_host_attribute(name):
                return self._backed.get_host_xattr(node, name)
            is_acl = name in ACLS and self._open_file_cache.answers_acls
            code = errno.ENODATA if is_acl else errno.EOPNOTSUPP
            raise OSError(code, os.strerror(code))
        if node.area is not None and not is_computed(name):
            return self._backed.get_xattr(node, name)
        return self._synthetic.get_xattr(node, name)

    def listxattr(self, number: int, is_root: bool) -> Answer[Sequence[bytes]]:
        """Return the names of extended attributes.

        Computed ones are left out, so that `cp -a`, `mv` and `tar` do not try to set them.
        """
        node = self._nodes[number]
        return (
            self._backed.list_xattrs(node, is_root=is_root)
            if node.area is not None
            else self._synthetic.list_xattrs(node)
        )

    def setxattr(self, number: int, name: bytes, value: bytes, flags: int = 0, *, drops_setgid: bool = False) -> None:
        """Set an extended attribute of a backed file; `flags` as of setxattr(2).

        `drops_setgid`: clear the setgid bit, because a caller outside of the file's group sets an ACL.
        """
        self._backed.set_xattr(self._backed_node(number), name, value, flags, drops_setgid=drops_setgid)

    def removexattr(self, number: int, name: bytes) -> None:
        """Remove an extended attribute of a backed file."""
        self._backed.remove_xattr(self._backed_node(number), name)

    def statfs(self) -> SyntheticStatfs:
        """Return the capacity of the host file system of the store."""
        stat = os.statvfs(self._options.store)
        free, available, files = stat.f_bfree, stat.f_bavail, (stat.f_files, stat.f_ffree)
        if not self._access.is_unrestricted:  # the writes of other principals must not show
            free, available = (_round_down(blocks, stat.f_frsize) for blocks in (free, available))
            files = 0, 0
        return SyntheticStatfs(stat.f_bsize, stat.f_frsize, stat.f_blocks, free, available, *files, stat.f_namemax)

    # files

    def open(self, number: int, flags: int, uid: int = 0, *, drop_privileges: bool = False) -> Answer[OpenReply]:
        """Open a file: a descriptor of a backed one, a snapshot of a synthetic one.

        Raise OSError ENOSYS if no file is opened on this mount: the kernel then sends no more opens.

        `uid` is the caller's. Tools run as the owner of the mount, so only the owner and root may call them.
        """
        if self._options.reads_without_open:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        node = self._nodes[number]
        if node.area is None:
            return self._synthetic.open(node, flags, may_call=uid in (0, os.geteuid()))
        try:
            return self._backed.open(node, flags, drop_privileges=drop_privileges)
        except BlockingIOError:
            return retry(self._loop, lambda: self._backed.open(node, flags, drop_privileges=drop_privileges))

    def create(
        self, parent: int, name: bytes, mode: int, flags: int, caller: RequestContext
    ) -> Answer[tuple[OpenReply, Attributes]]:
        """Create and open a file; return the open reply and the attributes."""
        directory = self._nodes[parent]
        if not self._mount_table.is_backed(directory, name):
            return self._synthetic.create(directory, name, flags)
        try:
            return self._backed.create(directory, name, mode, flags, caller)
        except BlockingIOError:
            return retry(self._loop, lambda: self._backed.create(directory, name, mode, flags, caller))

    def read(self, fh: int, offset: int, size: int) -> Answer[bytes]:
        """Return bytes of the file, of the snapshot, or of the response of a transaction file."""
        if fh < FIRST_SYNTHETIC_HANDLE:
            return self._backed.read(fh, offset, size)
        if fh >= FIRST_TRANSACTION_HANDLE:
            return self._transaction_files.read(fh, offset, size)
        return self._synthetic.read(fh, offset, size)

    def read_unopened(self, number: int, offset: int, size: int) -> Answer[bytes]:
        """Return bytes of a file without an open handle."""
        node = self._nodes[number]
        files = self._backed if node.area is not None else self._synthetic
        return files.read_unopened(node, offset, size)

    def write(self, fh: int, offset: int, data: bytes | memoryview, *, drop_privileges: bool = False) -> Answer[int]:
        """Write bytes to the file, to the copy, or to the request of a transaction file; return their number.

        `data` is valid only until this returns.
        """
        if fh < FIRST_SYNTHETIC_HANDLE:
            return self._backed.write(fh, offset, data, drop_privileges)
        if fh >= FIRST_TRANSACTION_HANDLE:
            return self._transaction_files.write(fh, bytes(data))
        return self._synthetic.write(fh, offset, bytes(data))

    def release(self, fh: int) -> Answer[None]:
        """Close a handle after its last user has closed it."""
        if fh < FIRST_SYNTHETIC_HANDLE:
            self._backed.release(fh)
            return None
        return self._transaction_files.release(fh) if fh >= FIRST_TRANSACTION_HANDLE else self._synthetic.release(fh)

    def release_locks(self, number: int, handle: int) -> None:
        """Release the locks of an open file description that is closed.

        `handle` is the complete handle, with its count.
        """
        if self._locks:
            with contextlib.suppress(OSError):  # the kernel never sends such a number
                self._locks.release(self._nodes[number], handle)
            self._open_file_cache.watch_closes(bool(self._locks))

    def flush(self, number: int, fh: int, owner: int) -> None:
        """Release a process's POSIX locks on a file, because it has closed a descriptor of it.

        Raise OSError ENOSYS if the kernel keeps the locks.
        """
        if not self.forwards_locks:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        if self._locks:
            self._locks.flush(self._nodes[number], owner)
            self._open_file_cache.watch_closes(bool(self._locks))

    def get_lock(self, number: int, fh: int, owner: int, lock: Range) -> Range:
        """Return the lock that conflicts with `lock`, for F_GETLK."""
        node = self._nodes[number]
        return self._locks.find_conflict(node, owner, self._lock_fd(fh), lock)

    def set_lock(
        self, number: int, fh: int, handle: int, owner: int, lock: Range, *, is_flock: bool, waits: bool
    ) -> Answer[None]:
        """Set or release a lock, for F_SETLK, F_SETLKW and flock(2).

        `fh` is the handle without its count, `handle` the one with it. Raise OSError EAGAIN if another owner's lock
        conflicts and `waits` is False.
        """
        node, locks = self._nodes[number], self._locks
        if lock.kind == fcntl.F_UNLCK:
            if node.area is not None and fh in self._files:
                self._backed.store_unlocked_version(node, fh)
            locks.unlock(node, owner, lock, is_flock=is_flock)
            return None
        fd = self._lock_fd(fh)
        if not node.is_locked:
            node.is_locked = True
            self._open_file_cache.evict(node)
        self._open_file_cache.watch_closes(True)
        if not locks.set_nowait(node, owner, handle, fd, lock, is_flock=is_flock):
            if not waits:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return self._wait_lock(node, fh, locks.set_wait(node, owner, handle, fd, lock, is_flock=is_flock))
        if fd is not None and self._backed.is_stale(node, fh):
            return self._backed.invalidate_pages(node)
        return None

    async def _wait_lock(self, node: Node, fh: int, granted: Coroutine[Any, Any, None]) -> None:
        await granted
        if fh < FIRST_SYNTHETIC_HANDLE and self._backed.is_stale(node, fh):
            await self._backed.invalidate_pages(node)

    def _lock_fd(self, fh: int) -> int | None:
        if fh >= FIRST_SYNTHETIC_HANDLE:
            return None
        self._files[fh]  # raises EBADF if it is not open
        return fh

    def fsync(self, fh: int, datasync: bool) -> Answer[None]:
        """Make a file durable; edits of a synthetic file are applied."""
        if fh < FIRST_SYNTHETIC_HANDLE:
            return self._backed.fsync(fh, datasync)
        return self._synthetic.commit(fh) if fh < FIRST_TRANSACTION_HANDLE else None

    def allocate(self, fh: int, mode: int, offset: int, length: int, *, drop_privileges: bool = False) -> None:
        """Allocate space or punch a hole in a backed file, as fallocate(2)."""
        self._backed.allocate(self._backed_handle(fh), mode, offset, length, drop_privileges)

    def seek(self, fh: int, offset: int, whence: int) -> int:
        """Return the offset of the next data or hole of a backed file."""
        return self._backed.seek(self._backed_handle(fh), offset, whence)

    def copy_range(
        self, source: int, offset: int, target: int, target_offset: int, length: int, *, drop_privileges: bool = False
    ) -> int:
        """Copy between backed files, as copy_file_range(2), and return the number of bytes."""
        files = self._backed_handle(source), self._backed_handle(target)
        return self._backed.copy_range(files[0], offset, files[1], target_offset, length, drop_privileges)

    # directories

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

    def _start_stream(self, node: Node, previous: DirectoryStream | None) -> DirectoryStream:
        stream = self._unopened_streams[node.number] = DirectoryStream(
            node, is_volatile=previous is not None and previous.is_volatile
        )
        if len(self._unopened_streams) > _MAX_UNOPENED_STREAMS:
            oldest = self._unopened_streams.pop(next(iter(self._unopened_streams)))
            if oldest.is_volatile:
                self._invalidate_names(oldest.node)
        return stream

    def _visible_node(self, number: int) -> Node:
        node = self._nodes[number]
        if not self._access.rights(node).exists:
            raise path_error(errno.ENOENT, node.path)
        return node

    def _invalidate_names(self, directory: Node) -> None:
        """Invalidate the names of a directory in the kernel's cache."""
        with contextlib.suppress(OSError):  # the kernel has forgotten the directory
            self._cache_policy.caches.invalidate_inode(directory.number)

    def _finish_stream(self, stream: DirectoryStream) -> None:
        """Invalidate the names of an unopened directory that may change without a new modification time.

        Its reader is about to receive the end of the directory, at which the kernel starts to cache the names.
        """
        if stream.is_volatile and not stream.has_handle:
            stream.is_volatile = False
            self._invalidate_names(stream.node)

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

    def releasedir(self, fh: int) -> None:
        """Close a directory handle."""
        stream = self._streams.take(fh)
        if stream.fd is not None:
            self._backed.close_directory(stream.node, stream.fd)

    def add_opened(self, number: int, fd: int, version: Version) -> None:
        """Add a descriptor with which the transport has opened an expected file; `version` is the file's."""
        self._backed.add_opened(self._nodes[number], fd, version)

    def fsyncdir(self, fh: int) -> Answer[None]:
        """Make the names of an open directory durable."""
        return self._sync_names(self._streams[fh].node)

    def fsyncdir_unopened(self, number: int) -> Answer[None]:
        """Make the names of a directory without an open handle durable."""
        return self._sync_names(self._nodes[number])

    def _sync_names(self, node: Node) -> Answer[None]:
        return self._backed.fsync_directory(node) if node.area is not None else None

    def audit_refusal(self, request: str, error: OSError) -> None:
        """Record a refused request in the audit.

        Refusals by the daemon are left out, because the daemon has recorded them.
        """
        if ANSWERED not in getattr(error, "__notes__", ()):
            self._recorder.audit(
                _AUDIT_OPERATIONS.get(request, request), str(error.filename or ""), outcome=errno_name(error)
            )

    # internal

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
            if not entries.add(name, self._backed.attributes(child, stat), cookie_of(name)):
                break
            child.lookups += 1
            if self._backed.can_open_directly(child, stat.st_mode, stat.st_size):
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
        return child, self._backed.attributes(child, stat)

    @staticmethod
    def _check_changeable(node: Node, mask: int) -> None:
        if mask & os.W_OK and node.area is not None and not node.area.writable:
            raise read_only(node.path)

    def _backed_parent(self, number: int, name: bytes) -> Node:
        node = self._nodes[number]
        if not self._mount_table.is_backed(node, name):
            raise path_error(errno.EPERM, node.path)
        return node

    def _backed_node(self, number: int) -> Node:
        node = self._nodes[number]
        if node.area is None:
            raise path_error(errno.EOPNOTSUPP, node.path)
        return node

    @staticmethod
    def _backed_handle(fh: int) -> int:
        if fh >= FIRST_SYNTHETIC_HANDLE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return fh


def _check_executable(reply: Attributes) -> None:
    if st.S_ISREG(reply.mode) and not reply.mode & 0o111:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


async def _check_later(coroutine: Coroutine[Any, Any, Attributes], check: Callable[[Attributes], None]) -> None:
    check(await coroutine)


def _round_down(blocks: int, size: int) -> int:
    """Return a number of free blocks, rounded down to a gigabyte."""
    unit = max((1 << 30) // max(size, 1), 1)
    return blocks // unit * unit
