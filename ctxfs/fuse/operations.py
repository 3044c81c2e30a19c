"""The FUSE request handlers: each request goes to the backed or to the synthetic files.

Requests on backed files return their result at once. Requests that need the daemon return a coroutine, which the
transport runs. An OSError is the reply to the request, by its errno. This module depends on no transport.
"""

import errno
import os
import stat as st
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

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
from ctxfs.fuse.backed_io import BackedIO
from ctxfs.fuse.backed_xattrs import BackedAttributes
from ctxfs.fuse.directory_reads import DirectoryReads
from ctxfs.fuse.inodes import Node, Version
from ctxfs.fuse.interfaces import Answer, BackingFiles, Caches, OpenCacheBackend
from ctxfs.fuse.lease_retry import retry
from ctxfs.fuse.lock_requests import LockRequests
from ctxfs.fuse.source_citations import SourceCitations
from ctxfs.fuse.state import FIRST_SYNTHETIC_HANDLE, State
from ctxfs.fuse.state_transitions import StateTransitions
from ctxfs.fuse.synthetic import SyntheticFiles, is_computed, is_in_branch
from ctxfs.fuse.transaction_files import FIRST_TRANSACTION_HANDLE
from ctxfs.model.errors import path_error, read_only


class Operations:
    """The request handlers of one mount, by inode numbers and by the handles of open files."""

    def __init__(self, state: State) -> None:
        self._loop = state.loop
        self._options = state.options
        self._nodes = state.nodes
        self._node_fds = state.node_fds
        self._open_file_cache = state.open_file_cache
        self._passthrough = state.passthrough
        self._mount_table = state.mount_table
        self._access = state.access
        self._cache_policy = state.cache_policy
        self._recorder = state.recorder
        self._transaction_files = state.transaction_files
        self._io = BackedIO(state)
        self._attributes = BackedAttributes(state, self._io)
        self._source_citations = SourceCitations(state, self._attributes)
        self._transitions = StateTransitions(state, self._attributes)
        self._backed = BackedFiles(state, self._io, self._attributes)
        self._synthetic = SyntheticFiles(state)
        # Requests that one collaborator serves: bound here, without a call in between.
        directories = DirectoryReads(state, self._io, self._attributes, self._backed, self._synthetic)
        self.opendir, self.releasedir = directories.opendir, directories.releasedir
        self.readdir, self.readdir_unopened = directories.readdir, directories.readdir_unopened
        self.fsyncdir, self.fsyncdir_unopened = directories.fsyncdir, directories.fsyncdir_unopened
        locks = LockRequests(state, self._io)
        self.get_lock, self.set_lock = locks.get_lock, locks.set_lock
        self.flush, self.release_locks = locks.flush, locks.release_locks

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
            self._open_file_cache.connect(open_cache, self._io.release)
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
            return self._backed.rename(source, name, target, new_name, flags)
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
        return self._attributes.getattr(node) if node.area is not None else self._synthetic.getattr(node)

    def setattr(self, number: int, request: SetattrRequest, fh: int | None) -> Answer[Attributes]:
        """Change size, mode, owner and times, and return the new attributes."""
        node = self._nodes[number]
        if node.area is None:
            return self._synthetic.setattr(node, request, fh)
        try:
            return self._attributes.setattr(node, request, fh)
        except BlockingIOError:
            return retry(self._loop, lambda: self._attributes.setattr(node, request, fh))

    def getxattr(self, number: int, name: bytes) -> Answer[bytes]:
        """Return the value of an extended attribute.

        Stored `user.*` attributes come from the host; computed ones, and those of synthetic files, come from the tree.
        Attributes that only the host interprets come from the host.
        """
        node = self._nodes[number]
        if not name.startswith(NAMESPACE):
            if node.area is not None and is_host_attribute(name):
                return self._attributes.get_host_xattr(node, name)
            is_acl = name in ACLS and self._open_file_cache.answers_acls
            code = errno.ENODATA if is_acl else errno.EOPNOTSUPP
            raise OSError(code, os.strerror(code))
        if node.area is not None and not is_computed(name):
            return self._attributes.get_xattr(node, name)
        return self._synthetic.get_xattr(node, name)

    def listxattr(self, number: int, is_root: bool) -> Answer[Sequence[bytes]]:
        """Return the names of extended attributes.

        Computed ones are left out, so that `cp -a`, `mv` and `tar` do not try to set them.
        """
        node = self._nodes[number]
        return (
            self._attributes.list_xattrs(node, is_root=is_root)
            if node.area is not None
            else self._synthetic.list_xattrs(node)
        )

    def setxattr(
        self, number: int, name: bytes, value: bytes, flags: int = 0, *, drops_setgid: bool = False
    ) -> Answer[None]:
        """Set an extended attribute of a backed file, or of one in a branch; `flags` as of setxattr(2).

        `drops_setgid`: clear the setgid bit, because a caller outside of the file's group sets an ACL.
        """
        if is_in_branch(self._nodes[number]):
            return self._synthetic.set_xattr(self._nodes[number], name, value, flags)
        node = self._backed_node(number)
        if self._source_citations.follows(node, name, value):
            return self._source_citations.set_source(node, value, flags)
        if self._transitions.follows(node, name, value):
            return self._transitions.set_state(node, name, value, flags)
        self._attributes.set_xattr(node, name, value, flags, drops_setgid=drops_setgid)
        return None

    def removexattr(self, number: int, name: bytes) -> Answer[None]:
        """Remove an extended attribute of a backed file, or of one in a branch."""
        if is_in_branch(self._nodes[number]):
            return self._synthetic.set_xattr(self._nodes[number], name, None, os.XATTR_REPLACE)
        node = self._backed_node(number)
        if self._transitions.follows(node, name, None):
            return self._transitions.remove_state(node, name)
        self._attributes.remove_xattr(node, name)
        return None

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
            return self._io.open(node, flags, drop_privileges=drop_privileges)
        except BlockingIOError:
            return retry(self._loop, lambda: self._io.open(node, flags, drop_privileges=drop_privileges))

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
            return self._io.read(fh, offset, size)
        if fh >= FIRST_TRANSACTION_HANDLE:
            return self._transaction_files.read(fh, offset, size)
        return self._synthetic.read(fh, offset, size)

    def read_unopened(self, number: int, offset: int, size: int) -> Answer[bytes]:
        """Return bytes of a file without an open handle."""
        node = self._nodes[number]
        files = self._io if node.area is not None else self._synthetic
        return files.read_unopened(node, offset, size)

    def write(self, fh: int, offset: int, data: bytes | memoryview, *, drop_privileges: bool = False) -> Answer[int]:
        """Write bytes to the file, to the copy, or to the request of a transaction file; return their number.

        `data` is valid only until this returns.
        """
        if fh < FIRST_SYNTHETIC_HANDLE:
            return self._io.write(fh, offset, data, drop_privileges)
        if fh >= FIRST_TRANSACTION_HANDLE:
            return self._transaction_files.write(fh, bytes(data))
        return self._synthetic.write(fh, offset, bytes(data))

    def release(self, fh: int) -> Answer[None]:
        """Close a handle after its last user has closed it."""
        if fh < FIRST_SYNTHETIC_HANDLE:
            self._io.release(fh)
            return None
        return self._transaction_files.release(fh) if fh >= FIRST_TRANSACTION_HANDLE else self._synthetic.release(fh)

    def fsync(self, fh: int, datasync: bool) -> Answer[None]:
        """Make a file durable; edits of a synthetic file are applied."""
        if fh < FIRST_SYNTHETIC_HANDLE:
            return self._io.fsync(fh, datasync)
        return self._synthetic.commit(fh) if fh < FIRST_TRANSACTION_HANDLE else None

    def allocate(self, fh: int, mode: int, offset: int, length: int, *, drop_privileges: bool = False) -> None:
        """Allocate space or punch a hole in a backed file, as fallocate(2)."""
        self._io.allocate(self._backed_handle(fh), mode, offset, length, drop_privileges)

    def seek(self, fh: int, offset: int, whence: int) -> int:
        """Return the offset of the next data or hole of a backed file."""
        return self._io.seek(self._backed_handle(fh), offset, whence)

    def copy_range(
        self, source: int, offset: int, target: int, target_offset: int, length: int, *, drop_privileges: bool = False
    ) -> int:
        """Copy between backed files, as copy_file_range(2), and return the number of bytes."""
        files = self._backed_handle(source), self._backed_handle(target)
        return self._io.copy_range(files[0], offset, files[1], target_offset, length, drop_privileges)

    def add_opened(self, number: int, fd: int, version: Version) -> None:
        """Add a descriptor with which the transport has opened an expected file; `version` is the file's."""
        self._io.add_opened(self._nodes[number], fd, version)

    def audit_refusal(self, request: str, error: OSError) -> None:
        """Record a refused request in the audit, as `Recorder.audit_refusal`."""
        self._recorder.audit_refusal(request, error)

    # internal

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
