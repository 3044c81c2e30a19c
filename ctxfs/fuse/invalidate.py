"""Invalidation of the kernel's caches after changes on the host.

A change notice reports only that a path may have changed. The handler compares the current attributes with those last
reported to the kernel, and sends only differences. So a mount's own writes do not empty its caches.
"""

import contextlib
import errno
import logging
import os
import queue
import stat as st
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from ctxfs.fuse import attributes
from ctxfs.fuse.inodes import Area, Node
from ctxfs.fuse.interfaces import Caches
from ctxfs.fuse.state import State
from ctxfs.store.rooted_fs import magic_path

log = logging.getLogger(__name__)

# directory, names in it that may have changed, removed names: see `daemon.watch.group_by_directory`
DirectoryChanges: TypeAlias = tuple[Sequence[str], Sequence[str], Sequence[str]]

_BATCH_NODES = 200
_STOP_SECONDS = 1.0


class Notifier:
    """A thread that sends invalidations, because the kernel may block them until requests in flight are answered."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._urgent: deque[Callable[[], None]] = deque()
        self._thread = threading.Thread(target=self._run, name="invalidate", daemon=True)
        self._thread.start()

    def invalidate_inode(self, number: int, *, urgent: bool = False) -> None:
        """Invalidate the attributes and pages of a file."""
        self._put(lambda: self._caches.invalidate_inode(number), urgent)

    def invalidate_entry(self, parent: int, name: bytes, *, urgent: bool = False) -> None:
        """Invalidate a name in a directory that now leads elsewhere; it may be a negative dentry."""
        self._put(lambda: self._caches.invalidate_entry(parent, name), urgent)

    @property
    def can_expire(self) -> bool:
        """Return `Caches.can_expire`."""
        return self._caches.can_expire

    def expire_entry(self, parent: int, name: bytes, *, urgent: bool = False) -> None:
        """Expire a name in a directory that may now lead elsewhere: see `Caches.expire_entry`."""
        self._put(lambda: self._caches.expire_entry(parent, name), urgent)

    def call_after(self, call: Callable[[], None]) -> None:
        """Call a function after the kernel has accepted all invalidations sent so far."""
        self._queue.put(call)

    def stop(self) -> None:
        """End the thread after the pending invalidations, and wait at most `_STOP_SECONDS` seconds for it."""
        self._queue.put(None)
        self._thread.join(_STOP_SECONDS)

    def _put(self, call: Callable[[], None], urgent: bool) -> None:
        """Queue an invalidation.

        An urgent one is sent before all others, and once more in its turn, because a later request may have made it
        stale.
        """
        if urgent:
            self._urgent.append(call)
        self._queue.put(call)

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            while self._urgent:
                _send(self._urgent.popleft())
            _send(call)


def _send(call: Callable[[], None]) -> None:
    try:
        call()
    except OSError as error:
        # ENOENT: the kernel does not reference it; ENOTCONN, ENODEV, EBADF: it is being unmounted.
        if error.errno not in (errno.ENOENT, errno.ENOTCONN, errno.ENODEV, errno.EBADF, errno.ENOTDIR):
            log.warning("invalidation failed: %s", error)


class Invalidator:
    """Compares nodes with the host and decides which invalidations are sent. Used by the thread of the handlers."""

    def __init__(self, state: State, notifier: Notifier) -> None:
        self._loop = state.loop
        self._nodes = state.nodes
        self._files = state.files
        self._directories = state.directories
        self._node_fds = state.node_fds
        self._mount_table = state.mount_table
        self._access = state.access
        self._cache_policy = state.cache_policy
        self._notifier = notifier
        self._displaced: set[Node] = set()  # nodes that have been moved by other processes while they are in use

    def invalidate_changes(self, root: str, changes: Sequence[DirectoryChanges]) -> None:
        """Invalidate the changed paths below the host folder `root`.

        `changes` has the format of `daemon.watch.group_by_directory`. If an entry contains no name, all nodes below the folder
        are invalidated.
        """
        if not all(names or removed for _, names, removed in changes):
            nodes = [node for node in self._nodes if node.area is not None and node.area.root == root]
            for node in nodes:
                self._directories.evict(node)  # the path may lead to another folder now
            self._invalidate(nodes)
            return
        for area in self._mount_table.areas.values():
            if area.root == root:
                for directory, names, removed in changes:
                    self._compare_directory(area, directory, [*map(os.fsencode, names)], [*map(os.fsencode, removed)])
        self._follow_moves()

    def invalidate_all(self) -> None:
        """Invalidate all nodes, because change notices may have been missed."""
        self._invalidate(self._nodes)
        self._invalidate_changed_paths()

    def apply_rules(self) -> None:
        """Invalidate all nodes after a change of the rules, in batches between which requests are answered.

        Open files are first, because their readers send no lookup. The names at the top follow, with which the kernel
        forgets most names below them.
        """
        nodes, root = list(self._nodes), self._nodes.root
        for node in self._files.values():
            self._notifier.invalidate_inode(node.number, urgent=True)
        for node in nodes:
            if node.parent is root or (node.parent is not None and node.parent.parent is root):
                self._recheck(node, urgent=True)
        self._invalidate_from(nodes, 0)

    def _invalidate_from(self, nodes: Sequence[Node], start: int) -> None:
        self._invalidate(nodes[start : start + _BATCH_NODES])
        if start + _BATCH_NODES < len(nodes):
            self._loop.run_soon(self._invalidate_from, nodes, start + _BATCH_NODES)

    def _invalidate(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            self._cache_policy.mark_stale(node)
            node.reported = None
            if node.parent is not None and node.lookups <= 0 and not node.descriptors:
                continue  # the kernel has forgotten it meanwhile
            self._notifier.invalidate_inode(node.number)
            self._recheck(node)

    def _recheck(self, node: Node, *, urgent: bool = False) -> None:
        """Make the kernel look up the name of a node again.

        A name that still leads to the node is at most expired, because it may be a working directory or have mounts
        below it.
        """
        if node.parent is None or not self._nodes.has_name(node):
            return
        if self._access.is_hidden(node) or self._is_unmounted(node):
            self._notifier.invalidate_entry(node.parent.number, node.name, urgent=urgent)
        elif self._notifier.can_expire:
            self._notifier.expire_entry(node.parent.number, node.name, urgent=urgent)
        elif not self._is_current(node):
            self._notifier.invalidate_entry(node.parent.number, node.name, urgent=urgent)

    def _is_unmounted(self, node: Node) -> bool:
        """Return True for a node of a mount that no longer exists."""
        if node.area is not None:
            return self._mount_table.areas.get(node.area.path) is not node.area
        removed = self._mount_table.removed_structure
        return bool(removed) and node.path in removed

    def _is_current(self, node: Node) -> bool:
        """Return True for a directory that its name still leads to, and for any synthetic node.

        The kernel does not cache names of synthetic files: see `synthetic`.
        """
        if node.area is None:
            return True
        try:
            if node.is_top:
                stat = os.stat(node.area.root)
            else:
                assert node.parent is not None
                stat = os.stat(node.name, dir_fd=self._directories.fd_for(node.parent), follow_symlinks=False)
        except OSError:
            return False
        return st.S_ISDIR(stat.st_mode) and node.is_host_file(stat)

    def invalidate_mounts(self) -> None:
        """Invalidate the nodes of mount points after mounts were added or removed."""
        for node in self._nodes:
            if node.area is None or node.is_top:
                self._recheck(node)
                self._notifier.invalidate_inode(node.number)
        self._invalidate_changed_paths()

    def _invalidate_changed_paths(self) -> None:
        """Invalidate the names that have become hidden or visible."""
        paths, self._mount_table.changed_paths = self._mount_table.changed_paths, []
        for area, names in paths:
            if (parent := self._find_directory(area, names[:-1])) is not None:
                self._notifier.invalidate_entry(parent.number, names[-1])
                self._notifier.invalidate_inode(parent.number)

    def _compare_directory(
        self, area: Area, directory: Sequence[str], names: Sequence[bytes], removed: Sequence[bytes]
    ) -> None:
        top, node = self._top_node(area), self._find_directory(area, [*map(os.fsencode, directory)])
        if top is not None:
            self._compare(top)
        if node is None:
            return
        names = list(self._all_names(node) if b"" in names else names)
        # A removed name without a node was, most of the time, deleted by the mount itself.
        names += [name for name in removed if self._nodes.node_named(node, name) is not None]
        changed = [self._compare_name(node, name) for name in names]
        if any(changed):
            # Also with an equal modification time: older kernels have a granularity of milliseconds.
            self._cache_policy.mark_stale(node)
            node.reported = None
            self._notifier.invalidate_inode(node.number)
        else:
            self._compare(node)

    def _all_names(self, node: Node) -> Iterable[bytes]:
        """Return the names of a directory that the kernel may reference, and those on the host."""
        names = {name for name, _ in self._nodes.names_in(node)}
        with contextlib.suppress(OSError):
            names.update(os.listdir(os.fsencode(magic_path(self._directories.fd_for(node), "."))))
        return names

    def _find_directory(self, area: Area, names: Sequence[bytes]) -> Node | None:
        """Return the directory below the top of an area, if the kernel may reference it; otherwise None."""
        node = self._top_node(area)
        for name in names:
            if node is None:
                return None
            node = self._nodes.node_named(node, name)
        return node

    def _top_node(self, area: Area) -> Node | None:
        node: Node | None = self._nodes.root
        for part in area.path.parts:
            if node is None:
                return None
            node = self._nodes.node_named(node, os.fsencode(part))
        return node

    def _compare_name(self, parent: Node, name: bytes) -> bool:
        """Invalidate a name that leads elsewhere than last reported; return True if it does."""
        node, stat = self._nodes.node_named(parent, name), None
        try:
            stat = os.stat(name, dir_fd=self._directories.fd_for(parent), follow_symlinks=False)
            is_other = node is None or not node.is_host_file(stat) or node.disk_key.kind != st.S_IFMT(stat.st_mode)
        except OSError:
            is_other = node is not None
        if node is not None:
            if is_other:
                self._node_fds.remove_name(parent, name)
                self._directories.keep_removed(node)
                self._displaced.add(node)
            else:
                self._compare(node, stat)
        if node is None and is_other and self._notifier.can_expire:
            # The kernel may have a negative dentry. By the time of the notice, a process may have looked up the new name
            # and made it its working directory, which an invalidation would detach.
            self._notifier.expire_entry(parent.number, name)
        elif is_other:
            self._notifier.invalidate_entry(parent.number, name)
        return is_other

    def _follow_moves(self) -> None:
        """Give nodes in use that other processes have moved their new paths, and apply the rules of these.

        A process may hold a moved directory open, or as its working directory.
        """
        displaced, self._displaced = self._displaced, set()
        has_moved = False
        for node in displaced:
            if not self._nodes.is_referenced(node) or self._nodes.has_name(node):
                continue
            names = self._locate_displaced(node)
            if names is None:
                continue
            self._displaced.add(node)
            before = node.path
            if names:
                self._nodes.relocate(node, self._top_of(node), names)
            else:
                self._directories.evict(node)  # it has left the tree
            if before != node.path:
                has_moved = True
        if has_moved and not self._access.is_unrestricted:
            self._access.discard_decisions()
            for node in self._files.values():
                self._notifier.invalidate_inode(node.number, urgent=True)

    def _locate_displaced(self, node: Node) -> list[bytes] | None:
        """Return the names below its area of a file that has lost its name; none if it has left the area.

        Return None for a deleted file, and for one of which no descriptor is open.
        """
        fd = self._directories.removed_fd(node)
        fd = next(iter(node.descriptors), None) if fd is None else fd
        if fd is None or node.area is None:
            return None
        try:
            target = os.readlink(b"/proc/self/fd/%d" % fd)
            if not os.path.samestat(os.lstat(target), os.fstat(fd)):
                return None
        except OSError:
            return None
        root = os.path.realpath(os.fsencode(node.area.root)) + b"/"
        return target[len(root) :].split(b"/") if target.startswith(root) else []

    def _top_of(self, node: Node) -> Node:
        while not node.is_top and node.parent is not None:
            node = node.parent
        return node

    def _compare(self, node: Node, stat: os.stat_result | None = None) -> None:
        if node.reported is None:
            return
        if stat is None:
            try:
                stat = os.stat(b".", dir_fd=self._directories.fd_for(node))
            except OSError:
                return
        if attributes.version_of(stat) != node.reported:
            self._cache_policy.mark_stale(node)
            node.reported = None
            self._notifier.invalidate_inode(node.number)
