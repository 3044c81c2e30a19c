"""The transports that use pyfuse3: driven by a plain loop in the main thread, or by trio, as the library intends.

The plain loop replaces the `trio` module that pyfuse3 uses, as that library's own asyncio support does. It relies on
internals of the pinned version. The `direct` transport imports none of this.
"""

import errno
import os
import select
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import CoroutineType, TracebackType
from typing import Any, Self

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, InodeT, RequestContext

from ctxfs.fuse import attributes
from ctxfs.fuse.attributes import Attributes, OpenReply, SetattrRequest
from ctxfs.fuse.interfaces import BackingFiles, DirectoryEntries, OpenCacheBackend
from ctxfs.fuse.mounting import Mounted
from ctxfs.fuse.operations import Operations
from ctxfs.fuse.transports.coroutine_loop import CoroutineLoop, SuspendedTask, Task, park
from ctxfs.fuse.transports.errors import errno_of
from ctxfs.fuse.transports.transport import Background
from ctxfs.model.errors import CommandError
from ctxfs.threads import blocking


class _Translated(pyfuse3.Operations):
    """The table of request handlers for pyfuse3, in front of `Operations`.

    An exception other than FUSEError would end the mount, so all are translated.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, operations: Operations) -> None:
        super().__init__()
        self._operations = operations

    async def _ask(self, request: str, *args: Any) -> Any:
        try:
            answer = getattr(self._operations, request)(*args)
            return await answer if type(answer) is CoroutineType else answer
        except Exception as error:
            raise pyfuse3.FUSEError(errno_of(error, request, self._operations)) from None

    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        return _entry(await self._ask("lookup", parent_inode, name))

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        self._operations.forget(inode_list)

    async def mkdir(self, parent_inode: InodeT, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        return _entry(await self._ask("mkdir", parent_inode, name, mode, _caller(ctx)))

    async def mknod(
        self, parent_inode: InodeT, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        return _entry(await self._ask("mknod", parent_inode, name, mode, rdev, _caller(ctx)))

    async def symlink(self, parent_inode: InodeT, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        return _entry(await self._ask("symlink", parent_inode, name, target, _caller(ctx)))

    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        return _entry(await self._ask("link", inode, new_parent_inode, new_name))

    async def unlink(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        await self._ask("unlink", parent_inode, name)

    async def rmdir(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        await self._ask("rmdir", parent_inode, name)

    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: bytes,
        parent_inode_new: InodeT,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        await self._ask("rename", parent_inode_old, name_old, parent_inode_new, name_new, flags)

    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        text: bytes = await self._ask("readlink", inode)
        return text

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return _entry(await self._ask("getattr", inode))

    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        wanted = SetattrRequest(
            attr.st_mode if fields.update_mode else None,
            attr.st_uid if fields.update_uid else None,
            attr.st_gid if fields.update_gid else None,
            attr.st_size if fields.update_size else None,
            attr.st_atime_ns if fields.update_atime else None,
            attr.st_mtime_ns if fields.update_mtime else None,
        )
        return _entry(await self._ask("setattr", inode, wanted, fh))

    async def access(self, inode: InodeT, mode: int, ctx: RequestContext) -> bool:
        try:
            await self._ask("access", inode, mode)
        except pyfuse3.FUSEError as refused:
            if refused.errno != errno.EACCES:
                raise
            return False
        return True

    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        value: bytes = await self._ask("getxattr", inode, name)
        return value

    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[bytes]:
        names: Sequence[bytes] = await self._ask("listxattr", inode, ctx.uid == 0)
        return names

    async def setxattr(self, inode: InodeT, name: bytes, value: bytes, ctx: RequestContext) -> None:
        await self._ask("setxattr", inode, name, value)

    async def removexattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        await self._ask("removexattr", inode, name)

    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        found = self._operations.statfs()
        out = pyfuse3.StatvfsData()
        out.f_bsize, out.f_frsize = found.bsize, found.frsize
        out.f_blocks, out.f_bfree, out.f_bavail = found.blocks, found.free, found.available
        out.f_files, out.f_ffree, out.f_favail = found.files, found.files_free, found.files_free
        out.f_namemax = found.name_max
        return out

    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        return _opened(await self._ask("open", inode, flags, ctx.uid))

    async def create(
        self, parent_inode: InodeT, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        opened, entry = await self._ask("create", parent_inode, name, mode, flags, _caller(ctx))
        return _opened(opened), _entry(entry)

    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        data: bytes = await self._ask("read", fh, off, size)
        return data

    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        written: int = await self._ask("write", fh, off, buf)
        return written

    async def flush(self, fh: FileHandleT) -> None:
        """Raise ENOSYS, after which the kernel sends no FLUSH: open and close take a third less.

        `synthetic` describes when edits are applied instead.
        """
        raise pyfuse3.FUSEError(errno.ENOSYS)

    async def release(self, fh: FileHandleT) -> None:
        await self._ask("release", fh)

    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self._ask("fsync", fh, datasync)

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        opened: OpenReply = await self._ask("opendir", inode)
        return FileHandleT(opened.fh)

    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        await self._ask("readdir", fh, start_id, _Reply(token))

    async def releasedir(self, fh: FileHandleT) -> None:
        await self._ask("releasedir", fh)

    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self._ask("fsyncdir", fh)


class _Reply(DirectoryEntries):
    """The entries of a directory, in a reply of pyfuse3."""

    def __init__(self, token: pyfuse3.ReaddirToken) -> None:
        self._token = token

    def add(self, name: bytes, found: Attributes, place: int) -> bool:
        """Implement `DirectoryEntries.add`."""
        return bool(pyfuse3.readdir_reply(self._token, name, _entry(found), place))


def _caller(ctx: RequestContext) -> attributes.RequestContext:
    return attributes.RequestContext(ctx.uid, ctx.gid)


def _entry(answer: Attributes) -> EntryAttributes:
    found, out = answer.found, pyfuse3.EntryAttributes()
    out.st_ino = pyfuse3.InodeT(answer.number)
    out.entry_timeout = out.attr_timeout = answer.seconds
    out.st_mode = pyfuse3.ModeT(answer.mode)
    out.st_nlink, out.st_rdev = found.st_nlink, found.st_rdev
    out.st_uid, out.st_gid = found.st_uid, found.st_gid
    out.st_size, out.st_blksize, out.st_blocks = found.st_size, found.st_blksize, found.st_blocks
    out.st_atime_ns, out.st_mtime_ns, out.st_ctime_ns = found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns
    return out


def _opened(answer: OpenReply) -> FileInfo:
    return FileInfo(fh=FileHandleT(answer.fh), direct_io=answer.direct_io, keep_cache=answer.keep_cache)


class _Pyfuse:
    """The part of a transport that both ways to drive the library share."""

    hands: BackingFiles | None = None
    keeper: OpenCacheBackend | None = None
    reads_by_number = False
    can_expire = False
    judges_acls = False

    _mounted: Mounted | None = None

    def attach(self, operations: Operations, mounted: Mounted) -> None:
        """Implement `Transport.attach`. The library receives the existing mount as a descriptor."""
        self._mounted = mounted
        if operations.users is not None:
            mounted.close()
            raise CommandError(
                "mount.allow_other and mount.allow_users need the direct loop", 'set loop = "direct" in ctxfs.toml'
            )
        try:
            pyfuse3.init(_Translated(operations), f"/dev/fd/{mounted.fd}", {"fsname=ctxfs"})
        except RuntimeError as error:
            mounted.close()
            raise CommandError(
                f"cannot mount at '{mounted.at}': {error}", "see the line above in <store>/run/daemon.log; ctxfs doctor"
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


class TrioTransport(_Pyfuse):
    """The transport that runs everything in one trio loop."""

    def __init__(self) -> None:
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


_READABLE = SuspendedTask("readable")


class PlainTransport(CoroutineLoop, _Pyfuse):
    """The transport that steps pyfuse3's coroutines by hand. `run` must be called in the main thread."""

    def __init__(self) -> None:
        super().__init__()
        self._reader: Task | None = None
        self._closing = False
        self._tasks = 0
        self._joining: Task | None = None

    def run(self, background: Background, start: Callable[[], None]) -> None:
        """Implement `Transport.run`."""
        with self.running(background, self.stop):
            pyfuse3.trio = self  # type: ignore[attr-defined]  # pyfuse3.asyncio replaces the same name
            try:
                start()
                self._drive(pyfuse3.main())
            finally:
                pyfuse3.trio = trio  # type: ignore[attr-defined]

    # the part of the trio module that pyfuse3 uses

    ClosedResourceError = trio.ClosedResourceError

    @property
    def lowlevel(self) -> "PlainTransport":
        """Stand in for `trio.lowlevel`."""
        return self

    def current_trio_token(self) -> str:
        """Stand in for `trio.lowlevel.current_trio_token`; pyfuse3 only stores it."""
        return "plain"

    def current_task(self) -> "PlainTransport":
        """Stand in for `trio.lowlevel.current_task`; pyfuse3 uses only its name, in log lines."""
        return self

    name = "plain"

    def open_nursery(self) -> "_PlainNursery":
        """Stand in for `trio.open_nursery`."""
        return _PlainNursery(self)

    def Lock(self) -> "_PlainLock":  # noqa: N802 - the name that pyfuse3 looks up
        """Stand in for `trio.Lock`."""
        return _PlainLock(self)

    async def wait_readable(self, fd: int) -> None:
        """Stand in for `trio.lowlevel.wait_readable`; `fd` is always the descriptor of the mount."""
        self._fd = fd
        await park(_READABLE)

    def notify_closing(self, fd: int) -> None:
        """Stand in for `trio.lowlevel.notify_closing`."""
        self._closing = True
        self.wake()

    # the loop

    def _drive(self, main: Task) -> None:
        self.ready.append((main, None, None))
        self._tasks += 1
        registered = False
        while True:
            while self.ready:
                self._go_on(*self.ready.popleft())
            if not self._tasks:
                return
            if self._reader is not None and not registered:
                self.poll.register(self._fd, select.POLLIN)
                registered = True
            if self.events() and self._reader is not None:
                self._read_on(None)  # more requests arrive during a reply: step before polling again
            if self._closing and self._reader is not None:
                self._read_on(trio.ClosedResourceError())

    def _read_on(self, error: BaseException | None) -> None:
        reader, self._reader = self._reader, None
        assert reader is not None
        self.ready.append((reader, None, error))

    def _go_on(self, task: Task, value: Any, error: BaseException | None) -> None:
        parked = self.step(task, value, error)
        if parked is None:
            self._tasks -= 1
            if self._joining is not None and self._tasks == 1:
                joiner, self._joining = self._joining, None
                self.ready.append((joiner, None, None))
        elif parked is _READABLE:
            self._reader = task
        elif parked.kind == "lock":
            parked.function.append(task)
        elif parked.kind == "join":
            self._joining = task


class _PlainNursery:
    """The part of a nursery that pyfuse3 uses: there is one, never cancelled, joined at its end."""

    def __init__(self, loop: PlainTransport) -> None:
        self._loop = loop

    async def __aenter__(self) -> Self:
        return self

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: object, name: object = None) -> None:
        self._loop._tasks += 1
        self._loop.ready.append((function(*args), None, None))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop._tasks > 1:
            await park(SuspendedTask("join"))


class _PlainLock:
    """A fair lock between coroutines of one loop."""

    def __init__(self, loop: PlainTransport) -> None:
        self._loop = loop
        self._held = False
        self._waiting: deque[Task] = deque()

    async def __aenter__(self) -> None:
        if self._held:
            await park(SuspendedTask("lock", self._waiting))
        self._held = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held = False
        if self._waiting:
            # atomic: no other task can take the lock before the first waiter runs
            self._held = True
            self._loop.ready.append((self._waiting.popleft(), None, None))
