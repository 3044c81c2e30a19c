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

from ctxfs.eventlog.audit import outcome_of
from ctxfs.fuse import attributes
from ctxfs.fuse.attributes import (
    ACLS,
    NAMESPACE,
    Attributes,
    OpenReply,
    RequestContext,
    SetattrRequest,
    SyntheticStatfs,
    is_handed_on,
)
from ctxfs.fuse.backed import BackedFiles
from ctxfs.fuse.directory_stream import DOTS, DirectoryStream, place_of
from ctxfs.fuse.inodes import Area, Node, Version
from ctxfs.fuse.interfaces import DirectoryEntries, Seen
from ctxfs.fuse.lease_retry import retry
from ctxfs.fuse.lock_owners import Range
from ctxfs.fuse.state import SYNTHETIC, State
from ctxfs.fuse.synthetic import SyntheticFiles, is_computed
from ctxfs.fuse.transaction_files import SPEAKING
from ctxfs.model.entry import Entry
from ctxfs.model.errors import path_error, read_only
from ctxfs.model.tables import Table
from ctxfs.rpc.wire import ANSWERED

Result = TypeVar("Result")
Answer: TypeAlias = Result | Coroutine[Any, Any, Result]

# request → the operation that the audit records for its refusal
_REFUSED_AS = {
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


_MOST_BEGUN = 64


class Operations:
    """The request handlers of one mount, by inode numbers and by the handles of open files."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._disk = BackedFiles(state)
        self._made = SyntheticFiles(state)
        self._listings: Table[DirectoryStream] = Table(errno.EBADF)
        self._begun: dict[int, DirectoryStream] = {}  # streams of directories without an open handle, by number
        self._numbers = itertools.count(1)
        state.kept.close = self._disk.release

    @property
    def users(self) -> frozenset[int] | None:
        """Return the uids that are served, or None for all that the kernel admits."""
        return self._state.users

    @property
    def notes_reads(self) -> bool:
        """Return True if the audit records every open for reading."""
        return self._state.notes_reads

    @property
    def takes_locks(self) -> bool:
        """Return True if callers' locks are forwarded to the backing files.

        If no file is opened, no close would release them: then the kernel keeps the locks.
        """
        return not self._state.unopened

    @property
    def compares_modes(self) -> bool:
        """Return True if the kernel compares modes with its callers, so that it can also check ACLs."""
        return self._state.compares_modes

    # names

    def lookup(self, parent: int, name: bytes) -> Answer[Attributes]:
        """Return the attributes of a name: from the host, unless it is a view or a mount point of the tree."""
        at = self._state.nodes[parent]
        if at.area is not None and name not in self._state.shape.views:
            return self._disk.lookup(at, name)
        area = self._state.area_below(at, name)
        if area is not None:
            return self._disk.lookup_top(at, name, area)
        return self._made.lookup(at, name)

    def forget(self, references: Iterable[tuple[int, int]]) -> None:
        """Decrement lookup counts: `references` are (number, count) pairs."""
        for number, lookups in references:
            self._state.forget(number, lookups)

    def mkdir(self, parent: int, name: bytes, mode: int, caller: RequestContext) -> Answer[Attributes]:
        """Create a directory on the host, or a kept question or a task in the tree."""
        at = self._state.nodes[parent]
        if self._on_disk(at, name):
            return self._disk.mkdir(at, name, mode, caller)
        return self._made.mkdir(at, name)

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: RequestContext) -> Attributes:
        """Create a special file, on the host only."""
        return self._disk.mknod(self._disk_parent(parent, name), name, mode, rdev, caller)

    def symlink(self, parent: int, name: bytes, target: bytes, caller: RequestContext) -> Attributes:
        """Create a symbolic link, on the host only."""
        return self._disk.symlink(self._disk_parent(parent, name), name, target, caller)

    def link(self, number: int, parent: int, name: bytes) -> Attributes:
        """Create a hard link, on the host and within one area only."""
        return self._disk.link(self._state.nodes[number], self._disk_parent(parent, name), name)

    def unlink(self, parent: int, name: bytes) -> Answer[None]:
        """Remove a file."""
        at = self._state.nodes[parent]
        if not self._on_disk(at, name):
            return self._made.remove(at, name)
        self._disk.unlink(at, name)
        return None

    def rmdir(self, parent: int, name: bytes) -> Answer[None]:
        """Remove a directory."""
        at = self._state.nodes[parent]
        if not self._on_disk(at, name):
            return self._made.remove(at, name)
        self._disk.rmdir(at, name)
        return None

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> Answer[None]:
        """Rename a file; `flags` are RENAME_NOREPLACE and RENAME_EXCHANGE, on the host only.

        Raise OSError EXDEV between a backed and a synthetic file.
        """
        old, new = self._state.nodes[parent], self._state.nodes[new_parent]
        on_disk = self._on_disk(old, name), self._on_disk(new, new_name)
        if on_disk == (True, True):
            self._disk.rename(old, name, new, new_name, flags)
            return None
        if on_disk == (False, False):
            return self._made.rename(old, name, new, new_name, flags)
        raise path_error(errno.EXDEV, new.path)

    def readlink(self, number: int) -> Answer[bytes]:
        """Return the target of a symbolic link."""
        node = self._state.nodes[number]
        return self._disk.readlink(node) if node.area is not None else self._made.readlink(node)

    # attributes

    def access(self, number: int, mask: int) -> Answer[None]:
        """Check access(2), for a kernel that does not check modes itself.

        Then only root sends this request. Root has every permission, but not to execute a file without an execute bit.
        """
        if not mask & os.X_OK:
            self._check_changeable(self._state.nodes[number], mask)
            return None
        found = self.getattr(number)
        if not isinstance(found, Attributes):
            return _later(found, _check_runs)
        _check_runs(found)
        return None

    def getattr(self, number: int) -> Answer[Attributes]:
        """Return the current attributes."""
        node = self._state.nodes[number]
        return self._disk.getattr(node) if node.area is not None else self._made.getattr(node)

    def setattr(self, number: int, wanted: SetattrRequest, fh: int | None) -> Answer[Attributes]:
        """Change size, mode, owner and times, and return the new attributes."""
        node = self._state.nodes[number]
        if node.area is None:
            return self._made.setattr(node, wanted, fh)
        try:
            return self._disk.setattr(node, wanted, fh)
        except BlockingIOError:
            return retry(self._state.loop, lambda: self._disk.setattr(node, wanted, fh))

    def getxattr(self, number: int, name: bytes) -> Answer[bytes]:
        """Return the value of an extended attribute.

        Stored `user.*` attributes come from the host; computed ones, and those of synthetic files, come from the tree.
        Attributes that only the host interprets come from the host.
        """
        node = self._state.nodes[number]
        if not name.startswith(NAMESPACE):
            if node.area is not None and is_handed_on(name):
                return self._disk.get_host_xattr(node, name)
            is_acl = name in ACLS and self._state.kept.answers_acls
            code = errno.ENODATA if is_acl else errno.EOPNOTSUPP
            raise OSError(code, os.strerror(code))
        if node.area is not None and not is_computed(name):
            return self._disk.get_xattr(node, name)
        return self._made.get_xattr(node, name)

    def listxattr(self, number: int, is_root: bool) -> Answer[Sequence[bytes]]:
        """Return the names of extended attributes.

        Computed ones are left out, so that `cp -a`, `mv` and `tar` do not try to set them.
        """
        node = self._state.nodes[number]
        return self._disk.list_xattrs(node, is_root=is_root) if node.area is not None else self._made.list_xattrs(node)

    def setxattr(self, number: int, name: bytes, value: bytes, flags: int = 0, *, drops_setgid: bool = False) -> None:
        """Set an extended attribute of a backed file; `flags` as of setxattr(2).

        `drops_setgid`: clear the setgid bit, because a caller outside of the file's group sets an ACL.
        """
        self._disk.set_xattr(self._disk_node(number), name, value, flags, drops_setgid=drops_setgid)

    def removexattr(self, number: int, name: bytes) -> None:
        """Remove an extended attribute of a backed file."""
        self._disk.remove_xattr(self._disk_node(number), name)

    def statfs(self) -> SyntheticStatfs:
        """Return the capacity of the host file system of the store."""
        found = os.statvfs(self._state.store)
        free, available, files = found.f_bfree, found.f_bavail, (found.f_files, found.f_ffree)
        if not self._state.free:  # the writes of other principals must not show
            free, available = (_rounded(blocks, found.f_frsize) for blocks in (free, available))
            files = 0, 0
        return SyntheticStatfs(found.f_bsize, found.f_frsize, found.f_blocks, free, available, *files, found.f_namemax)

    # files

    def open(self, number: int, flags: int, uid: int = 0, *, drop_privileges: bool = False) -> Answer[OpenReply]:
        """Open a file: a descriptor of a backed one, a snapshot of a synthetic one.

        Raise OSError ENOSYS if no file is opened on this mount: the kernel then sends no more opens.

        `uid` is the caller's. Tools run as the owner of the mount, so only the owner and root may call them.
        """
        if self._state.unopened:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        node = self._state.nodes[number]
        if node.area is None:
            return self._made.open(node, flags, may_call=uid in (0, os.geteuid()))
        try:
            return self._disk.open(node, flags, drop_privileges=drop_privileges)
        except BlockingIOError:
            return retry(self._state.loop, lambda: self._disk.open(node, flags, drop_privileges=drop_privileges))

    def create(
        self, parent: int, name: bytes, mode: int, flags: int, caller: RequestContext
    ) -> Answer[tuple[OpenReply, Attributes]]:
        """Create and open a file; return the open reply and the attributes."""
        at = self._state.nodes[parent]
        if not self._on_disk(at, name):
            return self._made.create(at, name, flags)
        try:
            return self._disk.create(at, name, mode, flags, caller)
        except BlockingIOError:
            return retry(self._state.loop, lambda: self._disk.create(at, name, mode, flags, caller))

    def read(self, fh: int, offset: int, size: int) -> Answer[bytes]:
        """Return bytes of the file, of the snapshot, or of the response of a transaction file."""
        if fh < SYNTHETIC:
            return self._disk.read(fh, offset, size)
        if fh >= SPEAKING:
            return self._state.conversations.read(fh, offset, size)
        return self._made.read(fh, offset, size)

    def read_unopened(self, number: int, offset: int, size: int) -> Answer[bytes]:
        """Return bytes of a file without an open handle."""
        node = self._state.nodes[number]
        files = self._disk if node.area is not None else self._made
        return files.read_unopened(node, offset, size)

    def write(self, fh: int, offset: int, data: bytes | memoryview, *, drop_privileges: bool = False) -> Answer[int]:
        """Write bytes to the file, to the copy, or to the request of a transaction file; return their number.

        `data` is valid only until this returns.
        """
        if fh < SYNTHETIC:
            return self._disk.write(fh, offset, data, drop_privileges)
        if fh >= SPEAKING:
            return self._state.conversations.write(fh, bytes(data))
        return self._made.write(fh, offset, bytes(data))

    def release(self, fh: int) -> Answer[None]:
        """Close a handle after its last user has closed it."""
        if fh < SYNTHETIC:
            self._disk.release(fh)
            return None
        return self._state.conversations.release(fh) if fh >= SPEAKING else self._made.release(fh)

    def end_locks(self, number: int, handle: int) -> None:
        """Release the locks of an open file description that is closed.

        `handle` is the complete handle, with its count.
        """
        if self._state.locks:
            with contextlib.suppress(OSError):  # the kernel never sends such a number
                self._state.locks.release(self._state.nodes[number], handle)
            self._state.kept.watch_closes(bool(self._state.locks))

    def flush(self, number: int, fh: int, owner: int) -> None:
        """Release a process's POSIX locks on a file, because it has closed a descriptor of it.

        Raise OSError ENOSYS if the kernel keeps the locks.
        """
        if not self.takes_locks:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        if self._state.locks:
            self._state.locks.flush(self._state.nodes[number], owner)
            self._state.kept.watch_closes(bool(self._state.locks))

    def get_lock(self, number: int, fh: int, owner: int, wanted: Range) -> Range:
        """Return the lock that conflicts with `wanted`, for F_GETLK."""
        node = self._state.nodes[number]
        return self._state.locks.find_conflict(node, owner, self._lock_place(fh), wanted)

    def set_lock(
        self, number: int, fh: int, handle: int, owner: int, wanted: Range, *, is_flock: bool, waits: bool
    ) -> Answer[None]:
        """Set or release a lock, for F_SETLK, F_SETLKW and flock(2).

        `fh` is the handle without its count, `handle` the one with it. Raise OSError EAGAIN if another owner's lock
        conflicts and `waits` is False.
        """
        node, locks = self._state.nodes[number], self._state.locks
        if wanted.kind == fcntl.F_UNLCK:
            if node.area is not None and fh in self._state.files:
                self._disk.leave_lock(node, fh)
            locks.unlock(node, owner, wanted, is_flock=is_flock)
            return None
        place = self._lock_place(fh)
        if not node.locked:
            node.locked = True
            self._state.kept.end(node)
        self._state.kept.watch_closes(True)
        if not locks.set_nowait(node, owner, handle, place, wanted, is_flock=is_flock):
            if not waits:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return self._wait_lock(node, fh, locks.set_wait(node, owner, handle, place, wanted, is_flock=is_flock))
        if place is not None and self._disk.is_stale(node, fh):
            return self._disk.refresh(node)
        return None

    async def _wait_lock(self, node: Node, fh: int, granted: Coroutine[Any, Any, None]) -> None:
        await granted
        if fh < SYNTHETIC and self._disk.is_stale(node, fh):
            await self._disk.refresh(node)

    def _lock_place(self, fh: int) -> int | None:
        if fh >= SYNTHETIC:
            return None
        self._state.files[fh]  # raises EBADF if it is not open
        return fh

    def fsync(self, fh: int, datasync: bool) -> Answer[None]:
        """Make a file durable; edits of a synthetic file are applied."""
        if fh < SYNTHETIC:
            return self._disk.fsync(fh, datasync)
        return self._made.commit(fh) if fh < SPEAKING else None

    def allocate(self, fh: int, mode: int, offset: int, length: int, *, drop_privileges: bool = False) -> None:
        """Allocate space or punch a hole in a backed file, as fallocate(2)."""
        self._disk.allocate(self._disk_handle(fh), mode, offset, length, drop_privileges)

    def seek(self, fh: int, offset: int, whence: int) -> int:
        """Return the offset of the next data or hole of a backed file."""
        return self._disk.seek(self._disk_handle(fh), offset, whence)

    def copy_range(
        self, source: int, offset: int, target: int, target_offset: int, length: int, *, drop_privileges: bool = False
    ) -> int:
        """Copy between backed files, as copy_file_range(2), and return the number of bytes."""
        files = self._disk_handle(source), self._disk_handle(target)
        return self._disk.copy_range(files[0], offset, files[1], target_offset, length, drop_privileges)

    # directories

    def opendir(self, number: int) -> OpenReply:
        """Open a directory; its names are read by the first readdir.

        The kernel may cache the names of a directory on disk, because it receives invalidations of changes.
        """
        node = self._existing(number)
        fh = next(self._numbers)
        if node.area is None:
            self._listings[fh] = DirectoryStream(node, opens=True)
            return OpenReply(fh, direct_io=True)
        held, keep = self._disk.hold_directory(node)
        self._listings[fh] = DirectoryStream(node, opens=True, held=held)
        return OpenReply(fh, keep_cache=keep)

    def readdir(self, fh: int, after: int, entries: DirectoryEntries) -> Answer[None]:
        """Add names with attributes after the readdir cookie `after`; 0, a rewind, reads the directory again."""
        return self._readdir(self._listings[fh], after, entries)

    def readdir_unopened(self, number: int, after: int, entries: DirectoryEntries) -> Answer[None]:
        """Add names as `readdir`, of a directory without an open handle."""
        node, listing = self._existing(number), self._begun.get(number)
        if listing is None or listing.node is not node or after == 0:
            listing = self._begin(node, listing)
        return self._readdir(listing, after, entries)

    def _begin(self, node: Node, before: DirectoryStream | None) -> DirectoryStream:
        listing = self._begun[node.number] = DirectoryStream(node, fleeting=before is not None and before.fleeting)
        if len(self._begun) > _MOST_BEGUN:
            oldest = self._begun.pop(next(iter(self._begun)))
            if oldest.fleeting:
                self._relist(oldest.node)
        return listing

    def _existing(self, number: int) -> Node:
        node = self._state.nodes[number]
        if not self._state.rights(node).exists:
            raise path_error(errno.ENOENT, node.path)
        return node

    def _relist(self, directory: Node) -> None:
        """Invalidate the names of a directory in the kernel's cache."""
        if self._state.caches is not None:
            with contextlib.suppress(OSError):  # the kernel has forgotten the directory
                self._state.caches.invalidate_inode(directory.number)

    def _ended(self, listing: DirectoryStream) -> None:
        """Invalidate the names of an unopened directory that may change without a new modification time.

        Its reader is about to receive the end of the directory, at which the kernel starts to cache the names.
        """
        if listing.fleeting and not listing.opens:
            listing.fleeting = False
            self._relist(listing.node)

    def _readdir(self, listing: DirectoryStream, after: int, entries: DirectoryEntries) -> Answer[None]:
        if not listing.opens:
            above = listing.node.parent or listing.node
            entries.add_dots(after, listing.node.number, above.number)
        if listing.node.area is None:
            return self._readdir_made(listing, after, entries)
        if listing.names is None or after == 0:
            listing.fleeting |= self._disk.is_fleeting(listing.node)
            listing.take(self._disk.names(listing.node))
        self._add_from_disk(listing, listing.after(after), entries)
        if entries.is_empty:
            self._ended(listing)
        return None

    def releasedir(self, fh: int) -> None:
        """Close a directory handle."""
        listing = self._listings.take(fh)
        if listing.held is not None:
            self._disk.let_go(listing.node, listing.held)

    def opened(self, number: int, fd: int, version: Version) -> None:
        """Add a descriptor with which the transport has opened an expected file; `version` is the file's."""
        self._disk.opened(self._state.nodes[number], fd, version)

    def fsyncdir(self, fh: int) -> Answer[None]:
        """Make the names of an open directory durable."""
        return self._sync_names(self._listings[fh].node)

    def fsyncdir_unopened(self, number: int) -> Answer[None]:
        """Make the names of a directory without an open handle durable."""
        return self._sync_names(self._state.nodes[number])

    def _sync_names(self, node: Node) -> Answer[None]:
        return self._disk.fsync_directory(node) if node.area is not None else None

    def refused(self, request: str, error: OSError) -> None:
        """Record a refused request in the audit.

        Refusals by the daemon are left out, because the daemon has recorded them.
        """
        if ANSWERED not in getattr(error, "__notes__", ()):
            self._state.note(_REFUSED_AS.get(request, request), str(error.filename or ""), outcome=outcome_of(error))

    # internal

    def _add_from_disk(self, listing: DirectoryStream, start: int, entries: DirectoryEntries) -> None:
        node, state = listing.node, self._state
        area, names = node.area, listing.names
        assert names is not None and area is not None
        directory = state.directories.of(node)
        seen = None
        if state.free:
            least = 0 if state.is_shared(area) else state.handed_over.least
            seen = entries.add_on_disk(directory, names, start, area.numbers, state.keeps(area), least)
        if seen is None:
            state.kept.expect(directory, self._add_one_by_one(directory, listing, start, entries))
        else:
            self._know(node, area, names, seen, entries)
            if not listing.fleeting and (seen[-1][0] + 1 if seen else 0) == len(names):
                state.kept.ends(node, place_of(names[-1]) if names else DOTS)

    def _add_one_by_one(
        self, directory: int, listing: DirectoryStream, start: int, entries: DirectoryEntries
    ) -> list[Node]:
        """Add entries with a stat each; return the nodes that the transport may open by itself."""
        node, names, expected = listing.node, listing.names, list[Node]()
        assert names is not None and node.area is not None
        for position in range(start, len(names)):
            name = names[position]
            try:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except OSError:
                continue  # removed since the names were read
            child = self._state.node_for(node, name, node.area, found)
            if not entries.add(name, self._disk.attributes(child, found), place_of(name)):
                break
            child.lookups += 1
            if self._disk.needs_no_asking(child, found.st_mode, found.st_size):
                expected.append(child)
        return expected

    def _know(self, node: Node, area: Area, names: list[bytes], seen: Seen, entries: DirectoryEntries) -> None:
        """Add the nodes of entries that the transport has added at once.

        Correct the entries whose numbers are taken, and keep the transport from opening files that are open or locked.
        """
        others = self._state.nodes.listed(node, area, names, seen)
        for at, number, child in others:
            self._state.kept.unexpect(number)
            if child.number != number:
                entries.renumber(at, child.number)

    async def _readdir_made(self, listing: DirectoryStream, after: int, entries: DirectoryEntries) -> None:
        names = listing.names
        if names is None or after == 0:
            listing.fleeting = True
            entries_made = await self._made.entries(listing.node)
            names = listing.take_made({os.fsencode(entry.name): entry for entry in entries_made})
        here = listing.node.path
        for index in range(listing.after_made(after), len(names)):
            name = names[index]
            entry = listing.made[name]
            if self._state.area_below(listing.node, name) is not None:
                child, reply = self._area_entry(listing.node, name, entry)
            else:
                child = self._state.nodes.synthetic(listing.node, name)
                reply = self._made.attributes(child, here / entry.name, entry)
            if not entries.add(name, reply, listing.place_made(index)):
                break
            child.lookups += 1
        if entries.is_empty:
            self._ended(listing)

    def _area_entry(self, parent: Node, name: bytes, entry: Entry) -> tuple[Node, Attributes]:
        """Return the node and attributes of an area's root in a listing; if it is down, as the tree describes it."""
        area = self._state.area_below(parent, name)
        assert area is not None
        try:
            found = os.stat(area.root)
        except OSError:
            child = self._state.nodes.synthetic(parent, name)
            return child, attributes.synthetic(child, entry, 0.0, entry.mtime_ns)
        child = self._state.top_node(parent, name, area, found)
        return child, self._disk.attributes(child, found)

    @staticmethod
    def _check_changeable(node: Node, mask: int) -> None:
        if mask & os.W_OK and node.area is not None and not node.area.writable:
            raise read_only(node.path)

    def _on_disk(self, parent: Node, name: bytes) -> bool:
        """Return True if a name in `parent` belongs to the host; mount points and views do not."""
        return parent.area is not None and name not in self._state.shape.views

    def _disk_parent(self, number: int, name: bytes) -> Node:
        node = self._state.nodes[number]
        if not self._on_disk(node, name):
            raise path_error(errno.EPERM, node.path)
        return node

    def _disk_node(self, number: int) -> Node:
        node = self._state.nodes[number]
        if node.area is None:
            raise path_error(errno.EOPNOTSUPP, node.path)
        return node

    @staticmethod
    def _disk_handle(fh: int) -> int:
        if fh >= SYNTHETIC:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return fh


def _check_runs(found: Attributes) -> None:
    if st.S_ISREG(found.mode) and not found.mode & 0o111:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


async def _later(coming: Coroutine[Any, Any, Attributes], check: Callable[[Attributes], None]) -> None:
    check(await coming)


def _rounded(blocks: int, size: int) -> int:
    """Return a number of free blocks, rounded down to a gigabyte."""
    unit = max((1 << 30) // max(size, 1), 1)
    return blocks // unit * unit
