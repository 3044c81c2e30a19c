"""Names of backed files: lookup, create, rename, links and directories, relative to directory descriptors.

No call follows a link, and none needs an RPC.
"""

import contextlib
import errno
import os
import stat as st
import time

from ctxfs.fuse import attributes
from ctxfs.fuse.access import check_visible, check_writable
from ctxfs.fuse.attributes import Attributes, OpenReply, RequestContext
from ctxfs.fuse.backed_io import OPEN_FLAGS, TICK_NS, BackedIO
from ctxfs.fuse.backed_xattrs import BackedAttributes
from ctxfs.fuse.inodes import Area, Node
from ctxfs.fuse.interfaces import Answer
from ctxfs.fuse.node_fds import SAFE_FLAGS
from ctxfs.fuse.state import State
from ctxfs.model.errors import path_error
from ctxfs.model.path import Path
from ctxfs.policy import operations
from ctxfs.store import frozen_files, rooted_fs
from ctxfs.versions.marks import marks_in
from ctxfs.vfs.access_control import check_move

# Entries of a moved directory that are searched for frozen files at once, in about 4 ms.
_MAX_SEARCHED_FILES = 1000
_SET_IDS = st.S_ISUID | st.S_ISGID


class BackedFiles:
    """Request handlers for the names of nodes with an area.

    `area` is an argument where the node itself may belong to another area.
    """

    def __init__(self, state: State, io: BackedIO, attributes: BackedAttributes) -> None:
        self._io = io
        self._attributes = attributes
        self._loop = state.loop
        self._nodes = state.nodes
        self._directories = state.directories
        self._node_fds = state.node_fds
        self._open_file_cache = state.open_file_cache
        self._access = state.access
        self._cache_policy = state.cache_policy
        self._recorder = state.recorder
        self._uid, self._gid = os.geteuid(), os.getegid()

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
        if self._io.can_open_directly(node, stat.st_mode, stat.st_size):
            self._open_file_cache.expect(self._directories.fd_for(parent), [node])
        return self._attributes.attributes(node, stat)

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
        return self._attributes.attributes(node, stat)

    def readlink(self, node: Node) -> bytes:
        """Return the target of a symbolic link, unchanged."""
        self._access.check_permission(node, operations.READ)
        if (removed := self._directories.removed_fd(node)) is not None:
            return os.readlink(b"", dir_fd=removed)
        parent, name = self._node_fds.locate(node)
        if not self._node_fds.is_node(node, os.stat(name, dir_fd=parent, follow_symlinks=False)):
            raise path_error(errno.ESTALE, node.path)
        return os.readlink(name, dir_fd=parent)

    def mknod(self, parent: Node, name: bytes, mode: int, rdev: int, caller: RequestContext) -> Attributes:
        """Create a file, fifo or socket, or a device if the host permits it.

        Return its attributes.
        """
        self._access.check_name_permission(parent, name, operations.CREATE)
        with _Umask(caller.umask):
            os.mknod(name, mode & ~_SET_IDS, rdev, dir_fd=self._directories.fd_for(parent))
        self._recorder.record_name("write", parent, name, "create")
        return self._finish_creation(parent, name, caller, mode & _SET_IDS)

    def mkdir(self, parent: Node, name: bytes, mode: int, caller: RequestContext) -> Attributes:
        """Create a directory and return its attributes; the host applies the setgid bit of the parent."""
        self._access.check_name_permission(parent, name, operations.CREATE)
        with _Umask(caller.umask):
            os.mkdir(name, st.S_IMODE(mode), dir_fd=self._directories.fd_for(parent))
        self._recorder.record_name("write", parent, name, "create")
        return self._finish_creation(parent, name, caller)

    def symlink(self, parent: Node, name: bytes, target: bytes, caller: RequestContext) -> Attributes:
        """Create a symbolic link and return its attributes; the target is not checked."""
        self._access.check_name_permission(parent, name, operations.CREATE)
        os.symlink(target, name, dir_fd=self._directories.fd_for(parent))
        self._recorder.record_name("write", parent, name, "create")
        return self._finish_creation(parent, name, caller)

    def link(self, node: Node, parent: Node, name: bytes) -> Attributes:
        """Create a hard link within the area of the file and return the attributes.

        The principal needs read and write permission on the file, because the new name may have other rights. Raise
        OSError EXDEV between areas.
        """
        self._access.check_permission(node, operations.LINK)
        self._access.check_name_permission(parent, name, operations.CREATE)
        if node.area is not parent.area:
            raise path_error(errno.EXDEV, node.path)
        fd = self._node_fds.find_open_fd(node)
        source = self._node_fds.open_path(node) if fd is None else fd
        path = f"/proc/self/fd/{source}"
        try:
            if frozen_files.is_frozen(path, follows=True):
                raise frozen_files.FrozenFile(node.path)
            # By descriptor, because the name may lead to another file by now.
            os.link(path, name, dst_dir_fd=self._directories.fd_for(parent), follow_symlinks=True)
        finally:
            if fd is None:
                os.close(source)
        self._recorder.record_name("write", parent, name, "create")
        return self.lookup(parent, name)

    def unlink(self, parent: Node, name: bytes) -> None:
        """Remove a name.

        A process that has the file open keeps it, also by an O_PATH descriptor, of which the mount receives no request.
        """
        self._access.check_name_permission(parent, name, operations.REMOVE)
        self._check_changeable(parent, name)
        node = self._nodes.node_named(parent, name)
        fd = self._node_fds.open_before_removal(node, parent, name)
        try:
            os.unlink(name, dir_fd=self._directories.fd_for(parent))
        except BaseException:
            self._node_fds.keep_or_close(None, fd)
            raise
        self._recorder.record_name("remove", parent, name, "delete")
        self._node_fds.remove_name(parent, name)
        self._node_fds.keep_or_close(node, fd)

    def rmdir(self, parent: Node, name: bytes) -> None:
        """Remove an empty directory."""
        self._access.check_name_permission(parent, name, operations.REMOVE)
        if (node := self._nodes.node_named(parent, name)) is not None:
            with contextlib.suppress(OSError):  # the error of rmdir is more precise
                self._directories.fd_for(node)
        os.rmdir(name, dir_fd=self._directories.fd_for(parent))
        self._recorder.record_name("remove", parent, name, "delete")
        self._node_fds.remove_name(parent, name)
        if node is not None:
            self._directories.keep_removed(node)

    def rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, flags: int) -> Answer[None]:
        """Rename within an area; `flags` as of renameat2(2).

        Raise OSError EXDEV between areas, as between any two file systems. A large directory is searched for frozen
        files in a thread.
        """
        self._check_rename(parent, name, new_parent, new_name, flags)
        moved = [(parent, name)]
        if flags & rooted_fs.RENAME_EXCHANGE:
            moved.append((new_parent, new_name))
        else:
            self._check_changeable(new_parent, new_name)
        large = [names for names in moved if not self._has_only_changeable(*names)]
        if large:
            return self._rename_large(large, parent, name, new_parent, new_name, flags)
        self._rename(parent, name, new_parent, new_name, flags)
        return None

    def _check_rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, flags: int) -> None:
        """Raise the errors of a rename that follow from the areas and the rights of the principal."""
        check_writable(parent)
        check_writable(new_parent)
        check_visible(parent, name)
        check_visible(new_parent, new_name)
        if parent.area is not new_parent.area:
            raise path_error(errno.EXDEV, new_parent.path)
        self._check_move(parent, name, new_parent, new_name)
        if flags & rooted_fs.RENAME_EXCHANGE:
            self._check_move(new_parent, new_name, parent, name)

    async def _rename_large(
        self,
        directories: list[tuple[Node, bytes]],
        parent: Node,
        name: bytes,
        new_parent: Node,
        new_name: bytes,
        flags: int,
    ) -> None:
        """Rename directories with very many files below."""
        for above, inner in directories:
            fd = os.dup(self._directories.fd_for(above))
            try:
                await self._loop.in_thread(frozen_files.check_movable, fd, inner, above.path_text_below(inner))
            finally:
                os.close(fd)
        self._check_rename(parent, name, new_parent, new_name, flags)
        self._rename(parent, name, new_parent, new_name, flags)

    def _check_changeable(self, parent: Node, name: bytes) -> None:
        """Raise OSError EPERM for a frozen file."""
        if frozen_files.is_frozen(self._magic_path(parent, name)):
            raise frozen_files.FrozenFile(parent.path_text_below(name))

    def _magic_path(self, parent: Node, name: bytes) -> bytes:
        """Return a path for calls that take no directory descriptor; l-calls do not follow the last component."""
        return b"/proc/self/fd/%d/%b" % (self._directories.fd_for(parent), name)

    def _has_only_changeable(self, parent: Node, name: bytes) -> bool:
        """Raise OSError EPERM for a frozen file, or a directory above one; return False for a very large directory."""
        node = self._nodes.node_named(parent, name)
        if node is not None and node.disk_key.kind != st.S_IFDIR:
            self._check_changeable(parent, name)
            return True
        is_found = frozen_files.find_frozen(self._directories.fd_for(parent), name, _MAX_SEARCHED_FILES)
        if is_found:
            raise frozen_files.FrozenFile(parent.path_text_below(name))
        return is_found is not None

    def _rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, flags: int) -> None:
        self._copy_marks(parent, name, new_parent, new_name)
        if flags & rooted_fs.RENAME_EXCHANGE:
            self._copy_marks(new_parent, new_name, parent, name)
        else:
            frozen_files.keep_retired_state(self._magic_path(new_parent, new_name), self._magic_path(parent, name))
        replaced = self._nodes.node_named(new_parent, new_name) if not flags & rooted_fs.RENAME_EXCHANGE else None
        fd = self._node_fds.open_before_removal(replaced, new_parent, new_name)
        is_one_directory = parent is new_parent
        source = self._directories.fd_for(parent)
        source = source if is_one_directory else os.dup(source)  # the next call may close it
        try:
            rooted_fs.rename_at(source, name, self._directories.fd_for(new_parent), new_name, flags)
        except BaseException:
            self._node_fds.keep_or_close(None, fd)
            raise
        finally:
            if not is_one_directory:
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
            self._node_fds.keep_or_close(replaced, fd)

    def create(
        self, parent: Node, name: bytes, mode: int, flags: int, caller: RequestContext
    ) -> tuple[OpenReply, Attributes]:
        """Create and open a file in one step; return the open reply and the attributes.

        Raise OSError ESTALE if another process has created the file meanwhile: the kernel then repeats the lookup and
        opens it.
        """
        self._access.check_name_permission(parent, name, operations.CREATE)
        area = parent.area
        assert area is not None
        directory = self._directories.fd_for(parent)
        host_flags = (flags & OPEN_FLAGS & ~os.O_TRUNC) | os.O_CREAT | os.O_EXCL | SAFE_FLAGS
        try:
            with _Umask(caller.umask):
                fd = self._node_fds.open_name(name, host_flags, directory, st.S_IMODE(mode) & ~_SET_IDS)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            # Another process has created it, with its own mode and owner: the kernel repeats the lookup and opens it.
            raise path_error(errno.ESTALE, Path((*parent.path.parts, os.fsdecode(name)))) from None
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
        reply = self._io.add_handle(fd, node, stat, flags)
        if stat.st_size == 0:
            # A new or empty file has no capability, because writes remove capabilities.
            self._open_file_cache.mark_without_capability(node)
        return reply, self._attributes.attributes(node, stat)

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
        return time.time_ns() - os.fstat(self._directories.fd_for(node)).st_mtime_ns < TICK_NS

    def names(self, node: Node) -> list[bytes]:
        """Return the names in a directory that exist for the principal."""
        names = os.listdir(os.fsencode(rooted_fs.magic_path(self._directories.fd_for(node), ".")))
        area = node.area
        if area is not None and area.hidden:
            names = [name for name in names if not area.hides(node, name)]
        if not self._access.is_unrestricted:
            names = self._access.visible_names(node, names)
        return names

    def _deny_lookup(self, parent: Node, name: bytes) -> Attributes:
        """Record a denied lookup in the audit and return a negative entry."""
        self._recorder.audit("list", parent.path_text_below(name), outcome="ENOENT")
        return attributes.negative_entry(0)

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
        try:
            marks = marks_in(rooted_fs.read_xattrs(self._magic_path(new_parent, new_name)))
        except OSError:
            return  # nothing is replaced
        source = self._magic_path(parent, name) if marks else b""
        for mark, value in marks.items():
            with contextlib.suppress(OSError):  # directories of other owners, and links, have no marks
                os.setxattr(source, mark, value, follow_symlinks=False)

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


class _Umask:
    """The caller's umask in the host, which uses the default ACL of the directory instead, if there is one.

    A class, because entering a generator takes longer than the two system calls.
    """

    __slots__ = ("_previous", "_umask")

    def __init__(self, umask: int) -> None:
        self._umask = umask

    def __enter__(self) -> None:
        self._previous = os.umask(self._umask)

    def __exit__(self, *error: object) -> None:
        os.umask(self._previous)
