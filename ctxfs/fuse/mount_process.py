"""The process that serves one mount point: `python -m ctxfs.fuse.mount_process ARGUMENTS FD`, started by the daemon.

It serves files on disk by itself and requests everything else from the daemon. If the daemon dies, it continues to
serve, starts another daemon and joins it.
"""

import contextlib
import errno
import json
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path as HostPath
from typing import Any

import trio

from ctxfs import heap
from ctxfs.eventlog.spool import Spool
from ctxfs.fuse.dead_connection import DeadConnection
from ctxfs.fuse.invalidate import DirectoryChanges, Invalidator, Notifier
from ctxfs.fuse.kernel_mount import mount
from ctxfs.fuse.lock_owners import CacheClaims
from ctxfs.fuse.mounting import check_fuse, mount_options
from ctxfs.fuse.operations import Operations
from ctxfs.fuse.state import MountOptions, State
from ctxfs.fuse.transports import make_transport
from ctxfs.model.errors import CommandError, path_error
from ctxfs.model.path import Path
from ctxfs.model.principal import parse_principal
from ctxfs.rpc.async_client import AsyncClient, RemoteTree
from ctxfs.rpc.client import NoDaemon
from ctxfs.rpc.fd_passing import send_descriptor
from ctxfs.store.errors_log import log_to
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.recording.journal import JournalWriter, new_session_name

log = logging.getLogger(__name__)

_RECONNECT_SECONDS = 0.2
_AUDIT_SECONDS = 0.1
_MIN_DESCRIPTORS = 1 << 16
_MIN_RESTART_ATTEMPTS = 5  # attempts to reconnect before a new daemon is started
_MAX_RESTART_ATTEMPTS = 150  # attempts between two daemons that end at once


class MountProcess:
    """A mount process, from its mount to its unmount."""

    def __init__(self, arguments: dict[str, Any], report_ready: Callable[[bytes], None]) -> None:
        self._arguments = arguments
        self._report_ready = report_ready
        self._run_folder = HostPath(arguments["run"])
        self._mountpoint = str(arguments["at"])
        self._store = HostPath(arguments["store"])
        self._connection = -1
        self._client = AsyncClient(self._handle_push)
        self._session = new_session_name("mount")
        principal = parse_principal(arguments["principal"])
        journal = JournalWriter(HostPath(arguments["journal"]), Actor(str(principal), self._session, "mount", ""))
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._transport = make_transport(arguments["loop"])
        self._kernel_options = mount_options(
            allow_other=bool(arguments["allow_other"]), read_only=bool(arguments.get("read_only"))
        )
        self._state = State.create(
            RemoteTree(self._call),
            self._transport,
            self._mount_options(arguments),
            float(arguments["cache_seconds"]),
            principal,
            journal,
            Spool(HostPath(arguments["audit"]) if arguments.get("audit") else None),
            self._call,
            claims=CacheClaims(str(self._run_folder / "mapped")),
        )
        self._state.cache_policy.set_writable_elsewhere(bool(arguments.get("shared")))
        # A connection acts for the store's owner until `join` binds it to a principal: no other call may precede that.
        self._is_bound = False
        self._notifier: Notifier | None = None
        self._invalidator: Invalidator | None = None

    def _mount_options(self, arguments: dict[str, Any]) -> MountOptions:
        users = arguments.get("users")
        audits_reads = bool(arguments.get("audit")) and bool(arguments.get("audit_reads"))
        return MountOptions(
            str(arguments["store"]),
            None if users is None else frozenset(map(int, users)),
            audits_reads,
            checks_modes="default_permissions" in self._kernel_options,
            reads_without_open=bool(
                arguments.get("read_only")
                and self._transport.reads_by_number
                and not audits_reads
                and users is None  # the kernel's cache serves unopened files to any user
            ),
        )

    def serve(self) -> None:
        """Mount, serve until unmounted, and clean up."""
        check_fuse()
        heap.look_for_cycles_rarely()
        os.umask(0)  # modes come from the kernel with the caller's umask already applied
        _raise_descriptor_limit()
        self._transport.run(self._background, self._start)
        self._state.recorder.close()
        if self._notifier is not None:
            self._notifier.stop()
        self._transport.unmount()

    def _start(self) -> None:
        """Mount and attach the transport. An error here still reaches the client that requested the mount."""
        dead = self._arguments.get("dead")
        mounted = mount(
            self._mountpoint, self._kernel_options, self._store, None if dead is None else DeadConnection(int(dead))
        )
        operations = Operations(self._state)
        self._transport.attach(operations, mounted)
        self._connection = mounted.fd
        self._send_connection()
        operations.connect(
            self._transport,
            open_cache=self._transport.open_cache_backend,
            # No permission is checked during passthrough, so it is only for the owner of the files.
            backing_files=self._transport.backing_files if self._arguments.get("owner") else None,
            checks_acls=self._transport.checks_acls,
        )
        self._notifier = Notifier(self._transport)
        self._invalidator = Invalidator(self._state, self._notifier)
        self._report_ready(b"ready")

    def _send_connection(self) -> None:
        """Send the daemon a copy of the connection, so that requests wait for a replacement if this process dies."""
        send_descriptor(self._run_folder, {"at": self._mountpoint}, self._connection)

    async def _background(self, started: Callable[[], None]) -> None:
        """Stay connected to the daemon, and flush the audit. Call `started` once the mount table is received."""
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._flush_audit)
            await self._keep_connected(started)

    async def _flush_audit(self) -> None:
        while True:
            await trio.sleep(_AUDIT_SECONDS)
            if self._state.recorder.has_unflushed:
                self._transport.run_soon(self._state.recorder.flush_audit)

    async def _keep_connected(self, started: Callable[[], None]) -> None:
        while True:
            await self._connect()
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._client.run)
                await self._join(started)
            self._is_bound = False
            log.warning("the connection to the daemon is lost; files on disk are still served")
            self._transport.run_soon(self._mark_disconnected)

    async def _connect(self) -> None:
        """Connect to the daemon, and start one if none is reachable.

        Only one daemon is started at a time, and less often while they end at once: a busy machine takes long to start
        one, and more of them would make it take longer.
        """
        attempts, next_start = 0, _MIN_RESTART_ATTEMPTS
        daemon: trio.Process | None = None
        while True:
            try:
                await self._client.connect(self._run_folder)
                return
            except NoDaemon:
                attempts += 1
                if attempts >= next_start and (daemon is None or daemon.poll() is not None):
                    # Without the store: a daemon is started when it is back.
                    with contextlib.suppress(FileNotFoundError):
                        daemon = await self._start_daemon()
                        next_start = attempts + min(next_start * 2, _MAX_RESTART_ATTEMPTS)
                await trio.sleep(_RECONNECT_SECONDS)

    async def _start_daemon(self) -> trio.Process:
        store = str(self._arguments["store"])
        with open(self._run_folder / "daemon.log", "ab") as out:
            return await trio.lowlevel.open_process(
                [sys.executable, "-m", "ctxfs", "--store", store, "daemon", "--until-unmounted"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                cwd="/",
                umask=int(self._arguments.get("umask", 0o022)),
            )

    async def _join(self, started: Callable[[], None]) -> None:
        """Introduce this mount to the daemon, and receive the mount table."""
        try:
            principal = self._arguments["principal"]
            branch = str(self._arguments.get("branch", ""))
            await self._client.call("join", principal=principal, session=self._session, tool="mount", branch=branch)
            self._is_bound = True
            await self._client.call(
                "mounted",
                at=self._mountpoint,
                principal=principal,
                pid=os.getpid(),
                read_only=self._arguments.get("read_only"),
                branch=branch,
            )
            shape = await self._client.call("watch")
        except OSError:
            return  # the daemon has ended again; `run` returns, and `_keep_connected` reconnects
        if self._invalidator is None:
            self._apply_shape(shape)
            started()
        else:
            self._transport.run_soon(self._mark_connected, shape)

    async def _call(self, method: str, **arguments: object) -> Any:
        if not self._is_bound:
            raise path_error(errno.EIO, arguments.get("path", ""), "the ctxfs daemon is not there yet")
        return await self._client.call(method, **arguments)

    def _handle_push(self, topic: str, value: Any) -> None:
        if topic == "changed":
            for root, inside in value:
                self._transport.run_soon(self._invalidate_changes, root, inside)
        elif topic == "refresh":
            self._transport.run_soon(self._invalidate_all)
        elif topic == "shared":
            self._transport.run_soon(self._set_shared, value)
        elif topic == "policy":
            self._transport.run_soon(self._replace_policy, value)
        elif topic == "tree":
            self._transport.run_soon(self._replace_shape, value)
        elif topic == "sync":
            self._transport.run_soon(self._sync, *value)

    # in the thread that runs the handlers

    def _mark_connected(self, shape: dict[str, Any]) -> None:
        self._send_connection()
        self._apply_shape(shape)
        self._state.cache_policy.set_connected(True)
        self._invalidate_all()

    def _sync(self, number: int, record: bool) -> None:
        """Send `synced` to the daemon once writes are journalled and the kernel's caches invalidated.

        Without `record` nothing is journalled; the message names the files that are being written.
        """
        self._state.metadata_cache.clear()
        self._state.recorder.collect_written()
        writing = [str(self._state.files[fd].path) for fd in self._state.recorder.written]
        if record:
            self._state.recorder.record_written()
        if self._notifier is not None:
            self._notifier.call_after(lambda: self._send_synced_soon(number, writing))

    def _send_synced_soon(self, number: int, writing: list[str]) -> None:
        def start() -> None:
            if self._nursery is not None:
                self._nursery.start_soon(self._send_synced, number, writing)

        assert self._token is not None
        self._token.run_sync_soon(start)

    async def _send_synced(self, number: int, writing: list[str]) -> None:
        with contextlib.suppress(OSError):
            await self._client.call("synced", number=number, writing=writing)

    def _mark_disconnected(self) -> None:
        self._state.cache_policy.set_connected(False)
        self._invalidate_all()

    def _invalidate_all(self) -> None:
        if self._invalidator is not None:
            self._invalidator.invalidate_all()

    def _set_shared(self, shared: bool) -> None:
        if shared != self._state.cache_policy.is_writable_elsewhere:
            self._state.cache_policy.set_writable_elsewhere(shared)
            self._invalidate_all()

    def _invalidate_changes(self, root: str, inside: list[DirectoryChanges]) -> None:
        self._state.metadata_cache.clear()
        if self._invalidator is not None:
            self._invalidator.invalidate_changes(root, inside)

    def _replace_policy(self, rules: list[Any]) -> None:
        """Apply a new policy, and invalidate the kernel's caches, which follow the old one.

        No invalidation is needed if neither policy restricts the principal.
        """
        was_unrestricted = self._state.access.is_unrestricted
        self._state.access.apply_policy(rules)
        if self._invalidator is not None and not (was_unrestricted and self._state.access.is_unrestricted):
            self._invalidator.apply_rules()

    def _replace_shape(self, shape: dict[str, Any]) -> None:
        self._apply_shape(shape)
        if self._invalidator is not None:
            self._invalidator.invalidate_mounts()

    def _apply_shape(self, shape: dict[str, Any]) -> None:
        backings = [
            (Path.parse(path), root, writable, [tuple(parts) for parts in hidden], versioned)
            for path, root, writable, hidden, versioned in shape["backings"]
        ]
        self._state.apply_mount_table(
            backings,
            [Path.parse(path) for path in shape["mountpoints"]],
            shape["views"],
            shape["sealed"],
            [Path.parse(path) for path in shape["grows"]],
        )
        self._state.access.apply_policy(shape["policy"])
        self._state.durability.is_required = bool(shape["waits_for_engine"])


def _raise_descriptor_limit() -> None:
    """Raise the limit of open descriptors as far as possible; root may also raise the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (max(hard, _MIN_DESCRIPTORS), hard):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return


def serve(arguments: dict[str, Any], descriptor: int) -> int:
    """Mount and serve. Write `ready`, or the error as JSON, to `descriptor`. Return the exit code."""
    os.set_inheritable(descriptor, False)
    log_to(HostPath(arguments["run"]) / "errors.jsonl")

    def report_ready(message: bytes) -> None:
        os.write(descriptor, message)
        os.close(descriptor)

    try:
        MountProcess(arguments, report_ready).serve()
    except CommandError as error:
        report_ready(json.dumps({"message": error.message, "remedy": error.remedy, "code": error.code}).encode())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(serve(json.loads(sys.argv[1]), int(sys.argv[2])))
