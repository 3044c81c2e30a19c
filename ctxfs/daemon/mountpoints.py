"""Mount processes: one for each mount point, started on request, started again if it dies, adopted if it outlived us."""

import contextlib
import errno
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import trio

from ctxfs.app import App, opaque_below
from ctxfs.daemon.mount_child import MountChild, Spare, start_child
from ctxfs.model.errors import EXIT_BUSY, CommandError
from ctxfs.rpc.server import Peer
from ctxfs.threads import blocking

log = logging.getLogger(__name__)

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0


@dataclass(slots=True)
class _Served:
    """One mount point; `process` is None for a mount process that an earlier daemon started."""

    at: str
    principal: str
    pid: int
    process: MountChild | None
    read_only: bool = False
    leaving: bool = False
    gone: trio.Event = field(default_factory=trio.Event)
    peer: Peer | None = None


class Mountpoints:
    """The table of mount points of this daemon."""

    def __init__(
        self, app: App, nursery: trio.Nursery, spare: Spare | None, changed: Callable[[], Awaitable[None]]
    ) -> None:
        self._app = app
        self._nursery = nursery
        self._spare = spare
        self._changed = changed
        self._served: dict[str, _Served] = {}

    def listing(self) -> list[Mapping[str, object]]:
        """What is mounted, for status."""
        return [
            {"at": served.at, "principal": served.principal, "pid": served.pid, "read_only": served.read_only}
            for served in self._served.values()
        ]

    @property
    def empty(self) -> bool:
        """True when nothing is mounted."""
        return not self._served

    @property
    def count(self) -> int:
        """How many mount points there are."""
        return len(self._served)

    def share(self, count: int) -> bool:
        """Tell the mount processes whether others write, too: then the kernel must ask each time. True if that is so now."""
        shared = count > 1
        for peer in self.peers:
            peer.push("shared", shared)
        return shared

    async def mount(self, at: str, principal: str, *, read_only: bool) -> None:
        """Mount the tree at `at` and return when the kernel serves it; CommandError says what is in the way."""
        if at in self._served:
            raise CommandError(
                f"'{at}' is already mounted from this store", f"unmount it: ctxfs unmount {at}", EXIT_BUSY
            )
        await self._announce(at)
        await self._start(at, principal, read_only)

    async def _announce(self, at: str) -> None:
        """Hide a mount point from the sources that contain it before the kernel knows of it."""
        if self._app.hide_mountpoint(at) and any(opaque_below(root.root, [at]) for root in self._app.indexed_roots()):
            await self._changed()

    async def unmount(self, at: str, *, lazy: bool) -> None:
        """Unmount and wait until the mount process has ended."""
        served = self._served.get(at)
        if served is None:
            raise CommandError(f"'{at}' is not a mount point of this store", "see: ctxfs status")
        if not lazy and await blocking(_is_busy, at):
            raise CommandError(
                f"'{at}' is in use", f"leave it (cd elsewhere, close files), or: ctxfs unmount --lazy {at}", EXIT_BUSY
            )
        served.leaving = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(served.pid, 15)
        with trio.move_on_after(_STOP_SECONDS):
            await served.gone.wait()
            return
        log.warning("the mount process of '%s' did not end by itself", at)
        with contextlib.suppress(ProcessLookupError):
            os.kill(served.pid, 9)
        await trio.run_process(["fusermount3", "-u", "-z", at], check=False, capture_stderr=True)
        self._served.pop(at, None)

    async def unmount_all(self) -> None:
        """Unmount everything, whether it is in use or not."""
        for at in list(self._served):
            await self.unmount(at, lazy=True)

    @property
    def peers(self) -> list[Peer]:
        """The connections of the mount processes that have said they are there."""
        return [served.peer for served in self._served.values() if served.peer is not None]

    def adopt(self, at: str, principal: str, pid: int, peer: Peer, *, read_only: bool) -> None:
        """A mount process says that it is there."""
        served = self._served.get(at)
        if served is None:
            served = self._served[at] = _Served(at, principal, pid, None, read_only)
        served.peer = peer
        self._app.hide_mountpoint(at)

    def left(self, peer: Peer) -> None:
        """A connection ended; if it was an adopted mount process, its mount point is gone."""
        for at, served in list(self._served.items()):
            if served.peer is peer:
                served.peer = None
                if served.process is None:
                    served.gone.set()
                    del self._served[at]

    async def _start(self, at: str, principal: str, read_only: bool) -> None:
        options = self._app.settings.mount
        arguments = {
            "run": str(self._app.layout.run),
            "at": at,
            "principal": principal,
            "owner": principal == str(self._app.principal),
            "store": str(self._app.layout.root),
            "journal": str(self._app.layout.journal),
            "audit": str(self._app.audit.spools or ""),
            "audit_reads": self._app.settings.history.audit_reads,
            "read_only": read_only,
            "shared": self.count > 0,
            "allow_other": options.allow_other,
            "loop": options.loop,
            "cache_seconds": options.cache_seconds,
        }
        spare, self._spare = self._spare, None
        child = spare.start(arguments) if spare is not None else start_child(arguments)
        served = self._served[at] = _Served(at, principal, child.pid, child, read_only)
        try:
            await _wait_ready(child.ready, at)
        except BaseException:
            self._served.pop(at, None)
            with trio.CancelScope(shield=True), contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, 9)
                await child.wait()
            served.gone.set()  # somebody may have asked to unmount it before it was there
            raise
        self._nursery.start_soon(self._attend, served)

    async def _attend(self, served: _Served) -> None:
        """Wait for the process; start it again if nobody asked it to go."""
        assert served.process is not None
        code = await served.process.wait()
        served.gone.set()
        if self._served.get(served.at) is served:
            del self._served[served.at]
        if served.leaving or code == 0:
            return
        log.error("the mount process of '%s' died (%s); mounting again", served.at, code)
        await trio.run_process(["fusermount3", "-u", "-z", served.at], check=False, capture_stderr=True)
        try:
            await self._start(served.at, served.principal, served.read_only)
        except CommandError as error:
            log.error("cannot mount '%s' again: %s", served.at, error.message)


async def _wait_ready(read_end: int, at: str) -> None:
    """The mount process writes `ready`, or a JSON error, and closes the pipe."""
    stream = trio.lowlevel.FdStream(read_end)
    said = bytearray()
    with trio.move_on_after(_START_SECONDS):
        async with stream:
            async for part in stream:
                said += part
    if said == b"ready":
        return
    try:
        error = json.loads(bytes(said))
        raise CommandError(error["message"], error["remedy"], error["code"])
    except (ValueError, KeyError) as failure:
        raise CommandError(
            f"the mount process of '{at}' ended without a word", "see <store>/run/daemon.log"
        ) from failure


def _is_busy(at: str) -> bool:
    """True when some process has its working directory, root or an open file below `at`."""
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        for place in (f"/proc/{pid}/cwd", f"/proc/{pid}/root", *_descriptors(pid)):
            try:
                target = os.readlink(place)
            except OSError:
                continue
            if target == at or target.startswith(at + "/"):
                return True
    return False


def _descriptors(pid: str) -> list[str]:
    try:
        return [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError as error:
        if error.errno in (errno.EACCES, errno.ENOENT, errno.ESRCH, errno.EPERM):
            return []
        raise
