"""The table of mount processes, one for each mount point.

They are started on request, replaced if they die, and adopted if they outlive their daemon.
"""

import contextlib
import errno
import json
import logging
import os
import pwd
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as HostPath

import trio

from ctxfs.app import App
from ctxfs.daemon.mount_child import Spare, start_child
from ctxfs.daemon.mount_records import MountRecord, MountRecords
from ctxfs.fuse.mounting import devices_at, is_dead, unmount
from ctxfs.model.errors import EXIT_BUSY, CommandError
from ctxfs.rpc.server import Peer
from ctxfs.services.sources import opaque_below
from ctxfs.store.settings import MountSettings
from ctxfs.supervise import Backoff, Restarts
from ctxfs.threads import blocking

log = logging.getLogger(__name__)

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0
_BACKOFF = Backoff(first_seconds=1.0, max_seconds=60.0)
_POLL_SECONDS = 0.5


@dataclass(slots=True)
class _ServedMount:
    """One mount point. `connection` is a copy of the descriptor on which its mount process answers the kernel.

    While a copy exists, requests of a mount process that has died wait and do not fail: see `fuse.dead_connection`.
    """

    record: MountRecord
    pid: int = 0
    pidfd: int = -1  # -1 while there is no process: it is being replaced
    is_child: bool = False
    connection: int = -1
    fault: str = ""
    is_leaving: bool = False
    is_remounted: bool = False  # by this daemon, not by a request: the next equal request succeeds without a mount
    peer: Peer | None = None
    started: trio.Event = field(default_factory=trio.Event)  # it is served, or the attempt has failed
    gone: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def at(self) -> str:
        return self.record.at

    def attach(self, pid: int, *, is_child: bool) -> None:
        """Set the process. Raise ProcessLookupError if it has ended and was reaped."""
        self.pidfd = os.pidfd_open(pid)
        self.pid, self.is_child = pid, is_child

    def signal(self, number: int) -> None:
        """Send a signal to the process, if there is one."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    async def wait(self) -> int | None:
        """Wait for the end of the process and return its exit code.

        The code is negative for a signal, and None for a process that is no child.
        """
        await trio.lowlevel.wait_readable(self.pidfd)
        _, status = os.waitpid(self.pid, 0) if self.is_child else (0, None)
        os.close(self.pidfd)
        self.pidfd = -1
        return None if status is None else os.waitstatus_to_exitcode(status)

    def take_connection(self) -> int:
        """Return the copy of the connection, which the caller owns from then on; -1 if there is none."""
        connection, self.connection = self.connection, -1
        return connection

    def close_connection(self) -> None:
        """Close the copy, after which the kernel answers with ENOTCONN for a process that has died."""
        if (connection := self.take_connection()) >= 0:
            os.close(connection)


class Mountpoints:
    """The mount points of this daemon."""

    def __init__(
        self, app: App, nursery: trio.Nursery, spare: Spare | None, changed: Callable[[], Awaitable[None]]
    ) -> None:
        self._app = app
        self._nursery = nursery
        self._spare = spare
        self._changed = changed
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._records = MountRecords(app.layout.run)
        self._served: dict[str, _ServedMount] = {}

    def listing(self) -> list[Mapping[str, object]]:
        """Return the mount points as plain values for `ctxfs status`."""
        return [
            {
                "at": served.at,
                "principal": served.record.principal,
                "pid": served.pid,
                "read_only": served.record.read_only,
                "branch": served.record.branch,
                "fault": served.fault,
            }
            for served in self._served.values()
        ]

    @property
    def is_empty(self) -> bool:
        """Return True if there is no mount point."""
        return not self._served

    @property
    def count(self) -> int:
        """Return the number of mount points."""
        return len(self._served)

    def share(self, count: int) -> bool:
        """Send each mount process whether other mounts can write, and return that.

        With other writers the kernel must revalidate.
        """
        shared = count > 1
        for peer in self.peers:
            peer.push("shared", shared)
        return shared

    async def restore(self) -> None:
        """Replace mounts whose process died with the last daemon, or before it joined this one.

        Live ones join by themselves.
        """
        waiting = list(self._records.mounted)
        while waiting:
            for record in list(waiting):
                if record.at in self._served:
                    waiting.remove(record)
                elif not await blocking(devices_at, record.at):
                    waiting.remove(record)
                    await self._records.drop(record.at)
                elif await blocking(is_dead, HostPath(record.at)) and record.at not in self._served:
                    waiting.remove(record)
                    log.error("the mount process of '%s' died with the daemon; mounting again", record.at)
                    served = self._served[record.at] = _ServedMount(record, is_remounted=True)
                    self._nursery.start_soon(self._replace, served)
            await trio.sleep(_POLL_SECONDS)

    async def mount(self, record: MountRecord) -> None:
        """Mount the tree as the record describes, and return when the kernel serves it.

        Raise CommandError with the reason if that fails.

        An equal request for a dead mount that this daemon has replaced already succeeds once.
        """
        mountpoint = record.at
        served = self._served.get(mountpoint)
        if served is not None and served.record == record and served.is_remounted and not served.is_leaving:
            await served.started.wait()
            if served.fault:
                raise CommandError(served.fault, f"take it away: ctxfs unmount {mountpoint}")
            if self._served.get(mountpoint) is served:
                served.is_remounted = False
                return
        elif (
            served is not None and served.pid == 0 and not served.is_leaving
        ):  # it died before, and is being mounted again
            await self.unmount(mountpoint, lazy=True)
        if mountpoint in self._served:
            raise CommandError(
                f"'{mountpoint}' is already mounted from this store",
                f"unmount it: ctxfs unmount {mountpoint}",
                EXIT_BUSY,
            )
        await self._hide(mountpoint)
        served = self._served[mountpoint] = _ServedMount(record)
        try:
            await self._start(served)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._end(served)
            raise
        self._nursery.start_soon(self._records.put, record)
        self._nursery.start_soon(self._supervise, served)

    async def _hide(self, mountpoint: str) -> None:
        """Hide a mount point from the sources that contain it, before the kernel has the mount."""
        if self._app.sources.hide_mountpoint(mountpoint) and any(
            opaque_below(root.root, [mountpoint]) for root in self._app.sources.indexed_roots()
        ):
            await self._changed()

    async def unmount(self, mountpoint: str, *, lazy: bool) -> None:
        """Unmount and wait until the mount process has ended.

        Raise CommandError for a mount that is in use, unless `lazy`.
        """
        served = self._served.get(mountpoint)
        if served is None:
            raise CommandError(f"'{mountpoint}' is not a mount point of this store", "see: ctxfs status")
        if not lazy and served.pid and await blocking(_is_busy, mountpoint):
            raise CommandError(
                f"'{mountpoint}' is in use",
                f"leave it (cd elsewhere, close files), or: ctxfs unmount --lazy {mountpoint}",
                EXIT_BUSY,
            )
        served.is_leaving = True
        served.scope.cancel()  # where it is being replaced
        served.signal(signal.SIGTERM)
        with trio.move_on_after(_STOP_SECONDS):
            await served.gone.wait()
            return
        log.warning("the mount process of '%s' did not end by itself", mountpoint)
        served.signal(signal.SIGKILL)
        with trio.move_on_after(_STOP_SECONDS):
            await served.gone.wait()

    async def unmount_all(self) -> None:
        """Unmount everything, including mounts that are in use."""
        for mountpoint in list(self._served):
            with contextlib.suppress(CommandError):  # the mount process has ended meanwhile
                await self.unmount(mountpoint, lazy=True)

    @property
    def peers(self) -> list[Peer]:
        """Return the connections of the mount processes that have joined."""
        return [served.peer for served in self._served.values() if served.peer is not None]

    async def adopt(self, record: MountRecord, pid: int, peer: Peer) -> None:
        """Record the connection of a mount process, and supervise the process if an earlier daemon started it."""
        mountpoint = record.at
        served = self._served.get(mountpoint)
        if served is None:
            served = _ServedMount(record)
            with contextlib.suppress(ProcessLookupError):  # it has just died: `restore` or the next `mount` replaces it
                served.attach(pid, is_child=False)
                served.started.set()
                self._served[mountpoint] = served
                self._nursery.start_soon(self._records.put, served.record)
                self._nursery.start_soon(self._supervise, served)
        served.peer = peer
        self._app.sources.hide_mountpoint(mountpoint)

    def drop_peer(self, peer: Peer) -> None:
        """Drop a connection that has ended. The end of its process is detected separately."""
        for served in self._served.values():
            if served.peer is peer:
                served.peer = None

    def receive(self, message: Mapping[str, object], pid: int, descriptor: int) -> None:
        """Store a copy of the descriptor on which a mount process answers the kernel."""
        served = self._served.get(str(message.get("at")))
        if served is None or served.pid != pid or served.pidfd < 0:
            os.close(descriptor)
            return
        served.close_connection()
        served.connection = descriptor

    # inside

    def _remove(self, served: _ServedMount) -> None:
        served.close_connection()
        served.started.set()
        served.gone.set()
        if self._served.get(served.at) is served:
            del self._served[served.at]

    async def _start(self, served: _ServedMount, dead: int = -1) -> None:
        """Start a mount process and wait until it serves. Raise CommandError if it cannot."""
        arguments = self._arguments(served.record)
        if dead >= 0:
            child = start_child(arguments, dead)
        else:
            spare, self._spare = self._spare, None
            child = spare.start(arguments) if spare is not None else start_child(arguments)
        served.attach(child.pid, is_child=True)
        try:
            await _wait_ready(child.ready, served.at)
        except BaseException:
            with trio.CancelScope(shield=True):
                served.signal(signal.SIGKILL)
                await served.wait()
            served.pid = 0
            raise
        served.fault = ""
        served.started.set()

    def _arguments(self, record: MountRecord) -> dict[str, object]:
        options = self._app.settings.mount
        return {
            "run": str(self._app.layout.run),
            "at": record.at,
            "principal": record.principal,
            "owner": record.principal == str(self._app.principal),
            "store": str(self._app.layout.root),
            "journal": str(self._app.layout.journal),
            "audit": str(self._app.audit.spools or ""),
            "audit_reads": self._app.settings.history.audit_reads,
            "read_only": record.read_only,
            "branch": record.branch,
            "shared": self.count > 1,
            "allow_other": options.allow_other or bool(options.allow_users),
            "users": _allowed_uids(options),
            "umask": self._umask,
            "loop": options.loop,
            "cache_seconds": options.cache_seconds,
        }

    async def _supervise(self, served: _ServedMount) -> None:
        """Wait for the end of the process, and replace it unless an unmount was requested."""
        code = await served.wait()
        served.pid, served.peer = 0, None
        served.is_remounted, served.started = True, trio.Event()  # requests wait for the outcome from now on
        # A process that is no child has no exit code: it was unmounted if the mount is gone.
        was_unmounted = code == 0 if code is not None else not await blocking(devices_at, served.at)
        if served.is_leaving or was_unmounted:
            await self._end(served)
            return
        how = "" if code is None else f" ({code})"
        log.error("the mount process of '%s' died%s; mounting again", served.at, how)
        await self._replace(served)

    async def _end(self, served: _ServedMount) -> None:
        served.close_connection()
        if await blocking(is_dead, HostPath(served.at)):
            await blocking(unmount, served.at, await blocking(devices_at, served.at))
        await self._records.drop(served.at)
        self._remove(served)

    async def _replace(self, served: _ServedMount) -> None:
        """Mount again, with backoff, until it succeeds or the mount point is unmounted."""
        restarts = Restarts(_BACKOFF)
        with served.scope:
            while True:
                dead = served.take_connection()
                try:
                    await self._start(served, dead)
                    break
                except (CommandError, OSError) as error:
                    served.fault = f"it cannot be mounted again: {error}"
                    log.error("cannot mount '%s' again: %s", served.at, error)
                finally:
                    if dead >= 0:
                        os.close(dead)  # the new process has a copy; without any copy the kernel answers ENOTCONN
                served.started.set()
                await trio.sleep(restarts.record_end())
        if served.pid:
            await self._supervise_replacement(served)
        else:
            await self._end(served)

    async def _supervise_replacement(self, served: _ServedMount) -> None:
        """Supervise the replacement. An unmount that came too late may have cancelled the scope of the last attempt."""
        served.scope = trio.CancelScope()
        if served.is_leaving:
            served.signal(signal.SIGTERM)
        self._nursery.start_soon(self._supervise, served)


def _allowed_uids(options: MountSettings) -> list[int] | None:
    """Return the users that a mount serves: its owner, root, and those of the settings; None if all are served."""
    if "*" in options.allow_users or not (options.allow_other or options.allow_users):
        return None
    uids = {0, os.geteuid()}
    for user in options.allow_users:
        try:
            uids.add(user if isinstance(user, int) else int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid)
        except KeyError as error:
            raise CommandError(
                f"mount.allow_users names '{user}', and there is no such user", "mend it in ctxfs.toml"
            ) from error
    return sorted(uids)


async def _wait_ready(read_end: int, mountpoint: str) -> None:
    """Wait until the mount process writes `ready`; raise CommandError from the JSON error that it writes otherwise.

    The process closes the pipe after either. The wait ends after `_START_SECONDS`.
    """
    stream = trio.lowlevel.FdStream(read_end)
    message = bytearray()
    with trio.move_on_after(_START_SECONDS):
        async with stream:
            async for part in stream:
                message += part
    if message == b"ready":
        return
    try:
        error = json.loads(bytes(message))
        raise CommandError(error["message"], error["remedy"], error["code"])
    except (ValueError, KeyError) as failure:
        raise CommandError(
            f"the mount process of '{mountpoint}' ended without a word", "see <store>/run/daemon.log"
        ) from failure


def _is_busy(mountpoint: str) -> bool:
    """Return True if a process has its working directory, its root or an open file below `at`."""
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        for link in (f"/proc/{pid}/cwd", f"/proc/{pid}/root", *_descriptors(pid)):
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target == mountpoint or target.startswith(mountpoint + "/"):
                return True
    return False


def _descriptors(pid: str) -> list[str]:
    try:
        return [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError as error:
        if error.errno in (errno.EACCES, errno.ENOENT, errno.ESRCH, errno.EPERM):
            return []
        raise
