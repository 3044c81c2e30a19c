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
    is_handed_on,
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
_MOST_COPIED = 64 * 1024 * 1024  # per request, because other requests wait for it
# Twice the longest tick of Linux (HZ=100): before 6.13 modification times have the granularity of ticks.
_TICK_NS = 20_000_000
# From Linux 6.13 on, a change after a stat of the file has a distinct time (multigrain timestamps).
_HAS_FINE_TIMES = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2]) >= (6, 13)
_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_SET_IDS = st.S_ISUID | st.S_ISGID


class BackedFiles:
    """Request handlers for nodes with an area.

    `area` is an argument where the node itself may belong to another area.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._uid, self._gid = os.geteuid(), os.getegid()
        # Locked files: their versions when this mount last unlocked them.
        self._left: dict[Node, Version] = {}

    def lookup(self, parent: Node, name: bytes) -> Attributes:
        """Return the attributes of a name in a host directory, or a negative entry."""
        assert parent.area is not None
        if parent.area.hides(parent, name):
            return attributes.absent(0)
        if not self._state.rights_below(parent, name).exists:
            return self._hidden(parent, name)
        try:
            found = os.stat(name, dir_fd=self._state.directories.of(parent), follow_symlinks=False)
        except FileNotFoundError:
            return attributes.absent(self._state.keeps(parent.area))
        node = self._state.node_for(parent, name, parent.area, found)
        node.lookups += 1
        if self.needs_no_asking(node, found.st_mode, found.st_size):
            self._state.kept.expect(self._state.directories.of(parent), [node])
        return self.attributes(node, found)

    def lookup_top(self, parent: Node, name: bytes, area: Area) -> Attributes:
        """Return the attributes of the root of an area.

        Raise OSError EIO if its host folder is unreachable: the mount is down.
        """
        if not self._state.rights_below(parent, name).exists:
            return self._hidden(parent, name)
        try:
            found = os.stat(area.root)
        except OSError as error:
            raise path_error(errno.EIO, area.path, f"'{area.root}' cannot be reached: {error.strerror}") from error
        node = self._state.top_node(parent, name, area, found)
        node.lookups += 1
        return self.attributes(node, found)

    def stat(self, node: Node) -> os.stat_result:
        """Return the host's attributes of a node, even if it is unlinked but the kernel still references it.

        Raise OSError ESTALE if its name leads to another file and no descriptor of it is open.
        """
        if (removed := self._state.directories.removed(node)) is not None:
            return os.fstat(removed)
        try:
            parent, name = self._place(node)
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if self._is_it(node, found):
                return found
            missing = path_error(errno.ESTALE, node.path)
        except OSError as error:
            missing = error
        if (held := self._held(node)) is None:
            raise missing
        return os.fstat(held)

    def getattr(self, node: Node) -> Attributes:
        """Return the current attributes; raise OSError ENOENT if the node does not exist for the principal."""
        if not self._state.rights(node).exists:
            raise path_error(errno.ENOENT, node.path)
        return self.attributes(node, self.stat(node))

    def attributes(self, node: Node, found: os.stat_result) -> Attributes:
        """Return the reply attributes, with mode bits masked by the principal's permissions."""
        assert node.area is not None
        out = attributes.on_disk(node, found, self._state.keeps(node.area))
        if not self._state.judges_acls and found.st_mode & 0o070 and not st.S_ISLNK(found.st_mode):
            out.mode = found.st_mode & ~0o077 | self._group_and_other(node, found.st_mode)
        if self._state.free:
            return out
        if not st.S_ISDIR(found.st_mode):
            out.mode = self._state.true_mode(node, out.mode)
        else:
            rights = self._state.rights(node)
            out.mode = masked_mode(out.mode, rights, is_dir=True)
            if not rights.lists_below:
                # Its link count, size and times would reveal names that do not exist for the principal.
                out.found = SyntheticStat(
                    found.st_mode, st_uid=found.st_uid, st_gid=found.st_gid, st_size=4096, st_blocks=8
                )
        return out

    def _group_and_other(self, node: Node, mode: int) -> int:
        """Return the group and other bits of a mode, reduced to those that the ACL of the file grants.

        See `attributes.narrow_mode`.
        """
        place, follow = self._xattr_place(node)
        try:
            return attributes.narrow_mode(os.getxattr(place, ACLS[0], follow_symlinks=follow), mode)
        except OSError:
            return mode & 0o077  # it has no ACL

    def read(self, fd: int, offset: int, size: int) -> bytes:
        """Return bytes of an open file; raise OSError EACCES if reading is no longer permitted."""
        node = self._state.files[fd]
        if not self._state.may(node, _READ):
            self._need(node, Verb.READ)
        if self._state.policy.quarantine.paths and self._is_kept_from(fd, os.O_RDONLY, node.text):
            raise path_error(errno.EACCES, node.path, WITHHELD)
        return os.pread(fd, size, offset)

    def read_unopened(self, node: Node, offset: int, size: int) -> bytes:
        """Return bytes of a file without an open handle.

        Raise the same errors as `open`.
        """
        self._check_open(node, os.O_RDONLY)
        fd, _ = self._open_again(node, os.O_RDONLY)
        try:
            if self._is_kept_from(fd, os.O_RDONLY, node.text):
                raise path_error(errno.EACCES, node.path, WITHHELD)
            return os.pread(fd, size, offset)
        finally:
            os.close(fd)

    def setattr(self, node: Node, wanted: SetattrRequest, fh: int | None) -> Attributes:
        """Change size, owner, mode and times, in an order in which no change undoes an earlier one.

        Return the new attributes.
        """
        self._writable(node)
        resizes = wanted.size is not None
        changes_meta = wanted.mode is not None or wanted.uid is not None or wanted.gid is not None
        self._need(node, Verb.META if changes_meta and not resizes else Verb.WRITE)
        descriptor = fh if fh in self._state.files else self._held(node)
        if wanted.size is not None:
            self._truncate(node, fh, wanted.size)
        reopened = descriptor is None
        handle = self._reopen(node) if descriptor is None else descriptor
        place = f"/proc/self/fd/{handle}"
        try:
            if wanted.uid is not None or wanted.gid is not None:
                self._change_owner(node, handle, *(-1 if new is None else new for new in (wanted.uid, wanted.gid)))
            if wanted.mode is not None:
                os.chmod(place, st.S_IMODE(wanted.mode))
            elif wanted.drop_privileges:
                self._drop_set_ids(node, place)
            if wanted.now or wanted.atime_ns is not None or wanted.mtime_ns is not None:
                self._change_times(node, place, wanted)
        finally:
            if reopened:
                os.close(handle)
        if resizes and fh is not None and fh in self._state.files:
            self._state.written.add(fh)  # recorded when it is closed
        elif resizes or wanted.mode is not None:
            self._state.record("write", node, "write" if resizes else "meta")
        elif changes_meta:
            self._state.note("meta", node.text)
        return self.getattr(node)

    def readlink(self, node: Node) -> bytes:
        """Return the target of a symbolic link, unchanged."""
        self._need(node, Verb.READ)
        if (removed := self._state.directories.removed(node)) is not None:
            return os.readlink(b"", dir_fd=removed)
        parent, name = self._place(node)
        if not self._is_it(node, os.stat(name, dir_fd=parent, follow_symlinks=False)):
            raise path_error(errno.ESTALE, node.path)
        return os.readlink(name, dir_fd=parent)

    def mknod(self, parent: Node, name: bytes, mode: int, rdev: int, caller: RequestContext) -> Attributes:
        """Create a file, fifo or socket, or a device if the host permits it.

        Return its attributes.
        """
        self._may_make(parent, name, Verb.CREATE)
        with _umask(caller):
            os.mknod(name, mode & ~_SET_IDS, rdev, dir_fd=self._state.directories.of(parent))
        self._state.record_name("write", parent, name, "create")
        return self._made(parent, name, caller, mode & _SET_IDS)

    def mkdir(self, parent: Node, name: bytes, mode: int, caller: RequestContext) -> Attributes:
        """Create a directory and return its attributes; the host applies the setgid bit of the parent."""
        self._may_make(parent, name, Verb.CREATE)
        with _umask(caller):
            os.mkdir(name, st.S_IMODE(mode), dir_fd=self._state.directories.of(parent))
        self._state.record_name("write", parent, name, "create")
        return self._made(parent, name, caller)

    def symlink(self, parent: Node, name: bytes, target: bytes, caller: RequestContext) -> Attributes:
        """Create a symbolic link and return its attributes; the target is not checked."""
        self._may_make(parent, name, Verb.CREATE)
        os.symlink(target, name, dir_fd=self._state.directories.of(parent))
        self._state.record_name("write", parent, name, "create")
        return self._made(parent, name, caller)

    def link(self, node: Node, parent: Node, name: bytes) -> Attributes:
        """Create a hard link within the area of the file and return the attributes.

        The principal needs read and write permission on the file, because the new name may have other rights. Raise
        OSError EXDEV between areas.
        """
        self._need(node, Verb.READ | Verb.WRITE)
        self._may_make(parent, name, Verb.CREATE)
        if node.area is not parent.area:
            raise path_error(errno.EXDEV, node.path)
        held = self._held(node)
        source = self._reopen(node) if held is None else held
        try:
            # By descriptor, because the name may lead to another file by now.
            os.link(
                f"/proc/self/fd/{source}", name, dst_dir_fd=self._state.directories.of(parent), follow_symlinks=True
            )
        finally:
            if held is None:
                os.close(source)
        self._state.record_name("write", parent, name, "create")
        return self.lookup(parent, name)

    def unlink(self, parent: Node, name: bytes) -> None:
        """Remove a name.

        A process that has the file open keeps it, also by an O_PATH descriptor, of which the mount receives no request.
        """
        self._may_make(parent, name, Verb.DELETE)
        node = self._state.nodes.named(parent, name)
        held = self._hold_name(node, parent, name)
        try:
            os.unlink(name, dir_fd=self._state.directories.of(parent))
        except BaseException:
            self._keep_held(None, held)
            raise
        self._state.record_name("remove", parent, name, "delete")
        self._state.unlinked(parent, name)
        self._keep_held(node, held)

    def rmdir(self, parent: Node, name: bytes) -> None:
        """Remove an empty directory."""
        self._may_make(parent, name, Verb.DELETE)
        if (node := self._state.nodes.named(parent, name)) is not None:
            with contextlib.suppress(OSError):  # the error of rmdir is more precise
                self._state.directories.of(node)
        os.rmdir(name, dir_fd=self._state.directories.of(parent))
        self._state.record_name("remove", parent, name, "delete")
        self._state.unlinked(parent, name)
        if node is not None:
            self._state.directories.keep_removed(node)

    def rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, flags: int) -> None:
        """Rename within an area; `flags` as of renameat2(2).

        Raise OSError EXDEV between areas, as between any two file systems.
        """
        self._writable(parent)
        self._writable(new_parent)
        self._check_shown(parent, name)
        self._check_shown(new_parent, new_name)
        if parent.area is not new_parent.area:
            raise path_error(errno.EXDEV, new_parent.path)
        self._check_move(parent, name, new_parent, new_name)
        self._carry_marks(parent, name, new_parent, new_name)
        if flags & rooted_fs.RENAME_EXCHANGE:
            self._carry_marks(new_parent, new_name, parent, name)
            self._check_move(new_parent, new_name, parent, name)
        replaced = self._state.nodes.named(new_parent, new_name) if not flags & rooted_fs.RENAME_EXCHANGE else None
        held = self._hold_name(replaced, new_parent, new_name)
        source = os.dup(self._state.directories.of(parent))
        try:
            rooted_fs.rename_at(source, name, self._state.directories.of(new_parent), new_name, flags)
        except BaseException:
            self._keep_held(None, held)
            raise
        finally:
            os.close(source)
        self._state.moved()
        if flags & rooted_fs.RENAME_EXCHANGE:
            self._state.record_name("tree", parent, name, "rename")
            self._state.record_name("tree", new_parent, new_name, "rename")
            self._state.nodes.exchanged(parent, name, new_parent, new_name)
        else:
            self._state.record_name("move", parent, name, "rename", new_parent.text_below(new_name))
            if replaced is not None:
                self._state.kept.end(replaced)
            self._state.nodes.renamed(parent, name, new_parent, new_name)
            self._keep_held(replaced, held)

    def open(self, node: Node, flags: int, *, drop_privileges: bool = False) -> OpenReply:
        """Open a file and return the reply, whose handle is a descriptor.

        The kernel keeps its page cache if the version of the file equals the cached one. Raise OSError EACCES for a
        quarantined file.
        """
        writes = bool(flags & os.O_ACCMODE)
        if writes or flags & os.O_TRUNC:
            self._writable(node)
        self._check_open(node, flags)
        fd, found = self._open_again(node, flags & _OPEN_FLAGS & ~os.O_TRUNC)
        if flags & os.O_TRUNC:
            os.truncate(f"/proc/self/fd/{fd}", 0)  # it may be open for reading only
            if drop_privileges:
                self._drop_set_ids(node, fd)
            found = os.fstat(fd)
        version = attributes.version_of(found)
        keep = node.cached == version
        if self._is_kept_from(fd, flags, node.text):
            os.close(fd)
            raise path_error(errno.EACCES, node.path, WITHHELD)
        node.cached = None if writes else version
        if flags & os.O_TRUNC:
            self._state.written.add(fd)
        if self._state.notes_reads and flags & os.O_ACCMODE != os.O_WRONLY:
            self._state.note("read", node.text)
        return self._opened(fd, node, found, flags, keep=keep)

    def needs_no_asking(self, node: Node, mode: int, size: int) -> bool:
        """Return True for a regular file that the transport may open for reading without a request to the handlers.

        The principal may read it, no handle of it is open, it is not locked, and passthrough does not apply to it.
        """
        state = self._state
        return (
            not node.descriptors
            and not node.locked
            and st.S_ISREG(mode)
            and (state.free or (state.principal.is_person and state.may(node, _READ)))  # quarantine excludes agents
            and node.area is not None
            and not state.is_shared(node.area)
            and not state.handed_over.would_take(mode, size)
        )

    def opened(self, node: Node, fd: int, version: Version) -> None:
        """Add a descriptor with which the transport has opened a node for reading."""
        self._state.files[fd] = node
        node.hold(fd)
        node.cached = version

    def create(
        self, parent: Node, name: bytes, mode: int, flags: int, caller: RequestContext
    ) -> tuple[OpenReply, Attributes]:
        """Create and open a file in one step; return the open reply and the attributes.

        Raise OSError ESTALE if another process has created the file meanwhile: the kernel then repeats the lookup and
        opens it.
        """
        self._may_make(parent, name, Verb.CREATE)
        area = parent.area
        assert area is not None
        directory = self._state.directories.of(parent)
        before = os.umask(caller.umask)  # not by `_umask`, which takes longer than the two calls
        try:
            fd = self._open(
                name,
                (flags & _OPEN_FLAGS & ~os.O_TRUNC) | os.O_CREAT | os.O_EXCL | _SAFE,
                directory,
                st.S_IMODE(mode) & ~_SET_IDS,
            )
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            # Another process has created it, with its own mode and owner: the kernel repeats the lookup and opens it.
            raise path_error(errno.ESTALE, Path((*parent.path.parts, os.fsdecode(name)))) from None
        finally:
            os.umask(before)
        try:
            self._give(parent, fd, caller, mode & _SET_IDS)
            found = os.fstat(fd)
        except BaseException:
            os.close(fd)
            raise
        node = self._state.node_for(parent, name, area, found)
        node.lookups += 1
        self._state.stale(node)
        self._state.written.add(fd)
        self._state.note("create", node.text)
        opened = self._opened(fd, node, found, flags)
        if found.st_size == 0:
            self._state.kept.bare(node)  # a new or empty file has no capability, because writes remove capabilities
        return opened, self.attributes(node, found)

    def write(self, fd: int, offset: int, data: bytes | memoryview, drop_privileges: bool) -> int:
        """Write all of `data` and return its length.

        With O_APPEND the host writes to the current end of the file.
        """
        node = self._state.files[fd]
        if not self._state.may(node, _WRITE):
            self._need(node, Verb.WRITE)
        self._state.written.add(fd)
        if drop_privileges:
            self._drop_set_ids(node, fd)
        done = os.pwrite(fd, data, offset)
        while done < len(data):
            done += os.pwrite(fd, data[done:], offset + done)
        return done

    def allocate(self, fd: int, mode: int, offset: int, length: int, drop_privileges: bool) -> None:
        """Allocate space or punch a hole, as fallocate(2)."""
        node = self._state.files[fd]
        self._need(node, Verb.WRITE)
        if drop_privileges:
            self._drop_set_ids(node, fd)
        rooted_fs.allocate(fd, mode, offset, length)
        self._state.written.add(fd)

    def seek(self, fd: int, offset: int, whence: int) -> int:
        """Return the offset of the next data or hole, as lseek(2) with SEEK_DATA or SEEK_HOLE.

        The position of the descriptor has no meaning, because all reads give their offset.
        """
        self._need(self._state.files[fd], Verb.READ)
        return os.lseek(fd, offset, whence)

    def copy_range(
        self, source: int, offset: int, target: int, target_offset: int, length: int, drop_privileges: bool
    ) -> int:
        """Copy a range between two open files on the host and return the number of bytes copied.

        Some host file systems share the blocks.
        """
        self._need(self._state.files[source], Verb.READ)
        node = self._state.files[target]
        self._need(node, Verb.WRITE)
        if drop_privileges:
            self._drop_set_ids(node, target)
        self._state.written.add(target)
        return os.copy_file_range(source, target, min(length, _MOST_COPIED), offset, target_offset)

    def release(self, fd: int) -> None:
        """Close a handle after its last user has closed it, and record its writes."""
        node = self._state.files.take(fd)
        if self._state.handed_over.release(fd, node) or fd in self._state.written:
            self._state.written.discard(fd)
            self._state.record("write", node)
        node.let_go(fd)
        self._state.uncached.discard(fd)
        if not node.descriptors:
            self._left.pop(node, None)
        if self._state.claims is not None:
            self._state.claims.release(node, fd)
        if node.lookups <= 0:
            self._state.forget(node.number, 0)
        os.close(fd)

    def is_stale(self, node: Node, fd: int) -> bool:
        """Return True if the kernel may cache other content than the file has.

        A process that has locked the file must read the data that the previous lock owner wrote.
        """
        if fd in self._state.uncached or self._state.handed_over.has(fd):
            return False
        found = os.fstat(fd)
        is_recent = not _HAS_FINE_TIMES and time.time_ns() - found.st_mtime_ns < _TICK_NS
        return is_recent or attributes.version_of(found) != self._left.get(node, node.cached)

    async def refresh(self, node: Node) -> None:
        """Remove a file's pages and attributes from the kernel's caches.

        The call runs in a thread, because the kernel may block it.
        """
        self._state.stale(node)
        node.told = None
        if self._state.caches is not None:
            with contextlib.suppress(OSError):  # the kernel has forgotten the node
                await self._state.loop.in_thread(self._state.caches.invalidate_inode, node.number)

    def leave_lock(self, node: Node, fd: int) -> None:
        """Store the version of a file as its lock is released.

        `is_stale` compares the file with this version at the next lock.
        """
        if fd not in self._state.uncached and not self._state.handed_over.has(fd):
            self._left[node] = attributes.version_of(os.fstat(fd))

    def hold_directory(self, node: Node) -> tuple[int, bool]:
        """Return (descriptor, whether the kernel may keep its cached names) of a directory that is being opened.

        The descriptor keeps the directory available after its name is removed.
        """
        fd = os.dup(self._state.directories.of(node))
        node.hold(fd)
        version = attributes.version_of(os.fstat(fd))
        keep, node.cached = node.cached == version, version
        return fd, keep

    def let_go(self, node: Node, fd: int) -> None:
        """Close a descriptor that `hold_directory` returned."""
        node.let_go(fd)
        os.close(fd)
        if node.lookups <= 0:
            self._state.forget(node.number, 0)

    async def fsync(self, fd: int, datasync: bool) -> None:
        """Flush a file to the disk and record its writes.

        The system call runs in a thread, because the disk may be slow and other requests must proceed. Afterwards all
        earlier audit records are durable.
        """
        await self._state.loop.in_thread(os.fdatasync if datasync else os.fsync, fd)
        self._state.notice_written()
        node = self._state.files.get(fd)
        if node is not None and fd in self._state.written:
            self._state.written.discard(fd)
            self._state.record("write", node)
            self._state.record("sync", node)
        self._state.flush_audit()

    async def fsync_directory(self, node: Node) -> None:
        """Flush the names of a directory to the disk."""
        fd = os.open(rooted_fs.magic_path(self._state.directories.of(node), "."), os.O_RDONLY | os.O_DIRECTORY)
        try:
            await self._state.loop.in_thread(os.fsync, fd)
        finally:
            os.close(fd)

    def is_fleeting(self, node: Node) -> bool:
        """Return True for a directory whose names may change without a new modification time.

        Either it has changed within the current tick of the host's clock, or the principal may not see its times.
        """
        if not self._state.free and not self._state.rights(node).lists_below:
            return True
        return time.time_ns() - os.fstat(self._state.directories.of(node)).st_mtime_ns < _TICK_NS

    def names(self, node: Node) -> list[bytes]:
        """Return the names in a directory that exist for the principal."""
        found = os.listdir(os.fsencode(rooted_fs.magic_path(self._state.directories.of(node), ".")))
        area = node.area
        if area is not None and area.hidden:
            found = [name for name in found if not area.hides(node, name)]
        if not self._state.free:
            found = self._state.existing(node, found)
        return found

    def get_xattr(self, node: Node, name: bytes) -> bytes:
        """Return the value of an extended attribute that the host stores."""
        self._need(node, Verb.READ)
        place, follow = self._xattr_place(node)
        return os.getxattr(place, name, follow_symlinks=follow)

    def get_host_xattr(self, node: Node, name: bytes) -> bytes:
        """Return the value of an ACL, a capability or another attribute that only the host interprets.

        An ACL is masked by the mode bits that are shown to the principal.
        """
        if name not in ACLS:
            self._need(node, Verb.READ)
        elif not self._state.rights(node).exists:
            raise path_error(errno.ENOENT, node.path)
        place, follow = self._xattr_place(node)
        try:
            value = os.getxattr(place, name, follow_symlinks=follow)
        except OSError as error:
            raise self._absent_xattr(node, name, error) from None
        if name in ACLS:
            self._state.kept.answer_acls()
            if not self._state.free:
                return mask_acl(value, self._state.true_mode(node, 0o777))
        return value

    def _absent_xattr(self, node: Node, name: bytes, error: OSError) -> OSError:
        """Return the error for an attribute that a file does not have.

        Where the kernel caches no ACLs, `ls -l` would request one for each file. Therefore ACLs are reported as not
        supported until the first one is met. Every program then uses the permissions of the mode.
        """
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            return error
        if name == CAPABILITY:
            self._state.kept.bare(node)
        is_known = name not in ACLS or self._state.kept.answers_acls
        code = errno.ENODATA if is_known else errno.EOPNOTSUPP
        return OSError(code, os.strerror(code))

    def set_xattr(self, node: Node, name: bytes, value: bytes, flags: int, *, drops_setgid: bool = False) -> None:
        """Set an extended attribute of a file.

        The kernel has checked that the caller may set it: `trusted.*` and capabilities require privileges.
        """
        self._writable(node)
        self._need(node, Verb.META)
        self._check_xattr(node, name, value)
        place, follow = self._xattr_place(node)
        os.setxattr(place, name, value, flags, follow_symlinks=follow)
        if name in ACLS:
            self._state.kept.answer_acls()
        if drops_setgid:
            os.chmod(place, st.S_IMODE(os.stat(place).st_mode & ~st.S_ISGID))
        self._after_xattr(node, name)

    def _check_xattr(self, node: Node, name: bytes, value: bytes | None) -> None:
        if name.startswith(NAMESPACE):
            check_attribute(node.path, os.fsdecode(name), value, self._state.principal)
        elif not is_handed_on(name):
            raise path_error(errno.EOPNOTSUPP, node.path)
        elif name not in ACLS and not self._state.principal.is_person:
            raise path_error(errno.EPERM, node.path, "an agent gives no file a privilege")

    def _after_xattr(self, node: Node, name: bytes) -> None:
        if not name.startswith(NAMESPACE):
            self._state.kept.end(node)  # because its attributes are cached there
        self._state.record(_op_of(name), node, "meta")

    def list_xattrs(self, node: Node, *, is_root: bool) -> list[bytes]:
        """Return the names of extended attributes; those of `trusted.*` only for root, as natively."""
        self._need(node, Verb.READ)
        place, follow = self._xattr_place(node)
        found = map(os.fsencode, os.listxattr(place, follow_symlinks=follow))
        return [
            name
            for name in found
            if name.startswith(NAMESPACE) or (is_handed_on(name) and (is_root or not name.startswith(b"trusted.")))
        ]

    def remove_xattr(self, node: Node, name: bytes) -> None:
        """Remove an extended attribute; raise OSError ENODATA if the file does not have it."""
        self._writable(node)
        self._need(node, Verb.META)
        self._check_xattr(node, name, None)
        place, follow = self._xattr_place(node)
        os.removexattr(place, name, follow_symlinks=follow)
        self._after_xattr(node, name)

    # internal

    def _hidden(self, parent: Node, name: bytes) -> Attributes:
        """Record a denied lookup in the audit and return a negative entry."""
        self._state.note("list", parent.text_below(name), outcome="ENOENT")
        return attributes.absent(0)

    def _writable(self, node: Node) -> None:
        if node.area is None or not node.area.writable:
            raise path_error(errno.EROFS, node.path)

    def _need(self, node: Node, verb: Verb) -> None:
        """Check a permission of the principal.

        Raise OSError EACCES without it, or ENOENT if the node does not exist for the principal.
        """
        rights = self._state.rights(node)
        if not rights.allows(verb):
            raise path_error(errno.EACCES if rights.exists else errno.ENOENT, node.path)

    def _check_open(self, node: Node, flags: int) -> None:
        if self._state.free:
            return
        access = flags & os.O_ACCMODE
        if not access and not flags & os.O_TRUNC and self._state.may(node, _READ):
            return
        verb = Verb.READ if access == os.O_RDONLY else Verb.WRITE if access == os.O_WRONLY else Verb.READ | Verb.WRITE
        self._need(node, verb | Verb.WRITE if flags & os.O_TRUNC else verb)

    def _is_kept_from(self, fd: int, flags: int, path: str) -> bool:
        """Return True if an agent would read a quarantined file.

        A file is quarantined by its attribute, its path or its content.
        """
        if self._state.free or self._state.principal.is_person or flags & os.O_ACCMODE == os.O_WRONLY:
            return False
        quarantine = self._state.policy.quarantine
        if path in quarantine.paths or self._is_same(fd, quarantine.contents):
            return True
        try:
            return os.getxattr(fd, QUARANTINED) == b"true"
        except OSError:
            return False  # no such attribute, or no attributes on this file system

    @staticmethod
    def _is_same(fd: int, contents: Mapping[int, Collection[str]]) -> bool:
        """Return True for a copy of a quarantined file.

        The content is read only if its size equals that of a quarantined file.
        """
        if not contents:
            return False
        size = os.fstat(fd).st_size
        known = contents.get(size)
        if known is None:
            return False
        try:
            again = os.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return True
        with open(again, "rb") as file:
            return blob_id(file.read(size + 1)) in known

    def _check_move(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        if self._state.free:
            return
        source, target = self._state.rights_below(parent, name), self._state.rights_below(new_parent, new_name)
        path = Path((*parent.path.parts, os.fsdecode(name)))
        to = Path((*new_parent.path.parts, os.fsdecode(new_name)))
        if not source.exists:
            raise path_error(errno.ENOENT, path)
        found = os.stat(name, dir_fd=self._state.directories.of(parent), follow_symlinks=False)
        try:
            os.stat(new_name, dir_fd=self._state.directories.of(new_parent), follow_symlinks=False)
            replaces = True
        except OSError:
            replaces = False
        check_move(source, target, is_dir=st.S_ISDIR(found.st_mode), replaces=replaces, path=path, to=to)

    def _carry_marks(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        """Copy the marks of a file to the file that an agent renames over it."""
        if self._state.free or self._state.principal.is_person:
            return
        directories = self._state.directories
        try:
            marks = marks_in(rooted_fs.read_xattrs(b"/proc/self/fd/%d/%b" % (directories.of(new_parent), new_name)))
        except OSError:
            return  # nothing is replaced
        source = b"/proc/self/fd/%d/%b" % (directories.of(parent), name) if marks else b""
        for mark, value in marks.items():
            with contextlib.suppress(OSError):  # directories of other owners, and links, have no marks
                os.setxattr(source, mark, value, follow_symlinks=False)

    def _may_make(self, parent: Node, name: bytes, verb: Verb) -> None:
        """Raise OSError EACCES unless the principal has the permission `verb` on a name in a directory."""
        self._writable(parent)
        self._check_shown(parent, name)
        rights = self._state.rights_below(parent, name)
        if not rights.allows(verb):
            hidden = verb is Verb.DELETE and not rights.exists
            path = Path((*parent.path.parts, os.fsdecode(name)))
            raise path_error(errno.ENOENT if hidden else errno.EACCES, path)

    @staticmethod
    def _check_shown(parent: Node, name: bytes) -> None:
        if parent.area is not None and parent.area.hides(parent, name):
            raise path_error(errno.EPERM, parent.path, "the store and its mount points are not part of the tree")

    def _place(self, node: Node) -> tuple[int, bytes]:
        """Return (directory descriptor, name) of a node, for calls relative to a directory.

        The descriptor is valid until the next call.
        """
        if node.top or node.parent is None:
            return self._state.directories.of(node), b"."
        return self._state.directories.of(node.parent), node.name

    def _xattr_place(self, node: Node) -> tuple[bytes, bool]:
        """Return (path, whether to follow links) for the xattr calls.

        An open file is addressed by its descriptor, because it may have no name.
        """
        if (held := self._held(node)) is not None:
            return b"/proc/self/fd/%d" % held, True
        parent, name = self._place(node)
        return b"/proc/self/fd/%d/%b" % (parent, name), False

    def _open_again(self, node: Node, flags: int) -> tuple[int, os.stat_result]:
        """Open a node and return (descriptor, its stat result).

        Raise OSError ESTALE if its name leads to another file: the kernel then repeats the lookup.
        """
        if (held := self._held(node)) is not None:  # independent of its name
            if flags & os.O_ACCMODE:
                self._check_named(node)
            fd = self._open(b"/proc/self/fd/%d" % held, flags | os.O_NONBLOCK | os.O_CLOEXEC)
        else:
            parent, name = self._place(node)
            try:
                fd = self._open(name, flags | _SAFE, parent)
            except FileNotFoundError as error:  # so that an open with O_CREAT can create it again
                raise path_error(errno.ESTALE, node.path) from error
        found = os.fstat(fd)
        if not self._is_it(node, found):
            os.close(fd)
            raise path_error(errno.ESTALE, node.path)
        return fd, found

    def _check_named(self, node: Node) -> None:
        """Raise OSError ESTALE, once, for a file that was replaced or removed on the host.

        The writer then repeats the lookup, and does not write to a file without a name.
        """
        parent = node.parent
        if node.top or parent is None or self._state.nodes.named(parent, node.name) is not node:
            return  # this mount itself has removed the name
        try:
            place, name = self._place(node)
            if self._is_it(node, os.stat(name, dir_fd=place, follow_symlinks=False)):
                return
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
        self._state.unlinked(parent, node.name)
        self._state.directories.keep_removed(node)
        raise path_error(errno.ESTALE, node.path)

    def _open(self, name: bytes, flags: int, parent: int | None = None, mode: int = 0) -> int:
        """Open a file; if the descriptors are exhausted, empty the open file cache and retry."""
        try:
            return os.open(name, flags, mode, dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        self._state.kept.end_all()
        return os.open(name, flags, mode, dir_fd=parent)

    def _held(self, node: Node) -> int | None:
        """Return a descriptor of a node that is, or may be, open; otherwise None."""
        if node.descriptors:
            self._state.kept.end(node)  # which may close the descriptor
        return next(iter(node.descriptors), None) or self._state.directories.removed(node)

    @staticmethod
    def _is_it(node: Node, found: os.stat_result) -> bool:
        """Return False if a stat result belongs to another file than the node: it was replaced on the host."""
        return node.top or node.key[1:3] == (found.st_dev, found.st_ino)  # type: ignore[index]  # keys of disk nodes are tuples

    def _hold_name(self, node: Node | None, parent: Node, name: bytes) -> int | None:
        """Return an O_PATH descriptor of a node that is about to lose this name, or None.

        The kernel soon forgets most such nodes.
        """
        if node is None:
            return None
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._state.directories.of(parent))
        except OSError:  # the call that removes the name fails likewise
            return None
        if self._is_it(node, os.fstat(fd)):
            return fd
        os.close(fd)
        return None

    def _keep_held(self, node: Node | None, held: int | None) -> None:
        """Store the descriptor for a node without a name; otherwise close it."""
        if held is None:
            return
        if node is None or self._state.nodes.has_name(node):
            os.close(held)
            return
        self._state.directories.forget(node)
        self._state.directories.hold_removed(node, held)

    def _reopen(self, node: Node) -> int:
        parent, name = self._place(node)
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        if not self._is_it(node, os.fstat(fd)):
            os.close(fd)
            raise path_error(errno.ESTALE, node.path)
        return fd

    def _truncate(self, node: Node, fh: int | None, size: int) -> None:
        self._state.stale(node)
        if fh is not None and fh in self._state.files:
            os.ftruncate(fh, size)
            return
        fd, _ = self._open_again(node, os.O_WRONLY)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    def _change_owner(self, node: Node, handle: int, uid: int, gid: int) -> None:
        is_link = node.key[3] == st.S_IFLNK  # type: ignore[index]  # keys of disk nodes are tuples
        if is_link and self._state.directories.removed(node) is None:
            parent, name = self._place(node)
            os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        else:
            os.chown(f"/proc/self/fd/{handle}", uid, gid)

    def _change_times(self, node: Node, place: str, wanted: SetattrRequest) -> None:
        is_link = node.key[3] == st.S_IFLNK  # type: ignore[index]  # keys of disk nodes are tuples
        if is_link and self._state.directories.removed(node) is None:
            parent, name = self._place(node)
            utime = functools.partial(os.utime, name, dir_fd=parent, follow_symlinks=False)
        else:
            utime = functools.partial(os.utime, place)
        if wanted.now:
            utime()
        else:
            before = self.stat(node)
            utime(
                ns=(
                    before.st_atime_ns if wanted.atime_ns is None else wanted.atime_ns,
                    before.st_mtime_ns if wanted.mtime_ns is None else wanted.mtime_ns,
                )
            )

    def _made(self, parent: Node, name: bytes, caller: RequestContext, set_ids: int = 0) -> Attributes:
        """Set the owner of a new name and return its attributes."""
        if set_ids or (caller.uid, caller.gid) != (self._uid, self._gid):
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._state.directories.of(parent))
            try:
                self._give(parent, fd, caller, set_ids)
            finally:
                os.close(fd)
        return self.lookup(parent, name)

    def _give(self, parent: Node, fd: int, caller: RequestContext, set_ids: int) -> None:
        """Give a new file to the caller's user and group.

        In a directory with the setgid bit the host has already set the directory's group. The bits `set_ids` are set
        last, because a change of the owner clears them.
        """
        if (caller.uid, caller.gid) != (self._uid, self._gid):
            inherits = os.fstat(self._state.directories.of(parent)).st_mode & st.S_ISGID
            group = -1 if inherits else caller.gid
            if self._uid == 0:
                rooted_fs.change_owner(fd, caller.uid, group)
            elif group != -1:
                with contextlib.suppress(PermissionError):  # a group that the mount process is not in
                    rooted_fs.change_owner(fd, -1, group)
        if set_ids:
            place = f"/proc/self/fd/{fd}"
            os.chmod(place, st.S_IMODE(os.stat(place).st_mode) | set_ids)

    def _drop_set_ids(self, node: Node, place: int | str) -> None:
        """Clear the set-user bit, and the set-group bit of an executable, before its content changes."""
        mode = os.stat(place).st_mode
        kept = mode & ~(st.S_ISUID | (st.S_ISGID if mode & st.S_IXGRP else 0))
        if kept != mode:
            os.chmod(place, st.S_IMODE(kept))
            if self._state.caches is not None:
                with contextlib.suppress(OSError):  # the kernel has forgotten the node
                    self._state.caches.invalidate_attributes(node.number)

    def _opened(self, fd: int, node: Node, found: os.stat_result, flags: int, *, keep: bool = False) -> OpenReply:
        """Add the handle to the node and return the reply to the open."""
        state, access, area = self._state, flags & os.O_ACCMODE, node.area
        assert area is not None
        state.kept.end(node)
        state.files[fd] = node
        node.hold(fd)
        maps_writable = access == os.O_RDWR
        # FLUSH at each close costs a request. Programs lock files that they open for reading and writing; locks through
        # other handles are released when the last descriptor is closed.
        flushes = maps_writable or node.locked
        backing, is_shared = 0, state.is_shared(area)
        if (
            not is_shared
            or state.claims is None
            or state.handed_over.has_file(node)
            or not state.claims.is_claimed(node)
        ):
            backing = state.handed_over.open(fd, node, found, writes=access != os.O_RDONLY, everything=is_shared)
        if backing:
            return OpenReply(fd, backing=backing, flushes=flushes)
        if state.may_be_apart(area, maps_writable=maps_writable):
            state.uncached.add(fd)
            node.cached = None
            return OpenReply(fd, direct_io=True, flushes=flushes)
        if maps_writable and area.writable and state.claims is not None:
            state.claims.add(node, fd)
        return OpenReply(fd, keep_cache=keep, keeps=None if node.locked else node.cached, flushes=flushes)


def _op_of(attribute: bytes) -> str:
    """Return the journal's operation for a change of an attribute.

    Only a person's own change of a mark lifts it.
    """
    return MARK_OP if attribute.decode("utf-8", "replace") in MARKS else "write"


@contextlib.contextmanager
def _umask(caller: RequestContext) -> Iterator[None]:
    """Apply the caller's umask in the host, which uses the default ACL of the directory instead if there is one."""
    if not caller.umask:
        yield
        return
    before = os.umask(caller.umask)
    try:
        yield
    finally:
        os.umask(before)
