"""pyfuse3's table of requests: each goes to the files on disk or to the synthetic ones."""

import errno
import itertools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyfuse3
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, InodeT, RequestContext

from ctxfs.fuse import attributes
from ctxfs.fuse.backed import BackedFiles
from ctxfs.fuse.conversations import SPEAKING
from ctxfs.fuse.guard import guarded
from ctxfs.fuse.inodes import Node
from ctxfs.fuse.state import SYNTHETIC, State
from ctxfs.fuse.synthetic import SyntheticFiles, is_computed
from ctxfs.history.audit import outcome_of
from ctxfs.model.entry import Entry
from ctxfs.model.errors import path_error
from ctxfs.model.path import Path
from ctxfs.rpc.wire import ANSWERED

log = logging.getLogger(__name__)

# handler → as what the audit keeps that it refused
_REFUSED_AS = {
    "lookup": "list",
    "opendir": "list",
    "readdir": "list",
    "mkdir": "create",
    "mknod": "create",
    "symlink": "create",
    "link": "create",
    "unlink": "delete",
    "rmdir": "delete",
    "readlink": "read",
    "getxattr": "read",
    "listxattr": "read",
    "setattr": "meta",
    "setxattr": "meta",
    "removexattr": "meta",
}


@dataclass(slots=True)
class _Listing:
    """An open directory: its names as of the last rewind."""

    node: Node
    held: int | None  # a descriptor, of one on disk
    names: list[bytes] | None = None
    entries: dict[bytes, Entry] = field(default_factory=dict)


class Adapter(pyfuse3.Operations):
    """One mounted tree."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state
        self._disk = BackedFiles(state)
        self._made = SyntheticFiles(state)
        self._listings: dict[int, _Listing] = {}
        self._numbers = itertools.count(1)

    # names

    @guarded
    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Disk first; views and mountpoints are the tree's."""
        parent = self._state.nodes[parent_inode]
        if parent.area is not None and name not in self._state.shape.views:
            return self._disk.lookup(parent, name)
        area = self._state.area_below(parent, name)
        if area is not None:
            return self._disk.lookup_top(parent, name, area)
        return await self._made.lookup(parent, name)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """The kernel's references, handed back."""
        for number, lookups in inode_list:
            self._state.forget(number, lookups)

    @guarded
    async def mkdir(self, parent_inode: InodeT, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        """A directory, a kept question or a task."""
        parent = self._state.nodes[parent_inode]
        if self._on_disk(parent, name):
            return self._disk.mkdir(parent, name, mode, ctx)
        return await self._made.mkdir(parent, name)

    @guarded
    async def mknod(
        self, parent_inode: InodeT, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """Only on disk."""
        return self._disk.mknod(self._disk_parent(parent_inode, name), name, mode, rdev, ctx)

    @guarded
    async def symlink(self, parent_inode: InodeT, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        """Only on disk."""
        return self._disk.symlink(self._disk_parent(parent_inode, name), name, target, ctx)

    @guarded
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """Only on disk, within one area."""
        parent = self._disk_parent(new_parent_inode, new_name)
        return self._disk.link(self._state.nodes[inode], parent, new_name)

    @guarded
    async def unlink(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        """Remove a file."""
        parent = self._state.nodes[parent_inode]
        if self._on_disk(parent, name):
            self._disk.unlink(parent, name)
        else:
            await self._made.remove(parent, name)

    @guarded
    async def rmdir(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        """Remove a directory."""
        parent = self._state.nodes[parent_inode]
        if self._on_disk(parent, name):
            self._disk.rmdir(parent, name)
        else:
            await self._made.remove(parent, name)

    @guarded
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: bytes,
        parent_inode_new: InodeT,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        """NOREPLACE and EXCHANGE included, on disk."""
        old, new = self._state.nodes[parent_inode_old], self._state.nodes[parent_inode_new]
        on_disk = self._on_disk(old, name_old), self._on_disk(new, name_new)
        if on_disk == (True, True):
            self._disk.rename(old, name_old, new, name_new, flags)
        elif on_disk == (False, False):
            await self._made.rename(old, name_old, new, name_new, flags)
        else:
            raise path_error(errno.EXDEV, new.path)

    @guarded
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        """The text of a link."""
        node = self._state.nodes[inode]
        return self._disk.readlink(node) if node.area is not None else await self._made.readlink(node)

    # attributes

    @guarded
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Attributes now."""
        node = self._state.nodes[inode]
        return self._disk.getattr(node) if node.area is not None else await self._made.getattr(node)

    @guarded
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Size, mode, owner, times."""
        node = self._state.nodes[inode]
        if node.area is not None:
            return self._disk.setattr(node, attr, fields, fh)
        return await self._made.setattr(node, attr, fields, fh)

    @guarded
    async def access(self, inode: InodeT, mode: int, ctx: RequestContext) -> bool:
        """The kernel checks by mode bits (default_permissions); this is for file systems that do not let it."""
        return True

    @guarded
    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        """`user.*`: those on disk from there, computed ones and those of synthetic files from the tree."""
        node = self._state.nodes[inode]
        if node.area is not None and not is_computed(name):
            return self._disk.get_xattr(node, name)
        if not name.startswith(b"user."):
            raise OSError(errno.EOPNOTSUPP if name.startswith(b"system.") else errno.ENODATA, "")
        found = (await self._made.metadata(node)).get(os.fsdecode(name))
        if found is None:
            raise OSError(errno.ENODATA, "")
        return found

    @guarded
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[bytes]:
        """Names of `user.*`; computed ones are left out, so that `cp -a`, `mv` and `tar` do not try to set them."""
        node = self._state.nodes[inode]
        if node.area is not None:
            return self._disk.list_xattrs(node)
        names = [os.fsencode(name) for name in await self._made.metadata(node)]
        return [name for name in names if not is_computed(name)]

    @guarded
    async def setxattr(self, inode: InodeT, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """`user.*` of files on disk."""
        self._disk.set_xattr(self._disk_node(inode), name, value)

    @guarded
    async def removexattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        """`user.*` of files on disk."""
        self._disk.remove_xattr(self._disk_node(inode), name)

    @guarded
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        """The host file system that holds the store."""
        found = os.statvfs(self._state.store)
        out = pyfuse3.StatvfsData()
        out.f_bsize, out.f_frsize = found.f_bsize, found.f_frsize
        out.f_blocks, out.f_bfree, out.f_bavail = found.f_blocks, found.f_bfree, found.f_bavail
        out.f_files, out.f_ffree, out.f_favail = found.f_files, found.f_ffree, found.f_favail
        out.f_namemax = found.f_namemax
        if not self._state.free:  # how much others write is not theirs to know
            out.f_bfree, out.f_bavail = (_rounded(free, found.f_frsize) for free in (found.f_bfree, found.f_bavail))
            out.f_files = out.f_ffree = out.f_favail = 0
        return out

    # files

    @guarded
    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        """A descriptor, or a snapshot."""
        node = self._state.nodes[inode]
        return self._disk.open(node, flags) if node.area is not None else await self._made.open(node, flags)

    @guarded
    async def create(
        self, parent_inode: InodeT, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Create and open."""
        parent = self._state.nodes[parent_inode]
        if self._on_disk(parent, name):
            return self._disk.create(parent, name, mode, flags, ctx)
        return await self._made.create(parent, name, flags)

    @guarded
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Bytes from the file, from the snapshot, or of an answer."""
        if fh < SYNTHETIC:
            return self._disk.read(fh, off, size)
        if fh >= SPEAKING:
            return await self._state.conversations.read(fh, off, size)
        return self._made.read(fh, off, size)

    @guarded
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        """Bytes into the file, into the copy, or of a question."""
        if fh < SYNTHETIC:
            return self._disk.write(fh, off, buf)
        if fh >= SPEAKING:
            return await self._state.conversations.write(fh, buf)
        return await self._made.write(fh, off, buf)

    async def flush(self, fh: FileHandleT) -> None:
        """ENOSYS once and the kernel never asks again: a third less for open and close. See `synthetic`."""
        raise pyfuse3.FUSEError(errno.ENOSYS)

    @guarded
    async def release(self, fh: FileHandleT) -> None:
        """The last user has closed."""
        if fh < SYNTHETIC:
            self._disk.release(fh)
        elif fh >= SPEAKING:
            await self._state.conversations.release(fh)
        else:
            await self._made.release(fh)

    @guarded
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        """Durable when it returns; edits of a synthetic file are applied."""
        if fh < SYNTHETIC:
            await self._disk.fsync(fh, datasync)
        elif fh < SPEAKING:
            await self._made.commit(fh)

    # directories

    @guarded
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """The names are read at the first readdir."""
        node = self._state.nodes[inode]
        if not self._state.rights(node).exists:
            raise path_error(errno.ENOENT, node.path)
        number = next(self._numbers)
        self._listings[number] = _Listing(node, self._disk.hold_directory(node) if node.area is not None else None)
        return FileHandleT(number)

    @guarded
    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Names with attributes, from where the last call stopped; a rewind reads the directory again."""
        listing = self._listings[fh]
        if listing.names is None or start_id == 0:
            await self._fill(listing)
        if listing.node.area is not None:
            self._reply_from_disk(listing, start_id, token)
        else:
            self._reply_synthetic(listing, start_id, token)

    @guarded
    async def releasedir(self, fh: FileHandleT) -> None:
        """Close the directory."""
        listing = self._listings.pop(fh, None)
        if listing is not None and listing.held is not None:
            self._disk.let_go(listing.node, listing.held)

    @guarded
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        """Names durable when it returns."""
        node = self._listings[fh].node
        if node.area is not None:
            await self._disk.fsync_directory(node)

    def refused(self, handler: str, error: OSError) -> None:
        """The audit keeps it; what the daemon has refused it has kept already."""
        if ANSWERED not in getattr(error, "__notes__", ()):
            path = Path(tuple(str(error.filename or "").split("/")))
            self._state.note(_REFUSED_AS.get(handler, handler), path, outcome=outcome_of(error))

    # inside

    async def _fill(self, listing: _Listing) -> None:
        if listing.node.area is not None:
            listing.names = self._disk.names(listing.node)
        else:
            listing.entries = {os.fsencode(entry.name): entry for entry in await self._made.entries(listing.node)}
            listing.names = list(listing.entries)

    def _reply_from_disk(self, listing: _Listing, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        node, state = listing.node, self._state
        area = node.area
        assert listing.names is not None and area is not None
        directory = state.directories.of(node)
        for position in range(start_id, len(listing.names)):
            name = listing.names[position]
            try:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except OSError:
                continue  # it vanished since the listing
            child = state.node_for(node, name, area, found)
            entry = self._disk.attributes(child, found)
            if not pyfuse3.readdir_reply(token, name, entry, position + 1):
                break
            child.lookups += 1

    def _reply_synthetic(self, listing: _Listing, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        assert listing.names is not None
        here = listing.node.path
        for position in range(start_id, len(listing.names)):
            name = listing.names[position]
            entry = listing.entries[name]
            area = self._state.area_below(listing.node, name)
            if area is not None:
                child, reply = self._area_entry(listing.node, name, entry)
            else:
                child = self._state.nodes.synthetic(listing.node, name)
                reply = self._made.attributes(child, here / entry.name, entry)
            if not pyfuse3.readdir_reply(token, name, reply, position + 1):
                break
            child.lookups += 1

    def _area_entry(self, parent: Node, name: bytes, entry: Entry) -> tuple[Node, EntryAttributes]:
        """The root of an area in a listing; one that is down is listed as the tree described it."""
        area = self._state.area_below(parent, name)
        assert area is not None
        try:
            found = os.stat(area.root)
        except OSError:
            child = self._state.nodes.synthetic(parent, name)
            return child, attributes.synthetic(child, entry, 0.0)
        child = self._state.top_node(parent, name, area, found)
        return child, self._disk.attributes(child, found)

    def _on_disk(self, parent: Node, name: bytes) -> bool:
        """True when a name in `parent` is the disk's business; mountpoints and views are not."""
        return parent.area is not None and name not in self._state.shape.views

    def _disk_parent(self, inode: InodeT, name: bytes) -> Node:
        node = self._state.nodes[inode]
        if not self._on_disk(node, name):
            raise path_error(errno.EPERM, node.path)
        return node

    def _disk_node(self, inode: InodeT) -> Node:
        node = self._state.nodes[inode]
        if node.area is None:
            raise path_error(errno.EOPNOTSUPP, node.path)
        return node


def _rounded(blocks: int, size: int) -> int:
    """Free blocks, to the gigabyte."""
    unit = max((1 << 30) // max(size, 1), 1)
    return blocks // unit * unit
