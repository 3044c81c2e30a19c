"""The `trio` transport: pyfuse3 reads the requests, and its handlers run under trio.

It serves kernels that the `direct` transport does not support. The `direct` transport imports none of this.
"""

import errno
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from types import CoroutineType
from typing import Any

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, InodeT, RequestContext

from ctxfs.fuse import attributes
from ctxfs.fuse.attributes import Attributes, OpenReply, SetattrRequest
from ctxfs.fuse.interfaces import BackingFiles, DirectoryEntries, OpenCacheBackend
from ctxfs.fuse.mounting import KernelMount
from ctxfs.fuse.operations import Operations
from ctxfs.fuse.transports.errors import errno_of
from ctxfs.fuse.transports.transport import Background
from ctxfs.model.errors import CommandError
from ctxfs.threads import blocking


class _PyfuseHandlers(pyfuse3.Operations):
    """The table of request handlers for pyfuse3, in front of `Operations`.

    An exception other than FUSEError would end the mount, so all are translated.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, operations: Operations) -> None:
        super().__init__()
        self._operations = operations

    async def _call_operation(self, request: str, *args: Any) -> Any:
        try:
            result = getattr(self._operations, request)(*args)
            return await result if type(result) is CoroutineType else result
        except Exception as error:
            raise pyfuse3.FUSEError(errno_of(error, request, self._operations)) from None

    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        return _to_entry_attributes(await self._call_operation("lookup", parent_inode, name))

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        self._operations.forget(inode_list)

    async def mkdir(self, parent_inode: InodeT, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        return _to_entry_attributes(await self._call_operation("mkdir", parent_inode, name, mode, _to_context(ctx)))

    async def mknod(
        self, parent_inode: InodeT, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        return _to_entry_attributes(
            await self._call_operation("mknod", parent_inode, name, mode, rdev, _to_context(ctx))
        )

    async def symlink(self, parent_inode: InodeT, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        return _to_entry_attributes(await self._call_operation("symlink", parent_inode, name, target, _to_context(ctx)))

    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        return _to_entry_attributes(await self._call_operation("link", inode, new_parent_inode, new_name))

    async def unlink(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        await self._call_operation("unlink", parent_inode, name)

    async def rmdir(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        await self._call_operation("rmdir", parent_inode, name)

    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: bytes,
        parent_inode_new: InodeT,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        await self._call_operation("rename", parent_inode_old, name_old, parent_inode_new, name_new, flags)

    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        text: bytes = await self._call_operation("readlink", inode)
        return text

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return _to_entry_attributes(await self._call_operation("getattr", inode))

    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        changes = SetattrRequest(
            attr.st_mode if fields.update_mode else None,
            attr.st_uid if fields.update_uid else None,
            attr.st_gid if fields.update_gid else None,
            attr.st_size if fields.update_size else None,
            attr.st_atime_ns if fields.update_atime else None,
            attr.st_mtime_ns if fields.update_mtime else None,
        )
        return _to_entry_attributes(await self._call_operation("setattr", inode, changes, fh))

    async def access(self, inode: InodeT, mode: int, ctx: RequestContext) -> bool:
        try:
            await self._call_operation("access", inode, mode)
        except pyfuse3.FUSEError as error:
            if error.errno != errno.EACCES:
                raise
            return False
        return True

    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        value: bytes = await self._call_operation("getxattr", inode, name)
        return value

    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[bytes]:
        names: Sequence[bytes] = await self._call_operation("listxattr", inode, ctx.uid == 0)
        return names

    async def setxattr(self, inode: InodeT, name: bytes, value: bytes, ctx: RequestContext) -> None:
        await self._call_operation("setxattr", inode, name, value)

    async def removexattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        await self._call_operation("removexattr", inode, name)

    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        stat = self._operations.statfs()
        reply = pyfuse3.StatvfsData()
        reply.f_bsize, reply.f_frsize = stat.bsize, stat.frsize
        reply.f_blocks, reply.f_bfree, reply.f_bavail = stat.blocks, stat.free, stat.available
        reply.f_files, reply.f_ffree, reply.f_favail = stat.files, stat.files_free, stat.files_free
        reply.f_namemax = stat.name_max
        return reply

    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        return _to_file_info(await self._call_operation("open", inode, flags, ctx.uid))

    async def create(
        self, parent_inode: InodeT, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        opened, entry = await self._call_operation("create", parent_inode, name, mode, flags, _to_context(ctx))
        return _to_file_info(opened), _to_entry_attributes(entry)

    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        data: bytes = await self._call_operation("read", fh, off, size)
        return data

    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        written: int = await self._call_operation("write", fh, off, buf)
        return written

    async def flush(self, fh: FileHandleT) -> None:
        """Raise ENOSYS, after which the kernel sends no FLUSH: open and close take a third less.

        `synthetic` describes when edits are applied instead.
        """
        raise pyfuse3.FUSEError(errno.ENOSYS)

    async def release(self, fh: FileHandleT) -> None:
        await self._call_operation("release", fh)

    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self._call_operation("fsync", fh, datasync)

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        opened: OpenReply = await self._call_operation("opendir", inode)
        return FileHandleT(opened.fh)

    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        await self._call_operation("readdir", fh, start_id, _ReplyEntries(token))

    async def releasedir(self, fh: FileHandleT) -> None:
        await self._call_operation("releasedir", fh)

    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self._call_operation("fsyncdir", fh)


class _ReplyEntries(DirectoryEntries):
    """The entries of a directory, in a reply of pyfuse3."""

    def __init__(self, token: pyfuse3.ReaddirToken) -> None:
        self._token = token

    def add(self, name: bytes, attributes: Attributes, cookie: int) -> bool:
        """Implement `DirectoryEntries.add`."""
        return bool(pyfuse3.readdir_reply(self._token, name, _to_entry_attributes(attributes), cookie))


def _to_context(ctx: RequestContext) -> attributes.RequestContext:
    return attributes.RequestContext(ctx.uid, ctx.gid)


def _to_entry_attributes(attributes: Attributes) -> EntryAttributes:
    stat, entry = attributes.stat, pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(attributes.number)
    entry.entry_timeout = entry.attr_timeout = attributes.cache_seconds
    entry.st_mode = pyfuse3.ModeT(attributes.mode)
    entry.st_nlink, entry.st_rdev = stat.st_nlink, stat.st_rdev
    entry.st_uid, entry.st_gid = stat.st_uid, stat.st_gid
    entry.st_size, entry.st_blksize, entry.st_blocks = stat.st_size, stat.st_blksize, stat.st_blocks
    entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns = stat.st_atime_ns, stat.st_mtime_ns, stat.st_ctime_ns
    return entry


def _to_file_info(reply: OpenReply) -> FileInfo:
    return FileInfo(fh=FileHandleT(reply.fh), direct_io=reply.direct_io, keep_cache=reply.keep_cache)


class TrioTransport:
    """The transport that runs everything in one trio loop."""

    backing_files: BackingFiles | None = None
    open_cache_backend: OpenCacheBackend | None = None
    reads_by_number = False
    can_expire = False
    checks_acls = False

    def __init__(self) -> None:
        self._mounted: KernelMount | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    async def call(self, function: Callable[..., Awaitable[Any]], *args: object) -> Any:
        """Await the function: handlers run under trio already."""
        return await function(*args)

    async def in_thread(self, function: Callable[..., Any], *args: object) -> Any:
        """Implement `Loop.in_thread`."""
        return await blocking(function, *args)

    def run_soon(self, function: Callable[..., None], *args: object) -> None:
        """Implement `Loop.run_soon` with trio's token."""
        assert self._token is not None
        self._token.run_sync_soon(function, *args)

    def run(self, background: Background, start: Callable[[], None]) -> None:
        """Implement `Transport.run`."""
        trio.run(self._run, background, start)

    def attach(self, operations: Operations, mounted: KernelMount) -> None:
        """Implement `Transport.attach`. The library receives the existing mount as a descriptor."""
        self._mounted = mounted
        if operations.users is not None:
            mounted.close()
            raise CommandError(
                "mount.allow_other and mount.allow_users need the direct loop", 'set loop = "direct" in ctxfs.toml'
            )
        try:
            pyfuse3.init(_PyfuseHandlers(operations), f"/dev/fd/{mounted.fd}", {"fsname=ctxfs"})
        except RuntimeError as error:
            mounted.close()
            raise CommandError(
                f"cannot mount at '{mounted.mountpoint}': {error}",
                "see the line above in <store>/run/daemon.log; ctxfs doctor",
            ) from error

    def invalidate_inode(self, number: int) -> None:
        """Implement `Caches.invalidate_inode`."""
        pyfuse3.invalidate_inode(InodeT(number))

    def invalidate_attributes(self, number: int) -> None:
        """Implement `Caches.invalidate_attributes`."""
        pyfuse3.invalidate_inode(InodeT(number), attr_only=True)

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Implement `Caches.invalidate_entry`."""
        pyfuse3.invalidate_entry(InodeT(parent), pyfuse3.FileNameT(name))

    def expire_entry(self, parent: int, name: bytes) -> None:
        """Raise ENOSYS: the library has no such notice."""
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def stop(self) -> None:
        """Implement `Transport.stop`."""
        pyfuse3.terminate()

    def unmount(self) -> None:
        """Implement `Transport.unmount`."""
        pyfuse3.close(unmount=True)  # closes the descriptor
        if self._mounted is not None:
            self._mounted.close()

    async def _run(self, background: Background, start: Callable[[], None]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        started = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(background, started.set)
            await started.wait()
            start()
            nursery.start_soon(self._stop_on_signal)
            await pyfuse3.main()
            nursery.cancel_scope.cancel()

    async def _stop_on_signal(self) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                self.stop()
