"""The daemon: `ctxfs daemon`, usually started by `ctxfs mount`."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import trio

from ctxfs import heap
from ctxfs.app import App
from ctxfs.daemon.api.methods import METHODS, run_method
from ctxfs.daemon.api.params import JoinParams, NameParams, NoParams, parse_params
from ctxfs.daemon.api.permissions import bound_principal, check_branch, check_method
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, Method, declared_methods, method
from ctxfs.daemon.api.request_audit import audited
from ctxfs.daemon.api.service import (
    AddParams,
    AddServerParams,
    MountedParams,
    MountParams,
    ReindexParams,
    SyncedParams,
    UnmountParams,
)
from ctxfs.daemon.commit_service import CommitService
from ctxfs.daemon.index_service import IndexService
from ctxfs.daemon.mcp_host import McpHost
from ctxfs.daemon.mount_child import Spare, fork_spare
from ctxfs.daemon.mount_records import MountRecord
from ctxfs.daemon.mount_shapes import MountShapes
from ctxfs.daemon.mountpoints import Mountpoints
from ctxfs.daemon.policy_service import PolicyService
from ctxfs.daemon.record_upkeep import RecordUpkeep
from ctxfs.daemon.registration import register_server, register_source, unregister_server
from ctxfs.daemon.remote_sync import RemoteSync
from ctxfs.daemon.secret_scanner import SecretScanner
from ctxfs.daemon.shared_service import SharedService
from ctxfs.daemon.umask import limit_umask
from ctxfs.daemon.watch import Changes, Watcher, group_by_directory, split_changes
from ctxfs.eventlog.spool import AuditActor
from ctxfs.model.errors import CommandError
from ctxfs.rpc.fd_passing import FdSocket
from ctxfs.rpc.server import Handler, Peer, Server
from ctxfs.store.config import check_server_name, remove_source
from ctxfs.store.errors_log import log_to
from ctxfs.store.layout import AREAS, Layout
from ctxfs.store.lock import StoreLock
from ctxfs.store.presence import StorePresence
from ctxfs.store.settings import ServerSource, Source
from ctxfs.threads import blocking, in_turn
from ctxfs.vfs.session import Session

log = logging.getLogger(__name__)

_LINGER_SECONDS = 2.0
_UNUSED_SECONDS = 60.0
_FOLLOW_AFTER_SECONDS = 0.3
_CONNECT_SECONDS = 35.0
_ANSWER_SECONDS = 0.05
_SCANNED_AREAS = ("memory", "pad")
_DAEMON_ACTOR = AuditActor("ctxfs", "daemon", "")
_JOURNAL_DELAY_NS = 50_000_000


class Daemon:
    """The owner of a store while it runs. Without `linger` it ends soon after the last mount point is gone."""

    def __init__(self, layout: Layout, *, linger: bool, spare: Spare | None = None) -> None:
        self._layout = layout
        self._linger = linger
        self._spare = spare
        self._app = App(layout)
        self._app.archive.holds_lock = True
        self._nursery: trio.Nursery | None = None
        self._watchers: set[Peer] = set()
        self._callers: dict[Peer, Session] = {}
        self._shapes = MountShapes(self._app, self._caller)
        self._had_mounts = False
        self._is_following = False

    async def run(self) -> None:
        """Serve until stopped."""
        lock = StoreLock(self._layout.run)
        lock.acquire()
        # A mount process that outlived the last daemon may not have journaled its last writes yet.
        self._app.archive.served_since_ns = time.time_ns() - _JOURNAL_DELAY_NS
        log_to(self._layout.errors)
        cancellable = [name for name, method in METHODS.items() if Effect.CANCELLABLE in method.effects]
        self._server = Server(self._layout.run, self._handlers(), self._drop_peer, cancellable)
        self._indexing = IndexService(self._app)
        self._servers = McpHost(self._app, self._sources_changed)
        self._watcher = Watcher(self._changed)
        self._secrets = SecretScanner(self._layout.tree, self._app.archive.shared.is_followed)
        self._scanned_areas = {str(self._layout.tree / area): area for area in _SCANNED_AREAS}
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._mountpoints = Mountpoints(self._app, nursery, self._spare, self._tree_changed)
                self._app.daemon.connect(self._mountpoints, self._secrets)
                self._shared = SharedService(
                    self._app.sharing, self._app.memory.conflict_desk, self._push_paths, self._purge_index
                )
                self._versions = CommitService(self._app, self._mountpoints, self._shared.request)
                listener = self._server.listen()
                fd_socket = FdSocket(self._layout.run, self._mountpoints.receive)
                nursery.start_soon(fd_socket.serve, fd_socket.listen())
                nursery.start_soon(self._server.serve, listener)
                for task in self._tasks():
                    nursery.start_soon(task)
        finally:
            (self._layout.run / "socket").unlink(missing_ok=True)
            for caller in self._callers.values():
                caller.close()
            self._app.grep_pool.close()
            self._app.sharing.close()
            self._app.archive.close()
            self._app.spool.close()  # the next daemon, or the next reader of the audit, collects it
            lock.release()

    def _tasks(self) -> Sequence[Callable[[], Awaitable[object]]]:
        """Return the background work, which runs until the daemon ends."""
        records = RecordUpkeep(self._app)
        return (
            self._mountpoints.restore,
            self._watcher.run,
            self._follow_sources,
            self._versions.run,
            self._app.contexts.tasks.curate_forever,
            self._app.contexts.expiry.run,
            self._app.memory.pad_expiry.run,
            self._app.derived_memory.episodes.run,
            self._app.derived_memory.consolidation.run_periodically,
            self._app.tools.calls.serve,
            self._servers.run,
            RemoteSync(self._app, self._catch_up, self._push_rollback).run,
            self._shared.run,
            PolicyService(self._app, _DAEMON_ACTOR, partial(self._shapes.push_policy, self._watchers)).run,
            records.flush_audit,
            self._app.capture.run,
            records.pack_history,
            self._secrets.run,
            self._stop_on_signal,
            self._stop_when_unused,
            self._stop_when_store_is_gone,
        )

    # requests

    def _handlers(self) -> Mapping[str, Handler]:
        return {
            **{name: self._store_handler(method) for name, method in METHODS.items()},
            **{name: self._daemon_handler(method) for name, method in DAEMON_METHODS.items()},
        }

    def _daemon_handler(self, method: Method[Daemon, Peer]) -> Handler:
        async def handle(peer: Peer, args: Mapping[str, Any]) -> Any:
            caller = self._caller(peer)
            with audited(self._app, caller, method, args):
                check_method(self._app, caller.principal, method, args)
                return await method.call(self, peer, parse_params(method.params, args))

        return handle

    def _store_handler(self, method: Method[App, Session]) -> Handler:
        first = self._catch_up if Effect.COMMITS_FIRST in method.effects else None
        changes_files = Effect.CHANGES_FILES in method.effects
        changes_work_tree = Effect.CHANGES_WORK_TREE in method.effects
        erases = Effect.ERASES in method.effects

        async def handle(peer: Peer, args: Mapping[str, Any]) -> Any:
            settings = self._app.sharing.settings
            response = await run_method(self._app, self._caller(peer), method, args, first)
            if self._app.sharing.settings != settings:
                await self._tree_changed()
            if changes_files:
                await self._sync_others(peer)
            if changes_work_tree and not args.get("dry_run"):
                await self._push_rollback(response)
                self._shared.request()
            if erases and not args.get("dry_run"):
                await self._purge_index()
            return response

        return handle

    async def _purge_index(self) -> None:
        await self._indexing.send("purge")

    async def _catch_up(self) -> None:
        """Commit all earlier writes, so that methods on versions include them."""
        await self._versions.sync()
        await in_turn(self._app.archive.commit_if_space)

    @method("ping", NoParams, needs=Check.BY_METHOD)
    async def _ping(self, peer: Peer, params: NoParams) -> Any:
        return {"pid": os.getpid()}

    def _caller(self, peer: Peer) -> Session:
        """Return the session of a connection. A connection that has not joined acts for the store's owner."""
        caller = self._callers.get(peer)
        if caller is None:
            caller = self._callers[peer] = self._app.session(self._app.principal)
        return caller

    @method("join", JoinParams, needs=Check.BY_METHOD)
    async def _join(self, peer: Peer, params: JoinParams) -> Any:
        """Set the principal and session of this connection, and return both."""
        principal = bound_principal(self._app, self._caller(peer).principal, params.principal, params.token)
        branch = await in_turn(check_branch, self._app, params.branch) if params.branch else ""
        if (old := self._callers.pop(peer, None)) is not None:
            old.close()
        caller = self._callers[peer] = self._app.session(principal, params.session, params.tool, params.reason).on(
            branch
        )
        return {"session": caller.actor.session, "principal": str(principal)}

    @method("synced", SyncedParams, needs=Check.BY_METHOD)
    async def _synced(self, peer: Peer, params: SyncedParams) -> Any:
        self._versions.synced(peer, params.number, list(params.writing))

    async def _sync_others(self, peer: Peer) -> None:
        """Invalidate the kernel's caches for files that a peer's request may have changed.

        This happens before the peer gets its response. The peer itself is left out: a mount process has the result of
        its own request, and the kernel may be waiting for it.
        """
        if self._is_following and self._mountpoints.count:
            await self._watcher.report()
            await self._versions.sync(record=False, except_peer=peer)

    async def _push_rollback(self, outcome: Mapping[str, Any]) -> None:
        """Invalidate the kernel's caches for the paths of a rollback, before the caller gets its response."""
        await self._push_paths([change["path"] for change in outcome["changes"]])

    async def _push_paths(self, paths: Iterable[str]) -> None:
        changes: Changes = {}
        for path in paths:
            area, *parts = path.split("/")
            changes.setdefault(str(self._layout.tree / area), {})[tuple(parts)] = False
        pushed = [(root, group_by_directory(inside)) for root, inside in changes.items()]
        for peer in self._watchers:
            peer.push("changed", pushed)
        await self._versions.sync(record=False)

    @method("watch", NoParams, needs=Check.BY_METHOD)
    async def _watch(self, peer: Peer, params: NoParams) -> Any:
        """Subscribe this peer to `changed` and `tree`, and return the tree's shape.

        The value of `changed` is [[host root, [[directory, names, deleted names], …]], …].
        """
        self._watchers.add(peer)
        return self._shapes.shape_for(peer)

    @method("mount", MountParams, needs=Check.ADMINISTRATORS, audit=AuditEvent("mount", "at"))
    async def _mount(self, peer: Peer, params: MountParams) -> Any:
        principal = bound_principal(self._app, self._caller(peer).principal, params.principal, params.token)
        branch = await in_turn(check_branch, self._app, params.branch) if params.branch else ""
        if self._mountpoints.share(self._mountpoints.count + 1):
            await self._versions.sync(record=False)  # caches are revalidated before a second mount can write
        try:
            await self._mountpoints.mount(MountRecord(params.at, principal.bound, params.read_only, branch))
        finally:
            self._mountpoints.share(self._mountpoints.count)
        self._had_mounts = True

    @method("unmount", UnmountParams, needs=Check.ADMINISTRATORS, audit=AuditEvent("unmount", "at"))
    async def _unmount(self, peer: Peer, params: UnmountParams) -> Any:
        if params.all:
            await self._mountpoints.unmount_all()
        else:
            await self._mountpoints.unmount(params.at, lazy=params.lazy)
            self._mountpoints.share(self._mountpoints.count)

    @method("mounted", MountedParams, needs=Check.BY_METHOD)
    async def _mounted(self, peer: Peer, params: MountedParams) -> Any:
        mount = MountRecord(params.at, params.principal, params.read_only, params.branch)
        await self._mountpoints.adopt(mount, params.pid, peer)
        self._had_mounts = True

    @method("add", AddParams, needs=Check.ADMINISTRATORS, audit=AuditEvent("source", "path"))
    async def _add(self, peer: Peer, params: AddParams) -> Any:
        source = Source(params.name, params.path, params.writable, params.exclude, params.tools, params.include)
        name, new = await blocking(register_source, self._app, source)
        if new:
            await self._sources_changed()
        return {"name": name, "new": new}

    @method("remove", NameParams, needs=Check.ADMINISTRATORS, audit=AuditEvent("source", "name"))
    async def _remove(self, peer: Peer, params: NameParams) -> Any:
        if not await blocking(remove_source, self._layout.config, params.name):
            raise CommandError(f"no source is called '{params.name}'", "see: ctxfs status")
        await self._sources_changed()

    @method("add_server", AddServerParams, needs=Check.ADMINISTRATORS, audit=AuditEvent("server", "name"))
    async def _add_server(self, peer: Peer, params: AddServerParams) -> Any:
        """Add a server, and approve its current tools. Return {status, instructions, tools, faults}."""
        server = ServerSource(
            check_server_name(params.name),
            params.command,
            params.url,
            params.env,
            params.token_env,
            params.searchable,
        )
        await blocking(register_server, self._app, server)
        self._app.sources.reload()
        await self._servers.reload()
        status = await self._servers.ready(server.name, _CONNECT_SECONDS)
        state = self._app.tools.shelf.states()[server.name]
        await blocking(self._app.tools.calls.registry.approve, list(state.tools))
        await self._sources_changed()
        tools = [{"name": tool.name, **tool.record} for tool in state.tools.values() if not tool.is_note]
        faults = dict(state.faults)
        return {"status": status.to_wire(), "instructions": state.instructions, "tools": tools, "faults": faults}

    @method("remove_server", NameParams, needs=Check.ADMINISTRATORS, audit=AuditEvent("server", "name"))
    async def _remove_server(self, peer: Peer, params: NameParams) -> Any:
        await blocking(unregister_server, self._app, params.name)
        await self._servers.reload()
        await self._sources_changed()

    @method("reindex", ReindexParams, needs=Check.ADMINISTRATORS)
    async def _reindex(self, peer: Peer, params: ReindexParams) -> Any:
        await self._indexing.send_roots(rebuild=params.full)

    @method("stop", NoParams, needs=Check.ADMINISTRATORS)
    async def _stop(self, peer: Peer, params: NoParams) -> Any:
        await self._mountpoints.unmount_all()
        if self._nursery is not None:
            self._nursery.start_soon(self._end_after_answering)

    # background work

    async def _sources_changed(self) -> None:
        self._app.sources.reload()
        await self._servers.reload()
        await self._tree_changed()

    async def _tree_changed(self) -> None:
        """Send a change of mounts or opaque folders to the adapters, the watcher and the indexer."""
        for peer in self._watchers:
            peer.push("tree", self._shapes.shape_for(peer))
        if self._is_following:
            await self._watch_sources()
            await self._indexing.send_roots()

    async def _follow_sources(self) -> None:
        """Watch the sources, then index them: the scan finds changes in between. Both start after the first `ls`."""
        await trio.sleep(_FOLLOW_AFTER_SECONDS)
        self._is_following = True
        await self._watch_sources()
        self._versions.mark_all_changed()
        for peer in self._watchers:
            peer.push("refresh", None)  # nothing was watched until now
        await self._indexing.run()

    async def _watch_sources(self) -> None:
        folders = {str(self._layout.tree / area) for area in AREAS} | {
            r.root for r in self._app.sources.indexed_roots()
        }
        await self._watcher.set_roots(folders, self._app.sources.opaque | {str(self._layout.audit)})
        self._app.daemon.progress.pop("watch", None)
        if self._watcher.faults:
            self._app.daemon.progress["watch"] = dict(self._watcher.faults)

    def _changed(self, changes: Changes) -> None:
        roots = self._app.sources.indexed_roots()
        changes, of_mounts = split_changes(changes, {root.root for root in roots if root.holds_records})
        pushed = [(root, group_by_directory(inside)) for root, inside in of_mounts.items()]
        for peer in self._watchers:
            peer.push("changed", pushed)
        # The empty last part (a new directory) is for mounts only: the other receivers list a new directory themselves.
        shown = {root: {parts for parts in inside if not parts or parts[-1]} for root, inside in changes.items()}
        for area, paths in shown.items():
            self._versions.changed(area, paths)
        for area in self._scanned_areas.keys() & shown.keys():
            self._secrets.changed(self._scanned_areas[area], shown[area])
        if self._nursery is not None and (indexed := [(r, shown[r.root]) for r in roots if shown.get(r.root)]):
            self._nursery.start_soon(self._indexing.changed, indexed)

    def _drop_peer(self, peer: Peer) -> None:
        self._watchers.discard(peer)
        self._shapes.drop_peer(peer)
        caller = self._callers.pop(peer, None)
        if caller is not None:
            caller.close()
        self._versions.drop_peer(peer)
        self._mountpoints.drop_peer(peer)

    async def _stop_on_signal(self) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                with trio.move_on_after(15):
                    await self._mountpoints.unmount_all()
                self._end()

    async def _stop_when_unused(self) -> None:
        """End the daemon when it has no mount point and no connection.

        A daemon without any mount ends after `_UNUSED_SECONDS`.
        """
        started = trio.current_time()
        while not self._linger:
            await trio.sleep(_LINGER_SECONDS)
            self._had_mounts |= not self._mountpoints.is_empty
            had_time = self._had_mounts or trio.current_time() > started + _UNUSED_SECONDS
            if had_time and self._mountpoints.is_empty and not self._server.peers:
                self._end()

    async def _stop_when_store_is_gone(self) -> None:
        """End the daemon when its store is moved or removed; the mount points stay, and start another when it is back."""
        await StorePresence(self._layout.run / "lock").wait_gone()
        log.error("the directory '%s' is gone: the daemon ends", self._layout.root)
        self._end()

    async def _end_after_answering(self) -> None:
        await trio.sleep(_ANSWER_SECONDS)
        self._end()

    def _end(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()


DAEMON_METHODS: Mapping[str, Method[Daemon, Peer]] = declared_methods(Daemon)


def run_daemon(layout: Layout, *, linger: bool) -> None:
    """Run a daemon until it is stopped. Raise CommandError if another daemon owns the store."""
    heap.give_back_early()
    limit_umask()
    spare = None if linger else fork_spare()
    with contextlib.suppress(KeyboardInterrupt):
        trio.run(Daemon(layout, linger=linger, spare=spare).run)
