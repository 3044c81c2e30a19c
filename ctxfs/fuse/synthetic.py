"""Handlers for synthetic files, which are generated when they are opened.

A handle has a snapshot from the daemon's tree, and edits are put back as a whole file.
The kernel may cache nothing of them, so that the next operation sees the current state. FLUSH is switched off for
speed, so edits are applied as they are written. Held-back edits (a truncation, full pieces of a large file) are applied
when the handle is released and, at the latest, before another request is answered here.
"""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Mapping

from ctxfs.fuse import attributes
from ctxfs.fuse.attributes import Attributes, OpenReply, SetattrRequest
from ctxfs.fuse.inodes import ROOT_NUMBER, Node
from ctxfs.fuse.state import FIRST_SYNTHETIC_HANDLE, State
from ctxfs.fuse.transaction_files import FIRST_TRANSACTION_HANDLE
from ctxfs.model.change import Change, MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.entry import Entry, directory
from ctxfs.model.errors import not_permitted, path_error, read_only
from ctxfs.model.metadata import COMPUTED, PREFIX
from ctxfs.model.path import Path, check_name
from ctxfs.policy import operations
from ctxfs.rpc.frames import ANSWERED
from ctxfs.vfs.branch_paths import BRANCHES, is_branched
from ctxfs.vfs.handles import check_size

log = logging.getLogger(__name__)

_MAX_WRITE_BYTES = 512 * 1024  # the largest write that the kernel sends by any transport: a shorter one ends a write(2)
_PREFIX = PREFIX.encode()
_SEALED_SECONDS = 1.0
_LOOKUP_SECONDS = 0.02
_MAX_PROGRAMS = 1000
_MAX_FOLDERS = 1000
_MAX_SMALL_FILE_BYTES = 1024 * 1024
_MAX_SNAPSHOTS = 16


class SyntheticFiles:
    """Handlers for nodes without an area."""

    def __init__(self, state: State) -> None:
        self._tree = state.tree
        self._loop = state.loop
        self._options = state.options
        self._nodes = state.nodes
        self._mount_table = state.mount_table
        self._access = state.access
        self._cache_policy = state.cache_policy
        self._metadata_cache = state.metadata_cache
        self._handles = state.handles
        self._transaction_files = state.transaction_files
        self._programs: dict[int, tuple[float, bytes] | None] = {}
        self._snapshots: dict[int, bytes] = {}
        self._folders: dict[int, Entry] = {}  # directories that have been looked up, by number

    async def lookup(self, parent: Node, name: bytes) -> Attributes:
        """Look a name up in the tree. Absence is not cached: a mount may appear at any time."""
        path = _child_path(parent, name)
        try:
            entry = await self._stat(path)
        except OSError as error:
            entry = self._cached_folder(self._nodes.node_named(parent, name), error)
        node = self._nodes.synthetic_node(parent, name)
        node.lookups += 1
        return self.attributes(node, path, entry)

    def _cached_folder(self, node: Node | None, error: OSError) -> Entry:
        """Return the last entry of a directory that the kernel has, if the daemon is unreachable; else raise `error`.

        A refusal would make the kernel drop the name, and with it working directories and mounts below.
        """
        folder = self._folders.get(node.number) if node is not None else None
        if folder is None or error.errno != errno.EIO or ANSWERED in getattr(error, "__notes__", ()):
            raise error
        return folder

    async def getattr(self, node: Node) -> Attributes:
        """Return the current attributes."""
        path = node.path
        try:
            entry = await self._stat(path)
        except OSError as error:
            entry = self._cached_folder(node, error)
        return self.attributes(node, path, entry)

    def attributes(self, node: Node, path: Path, entry: Entry) -> Attributes:
        """Return the reply attributes of an entry, with the seconds that the kernel may cache them.

        Directories that only lead to mounts are cached: the daemon reports their changes. Directories in sealed views
        are cached briefly, because each step on the way to an old version would be a request of its own. So are
        programs, which are looked up a dozen times when they start. Other files in sealed views are cached only until
        their open after the lookup.
        """
        if entry.is_dir:
            self._folders[node.number] = entry
            if len(self._folders) > _MAX_FOLDERS:
                del self._folders[next(iter(self._folders))]
        cache_seconds = self._cache_policy.cache_seconds if self._mount_table.is_structure(path) else 0.0
        if node.number == ROOT_NUMBER and self._options.users is not None:
            cache_seconds = 0.0  # the kernel then revalidates the root for each user at every path walk
        if self._mount_table.is_sealed(path):
            is_lasting = entry.is_dir or entry.mode & 0o111
            cache_seconds = _SEALED_SECONDS if is_lasting else _LOOKUP_SECONDS
            if is_lasting and not entry.is_dir:
                self._programs.setdefault(node.number, None)
        # The kernel drops its pages of unopened files when their modification time changes.
        if self._options.reads_without_open and not entry.mtime_ns and not entry.is_dir:
            return attributes.synthetic_attributes(node, entry, cache_seconds, time.time_ns())
        return attributes.synthetic_attributes(node, entry, cache_seconds, entry.mtime_ns)

    async def setattr(self, node: Node, changes: SetattrRequest, fh: int | None) -> Attributes:
        """Apply truncation as an edit, and ignore times; modes and owners can only be set to their current values.

        A new time on a directory, as by `touch`, makes the directory: it keeps a search listed. `mkdir` cannot do that,
        because every search exists already.
        """
        if changes.mode is not None or changes.uid is not None or changes.gid is not None:
            self._check_same_owner_and_mode(await self.getattr(node), changes, node)
        if changes.size is not None and self._mount_table.is_append_only(node.path):
            raise not_permitted(node.path)
        if changes.size is not None and fh is not None and fh >= FIRST_TRANSACTION_HANDLE:
            return await self.getattr(node)
        if changes.size is not None:
            if fh is not None and fh >= FIRST_SYNTHETIC_HANDLE:
                self._handles.truncate(fh - FIRST_SYNTHETIC_HANDLE, changes.size)
            else:
                path = node.path
                check_size(path, changes.size)
                data = await self._read(path)
                await self._apply(Put(path, data[: changes.size].ljust(changes.size, b"\0")))
        path = node.path
        has_times = changes.sets_current_time or changes.mtime_ns is not None
        if has_times and changes.size is None and (await self._stat(path)).is_dir:
            with contextlib.suppress(FileExistsError, PermissionError):
                await self._apply(MakeDir(path))
        return await self.getattr(node)

    @staticmethod
    def _check_same_owner_and_mode(current: Attributes, changes: SetattrRequest, node: Node) -> None:
        """Raise EPERM unless the mode and owner are the current ones.

        Programs that replace a file give the new one the mode and owner of the old one.
        """
        if (
            (changes.mode is not None and changes.mode & 0o7777 != current.mode & 0o7777)
            or changes.uid not in (None, current.stat.st_uid)
            or changes.gid not in (None, current.stat.st_gid)
        ):
            raise path_error(errno.EPERM, node.path)

    async def readlink(self, node: Node) -> bytes:
        """Return the target of a link."""
        return os.fsencode((await self._stat(node.path)).target)

    async def open(self, node: Node, flags: int, *, may_call: bool = True) -> OpenReply:
        """Open a file with a snapshot of its content, or a transaction file."""
        path = node.path
        is_writing = bool(flags & os.O_ACCMODE)
        if is_writing:
            entry = await self._stat(path)
            if not entry.answers and self._mount_table.is_sealed(path):
                raise read_only(path)
            if entry.derived or not entry.mode & 0o222:
                raise path_error(errno.EACCES, path)
            if entry.answers and not may_call:
                raise path_error(errno.EACCES, path, "tools run as the user that has mounted")
            if entry.answers:
                is_readable = flags & os.O_ACCMODE == os.O_RDWR
                return OpenReply(self._transaction_files.open(path, is_readable=is_readable), direct_io=True)
        if is_writing and self._mount_table.is_append_only(path):
            _check_append_flags(path, flags)
            return _open_reply(self._handles.add_appending(path))
        if node.number in self._programs:
            return await self._open_program(node)
        is_truncated = bool(flags & os.O_TRUNC)
        data = b"" if is_truncated else await self._read(path)
        handle = self._handles.add(path, data, writable=is_writing, dirty=is_truncated)
        return _open_reply(handle)

    async def _open_program(self, node: Node) -> OpenReply:
        """Open a program, whose text is cached briefly here, and by the kernel until it is invalidated.

        The content of a program never changes while it exists.
        """
        program, now = self._programs[node.number], time.monotonic()
        if program is None or now > program[0]:
            if len(self._programs) > _MAX_PROGRAMS:
                self._programs.clear()
            program = self._programs[node.number] = now + _SEALED_SECONDS, await self._read(node.path)
        handle = self._handles.add(node.path, program[1], writable=False)
        return OpenReply(FIRST_SYNTHETIC_HANDLE + handle, keep_cache=True)

    async def create(self, parent: Node, name: bytes, flags: int) -> tuple[OpenReply, Attributes]:
        """Create an empty file, if the mount accepts one there, and open it."""
        path = _child_path(parent, name)
        is_append_only = self._mount_table.is_append_only(path)
        if is_append_only:
            _check_append_flags(path, flags)
        await self._apply(Put(path, b""))
        entry = await self.lookup(parent, name)
        if is_append_only:
            return _open_reply(self._handles.add_appending(path)), entry
        return _open_reply(self._handles.add(path, b"", writable=True)), entry

    async def metadata(self, node: Node) -> Mapping[str, bytes]:
        """Return the extended attributes of a file from the tree, also for a file on disk.

        For a file on disk they may lag its last write by a moment.
        """
        path, now = node.path, time.monotonic()
        if is_in_branch(node):  # no push reports its changes
            await self.commit_pending()
            branched: Mapping[str, bytes] = await self._loop.call(self._tree.metadata, path)
            return branched
        if (cached := self._metadata_cache.get(path)) is not None:
            return cached
        metadata: Mapping[str, bytes] = await self._loop.call(self._tree.metadata, path)
        self._metadata_cache.put(path, metadata, now)
        return metadata

    async def get_xattr(self, node: Node, name: bytes) -> bytes:
        """Return an extended attribute. Raise ENODATA if the tree has none of that name."""
        value = (await self.metadata(node)).get(os.fsdecode(name))
        if value is None:
            raise OSError(errno.ENODATA, "")
        return value

    async def set_xattr(self, node: Node, name: bytes, value: bytes | None, flags: int) -> None:
        """Set or remove (None) an attribute of a file in a branch; `flags` as of setxattr(2)."""
        if not name.startswith(b"user."):
            raise path_error(errno.EOPNOTSUPP, node.path)
        if flags:
            is_there = os.fsdecode(name) in await self.metadata(node)
            if flags & os.XATTR_CREATE and is_there:
                raise path_error(errno.EEXIST, node.path)
            if flags & os.XATTR_REPLACE and not is_there:
                raise path_error(errno.ENODATA, node.path)
        await self._apply(SetMeta(node.path, os.fsdecode(name), value))

    async def list_xattrs(self, node: Node) -> list[bytes]:
        """Return the names of extended attributes, without the computed ones."""
        names = [os.fsencode(name) for name in await self.metadata(node)]
        return [name for name in names if not is_computed(name)]

    def read(self, fh: int, offset: int, size: int) -> bytes:
        """Return a part of the snapshot. Raise EACCES once the principal may no longer read the file."""
        if not self._access.is_unrestricted:
            path = self._handles.path(fh - FIRST_SYNTHETIC_HANDLE)
            if ".search" not in path.parts and not self._access.policy.is_allowed(
                self._access.principal, operations.READ, path
            ):
                raise path_error(errno.EACCES, path)
        return self._handles.read(fh - FIRST_SYNTHETIC_HANDLE, offset, size)

    async def read_unopened(self, node: Node, offset: int, size: int) -> bytes:
        """Return a part of a file that has not been opened.

        A read at offset 0 takes a new snapshot; other reads continue in the last one.
        """
        snapshot = self._snapshots.get(node.number)
        if snapshot is None or offset == 0:
            snapshot = self._snapshots[node.number] = await self._read(node.path)
            if len(self._snapshots) > _MAX_SNAPSHOTS:
                del self._snapshots[next(iter(self._snapshots))]
        return snapshot[offset : offset + size]

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        """Write to the copy, and put it into the tree: every client sees the data when the write returns.

        Full pieces of a large file are held back until the short piece that ends the write, or until release: each
        commit sends the whole file.
        """
        handle = fh - FIRST_SYNTHETIC_HANDLE
        written = self._handles.write(handle, offset, data)
        if len(data) < _MAX_WRITE_BYTES or self._handles.size(handle) <= _MAX_SMALL_FILE_BYTES:
            await self.commit(fh)
        return written

    async def commit(self, fh: int) -> None:
        """Put the edits into the tree now. If the tree refuses them, discard them and raise its error."""
        handle = fh - FIRST_SYNTHETIC_HANDLE
        try:
            await self._loop.call(self._handles.commit, handle, False)
        except OSError:
            self._handles.discard_edits(handle)
            raise

    async def release(self, fh: int) -> None:
        """Put the edits into the tree and close the handle. A failure is logged, because the caller has gone."""
        await self._commit_handle(fh - FIRST_SYNTHETIC_HANDLE, last=True)
        self._handles.close(fh - FIRST_SYNTHETIC_HANDLE)

    async def mkdir(self, parent: Node, name: bytes) -> Attributes:
        """Make a directory, such as a saved search or a task."""
        await self._apply(MakeDir(_child_path(parent, name)))
        return await self.lookup(parent, name)

    async def remove(self, parent: Node, name: bytes) -> None:
        """Remove a file or directory, for unlink and rmdir: the mount decides which it accepts."""
        await self._apply(Remove(_child_path(parent, name)))
        self._nodes.remove_name(parent, name)

    async def rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, flags: int) -> None:
        """Move a file within one mount. Raise EINVAL if there are flags."""
        if flags:
            raise path_error(errno.EINVAL, parent.path)
        await self._apply(Move(_child_path(parent, name), _child_path(new_parent, new_name)))
        # A synthetic node is identified by its name: the next lookup makes a new node.
        self._nodes.remove_name(parent, name)
        self._nodes.remove_name(new_parent, new_name)

    async def entries(self, node: Node) -> list[Entry]:
        """Return the current entries of a directory."""
        await self.commit_pending()
        path = node.path
        try:
            return list(await self._loop.call(self._tree.list, path))
        except OSError as error:
            if error.errno != errno.EIO or not self._mount_table.is_structure(path):
                raise
            return [directory(name) for name in self._structure_below(path)]

    def _structure_below(self, path: Path) -> list[str]:
        """Return the visible names that lead from a structural directory to mount points, sorted."""
        names = self._mount_table.names_below(path)
        return [name for name in names if not name.startswith(".") and self._access.rights_at(path / name).exists]

    async def commit_pending(self) -> None:
        """Apply the edits of handles that are not released yet."""
        for handle in self._handles.pending:
            await self._commit_handle(handle)

    async def _commit_handle(self, handle: int, *, last: bool = False) -> None:
        try:
            await self._loop.call(self._handles.commit, handle, last)
        except OSError as error:
            if handle not in self._handles.pending:
                return  # the concurrent commit has reported the error
            path = self._handles.path(handle)
            self._handles.discard_edits(handle)
            log.warning("the data that was written to '%s' was refused: %s", path, error.strerror)

    async def _stat(self, path: Path) -> Entry:
        await self.commit_pending()
        try:
            entry: Entry = await self._loop.call(self._tree.stat, path)
        except OSError as error:
            # Without a daemon the directories that lead to files on disk stay reachable.
            if error.errno != errno.EIO or not self._mount_table.is_structure(path):
                raise
            return directory(path.name)
        return entry

    async def _read(self, path: Path) -> bytes:
        await self.commit_pending()
        data: bytes = await self._loop.call(self._tree.read, path)
        return data

    async def _apply(self, change: Change) -> None:
        await self.commit_pending()
        await self._loop.call(self._tree.apply, change)


def _check_append_flags(path: Path, flags: int) -> None:
    if not flags & os.O_APPEND or flags & os.O_TRUNC:
        raise not_permitted(path)


def is_in_branch(node: Node) -> bool:
    """Return True for a synthetic node of a branch: below `.branches`, or in an area that a host folder backs on main."""
    if node.area is not None:
        return False
    path = node.path
    return is_branched(path) or (path.parts[:1] == (BRANCHES,) and is_branched(Path(path.parts[2:])))


def is_computed(name: bytes) -> bool:
    """Return True for an attribute that no file stores: the tree computes it on read."""
    return name.startswith(_PREFIX) and os.fsdecode(name[len(_PREFIX) :]) in COMPUTED


def _child_path(parent: Node, name: bytes) -> Path:
    return Path((*parent.path.parts, check_name(os.fsdecode(name))))


def _open_reply(handle: int) -> OpenReply:
    # direct_io: the size may change between stat and read; the snapshot's size counts
    return OpenReply(FIRST_SYNTHETIC_HANDLE + handle, direct_io=True)
